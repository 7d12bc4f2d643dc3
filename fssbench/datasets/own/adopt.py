"""What a folder of images seems to be, and why: its `dataset.toml`, to be read before it is believed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from os.path import commonprefix
from pathlib import Path
from typing import Any

from fssbench.datasets.lists import read_list
from fssbench.datasets.own import layouts
from fssbench.datasets.own.config import OwnConfig, named_after
from fssbench.datasets.own.formats import Found, read_items
from fssbench.datasets.own.listing import read_json
from fssbench.datasets.own.patterns import PICTURES, filled, matches
from fssbench.datasets.own.shapes import Polygons
from fssbench.datasets.reading import files_below, some
from fssbench.errors import DataError

_PEEK = 1 << 20  # bytes at either end of a JSON file that are looked at
_HEAD = (
    "# What `fssbench adopt` takes this folder for. Change what is wrong; `fssbench doctor` on this file says what it\n"
    "# then means. Every key: `python -m pydoc fssbench.datasets.own.config`.\n"
)
_NO_AREA = "# min_area = 2048  # px a class must cover in an image to be used; `fssbench doctor` says what that costs\n"
_FOLDS = "\n# [folds]  # which classes each fold holds out; without it one fold tests all\n"


@dataclass
class Adopted:
    """A description, and the reasons for it."""

    text: str
    reasons: list[str]
    format: str


@dataclass
class Guess:
    """Keys of a description with a word on each."""

    fields: dict[str, Any]
    reasons: list[str]
    comments: dict[str, str] = field(default_factory=dict)  # key -> why
    unused: list[str] = field(default_factory=list)  # classes that are named and do not occur


def adopt(folder: Path, out: Path, name: str | None = None) -> Adopted:
    """Look at `folder` and describe it for a file at `out`; nothing is written.

    Raises `DataError` for a folder that is of no known layout, or whose annotations have no masks.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of images and annotations, found {_what(folder)}.")
    lookers: tuple[Callable[[Path], Guess | None], ...] = (_supervisely, _cvat, _json, _yolo, _masks)
    guess = next((taken for look in lookers if (taken := look(folder)) is not None), None)
    if guess is None:
        raise DataError(
            f"{folder}: expected pictures with masks beside them or in a folder of their own, or annotations of CVAT, "
            f"COCO, labelme, YOLO, Datumaro or Supervisely, found {_content(folder)}. Write dataset.toml by hand: "
            "docs/own-images.md has one for each layout."
        )
    inside = out.parent.resolve() == folder.resolve()
    fields = {"name": name or named_after(folder), **guess.fields}
    config = OwnConfig.model_validate(
        {**fields, "path": out, "root": str(folder.resolve()), "classes": fields.get("classes", {})}
    )
    found = read_items(config)
    _complete(guess, fields, found, config)
    head = f"root = {json.dumps(str(folder.resolve()))}  # the images stay where they are\n"
    body = _text(fields, guess, head="" if inside else head, lists=_lists(config, found))
    return Adopted(body, guess.reasons, fields["format"])


def _complete(guess: Guess, fields: dict[str, Any], found: Found, config: OwnConfig) -> None:
    """Classes that have a mask, and what to do with images without one."""
    objects = [one for item in found.items.values() for one in item.objects]
    if config.format not in ("label-map", "binary"):
        shown = {one.label for one in objects if one.shape is not None}
        fields["classes"] = [label for label in found.labels if label in shown]
        guess.unused = [label for label in found.labels if label not in shown]
        without = Counter(f"{one.kind} of {one.label}" for one in objects if one.shape is None)
        guess.reasons += [f"left out, as it has no mask: {count} x {what}" for what, count in without.items()]
        if any(isinstance(one.shape, Polygons) for one in objects) and find_spec("pycocotools") is None:
            guess.reasons.append("outlines are drawn by pycocotools, not installed yet: pip install 'fssbench[coco]'")
        if not shown:
            kinds = some(sorted({one.kind for one in objects})) or "nothing annotated"
            raise DataError(
                f"{config.base}: expected masks, found none: none of {len(objects)} annotations has a mask ({kinds}; "
                "`segmentation` is empty). Draw outlines, or make masks of the boxes, and export again."
            )
    if found.bare:
        fields["without_mask"] = "empty"
        guess.comments["without_mask"] = f"{len(found.bare)} images, e.g. {min(found.bare)}, are said to show no object"


def _text(fields: dict[str, Any], guess: Guess, head: str, lists: dict[str, str]) -> str:
    lines = [_HEAD, *(f"# - {reason}\n" for reason in guess.reasons), "\n"]
    for key, value in fields.items():
        if isinstance(value, dict):
            continue
        comment = guess.comments.get(key, "")
        lines.append(f"{key} = {_value(value)}{'  # ' + comment if comment else ''}\n")
        if key == "format":
            lines.append(head)
    lines.append(_NO_AREA)
    lines += [f"# not a class, as no mask shows it: {name}\n" for name in guess.unused]
    classes = fields["classes"]
    if isinstance(classes, dict):
        lines.append("\n[classes]  # name = value in the masks\n")
        lines += [f"{_key(name)} = {_value(value)}\n" for name, value in classes.items()]
    names = list(classes)
    if len(names) > 1:
        lines.append(_FOLDS)
        halves = (names[: (len(names) + 1) // 2], names[(len(names) + 1) // 2 :])
        lines += [f"# {i} = {_value(half)}\n" for i, half in enumerate(halves)]
    if lists:
        lines.append("\n[lists]  # `--lists NAME` uses one of them\n")
        lines += [f"{_key(name)} = {_value(path)}\n" for name, path in lists.items()]
    return "".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _lists(config: OwnConfig, found: Found) -> dict[str, str]:
    """Text files that are lists of these images."""
    lists: dict[str, str] = {}
    texts = [] if config.format == "yolo" else files_below(config.base, (".txt",))
    for name in texts[:100]:
        path = config.base / name
        if path.stem in ("default", *lists) or path.stat().st_size > _PEEK:
            continue
        try:
            read_list(path, list(found.items))
        except DataError:
            continue
        lists[path.stem] = name
    return lists


def _supervisely(folder: Path) -> Guess | None:
    meta = folder / "meta.json"
    files = [path for path, _ in matches(folder, "{dataset}/ann/{image}.json", pictures=False)]
    if not meta.is_file() or not files or "classes" not in read_json(meta):
        return None
    return Guess({"format": "supervisely"}, [f"Supervisely: meta.json names classes, {len(files)} files lie in ann/"])


def _cvat(folder: Path) -> Guess | None:
    files = [n for n in files_below(folder, (".xml",)) if "<annotations" in _peek(folder / n)]
    if not files:
        return None
    pattern = _common(files, "part")
    return Guess({"format": "cvat", "annotations": pattern}, [f"CVAT for images: {files[0]} is CVAT's XML"])


_JSON: dict[str, Callable[[str], bool]] = {
    "datumaro": lambda text: '"dm_format_version"' in text or ('"items"' in text and '"label_id"' in text),
    "labelme": lambda text: '"shapes"' in text and '"imagePath"' in text,
    "coco": lambda text: '"images"' in text and '"annotations"' in text and '"categories"' in text,
}


def _json(folder: Path) -> Guess | None:
    kinds: dict[str, list[str]] = {}
    for name in files_below(folder, (".json",)):
        text = _peek(folder / name)
        kind = next((kind for kind, fits in _JSON.items() if fits(text)), None)
        if kind is not None:
            kinds.setdefault(kind, []).append(name)
    if not kinds:
        return None
    kind, files = max(kinds.items(), key=lambda pair: len(pair[1]))
    if kind == "labelme":
        return Guess({"format": "labelme"}, [f"labelme: {len(files)} JSON files with shapes, beside the images"])
    pattern = _common(files, "subset" if kind == "datumaro" else "split")
    title = "Datumaro" if kind == "datumaro" else "COCO"
    fields = {"format": kind, "annotations": pattern, **_pictures_of(folder, kind, files, pattern)}
    return Guess(fields, [f"{title} JSON: {some(files, 3)}; classes have the names that the file gives them"])


def _pictures_of(folder: Path, kind: str, files: list[str], pattern: str) -> dict[str, str]:
    """Where the pictures of annotation files are, if not beside them."""
    content = read_json(folder / files[0])
    entry = content["items"][0]["image"]["path"] if kind == "datumaro" else content["images"][0]["file_name"]
    beside = (folder / files[0]).parent
    if (beside / entry).is_file():
        return {}
    groups = next(groups for path, groups in matches(folder, pattern, pictures=False) if path == folder / files[0])
    word = next(iter(groups), "split")
    for images in (f"images/{{{word}}}", f"{{{word}}}", "images", ".", f"{{{word}}}/images"):
        if (folder / filled(images, groups) / entry).is_file():
            return {"images": images}
    last = Path(entry).name
    found = next((n for n in files_below(folder, PICTURES) if Path(n).name == last), None)
    return {} if found is None else {"images": found.removesuffix(entry).rstrip("/") if found.endswith(entry) else
                                     Path(found).parent.as_posix()}  # fmt: skip


def _common(files: list[str], word: str) -> str:
    """One pattern for a few files: themselves, or what differs as a word."""
    if len(files) == 1:
        return files[0].replace("default.json", "{subset}.json") if word == "subset" else files[0]
    split = [name.split("/") for name in files]
    if len({len(parts) for parts in split}) > 1:
        return "{image}" + Path(files[0]).suffix
    differ = [i for i, column in enumerate(zip(*split, strict=True)) if len(set(column)) > 1]
    texts = [parts[differ[0]] for parts in split]
    before = _shared(texts)
    after = _shared([text[len(before) :][::-1] for text in texts])[::-1]
    parts = list(split[0])
    parts[differ[0]] = f"{before}{{{word}}}{after}"
    return "/".join(parts)


def _shared(texts: list[str]) -> str:
    """How all begin, up to a sign between words."""
    start = commonprefix(texts)  # noqa: RUF071 (letters, not parts of a path)
    return start[: max((start.rfind(sign) + 1 for sign in "_-. "), default=0)]


def _yolo(folder: Path) -> Guess | None:
    files = files_below(folder / "labels", (".txt",)) if (folder / "labels").is_dir() else []
    if not files or not (folder / "data.yaml").is_file():
        return None
    return Guess({"format": "yolo"}, [f"YOLO segmentation: data.yaml, and {len(files)} text files in labels/"])


def _masks(folder: Path) -> Guess | None:
    layout = layouts.find_layout(folder)
    if layout is None:
        return None
    reasons = [
        f"masks: {layout.pairs} of {layout.images} images have one; images at {layout.image_pattern}, masks at "
        f"{layout.mask_pattern}"
    ]
    reasons += [f"masks might also be at {other}" for other in layout.others]
    look = layouts.look_at(folder, layout)
    reasons += look.reasons
    fields: dict[str, Any] = {"format": look.format, "images": layout.image_pattern, "masks": layout.mask_pattern}
    if look.format == "label-map" and look.background is not None:
        fields["background"] = look.background
    fields["classes"] = look.classes
    comments = {"background": "in the masks; `[]` if 0 is a class, `void = 0` if it means not labelled"}
    return Guess(fields, reasons, comments, look.unused)


def _peek(path: Path) -> str:
    """The beginning and the end of a file."""
    with path.open("rb") as file:
        start = file.read(_PEEK)
        file.seek(max(path.stat().st_size - _PEEK, len(start)))
        return (start + file.read()).decode("utf-8", errors="replace")


def _what(folder: Path) -> str:
    return "a file: unpack it first" if folder.exists() else "nothing there"


def _content(folder: Path) -> str:
    def suffixes() -> Iterator[str]:
        yield from (Path(name).suffix.lower() or "no suffix" for name in files_below(folder))

    counts = Counter(suffixes()).most_common(5)
    return ", ".join(f"{count} x {suffix}" for suffix, count in counts) or "no files"
