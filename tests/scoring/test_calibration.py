"""Intervals cover and tests reject at their nominal rates, on synthetic episodes with known truth.

The clustering is that of fixed lists: each class has a few dozen images, each image is the query of several episodes
and a support of several others, and a hard image is both a hard query and a poor support.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from fssbench.records import COLUMNS
from fssbench.scoring.intervals import intervals
from fssbench.scoring.paired import measure, paired_differences

CLASSES = 5
LEVELS = np.array([-1.0, -0.3, 0.0, 0.5, 1.0])  # difficulty of the classes, in logits
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """How episodes share images, and where their IoU comes from (standard deviations, in logits)."""

    images: int
    shots: int
    query: float
    support: float
    noise: float
    both: float = 0.3  # correlation of an image as query and as support
    episodes: int = 200  # a class

    def draw(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Queries (E) and supports (E x K), every image a query before any is again."""
        passes = -(-self.episodes // self.images)
        queries, supports = [], []
        for c in range(CLASSES):
            query = np.concatenate([rng.permutation(self.images) for _ in range(passes)])[: self.episodes]
            order = rng.random((self.episodes, self.images))
            order[np.arange(self.episodes), query] = 2
            queries.append(query + c * self.images)
            supports.append(np.argsort(order, 1)[:, : self.shots] + c * self.images)
        return np.concatenate(queries), np.concatenate(supports)

    def frame(self, rng: np.random.Generator, methods: int = 1) -> list[pd.DataFrame]:
        """Episodes of so many equally good methods: sizes are shared, half of an image's difficulty is too."""
        queries, supports = self.draw(rng)
        count = CLASSES * self.images
        size = np.exp(9 + 0.8 * rng.normal(size=count))
        class_id = np.repeat(np.arange(CLASSES), self.episodes)
        shared = rng.normal(size=(2, count))
        frames = []
        for _ in range(methods):
            own = np.sqrt(0.5) * (shared + rng.normal(size=(2, count))) if methods > 1 else shared
            asked = self.query * own[0]
            given = self.support * (self.both * own[0] + np.sqrt(1 - self.both**2) * own[1])
            logit = LEVELS[class_id] + asked[queries] + given[supports].mean(1)
            iou = _sigmoid(logit + self.noise * rng.normal(size=len(logit)))
            frames.append(_frame(class_id, queries, supports, iou, size[queries]))
        return frames

    def truth(self) -> Floats:
        """IoU of each class with endlessly many images: sums of intersections over sums of unions."""
        rng = np.random.default_rng(99)
        spread = np.sqrt(self.query**2 + self.support**2 / self.shots + self.noise**2)
        iou = _sigmoid(LEVELS[:, None] + spread * rng.normal(size=(CLASSES, 400_000)))
        union = 1 + 0.5 * (1 - iou)  # sizes are independent of quality and cancel
        return np.asarray((iou * union).sum(1) / union.sum(1))


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)))


def _frame(class_id: Floats, queries: Floats, supports: Floats, iou: Floats, size: Floats) -> pd.DataFrame:
    union = np.round(size * (1 + 0.5 * (1 - iou))).astype(int)
    tp = np.round(iou * union).astype(int)
    number = np.arange(len(queries))
    values = {
        "fold": 0, "run": 0, "episode": number, "group": number, "way": 1, "class_id": class_id + 1,
        "query": queries.astype(str), "supports": ["|".join(map(str, row)) for row in supports], "tp": tp,
        "fp": (union - tp) // 2, "fn": union - tp - (union - tp) // 2, "tn": 2_000_000 - union, "ignored_fg": 0,
        "ignored_bg": 0,
    }  # fmt: skip
    return pd.DataFrame(values)[COLUMNS]


DESIGNS = {
    "one shot": Design(images=60, shots=1, query=1.0, support=0.5, noise=0.5),
    "five shots": Design(images=60, shots=5, query=1.0, support=0.5, noise=0.5),
    "few images": Design(images=30, shots=1, query=1.0, support=0.7, noise=0.5),
    "few images, five shots": Design(images=30, shots=5, query=1.0, support=0.7, noise=0.5),
    "supports decide": Design(images=60, shots=5, query=1.0, support=1.5, noise=0.3, both=0.5),
    "mostly noise": Design(images=150, shots=1, query=0.7, support=0.0, noise=1.0),
}
FOLD = {0: [1, 2, 3, 4, 5]}


def coverage(design: Design, trials: int, seed: int) -> tuple[float, float]:
    """How often the interval of the mean, and of a class, holds the truth."""
    truth = design.truth()
    mean, classes = [], []
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        found = intervals(design.frame(rng)[0], FOLD, rng, resamples=300)
        mean.append(found["mean"].low <= truth.mean() <= found["mean"].high)
        classes += [found[f"class {c + 1}"].low <= truth[c] <= found[f"class {c + 1}"].high for c in range(CLASSES)]
    return float(np.mean(mean)), float(np.mean(classes))


def rejections(design: Design, trials: int, seed: int) -> float:
    """How often two equally good methods are told apart at 5 %."""
    found = []
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        first, second = (measure([frame], FOLD) for frame in design.frame(rng, methods=2))
        found.append(paired_differences(first, second)["mean"].p_value < 0.05)
    return float(np.mean(found))


@pytest.mark.parametrize("name", ["one shot", "supports decide"])
def test_intervals_cover_about_their_nominal_rate(name: str) -> None:
    mean, classes = coverage(DESIGNS[name], trials=80, seed=1)
    assert 0.88 <= mean <= 0.999  # 95 % - 2.9 standard errors of 80 trials; never always
    assert 0.91 <= classes <= 0.99


def test_equal_methods_are_told_apart_at_about_the_nominal_rate() -> None:
    assert rejections(DESIGNS["one shot"], trials=120, seed=2) <= 0.11  # 5 % + 3 standard errors


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_intervals_cover_their_nominal_rate(name: str) -> None:
    mean, classes = coverage(DESIGNS[name], trials=1500, seed=3)
    assert 0.93 <= mean <= 0.97
    assert 0.93 <= classes <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_equal_methods_are_told_apart_at_the_nominal_rate(name: str) -> None:
    # Rather too seldom than too often: the variance is kept from falling below what query images alone give.
    assert 0.02 <= rejections(DESIGNS[name], trials=1500, seed=4) <= 0.065
