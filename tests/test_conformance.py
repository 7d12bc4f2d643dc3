"""Each conformance check lets a sound method pass and finds the fault that it is there for."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from toy_methods import Toy

from fssbench.conformance import CHECKS, Subject, failure
from fssbench.method import EpisodeBatch, Features, MethodConfig, SupportBatch, Term
from methods.blocks import cross_entropy, resize


class Sound(Toy):
    """A method without a fault."""

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        assert episodes.query_labels is not None
        return {"main": cross_entropy(resize(self.segment(episodes), episodes.query_shape), episodes.query_labels)}


class ForgetsTheBackground(Sound):
    def segment(self, episodes: EpisodeBatch) -> Tensor:
        return super().segment(episodes)[:, 1:]


class DecidesOtherLabels(Sound):
    def decide(self, logits: Tensor) -> Tensor:
        return super().decide(logits) + 1


class BuildsWhatItDoesNotUse(Sound):
    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self.forgotten = nn.Linear(2, 2)


class LearnsNothing(Sound):
    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        return {"main": self.segment(episodes).square().mean()}


class DrawsInEvalMode(Sound):
    def segment(self, episodes: EpisodeBatch) -> Tensor:
        logits = super().segment(episodes)
        return logits + torch.rand_like(logits)


class LooksAtItsNeighbours(Sound):
    def segment(self, episodes: EpisodeBatch) -> Tensor:
        logits = super().segment(episodes)
        return logits - logits.mean(0)


class PoolsOverTheBatch(Sound):
    def encode_support(self, support: SupportBatch) -> Features:
        prototype = super().encode_support(support)["prototype"]
        return {"prototype": prototype - prototype.mean(0)}


class ChangesItsInput(Sound):
    def segment(self, episodes: EpisodeBatch) -> Tensor:
        episodes.support["prototype"].neg_()
        return super().segment(episodes)


class DividesByTheObject(Sound):
    def segment(self, episodes: EpisodeBatch) -> Tensor:
        return super().segment(episodes) / episodes.support_foreground.mean((1, 2, 3, 4)).view(-1, 1, 1, 1)


class KeepsStateBesideTheDict(Sound):
    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self.hidden = torch.rand(())

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        return super().segment(episodes) * self.hidden


class RemembersImages(Sound):
    seen = 0.0

    def project(self, features: Features) -> Features:
        self.seen = self.seen + 1
        return {name: value * self.seen for name, value in features.items()}


class NeedsThePrecision(Sound):
    def segment(self, episodes: EpisodeBatch) -> Tensor:
        one = torch.ones_like(episodes.query["c1"][:1, :1, :1, :1])
        return super().segment(episodes) / (one + 1e-3 - one)  # 0 in bfloat16


class SaysThatNoiseNeedsNoTraining(Sound):
    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self.scale = nn.Parameter(torch.ones(()))  # the same for every seed
        self.mix = nn.Conv2d(8, 8, 1, bias=False)

    def project(self, features: Features) -> Features:
        return {"c1": self.scale * self.mix(features["c1"])}


class TakesAnything(Sound):
    def load_official(self, state: Mapping[str, Tensor]) -> None:
        own = self.state_dict()
        self.load_state_dict(own | {name: state[name] for name in own.keys() & state.keys()})


FAULTS: dict[type[Sound], tuple[str, str]] = {
    ForgetsTheBackground: ("shapes", "expected logits of 1 x 2 x h x w"),
    DecidesOtherLabels: ("shapes", "labels from 0 to 1; found .* from 1 to 2"),
    BuildsWhatItDoesNotUse: ("gradients", r"none reached 2: forgotten\.weight, forgotten\.bias"),
    LearnsNothing: ("overfits", "query IoU above 0.9"),
    DrawsInEvalMode: ("eval_is_deterministic", "repeat its logits exactly"),
    LooksAtItsNeighbours: ("eval_is_deterministic", "alone and in a batch"),
    PoolsOverTheBatch: ("cache", "one by one and in a batch"),
    ChangesItsInput: ("shared_features", "leave its features alone"),
    DividesByTheObject: ("empty_support", "found NaN or infinity"),
    KeepsStateBesideTheDict: ("state_dict", "something is not in the dict"),
    RemembersImages: ("encode_is_pure", "feature 'c1' of an image alone"),
    NeedsThePrecision: ("bf16", "found NaN or infinity with bfloat16"),
    SaysThatNoiseNeedsNoTraining: ("untrained", r"`untrained=False` .* drawn at random: mix\.weight\."),
    TakesAnything: ("foreign_checkpoint", "took them silently"),
}


def subject(cls: type[Sound]) -> Subject:
    return Subject(cls, cls.Config(backbone="toy"), steps=100, rate=1e-2)


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_method_passes(check: str) -> None:
    assert failure(CHECKS[check], subject(Sound)) is None


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_a_fault_is_found_and_said(cls: type[Sound]) -> None:
    check, words = FAULTS[cls]
    assert re.search(words, failure(CHECKS[check], subject(cls)) or "passed")


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {check for check, _ in FAULTS.values()} == set(CHECKS)


def test_an_empty_support_without_a_warning_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fssbench.method.warn_if_empty", lambda labels: None)
    assert "expected an EmptySupportWarning" in (failure(CHECKS["empty_support"], subject(Sound)) or "passed")


def test_a_method_that_raises_fails_its_check() -> None:
    class Raises(Sound):
        def segment(self, episodes: EpisodeBatch) -> Tensor:
            raise ZeroDivisionError("a bug in the head")

    assert failure(CHECKS["shapes"], subject(Raises)) == "the method raised ZeroDivisionError: a bug in the head"
