"""Options of the test suite, and what several parts of it need."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from repository import shared


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--metric-cases FILE`: check scoring against another file in the form of `tests/scoring/metric_cases.json`."""
    parser.addoption("--metric-cases", default=None, help="JSON file of masks and what published metric codes gave")
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files, to be read before commit")


@pytest.fixture(scope="session")
def shared_material() -> Path:
    """The folder with real data and published lists, beside the repository or named by FSSBENCH_DATA; else skip."""
    if (found := shared()) is not None:
        return found
    pytest.skip("needs the real data: the folder `shared` beside the repository, or named by FSSBENCH_DATA")


Golden = Callable[[Path, str], None]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a text with its golden file; `--update-golden` rewrites the file and fails: somebody has to read it."""

    def check(file: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            file.write_text(text, encoding="utf-8", newline="")
            pytest.fail(f"{file} is written anew: read it, then run without --update-golden")
        assert text == file.read_text(encoding="utf-8")

    return check


Voc = Callable[..., Path]


def write_voc(root: Path, images: Mapping[str, Sequence[int]], lists: str = "val") -> Path:
    """A small PASCAL VOC. Each class is a rectangle of 12 x 16 px in a 48 x 64 image with a void border."""
    voc = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True, exist_ok=True)
    for number, (image_id, classes) in enumerate(images.items()):
        (voc / "JPEGImages" / f"{image_id}.jpg").write_bytes(_jpeg(number))
        (voc / "SegmentationClassAug" / f"{image_id}.png").write_bytes(_mask(classes))
    (voc / "ImageSets" / "Segmentation" / f"{lists}.txt").write_text("".join(f"{i}\n" for i in images))
    return root


@pytest.fixture
def make_voc(tmp_path: Path) -> Voc:
    """`make_voc({image: [classes]})` writes a small PASCAL VOC and gives its root."""
    return lambda images, name="data", lists="val": write_voc(tmp_path / name, images, lists)


def _jpeg(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG")
    return file.getvalue()


def _mask(classes: Sequence[int]) -> bytes:
    labels = np.zeros((48, 64), dtype=np.uint8)
    labels[:2] = 255
    for place, class_id in enumerate(classes):
        top, left = 4 + 14 * (place // 3), 2 + 20 * (place % 3)
        labels[top : top + 12, left : left + 16] = class_id
    image = Image.fromarray(labels).convert("P")
    image.putpalette([v for i in range(256) for v in (255 - i, i, i // 2)])
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def small_voc_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 images: eight of each class, every fourth with the next class as well. Not to be changed."""
    images = {}
    for class_id in range(1, 21):
        for number in range(8):
            others = [class_id % 20 + 1] if number % 4 == 0 else []
            images[f"2007_{1000 * class_id + number:06d}"] = [class_id, *others]
    return write_voc(tmp_path_factory.mktemp("voc") / "data", images)


@pytest.fixture
def small_voc(tmp_path: Path, small_voc_original: Path) -> Path:
    """A copy of `small_voc_original` that a test may change."""
    return Path(shutil.copytree(small_voc_original, tmp_path / "data"))
