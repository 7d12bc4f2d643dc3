"""A bank is whole or absent, whatever goes wrong while it is written."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import environment, interruptible
from toy_data import ToyDataset

from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.datasets.base import Mask
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.errors import BankError, DataError
from fssbench.protocols import FSSBENCH

REQUEST = Request(FSSBENCH.but(episodes=6, min_area=100), shots=(1,), folds=(0,))

WRITE = """
import resource, signal, sys
from pathlib import Path
from fssbench.banks.generate import Request, generate
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.errors import BankError
from fssbench.protocols import FSSBENCH

root, out, start, step, stop = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
request = Request(FSSBENCH.but(episodes=6, min_area=100), shots=(1,), folds=(0,))
for limit in range(start, stop, step):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        generate(Pascal5i(root), request, out)
    except BankError as error:
        assert "could not be written" in str(error), error
        assert not out.exists()
        print("refused", limit)
    else:
        print("written", limit)
        break
"""


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "banks").mkdir()
    return tmp_path / "banks" / "bank.h5"


def test_a_write_that_fails_at_any_position_leaves_nothing(small_voc_original: Path, out: Path) -> None:
    """The file may not grow beyond a limit, which moves through the whole file."""
    generate(Pascal5i(small_voc_original), REQUEST, out)
    size = out.stat().st_size
    out.unlink()
    steps = [str(small_voc_original), str(out), "0", str(size // 40), str(2 * size)]
    done = subprocess.run([sys.executable, "-c", WRITE, *steps], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert sum(line.startswith("refused") for line in lines) >= 40
    assert lines[-2].startswith("written")
    assert leftovers(out.parent) == ["bank.h5"]
    open_bank(out).close()


@pytest.mark.parametrize("call", ["fsync", "hardlink_to", "chmod"])
def test_a_failing_fsync_or_rename_leaves_nothing(
    call: str, small_voc_original: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    failures = 0

    def failing(*args: object) -> None:
        nonlocal failures
        failures += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    for turn in range(2 if call == "fsync" else 1):  # the seal's fsync, then the file's
        calls = 0

        def fsync(handle: int, turn: int = turn) -> None:
            nonlocal calls
            calls += 1
            failing() if calls == turn + 1 else real(handle)

        with monkeypatch.context() as patch:
            if call == "fsync":
                patch.setattr(os, "fsync", fsync)
            else:
                patch.setattr(Path, call, failing)
            with pytest.raises(BankError, match="No space left on device"):
                generate(Pascal5i(small_voc_original), REQUEST, out)
        assert leftovers(out.parent) == []
    assert failures == (2 if call == "fsync" else 1)


def test_a_failure_leaves_the_bank_that_was_there(
    small_voc_original: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(Pascal5i(small_voc_original), REQUEST, out)
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("failed")))
        with pytest.raises(BankError):
            generate(Pascal5i(small_voc_original), REQUEST, out, force=True)
    assert out.read_bytes() == before
    assert leftovers(out.parent) == ["bank.h5"]


def test_bad_data_in_the_middle_leaves_nothing(small_voc: Path, out: Path) -> None:
    images = sorted((small_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir())
    for path in images[20:]:
        path.unlink()
    with pytest.raises(DataError):
        generate(Pascal5i(small_voc), REQUEST, out)
    assert leftovers(out.parent) == []


def test_a_bank_that_exists_is_never_overwritten_unless_forced(small_voc_original: Path, out: Path) -> None:
    out.write_text("mine")
    with pytest.raises(BankError, match=r"exists and is not overwritten.*--force"):
        generate(Pascal5i(small_voc_original), REQUEST, out)
    assert out.read_text() == "mine"
    generate(Pascal5i(small_voc_original), REQUEST, out, force=True)
    open_bank(out).close()


def test_a_killed_generation_leaves_nothing_or_a_whole_bank(small_voc_original: Path, out: Path) -> None:
    """kill -9 before files that it opens, from the first to the last, and before each that takes or leaves a name."""
    assert _dying(0, small_voc_original, out) == 0
    events = int(out.with_name("events").read_text())
    out.unlink()
    moments = [*range(1, events - 3, events // 8), *range(events - 3, events + 1)]
    for number in moments:
        assert _dying(number, small_voc_original, out) == -signal.SIGKILL
        if out.exists():
            open_bank(out).close()  # raises if it is not whole
            out.unlink()
        assert {path.suffix for path in out.parent.iterdir()} <= {"", ".tmp"}
    assert len(moments) >= 12


def _dying(number: int, root: Path, out: Path) -> int | None:
    """Exit code of a process that is killed at an event of its generation; how many there are goes to a file."""

    def generate_dying() -> None:
        count = itertools.count(1)

        def watch(event: str, _: object) -> None:
            if event in ("open", "os.rename", "os.link", "os.remove") and next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        data = Pascal5i(root)
        sys.addaudithook(watch)
        generate(data, REQUEST, out)
        seen = next(count) - 1
        out.with_name("events").write_text(str(seen))

    child = multiprocessing.get_context("fork").Process(target=generate_dying)
    child.start()
    child.join()
    return child.exitcode


# Signals, and other processes

TOY = Request(FSSBENCH.but(episodes=80, min_area=20), shots=(1,))

SLOW = """
import sys
from pathlib import Path
from fssbench.banks.generate import Request, generate
from fssbench.protocols import FSSBENCH
from toy_data import SlowDataset

if __name__ == "__main__":
    request = Request(FSSBENCH.but(episodes=80, min_area=20), shots=(1,))
    generate(SlowDataset(64), request, Path(sys.argv[1]), workers=int(sys.argv[2]))
"""


def started(out: Path, workers: int, script: Path) -> subprocess.Popen[str]:
    """A generation in a child process with a session of its own, that has begun to write."""
    script.write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, str(script), str(out), str(workers)],
        stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True, preexec_fn=interruptible,
    )  # fmt: skip
    for _ in range(600):
        if list(out.parent.glob(".bank.h5.*.tmp")):
            time.sleep(0.2)
            return process
        time.sleep(0.05)
    raise AssertionError(process.communicate()[1])


def ended_alone(process: subprocess.Popen[str]) -> bool:
    """Whether no process of its session is left, within 10 s."""
    for _ in range(200):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_neither_files_nor_processes(
    number: signal.Signals, workers: int, out: Path, tmp_path: Path
) -> None:
    process = started(out, workers, tmp_path / "slow.py")
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == -number if number == signal.SIGTERM else "KeyboardInterrupt" in said
    assert leftovers(out.parent) == []
    assert ended_alone(process)


def test_workers_end_with_a_parent_that_is_killed_and_the_next_generation_clears_away_its_file(
    out: Path, tmp_path: Path
) -> None:
    process = started(out, 2, tmp_path / "slow.py")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert ended_alone(process)
    (left,) = out.parent.iterdir()
    os.utime(left, (time.time() - 3600,) * 2)
    generate(ToyDataset(), TOY, out)
    assert leftovers(out.parent) == ["bank.h5"]


def test_of_two_generations_the_later_is_refused_while_the_first_goes_on(out: Path, tmp_path: Path) -> None:
    process = started(out, 1, tmp_path / "slow.py")
    for temporary in out.parent.iterdir():
        os.utime(temporary, (time.time() - 3600,) * 2)  # nobody is thrown out for being slow
    with pytest.raises(BankError, match="another process is writing this bank"):
        generate(ToyDataset(), TOY, out)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    open_bank(out).close()


class Overtaken(ToyDataset):
    """Another process writes the bank while this one's images are read."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self._out = out

    def image_bytes(self, image_id: str) -> bytes:
        if list(self._out.parent.glob(".*.tmp")):
            self._out.write_text("theirs")
        return super().image_bytes(image_id)


@pytest.mark.parametrize("force", [False, True])
def test_a_bank_that_came_meanwhile_is_never_replaced(out: Path, force: bool) -> None:
    with pytest.raises(BankError, match="another process wrote this bank first"):
        generate(Overtaken(out), TOY, out, force=force)
    assert out.read_text() == "theirs"
    assert leftovers(out.parent) == ["bank.h5"]


class Unread(ToyDataset):
    """Is not to be looked at."""

    def mask(self, image_id: str) -> Mask:
        raise AssertionError(image_id)


def test_a_place_that_cannot_be_written_is_said_before_the_data_are_read(out: Path) -> None:
    out.write_text("a file where a folder is asked for")
    with pytest.raises(BankError, match=rf"{out}: Not a directory.* Name another place by --out"):
        generate(Unread(), TOY, out / "deep" / "bank.h5")
    assert out.read_text() == "a file where a folder is asked for"


@pytest.mark.parametrize("there", [False, True])
def test_without_hard_links_the_place_is_taken_only_if_it_is_free(
    there: bool, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    if there:
        with pytest.raises(BankError, match="another process wrote"):
            generate(Overtaken(out), TOY, out)
        assert out.read_text() == "theirs"
    else:
        generate(ToyDataset(), TOY, out)
        open_bank(out).close()
    assert leftovers(out.parent) == ["bank.h5"]


def test_a_disk_without_room_is_said_before_anything_is_copied(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(ToyDataset(), TOY, out)
    with open_bank(out) as bank:
        size = sum(len(bank.image_bytes(i)) + len(bank.masks.files(i)[0].encoded) for i in range(len(bank.image_ids)))
    out.unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=int(0.9 * size)))
    with pytest.raises(BankError, match=r"expected about 0\.\d+ GB of free space for \d+ images, found 0\.\d+ GB"):
        generate(ToyDataset(), TOY, out)
    assert leftovers(out.parent) == []
    generate(ToyDataset(), TOY, out.with_name("index.h5"), index=True)  # needs none
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=int(1.1 * size)))
    generate(ToyDataset(), TOY, out)
