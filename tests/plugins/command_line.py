"""`fssbench` as a user types it: in this process, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from repository import PLUGINS, ROOT

from fssbench.cli import main


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What stderr got, in one line: messages are wrapped where the terminal ends."""
        return " ".join(self.err.split())


def fssbench(*words: object, status: int = 0) -> Done:
    """Run a command in this process; another exit status than `status` fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    done = Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())
    assert done.status == status, done.err or done.out
    return done


def line(*words: object) -> list[str]:
    """The command for a process of its own."""
    return [sys.executable, "-m", "fssbench", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """The variables of a process that finds this checkout and the tests' plug-ins; there too warnings are errors."""
    paths = [str(PLUGINS), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    usual = {"PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    return usual | os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | more


def fresh(command: list[str], status: int = 0, cwd: Path | None = None, **more: str) -> Done:
    """Run a command in a process of its own; another exit status than `status` fails the test."""
    ran = subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False)
    assert ran.returncode == status, ran.stderr[-2000:] or ran.stdout[-2000:]
    return Done(ran.returncode, ran.stdout, ran.stderr)


def interruptible() -> None:
    """For `preexec_fn`: heed Ctrl-C, which a job in the background of a shell ignores, and these tests may be one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def refused(*words: object) -> str:
    """The one message of a command that prints nothing else and ends with status 2."""
    done = fssbench(*words, status=2)
    assert (done.out, done.err.count("error:")) == ("", 1), done.err
    assert "Traceback" not in done.err
    return done.said[done.said.index("error:") :]
