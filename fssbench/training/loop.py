"""A training run: the stages of a recipe on one fold, saved as it goes, resumed where it was cut off."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.randomness import stream as random_stream
from fssbench.checkpoints import Card, save_checkpoint
from fssbench.datasets.base import Dataset
from fssbench.datasets.registry import open_dataset
from fssbench.engine.devices import numerics
from fssbench.engine.evaluate import Settings
from fssbench.engine.evaluation import evaluate_method
from fssbench.engine.hashes import encoder_sha256
from fssbench.errors import MethodError, UsageError
from fssbench.names import plain_name
from fssbench.protocols import find_protocol
from fssbench.regime import Regime
from fssbench.training.base_classes import TrainingData, open_training, training_data
from fssbench.training.features import FeatureCache, Kept, kept_maps
from fssbench.training.folders import checkpoint_folder
from fssbench.training.loading import Loader
from fssbench.training.log import Log
from fssbench.training.recipe import Stage
from fssbench.training.request import TrainRequest, plan
from fssbench.training.state import Position, load_model, load_optimiser, read_position, save_state
from fssbench.training.stream import EpisodeStream
from fssbench.training.updates import Losses, Report, Updater, enter

_STEPS = 7  # the stream of seeds of steps


@dataclass
class Told:
    """What a run tells while it goes; the command line shows it, tests read it."""

    say: Callable[[str], None] = lambda text: None
    # step and last step of the stage, its losses, episodes/s, and seconds that are left of the stage
    step: Callable[[int, int, Report, float, float], None] = lambda step, total, report, speed, left: None


@dataclass(frozen=True)
class Trained:
    """What came out."""

    folder: Path
    steps: int
    best: float | None
    best_step: int | None
    state: str  # "finished", "already there"


class Run:
    """One fold of one method."""

    def __init__(self, request: TrainRequest, told: Told | None = None, kept: Kept | None = None) -> None:
        """`kept`: what trainings before this one have kept of the same encoder."""
        self.request, self.told, self._kept = request, told or Told(), kept or Kept()
        self.dataset, self.classes = open_training(request.dataset, request.root, request.fold, request.lists)
        self.recipe, self.method = plan(request, len(self.classes))
        name = checkpoint_folder(
            request.out, request.method, self.method.config.backbone, request.dataset, request.fold
        )
        self.folder = name
        self.encoder = encoder_sha256(self.method)
        self._asks = {name: parameter.requires_grad for name, parameter in self.method.named_parameters()}
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    # --- the whole run -------------------------------------------------------------------------------------------

    def train(self) -> Trained:
        """Train, or go on, or say that it is done. Raises `UsageError` where another run lies in the folder."""
        position = self._begin()
        if position.stage >= len(self.recipe.stages):
            return Trained(self.folder, self.recipe.steps, position.best, position.best_step, "already there")
        with numerics(self.request.device, self.request.precision, gradients=True):
            self.method.to(self.request.device)
            while position.stage < len(self.recipe.stages):
                position = self._stage(position)
        self._curve()
        return Trained(self.folder, self.done_steps, position.best, position.best_step, "finished")

    def outline(self) -> list[str]:
        """A line a stage: what `train` would do. Reads the data set's masks, writes nothing."""
        lines = []
        for number, stage in enumerate(self.recipe.stages):
            data = self._data(stage)
            steps = EpisodeStream(data.pool, stage, self.request.fold, self._stream_seed(number)).steps
            sizes = [(n, p.numel(), p.dim()) for n, p in self.method.named_parameters()]
            trained = sum(
                size for n, size, dim in sizes if not stage.frozen_parameter(n) and stage.group_of(n, dim) is not None
            )
            everything = sum(size for _, size, _ in sizes)
            lines.append(
                f"stage {stage.name!r}: {steps} steps of {stage.batch} episodes, {len(data.pool.support)} classes, "
                f"{len(data.ids)} images (those with novel classes {data.novel_images}), "
                f"{len(data.validation.image_ids())} held back; {stage.optimiser.kind} at {stage.optimiser.rate:g}; "
                f"{trained / 1e6:.2f} of {everything / 1e6:.2f} M parameters"
            )
        return lines

    def _data(self, stage: Stage) -> TrainingData:
        """Images are held back only where something is chosen on them."""
        asked = self.request
        chosen = asked.validate > 0 and not asked.select_on_test
        return training_data(self.dataset, asked.fold, self.classes, stage, hold_back=chosen)

    def _stream_seed(self, stage: int) -> int:
        return self.request.seed + 1000 * stage

    def identity(self) -> str:
        """What is being trained, hashed: everything that decides the weights."""
        request = self.request
        what = {
            "method": request.method, "config": self.method.config.model_dump(mode="json"), "dataset": request.dataset,
            "lists": self.dataset.pool, "fold": request.fold, "seed": request.seed, "precision": request.precision,
            "recipe": {name: value for name, value in asdict(self.recipe).items() if name != "gpus"},
            "encoder": self.encoder, "accumulate": request.accumulate,
            "validate": [request.validate, request.validation_episodes, request.select_on_test], "start": request.start,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()

    def _begin(self) -> Position:
        identity, state = self.identity(), self.folder / "state.safetensors"
        if not state.exists() or self.request.force:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "log.csv").unlink(missing_ok=True)
            state.unlink(missing_ok=True)
            return Position(identity)
        position = read_position(state)
        if position.identity != identity:
            raise UsageError(
                f"{self.folder} holds another training (other data, recipe, settings or seed): expected the one asked "
                "for. Say --force to start anew in its place, or choose another --out."
            )
        load_model(state, self.method)
        return position

    # --- one stage -----------------------------------------------------------------------------------------------

    def _stage(self, position: Position) -> Position:
        request, stage = self.request, self.recipe.stages[position.stage]
        data = self._data(stage)
        episodes = EpisodeStream(data.pool, stage, request.fold, self._stream_seed(position.stage))
        if stage.batch % self.world:
            raise UsageError(f"--batch: expected a number that {self.world} processes can share, found {stage.batch}")
        total = episodes.steps
        for name, parameter in self.method.named_parameters():
            parameter.requires_grad_(self._asks[name])  # whatever a stage before this one froze
        updater = Updater(self.method, stage, total)
        updater.losses = self._wrapped(updater.losses)
        state = self.folder / "state.safetensors"
        if position.step:
            load_optimiser(state, updater.optimiser)
        loader = Loader(self.method, stage, data, episodes, (self.rank, self.world))
        enter(self.method, stage)
        maps = kept_maps(self.method, stage)
        cache = FeatureCache(self.method, maps, request.device, self._kept) if maps else None
        log = Log(self.folder, stage.name, position) if self.rank == 0 else None
        last_stage = position.stage == len(self.recipe.stages) - 1
        marks = self._marks(total) if last_stage else set()
        begun, first = time.perf_counter(), position.step
        for step, parts in loader.batches(position.step, total, request.workers, request.accumulate):
            torch.manual_seed(self._step_seed(position.stage, step))
            made = parts if cache is None else [cache.fill(part) for part in parts]
            report = updater.step([part.to(request.device) for part in made], step)
            if not report.finite and updater.scaler is None:
                raise self._not_finite(report, stage, step, episodes, data)
            if log is not None:
                log.write(step, report)
            each = (time.perf_counter() - begun) / (step + 1 - first)
            self.told.step(step + 1, total, report, stage.batch / each, (total - step - 1) * each)
            position = position.but(step=step + 1)
            if step + 1 in marks:
                position = self._validate(position, data, stage, total, log)
            if self.rank == 0 and ((step + 1) % request.save_every == 0 or step + 1 in marks) and step + 1 < total:
                save_state(state, self.method, updater.optimiser, position)
        if log is not None:
            log.close()
        position = position.but(stage=position.stage + 1, step=0)
        if self.rank == 0:
            if last_stage:
                self._save("last", data, stage, total, None)
                if position.best is None:  # nothing could be chosen on
                    self._save("best", data, stage, total, "nothing")
            save_state(state, self.method, updater.optimiser, position)
        self.done_steps = total
        return position

    def _wrapped(self, losses: nn.Module) -> nn.Module:
        if self.world == 1:
            return losses
        return nn.parallel.DistributedDataParallel(losses, find_unused_parameters=True)

    def _step_seed(self, stage: int, step: int) -> int:
        """Of dropout and the like; each process has its own."""
        words = random_stream(self.request.seed, _STEPS, stage, step, self.rank).bit_generator.random_raw()
        return int(words) >> 1

    def _not_finite(
        self, report: Report, stage: Stage, step: int, episodes: EpisodeStream, data: TrainingData
    ) -> MethodError:
        shown = [f"{data.ids[one.query]} ({data.dataset.class_names[one.classes[0]]})" for one in episodes.batch(step)]
        terms = ", ".join(f"{name} {value:.4g}" for name, value in report.terms.items())
        return MethodError(
            f"{self.method.info.title}, fold {self.request.fold}: the loss or its gradient is not a number at step "
            f"{step + 1} of stage {stage.name!r} ({terms}; rate {report.rate:.2g}; episodes {step * stage.batch} on, "
            f"queries {', '.join(shown[:8])}). The last good state is in {self.folder}. Lower the rate, or use fp32."
        )

    # --- choosing a checkpoint -----------------------------------------------------------------------------------

    def _marks(self, total: int) -> set[int]:
        """The steps after which the method is evaluated."""
        times = self.request.validate
        return {max(1, total * k // times) for k in range(1, times + 1)} if times else set()

    def _validate(self, position: Position, data: TrainingData, stage: Stage, total: int, log: Log | None) -> Position:
        """Evaluate by the engine on the validation bank, and keep the weights if they are the best so far."""
        request = self.request
        with open_bank(self._bank(data, stage)) as bank:
            settings = Settings(request.device, precision=request.precision)
            found = evaluate_method(self.method, bank, stage.shots, [request.fold], settings).summary
        miou = found["folds"][str(request.fold)]["miou"] if "folds" in found else None
        if miou is None:
            self.told.say(f"step {position.step}: no validation mIoU, as a class has no episode")
            return position
        if log is not None:
            log.tell(position.step - 1, {"validation mIoU": miou})
        better = position.best is None or miou > position.best
        if better:
            position = position.but(best=miou, best_step=position.step)
        best = (
            "the best so far"
            if better
            else f"best so far {100 * (position.best or 0):.1f} at step {position.best_step}"
        )
        self.told.say(f"step {position.step}: validation mIoU {100 * miou:.1f}, {best}")
        if better and self.rank == 0:
            self._save("best", data, stage, position.step, "novel" if request.select_on_test else "base")
        return position

    def _bank(self, data: TrainingData, stage: Stage) -> Path:
        """Episodes of base classes on images held back, or of the tested classes if so asked."""
        request = self.request
        kind = "test" if request.select_on_test else "base"
        path = self.folder / f"validation-{kind}-{request.validation_episodes}.h5"
        if path.exists() and not request.force:
            return path
        protocol = find_protocol("fssbench").but(episodes=request.validation_episodes, seeds=(1,))
        source: Dataset = data.validation
        if request.select_on_test:
            source = open_dataset(request.dataset, request.root)
        if source.min_area is not None:
            protocol = protocol.but(min_area=source.min_area)
        wanted = Request(
            protocol, (stage.shots,), stage.ways, (request.fold,), auxiliary=stage.auxiliary, skip_short=True
        )
        if self.rank == 0:
            generate(source, wanted, path, force=True)
        if self.world > 1:
            dist.barrier()
        return path

    def _save(self, name: str, data: TrainingData, stage: Stage, steps: int, selected: str | None) -> None:
        """`best` or `last`, with its card."""
        request = self.request
        facts: dict[str, Any] = {
            "recipe": request.recipe, "steps": steps, "batch": stage.batch, "ways": stage.ways, "shots": stage.shots,
            "seed": request.seed, "selected_on": selected or "nothing",
        }  # fmt: skip
        regime = Regime.model_validate(data.regime().model_dump() | facts)
        state = dict(self.method.state_dict())
        frozen = None
        unchanged = encoder_sha256(self.method) == self.encoder
        if unchanged and request.start == "imagenet" and not request.whole:
            frozen = self.encoder
            state = {key: value for key, value in state.items() if not key.startswith("encoder.")}
        card = Card(
            method=plain_name(request.method),
            backbone=self.method.config.backbone,
            config=self.method.config.model_dump(mode="json"),
            regime=regime,
            source="fssbench train",
            encoder_sha256=frozen,
        )
        save_checkpoint(self.folder / f"{name}.safetensors", state, card, force=True)

    def _curve(self) -> None:
        if self.rank == 0:
            from fssbench.training.curve import draw_curve

            draw_curve(self.folder / "log.csv", self.folder / "curve.png")


__all__ = ["Losses", "Run", "Told", "TrainRequest", "Trained", "checkpoint_folder", "plan"]
