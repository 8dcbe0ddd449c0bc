"""Memory and file descriptors stay flat, however often one opens, closes and calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_and_descriptors_stay_flat() -> None:
    program = Path(__file__).with_name("flat.py")
    result = subprocess.run(
        [sys.executable, str(program), "300", "20000"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
