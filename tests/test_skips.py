"""A skipped test passes only for want of something that stands in the list of `tests/plugins/skips.py`."""

from __future__ import annotations

import sys
from pathlib import Path

from command_line import fresh

HEAD = "import pytest\ndef test_a(): pass\n"
LISTED = HEAD + "@pytest.mark.skip(reason='no CUDA device on this machine')\ndef test_b(): pass\n"
OTHER = HEAD + "@pytest.mark.skip(reason='in a hurry')\ndef test_c(): pass\ndef test_d(): pytest.skip('in a hurry')\n"


def test_a_test_or_a_file_that_is_skipped_for_a_reason_of_its_own_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_listed.py").write_text(LISTED)
    assert blamed(tmp_path, 0) == []
    (tmp_path / "test_other.py").write_text(OTHER)
    (tmp_path / "test_whole.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    assert blamed(tmp_path, 1) == ["test_other.py::test_c:", "test_other.py::test_d:", "test_whole.py:"]


def blamed(folder: Path, status: int) -> list[str]:
    """Whom a run of pytest with the plug-in names."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "skips", "-p", "no:cacheprovider", str(folder)]
    printed = fresh(words, status, folder, PYTHONWARNINGS="default").out
    return [line.split()[3] for line in printed.splitlines() if line.startswith("SKIPPED WITHOUT LEAVE")]
