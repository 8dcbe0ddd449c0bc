// Compiled with tsc --strict, never run: what must compile does, and what must not does not.

import {
  AbortError,
  type ContentHash,
  type ErrorKind,
  type ExecuteResult,
  type Member,
  Node,
  type OpenOptions,
  type Param,
  QuorumliteError,
  type Row,
  type Rows,
  type Statement,
  type Status,
  type Value,
  open,
  real,
} from "quorumlite";

function is<T>(_: T): void {}

const options: OpenOptions = {
  nodeId: "n1",
  listen: "127.0.0.1:7001",
  advertise: "127.0.0.1:7001",
  join: ["127.0.0.1:7002"] as const,
  secret: undefined,
  ca: "ca.pem",
  cert: new URL("file:///cert.pem"),
  key: "key.pem",
  insecure: false,
  role: "learner",
  timeout: 5,
  consistency: "linearizable",
  maxLogBytes: 1 << 26,
  checkInterval: 60,
  bigint: true,
  signal: AbortSignal.timeout(1000),
};

{
  await using node = await open("data/n1", options);
  is<Node>(node);
  is<ExecuteResult>(await node.execute("INSERT INTO t VALUES (?)", [1, 1n, "a", null, true]));
  is<ExecuteResult>(await node.execute("x", [Buffer.alloc(1), new Uint8Array(1), real(1)]));
  is<ExecuteResult>(await node.execute("x", { a: 1 } as const, { timeout: 1 }));
  is<ExecuteResult>(await node.execute("x", null, { signal: new AbortController().signal }));
  const batch: Statement[] = ["a", ["b"], ["c", [1]], ["d", { x: null }]];
  is<ExecuteResult[]>(await node.executeBatch(batch));
  await node.executeBatch(["a", ["b", [1, "x"]]], { timeout: 1 });

  const rows = await node.query("SELECT 1 AS a", [], { consistency: "none", maxStaleness: 1 });
  is<Rows>(rows);
  is<Row[]>(rows);
  is<readonly string[]>(rows.columns);
  is<readonly (readonly Value[])[]>(rows.arrays);
  is<Value | undefined>(rows[0]?.["a"]);
  for (const row of rows) is<Row>(row);

  interface Person {
    id: number;
    name: string;
  }
  const people = await node.query<Person>("SELECT id, name FROM person");
  is<string[]>(people.map((p) => p.name));
  const inserted = await node.execute<Person>("INSERT ... RETURNING id, name");
  is<Person | undefined>(inserted.rows[0]);
  is<number | bigint>(inserted.lastInsertRowid);
  is<number>(inserted.rowsAffected + inserted.index);

  is<Status>(node.status());
  is<Member[]>(await node.members({ signal: AbortSignal.timeout(1) }));
  is<string>(await node.waitForLeader());
  is<string>(await node.waitForLeader(5));
  is<string>(await node.waitForLeader({ timeout: 5 }));
  is<void>(await node.transferLeadership("n2", { timeout: 5 }));
  is<void>(await node.removeMember("n2"));
  is<ContentHash>(await node.contentHash());
  is<boolean>(node.closed);
  is<Promise<void>>(node.close());

  // @ts-expect-error made by open only
  new Node();
  // @ts-expect-error no such option
  await open("d", { nodeID: "n1" });
  // @ts-expect-error no such role
  await open("d", { role: "king" });
  // @ts-expect-error join is a list
  await open("d", { join: "127.0.0.1:7001" });
  // @ts-expect-error params are a list or an object
  await node.query("SELECT ?", 1);
  // @ts-expect-error not a value
  await node.query("SELECT ?", [new Date()]);
  // @ts-expect-error not a value
  await node.query("SELECT ?", [undefined]);
  // @ts-expect-error no such level
  await node.query("SELECT 1", [], { consistency: "some" });
  // @ts-expect-error members has no timeout
  await node.members({ timeout: 1 });
  // @ts-expect-error a batch is a list
  await node.executeBatch("SELECT 1");
  // @ts-expect-error sql is a string
  await node.execute(1);
}

try {
  await open("d");
} catch (e) {
  if (e instanceof QuorumliteError) {
    is<ErrorKind>(e.kind);
    is<string>(e.code);
    is<boolean>(e.retryable);
    is<string | null>(e.leader);
    is<number | null>(e.sqliteCode);
  } else if (e instanceof AbortError) {
    is<"ABORT_ERR">(e.code);
  }
}

const param: Param = Buffer.alloc(1);
is<Param>(param);
