"""Checks that docs/errors.md lists exactly the codes of the sources, each under its kind."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"

# A code is named where an error is made, or has the prefix of a family and goes through a helper.
MADE = re.compile(r'\bError::new\(\s*(?:\w+::)*ErrorKind::(\w+),\s*"([A-Z][A-Z0-9_]*)"')
# Helpers with a kind of their own.
HELPERS = [
    (re.compile(r'\bError::config\(\s*"([A-Z][A-Z0-9_]*)"'), "Config"),
    (re.compile(r'\bnode_error\(\s*"([A-Z][A-Z0-9_]*)"'), "Unavailable"),
]
FAMILY = re.compile(r'"((?:BUSY|CONFIG|CORRUPTION|FORBIDDEN|SQL)_[A-Z0-9_]+)"')


def source_files():
    for folder in ("core/src", "bindings-python/src", "bindings-python/python"):
        for path in sorted((ROOT / folder).rglob("*")):
            inside = path.relative_to(ROOT).parts
            if path.suffix in (".rs", ".py") and not {"tests", "tests.rs"} & set(inside):
                # Tests inside a file come last in it.
                yield path, path.read_text("utf-8").split("#[cfg(test)]\nmod tests {")[0]


def main() -> int:
    listed: dict[str, str] = {}  # code -> the first word of its section
    section = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = re.split(r"\W", line[3:])[0]
        elif line.startswith("| `"):
            # One row may list several codes.
            for code in re.findall(r"`([A-Z][A-Z0-9_]*)`", line.split("|")[1]):
                listed[code] = section

    problems = []
    texts = list(source_files())
    for path, text in texts:
        where = path.relative_to(ROOT)
        kinds = {code: kind for kind, code in MADE.findall(text)}
        for helper, kind in HELPERS:
            kinds.update(dict.fromkeys(helper.findall(text), kind))
        for code in sorted(kinds.keys() | set(FAMILY.findall(text))):
            if code.startswith("SQLITE_"):
                continue  # SQLite's own names: the page refers to its list
            if code not in listed:
                problems.append(f"{where}: {code} is not listed")
            elif code in kinds and listed[code] != kinds[code]:
                problems.append(f"{where}: {code} is {kinds[code]}, listed under {listed[code]}")
    for code in sorted(listed):
        if not any(f'"{code}"' in text for _, text in texts):
            problems.append(f"{code} is listed but occurs in no source")

    for problem in problems:
        print(f"docs/errors.md: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
