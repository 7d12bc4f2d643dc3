"""A training (method, fold, seed) as one task: on a node, and as its driver sees it."""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import fssbench
import methods
from fssbench.cluster.episodes import inside
from fssbench.cluster.parcels import Parcel, in_parts, local_folder, pack, unpack, write_part
from fssbench.cluster.schedule import NotThereError, Post, Work
from fssbench.datasets.registry import data_root
from fssbench.engine.devices import pick_device
from fssbench.engine.journal import Lock
from fssbench.engine.provenance import git_state
from fssbench.errors import DataError, MethodError, RecordError, UsageError
from fssbench.training.folders import checkpoint_folder
from fssbench.training.loop import Run, Told, Trained
from fssbench.training.request import TrainRequest, find_recipe
from fssbench.training.state import read_position

STATE = "state.safetensors"
_EVERY = 60.0  # s between two copies of a training's state to the driver


@dataclass(frozen=True)
class Training:
    """Goes to a node."""

    request: TrainRequest
    device: str
    processes: int  # several: by torchrun
    code: str
    folder: Path  # where the driver runs
    begun: Parcel | None  # the driver's copy of the training's folder, to go on from
    every: float

    def carry_out(self, post: Post, parcels: dict[str, Parcel]) -> None:
        """Train below this node's temporary folder, and post the files as they change.

        Raises `MethodError` where the training itself fails, `RecordError` where the code is not the driver's.
        """
        if sources_sha256() != self.code:
            raise RecordError(
                f"code: expected {self.code}, as the driver's, found {sources_sha256()} (revision here: "
                f"{git_state()[0]}). Bring the node to the driver's state, or leave it out."
            )
        out = local_folder() / "trainings" / _digest(self.request)
        with inside(self.folder), Lock(out / ".lock"):
            request = replace(self.request, out=out, root=self._root(parcels), device=pick_device(self.device))
            try:
                folder = training_folder(request)
                self._resume(folder)
                files = _Files(folder, post, self.every)
                work = _in_thread if self.processes == 1 else _by_torchrun
                for _ in work(request, self.processes, post):
                    files.send()
                files.send(last=True)
            except (UsageError, DataError) as error:
                raise self._as_told(error, parcels) from error
        shutil.rmtree(out, ignore_errors=True)

    def _root(self, parcels: dict[str, Parcel]) -> Path | None:
        root = self.request.root
        if root is not None and not root.exists() and str(root) in parcels:
            return unpack(parcels[str(root)])
        return root

    def _as_told(self, error: UsageError | DataError, parcels: dict[str, Parcel]) -> Exception:
        """Data that lack here are sent; everything else would be told by any node."""
        root = self.request.root
        if isinstance(error, DataError) and root is not None and not root.exists() and str(root) not in parcels:
            return NotThereError(str(root))
        return error if isinstance(error, DataError) else MethodError(str(error))

    def _resume(self, folder: Path) -> None:
        """Go on from what came back or, where that is further, from what a killed task left here."""
        here = folder / STATE
        if self.request.force and self.begun is None:
            shutil.rmtree(folder, ignore_errors=True)
        if self.begun is None:
            return
        copy = unpack(self.begun)
        if not here.exists() or _place(copy / STATE) > _place(here):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(copy, folder)
        shutil.rmtree(copy.parent, ignore_errors=True)


class Learning(Work):
    """The driver's side: files go where `fssbench train` would have written them."""

    kind = "train"

    def __init__(
        self, request: TrainRequest, device: str, gpus: int, say: Callable[[str], None], *, every: float = _EVERY
    ) -> None:
        """`gpus`: those of the largest node; 0: trains on a CPU."""
        super().__init__()
        self._request, self._device, self._say, self._every = request, device, say, every
        self._processes = processes(request, gpus)
        if self._processes > 1:
            self.gpus = float(self._processes)
        self.folder = training_folder(request)
        self.name = f"train {request.method} on {request.dataset}, fold {request.fold}, seed {request.seed}"
        self.trained: Trained | None = None
        self.failure = ""
        self._came = False

    def payload(self) -> Training:
        """The training, and how far it is."""
        import ray

        fresh = self._request.force and not self._came
        begun = None if fresh or not (self.folder / STATE).exists() else pack(ray, self.folder)
        request = replace(self._request, force=fresh, root=data_root(self._request.root))
        return Training(request, self._device, self._processes, sources_sha256(), Path.cwd(), begun, self._every)

    def take(self, message: Any, host: str) -> None:
        """A part of a file, a step, a remark, or the end."""
        what, *values = message
        if what == "file":
            self._came = True
            write_part(self.folder, *values)
        elif what == "step":
            self.share = max(self.share, values[0] / max(1, values[1]) * 0.99)
        elif what == "say":
            self._say(f"{self.name}: {values[0]}")
        else:
            self.trained = replace(values[0], folder=self.folder)

    def complete(self) -> bool:
        """Whether its node said what came out, which it does last."""
        return self.trained is not None

    def fail(self, message: str) -> None:
        """It is the training's own fault."""
        self.failure = message


def training_folder(request: TrainRequest) -> Path:
    """Where a training's files lie. Raises `MethodError` for an unknown method or recipe."""
    from fssbench.registry import find_method
    from fssbench.settings import parse_settings
    from fssbench.training.request import recipe_settings

    chosen = [*recipe_settings(request.method, request.recipe)]
    chosen += [f"backbone={request.backbone}"] if request.backbone else []
    config = parse_settings(find_method(request.method).Config, (*chosen, *request.settings))
    return checkpoint_folder(request.out, request.method, config.backbone, request.dataset, request.fold)


def processes(request: TrainRequest, gpus: int) -> int:
    """How many processes, a GPU each: as many as the recipe's authors had, as far as a node has them and they share
    every stage's batch."""
    recipe = find_recipe(request.method, request.recipe)
    batches = [stage.batch for stage in recipe.stages[:-1]] + [request.batch or recipe.stages[-1].batch]
    fit = [n for n in range(1, min(recipe.gpus, gpus) + 1) if all(batch % n == 0 for batch in batches)]
    return max(fit, default=1)


@cache
def sources_sha256() -> str:
    """SHA-256 over every module of fssbench and methods, as they were when this process first asked."""
    digest = hashlib.sha256()
    for package in (fssbench, methods):
        root = Path(str(package.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _digest(request: TrainRequest) -> str:
    what = asdict(replace(request, force=False))
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _place(state: Path) -> tuple[int, int]:
    position = read_position(state)
    return position.stage, position.step


class _Files:
    """Sends what changed, the state last: with the state come the files that it goes on with, never older ones."""

    def __init__(self, folder: Path, post: Post, every: float) -> None:
        self._folder, self._post, self._every = folder, post, every
        self._known = self._stamps()
        self._sent = time.monotonic()

    def send(self, *, last: bool = False) -> None:
        """If it is time and there is a new state."""
        state = self._folder / STATE
        if not state.exists() or (not last and time.monotonic() - self._sent < self._every):
            return
        with state.open("rb") as held:  # replaced by the training meanwhile, this one stays what it is
            stamps = self._stamps()
            if last or stamps.get(STATE) != self._known.get(STATE):
                for name in sorted(stamps):
                    if name != STATE and stamps[name] != self._known.get(name):
                        with (self._folder / name).open("rb") as file:
                            self._parts(name, file)
                self._parts(STATE, held)
            self._known, self._sent = stamps, time.monotonic()

    def _parts(self, name: str, file: BinaryIO) -> None:
        for part in in_parts(file):
            self._post(("file", name, *part))

    def _stamps(self) -> dict[str, tuple[int, int]]:
        files = [p for p in self._folder.rglob("*") if p.is_file() and not p.name.endswith((".tmp", ".part"))]
        return {str(p.relative_to(self._folder)): (p.stat().st_mtime_ns, p.stat().st_size) for p in files}


def _in_thread(request: TrainRequest, _: int, post: Post) -> Iterator[None]:
    """Train in this process; yields while it goes on."""
    ended: list[Any] = []

    def train() -> None:
        try:
            told = Told(lambda text: post(("say", text)), lambda step, total, *rest: steps.append((step, total)))
            ended.append(Run(request, told).train())
        except BaseException as error:  # noqa: BLE001 (raised again by whoever waits)
            ended.append(error)

    steps: list[tuple[int, int]] = []
    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.5)
        if steps:
            post(("step", *steps[-1]))
            steps.clear()
        yield
    if isinstance(ended[0], BaseException):
        raise ended[0]
    yield
    post(("end", ended[0]))


def _by_torchrun(request: TrainRequest, count: int, post: Post) -> Iterator[None]:
    """Train in so many processes; yields while they go on."""
    command = [*(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)),
               *("-m", "fssbench"), *arguments(request)]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=_die_with_parent
    ) as process:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        while process.poll() is None:
            time.sleep(0.5)
            steps = [found for line in lines[-20:] if (found := re.search(r"step (\d+) of (\d+)", line))]
            if steps:
                post(("step", int(steps[-1][1]), int(steps[-1][2])))
            yield
        reader.join(5)
    if process.returncode:
        raise MethodError(f"torchrun ended with status {process.returncode}: {''.join(lines[-20:]).strip()[-2000:]}")
    yield
    (result,) = json.loads("".join(lines[max(i for i, line in enumerate(lines) if line == "[\n") :]))
    post((
        "end",
        Trained(Path(result["folder"]), *(result[name] for name in ("steps", "best", "best_step", "state"))),
    ))  # fmt: skip


def _die_with_parent() -> None:
    """Ray kills a task's process, which must not leave torchrun behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def arguments(request: TrainRequest) -> list[str]:
    """The command line of `fssbench train` that asks for this training."""
    options: dict[str, Any] = {
        "--dataset": request.dataset, "--folds": request.fold, "--root": request.root, "--lists": request.lists,
        "--recipe": request.recipe, "--backbone": request.backbone, "--steps": request.steps,
        "--batch": request.batch, "--shots": request.shots, "--seed": request.seed, "--out": request.out,
        "--weights": request.start, "--device": request.device, "--precision": request.precision,
        "--accumulate": request.accumulate, "--workers": request.workers, "--validate": request.validate,
        "--save-every": request.save_every,
    }  # fmt: skip
    flags = {"--select-on-test": request.select_on_test, "--whole": request.whole, "--force": request.force}
    pairs = [(name, str(value)) for name, value in options.items() if value is not None]
    pairs += [("--set", setting) for setting in request.settings]
    return ["train", request.method, *(word for pair in pairs for word in pair),
            *(name for name, on in flags.items() if on), "--json"]  # fmt: skip
