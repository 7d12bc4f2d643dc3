"""Every registered method fulfils the contract."""

from __future__ import annotations

import pytest
from torch import Tensor

from fssbench.conformance import CHECKS, small_subject
from fssbench.errors import MethodError
from fssbench.method import EpisodeBatch
from fssbench.registry import BUILT_IN, find_method
from methods.panet import PANet


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "overfits"])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_method_fulfils_the_contract(name: str, check: str) -> None:
    CHECKS[check](small_subject(find_method(name)))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "panet" else pytest.mark.slow) for n in sorted(BUILT_IN)]
)
def test_method_learns_a_single_episode(name: str) -> None:
    CHECKS["overfits"](small_subject(find_method(name)))


class InPlace(PANet):
    """Changes what other episodes will be given."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        episodes.support["prototypes"].neg_()
        return super().segment(episodes)


def test_a_method_that_changes_its_features_in_place_is_found_out() -> None:
    with pytest.raises(MethodError, match="leave its features alone"):
        CHECKS["shared_features"](small_subject(InPlace))
