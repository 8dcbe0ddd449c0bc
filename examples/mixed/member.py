"""One member of the mixed cluster, in Python; mixed.py starts it and says what to do.

member.py DIR ID LISTEN [JOIN]      then lines on standard input, each answered by one line
"""

import sys

import quorumlite

directory, node_id, listen, *join = sys.argv[1:]


def answer(node: quorumlite.Node, verb: str, argument: str) -> str:
    if verb == "create":
        node.execute("CREATE TABLE written(what TEXT, who TEXT)")
        return ""
    if verb == "write":
        node.execute("INSERT INTO written VALUES (?, ?)", [argument, node_id])
        return ""
    if verb == "read":
        rows = node.query("SELECT what FROM written", consistency="linearizable")
        return " ".join(sorted(what for (what,) in rows))
    if verb == "state":
        status = node.status()
        return f"{status.state} {status.term}"
    if verb == "hash":
        return node.content_hash().hash
    raise ValueError(verb)


with quorumlite.open(
    directory, node_id=node_id, listen=listen, join=join, secret="mixed", timeout=60
) as node:
    print("ok ready", flush=True)
    for line in sys.stdin:
        verb, _, argument = line.strip().partition(" ")
        try:
            print("ok", answer(node, verb, argument), flush=True)
        except quorumlite.Error as e:
            print("error", e.code, flush=True)
