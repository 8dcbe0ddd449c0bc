// The same package by require().

import quorumlite = require("quorumlite");

async function main(): Promise<number> {
  const node: quorumlite.Node = await quorumlite.open("data/n1");
  const rows: quorumlite.Rows = await node.query("SELECT 1");
  await node.close();
  return rows.length;
}

main().catch((e: unknown) => {
  if (e instanceof quorumlite.QuorumliteError) console.error(e.code);
});
