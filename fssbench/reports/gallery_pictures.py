"""One episode as a strip of pictures: its supports, the query with the truth, the query with the prediction."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fssbench.banks.bank import Bank
from fssbench.datasets.base import VOID
from fssbench.records import Run

Pixels = NDArray[np.uint8]
HEIGHT, GAP, LINE = 168, 6, 20  # px: of a picture, between pictures, of a line of text
MOST_SUPPORTS = 5  # pictures of supports a way

# Okabe and Ito's colours: ways one after the other; then what is right, wrong and missed in a 1-way prediction.
WAYS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))
RIGHT, WRONG, MISSED = (0, 114, 178), (213, 94, 0), (240, 228, 66)
GREY = (128, 128, 128)


def strip(bank: Bank, run: Run, fold: int, episode: int, prediction: Pixels) -> Image.Image:
    """Supports of every way, truth and prediction side by side. `prediction` H x W holds 0..N.

    Where it was scored at another size than the query's own it is enlarged to that by nearest, for the eye only.
    """
    episodes = bank.episodes(fold, run.shot)
    classes = episodes.classes[episode].tolist()
    query = int(episodes.query[episode])
    pictures = []
    for way, class_id in enumerate(classes):
        for support in episodes.support[episode, way, :MOST_SUPPORTS].tolist():
            codes = bank.annotation(run.annotation, support, class_id)
            name = bank.class_names.get(class_id, f"class {class_id}")
            pictures.append((f"support: {name}", tint(_photo(bank, support), {WAYS[way % len(WAYS)]: codes == 1})))
    photo, truth = _photo(bank, query), query_ways(bank, query, classes)
    shown = _resized(prediction, truth.shape)
    by_way = {WAYS[way % len(WAYS)]: truth == way + 1 for way in range(len(classes))}
    pictures.append(("query: truth", tint(photo, {**by_way, GREY: truth == VOID})))
    pictures.append(("query: prediction", tint(photo, _judged(shown, truth, len(classes)))))
    return side_by_side(pictures)


def query_ways(bank: Bank, query: int, classes: list[int]) -> Pixels:
    """The query's label map with ways instead of classes: 0, 1..N, 255."""
    ways = np.zeros(tuple(bank.image_sizes[query].tolist()), dtype=np.uint8)
    for way, class_id in enumerate(classes, start=1):
        codes = bank.annotation("mask", query, class_id)
        ways[codes == 1] = way
        ways[codes == VOID] = VOID
    return ways


def tint(photo: Pixels, areas: dict[tuple[int, int, int], NDArray[np.bool_]]) -> Pixels:
    """A greyed H x W x 3 photograph with coloured areas and their outlines."""
    grey = photo.mean(-1, keepdims=True)
    out: NDArray[np.float64] = 0.35 * grey + 0.65 * photo
    for colour, area in areas.items():
        out[area] = 0.5 * out[area] + 0.5 * np.array(colour)
        out[area & ~_inner(area)] = colour
    rounded: Pixels = out.round().astype(np.uint8)
    return rounded


def side_by_side(pictures: list[tuple[str, Pixels]]) -> Image.Image:
    """Titled pictures in a row, all of one height, on white."""
    scaled = [(title, _scaled(pixels)) for title, pixels in pictures]
    width = sum(image.width for _, image in scaled) + GAP * (len(scaled) - 1)
    sheet = Image.new("RGB", (width, HEIGHT + LINE), "white")
    draw, left = ImageDraw.Draw(sheet), 0
    for title, image in scaled:
        draw.text((left, 2), _fitting(title, image.width), fill=(60, 66, 74), font=font())
        sheet.paste(image, (left, LINE))
        left += image.width + GAP
    return sheet


def stacked(rows: list[tuple[str, Image.Image]]) -> Image.Image:
    """Strips with a line of text above each, below each other on white."""
    width = max(image.width for _, image in rows) + 2 * GAP
    height = sum(image.height + LINE + 2 * GAP for _, image in rows) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(sheet), GAP
    for text, image in rows:
        draw.text((GAP, top), _fitting(text, width - 2 * GAP), fill=(20, 22, 26), font=font())
        sheet.paste(image, (GAP, top + LINE))
        top += image.height + LINE + 2 * GAP
    return sheet


def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow: the same everywhere."""
    return ImageFont.load_default(12)


def _judged(shown: Pixels, truth: Pixels, ways: int) -> dict[tuple[int, int, int], NDArray[np.bool_]]:
    if ways > 1:
        return {WAYS[way % len(WAYS)]: shown == way + 1 for way in range(ways)}
    valid = truth != VOID
    return {
        RIGHT: (shown == 1) & (truth == 1),
        WRONG: (shown == 1) & (truth != 1) & valid,
        MISSED: (shown != 1) & (truth == 1),
    }


def _photo(bank: Bank, number: int) -> Pixels:
    with Image.open(io.BytesIO(bank.image_bytes(number))) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _inner(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours belong to the area too."""
    padded = np.pad(area, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    inner: NDArray[np.bool_] = np.logical_and.reduce(neighbours)
    return inner


def _resized(labels: Pixels, shape: tuple[int, ...]) -> Pixels:
    if labels.shape == shape:
        return labels
    return np.asarray(Image.fromarray(labels).resize((shape[1], shape[0]), Image.Resampling.NEAREST), dtype=np.uint8)


def _scaled(pixels: Pixels) -> Image.Image:
    height, width = pixels.shape[:2]
    size = (max(1, min(3 * HEIGHT, round(width * HEIGHT / height))), HEIGHT)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def _fitting(text: str, width: int) -> str:
    """Text on one line, cut to a width in pixels."""
    line = "".join(character if character.isprintable() else " " for character in text)
    while len(line) > 1 and font().getlength(line) > width:
        line = line[:-2] + "…" if line.endswith("…") else line[:-1] + "…"
    return line
