"""Options of the test suite, and what several parts of it need."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import shared
from trees import write_voc


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


@pytest.fixture
def make_voc(tmp_path: Path) -> Voc:
    """`make_voc({image: [classes]})` writes a small PASCAL VOC and gives its root."""
    return lambda images, name="data", lists="val": write_voc(tmp_path / name, images, lists)


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
