"""The fingerprint is what its documentation says, and the same for ever."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssbench.banks.bank import Bank, open_bank
from fssbench.banks.fingerprint import fingerprint
from fssbench.banks.generate import Request, generate
from fssbench.banks.sampling import Episodes
from fssbench.banks.scan import MaskFacts
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.protocols import FSSBENCH

SMALL = FSSBENCH.but(episodes=10, min_area=100, seeds=(0, 1))
REQUEST = Request(SMALL, shots=(2,), ways=2, auxiliary=1, repeats=2)

# Frozen when the format was. If this test fails, every published fingerprint has lost its meaning: mend the code.
GOLDEN = "5a04f5ad858596fff2ce9cd0ab6ffa6b4001e1a3cf636f3a0122835f13f69eb2"


def bencoded(value: object) -> bytes:
    """BEP 3, put together here as its text has it."""
    if isinstance(value, int):
        return f"i{value}e".encode()
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return str(len(value)).encode() + b":" + value
    if isinstance(value, dict):
        return b"d" + b"".join(bencoded(key) + bencoded(value[key]) for key in sorted(value)) + b"e"
    assert isinstance(value, list)
    return b"l" + b"".join(map(bencoded, value)) + b"e"


def array(values: np.ndarray) -> list[object]:  # type: ignore[type-arg]
    numbers = [int(v) for v in values.ravel()]
    return [list(values.shape), struct.pack(f"<{len(numbers)}q", *numbers)]


def documented(bank: Bank, root: Path) -> tuple[str, str]:
    """The two fingerprints as documented, put together here from the files on disk and the episodes of the bank."""
    protocol = {"name": "fssbench", "episodes": 10, "min_area": 100, "seeds": [0, 1], "pool": "voc-val"}
    images, files, episodes = [], [], []
    for image_id in bank.image_ids:
        labels = np.asarray(Image.open(root / f"VOCdevkit/VOC2012/SegmentationClassAug/{image_id}.png"))
        digest = hashlib.sha256(b"label map 48 64 u1\n" + labels.tobytes()).hexdigest()
        images.append([image_id, 48, 64, [[0, digest]]])
        image = (root / f"VOCdevkit/VOC2012/JPEGImages/{image_id}.jpg").read_bytes()
        files.append(hashlib.sha256(image).hexdigest())
    for fold in range(4):
        e = bank.episodes(fold)
        assert e.auxiliary is not None
        columns = {"classes": e.classes, "support": e.support, "query": e.query, "run": e.run, "group": e.group}
        columns["auxiliary"] = e.auxiliary
        episodes.append([fold, 2, {name: array(values) for name, values in columns.items()}])
    whole = {
        "format": "fssbench bank 2",
        "dataset": "pascal5i",
        "protocol": json.dumps(protocol, sort_keys=True, separators=(",", ":")),
        "annotations": {},
        "folds": [[i, list(range(5 * i + 1, 5 * i + 6))] for i in range(4)],
        "images": images,
        "episodes": episodes,
    }
    first = hashlib.sha256(bencoded(whole)).hexdigest()
    return first, hashlib.sha256(bencoded(["fssbench images 2", first, files])).hexdigest()


def test_the_fingerprints_are_the_hashes_of_the_documented_bytes(small_voc: Path, tmp_path: Path) -> None:
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "bank.h5")
    with open_bank(tmp_path / "bank.h5") as bank:
        assert (bank.fingerprint, bank.image_fingerprint) == documented(bank, small_voc)


def test_other_image_bytes_leave_the_first_fingerprint_and_change_the_second(small_voc: Path, tmp_path: Path) -> None:
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "a.h5")
    for number, path in enumerate((small_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir()):
        Image.new("RGB", (64, 48), (number % 16 * 15, number // 16 * 15, 0)).save(path)  # plain; the masks stay
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "b.h5")
    with open_bank(tmp_path / "a.h5") as a, open_bank(tmp_path / "b.h5") as b:
        assert a.fingerprint == b.fingerprint
        assert len(a.image_fingerprint) == len(b.image_fingerprint) == 64
        assert a.image_fingerprint != b.image_fingerprint


def test_the_second_fingerprint_is_empty_while_an_image_is_not_known(small_voc: Path, tmp_path: Path) -> None:
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "a.h5", index=True)
    next(iter(sorted((small_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir()))).unlink()
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "b.h5", index=True)
    with open_bank(tmp_path / "a.h5") as a, open_bank(tmp_path / "b.h5") as b:
        assert len(a.image_fingerprint) == 64
        assert b.image_fingerprint == ""


def test_no_name_gives_the_bytes_of_another_content() -> None:
    """Names with line ends and blanks gave one text for two contents in format 1."""
    none: dict[tuple[int, int], Episodes] = {}
    one = {"a": MaskFacts(4, 4, ((0, "x"),), {}), "b": MaskFacts(4, 4, ((0, "y"),), {})}
    joined = {"a x 4 4\nimage b": MaskFacts(4, 4, ((0, "y"),), {})}
    first, second = (fingerprint("d", FSSBENCH, {0: (1,)}, images, none, {}) for images in (one, joined))
    assert first != second


def test_the_fingerprint_of_fixed_masks_and_seeds_never_changes(small_voc: Path, tmp_path: Path) -> None:
    assert generate(Pascal5i(small_voc), REQUEST, tmp_path / "bank.h5").fingerprint == GOLDEN


def test_two_banks_of_the_same_data_are_the_same_bytes(small_voc: Path, tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        generate(Pascal5i(small_voc), REQUEST, tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_palette_and_grey_masks_have_one_fingerprint(small_voc: Path, tmp_path: Path) -> None:
    masks = sorted((small_voc / "VOCdevkit/VOC2012/SegmentationClassAug").iterdir())
    for path in masks[::2]:
        grey = Image.fromarray(np.asarray(Image.open(path)))
        assert grey.mode == "L"
        grey.save(path)
    assert generate(Pascal5i(small_voc), REQUEST, tmp_path / "bank.h5").fingerprint == GOLDEN


@pytest.mark.parametrize(
    "other",
    [
        Request(SMALL, shots=(2,), ways=2, auxiliary=1),
        Request(SMALL, shots=(2,), ways=2, repeats=2),
        Request(SMALL, shots=(2,), auxiliary=1, repeats=2),
        Request(SMALL, shots=(3,), ways=2, auxiliary=1, repeats=2),
        Request(SMALL.but(seeds=(0, 2)), shots=(2,), ways=2, auxiliary=1, repeats=2),
        Request(SMALL.but(ignore_label="background"), shots=(2,), ways=2, auxiliary=1, repeats=2),
        Request(SMALL, shots=(2,), ways=2, auxiliary=1, repeats=2, folds=(0, 1, 2)),
        Request(SMALL, shots=(2,), ways=2, auxiliary=1, repeats=2, annotations=("box",)),
    ],
    ids=["repeats", "auxiliary", "ways", "shots", "seeds", "scoring", "folds", "annotations"],
)
def test_anything_that_changes_the_benchmark_changes_the_fingerprint(
    other: Request, small_voc: Path, tmp_path: Path
) -> None:
    assert generate(Pascal5i(small_voc), other, tmp_path / "bank.h5", index=True).fingerprint != GOLDEN


def test_one_changed_pixel_of_one_mask_changes_the_fingerprint(small_voc: Path, tmp_path: Path) -> None:
    path = small_voc / "VOCdevkit/VOC2012/SegmentationClassAug/2007_001001.png"
    labels = np.array(Image.open(path))
    labels[47, 63] = 255
    Image.fromarray(labels).save(path)
    assert generate(Pascal5i(small_voc), REQUEST, tmp_path / "bank.h5", index=True).fingerprint != GOLDEN


def test_a_folds_episodes_do_not_depend_on_which_other_folds_are_made(small_voc: Path, tmp_path: Path) -> None:
    whole = generate(Pascal5i(small_voc), REQUEST, tmp_path / "a.h5", index=True)
    alone = generate(
        Pascal5i(small_voc), Request(SMALL, (2,), 2, (2,), repeats=2, auxiliary=1), tmp_path / "b.h5", index=True
    )
    names = [[plan.image_ids[i] for i in plan.episodes[2, 2].query] for plan in (whole, alone)]
    assert names[0] == names[1]
