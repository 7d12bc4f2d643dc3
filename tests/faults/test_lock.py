"""One process at a time, however they come and go."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from fssbench.engine.journal import Lock
from fssbench.errors import RecordError


def _take_often(folder: Path, wanted: int) -> None:
    """Take the lock `wanted` times; exit with 1 if another process is inside at the same time."""
    taken = 0
    while taken < wanted:
        try:
            with Lock(folder / ".lock"):
                inside = folder / "inside"
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # FileExistsError if anybody is
                inside.unlink()
                taken += 1
        except RecordError:
            continue


def test_processes_that_race_for_a_lock_are_never_inside_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=_take_often, args=(tmp_path, 200)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 4


def _hold(folder: Path, held: multiprocessing.Event) -> None:  # type: ignore[valid-type]
    with Lock(folder / ".lock"):
        held.set()  # type: ignore[attr-defined]
        signal.pause()


def test_a_lock_is_free_at_once_when_its_process_is_killed_and_not_before(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, held))
    holder.start()
    assert held.wait(30)
    with pytest.raises(RecordError, match=rf"process {holder.pid} on "), Lock(tmp_path / ".lock"):
        pass
    assert (tmp_path / ".lock").exists()  # who was refused has not deleted it
    holder.kill()
    holder.join()
    with Lock(tmp_path / ".lock"):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_lock_file_that_another_machine_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    with Lock(tmp_path / ".lock"):
        pass
