"""A picture is what its viewer shows: turned as its EXIF says, 16 bits scaled. A label map is its ids."""

import io

import numpy as np
import pytest
from PIL import Image

from fssbench.datasets.decode import decode_image, decode_mask, image_size
from fssbench.datasets.masks import Mask
from fssbench.datasets.reading import encode_png

CORNERS = np.zeros((16, 24, 3), dtype=np.uint8)
CORNERS[:8, :12] = 250  # bright at the top left, as stored


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("orientation", "size", "bright"),
    [  # the EXIF standard: where the stored first row and column are
        (1, (24, 16), (2, 2)),
        (3, (24, 16), (13, 21)),  # turned by half: bottom right
        (6, (16, 24), (2, 13)),  # the stored top is the right side
        (8, (16, 24), (21, 2)),  # the stored top is the left side
    ],
)
def test_an_image_is_turned_as_its_exif_orientation_says(
    orientation: int, size: tuple[int, int], bright: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(Image.fromarray(CORNERS), "JPEG", exif=exif), "x")
    pixels = np.asarray(image)
    assert image.size == size
    assert image_size(encoded(Image.fromarray(CORNERS), "JPEG", exif=exif), "x") == size[::-1]
    assert pixels[bright].min() > 200
    assert (pixels > 200).any(axis=2).mean() == pytest.approx(0.25, abs=0.05)


def test_sixteen_bits_are_scaled_to_eight_and_not_cut_off() -> None:
    deep = np.array([[0, 257, 25700, 65535]], dtype=np.uint16)
    image = decode_image(encoded(Image.fromarray(deep), "PNG"), "x")
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 100, 255]
    assert image.mode == "RGB"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_label_map_comes_back_from_its_png_whatever_ids_it_has(dtype: type) -> None:
    few, all_ids = np.zeros((3, 5), dtype), np.arange(256, dtype=dtype).reshape(16, 16)
    for labels in (few, all_ids, all_ids.T, np.full((1, 1), np.iinfo(dtype).max, dtype)):
        np.testing.assert_array_equal(decode_mask(Mask(encode_png(labels)), "x"), labels)
