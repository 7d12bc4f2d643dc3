"""Some of the files of `make fuzz`, on every run of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_spoilt_files_are_refused_or_read_and_nothing_else_is_touched() -> None:
    script = Path(__file__).parent / "hostile.py"
    done = subprocess.run([sys.executable, script, "--files", "60"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert "bank: refused" in done.stdout
