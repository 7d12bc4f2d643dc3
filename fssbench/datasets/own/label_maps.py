"""Label maps of values or colours to class ids. What is not named is never taken for something else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fssbench.datasets.masks import VOID, Labels, Mask
from fssbench.datasets.own.config import OwnConfig
from fssbench.datasets.own.pixels import Palette, Picture, open_mask
from fssbench.datasets.reading import read_file, some
from fssbench.errors import DataError


class LabelReader:
    """Reads label maps as a description says."""

    def __init__(self, config: OwnConfig, ids: Mapping[str, int]) -> None:
        self._config = config
        self._type = np.uint8 if max(ids.values()) < VOID else np.uint16
        void = int(np.iinfo(self._type).max)
        pairs = [(value, 0) for value in config.background] + [(value, void) for value in config.void or ()]
        pairs += [(value, ids[name]) for name, value in config.classes.items()]  # a later one counts
        self._coloured = config.coloured
        self._numbers = {_number(value, self._coloured): number for value, number in pairs}
        self._palette: tuple[Path, Palette] | None = None  # of the first file that has one

    def read(self, path: Path) -> Mask:
        """The label map of a file, with the file's bytes where they say the same.

        Raises `DataError` for a file that is no label map, for values without a name and for palettes out of order.
        """
        encoded = read_file(path, "a label map")
        picture = open_mask(encoded, str(path))
        if picture.jpeg:
            raise DataError(
                f"{path}: expected a label map, found a JPEG, which changes values. Save it as PNG; masks of one "
                'class, white on black, are format = "binary".'
            )
        values = picture.colours() if self._coloured else self._checked(picture, path)
        found, places = np.unique(values, return_inverse=True)
        numbers = dict(self._numbers)
        if self._config.void is None and not self._coloured:
            numbers.setdefault(65535 if values.dtype == np.uint16 else VOID, int(np.iinfo(self._type).max))
        foreign = [value for value in found.tolist() if value not in numbers]
        if foreign:
            raise DataError(f"{path}: {self._unnamed(foreign)}")
        labels = np.array([numbers[v] for v in found.tolist()], self._type)[places].reshape(values.shape)
        same = labels.dtype == values.dtype and encoded.startswith(b"\x89PNG") and np.array_equal(labels, values)
        return Mask(encoded if same else None, 0, labels)

    def _checked(self, picture: Picture, path: Path) -> Labels:
        """The values of a map that is read by them."""
        if picture.values.ndim == 3:
            shown = np.unique(picture.values.reshape(-1, 3), axis=0)
            colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in shown[:50].tolist()]
            raise DataError(
                f"{path}: expected values, found a picture in colours ({some(colours)}). Give each class its "
                'colour, as "#rrggbb", in [classes] (CVAT lists them in labelmap.txt; `fssbench adopt` reads it), and '
                "background and void if they are not black."
            )
        if picture.palette is not None:
            self._check_palette(picture, picture.palette, path)
        return picture.values

    def _check_palette(self, picture: Picture, palette: Palette, path: Path) -> None:
        used = np.unique(picture.values)
        if "background" not in self._config.model_fields_set and 0 in used and palette[0].any():
            red, green, blue = palette[0].tolist()
            raise DataError(
                f"{path}: expected black for index 0 of the palette, which is background, found "
                f"#{red:02x}{green:02x}{blue:02x}: object and background may be swapped. Read the masks by colour "
                f'(e.g. {next(iter(self._config.classes))} = "#{red:02x}{green:02x}{blue:02x}", background = '
                '"#000000"), or say `background = 0` if it is right.'
            )
        if self._palette is None:
            self._palette = path, palette
        first, other = self._palette
        differ = [int(i) for i in used if (palette[i] != other[i]).any() and other[i:].any()]
        if differ:
            i = differ[0]
            raise DataError(
                f"{path}: expected one palette in all masks, found index {i} as {_hex(palette, i)} here and as "
                f"{_hex(other, i)} in {first}: an index may mean two classes. Read the masks by colour (a class = "
                '"#rrggbb"), or save them with one palette.'
            )

    def _unnamed(self, foreign: list[int]) -> str:
        names = ", ".join(f"{name} = {value}" for name, value in self._config.classes.items())
        shown = [f"#{v:06x}" if self._coloured else str(v) for v in foreign]
        text = f"expected values that dataset.toml names ({names[:120]}), found {some(shown)}"
        if not self._coloured and foreign == [0]:
            return f"{text}. Say what 0 is: a class, `background = 0` or `void = 0`."
        return f"{text}. Name them in [classes], `background` or `void`."


def _number(value: int | str, coloured: bool) -> int:
    if isinstance(value, str):
        return int(value[1:], 16)
    return value * 0x010101 if coloured else value  # grey, where classes have colours


def _hex(palette: Palette, index: int) -> str:
    return "#" + bytes(palette[index].tolist()).hex()
