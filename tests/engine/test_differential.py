"""Built-in methods through the engine against a loop that does everything anew, one episode at a time.

The loop is written for clarity and shares nothing with the engine but the bank and the method itself: no plan, no
cache, no batches. Batches round differently, so counts may differ by the few pixels in which two logits nearly tie.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from toy_data import make_bank
from toy_runs import frames

from fssbench.banks.bank import Bank, open_bank
from fssbench.checkpoints import Card, save_checkpoint
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.evaluate import Settings
from fssbench.engine.run import RunRequest, run_methods
from fssbench.method import EpisodeBatch, Features, Method, Preprocess, SupportBatch
from fssbench.records import COUNTS
from fssbench.regime import Regime

BACKBONE = "efficientnet_lite0"
NEARLY_TIED = 6  # px of about 1,800 an image


# --- the loop --------------------------------------------------------------------------------------------------------


def picture(bank: Bank, image: int, how: Preprocess) -> torch.Tensor:
    """3 x H x W."""
    opened = Image.open(io.BytesIO(bank.image_bytes(image))).convert("RGB")
    height, width = how.fitted(opened.height, opened.width)
    pixels = np.asarray(opened.resize((width, height), Image.Resampling.BILINEAR))
    if how.fit == "pad":
        assert how.size is not None
        pixels = np.pad(pixels, ((0, how.size[0] - height), (0, how.size[1] - width), (0, 0)))
    if how.channels == "bgr":
        pixels = pixels[..., ::-1]
    values = (pixels / np.float32(255) - np.array(how.mean)) / np.array(how.std)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))).float()


def support_label(bank: Bank, kind: str, image: int, classes: Sequence[int], way: int, how: Preprocess) -> torch.Tensor:
    """H x W codes."""
    codes = bank.masks.annotation(kind, image, classes[way]).copy()
    for other in classes[:way] + classes[way + 1 :]:
        codes[(bank.masks.of_class(image, other) == 1) & (codes == 0)] = 2
    height, width = how.fitted(*codes.shape)
    codes = np.asarray(Image.fromarray(codes).resize((width, height), Image.Resampling.NEAREST))
    if how.fit == "pad":
        assert how.size is not None
        codes = np.pad(codes, ((0, how.size[0] - height), (0, how.size[1] - width)), constant_values=255)
    return torch.from_numpy(codes.copy())


def truth_of(bank: Bank, query: int, classes: Sequence[int]) -> NDArray[np.uint8]:
    masks = [bank.masks.of_class(query, class_id) for class_id in classes]
    truth = np.where(masks[0] == 255, 255, 0)
    for way, mask in enumerate(masks, 1):
        truth[mask == 1] = way
    return truth.astype(np.uint8)


def resized(maps: torch.Tensor, size: tuple[int, int], method: Method) -> torch.Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=method.align_corners)


def nearest(label: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """As torch takes the nearest: the pixel at the rounded-down place."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, label.shape, strict=True))
    return label[rows][:, columns]


def prediction(method: Method, bank: Bank, fold: int, shot: int, row: int, kind: str, ways: Sequence[int]) -> Any:
    """Logits, [S x] (1 + N) x h x w, of one episode with some of its ways."""
    drawn = bank.episodes(fold, shot)
    classes = drawn.classes[row].tolist()
    of_query, of_support = method.query_input, method.support_input
    auxiliary = None
    if method.info.uses_auxiliary:
        assert drawn.auxiliary is not None
        seen = [picture(bank, i, of_query)[None] for way in ways for i in drawn.auxiliary[row, way].tolist()]
        auxiliary = joined([method.encode(image) for image in seen])
    pictures, labels, encoded = [], [], []
    for way in ways:
        for image in drawn.support[row, way].tolist():
            pixels = picture(bank, image, of_support)[None]
            label = support_label(bank, kind, image, classes, way, of_support)[None]
            features = method.encode(pixels) if method.encodes_support else {}
            encoded.append(method.encode_support(SupportBatch(features, label, lambda pixels=pixels: pixels)))
            pictures.append(pixels)
            labels.append(label)
    query = picture(bank, int(drawn.query[row]), of_query)[None]
    batch = EpisodeBatch.of(
        (1, len(ways), shot), (query.shape[-2], query.shape[-1]), method.encode(query), joined(encoded),
        lambda: torch.cat(labels), auxiliary=auxiliary, query_pixels=query, support_pixels=lambda: torch.cat(pictures),
    )  # fmt: skip
    return method.segment(batch)[0]


def joined(each: Sequence[Features]) -> Features:
    return {name: torch.cat([features[name] for features in each]) for name in each[0]}


def scored(method: Method, logits: torch.Tensor, bank: Bank, query: int, truth: NDArray[np.uint8]) -> Any:
    """(logits, truth) where the bank's protocol compares them."""
    maps = logits if logits.dim() == 4 else logits[None]
    scoring, (height, width) = bank.protocol.scoring, bank.image_sizes[query].tolist()
    how = method.query_input
    if scoring == "original" or scoring[0] == "square":
        if how.fit == "pad":
            assert how.size is not None
            fitted = how.fitted(height, width)
            maps = resized(maps, how.size, method)[..., : fitted[0], : fitted[1]]
        side = (height, width) if scoring == "original" else (scoring[1], scoring[1])
        maps = resized(maps, side, method)
        return maps.reshape(*logits.shape[:-2], *side), nearest(truth, side)
    longer = scoring[1]
    content = round(height * longer / max(height, width)), round(width * longer / max(height, width))
    canvas = np.full((longer, longer), 255, np.uint8)
    canvas[: content[0], : content[1]] = nearest(truth, content)
    if how.fit == "pad":
        maps = resized(maps, (longer, longer), method)
    else:
        maps = F.pad(resized(maps, content, method), (0, longer - content[1], 0, longer - content[0]))
    return maps.reshape(*logits.shape[:-2], longer, longer), canvas


def naive_label(method: Method, bank: Bank, fold: int, shot: int, row: int, kind: str) -> Any:
    """(predicted labels, truth) of one episode."""
    drawn, ways = bank.episodes(fold, shot), range(bank.ways)
    query, classes = int(drawn.query[row]), drawn.classes[row].tolist()
    truth = truth_of(bank, query, classes)
    if method.info.max_ways is None or bank.ways == 1:
        logits = prediction(method, bank, fold, shot, row, kind, ways)
        maps, canvas = scored(method, logits, bank, query, truth)
        return method.decide(maps[None])[0].numpy(), canvas
    label, best = None, None
    for way in ways:  # a pixel goes to the way that claims it by the widest margin
        maps, canvas = scored(method, prediction(method, bank, fold, shot, row, kind, [way]), bank, query, truth)
        claimed = method.decide(maps[None])[0].numpy() > 0
        margin = maps[..., 1, :, :] - maps[..., 0, :, :]
        margin = (margin.mean(0) if margin.dim() == 3 else margin).numpy()
        if label is None or best is None:
            label, best = np.zeros(canvas.shape, int), np.full(canvas.shape, -np.inf)
        wins = claimed & (margin > best)
        label[wins], best[wins] = way + 1, margin[wins]
    return label, canvas


def naive_counts(spec: MethodSpec, bank: Bank, folds: Sequence[int], shot: int, kind: str) -> Iterator[list[int]]:
    """Fold, episode, way and the six counts."""
    for fold in folds:
        method, _ = build_method(spec, fold)
        for row in range(len(bank.episodes(fold, shot).query)):
            label, truth = naive_label(method, bank, fold, shot, row, kind)
            void = truth == 255
            for way in range(0 if bank.ways > 1 else 1, bank.ways + 1):
                said, true = label == way, truth == way
                counts = [said & true, said & ~true & ~void, ~said & true, ~said & ~true & ~void, said & void]
                yield [fold, row, way, *(int(each.sum()) for each in (*counts, ~said & void))]


# --- the comparison --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is run. `scoring` and `nested` are the protocol's."""

    method: str
    settings: tuple[str, ...] = ("size=64,96",)
    shots: tuple[int, ...] = (1, 3)
    ways: int = 1
    kind: str = "mask"
    scoring: Any = "original"
    nested: bool = True
    auxiliary: int = 0

    def spec(self, weights: str = "random") -> MethodSpec:
        return MethodSpec(self.method, self.settings, BACKBONE, weights, seed=3)


# Methods whose random weights claim some pixels and leave others, or are made to: else anything would agree.
CASES = [
    Case("panet", ways=2),
    Case("panet", shots=(3,), kind="box", scoring=("square", 40)),
    Case("panet", shots=(3,), kind="scribble", scoring=("padded", 52)),
    Case("prototype", ways=2, kind="box", nested=False),
    Case("pfenet", ("size=64,64", "ppm_scales=0.5,0.25"), shots=(2,), ways=2),
    Case("sgone", ("size=none",), shots=(2,), ways=2),
    Case("fsil", auxiliary=2, ways=2, shots=(2,)),
    Case("balanced_methods:CANet", ("size=65,65",), shots=(2,)),
    Case("balanced_methods:FSS1000", ("size=64,64",), shots=(2,)),
    Case("balanced_methods:HSNet", ("size=128,128",), nested=False),
    Case(
        "balanced_methods:OSLSM", ("stride=8", "width=32", "codes=50", "support_size=64,64", "size=64,96"), shots=(2,)
    ),
    Case("balanced_methods:PL", shots=(1,), ways=2),
    Case("balanced_methods:PMMs", ("size=64,96", "components=2"), shots=(2,)),
    Case("balanced_methods:SGOne", ("size=none",), nested=False),
    Case("balanced_methods:SGOne", ("size=none", "fusion=max"), shots=(2,)),
]


def bank_for(case: Case, path: Path) -> Path:
    changes = {"scoring": case.scoring, "nested": case.nested}
    kinds = () if case.kind == "mask" else (case.kind,)
    shots = max(case.shots) if case.nested else case.shots
    return make_bank(path, 2, case.ways, shots, changes, annotations=kinds, auxiliary=case.auxiliary)


def compared(case: Case, path: Path, out: Path, specs: Sequence[MethodSpec], listener: Any) -> list[NDArray[np.int64]]:
    """The rows of each record, by spec and shot, once they are those of the loop."""
    settings = Settings(torch.device("cpu"), annotation=case.kind, head_batch=3)
    outcomes = run_methods(RunRequest(specs, path, settings, case.shots, out=out), listener)
    assert [outcome.message for outcome in outcomes] == [""] * len(outcomes)
    found = [frame[["fold", "episode", "way", *COUNTS]].to_numpy() for frame in frames(outcomes)]
    with open_bank(path) as bank, torch.inference_mode():
        wanted = [
            np.array(list(naive_counts(spec, bank, sorted(bank.fold_classes), shot, case.kind)))
            for spec in specs
            for shot in case.shots
        ]
    for ours, naive in zip(found, wanted, strict=True):
        assert (ours[:, :3] == naive[:, :3]).all()
        assert np.abs(ours - naive).max() <= NEARLY_TIED
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_engine_counts_what_a_loop_over_single_episodes_counts(case: Case, tmp_path: Path, listener: Any) -> None:
    path = bank_for(case, tmp_path / "bank.h5")
    rows = np.concatenate(compared(case, path, tmp_path / "out", [case.spec()], listener))
    ones = rows[rows[:, 2] == 1]
    claimed, left = ones[:, 3] + ones[:, 4], ones[:, 5] + ones[:, 6]
    assert claimed.max() > 20
    assert left.max() > 20


def test_checkpoints_of_one_encoder_and_of_each_fold_keep_to_themselves(tmp_path: Path, listener: Any) -> None:
    case = Case("panet")
    path = bank_for(case, tmp_path / "bank.h5")
    for seed in range(4):  # training a, fold 0 and 1; training b, fold 0 and 1
        method, _ = build_method(MethodSpec("panet", case.settings, BACKBONE, "random", seed), 0)
        card = Card(
            method="panet", backbone=BACKBONE, config=method.config.model_dump(mode="json"),
            regime=Regime(dataset="toy", fold=seed % 2), source="a test",
        )  # fmt: skip
        save_checkpoint(tmp_path / f"{'ab'[seed // 2]}{seed % 2}.safetensors", method.state_dict(), card)
    specs = [MethodSpec("panet", weights=str(tmp_path / f"{name}{{fold}}.safetensors")) for name in "ab"]
    of_a, _, of_b, _ = compared(case, path, tmp_path / "out", specs, listener)
    assert np.abs(of_a - of_b).max() > 20
