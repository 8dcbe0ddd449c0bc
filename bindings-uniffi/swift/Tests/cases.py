"""Writes the conformance cases as JSON, for which Swift needs no package: cases.py OUT"""

import json
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    # Every virtual environment has it, so nothing need be installed.
    from pip._vendor import tomli as tomllib

CASES = Path(__file__).resolve().parents[3] / "conformance" / "cases"

files = {path.name: tomllib.loads(path.read_text("utf-8")) for path in sorted(CASES.glob("*.toml"))}
if not files:
    sys.exit(f"no cases in {CASES}")
Path(sys.argv[1]).write_text(json.dumps(files), "utf-8")
