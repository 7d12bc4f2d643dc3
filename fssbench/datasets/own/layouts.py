"""Which folder of a tree holds masks, how their names follow from the images', and what the masks hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from pathlib import Path

import numpy as np

from fssbench.datasets.own.patterns import PICTURES, matches, words
from fssbench.datasets.own.pixels import HALF, Picture, is_bimodal, open_mask
from fssbench.datasets.reading import files_below, read_file, read_text, some
from fssbench.errors import DataError

_TAILS = ("_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "-mask", ".mask", "_GT", "_Mask")
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "trainval", "default", "all"}
_FIRST = ("SegmentationClassAug", "SegmentationClass", "1st_manual")  # taken before others that fit as well
_OBJECT = re.compile(r"(?P<image>.+)_(?P<class>[^/_]+)_(?P<n>\d+)")
_FEW = 64  # different values of a label map, at most
_PLAINER = 4  # times fewer colours than images have
_UNKNOWN = 1 << 24
_SAMPLE = 6  # files that tell whether a folder holds masks
_MOST = 300  # mask files that are looked at for their values
_FOLDERS = 120  # that are compared with each other


@dataclass(frozen=True)
class Layout:
    """How images and masks lie."""

    image_pattern: str
    mask_pattern: str
    images: int
    pairs: int
    others: tuple[str, ...] = ()  # mask folders that would do as well


@dataclass
class Look:
    """What masks hold."""

    format: str
    classes: dict[str, int | str] | list[str]
    reasons: list[str] = field(default_factory=list)
    background: int | None = 0  # None: nothing to say of it
    unused: list[str] = field(default_factory=list)  # classes that a list names and no mask shows


@dataclass(frozen=True)
class _Pair:
    images: str  # folders
    masks: str
    image_tail: str
    mask_tail: str
    kind: str  # how a mask's name follows: same, class, object
    count: int

    @property
    def rank(self) -> tuple[int, bool, int, int, str]:
        """How well it fits, the least first."""
        (parent, _, _), (above, _, name) = self.images.rpartition("/"), self.masks.rpartition("/")
        known = _FIRST.index(name) if name in _FIRST else len(_FIRST) + name.lower().endswith(("object", "instance"))
        return -self.count, parent != above, ("same", "class", "object").index(self.kind), known, self.masks


def find_layout(root: Path) -> Layout | None:
    """The layout in which most images have a mask; None if none has."""
    names = files_below(root, PICTURES)
    beside = _beside(names, root)
    if beside is not None:
        return beside
    below = _stems_below(names)
    kinds = {folder: _kinds(root, below[folder]) for folder in sorted(below, key=len)[:_FOLDERS]}
    fits = ((a, b) for a in kinds for b in kinds if kinds[b] <= _FEW and kinds[a] > _PLAINER * kinds[b])
    pairs = sorted((pair for a, b in fits for pair in _pairs(a, b, below)), key=lambda pair: pair.rank)
    if not pairs:
        return None
    best = pairs[0]
    others = {
        p.masks for p in pairs if p.count == best.count and p.rank[1:3] == best.rank[1:3] and p.images == best.images
    }
    images, mask_pattern = _patterns(best, below)
    taken = {path for path, _ in matches(root, mask_pattern)}
    count = sum(path not in taken for path, _ in matches(root, images))
    return Layout(
        images, mask_pattern, count, _paired(root, images, mask_pattern), tuple(sorted(others - {best.masks}))
    )


def _beside(names: Sequence[str], root: Path) -> Layout | None:
    """Images and masks in one folder: X.jpg with X_mask.png, or with X.png."""
    stems = {Path(n).with_suffix("").as_posix(): n for n in names}
    for tail in _TAILS:
        masks = [s for s in stems if s.endswith(tail) and s.removesuffix(tail) in stems]
        if masks:
            pictures = len(stems) - sum(s.endswith(tail) for s in stems)
            return Layout("{image}.*", f"{{image}}{tail}.*", pictures, len(masks))
    by_suffix: dict[str, set[str]] = {}
    for name in names:
        by_suffix.setdefault(Path(name).suffix, set()).add(Path(name).with_suffix("").as_posix())
    for image_suffix, images in by_suffix.items():
        for suffix, masks_there in by_suffix.items():
            both = sorted(images & masks_there)
            if suffix == image_suffix or not both or suffix.lower() in (".jpg", ".jpeg"):
                continue
            if _kinds(root, {stem: f"{stem}{suffix}" for stem in both}) <= _FEW:
                return Layout(f"{{image}}{image_suffix}", f"{{image}}{suffix}", len(images), len(both))
    return None


def _stems_below(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Folder -> path below it without suffix -> file."""
    below: dict[str, dict[str, str]] = {}
    for name in names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            stem = Path(*parts[depth:]).with_suffix("").as_posix()
            below.setdefault("/".join(parts[:depth]), {})[stem] = name
    return below


def _kinds(root: Path, stems: dict[str, str]) -> int:
    """The most different colours of a few of a folder's files; a soft mask counts as two."""
    files = sorted(stems.values())
    return max(_kinds_of(root / name) for name in [*files[:: max(1, len(files) // _SAMPLE)][:_SAMPLE], files[-1]])


def _kinds_of(path: Path) -> int:
    try:
        picture = open_mask(read_file(path, "a picture"), str(path))
    except DataError:
        return _UNKNOWN
    if is_bimodal(picture):
        return 2
    return _UNKNOWN if picture.jpeg else len(np.unique(picture.colours()))


def _pairs(a: str, b: str, below: dict[str, dict[str, str]]) -> Iterator[_Pair]:
    if f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/"):
        return
    images, masks = set(below[a]), list(below[b])
    same = images & set(masks)
    if same:
        yield _Pair(a, b, "", "", "same", len(same))
        return
    in_classes = {m.partition("/")[2] for m in masks} & images
    if in_classes:
        yield _Pair(a, b, "", "", "class", len(in_classes))
        return
    objects = {found["image"] for m in masks if (found := _OBJECT.fullmatch(m))} & images
    if objects:
        yield _Pair(a, b, "", "", "object", len(objects))
    tails = _tail(images), _tail(masks)
    both = {s.removesuffix(tails[0]) for s in images} & {s.removesuffix(tails[1]) for s in masks}
    if both:
        yield _Pair(a, b, *tails, "same", len(both))


def _tail(stems: set[str] | list[str]) -> str:
    """What all names end in, from a sign between words on."""
    tail = commonprefix([stem[::-1] for stem in stems])[::-1]  # noqa: RUF071 (letters, not parts of a path)
    return tail[min((tail.find(sign) for sign in "_-. " if sign in tail), default=len(tail)) :]


def _patterns(best: _Pair, below: dict[str, dict[str, str]]) -> tuple[str, str]:
    """Patterns of images and masks, with a word where sister folders hold more of them."""
    image_folder, mask_folder, word = best.images, best.masks, ""
    parent, _, name = image_folder.rpartition("/")
    other_parent, _, other = mask_folder.rpartition("/")
    sisters = {f.rpartition("/")[2] for f in below if f.rpartition("/")[0] == parent}
    if parent == other_parent and name in other:
        before, _, after = other.partition(name)
        if any(f"{before}{s}{after}" in sisters for s in sisters - {name}):
            front = f"{parent}/" if parent else ""
            return f"{front}{{split}}/{{image}}.*", f"{front}{before}{{split}}{after}/{{image}}.*"
    if parent and parent == other_parent:
        above = parent.rpartition("/")[0]
        holding = {f.rpartition("/")[0] for f in below if f.rpartition("/")[2] == name}
        word = "{part}" if len({h for h in holding if h.rpartition("/")[0] == above}) > 1 else ""
        if word:
            front = f"{above}/" if above else ""
            image_folder, mask_folder = f"{front}{word}/{name}", f"{front}{word}/{other}"
    tops = {s.partition("/")[0] for s in below[best.masks]}
    if best.kind == "same" and all("/" in s for s in below[best.masks]) and not tops & _SPLITS:
        return f"{image_folder}/{{class}}/{{image}}.*", f"{mask_folder}/{{class}}/{{image}}.*"
    inner = {"same": "{image}", "class": "{class}/{image}", "object": "{image}_{class}_{n}"}[best.kind]
    return f"{image_folder}/{{image}}{best.image_tail}.*", f"{mask_folder}/{inner}{best.mask_tail}.*"


def _paired(root: Path, images: str, masks: str) -> int:
    shared = [w for w in words(images) if w in words(masks)]
    there = {tuple(groups[w] for w in shared) for _, groups in matches(root, masks)}
    return sum(tuple(groups[w] for w in shared) in there for _, groups in matches(root, images))


def look_at(root: Path, layout: Layout) -> Look:
    """What up to 300 masks of a layout hold."""
    files = list(matches(root, layout.mask_pattern))
    sample = files[:: max(1, len(files) // _MOST)]
    pictures = [open_mask(read_file(path, "a mask"), str(path)) for path, _ in sample]
    if "{class}" in layout.mask_pattern:
        titles = sorted({groups["class"] for _, groups in files})
        return Look("binary", titles, [f"binary masks, a file a class or object: {some(titles)}"])
    if any(p.values.ndim == 3 for p in pictures) and not all(is_bimodal(p) for p in pictures):
        return _coloured(root, pictures)
    levels = {int(v) for p in pictures for v in np.unique(p.levels())}
    values = sorted({int(v) for p in pictures for v in np.unique(p.values if p.palette is not None else p.levels())})
    soft = any(p.jpeg for p in pictures) or len(values) > _FEW
    if soft or levels <= {0, 255}:
        between = f" and {len(levels) - 2} values between, cut at {HALF}" if len(levels) > 2 else ""
        return Look("binary", ["object"], [f"binary masks: 0 and 255{between}; give the class its name"])
    names = _named_values(root)
    classes: dict[str, int | str] = {names.get(v, f"class-{v}"): v for v in values if v not in (0, 255)}
    unused = [name for value, name in names.items() if value not in (0, *values)]
    swapped = [p for p in pictures if p.palette is not None and p.palette[0].any()]
    if swapped:
        return Look("label-map", classes, [
            "LOOK: the palette's colour of index 0 is not black: object and background may be swapped; see `doctor`"
        ], unused=unused, background=None)  # fmt: skip
    return Look("label-map", classes, [f"label maps: they hold the values {some([str(v) for v in values], 20)}"],
                unused=unused)  # fmt: skip


def _coloured(root: Path, pictures: Sequence[Picture]) -> Look:
    colours = sorted({int(c) for p in pictures for c in np.unique(p.colours())} - {0})[:_FEW]
    named = _named_colours(root)
    classes: dict[str, int | str] = {
        **{name: f"#{colour:06x}" for colour, name in named.items() if colour in colours},
        **{f"class-{colour:06x}": f"#{colour:06x}" for colour in colours if colour not in named},
    }
    where = "named by labelmap.txt" if named else "give the classes their names"
    unused = [name for colour, name in named.items() if colour and colour not in colours]
    return Look("label-map", classes, [f"label maps in {len(colours)} colours, {where}"], None, unused)


def _named_colours(root: Path) -> dict[int, str]:
    """CVAT's labelmap.txt: `name:r,g,b:parts:actions`."""
    named = {}
    for name in files_below(root, (".txt",)):
        if Path(name).name != "labelmap.txt":
            continue
        for line in read_text(root / name, "CVAT's labelmap.txt").splitlines():
            found = re.match(r"([^#:]+):(\d+),(\d+),(\d+):", line)
            if found:
                named[(int(found[2]) << 16) + (int(found[3]) << 8) + int(found[4])] = found[1]
    return named


def _named_values(root: Path) -> dict[int, str]:
    """Roboflow's _classes.csv: value, name."""
    for name in files_below(root, (".csv",)):
        if Path(name).name == "_classes.csv":
            rows = csv.reader(read_text(root / name, "Roboflow's _classes.csv").splitlines())
            return {int(row[0]): row[1].strip() for row in rows if len(row) > 1 and row[0].strip().isdigit()}
    return {}
