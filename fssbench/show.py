"""Pictures of episodes: masks over images, rows of captioned panels, contact sheets.

Functions of images and arrays to images; only the last few know banks. Sizes are in px.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fssbench.banks.bank import Bank
from fssbench.datasets.base import VOID
from fssbench.datasets.decode import decode_image
from fssbench.errors import UsageError

Labels = NDArray[np.uint8]  # H x W; 0 nothing, n the n-th colour, 255 void
Colour = tuple[int, int, int]

# One colour a way, told apart by the colour-blind too (after Okabe and Ito), the strongest first.
WAYS: tuple[Colour, ...] = (
    (230, 60, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (86, 180, 233),
    (230, 159, 0),
)
BACKGROUND_COLOUR: Colour = (40, 90, 255)
VOID_COLOUR: Colour = (235, 235, 235)

TILE = 176  # height of a panel's image
_GAP, _PAPER, _INK = 6, (255, 255, 255), (30, 30, 30)
_FONT_SIZE = 13


@dataclass(frozen=True)
class Panel:
    """An image with a line of text below it."""

    image: Image.Image
    caption: str


def overlay(
    image: Image.Image,
    labels: NDArray[np.generic],
    colours: Sequence[Colour] = WAYS,
    strength: float = 0.55,
    fade: float = 0.7,
) -> Image.Image:
    """An image with labels laid over it, outlined: n in the n-th colour (they repeat), 255 light grey.

    What is not labelled fades to grey, so that colours stand out on any picture. `labels` is H x W; a mask of False
    and True will do. `strength` and `fade` are 0 (the image as it is) to 1. Raises `UsageError` if the sizes differ.
    """
    values = np.asarray(labels).astype(np.int64)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32).copy()
    if pixels.shape[:2] != values.shape:
        height, width = pixels.shape[:2]
        raise UsageError(
            f"expected a mask of {height} x {width} as the image, found {' x '.join(map(str, values.shape))}."
        )
    shown = values > 0
    tints = np.array([*colours, VOID_COLOUR], dtype=np.float32)
    tint = tints[np.where(values == VOID, len(colours), (values - 1) % len(colours))]
    grey = 90 + 0.45 * pixels.mean(axis=2, keepdims=True)
    pixels += np.where(shown[..., None], strength * (tint - pixels), fade * (grey - pixels))
    outline = _outline(values) & shown & (values != VOID)
    pixels[outline] = tint[outline]
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def overlay_codes(image: Image.Image, codes: Labels, colour: Colour = WAYS[0]) -> Image.Image:
    """An image with a support's codes: object in `colour`, background in blue, unlabelled faded, 255 light grey.

    Codes are those of a bank's annotations: 0 background, 1 object, 2 another way's object, 3 unlabelled, 255 void.
    """
    places = np.array([2, 1, 3, 0], dtype=np.uint8)  # code -> colour's number
    labels = np.where(codes == VOID, VOID, places[np.minimum(codes, 3)])
    return overlay(image, labels, (colour, BACKGROUND_COLOUR, (90, 90, 90)), strength=0.6)


def row(panels: Sequence[Panel], height: int = TILE) -> Image.Image:
    """Panels side by side, each image scaled to `height`, captions below."""
    tiles = [_tile(panel, height) for panel in panels]
    return _joined(tiles, across=True)


def column(images: Sequence[Image.Image], title: str = "") -> Image.Image:
    """Pictures below each other, from the left, under a title."""
    stacked = _joined(images, across=False)
    if not title:
        return stacked
    return _joined([_text(title, max(stacked.width, _width(title))), stacked], across=False)


def grid(panels: Sequence[Panel], columns: int, title: str = "", height: int = TILE) -> Image.Image:
    """Panels in rows of `columns`, under a title."""
    rows = [row(panels[i : i + columns], height) for i in range(0, len(panels), columns)]
    return column(rows, title)


def truth_labels(bank: Bank, fold: int, episode: int) -> Labels:
    """H x W of an episode's query: 0, n where the n-th way's class is, 255 void."""
    drawn = bank.episodes(fold)
    return bank.masks.truth(int(drawn.query[episode]), drawn.classes[episode].tolist())


def episode_picture(
    bank: Bank,
    fold: int,
    episode: int,
    shots: int | None = None,
    *,
    ways: Sequence[int] | None = None,
    kinds: Sequence[str] | None = None,
    predictions: Sequence[tuple[str, Labels]] = (),
    height: int = TILE,
) -> Image.Image:
    """One episode: a row a shot, in it each way's support (image, mask, weak annotations), the query on the right.

    `ways` counts from 1 (default: all), `kinds` are the weak annotations to draw (default: all the bank has),
    `predictions` are pairs of a caption and an H x W label map. Raises `BankError`, and `UsageError` for an episode
    or way that is not there.
    """
    _check(bank, fold, episode, ways)
    drawn = bank.episodes(fold, shots)
    weak = [kind for kind in bank.masks.kinds if kind != "mask"] if kinds is None else list(kinds)
    names = [bank.class_names[int(c)] for c in drawn.classes[episode]]
    supports = drawn.support.shape[2]
    rows = [
        [
            panel
            for way in ways or range(1, bank.ways + 1)
            for panel in _support_panels(
                bank, int(drawn.support[episode, way - 1, shot]), int(drawn.classes[episode, way - 1]), way, weak
            )
        ]
        for shot in range(supports)
    ]
    rows[0] += _query_panels(bank, fold, episode, ways, predictions)
    title = f"{bank.dataset}, fold {fold}, episode {episode}: {bank.ways}-way {supports}-shot, {', '.join(names)}"
    return column([row(panels, height) for panels in rows], title)


def contact_sheet(bank: Bank, episodes: Iterable[tuple[int, int]], shots: int = 1, height: int = 150) -> Image.Image:
    """Many episodes, (fold, episode), a row each: supports with their masks, the query, and the query's truth."""
    rows = []
    for fold, episode in episodes:
        _check(bank, fold, episode, None)
        drawn = bank.episodes(fold, shots)
        panels = [
            Panel(_masked(bank, int(image), int(class_id), way), f"{bank.class_names[int(class_id)]}")
            for way, class_id in enumerate(drawn.classes[episode], start=1)
            for image in drawn.support[episode, way - 1]
        ]
        query = _image(bank, int(drawn.query[episode]))
        panels.append(Panel(query, f"query, fold {fold}, {episode}"))
        panels.append(Panel(overlay(query, truth_labels(bank, fold, episode)), "truth"))
        rows.append(row(panels, height))
    half = -(-len(rows) // 2) if len(rows) > 3 else len(rows)
    pages = [column(rows[i : i + half]) for i in range(0, len(rows), half)]
    return column([_joined(pages, across=True)], f"{bank.dataset}: {len(rows)} episodes, {bank.ways}-way {shots}-shot")


def spread(bank: Bank, count: int, fold: int | None = None) -> list[tuple[int, int]]:
    """`count` episodes, spread evenly over one fold or over all of them."""
    folds = list(bank.fold_classes) if fold is None else [fold]
    known = [(f, episode) for f in folds for episode in range(len(bank.episodes(f)))]
    count = min(count, len(known))
    return [known[(2 * i + 1) * len(known) // (2 * count)] for i in range(count)]


def _check(bank: Bank, fold: int, episode: int, ways: Sequence[int] | None) -> None:
    count = len(bank.episodes(fold))
    if not 0 <= episode < count:
        raise UsageError(f"{bank.path}: expected an episode of fold {fold}, 0 to {count - 1}, found {episode}.")
    for way in ways or ():
        if not 1 <= way <= bank.ways:
            raise UsageError(f"{bank.path}: expected a way out of 1 to {bank.ways}, found {way}.")


def _support_panels(bank: Bank, image: int, class_id: int, way: int, kinds: Sequence[str]) -> list[Panel]:
    name = bank.class_names[class_id]
    panels = [
        Panel(_image(bank, image), f"support {bank.image_ids[image]}"),
        Panel(_masked(bank, image, class_id, way), f"mask: {name}"),
    ]
    for kind in kinds:
        codes = bank.masks.annotation(kind, image, class_id)
        panels.append(Panel(overlay_codes(_image(bank, image), codes, _way_colour(way)), f"{kind}: {name}"))
    return panels


def _query_panels(
    bank: Bank, fold: int, episode: int, ways: Sequence[int] | None, predictions: Sequence[tuple[str, Labels]]
) -> list[Panel]:
    query = int(bank.episodes(fold).query[episode])
    image, truth = _image(bank, query), truth_labels(bank, fold, episode)
    if ways is not None:
        truth[~np.isin(truth, [*ways, VOID])] = 0
    panels = [Panel(image, f"query {bank.image_ids[query]}"), Panel(overlay(image, truth), "truth")]
    return panels + [Panel(overlay(image, labels), caption) for caption, labels in predictions]


def _masked(bank: Bank, image: int, class_id: int, way: int) -> Image.Image:
    codes = bank.masks.of_class(image, class_id)
    return overlay(_image(bank, image), np.where(codes == 1, way, np.where(codes == VOID, VOID, 0)))


def _image(bank: Bank, image: int) -> Image.Image:
    return decode_image(bank.image_bytes(image), f"{bank.path}: image {bank.image_ids[image]}")


def _way_colour(way: int) -> Colour:
    return WAYS[(way - 1) % len(WAYS)]


def _outline(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels with a neighbour, by side, of another value."""
    padded = np.pad(values, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray(np.logical_or.reduce([neighbour != values for neighbour in neighbours]))


def _tile(panel: Panel, height: int) -> Image.Image:
    width = max(1, round(panel.image.width * height / panel.image.height))
    picture = panel.image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return _joined([picture, _text(panel.caption, width)], across=False, gap=2)


def _text(text: str, width: int) -> Image.Image:
    """A line of text, cut short by dots if it does not fit into `width`."""
    whole = text
    while len(text) > 1 and _width(text) > width:
        whole = whole[:-1]
        text = f"{whole}…"
    line = Image.new("RGB", (width, _FONT_SIZE + 5), _PAPER)
    ImageDraw.Draw(line).text((1, 1), text, fill=_INK, font=_font())
    return line


def _width(text: str) -> int:
    return int(_font().getlength(text)) + 3


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_FONT_SIZE)


def _joined(images: Sequence[Image.Image], *, across: bool, gap: int = _GAP) -> Image.Image:
    """Pictures side by side from the top, or below each other from the left, on white."""
    long = [image.width if across else image.height for image in images]
    short = [image.height if across else image.width for image in images]
    length, breadth = sum(long) + gap * (len(images) - 1), max(short)
    paper = Image.new("RGB", (length, breadth) if across else (breadth, length), _PAPER)
    place = 0
    for image, used in zip(images, long, strict=True):
        paper.paste(image, (place, 0) if across else (0, place))
        place += used + gap
    return paper
