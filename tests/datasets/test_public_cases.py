"""The exports of annotation tools in the shared material, each against the numbers that it comes with."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from repository import ROOT

SCRIPT = ROOT / "benchmarks" / "public_cases.py"
NAMES = (
    "01_cvat_voc", "02_roboflow_coco", "03_roboflow_png_masks", "04_binary_jpeg_masks", "05_camvid_like",
    "06_labelme_json", "07_labelme2coco", "08_pycococreator", "09_yolo_seg", "10_cvat_images_xml", "11_thin_objects",
    "12_fss_lists", "13_duplicates", "15_tif_gif", "16_palette_order/right", "17_zero_255_flat", "18_datumaro",
    "19_mask_png_mmseg", "20_supervisely",
)  # fmt: skip
REFUSED = {
    "14_boxes_only_coco": "none of 10 annotations has a mask",
    "16_palette_order/quantized": "expected black for index 0 of the palette",
}


@pytest.fixture(scope="session")
def public_cases(shared_material: Path) -> Path:
    """The folder of cases; else skip."""
    folder = shared_material / "public_cases"
    if not (folder / "expected.json").is_file() or not SCRIPT.is_file():
        pytest.skip("the shared cases are not on this machine")
    return folder


@pytest.fixture(scope="session")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_cases", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["public_cases"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", NAMES)
def test_a_public_export_is_read_with_the_right_values(
    case: str, public_cases: Path, script: ModuleType, tmp_path: Path
) -> None:
    expected = json.loads((public_cases / "expected.json").read_text(encoding="utf-8"))[case.split("/")[0]]
    found = script.check(case, public_cases / case, expected, tmp_path)
    assert (found.refused, found.wrong) == ("", ())


@pytest.mark.parametrize("case", REFUSED)
def test_a_public_export_without_a_right_reading_is_refused(
    case: str, public_cases: Path, script: ModuleType, tmp_path: Path
) -> None:
    expected = json.loads((public_cases / "expected.json").read_text(encoding="utf-8"))[case.split("/")[0]]
    assert REFUSED[case] in script.check(case, public_cases / case, expected, tmp_path).refused


def test_every_case_is_tested(public_cases: Path, script: ModuleType) -> None:
    assert sorted(script.cases(public_cases)) == sorted((*NAMES, *REFUSED))
