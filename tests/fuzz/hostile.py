"""Thousands of spoilt files, each read by a child process: `make fuzz`, or `hostile.py --files 60 --kinds bank coco`.

A file is made by its kind and number alone, so any finding comes back by `--only bank 812`. The child has 1.5 GB of
memory and 10 s of processor time. It may be content or raise an `FssbenchError`. A crash, another exception, lack of
memory or time, and any access to what lies beside its folder, for which the kernel is asked, are findings.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from mutations import NUMBERS, spoil_bytes, spoil_hdf5, spoil_json, spoil_table
from PIL import Image
from pycocotools import mask

from fssbench.banks.annotations import annotate  # noqa: F401  (children find what they need imported)
from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate, make_plan
from fssbench.banks.seal import BLOCK, write_seal
from fssbench.banks.text import episode_lines, summary
from fssbench.banks.verify import problems
from fssbench.cli import commands  # noqa: F401
from fssbench.cli.app import main as fssbench
from fssbench.datasets.base import layers
from fssbench.datasets.coco20i import Coco20i
from fssbench.datasets.own.dataset import Folder
from fssbench.errors import FssbenchError, ProtocolError
from fssbench.predictions import encode_label, write_predictions
from fssbench.protocols import FSSBENCH

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))
import toy_data

MEMORY, SECONDS, WALL = 1536 << 20, 10, 120
FINE, REFUSED, TRACEBACK = 0, 3, 4
OWN = 'name = "own"\nformat = "coco"\nimages = "val2014"\nannotations = "annotations/instances_val2014.json"\n'
PROTOCOL = FSSBENCH.but(episodes=4, min_area=20)


class Originals:
    """Sound files of every kind, and a secret beside them that nobody may look at."""

    def __init__(self, root: Path) -> None:
        self.root, self.inside, self.outside = root, root / "inside", root / "outside"
        self.inside.mkdir()
        self.outside.mkdir()
        self.secret = self.outside / "secret.h5"
        with h5py.File(self.secret, "w") as file:
            file["a"] = np.arange(100)
        self.bank, self.index = root / "bank.h5", root / "index.h5"
        data = toy_data.ToyDataset(24)
        generate(data, Request(PROTOCOL, (2,), annotations=("box", "point"), auxiliary=1), self.bank)
        generate(data, Request(PROTOCOL, (2,), ways=2), self.index, index=True)
        self.predictions = root / "predictions.h5"
        with open_bank(self.bank) as bank:
            sizes = {f: [bank.image_sizes[q] for q in bank.episodes(f).query] for f in bank.fold_classes}
            labels = (
                (f, e, encode_label(np.eye(*size, dtype=np.uint8))) for f in sizes for e, size in enumerate(sizes[f])
            )
            write_predictions(self.predictions, bank.fingerprint, labels)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            use_predictions(self.predictions, self.bank)
            (run,) = (root / "out").rglob("run.json")
            self.record = run.parent
            use_record(self.record, self.bank)  # children find imported what this imports
        self.coco = root / "coco"
        (self.coco / "annotations").mkdir(parents=True)
        (self.coco / "val2014").mkdir()
        images = [{"id": i, "file_name": f"COCO_val2014_{i:012}.jpg", "height": 40, "width": 48} for i in range(1, 9)]
        for image in images:
            Image.new("RGB", (48, 40), (int(str(image["id"])), 0, 0)).save(
                self.coco / "val2014" / str(image["file_name"])
            )
        whole = mask.encode(np.ones((40, 48), np.uint8, order="F"))["counts"].decode()
        shapes = [
            [[4, 4, 30, 4, 30, 30, 4, 30]], {"size": [40, 48], "counts": [500, 900, 520]},
            {"size": [40, 48], "counts": whole}, [[1, 1, 20.5, 1, 20.5, 30], [30, 30, 40, 30, 40, 38]],
        ]  # fmt: skip
        annotations = [
            {"id": i, "image_id": 1 + i % 8, "category_id": 1 + i % 2, "iscrowd": i % 2, "segmentation": shapes[i % 4]}
            for i in range(24)
        ]
        names = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
        self.instances = {"images": images, "annotations": annotations, "categories": names}
        (self.coco / "annotations" / "instances_val2014.json").write_text(json.dumps(self.instances))
        (self.coco / "dataset.toml").write_text(OWN)

    def make(self, kind: str, number: int) -> Path:
        """The spoilt file of a kind and number, in an empty folder."""
        rng = random.Random(f"{kind} {number}")
        shutil.rmtree(self.inside)
        self.inside.mkdir()
        return getattr(self, f"_{kind}")(rng)

    def _bank(self, rng: random.Random) -> Path:
        path = self.inside / "bank.h5"
        shutil.copy(self.bank if rng.random() < 0.8 else self.index, path)
        if rng.random() < 0.25:
            path.write_bytes(spoil_bytes(rng, path.read_bytes()))
            if path.stat().st_size < BLOCK or rng.random() < 0.5:
                return path
        else:
            with path.open("r+b") as file:  # an unsealed HDF5 file, for HDF5 to change
                file.write(bytes(BLOCK))
            spoil_hdf5(rng, path, self.secret)
        write_seal(path)
        return path

    def _predictions(self, rng: random.Random) -> Path:
        path = self.inside / "predictions.h5"
        shutil.copy(self.predictions, path)
        if rng.random() < 0.3:
            path.write_bytes(spoil_bytes(rng, path.read_bytes()))
        else:
            spoil_hdf5(rng, path, self.secret)
        return path

    def _record(self, rng: random.Random) -> Path:
        path = Path(shutil.copytree(self.record, self.inside / self.record.relative_to(self.root / "out")))
        file = path / rng.choice(("run.json", "run.json", "episodes.csv.gz"))
        if rng.random() < 0.3:
            file.write_bytes(spoil_bytes(rng, file.read_bytes()))
        elif file.suffix == ".json":
            file.write_text(spoil_json(rng, json.loads(file.read_text())), encoding="utf-8", errors="surrogatepass")
        else:
            spoilt = spoil_table(rng, gzip.decompress(file.read_bytes()).decode())
            file.write_bytes(gzip.compress(spoilt.encode("utf-8", "surrogatepass")))
        return path

    def _coco(self, rng: random.Random) -> Path:
        root = Path(shutil.copytree(self.coco, self.inside / "coco"))
        shapes = (
            [[1e9, 0, 1, 1, 5, 5]], [[float("nan")] * 6], [[0, 0, 1e30, 1, 5, 5]], [[1, 2, 3]], [[]],
            [1, 2, 3, 4, 5, 6], {"size": [40, 48], "counts": [1920, -5, 5]}, {"size": [40, 48], "counts": "\x7f" * 30},
            {"size": [1 << 40, 48], "counts": [0]}, {"size": [40, 48], "counts": [rng.choice(NUMBERS)]},
            {"size": [40, 48], "counts": "o" * 4000}, "é" * 9, ["a", "b"], [["1", "2", "3", "4", "5", "6"]],
        )  # fmt: skip
        text = spoil_json(rng, json.loads(json.dumps(self.instances)), shapes)
        content = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.25:
            content = spoil_bytes(rng, json.dumps(self.instances).encode())
        (root / "annotations" / "instances_val2014.json").write_bytes(content)
        return root


# What a user does with such a file


def use_bank(path: Path) -> None:
    """Ask a bank for everything, then verify it."""
    with open_bank(path) as bank:
        summary(bank)
        for fold in bank.fold_classes:
            for shots in bank.draws:
                list(episode_lines(bank, fold, shots))
        with contextlib.suppress(FssbenchError):  # the rest is verified all the same
            for i in range(len(bank.image_ids) if bank.has_images else 0):
                bank.image_bytes(i)
                bank.masks.layers(i)
        for line in problems(bank):
            print(line)


def use_predictions(path: Path, bank: Path) -> None:
    """Score them."""
    _command("score", path, "--bank", bank, "--shots", "2", "--name", "x", "--out", path.parent / "out")


def use_record(path: Path, bank: Path) -> None:
    """Put a record into tables, and audit it."""
    for words in (("report", path), ("audit", path.parents[1], "--bank", bank)):
        _command(*words)


def use_coco(root: Path) -> None:
    """Draw every mask and some episodes, as COCO-20i and as somebody's own data set."""
    failed = None
    for make in (Coco20i, Folder):
        try:
            dataset = make(root)
            for image_id in dataset.image_ids():
                layers(dataset, image_id)
            with contextlib.suppress(ProtocolError):
                make_plan(dataset, Request(PROTOCOL, (1,), folds=(0,), skip_short=True))
        except FssbenchError as error:
            failed = error
    if failed is not None:
        raise failed


def sound(originals: Originals) -> None:
    """Raises unless every use succeeds on the originals."""
    use_bank(originals.bank)
    use_bank(originals.index)
    use_coco(originals.coco)


def _command(*words: object) -> int:
    try:
        fssbench([str(word) for word in words])
    except SystemExit as stopped:
        if stopped.code == 2:
            raise FssbenchError from stopped
        return int(stopped.code or 0)
    return 0


# The child, and what becomes of it


def judged(work: Callable[[], None], inside: Path, log: Path) -> str:
    """Do the work in a child: "fine", "refused", or what is wrong. `log` gets what it says."""
    child = os.fork()
    if child == 0:
        _be_child(work, inside, log)
    ends = time.monotonic() + WALL
    while True:
        found, status, _ = os.wait4(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hangs"
        time.sleep(0.002)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return (
            f"takes more than {SECONDS} s" if number == signal.SIGXCPU else f"killed by {signal.Signals(number).name}"
        )
    code = os.WEXITSTATUS(status)
    return {FINE: "fine", REFUSED: "refused", TRACEBACK: "traceback"}.get(code, f"exit status {code}")


def _be_child(work: Callable[[], None], inside: Path, log: Path) -> None:
    code = TRACEBACK
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(inside)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            work()
            code = FINE
        except FssbenchError as error:
            print(error)
            code = REFUSED
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Watch:
    """The kernel's word on whatever is opened, made, changed or removed in some folders, by inotify of Linux."""

    _EVENTS = 0x2 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200  # modified, opened, moved, created, deleted

    def __init__(self, *folders: Path) -> None:
        self._handle = -1
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK)
        for folder in folders:
            if self._handle < 0 or libc.inotify_add_watch(self._handle, os.fsencode(folder), self._EVENTS) < 0:
                raise OSError(ctypes.get_errno(), "inotify")

    def touched(self) -> list[str]:
        """Names since it was last asked."""
        names = []
        with contextlib.suppress(BlockingIOError):
            while self._handle >= 0 and (data := os.read(self._handle, 1 << 16)):
                while data:
                    length = int.from_bytes(data[12:16], sys.byteorder)
                    names.append(data[16 : 16 + length].rstrip(b"\0").decode())
                    data = data[16 + length :]
        return [name for name in names if name != "inside"]


KINDS = ("bank", "predictions", "record", "coco")


def run(files: int, kinds: tuple[str, ...], only: int | None = None) -> Iterator[tuple[str, int, str, str]]:
    """(kind, number, verdict, what it said) of every file."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        originals = Originals(Path(name).resolve())
        sound(originals)
        watch, log = Watch(originals.root, originals.outside), originals.outside.parent / "log"
        log.touch()
        for number in range(files) if only is None else (only,):
            for kind in kinds:
                path = originals.make(kind, number)
                more = (originals.bank,) if kind in ("predictions", "record") else ()
                work = globals()[f"use_{kind}"]
                watch.touched()
                verdict = judged(lambda: work(path, *more), originals.inside, log)  # noqa: B023
                foreign = [name for name in watch.touched() if name not in ("log", "bank.h5", "")]
                said = log.read_text(errors="replace")
                yield kind, number, f"touches {foreign[0]}" if foreign else verdict, said


def main() -> int:
    """Report counts by kind and verdict, and every finding with how it comes back. 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3200, help="of all kinds together [3200]")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--only", nargs=2, metavar=("KIND", "NUMBER"), help="one file, and what was said of it")
    options = parser.parse_args()
    kinds, only = tuple(options.kinds), None
    if options.only:
        kinds, only = (options.only[0],), int(options.only[1])
    counts: Counter[tuple[str, str]] = Counter()
    for kind, number, verdict, said in run(-(-options.files // len(kinds)), kinds, only):
        counts[kind, verdict] += 1
        if verdict not in ("fine", "refused") or only is not None:
            print(f"{kind} {number}: {verdict}\n{said[-3000:]}", flush=True)
    for (kind, verdict), count in sorted(counts.items()):
        print(f"{kind}: {verdict} {count}")
    return int(any(verdict not in ("fine", "refused") for _, verdict in counts))


if __name__ == "__main__":
    sys.exit(main())
