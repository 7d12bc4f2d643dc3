"""Every registered method fulfils the contract."""

from __future__ import annotations

import pytest
from torch import Tensor

from fssbench.conformance import CHECKS, Subject
from fssbench.errors import MethodError
from fssbench.method import EpisodeBatch
from fssbench.registry import BUILT_IN, find_method
from fssbench.settings import parse_settings
from methods.panet import PANet

SIZE = "size=64,96"
SETTINGS: dict[str, list[str]] = {  # beside size and backbone: what makes a method small
    "hsnet": ["size=160,160"],  # below, the support positions that its strides keep all lie outside the object
    "oslsm": ["stride=8", "width=32", "codes=50", "support_size=64,64", "dropout=0"],
    "pfenet": ["ppm_scales=0.5,0.25"],
    "rpmms": ["components=1,2"],
}


def subject(name: str) -> Subject:
    method = find_method(name)
    settings = ["backbone=efficientnet_lite0", SIZE, *SETTINGS.get(name, [])]
    return Subject(method, parse_settings(method.Config, settings))


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "overfits"])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_method_fulfils_the_contract(name: str, check: str) -> None:
    CHECKS[check](subject(name))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "panet" else pytest.mark.slow) for n in sorted(BUILT_IN)]
)
def test_method_learns_a_single_episode(name: str) -> None:
    CHECKS["overfits"](subject(name))


class InPlace(PANet):
    """Changes what other episodes will be given."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        episodes.support["prototypes"].neg_()
        return super().segment(episodes)


def test_a_method_that_changes_its_features_in_place_is_found_out() -> None:
    config = parse_settings(PANet.Config, ["backbone=efficientnet_lite0", SIZE])
    with pytest.raises(MethodError, match="leave its features alone"):
        CHECKS["shared_features"](Subject(InPlace, config))
