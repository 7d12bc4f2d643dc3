"""`dataset.toml`, the description of a user's own data set (fssbench.datasets.folder says what stands in it)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fssbench.errors import DataError

FILE = "dataset.toml"

ClassId = Annotated[int, Field(ge=1, le=254, strict=True)]

_EXAMPLE = 'images = "images"\nmasks = "masks"\nlayout = "label-map"\n\n[classes]\ncat = 1\ndog = 2\n'


class FolderConfig(BaseModel):
    """What `dataset.toml` says. Paths are relative to its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    images: str = "images"
    masks: str = "masks"
    layout: Literal["label-map", "binary"] = "label-map"
    min_area: int | None = Field(default=None, ge=0, strict=True)
    classes: dict[str, ClassId] = Field(min_length=1)
    folds: dict[str, list[str]] = Field(default_factory=dict)
    lists: dict[str, str] = Field(default_factory=dict)

    @field_validator("classes")
    @classmethod
    def _names_and_ids_are_plain(cls, classes: dict[str, int]) -> dict[str, int]:
        if len(set(classes.values())) != len(classes):
            raise ValueError(f"expected a class id for each class, found one twice in {classes}")
        for name in classes:
            if not name or name in (".", "..") or "/" in name or "\\" in name:
                raise ValueError(f"expected names that can be folders, found {name!r}")
        return classes

    @model_validator(mode="after")
    def _folds_are_of_the_classes(self) -> Self:
        if sorted(self.folds) != sorted(map(str, range(len(self.folds)))):
            raise ValueError(f"folds: expected them numbered from 0, found {', '.join(self.folds)}")
        named = [name for classes in self.folds.values() for name in classes]
        unknown = [name for name in named if name not in self.classes]
        if unknown:
            raise ValueError(f"folds: expected classes out of {', '.join(self.classes)}, found {unknown[0]!r}")
        if len(set(named)) != len(named) or any(not classes for classes in self.folds.values()):
            raise ValueError("folds: expected at least one class in each fold and no class in two")
        return self

    def fold_ids(self) -> tuple[tuple[int, ...], ...]:
        """The class ids that each fold holds out; one fold of all classes if none is given."""
        if not self.folds:
            return (tuple(sorted(self.classes.values())),)
        return tuple(
            tuple(sorted(self.classes[name] for name in self.folds[str(fold)])) for fold in range(len(self.folds))
        )


def read_config(root: Path) -> FolderConfig:
    """The description at `root`, a folder or the TOML file itself. Raises `DataError` saying what is wrong with it."""
    path = root if root.is_file() else root / FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"no data set at {root}: expected {path}, which describes it, found no file. Name its folder by --root. "
            f"The least that it must say:\n{_EXAMPLE}"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: expected TOML, found something else: {error}. For example:\n{_EXAMPLE}") from error
    try:
        return FolderConfig.model_validate({**values, "path": path})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: {problems}. For example:\n{_EXAMPLE}") from error
