"""Every registered method fulfils the contract."""

from __future__ import annotations

import pytest

from fssbench.conformance import CHECKS, small_subject
from fssbench.registry import BUILT_IN, find_method


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "overfits"])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_method_fulfils_the_contract(name: str, check: str) -> None:
    CHECKS[check](small_subject(find_method(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_method_learns_a_single_episode(name: str) -> None:
    CHECKS["overfits"](small_subject(find_method(name)))
