"""The same small program in every language: a standalone node, a table, a batch, a query.

python examples/python/hello.py        (after: pip install ./bindings-python)
"""

import tempfile
from pathlib import Path

import quorumlite

with (
    tempfile.TemporaryDirectory(prefix="hello-") as folder,
    quorumlite.open(Path(folder) / "n1") as node,
):
    node.execute("CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, balance INTEGER)")
    node.execute("INSERT INTO person(name, balance) VALUES (?, ?)", ["ann", 100])
    bob = node.execute(
        "INSERT INTO person(name, balance) VALUES (:name, :balance)",
        {"name": "bob", "balance": 50},
    )
    print(f"bob has id {bob.last_insert_rowid}")

    # All or nothing: one entry in the replicated log.
    node.execute_batch(
        [
            ("UPDATE person SET balance = balance - ? WHERE name = ?", [30, "ann"]),
            ("UPDATE person SET balance = balance + ? WHERE name = ?", [30, "bob"]),
        ]
    )

    for row in node.query("SELECT * FROM person ORDER BY id"):
        print(row["id"], row["name"], row["balance"])
