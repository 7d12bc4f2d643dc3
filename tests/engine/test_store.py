"""The store keeps what is needed soonest, spills the rest, and never gives back anything else than was put in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fssbench.engine.store import FeatureStore


def features(value: float, floats: int = 4) -> dict[str, torch.Tensor]:
    return {"a": torch.full((1, floats), float(value)), "b": torch.full((1, 2), value, dtype=torch.bfloat16)}


def test_over_budget_the_entry_needed_last_goes() -> None:
    store = FeatureStore({"soon": [1], "late": [9], "middle": [5]}, budget=2 * 20)
    for number, key in enumerate(("soon", "late", "middle")):
        store.put(key, features(number))
    assert "late" not in store
    assert "soon" in store
    assert "middle" in store


def test_a_newcomer_that_is_needed_last_is_not_kept() -> None:
    store = FeatureStore({"soon": [1], "late": [9]}, budget=20)
    store.put("soon", features(0))
    store.put("late", features(1))
    assert "soon" in store
    assert "late" not in store


def test_an_entry_is_dropped_after_its_last_use() -> None:
    store = FeatureStore({"once": [0], "twice": [0, 3]}, budget=1000)
    store.put("once", features(0))
    store.put("twice", features(1))
    store.finish(0)
    assert "once" not in store
    assert "twice" in store
    store.finish(3)
    assert "twice" not in store


def test_what_is_not_in_the_schedule_is_not_kept() -> None:
    store = FeatureStore({}, budget=1000)
    store.put("anything", features(0))
    assert "anything" not in store


def test_spilled_features_come_back_as_they_were(tmp_path: Path) -> None:
    store = FeatureStore({k: [k] for k in range(6)}, budget=20, spill_folder=tmp_path, spill_budget=1000)
    for key in range(6):
        store.put(key, features(key))
    for key in range(6):
        got = store.get(key)
        assert got is not None
        assert all(torch.equal(got[name], value) for name, value in features(key).items())
        assert got["b"].dtype == torch.bfloat16
    store.close()
    assert not list(tmp_path.iterdir())


def test_what_a_gpus_budget_does_not_hold_is_kept_by_the_host_before_it_goes_to_disk(tmp_path: Path) -> None:
    """Six entries of 20 bytes: one on the device, four on the host, one on disk."""
    store = FeatureStore({k: [k] for k in range(6)}, 30, tmp_path, 1000, host_budget=80)
    for key in range(6):
        store.put(key, features(key))
    assert (store.statistics.peak_bytes, store.statistics.host_peak_bytes, store.statistics.spilled_bytes) == (
        20,
        80,
        20,
    )
    for key in range(6):
        got = store.get(key)
        assert got is not None
        assert all(torch.equal(got[name], value) for name, value in features(key).items())
        store.finish(key)
    assert not any(key in store for key in range(6))
    store.put(0, features(0))  # nobody needs it any more
    store.close()


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 30)), min_size=1, max_size=60),
    st.integers(0, 200),
    st.integers(0, 200),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_budgets_memory_stays_within_and_content_is_right(
    tmp_path_factory: pytest.TempPathFactory, uses: list[tuple[int, int]], budget: int, spill: int
) -> None:
    schedule: dict[int, list[int]] = {}
    for key, step in sorted(uses, key=lambda use: use[1]):
        schedule.setdefault(key, []).append(step)
    store = FeatureStore(schedule, budget, tmp_path_factory.getbasetemp(), spill)
    for step in range(31):
        for key in [k for k, steps in schedule.items() if step in steps]:
            got = store.get(key)
            if got is None:
                store.put(key, features(key))
            else:
                assert torch.equal(got["a"], features(key)["a"])
        store.finish(step)
    assert store.statistics.peak_bytes <= budget
    assert not any(key in store for key in schedule)
    store.close()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_map_that_was_spilled_comes_back_in_its_memory_layout(tmp_path: Path, layout: torch.memory_format) -> None:
    put = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5).to(memory_format=layout)
    store = FeatureStore({"key": [0]}, budget=0, spill_folder=tmp_path, spill_budget=10_000)
    store.put("key", {"map": put})
    back = store.get("key")
    store.close()
    assert back is not None
    assert torch.equal(back["map"], put)
    assert back["map"].stride() == put.stride()


def test_a_transposed_tensor_that_was_spilled_comes_back_equal(tmp_path: Path) -> None:
    store = FeatureStore({"key": [0]}, budget=0, spill_folder=tmp_path, spill_budget=10_000)
    store.put("key", {"vectors": torch.arange(6.0).view(1, 2, 3).transpose(1, 2)})
    back = store.get("key")
    store.close()
    assert back is not None
    assert back["vectors"].tolist() == [[[0, 3], [1, 4], [2, 5]]]
