// One member of the mixed cluster, in Node.js; mixed.py starts it and says what to do.
//
//   member.mjs DIR ID LISTEN [JOIN]      then lines on standard input, each answered by one line

import { createInterface } from "node:readline";
import { open, QuorumliteError } from "quorumlite";

const [dir, nodeId, listen, ...join] = process.argv.slice(2);

async function answer(node, verb, argument) {
  switch (verb) {
    case "create":
      await node.execute("CREATE TABLE written(what TEXT, who TEXT)");
      return "";
    case "write":
      await node.execute("INSERT INTO written VALUES (?, ?)", [argument, nodeId]);
      return "";
    case "read": {
      const options = { consistency: "linearizable" };
      const rows = await node.query("SELECT what FROM written", [], options);
      return rows.map((row) => row.what).sort().join(" ");
    }
    case "state": {
      const { state, term } = node.status();
      return `${state} ${term}`;
    }
    case "hash":
      return (await node.contentHash()).hash;
  }
  throw new TypeError(verb);
}

const node = await open(dir, { nodeId, listen, join, secret: "mixed", timeout: 60 });
console.log("ok ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [verb, argument] = line.split(" ");
  try {
    console.log(`ok ${await answer(node, verb, argument)}`);
  } catch (e) {
    if (!(e instanceof QuorumliteError)) throw e;
    console.log(`error ${e.code}`);
  }
}
await node.close();
