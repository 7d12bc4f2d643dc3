"""Whether a method learns: a few hundred steps of its own loss on base classes of shapes5i, mIoU on novel classes.

    python benchmarks/learning.py pl [--crop] [--steps N] [--rate R] [--episodes B] [--set FIELD=VALUE ...] [--out FILE]

Prints the mIoU of a fold's novel classes before and after, on the same frozen episodes. It is a check of losses and
gradients, not a recipe: AdamW for every method, ImageNet weights of a small backbone, its statistics held fixed and
its first stages too. Objects are a tenth of the pixels of shapes5i; from whole pictures OSLSM and PL learn in so few
steps that all is background, so `--crop` cuts the training queries out around their objects.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fssbench.backbones import Backbone
from fssbench.banks.bank import Bank, Episodes, open_bank
from fssbench.banks.generate import Request, generate
from fssbench.datasets.decode import decode_image
from fssbench.datasets.registry import open_dataset
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.devices import numerics
from fssbench.engine.evaluate import Contender, Settings, evaluate_fold
from fssbench.engine.inputs import fit_image, fit_label, normalise, read_pixels
from fssbench.engine.sources import BankImages
from fssbench.files import atomic_write_text
from fssbench.method import EpisodeBatch, Method, Preprocess, build_episodes
from fssbench.protocol import find_protocol
from fssbench.scoring.pixels import iou

CPU = torch.device("cpu")


def make_bank(folder: Path, pool: str, fold: int, episodes: int, auxiliary: int) -> Path:
    """A bank of 1-shot episodes: of the novel classes from the pool `test`, of the base classes from `train`."""
    path = folder / f"shapes5i-{pool}-{fold}-{episodes}-{auxiliary}.h5"
    if not path.exists():
        protocol = find_protocol("fssbench").but(episodes=episodes)
        generate(open_dataset("shapes5i", pool=pool), Request(protocol, (1,), folds=(fold,), auxiliary=auxiliary), path)
    return path


def novel_miou(bank: Bank, fold: int, method: Method) -> float:
    """Mean over the novel classes of IoU, in points."""
    totals: dict[int, NDArray[np.int64]] = {}
    episodes = bank.episodes(fold, 1)

    def take(fold: int, shot: int, rows: Sequence[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]) -> None:
        for row, counts, _ in rows:
            class_id = int(episodes.classes[row, 0])
            totals[class_id] = totals.get(class_id, 0) + counts[0]

    everything = np.arange(len(episodes.query))
    contender = Contender("method", method.eval(), [1], lambda fold, shot: everything, take)
    with numerics(CPU, "fp32"):
        evaluate_fold(bank, fold, episodes, [contender], Settings(CPU))
    if contender.error is not None:
        raise contender.error
    return 100 * float(np.mean([iou(counts) for counts in totals.values()]))


class TrainingEpisodes:
    """Batches of a bank's episodes, in order, with what a loss needs."""

    def __init__(self, bank: Bank, fold: int, method: Method, crop: bool = False) -> None:
        self._bank, self._method, self._crop = bank, method, crop
        self._random = np.random.default_rng(0)
        self._episodes: Episodes = bank.episodes(fold, 1)
        self._images = BankImages(bank)

    def batches(self, size: int) -> Iterator[EpisodeBatch]:
        """B x 1 x 1 episodes; a generator, so that their graphs are not all alive at once."""
        for start in range(0, len(self._episodes.query) - size + 1, size):
            yield self._batch(np.arange(start, start + size))

    def _batch(self, rows: NDArray[np.int64]) -> EpisodeBatch:
        drawn, method = self._episodes, self._method
        classes, queries, supports = drawn.classes[rows, 0].tolist(), drawn.query[rows], drawn.support[rows, 0, 0]
        labels = [
            fit_label(self._bank.mask(image, class_id), method.support_input)
            for image, class_id in zip(supports.tolist(), classes, strict=True)
        ]
        shown, truth = zip(*map(self._query, queries.tolist(), classes), strict=True)
        used = drawn.auxiliary[rows] if method.info.uses_auxiliary and drawn.auxiliary is not None else None
        return build_episodes(
            method,
            torch.stack(shown),
            self._pixels(supports, method.support_input)[:, None, None],
            torch.stack(labels)[:, None, None],
            torch.stack(truth).long(),
            None if used is None else self._pixels(used.ravel(), method.query_input).unflatten(0, used.shape),
        )

    def _query(self, image: int, class_id: int) -> tuple[Tensor, Tensor]:
        """The query's pixels and truth; with `crop` a cutting around its objects, up to half their size away."""
        picture, labels = decode_image(self._bank.image_bytes(image), "query"), self._bank.mask(image, class_id)
        if self._crop:
            rows, columns = (np.flatnonzero((labels == 1).any(axis)) for axis in (1, 0))
            sides = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])
            away = self._random.uniform(0.05, 0.5, 4) * np.repeat(sides[[1, 3]] - sides[[0, 2]], 2) * (-1, 1, -1, 1)
            limits = np.repeat(labels.shape, 2)
            top, bottom, left, right = np.clip(sides + away, 0, limits).astype(int).tolist()
            picture, labels = picture.crop((left, top, right, bottom)), labels[top:bottom, left:right]
        how = self._method.query_input
        return normalise(fit_image(picture, how), how), fit_label(labels, how)

    def _pixels(self, images: NDArray[np.int64], how: Preprocess) -> Tensor:
        return normalise(torch.stack([read_pixels(self._images, image, how) for image in images.tolist()]), how)


def parameters(method: Method) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Those of the backbones and those of the method's own layers. The first third of a backbone is frozen."""
    of_backbones: set[int] = set()
    for backbone in (module for module in method.modules() if isinstance(module, Backbone)):
        found = list(backbone.parameters())
        of_backbones.update(map(id, found))
        for early in found[: len(found) // 3]:
            early.requires_grad_(False)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    return [p for p in trained if id(p) in of_backbones], [p for p in trained if id(p) not in of_backbones]


def train(
    method: Method, episodes: TrainingEpisodes, steps: int, batch: int, rate: float, backbone_rate: float
) -> float:
    """Update backbones and heads; returns the mean loss of the last fifth of the steps."""
    backbones, own = parameters(method)
    groups = [{"params": backbones, "lr": backbone_rate}, {"params": own, "lr": rate}]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / 20) * (1 - step / steps) ** 0.9
    )
    method.train()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    losses, begun = [], time.perf_counter()
    for step, drawn in enumerate(episodes.batches(batch), 1):
        loss = method.loss(drawn)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*backbones, *own], 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 25 == 0:
            print(f"step {step}: loss {np.mean(losses[-25:]):.4g}, {time.perf_counter() - begun:.0f} s", flush=True)
    return float(np.mean(losses[-max(1, steps // 5) :]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", default="panet")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--episodes", type=int, default=4, help="a step")
    parser.add_argument("--rate", type=float, default=1e-3, help="of the method's own layers")
    parser.add_argument("--backbone-rate", type=float, default=1e-4)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--set", dest="settings", nargs="*", default=["size=161,161"], metavar="FIELD=VALUE")
    parser.add_argument(
        "--crop", action="store_true", help="train on cuttings of the queries, in which objects are large"
    )
    parser.add_argument("--test-episodes", type=int, default=200)
    parser.add_argument("--auxiliary", type=int, default=2, help="images an episode, for methods that use them")
    parser.add_argument("--banks", type=Path, help="where the banks are kept; a temporary folder by default")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    spec = MethodSpec(options.method, tuple(options.settings), options.backbone, "imagenet")
    method, _ = build_method(spec, options.fold)
    auxiliary = options.auxiliary if method.info.uses_auxiliary else 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.banks or Path(temporary)
        paths = [
            make_bank(folder, pool, options.fold, count, auxiliary)
            for pool, count in (("test", options.test_episodes), ("train", options.steps * options.episodes))
        ]
        with open_bank(paths[0]) as novel, open_bank(paths[1]) as base:
            figures = {"method": options.method, "settings": options.settings, "steps": options.steps}
            figures["novel_miou_before"] = novel_miou(novel, options.fold, method)
            print(json.dumps(figures), flush=True)
            figures["loss"] = train(
                method,
                TrainingEpisodes(base, options.fold, method, options.crop),
                options.steps,
                options.episodes,
                options.rate,
                options.backbone_rate,
            )
            figures["novel_miou_after"] = novel_miou(novel, options.fold, method)
    text = json.dumps(figures, indent=1)
    print(text)
    if options.out:
        atomic_write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
