"""One optimiser step, against the same step by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from toy_training import Learner, LearnerConfig

from fssbench.method import Term
from fssbench.training.batches import Images
from fssbench.training.recipe import Group, Optimiser, Schedule, Stage
from fssbench.training.updates import Updater

ONE = Group(("encoder.bias",), rate=0.5, weight_decay=0.2)
GROUPS = (ONE, Group(("head.2.bias",)))


class Linear(nn.Module):
    """Losses whose gradients are known: `slope` for each element of the encoder's bias, 3 x `slope` for the head's.

    "main" is a sum over four pixels an image, "size" a plain mean, which the method weighs by 1/1000.
    """

    def __init__(self, method: Learner, slope: float = 1.0) -> None:
        super().__init__()
        self.method, self.slope = method, slope

    def forward(self, batch: Images) -> dict[str, Term]:
        value = self.slope * (self.method.encoder.bias.sum() + 3 * self.method.head[2].bias.sum())
        pixels = 4 * len(batch)
        return {
            "main": Term(value * pixels, torch.tensor(float(pixels))),
            "size": Term(torch.tensor(7.0 * len(batch)), torch.tensor(float(len(batch)))),
        }


def updater(slope: float = 1.0, total: int = 10, **how: object) -> tuple[Updater, Tensor, Tensor]:
    """An updater, and the two parameters that it moves; the method's other parameters are frozen."""
    torch.manual_seed(0)
    method = Learner(LearnerConfig())
    values = {"optimiser": Optimiser("SGD", 0.1), "groups": GROUPS, "frozen": ("*.weight",)}
    stage = Stage(**(values | how))  # type: ignore[arg-type]
    made = Updater(method, stage, total)
    made.losses = Linear(method, slope)
    return made, method.encoder.bias, method.head[2].bias  # type: ignore[return-value]


def images(number: int) -> Images:
    return Images(torch.zeros(number, 3, 2, 2), torch.zeros(number, 2, 2, dtype=torch.long))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_moves_each_group_by_its_rate_decay_and_momentum(nesterov: bool) -> None:
    spec = Optimiser("SGD", 0.1, weight_decay=0.3, momentum=0.9, nesterov=nesterov)
    stepping, encoder, head = updater(optimiser=spec, schedule=Schedule(power=1.0))
    expected = [(encoder.detach().clone(), 1.0, 0.5, 0.2), (head.detach().clone(), 3.0, 1.0, 0.3)]
    speeds: list[Tensor] = [torch.zeros(8), torch.zeros(2)]
    for step in range(3):
        report = stepping.step([images(2)], step)
        assert report.rate == pytest.approx(0.1 * (1 - step / 10) * 0.5)
        for number, (weight, slope, rate, decay) in enumerate(expected):
            gradient = slope + decay * weight
            speeds[number] = 0.9 * speeds[number] + gradient
            change = gradient + 0.9 * speeds[number] if nesterov else speeds[number]
            weight -= 0.1 * (1 - step / 10) * rate * change
        torch.testing.assert_close(encoder, expected[0][0])
        torch.testing.assert_close(head, expected[1][0])


@pytest.mark.parametrize(("kind", "decay"), [("Adam", 0.0), ("AdamW", 0.3)])
def test_a_first_step_of_adam_is_the_rate_against_the_gradients_sign(kind: str, decay: float) -> None:
    stepping, encoder, head = updater(optimiser=Optimiser(kind, 0.1, weight_decay=decay), groups=(Group(),))  # type: ignore[arg-type]
    before = [encoder.detach().clone(), head.detach().clone()]
    stepping.step([images(1)], 0)
    for now, then in zip((encoder, head), before, strict=True):
        torch.testing.assert_close(now, then * (1 - 0.1 * decay) - 0.1)


@pytest.mark.parametrize("sizes", [(4,), (1, 3)])
def test_a_report_has_the_means_and_the_norm_of_the_whole_batch(sizes: tuple[int, ...]) -> None:
    stepping, encoder, head = updater()
    main = float((encoder.sum() + 3 * head.sum()).detach())
    report = stepping.step([images(n) for n in sizes], 0)
    assert report.terms == pytest.approx({"main": main, "size": 7.0}, abs=1e-5)
    assert report.loss == pytest.approx(main + 7e-3, abs=1e-5)
    assert report.gradient == pytest.approx(math.sqrt(8 * 1 + 2 * 9))


def test_gradients_are_cut_to_the_norm_of_their_group_and_of_all_and_reported_as_they_were() -> None:
    whole = math.sqrt(8 * 1 + 2 * 9)
    for how, factors in (
        ({"clip": 2.0}, (2 / whole, 2 / whole)),
        ({"clip": 2 * whole}, (1.0, 1.0)),
        ({"groups": (Group(("encoder.bias",), clip=1.0), Group())}, (1 / math.sqrt(8), 1.0)),
    ):
        stepping, encoder, head = updater(**({"groups": (Group(("encoder.bias",)), Group())} | how))
        before = [encoder.detach().clone(), head.detach().clone()]
        assert stepping.step([images(1)], 0).gradient == pytest.approx(whole)
        for now, then, factor, slope in zip((encoder, head), before, factors, (1, 3), strict=True):
            torch.testing.assert_close(now, then - 0.1 * slope * factor, msg=str(how))


@pytest.mark.parametrize("slope", [math.nan, math.inf])
def test_what_is_not_a_number_moves_nothing(slope: float) -> None:
    stepping, encoder, _ = updater(slope)
    before = encoder.detach().clone()
    assert not stepping.step([images(1)], 0).finite
    assert torch.equal(encoder, before)
