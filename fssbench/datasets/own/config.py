"""`dataset.toml`, the description of a user's own data set. `fssbench adopt` writes it, or you do:

    name = "fasteners"           # names the data set in banks and tables; else its folder's name
    format = "label-map"         # one of FORMATS
    root = "."                   # where the paths below start; else this file's folder
    images = "images"            # a folder, or a pattern: "{split}/{image}.jpg"
    masks = "masks"              # label-map, binary: the same: "{image}_mask.png", "masks/{class}/{image}.*"
    annotations = "{split}/_annotations.coco.json"     # the other formats
    void = 255                   # values or "#rrggbb" that belong to no class and are not scored
    background = 0               # values or "#rrggbb" that are background; [] if every pixel is of a class
    threshold = 128              # binary: from where a soft mask is object; else half of the full value
    min_area = 500               # px a class must cover in an image to be used; else the protocol's 2048
    without_mask = "refuse"      # an image without mask is an error, or "empty": it shows no object

    [classes]                    # name = what label maps hold: a value, or a colour "#rrggbb"
    cat = 1
    "traffic light" = 7          # where files have names of their own, a list will do: classes = ["cat", "dog"]

    [folds]                      # optional: which classes each fold holds out; without it one fold has them all
    0 = ["cat"]
    1 = ["traffic light"]

    [lists]                      # optional: image lists, chosen by --lists; "default" if there are any
    default = "test.txt"         # one image a line, with or without suffix, folders and mask

Patterns are `fssbench.datasets.own.patterns`. A class has the id that label maps have if all are 1 or more; else
classes are numbered from 1 as they stand here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from fssbench.datasets.masks import LARGEST_CLASS
from fssbench.datasets.own.formats import FORMATS
from fssbench.datasets.own.patterns import Groups, filled, matches, whole
from fssbench.errors import DataError, unknown_name
from fssbench.names import name_problem

FILE = "dataset.toml"
PUBLISHED = ("pascal5i", "coco20i", "fss1000", "shapes5i", "folder")  # names that own data never gets

_EXAMPLE = 'images = "images"\nmasks = "masks"\n\n[classes]\ncat = 1\ndog = 2\n'
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")

Value = Annotated[int, Field(ge=0, le=65535, strict=True)] | Annotated[str, Field(min_length=1)]
Values = Annotated[list[Value], BeforeValidator(lambda given: given if isinstance(given, list) else [given])]


class OwnConfig(BaseModel):
    """What `dataset.toml` says. Paths are relative to `root`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    name: str = ""
    format: str = "label-map"
    root: str = "."
    images: str = ""
    masks: str = ""
    annotations: str = ""
    void: Values | None = None  # None: the largest value of 8 or 16 bits
    background: Values = [0]
    threshold: int | None = Field(default=None, ge=1, le=65535, strict=True)
    min_area: int | None = Field(default=None, ge=0, strict=True)
    without_mask: Literal["refuse", "empty"] = "refuse"
    classes: dict[str, Value] = Field(default_factory=dict)
    folds: dict[str, list[str]] = Field(default_factory=dict)
    lists: dict[str, str] = Field(default_factory=dict)

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, name: str) -> str:
        if name not in FORMATS:
            raise ValueError(unknown_name("format", name, FORMATS))
        return name

    @field_validator("classes", mode="before")
    @classmethod
    def _a_list_is_numbered_from_1(cls, classes: Any) -> Any:
        if not isinstance(classes, list):
            return classes
        if len({str(name) for name in classes}) != len(classes):
            raise ValueError(f"expected a name for each class, found one twice in {classes}")
        return {str(name): number for number, name in enumerate(classes, start=1)}

    @field_validator("classes")
    @classmethod
    def _names_and_values_are_plain(cls, classes: dict[str, int | str]) -> dict[str, int | str]:
        if len(set(classes.values())) != len(classes):
            raise ValueError(f"expected a value for each class, found one twice in {classes}")
        for name in classes:
            if not name or name in (".", "..") or "/" in name or "\\" in name:
                raise ValueError(f"expected names that can be folders, found {name!r}")
        return classes

    @model_validator(mode="after")
    def _all_goes_together(self) -> Self:
        if self.name and (self.name in PUBLISHED or name_problem(self.name)):
            problem = name_problem(self.name) or f"{self.name!r}, which is a published data set's"
            raise ValueError(f"name: expected a name of its own, found {problem}")
        drawn = self.format in ("label-map", "binary")
        if not self.classes and drawn:
            raise ValueError("classes: expected at least one, e.g. [classes] and cat = 1")
        if self.annotations and drawn:
            raise ValueError(f"annotations: the format {self.format} has masks; say format = (coco, labelme, ...)")
        values = [*self.classes.values(), *(self.void or ()), *self.background]
        for value in values if self.format == "label-map" else ():
            if isinstance(value, str) and not _COLOUR.fullmatch(value):
                raise ValueError(f"classes: expected a number or a colour '#rrggbb', found {value!r}")
        if self.format == "label-map":
            twice = [v for v in self.classes.values() if v in (self.void or ())]
            if twice or (0 in self.classes.values() and 0 in self.background):
                found = f"{twice[0]} is a class and void" if twice else "0 is a class and background"
                raise ValueError(f"classes: {found}; say `background = []`, or another void")
            if 255 in self.classes.values() and self.void is None:
                raise ValueError("classes: 255 is void where nothing else is said; say `void = []` if nothing is void")
        return self._checked_folds()

    def _checked_folds(self) -> Self:
        if sorted(self.folds) != sorted(map(str, range(len(self.folds)))):
            raise ValueError(f"folds: expected them numbered from 0, found {', '.join(self.folds)}")
        named = [name for classes in self.folds.values() for name in classes]
        unknown = [name for name in named if self.classes and name not in self.classes]
        if unknown:
            raise ValueError(f"folds: expected classes out of {', '.join(self.classes)}, found {unknown[0]!r}")
        if len(set(named)) != len(named) or any(not classes for classes in self.folds.values()):
            raise ValueError("folds: expected at least one class in each fold and no class in two")
        return self

    @property
    def base(self) -> Path:
        """The folder that paths start from."""
        return self.path.parent / self.root

    @property
    def title(self) -> str:
        """The data set's name: its own, or the folder's in letters that a name may have."""
        return self.name or named_after((self.base if self.root != "." else self.path.parent).resolve())

    @property
    def coloured(self) -> bool:
        """Whether label maps are read by colour."""
        return any(isinstance(value, str) for value in self.classes.values())

    def ids(self) -> dict[str, int]:
        """Class name -> the id that banks have."""
        values = list(self.classes.values())
        if self.format == "label-map" and all(isinstance(v, int) and 1 <= v <= LARGEST_CLASS for v in values):
            return {name: int(value) for name, value in self.classes.items()}
        return {name: number for number, name in enumerate(self.classes, start=1)}

    @property
    def images_pattern(self) -> str:
        """Where images lie, one by one."""
        beside = {"labelme": "{image}.*", "supervisely": "{dataset}/img/{image}"}
        return whole(self.images or beside.get(self.format, "images"))

    def image_files(self) -> list[tuple[Path, Groups]]:
        """Every picture where images lie; masks may be among them."""
        return list(matches(self.base, self.images_pattern, {"class": self.classes} if self.classes else {}))

    def mask_files(self) -> list[tuple[Path, Groups]]:
        """Every mask file."""
        return list(matches(self.base, self.mask_pattern, {"class": self.classes}))

    @property
    def mask_pattern(self) -> str:
        """Where masks lie; binary masks of several classes in a folder a class."""
        several = self.format == "binary" and len(self.classes) > 1
        return whole(self.masks or "masks", "{class}/{image}.*" if several else "{image}.*")

    def annotation_files(self, default: str) -> list[tuple[Path, Groups]]:
        """Every annotation file. Raises `DataError` if there is none."""
        pattern = self.annotations or default
        found = list(matches(self.base, pattern, pictures=False))
        if not found:
            raise DataError(
                f"{self.path}: expected annotations at {self.base / pattern}, found no file there. Say where they are "
                "by `annotations = ` (and `root = `)."
            )
        return found

    def image_folder(self, groups: Mapping[str, str], beside: Path) -> Path:
        """Where the pictures of one annotation file lie: as `images` says, else beside it."""
        return self.base / filled(self.images, groups) if self.images else beside


def named_after(folder: Path) -> str:
    """A folder's name, as it is given, in letters that a data set's may have, and never a published one."""
    name = folder.resolve().name if folder.name in ("", "..") else folder.name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:60] or "own"
    return f"own-{plain}" if plain in PUBLISHED else plain


def read_config(root: Path) -> OwnConfig:
    """The description at `root`, a folder or the TOML file itself. Raises `DataError` saying what is wrong with it."""
    path = root if root.is_file() or root.suffix == ".toml" else root / FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(
            f"no data set at {root}: expected {path}, which describes it, found no file. `fssbench adopt` looks "
            f"at a folder of images and writes it; or name the right one by --root. The least that it says:\n{_EXAMPLE}"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: expected TOML, found something else: {error}. For example:\n{_EXAMPLE}") from error
    if "layout" in values:
        raise DataError(f"{path}: `layout` is called `format` now: say format = {values['layout']!r}.")
    try:
        return OwnConfig.model_validate({**values, "path": path})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: {problems}. For example:\n{_EXAMPLE}") from error
