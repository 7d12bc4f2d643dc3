"""Invariant 2: a run that is killed, starved or lied to loses at most the batch in flight and counts nothing twice."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import re
import signal
import socket
import time
import zlib
from pathlib import Path

import pandas as pd
import pytest
import toy_methods
from toy_runs import frames

from fssbench.engine import run as engine_run
from fssbench.engine import store
from fssbench.errors import RecordError


def _killed_after(seconds: float, run, out: Path, **options: object) -> bool:
    """Run ToySlow in a child and kill it after a while; whether it was still at work."""
    child = multiprocessing.get_context("fork").Process(
        target=run, args=("ToySlow",), kwargs={"out": out, "shots": (1, 5), **options}
    )
    child.start()
    child.join(seconds)
    alive = child.is_alive()
    if alive and child.pid is not None:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    return alive


def _journal(run, out: Path, seconds: float = 0.6) -> Path:
    """The journal of an unfinished run with some rows in it."""
    for _ in range(30):
        _killed_after(seconds, run, out)
        journals = list(out.rglob("journal.csv"))
        if journals and all(len(j.read_bytes().splitlines()) > 2 for j in journals):
            return sorted(journals)[0]
    raise AssertionError("the run never got going")


def _sealed(text: str) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text.encode()), text.encode())


def test_ten_kills_and_resumes_give_the_rows_of_one_run(run, tmp_path: Path) -> None:
    whole = frames(run("ToySlow", out=tmp_path / "whole", shots=(1, 5)))
    moments = random.Random(0)
    for _ in range(10):
        if not _killed_after(moments.uniform(0.1, 0.8), run, tmp_path / "cut"):
            break
    pieces = frames(run("ToySlow", out=tmp_path / "cut", shots=(1, 5)))
    for a, b in zip(whole, pieces, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_a_resumed_run_does_only_what_is_left(run, listener, tmp_path: Path) -> None:
    journal = _journal(run, tmp_path)
    rows = len(journal.read_bytes().splitlines()) - 1
    run("ToySlow", out=tmp_path, shots=(1, 5))
    assert listener.already >= rows
    assert listener.done == listener.episodes - listener.already


def test_a_torn_last_line_is_done_again(run, tmp_path: Path) -> None:
    whole = frames(run("ToySlow", out=tmp_path / "whole", shots=(1, 5)))
    journal = _journal(run, tmp_path / "torn")
    journal.write_bytes(journal.read_bytes()[:-7])
    for a, b in zip(whole, frames(run("ToySlow", out=tmp_path / "torn", shots=(1, 5))), strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_a_line_twice_with_another_value_is_refused(run, tmp_path: Path) -> None:
    journal = _journal(run, tmp_path)
    _, _, text = journal.read_text().splitlines()[1].partition(" ")
    words = text.split(",")
    same = _sealed(text)
    other = _sealed(",".join([*words[:3], str(int(words[3]) + 1), *words[4:]]))
    before = journal.read_bytes()
    journal.write_bytes(before + other)
    with pytest.raises(RecordError, match="another value"):
        run("ToySlow", out=tmp_path, shots=(1, 5))
    journal.write_bytes(before + same)
    assert all(outcome.state == "finished" for outcome in run("ToySlow", out=tmp_path, shots=(1, 5)))


def test_a_damaged_line_before_the_last_is_refused(run, tmp_path: Path) -> None:
    journal = _journal(run, tmp_path)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1].replace(b",", b";", 1) + b"".join(lines[2:]))
    with pytest.raises(RecordError, match="line 2 of"):
        run("ToySlow", out=tmp_path, shots=(1, 5))


def test_other_code_refuses_to_go_on_and_says_what_changed(run, tmp_path: Path, monkeypatch) -> None:
    _journal(run, tmp_path)
    monkeypatch.setattr(engine_run, "code_sha256", lambda methods: "other")
    with pytest.raises(RecordError, match=r"code: then .*now 'other'"):
        run("ToySlow", out=tmp_path, shots=(1, 5))
    assert all(o.state == "finished" for o in run("ToySlow", out=tmp_path, shots=(1, 5), force=True))


def test_two_processes_on_one_record_the_second_is_told_pid_and_host(run, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=run, args=("ToySlow",), kwargs={"out": tmp_path, "shots": (1, 5)})
    child.start()
    try:
        for _ in range(200):
            if list(tmp_path.rglob("journal.csv")):
                break
            time.sleep(0.02)
        with pytest.raises(RecordError, match=rf"process {child.pid} on {socket.gethostname()}"):
            run("ToySlow", out=tmp_path, shots=(1, 5))
    finally:
        child.kill()
        child.join()


def test_the_lock_of_a_dead_process_is_taken_over(run, tmp_path: Path) -> None:
    journal = _journal(run, tmp_path)
    lock = journal.with_name(".lock")
    assert socket.gethostname() in lock.read_text()  # the kill left the file behind, not the lock
    assert all(o.state == "finished" for o in run("ToySlow", out=tmp_path, shots=(1, 5)))
    assert not lock.exists()


def test_a_results_folder_that_cannot_be_written_is_one_message(run, tmp_path: Path, monkeypatch) -> None:
    real = os.open

    def refuse(path, flags, *rest, **more):
        if str(path).endswith(".lock"):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RecordError, match=r"Read-only.*--out"):
        run(out=tmp_path / "results")


def test_a_full_disk_under_the_journal_keeps_what_was_written(run, tmp_path: Path, monkeypatch) -> None:
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left"):
        run("ToySlow", out=tmp_path / "full")
    monkeypatch.undo()
    resumed = frames(run("ToySlow", out=tmp_path / "full"))
    pd.testing.assert_frame_equal(resumed[0], frames(run("ToySlow", out=tmp_path / "whole"))[0])


def test_a_full_spill_disk_costs_time_and_no_count(run, tmp_path: Path, monkeypatch) -> None:
    plain = frames(run("ToyMaps", out=tmp_path / "plain"))

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.tempfile, "NamedTemporaryFile", full)
    starved = frames(run("ToyMaps", out=tmp_path / "starved", cache_bytes=20_000, spill_folder=tmp_path))
    pd.testing.assert_frame_equal(plain[0], starved[0])


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("ToyNaN", ["not finite", "fold 0, episode"]),
        ("ToyRaises", ["ZeroDivisionError: a bug in the head", "fold 0, episode"]),
        ("ToyShape", ["expected logits of shape", "found"]),
    ],
)
def test_a_method_that_fails_is_named_with_its_episode_and_takes_no_other_with_it(run, tmp_path, method, words) -> None:
    failed, fine = run(method, "Toy", out=tmp_path / "both")
    assert failed.state == "failed"
    assert all(word in failed.message for word in words)
    assert not (failed.folder / "run.json").exists()
    assert fine.state == "finished"
    pd.testing.assert_frame_equal(frames([fine])[0], frames(run("Toy", out=tmp_path / "alone"))[0])


def test_running_out_of_device_memory_halves_the_batch_and_says_so(run, listener, tmp_path: Path) -> None:
    plain = frames(run("Toy", out=tmp_path / "plain"))[0]
    small = frames(run("ToyMemory", out=tmp_path / "small"))[0]
    pd.testing.assert_frame_equal(plain, small)
    said = [message for message in listener.messages if "out of memory" in message]
    assert re.search(r"going on with [12] episodes", said[-1])
    assert len(said) <= 4  # two folds, halved twice at most: the limit is remembered, not found anew in every step


def _cut_off_at(step: int, run, out: Path, monkeypatch, **options: object) -> None:
    """Run ToyDies in a child that dies in its step number `step`."""
    monkeypatch.setattr(toy_methods.ToyDies, "steps", 0)
    monkeypatch.setenv("TOY_DIES_AT", str(step))
    child = multiprocessing.get_context("fork").Process(target=run, args=("ToyDies",), kwargs={"out": out, **options})
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    monkeypatch.delenv("TOY_DIES_AT")


@pytest.mark.parametrize("again", [True, False], ids=["with --force again", "without"])
def test_a_forced_run_that_was_cut_off_goes_on_and_the_old_record_stays_till_then(
    run, listener, tmp_path, monkeypatch, again
) -> None:
    (first,) = run("ToyDies", out=tmp_path)
    stamp = (first.folder / "run.json").stat().st_mtime_ns
    _cut_off_at(3, run, tmp_path, monkeypatch, force=True)
    assert (first.folder / "run.json").stat().st_mtime_ns == stamp
    (second,) = run("ToyDies", out=tmp_path, force=again)
    assert second.state == "finished"
    assert 0 < listener.already < listener.episodes
    assert (first.folder / "run.json").stat().st_mtime_ns > stamp
    assert run("ToyDies", out=tmp_path)[0].state == "already there"
