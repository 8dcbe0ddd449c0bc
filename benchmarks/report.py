"""Turns the results of `make bench` into the tables and the plot of docs/performance.md.

python3 benchmarks/report.py tables RESULTS.json             prints the tables
python3 benchmarks/report.py plot RESULTS.json               prints the plot (SVG)
python3 benchmarks/report.py write RESULTS.json DOCS_FOLDER  puts both into the document
"""

import json
import sys
import time
from pathlib import Path

YARDSTICK = "rusqlite-full"
NAMES = {
    "rusqlite-full": "rusqlite, FULL (the yardstick)",
    "rusqlite-normal": "rusqlite, NORMAL ¹",
    "quorumlite-1": "**Quorumlite, 1 node**",
    "quorumlite-3": "**Quorumlite, 3 nodes**",
    "hiqlite-1-fsync": "hiqlite, 1 node, fsync",
    "hiqlite-3-fsync": "hiqlite, 3 nodes, fsync",
    "hiqlite-1-default": "hiqlite, 1 node, default ¹",
    "hiqlite-3-default": "hiqlite, 3 nodes, default ¹",
    "rqlite-1": "rqlite, 1 node",
    "rqlite-3": "rqlite, 3 nodes",
}
TIMES = "\u00d7"
BEGIN, END = "<!-- figures: made by benchmarks/report.py -->\n", "<!-- end of figures -->\n"


def number(value):
    """Three figures that count, with k for thousands."""
    if value is None:
        return ""
    if value >= 99_950:
        return f"{value / 1000:.0f}k"
    if value >= 999.5:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


class Results:
    """The medians of one run."""

    def __init__(self, path):
        self.all = json.loads(Path(path).read_text(encoding="utf-8"))
        self.medians = self.all["medians"]

    def of(self, measure):
        return [m for m in self.medians if m["measure"] == measure]

    def find(self, measure, **what):
        """The one measurement that has exactly these properties, or an empty one."""
        optional = {"through", "callers", "level", "rows", "bytes"}
        for m in self.of(measure):
            present = {k: v for k, v in m.items() if k in optional or k == "system"}
            if present == what:
                return m
        return {}

    def systems(self, measure):
        present = {m["system"] for m in self.of(measure)}
        return [name for name in NAMES if name in present]

    def values(self, measure, key):
        return sorted({m[key] for m in self.of(measure) if key in m})

    def fastest_rival(self, measure, names, **what):
        """The highest throughput among some systems."""
        rates = [self.find(measure, system=n, **what).get("per_second", 0) for n in names]
        return max(rates, default=0)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(found, *names, form="{}"):
    if "failed" in found and "per_second" not in found and "seconds" not in found:
        return "failed"
    values = [number(found.get(name)) for name in names]
    return form.format(*values) if all(values) else ""


def grid(results, measure, key, values, form, *names, heading, **what):
    """Systems down, one property across."""
    rows = []
    for system in results.systems(measure):
        cells = [
            cell(results.find(measure, system=system, **{key: v}, **what), *names, form=form)
            for v in values
        ]
        if any(cells):
            rows.append([NAMES[system], *cells])
    return table([heading, *(f"{v:,}" if isinstance(v, int) else v for v in values)], rows)


def tables(results):
    run, machine = results.all, results.all["machine"]
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(machine["unix_time"]))
    yield (
        f"*{day} UTC; {machine['cores']} cores ({machine['cpu']}), Linux {machine['kernel']}, load"
        f" {machine['load_at_start']} before the start; medians of {run['rounds']} rounds, each"
        f" measurement {run['seconds']} s.*\n"
    )
    yardstick = results.find("write", system=YARDSTICK, callers=1)
    if yardstick:
        yield (
            f"The yardstick: {number(yardstick['per_second'])} writes a second, p50"
            f" {number(yardstick['p50_us'])} µs, p99 {number(yardstick['p99_us'])} µs.\n"
        )
        callers = results.values("write", "callers")
        yield "### Writes: throughput, as a multiple of the yardstick's\n"
        yield grid(results, "write", "callers", callers, "{}" + TIMES, "per_second_ratio",
                   heading="callers")  # fmt: skip
        yield "### Writes a second\n"
        yield grid(results, "write", "callers", callers, "{}", "per_second", heading="callers")
        yield "### Writes: latency, p50 / p99 in microseconds\n"
        yield grid(results, "write", "callers", callers, "{} / {}", "p50_us", "p99_us",
                   heading="callers")  # fmt: skip
        through = results.find("write", system="quorumlite-3", callers=64, through="follower")
        if through:
            yield (
                f"Through a follower of three, 64 callers: {number(through['per_second'])} writes a"
                f" second ({number(through['per_second_ratio'])}{TIMES}).\n"
            )
        yield from against_hiqlite(results)
    if results.of("batch"):
        yield "### Batches: rows a second, one caller, by rows in a transaction\n"
        yield grid(results, "batch", "rows", results.values("batch", "rows"), "{}", "per_second",
                   heading="rows")  # fmt: skip
    if results.of("read"):
        yield from reads(results)
    if results.of("restart"):
        sizes = results.values("restart", "bytes")
        heading = "database of, in MB"
        yield "### Ready after SIGKILL, in seconds\n"
        yield megabytes(grid(results, "restart", "bytes", sizes, "{}", "seconds", heading=heading))
        missed = [m for m in results.of("restart") if m.get("first_answer_missed")]
        for m in missed:
            yield (
                f"{NAMES[m['system']]} with {m['bytes'] // 1_000_000} MB first gave a linearizable"
                f" answer after {number(m['first_answer_seconds'])} s, which missed"
                f" {m['first_answer_missed']:,.0f} acknowledged rows.\n"
            )
        yield "### Disk after writing, in MB (as a multiple of the database)\n"
        form = "{} ({}" + TIMES + ")"
        names = ("disk_mb", "disk_ratio")
        yield megabytes(grid(results, "disk", "bytes", sizes, form, *names, heading=heading))
    if results.of("memory"):
        yield "### Memory of the idle process, in MiB\n"
        rows = [
            [NAMES[m["system"]], number(m["resident_mib"]), number(m["anonymous_mib"])]
            for system in results.systems("memory")
            for m in [results.find("memory", system=system)]
        ]
        yield table(["", "resident", "of which anonymous"], rows)
    if results.of("catch-up"):
        behind = results.values("catch-up", "bytes")
        yield "### A follower that was away, in seconds until it had everything\n"
        yield megabytes(grid(results, "catch-up", "bytes", behind, "{}", "seconds",
                             heading="MB missed"))  # fmt: skip
    for m in results.of("snapshot"):
        if "failed" in m:
            yield f"Sending a snapshot failed: {m['failed']}.\n"
            continue
        yield "### Writes while a member receives everything\n"
        yield (
            f"{NAMES[m['system']]}, {number(m['database_mb'])} MB, {m['callers']} callers. The new"
            f" copy was complete after {number(m['seconds'])} s; the sender needed"
            f" {number(max(m['sender_peak_mb'], 0))} MB of disk beyond what the writes themselves"
            " take.\n"
        )
        yield table(
            ["", "p50 in µs", "p99 in µs", "a second"],
            [
                ["without", *(number(m[f"alone_{k}"]) for k in ("p50_us", "p99_us", "per_second"))],
                ["meanwhile", *(number(m[k]) for k in ("p50_us", "p99_us", "per_second"))],
                ["ratio", *(number(m[f"{k}_ratio"]) + TIMES for k in ("p50", "p99")), ""],
            ],
        )
    for missing in run["not_found"]:
        yield f"Not measured: {missing}.\n"


def megabytes(text):
    """Sizes in the head of a table, in MB."""
    head, rest = text.split("\n", 1)
    cells = head.strip("| ").split(" | ")
    cells[1:] = [f"{int(c.replace(',', '')) // 1_000_000:,}" for c in cells[1:]]
    return "| " + " | ".join(cells) + " |\n" + rest


def against_hiqlite(results):
    rows = []
    for nodes in (1, 3):
        for kind in ("fsync", "default"):
            cells = []
            for callers in results.values("write", "callers"):
                ours = results.find("write", system=f"quorumlite-{nodes}", callers=callers)
                name = f"hiqlite-{nodes}-{kind}"
                theirs = results.find("write", system=name, callers=callers)
                known = ours.get("per_second") and theirs.get("per_second")
                cells.append(
                    f"{number(ours['per_second'] / theirs['per_second'])}{TIMES}" if known else ""
                )
            if any(cells):
                answer = "after fsync" if kind == "fsync" else "before fsync, its default"
                rows.append([f"{nodes} node{'s' * (nodes > 1)}; it answers {answer}", *cells])
    if rows:
        callers = [f"{c:,}" for c in results.values("write", "callers")]
        yield "### Writes: Quorumlite's throughput as a multiple of hiqlite's\n"
        yield table(["callers", *callers], rows)


def reads(results):
    levels = [
        level
        for level in ("none", "session", "weak", "linearizable", "strong")
        if any(m.get("level") == level for m in results.of("read"))
    ]
    for callers, what in ((1, "one caller"), (16, "16 callers")):
        yield f"### Point reads a second, {what}, by consistency\n"
        yield grid(
            results, "read", "level", levels, "{}", "per_second", heading="", callers=callers
        )
    plain = results.find("read", system=YARDSTICK, level="none", callers=1)
    ours = results.find("read", system="quorumlite-1", level="session", callers=1)
    if plain and ours:
        yield (
            f"One local read (`session`) takes {number(ours['p50_us'])} µs, one of rusqlite with a"
            f" cached statement {number(plain['p50_us'])} µs:"
            f" {number(ours['p50_us'] / plain['p50_us'])}{TIMES}.\n"
        )
    found = results.find(
        "read", system="quorumlite-3", level="linearizable", callers=1, through="follower"
    )
    if found:
        yield (
            f"Linearizable, from a follower's own copy, one caller: {number(found['p50_us'])} µs.\n"
        )


# ---- the plot ----------------------------------------------------------------------------------

LINES = [
    ("quorumlite-1", "Quorumlite, 1 node", "#0b6e4f", ""),
    ("quorumlite-3", "Quorumlite, 3 nodes", "#0b6e4f", "6 4"),
    ("hiqlite-1-default", "hiqlite, 1 node, before fsync", "#e07a1f", ""),
    ("hiqlite-3-default", "hiqlite, 3 nodes, before fsync", "#e07a1f", "6 4"),
    ("hiqlite-1-fsync", "hiqlite, 1 node", "#a4243b", ""),
    ("hiqlite-3-fsync", "hiqlite, 3 nodes", "#a4243b", "6 4"),
    ("rqlite-1", "rqlite, 1 node", "#5b5f97", ""),
    ("rqlite-3", "rqlite, 3 nodes", "#5b5f97", "6 4"),
]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 820, 440, 60, 240, 46, 50


def plot(results):
    """Throughput over callers, both on logarithmic scales, so that ratios are distances."""
    import math

    callers = results.values("write", "callers")
    curves = []
    for system, label, color, dash in LINES:
        points = [
            (c, results.find("write", system=system, callers=c).get("per_second_ratio"))
            for c in callers
        ]
        points = [(c, ratio) for c, ratio in points if ratio]
        if points:
            curves.append((label, color, dash, points))
    ratios = [ratio for *_, points in curves for _, ratio in points] + [1.0]
    low = math.floor(math.log10(min(ratios)))
    high = math.log10(max(ratios)) + 0.1
    first, last = math.log2(callers[0]), math.log2(callers[-1])

    def x(c):
        share = (math.log2(c) - first) / ((last - first) or 1)
        return LEFT + (WIDTH - LEFT - RIGHT) * share

    def y(ratio):
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(ratio)) / (high - low)

    def text(at_x, at_y, words, anchor="start", color="#333"):
        place = f'x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}" fill="{color}"'
        return f"<text {place}>{words}</text>"

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield text(LEFT, 22, "Writes a second, as a multiple of plain SQLite (FULL, one thread)")
    for power in range(low, math.ceil(high) + 1):
        for step in (1, 2, 5):
            ratio = step * 10**power
            if low <= math.log10(ratio) <= high:
                color = "#888" if ratio == 1 else "#e4e4e4"
                at = y(ratio)
                yield (
                    f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
                    f' stroke="{color}"/>'
                )
                yield text(LEFT - 8, at + 4, f"{ratio:g}{TIMES}", "end")
    for c in callers:
        yield text(x(c), HEIGHT - BOTTOM + 20, f"{c}", "middle")
    yield text(x(callers[0]), HEIGHT - 10, "callers, each waiting for its answer")
    below = TOP
    # Labels beside the ends of their lines, pushed apart.
    for label, color, dash, points in sorted(curves, key=lambda curve: -curve[3][-1][1]):
        path = " ".join(f"{x(c):.1f},{y(ratio):.1f}" for c, ratio in points)
        style = f'stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"'
        yield f'<polyline points="{path}" fill="none" {style}/>'
        for c, ratio in points:
            yield f'<circle cx="{x(c):.1f}" cy="{y(ratio):.1f}" r="3" fill="{color}"/>'
        below = max(below + 16, y(points[-1][1]) + 4)
        words = f"{label}: {number(points[-1][1])}{TIMES}"
        yield text(WIDTH - RIGHT + 12, below, words, color=color)
    yield "</svg>"


def write(results, folder):
    document = folder / "performance.md"
    text = document.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        sys.exit(f"{document}: the marks around the figures are gone")
    figures = "\n".join(tables(results))
    document.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}", encoding="utf-8")
    plotted = "\n".join(plot(results)) + "\n"
    (folder / "performance.svg").write_text(plotted, encoding="utf-8")


def main():
    match sys.argv[1:]:
        case ["tables", path]:
            print("\n".join(tables(Results(path))))
        case ["plot", path]:
            print("\n".join(plot(Results(path))))
        case ["write", path, folder]:
            write(Results(path), Path(folder))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
