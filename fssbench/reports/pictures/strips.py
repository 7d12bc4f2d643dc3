"""One episode as a strip of pictures: its supports, the query with the truth, the query with the prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fssbench.banks.bank import Bank
from fssbench.datasets.base import VOID
from fssbench.datasets.decode import decode_image
from fssbench.records import Run
from fssbench.show import WAYS, Colour, Panel, column, overlay, overlay_codes, row

Labels = NDArray[np.uint8]
MOST_SUPPORTS = 5  # pictures of supports a way

# What is right, wrong and missed in a 1-way prediction: the object keeps the colour it has in truth and supports.
JUDGED: tuple[Colour, ...] = (WAYS[0], WAYS[1], WAYS[4])


def strip(bank: Bank, run: Run, fold: int, episode: int, prediction: Labels) -> Image.Image:
    """Supports of every way, truth and prediction side by side. `prediction` H x W holds 0..N.

    Where it was scored at another size than the query's own it is enlarged to that by nearest, for the eye only.
    """
    episodes = bank.episodes(fold, run.shot)
    classes = episodes.classes[episode].tolist()
    query = int(episodes.query[episode])
    panels = [
        Panel(_support(bank, run.annotation, support, class_id, way), f"support: {bank.class_names[class_id]}")
        for way, class_id in enumerate(classes, start=1)
        for support in episodes.support[episode, way - 1, :MOST_SUPPORTS].tolist()
    ]
    photo, truth = _photo(bank, query), bank.masks.truth(query, classes)
    shown = _resized(prediction, truth.shape)
    panels.append(Panel(overlay(photo, truth), "query: truth"))
    if len(classes) == 1:
        panels.append(Panel(overlay(photo, judge(shown, truth), JUDGED), "query: prediction"))
    else:
        panels.append(Panel(overlay(photo, shown), "query: prediction"))
    return row(panels)


def stacked(rows: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Strips with a line of text above each, below each other."""
    return column([column([image], text) for text, image in rows])


def judge(prediction: Labels, truth: Labels) -> Labels:
    """1 where a 1-way prediction is right about the object, 2 where it is wrong, 3 where it misses; 255 not scored.

    >>> judge(np.array([[1, 1, 0, 1]], np.uint8), np.array([[1, 0, 1, 255]], np.uint8)).tolist()
    [[1, 2, 3, 255]]
    """
    hit, there = prediction == 1, truth == 1
    kinds = np.select([truth == VOID, hit & there, hit, there], [VOID, 1, 2, 3], default=0)
    return kinds.astype(np.uint8)


def _support(bank: Bank, kind: str, image: int, class_id: int, way: int) -> Image.Image:
    codes, photo = bank.masks.annotation(kind, image, class_id), _photo(bank, image)
    if kind != "mask":
        return overlay_codes(photo, codes, WAYS[(way - 1) % len(WAYS)])
    return overlay(photo, np.where(codes == 1, way, np.where(codes == VOID, VOID, 0)))


def _photo(bank: Bank, number: int) -> Image.Image:
    return decode_image(bank.image_bytes(number), f"{bank.path}: image {bank.image_ids[number]}")


def _resized(labels: Labels, shape: tuple[int, ...]) -> Labels:
    if labels.shape == shape:
        return labels
    return np.asarray(Image.fromarray(labels).resize((shape[1], shape[0]), Image.Resampling.NEAREST), dtype=np.uint8)
