"""A data set of rectangles, its bank, and a method that misses by a known shift: a whole run without any network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from fssbench.banks.bank import Bank, open_bank
from fssbench.banks.generate import Request, generate
from fssbench.datasets.base import VOID, Dataset, Mask
from fssbench.predictions import encode_label, write_predictions
from fssbench.protocols import FSSBENCH
from fssbench.records import COLUMNS, BankEntry, Environment, MethodEntry, Run, WeightsEntry, write_record
from fssbench.scoring.metrics import summarise
from fssbench.scoring.pixels import count_pixels
from fssbench.scoring.rules import rules_of

HEIGHT, WIDTH = 48, 64


class Rectangles(Dataset):
    """Four classes in two folds, seven images a class with one rectangle each; the frame of every label is void."""

    name = "rectangles"
    class_names = {1: "red box", 2: "green box", 3: "blue box", 4: "grey box"}
    folds = ((1, 2), (3, 4))

    def image_ids(self) -> Sequence[str]:
        return [f"c{c}-{i}" for c in self.class_names for i in range(7)]

    def image_bytes(self, image_id: str) -> bytes:
        colours = {1: (200, 40, 40), 2: (40, 180, 60), 3: (50, 80, 210), 4: (130, 130, 130)}
        labels = self._labels(image_id)
        pixels = np.random.default_rng(int(image_id[3:])).integers(190, 240, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for class_id, colour in colours.items():
            pixels[labels == class_id] = colour
        return _png(pixels)

    def mask(self, image_id: str) -> Mask:
        return Mask(_png(self._labels(image_id)))

    def _labels(self, image_id: str) -> NDArray[np.uint8]:
        class_id, number = int(image_id[1]), int(image_id[3:])
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        top, left = 4 + number, 6 + 2 * number + class_id
        labels[top : top + 14 + number, left : left + 16 + 2 * class_id] = class_id
        labels[[0, -1]], labels[:, [0, -1]] = VOID, VOID
        return labels


def make_bank(path: Path, *, ways: int = 1, repeats: int = 1, episodes: int = 4) -> Path:
    """A bank of both folds, 2 shots."""
    protocol = FSSBENCH.but(episodes=episodes, min_area=1)
    generate(Rectangles(), Request(protocol, shots=(2,), ways=ways, repeats=repeats), path)
    return path


def run_shifted(bank_path: Path, results: Path, method: str = "shifted", shot: int = 2) -> Path:
    """A record with predictions: the truth moved right by 0 to 8 px, further with the number of the first support."""
    folder = results / method
    rows, predictions = [], []
    with open_bank(bank_path) as bank:
        for fold in bank.fold_classes:
            episodes = bank.episodes(fold, shot)
            for e in range(len(episodes)):
                truth = ways_of(bank, int(episodes.query[e]), episodes.classes[e])
                seen = np.where(truth == VOID, 0, truth)
                predicted = np.roll(seen, int(bank.image_ids[episodes.support[e, 0, 0]][3:]) % 9, axis=1)
                predictions.append((fold, e, encode_label(predicted)))
                for way in range(0 if bank.ways > 1 else 1, bank.ways + 1):
                    ids = [bank.image_ids[i] for i in episodes.support[e, way - 1 if way else slice(None)].ravel()]
                    class_id = int(episodes.classes[e, way - 1]) if way else 0
                    counts = count_pixels(predicted, truth, way)
                    query = bank.image_ids[int(episodes.query[e])]
                    group = int(episodes.group[e])
                    rows.append([fold, int(episodes.run[e]), e, group, way, class_id, query, "|".join(ids), *counts])
        frame = pd.DataFrame(rows, columns=COLUMNS)
        write_record(folder, _run(bank, frame, method, shot), frame)
        write_predictions(folder / "predictions.h5", bank.fingerprint, iter(predictions), method)
    return folder


def ways_of(bank: Bank, query: int, classes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
    """The query's label map with ways for classes: 0, 1..N, 255."""
    labels = bank.layers(query).maps[0]
    ways = np.where(labels == VOID, VOID, 0).astype(np.uint8)
    for way, class_id in enumerate(classes, start=1):
        ways[labels == class_id] = way
    return ways


def _run(bank: Bank, frame: pd.DataFrame, method: str, shot: int) -> Run:
    folds = {fold: list(classes) for fold, classes in bank.fold_classes.items()}
    return Run(
        id=method,
        created="2026-01-02T03:04:05+00:00",
        method=MethodEntry(name=method, title=method.title(), config={}),
        backbone="none",
        input_size="native",
        weights={fold: WeightsEntry(kind="random", sha256="0" * 64) for fold in folds},
        bank=BankEntry(
            fingerprint=bank.fingerprint,
            dataset=bank.dataset,
            protocol=bank.protocol.model_dump(mode="json"),
            protocol_hash=bank.protocol.hash,
            class_names=bank.class_names,
            folds=folds,
            episodes={fold: len(bank.episodes(fold)) for fold in folds},
        ),
        way=bank.ways,
        shot=shot,
        folds=list(folds),
        environment=Environment(device="cpu", precision="float32", versions={}),
        summary=summarise(frame, folds, rules_of(bank.protocol.model_dump())),
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
