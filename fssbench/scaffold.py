"""What `fssbench new-method` writes: a prototype method that runs, its test, and an entry point."""

from __future__ import annotations

import re
from pathlib import Path

from fssbench.errors import UsageError

METHOD = '''"""{title}: say here which paper, the idea in one sentence, and how yours differs from the authors' code."""

from __future__ import annotations

import torch
from torch import Tensor

from fssbench.backbones import Needs, build_backbone
from fssbench.method import EpisodeBatch, Features, Method, MethodConfig, MethodInfo, Preprocess, SupportBatch, Term
from methods.blocks import cosine_scores, cross_entropy, pool_prototypes, resize
from methods.recipes.lite import EARLY, TUNED, lite


class {title}Config(MethodConfig):
    """Options; each goes by --set NAME=VALUE."""

    backbone: str = "efficientnet_lite0"
    size: tuple[int, int] = (321, 321)
    scale: float = 20.0


class {title}(Method):
    """Cosine similarity with the mean of the support's features inside its mask."""

    info = MethodInfo(
        title="{title}", paper="unpublished", venue="none", year={year}, url="", code=None,
        backbones=("efficientnet_lite0",), max_ways=None,
        untrained=True,  # nothing but the backbone has weights; say False once there are layers of your own
    )  # fmt: skip
    Config = {title}Config
    # `fssbench train`: the backbone's later blocks learn. With layers of your own, `lite()` trains those alone.
    recipes = {{"lite": lite(TUNED, frozen=EARLY)}}

    def __init__(self, config: {title}Config) -> None:
        super().__init__(config)
        self.encoder = build_backbone(config.backbone, output_stride=8, stages=4, needs=Needs(("c4",)))
        self.query_input = Preprocess(config.size, mean=self.encoder.mean, std=self.encoder.std)

    def encode_support(self, support: SupportBatch) -> Features:
        """Background and object prototypes of each support, M x 2 x C: kept, so that the map need not be."""
        masks = torch.cat([(support.labels == 0).float().unsqueeze(1), support.foreground], dim=1)
        return {{"prototypes": pool_prototypes(support.features["c4"], masks)}}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """Logits, B x (1 + N) x h x w: the mean over shots, and for the background over ways."""
        background, ways = episodes.support["prototypes"].mean(2).unbind(2)  # B x N x C each
        vectors = torch.cat([background.mean(1, keepdim=True), ways], dim=1)
        return self.config.scale * cosine_scores(episodes.query["c4"], vectors)  # type: ignore[no-any-return]

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        """Cross entropy over all pixels that are not void."""
        if episodes.query_labels is None:
            raise ValueError("a loss expects episodes with query_labels")
        return {{"main": cross_entropy(resize(self.segment(episodes), episodes.query_shape), episodes.query_labels)}}
'''

TEST = '''"""{title} keeps the contract. What makes it yours deserves tests of its own."""

import pytest
from {name} import {title}

from fssbench.conformance import CHECKS, small_subject


@pytest.mark.parametrize("check", CHECKS)
def test_it_keeps_the_contract(check: str) -> None:
    CHECKS[check](small_subject({title}))
'''

PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{dashed}"
version = "0.1.0"
dependencies = ["fssbench"]

[project.entry-points."fssbench.methods"]
{name} = "{name}:{title}"

[tool.hatch.build.targets.wheel]
include = ["{name}.py"]
"""


def class_name(name: str) -> str:
    """The class of a method by its name.

    >>> class_name("my_method")
    'MyMethod'
    """
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def write_method(name: str, folder: Path, year: int = 2026) -> Path:
    """Write the three files into a new folder. Raises `UsageError` for a name in use or a folder that exists."""
    from importlib.util import find_spec

    from fssbench.registry import method_names

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise UsageError(f"expected a name of lower-case letters, digits and single underscores, found {name!r}")
    if name in method_names() or find_spec(name) is not None:
        raise UsageError(f"{name!r} is the name of a method or module already: choose another")
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"{folder} exists already: name another by --out") from error
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}. Name another by --out") from error
    words = {"name": name, "title": class_name(name), "dashed": name.replace("_", "-"), "year": year}
    for file, text in ((f"{name}.py", METHOD), (f"test_{name}.py", TEST), ("pyproject.toml", PROJECT)):
        (folder / file).write_text(text.format(**words), encoding="utf-8")
    return folder
