"""The documented formats are those that are checked, and what the documentation writes is read."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import toy_data
from repository import ROOT

from fssbench.banks import schema
from fssbench.banks.generate import Request, generate
from fssbench.banks.structure import Kind
from fssbench.predictions import encode_label, open_predictions, write_predictions
from fssbench.protocols import FSSBENCH

FORMATS = ROOT / "docs" / "formats"
GROUPS = {
    "/classes": schema.CLASSES,
    "/images": schema.IMAGES,
    "/masks": schema.MASKS,
    "/folds/<fold>": schema.FOLD,
    "/folds/<fold>/<shots>": schema.EPISODES,
    "/annotations/<kind>": schema.ANNOTATIONS,
}
BLOBS = {"/images": "images", "/masks": "masks", "/annotations/<kind>": "pairs"}


def documented(page: str) -> dict[str, tuple[str, str]]:
    """Object -> shape and type, of the page's table."""
    lines = (FORMATS / page).read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| `/")]
    return {row[1].replace("`", ""): (row[2], row[3]) for row in rows}


def in_words(kind: Kind) -> tuple[str, str]:
    return " x ".join(kind.shape), f"text, {kind.text} bytes" if kind.type == "text" else kind.type


def test_the_documented_bank_is_the_one_that_is_checked() -> None:
    expected = {f"{group}/{name}": in_words(kind) for group, kinds in GROUPS.items() for name, kind in kinds.items()}
    for group, rows in BLOBS.items():
        expected |= {f"{group}/offset": (f"{rows} + 1", "int64"), f"{group}/bytes": ("bytes", "uint8")}
    expected |= {f"/ {name}": ("", "attribute") for name in schema.ATTRIBUTES}
    expected["/annotations/<kind> rule"] = ("", "attribute")
    assert documented("bank.md") == expected


def test_a_bank_has_what_is_documented(tmp_path: Path) -> None:
    request = Request(FSSBENCH.but(episodes=3, min_area=20), (2,), annotations=("box",), auxiliary=1)
    generate(toy_data.ToyDataset(16), request, tmp_path / "bank.h5")
    found = set()
    with h5py.File(tmp_path / "bank.h5") as file:
        file.visititems(lambda name, item: found.add(f"/{name}") if isinstance(item, h5py.Dataset) else None)
        assert set(file.attrs) == set(schema.ATTRIBUTES)
    general = {re.sub("/folds/[01]", "/folds/<fold>", name).replace("/2/", "/<shots>/") for name in found}
    arrays = {name for name, (_, kind) in documented("bank.md").items() if kind != "attribute"}
    assert {name.replace("/box/", "/<kind>/") for name in general} == arrays


def test_the_documented_program_writes_predictions_that_are_read(tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", (FORMATS / "predictions.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    labels = {4: np.eye(5, 7, dtype=np.uint8), 1: np.zeros((2, 2), np.uint8)}
    folds = {2: {episode: encode_label(label) for episode, label in labels.items()}}
    exec(program, {"path": tmp_path / "p.h5", "fingerprint": "f" * 64, "folds": folds})
    with open_predictions(tmp_path / "p.h5") as found:
        assert (found.bank, found.folds, found.episodes(2)) == ("f" * 64, [2], [4, 1])
        assert (found.mask(2, 4) == labels[4]).all()


def test_the_documented_predictions_are_those_that_are_written(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.h5", "f" * 64, [(0, 0, encode_label(np.zeros((2, 2), np.uint8)))])
    with h5py.File(tmp_path / "p.h5") as file:
        written = {f"/folds/<fold>/{name}": str(array.dtype) for name, array in file["folds/0"].items()}
        written |= {f"/ {name}": "attribute" for name in file.attrs if name != "record"}
    assert {name: kind for name, (_, kind) in documented("predictions.md").items()} == written
