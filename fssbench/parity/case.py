"""A parity case: what the authors' code returned for weights and inputs that a recipe rebuilds."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fssbench.engine.assemble import one_by_one
from fssbench.errors import DataError
from fssbench.method import EpisodeBatch, Method, MethodConfig, build_episodes
from fssbench.parity import recipe

Arrays = dict[str, NDArray[Any]]
Size = tuple[int, int]
Route = Literal["whole", "cached"]
Kind = TypeVar("Kind", bound=Method)

_DESCRIPTION = ("meta", "names", "shapes")


@dataclass(frozen=True)
class Case:
    """One file. `meta` says sizes, batch, shots, ways and variants; a runner assumes none of them.

    `route` is how episodes are built: `whole` encodes all images in one batch, `cached` each image and each support
    by itself, as the engine does.
    """

    file: Path
    meta: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]  # the authors' state dict
    expected: Arrays
    route: Route = "whole"

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.file.stem

    @property
    def size(self) -> Size:
        """H x W of the query."""
        size = self.meta["image_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return int(height), int(width)

    @property
    def batch(self) -> int:
        """Episodes."""
        return int(self.meta["batch"])

    @property
    def shots(self) -> int:
        """Supports of each way."""
        return int(self.meta["shots"])

    @property
    def items(self) -> list[str]:
        """The prefix of each episode's names: "b0_", "b1_", ...; empty for a batch of one."""
        return [f"b{b}_" for b in range(self.batch)] if self.batch > 1 else [""]

    def through(self, route: Route) -> Case:
        """The same case by another route."""
        return replace(self, route=route)

    def state(self) -> dict[str, Tensor]:
        """The authors' state dict."""
        made = recipe.state_dict(self.shapes, self.meta["seed"], self.meta["gain"])
        return {name: torch.from_numpy(value) for name, value in made.items()}

    def rgb(self, name: str, size: Size | None = None) -> NDArray[np.uint8]:
        """H x W x 3, as drawn; at the query's size unless told."""
        return recipe.image(size or self.size, self.meta["seed"], name)

    def image(self, name: str, size: Size | None = None) -> Tensor:
        """3 x H x W in ImageNet's normalisation."""
        return torch.from_numpy(recipe.normalised(self.rgb(name, size)))

    def mask(self, name: str, size: Size | None = None) -> Tensor:
        """H x W uint8, 0 and 1."""
        return torch.from_numpy(recipe.mask(size or self.size, self.meta["seed"], name))

    def images(self, names: Iterable[str], size: Size | None = None) -> Tensor:
        """B x 3 x H x W."""
        return torch.stack([self.image(name, size) for name in names])

    def masks(self, names: Iterable[str], size: Size | None = None) -> Tensor:
        """B x H x W uint8."""
        return torch.stack([self.mask(name, size) for name in names])

    def method(self, cls: type[Kind], config: MethodConfig, state: dict[str, Tensor] | None = None) -> Kind:
        """The method in eval mode with the case's weights (or others), loaded as an official checkpoint is."""
        with _Undrawn():  # every entry comes from the case
            method = cls(config)
        method.load_official(self.state() if state is None else state)
        return method.eval()

    def episodes(
        self,
        method: Method,
        query: Tensor,
        support: Tensor,
        labels: Tensor,
        query_labels: Tensor | None = None,
        **base: Tensor,
    ) -> EpisodeBatch:
        """`fssbench.method.build_episodes`, or the same by the route of the engine's cache.

        `base`: the `classes` and `base_labels` of methods with a base learner.
        """
        build = build_episodes if self.route == "whole" else one_by_one
        return build(method, query, support, labels, query_labels, **base)


class _Undrawn(TorchFunctionMode):
    """Leaves new parameters as they are: drawing them costs more than many a case."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in (Tensor.uniform_, Tensor.normal_) or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def load_case(file: Path) -> Case:
    """Read a case. Raises `DataError` naming the file if it is not one."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta, shapes = json.loads(str(arrays["meta"])), json.loads(str(arrays["shapes"]))
        known = {str(name): tuple(shapes[str(name)]) for name in arrays["names"]}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file} is not a parity case: expected an .npz with meta, names and shapes, found {error}"
        ) from error
    return Case(file, meta, known, {k: v for k, v in arrays.items() if k not in _DESCRIPTION})


def find_cases(folder: Path) -> list[Path]:
    """Every case file in a folder (or the file itself), sorted. Raises `DataError` if there is none."""
    found = [folder] if folder.is_file() else sorted(folder.glob("*.npz"))
    if not found:
        raise DataError(f"no parity cases in {folder}: expected files ending in .npz. Name the folder that holds them.")
    return found
