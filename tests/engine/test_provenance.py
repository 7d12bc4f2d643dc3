"""Where a record was made is what git says of the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from fssbench.engine import provenance


def test_a_checkout_is_dirty_once_a_tracked_file_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        named = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *named, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    def recorded() -> tuple[str | None, bool | None]:
        found = provenance.environment(torch.device("cpu"), "fp32", {})
        return found.git_revision, found.git_dirty

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "fssbench" / "engine" / "provenance.py"))
    assert recorded() == (None, None)
    (tmp_path / "code.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", "code.py")
    git("commit", "-q", "-m", "first")
    revision = git("rev-parse", "HEAD").strip()
    (tmp_path / "notes.txt").write_text("not tracked")
    assert recorded() == (revision, False)
    (tmp_path / "code.py").write_text("a = 2\n")
    assert recorded() == (revision, True)
