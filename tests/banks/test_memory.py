"""What a generation at the size of COCO's val2014 keeps in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import environment, line
from trees import noise, save

from fssbench.banks.bank import open_bank
from fssbench.datasets.coco_classes import CLASSES

IMAGES, POLYGONS, POINTS = 40_504, 5, 30
HEIGHT, WIDTH = 480, 640
MOST = 600  # MiB; measured: 386, and 762 with polygons as lists of numbers

# Peak memory of one command, whatever this process has used.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def write_val2014(root: Path) -> None:
    """Annotations of COCO's number and size; every image file is a link to one picture."""
    rng = np.random.default_rng(0)
    picture = save(root / "picture.jpg", noise(0, HEIGHT, WIDTH))
    (root / "val2014").mkdir()
    (root / "annotations").mkdir()
    categories, angle = np.array(list(CLASSES)), np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    images, annotations = [], []
    for number in range(1, IMAGES + 1):
        name = f"COCO_val2014_{number:012}.jpg"
        os.link(picture, root / "val2014" / name)
        images.append(json.dumps({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}))
        centre, radius = rng.uniform(130, 350, (POLYGONS, 1, 2)), rng.uniform(40, 120, (POLYGONS, POINTS, 1))
        outlines = (centre + radius * np.stack([np.cos(angle), np.sin(angle)], -1)).reshape(POLYGONS, -1).round(2)
        for place, (outline, category) in enumerate(zip(outlines, rng.choice(categories, POLYGONS), strict=True)):
            entry = {"id": POLYGONS * number + place, "image_id": number, "category_id": int(category), "iscrowd": 0}
            annotations.append(json.dumps(entry | {"segmentation": [outline.tolist()]}))
    listed = [{"id": number, "name": name} for number, name in CLASSES.items()]
    with (root / "annotations" / "instances_val2014.json").open("w", encoding="ascii") as file:
        file.write(f'{{"images": [{",".join(images)}], "annotations": [{",".join(annotations)}], ')
        file.write(f'"categories": {json.dumps(listed)}}}')


@pytest.mark.slow
def test_an_index_of_cocos_size_is_made_within_the_memory_of_a_small_machine(tmp_path: Path) -> None:
    write_val2014(tmp_path / "coco")
    words = (
        "generate-episodes",
        "coco20i",
        "--root",
        tmp_path / "coco",
        "--index",
        "--out",
        tmp_path / "coco.index.h5",
    )
    command = [sys.executable, "-c", MEASURED, *line(*words, "--workers", "1")]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    with open_bank(tmp_path / "coco.index.h5") as bank:
        assert len(bank.image_ids) > 3000
    assert int(ran.stdout.split()[-1]) < MOST
