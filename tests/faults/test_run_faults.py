"""Invariant 2: a run that is killed, starved or lied to loses at most the batch in flight and counts nothing twice."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pandas as pd
import pytest
import torch
import toy_methods
from command_line import environment, fssbench, interruptible, line
from toy_runs import frames

from fssbench.engine import entrant as engine_entrant
from fssbench.engine import job, provenance, store
from fssbench.errors import RecordError
from fssbench.records import read_record


def _killed_in_step(step: int, run, out: Path, **options: object) -> None:
    """Run ToyDies in a child that dies in its step number `step`, before it is counted."""
    toy_methods.ToyDies.steps = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_DIES_AT", str(step))
        child = multiprocessing.get_context("fork").Process(
            target=run, args=("ToyDies",), kwargs={"out": out, **options}
        )
        child.start()
        child.join()
    assert child.exitcode == -signal.SIGKILL


def _journal(run, out: Path) -> Path:
    """The 1-shot journal of an unfinished run at 1 and 5 shots; both have some steps."""
    _killed_in_step(9, run, out, shots=(1, 5))
    journals = [path for path in out.rglob("journal") if len(path.read_bytes().splitlines()) > 2]
    assert len(journals) == 2
    return next(path for path in journals if "-1shot" in path.parent.name)


def _sealed(step: object) -> bytes:
    text = json.dumps(step).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def test_ten_kills_and_resumes_give_the_rows_of_one_run(run, tmp_path: Path) -> None:
    options = {"shots": (1, 5), "head_batch": 3}
    whole = frames(run("ToyDies", out=tmp_path / "whole", **options))
    for step in (1, 3, 2, 4, 1, 2, 3, 5, 2, 4):
        _killed_in_step(step, run, tmp_path / "cut", **options)
    pieces = frames(run("ToyDies", out=tmp_path / "cut", **options))
    for a, b in zip(whole, pieces, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_a_kill_at_any_change_that_the_end_makes_to_the_folder_loses_nothing(run, listener, tmp_path) -> None:
    (whole,) = run("Toy", out=tmp_path / "whole", save_predictions=True)
    kills = 0
    for number in range(1, 20):
        out = tmp_path / str(number)
        child = multiprocessing.get_context("fork").Process(target=_dies_at_the_end, args=(number, run, out))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        kills += 1
        before = listener.done
        (again,) = run("Toy", out=out, save_predictions=True)
        assert listener.done == before  # no episode is done again
        pd.testing.assert_frame_equal(*frames([whole, again]))
        left = {path.name for path in again.folder.iterdir()} - {".lock"}  # of a dead process it locks nothing
        assert left == {path.name for path in whole.folder.iterdir()}
        assert (again.folder / "predictions.h5").read_bytes() == (whole.folder / "predictions.h5").read_bytes()
    assert kills >= 4  # masks, episodes.csv.gz, run.json, the journal


def _dies_at_the_end(number: int, run, out: Path) -> None:
    """Kill the process before the `number`th file that takes or leaves its name in `Job.finish`."""
    real, count = job.Job.finish, itertools.count(1)

    def watch(event: str, _: object) -> None:
        if event in ("os.rename", "os.link", "os.remove") and next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def finish(self) -> None:
        sys.addaudithook(watch)
        real(self)

    job.Job.finish = finish
    run("Toy", out=out, save_predictions=True)


def test_an_interrupt_from_the_keyboard_exits_130_and_the_printed_command_goes_on(
    run, bank: Path, tmp_path: Path
) -> None:
    command = line("run", "toy_methods:ToySlow", "--weights", "random", "--bank", bank, "--out", tmp_path / "cut",
                   "--batch", "2", "--device", "cpu")  # fmt: skip
    steps = tmp_path / "steps"
    child = subprocess.Popen(
        command, env=environment(TOY_LOG=str(steps)), stderr=subprocess.PIPE, text=True, preexec_fn=interruptible,
    )  # fmt: skip
    while child.poll() is None and not (steps.exists() and len(steps.read_text().split()) >= 3):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    said = " ".join(child.communicate()[1].split())
    assert child.returncode == 130, said
    again = shlex.split(said.partition("To go on: ")[2])
    assert again[1:] == command[3:]
    assert re.search(r"going on after \d+ episodes", fssbench(*again[1:]).said)
    (folder,) = (path.parent for path in (tmp_path / "cut").rglob("run.json"))
    (whole,) = frames(run("ToySlow", out=tmp_path / "whole", head_batch=2))
    pd.testing.assert_frame_equal(read_record(folder).episodes, whole)


def test_a_resumed_run_does_only_what_is_left(run, listener, tmp_path: Path) -> None:
    journal = _journal(run, tmp_path)
    steps = [json.loads(line.partition(" ")[2]) for line in journal.read_text().splitlines()[1:]]
    rows = sum(len(step["rows"]) for step in steps)
    run("ToyDies", out=tmp_path, shots=(1, 5))
    assert listener.already >= rows
    assert listener.done == listener.episodes - listener.already


def test_a_torn_last_line_is_done_again(run, tmp_path: Path) -> None:
    whole = frames(run("ToyDies", out=tmp_path / "whole", shots=(1, 5)))
    journal = _journal(run, tmp_path / "torn")
    journal.write_bytes(journal.read_bytes()[:-7])
    for a, b in zip(whole, frames(run("ToyDies", out=tmp_path / "torn", shots=(1, 5))), strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_a_line_twice_with_another_value_is_refused(run, tmp_path: Path) -> None:
    journal = _journal(run, tmp_path)
    step = json.loads(journal.read_text().splitlines()[1].partition(" ")[2])
    same = _sealed(step)
    step["rows"][-1][-1] += 1
    other = _sealed(step)
    before = journal.read_bytes()
    journal.write_bytes(before + other)
    with pytest.raises(RecordError, match="another value"):
        run("ToyDies", out=tmp_path, shots=(1, 5))
    journal.write_bytes(before + same)
    assert all(outcome.state == "finished" for outcome in run("ToyDies", out=tmp_path, shots=(1, 5)))


def test_a_damaged_line_before_the_last_is_refused(run, tmp_path: Path) -> None:
    journal = _journal(run, tmp_path)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1].replace(b",", b";", 1) + b"".join(lines[2:]))
    with pytest.raises(RecordError, match="line 2 of"):
        run("ToyDies", out=tmp_path, shots=(1, 5))


def test_other_code_refuses_to_go_on_and_says_what_changed(run, tmp_path: Path, monkeypatch) -> None:
    _journal(run, tmp_path)
    monkeypatch.setattr(engine_entrant, "code_sha256", lambda methods: "other")
    with pytest.raises(RecordError, match=r"code: then .*now 'other'"):
        run("ToyDies", out=tmp_path, shots=(1, 5))
    assert all(o.state == "finished" for o in run("ToyDies", out=tmp_path, shots=(1, 5), force=True))


def test_another_setting_that_may_change_a_count_does_not_go_on(run, tmp_path: Path, monkeypatch) -> None:
    _killed_in_step(2, run, tmp_path)
    for options, words in (({"head_batch": 3}, "head_batch: then 8, now 3"), ({"encode_batch": 2}, "encode_batch")):
        with pytest.raises(RecordError, match=words):
            run("ToyDies", out=tmp_path, **options)
    for place, name in ((torch, "__version__"), (provenance, "describe")):
        with monkeypatch.context() as patch, pytest.raises(RecordError, match="another"):
            patch.setattr(place, name, "another" if place is torch else lambda device: "another")
            run("ToyDies", out=tmp_path)
    assert run("ToyDies", out=tmp_path, workers=5, cache_bytes=20_000)[0].state == "finished"


def test_two_processes_on_one_record_the_second_is_told_pid_and_host(run, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=run, args=("ToySlow",), kwargs={"out": tmp_path, "shots": (1, 5)})
    child.start()
    try:
        for _ in range(200):
            if list(tmp_path.rglob("journal")):
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
    assert all(o.state == "finished" for o in run("ToyDies", out=tmp_path, shots=(1, 5)))
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

    monkeypatch.setattr(store.tempfile, "TemporaryFile", full)
    starved = frames(run("ToyMaps", out=tmp_path / "starved", cache_bytes=20_000, spill_folder=tmp_path))
    pd.testing.assert_frame_equal(plain[0], starved[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_a_signal_ends_goes_on_and_leaves_no_spilled_features(run, tmp_path, number: int) -> None:
    options = {"cache_bytes": 20_000, "spill_folder": tmp_path / "spilled"}
    (tmp_path / "spilled").mkdir()
    child = multiprocessing.get_context("fork").Process(target=_ends_spilling, args=(number, run, tmp_path, options))
    child.start()
    child.join()
    assert child.exitcode == -number
    assert not list((tmp_path / "spilled").iterdir())
    again = frames(run("ToyMaps", out=tmp_path / "cut", **options))[0]
    pd.testing.assert_frame_equal(again, frames(run("ToyMaps", out=tmp_path / "whole"))[0])


def _ends_spilling(number: int, run, tmp_path: Path, options: dict[str, object]) -> None:
    """Send this process a signal when a file of features has got 20 entries."""
    real, count = store.FeatureStore._spill, itertools.count(1)

    def spill(self, *entry) -> None:
        before = self.statistics.spilled_bytes
        real(self, *entry)
        if self.statistics.spilled_bytes > before and next(count) == 20:
            os.kill(os.getpid(), number)

    store.FeatureStore._spill = spill
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)  # which Ray, if a test has begun it in this process, has changed
    run("ToyMaps", out=tmp_path / "cut", **options)


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


@pytest.mark.parametrize("again", [True, False], ids=["with --force again", "without"])
def test_a_forced_run_that_was_cut_off_goes_on_and_the_old_record_stays_till_then(
    run, listener, tmp_path, again
) -> None:
    (first,) = run("ToyDies", out=tmp_path)
    stamp = (first.folder / "run.json").stat().st_mtime_ns
    _killed_in_step(3, run, tmp_path, force=True)
    assert (first.folder / "run.json").stat().st_mtime_ns == stamp
    (second,) = run("ToyDies", out=tmp_path, force=again)
    assert second.state == "finished"
    assert 0 < listener.already < listener.episodes
    assert (first.folder / "run.json").stat().st_mtime_ns > stamp
    assert run("ToyDies", out=tmp_path)[0].state == "already there"
