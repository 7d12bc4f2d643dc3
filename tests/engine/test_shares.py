"""What a record says of its cost: its share of the seconds of a run, and the parameters of its method."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import torch
import toy_methods

from fssbench.engine import clock
from fssbench.engine.build import MethodSpec, build_method
from fssbench.engine.parameters import count_parameters
from fssbench.method import EpisodeBatch
from fssbench.records import WeightsEntry, read_run
from fssbench.regime import Regime


class Slow(toy_methods.Toy):
    """A head that takes a hundred seconds a step, by the clock of these tests."""

    ticks = count()
    late = 0
    steps = 0

    def segment(self, episodes: EpisodeBatch) -> torch.Tensor:
        Slow.late += 100
        Slow.steps += 1
        return super().segment(episodes)


def test_seconds_of_all_records_sum_to_the_runs_and_a_slow_head_is_its_methods_alone(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_methods, "Slow", Slow, raising=False)
    readings = []

    def now() -> float:  # every phase takes one second, and a slow head's a hundred more
        readings.append(next(Slow.ticks) + Slow.late)
        return float(readings[-1])

    monkeypatch.setattr(clock.time, "perf_counter", now)
    outcomes = run("Toy", "Slow", shots=(1, 5), out=tmp_path / "out")
    phases = sum(end - start for start, end in zip(readings[::2], readings[1::2], strict=True))
    by_name = {(o.name, o.shot): read_run(o.folder).seconds for o in outcomes}
    assert sum(sum(seconds.values()) for seconds in by_name.values()) == pytest.approx(phases, abs=0.02)
    slow = [seconds["head"] for (name, _), seconds in by_name.items() if name.endswith("Slow")]
    quick = [seconds["head"] for (name, _), seconds in by_name.items() if name.endswith("Toy")]
    assert sum(slow) == pytest.approx(101 * Slow.steps)
    assert sum(quick) == pytest.approx(Slow.steps)  # as many steps, none of the hundreds
    assert by_name["toy_methods:Toy", 1]["encode"] > 0


def test_parameters_that_a_training_left_as_published_are_not_called_trained() -> None:
    method, entry = build_method(MethodSpec("panet", (), "efficientnet_lite0", "imagenet"), 0)
    total = sum(p.numel() for p in method.parameters())
    assert count_parameters(method, entry).model_dump() == {"total": total, "trained": 0}
    encoder = dict(method.encoder.named_parameters())
    parameter = max(encoder.values(), key=lambda each: each.numel())
    with torch.no_grad():
        parameter += 1
    head = total - sum(p.numel() for p in encoder.values())
    ours = WeightsEntry(kind="checkpoint", sha256="0" * 64, regime=Regime(source="fssbench"))
    assert count_parameters(method, ours).trained == head + parameter.numel()
    theirs = ours.model_copy(update={"regime": Regime(source="authors")})
    assert count_parameters(method, theirs).model_dump() == {"total": total, "trained": None}
