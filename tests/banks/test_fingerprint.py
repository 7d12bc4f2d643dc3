"""The fingerprint is what its documentation says, and the same for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssbench.banks.bank import Bank, open_bank
from fssbench.banks.generate import Request, generate
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.protocol import FSSBENCH

SMALL = FSSBENCH.but(episodes=10, min_area=100, seeds=(0, 1))
REQUEST = Request(SMALL, shots=(2,), ways=2, auxiliary=1, repeats=2)

# Frozen when the format was. If this test fails, every published fingerprint has lost its meaning: mend the code.
GOLDEN = "fe7aec29e8f35183bf44462aeb21ba230c78f559befeb237e04690f4906a0a47"


def documented(bank: Bank, root: Path) -> str:
    """The documented text, put together here from the masks on disk and the episodes of the bank."""
    protocol = {"name": "fssbench", "episodes": 10, "min_area": 100, "seeds": [0, 1], "pool": "voc-val"}
    lines = ["fssbench bank 1", "dataset pascal5i"]
    lines.append("protocol " + json.dumps(protocol, sort_keys=True, separators=(",", ":")))
    lines += [f"fold {i} classes {' '.join(str(c) for c in range(5 * i + 1, 5 * i + 6))}" for i in range(4)]
    for image_id in bank.image_ids:
        labels = np.asarray(Image.open(root / f"VOCdevkit/VOC2012/SegmentationClassAug/{image_id}.png"))
        digest = hashlib.sha256(b"label map 48 64 u1\n" + labels.tobytes()).hexdigest()
        lines.append(f"image {image_id} {digest} 48 64")
    for fold in range(4):
        lines.append(f"fold {fold} shots 2")
        e = bank.episodes(fold)
        assert e.auxiliary is not None
        for i in range(40):
            classes = " ".join(map(str, e.classes[i]))
            sets = [" ".join(map(str, images)) for images in (*e.support[i], *e.auxiliary[i])]
            lines.append(f"{e.run[i]} {e.group[i]} {e.query[i]} | {classes} | {' | '.join(sets)}")
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def test_the_fingerprint_is_the_hash_of_the_documented_text(small_voc: Path, tmp_path: Path) -> None:
    generate(Pascal5i(small_voc), REQUEST, tmp_path / "bank.h5")
    with open_bank(tmp_path / "bank.h5") as bank:
        assert bank.fingerprint == documented(bank, small_voc)


def test_the_fingerprint_of_fixed_masks_and_seeds_never_changes(small_voc: Path, tmp_path: Path) -> None:
    assert generate(Pascal5i(small_voc), REQUEST, tmp_path / "bank.h5").fingerprint == GOLDEN


def test_two_banks_of_the_same_data_are_the_same_bytes(small_voc: Path, tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        generate(Pascal5i(small_voc), REQUEST, tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_palette_and_grey_masks_have_one_fingerprint(small_voc: Path, tmp_path: Path) -> None:
    masks = sorted((small_voc / "VOCdevkit/VOC2012/SegmentationClassAug").iterdir())
    for path in masks[::2]:
        labels = np.asarray(Image.open(path))
        Image.fromarray(labels).save(path)
        assert Image.open(path).mode == "L"
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
