"""One cluster whose three members are a Python, a Node.js and a Kotlin (JVM) process.

    make demo-mixed                     (KILLS=20 for a long one)

Each member writes, and each reads the writes of the others at `linearizable`. Then, repeatedly,
whoever leads is killed with SIGKILL while all write; the other two go on; it is started again and
catches up. At the end everything that was acknowledged must be there exactly once, and the content
of all three must have the same hash: only then is the exit status 0.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
WRITES = 40  # of each member while one of them is killed
KILL_AFTER = 10  # writes of each that were acknowledged


class GoneError(Exception):
    """The process ended before it answered."""


class Member:
    """A process of one language, and what it was told to do."""

    def __init__(self, name: str, language: str, command: list[str], arguments: list[str]):
        self.name, self.language = name, language
        self.command = [*command, *arguments]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ready(self) -> None:
        """Waits until it has opened its node."""
        self._answer()

    def ask(self, line: str) -> str:
        """What it answers; GoneError where it died, RuntimeError where the node said no."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as e:
            raise GoneError(self.name) from e
        return self._answer()

    def _answer(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        status, _, rest = self.process.stdout.readline().strip().partition(" ")
        if status == "":
            raise GoneError(self.name)
        if status != "ok":
            raise RuntimeError(f"{self.name} ({self.language}): {rest}")
        return rest

    def kill(self) -> None:
        """SIGKILL: nothing is closed, nothing is flushed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Lets it close its node."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=60)


class Story:
    def __init__(self, members: list[Member]):
        self.members = members
        self.acknowledged: Counter[str] = Counter()
        self.unknown: set[str] = set()  # sent, but nobody knows what became of it
        self.lock = threading.Lock()

    def write(self, member: Member, count: int, label: str, enough: threading.Semaphore) -> None:
        for i in range(count):
            what = f"{label}-{member.name}-{i}"
            try:
                member.ask(f"write {what}")
            except (GoneError, RuntimeError) as e:
                with self.lock:
                    self.unknown.add(what)
                if isinstance(e, GoneError):
                    break
                continue
            with self.lock:
                self.acknowledged[what] += 1
            if i < KILL_AFTER:
                enough.release()

    def check_read(self, member: Member) -> int:
        """Every acknowledged write is there once, and nothing that nobody wrote."""
        seen = Counter(member.ask("read").split())
        lost = self.acknowledged.keys() - seen.keys()
        alien = seen.keys() - self.acknowledged.keys() - self.unknown
        twice = [what for what, times in seen.items() if times > 1]
        if lost or alien or twice:
            raise SystemExit(f"{member.name} read: {lost=} {alien=} {twice=}")
        return sum(seen.values())

    def leader(self) -> Member:
        """The one that leads now."""
        while True:
            leading = []
            for member in self.members:
                state, term = member.ask("state").split()
                if state == "leader":
                    leading.append((int(term), member))
            if leading:
                return max(leading, key=lambda pair: pair[0])[1]

    def all_write(self, label: str, victim: Member | None) -> None:
        enough = threading.Semaphore(0)
        threads = [
            threading.Thread(target=self.write, args=(m, WRITES, label, enough))
            for m in self.members
        ]
        for t in threads:
            t.start()
        if victim is not None:
            for _ in range(KILL_AFTER * len(self.members)):
                if not enough.acquire(timeout=120):
                    raise SystemExit("the writes do not go on")
            victim.kill()
        for t in threads:
            t.join()

    def run(self, kills: int) -> None:
        first, *others = self.members
        first.start()
        first.ready()
        for member in others:
            member.start()
        for member in others:
            member.ready()
        print("three members:", ", ".join(f"{m.name} is {m.language}" for m in self.members))
        first.ask("create")
        self.all_write("start", None)
        counts = [self.check_read(m) for m in self.members]
        print(f"each wrote {WRITES} rows and read {counts} at linearizable")
        killed: Counter[str] = Counter()
        for i in range(kills):
            victim = self.leader()
            killed[victim.language] += 1
            self.all_write(f"kill{i}", victim)
            survivors = [m for m in self.members if m is not victim]
            counts = [self.check_read(m) for m in survivors]
            victim.start()
            victim.ready()
            victim.ask(f"write back-{i}")
            self.acknowledged[f"back-{i}"] += 1
            back = self.check_read(victim)
            print(
                f"kill {i + 1}: {victim.name} ({victim.language}) led; the others went on to "
                f"{counts} rows; it came back, wrote, and reads {back}",
                flush=True,
            )
        for member in self.members:
            self.check_read(member)
        hashes = {m.name: m.ask("hash") for m in self.members}
        for name, digest in hashes.items():
            print(f"content of {name}: {digest}")
        if len(set(hashes.values())) != 1:
            raise SystemExit("the members differ")
        if any(m.end() != 0 for m in self.members):
            raise SystemExit("a member did not end well")
        died = ", ".join(f"{count} in {language}" for language, count in killed.items())
        print(
            f"{sum(self.acknowledged.values())} acknowledged writes, each there once; "
            f"leaders killed: {died or 'none'}; equal content on all"
        )


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1, help="how often the leader is killed")
    parser.add_argument("--class-path", required=True, help="of the compiled examples/kotlin")
    options = parser.parse_args()
    java = Path(os.environ.get("JAVA_HOME", "/nowhere"), "bin", "java")
    commands = {
        "Python": [sys.executable, str(HERE / "member.py")],
        "Node.js": ["node", str(HERE / "member.mjs")],
        "Kotlin": [
            str(java) if java.exists() else "java",
            "-Xmx256m",
            "-cp",
            options.class_path,
            "Member",
        ],
    }
    folder = Path(tempfile.mkdtemp(prefix="mixed-"))
    addresses = free_addresses(3)
    members = []
    for i, (language, command) in enumerate(commands.items()):
        name = f"n{i + 1}"
        join = [] if i == 0 else [addresses[0]]
        members.append(
            Member(name, language, command, [str(folder / name), name, addresses[i], *join])
        )
    try:
        Story(members).run(options.kills)
    finally:
        for m in members:
            if m.process is not None and m.process.poll() is None:
                m.process.kill()
                m.process.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
