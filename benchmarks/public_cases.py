"""Every case of a folder of annotation tools' exports: what is read, beside what `expected.json` says is right.

    python benchmarks/public_cases.py DIR

A case is described as `fssbench adopt` does it, with the few lines that its files cannot say (`SAID`), and is right if
images, images without objects, and every class's pixels and box in every image are, within the file's tolerances.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fssbench.datasets.base import layers
from fssbench.datasets.own.adopt import adopt
from fssbench.datasets.own.dataset import Folder
from fssbench.errors import DataError

# What only the user knows: {what adopt wrote: what is right}.
SAID: dict[str, dict[str, str]] = {
    "04_binary_jpeg_masks": {'classes = ["object"]': 'classes = ["lesion"]'},
    "05_camvid_like": {
        "class-1 = 1": "Sky = 0\nHouse = 1",
        "class-2 = 2": "Road = 2",
        "class-3 = 3": "Car = 3",
        "class-4 = 4": "Tree = 4",
        "class-11 = 11": "",
        "background = 0": "background = []\nvoid = 11",
    },
    "11_thin_objects": {"class-1": "cable", "class-2": "hook"},
    "12_fss_lists": {"class-2 =": "bicycle =", "class-5": "bottle", "class-8": "cat", "class-18": "sofa"},
    "15_tif_gif": {'classes = ["object"]': 'classes = ["vessel"]'},
    "16_palette_order/right": {"class-1": "fish"},
    "17_zero_255_flat": {'classes = ["object"]': 'classes = ["cell"]'},
    "19_mask_png_mmseg": {
        "class-1 = 1": '"wall panel" = 1', "class-2": "chair", "class-3": "lamp", "background = 0": "void = 0",
    },
}  # fmt: skip
# Classes of expected.json that are none: what is ignored, counted there for checking.
IGNORED = ("Void", "255 (border, ignored)", "0 (ignored)")


@dataclass(frozen=True)
class Outcome:
    """A case: what was found."""

    case: str
    format: str
    images: int = 0
    classes: str = ""
    pixels: int = 0
    worst: int = 0  # px, the largest difference of a class in an image
    wrong: tuple[str, ...] = ()
    refused: str = ""


def cases(folder: Path) -> dict[str, Path]:
    """The cases of a folder; one with two trees is two."""
    found = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    palette = found.pop("16_palette_order", None)
    if palette is not None:
        found.update({f"16_palette_order/{tree}": palette / tree for tree in ("right", "quantized")})
    return dict(sorted(found.items()))


def described(case: str, folder: Path, out: Path) -> Path:
    """The description of a case, with what the user adds."""
    path = out / f"{case.replace('/', '-')}.toml"
    text = adopt(folder, path).text
    for wrote, right in SAID.get(case, {}).items():
        text = text.replace(wrote, right)
    path.write_text(text, encoding="utf-8")
    return path


def check(case: str, folder: Path, expected: Mapping[str, Any], out: Path) -> Outcome:
    """Read a case and compare it."""
    try:
        data = Folder(described(case, folder, out))
        ids = data.image_ids()
        found = {image_id: _facts(data, image_id) for image_id in ids}
    except DataError as error:
        return Outcome(case, "", refused=str(error))
    wrong = list(_differences(data, found, expected))
    right = expected.get("per_image", {})
    worst = max((abs(px - _expected(right, data, i, name).get("px", 0)) for i, f in found.items()
                 for name, (px, _) in f.items()), default=0)  # fmt: skip
    pixels = sum(px for facts in found.values() for px, _ in facts.values())
    counts = {name: sum(name in facts for facts in found.values()) for name in data.class_names.values()}
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Outcome(case, data.config.format, len(ids), shown, pixels, worst, tuple(wrong))


def _facts(data: Folder, image_id: str) -> dict[str, tuple[int, list[int]]]:
    """Class -> px and box."""
    found = layers(data, image_id)
    facts = {}
    for number in found.areas:
        rows, columns = np.nonzero(found.mask(number) == 1)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        facts[data.class_names[number]] = len(rows), [int(v) for v in box]
    return facts


def _expected(right: Mapping[str, Any], data: Folder, image_id: str, name: str) -> dict[str, Any]:
    path = data.file_of(image_id).as_posix()
    keys = [key for key in right if key == image_id or f"/{path}".endswith(f"/{key}") or _fits(path, key)]
    return dict(right[max(keys, key=len)].get(name, {})) if keys else {}


def _fits(path: str, key: str) -> bool:
    """Whether a key without suffix, and perhaps without some folders, names a picture."""
    parts = path.rpartition(".")[0].split("/")
    return key.split("/")[-1] == parts[-1] and all(part in parts for part in key.split("/")[:-1])


def _differences(data: Folder, found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    if len(found) != expected["images"]:
        yield f"{len(found)} images, not {expected['images']}"
    right = expected["per_image"]
    empty = sum(not facts for facts in found.values())
    if empty != len(expected["images_without_objects"]):
        yield f"{empty} images without objects, not {len(expected['images_without_objects'])}"
    wanted = {name: n for name, n in expected["images_a_class"].items() if name not in IGNORED}
    counts = {name: sum(name in facts for facts in found.values()) for name in data.class_names.values()}
    if counts != wanted:
        yield f"images a class {counts}, not {wanted}"
    for image_id, facts in found.items():
        for name, (px, box) in facts.items():
            value = _expected(right, data, image_id, name)
            slack = value.get("tol_px", 0)
            if not value or abs(px - value["px"]) > slack:
                yield f"{image_id}: {name} {px} px, not {value.get('px')} +- {slack}"
            elif any(abs(a - b) > (2 if slack else 0) for a, b in zip(box, value["box"], strict=True)):
                yield f"{image_id}: {name} at {box}, not {value['box']}"


def main() -> int:
    """Print the table; status 1 if a case is wrong."""
    folder = Path(sys.argv[1])
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    wrong = 0
    print("| case | format | images | images a class | object px | largest difference, px | as expected |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as out:
        for case, path in cases(folder).items():
            got = check(case, path, expected[case.split("/")[0]], Path(out))
            if got.refused:
                told = f"refused: {got.refused}".replace(str(folder.resolve()), "DIR").replace(out, "OUT")
                print(f"| {case} | {got.format} |  |  |  |  | {told} |")
                continue
            wrong += bool(got.wrong)
            verdict = "yes" if not got.wrong else f"NO: {'; '.join(got.wrong[:4])}"
            print(f"| {case} | {got.format} | {got.images} | {got.classes} | {got.pixels} | {got.worst} | {verdict} |")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
