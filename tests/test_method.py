"""`EpisodeBatch`: made in one way, cut in one way."""

from __future__ import annotations

import pytest
import torch

from fssbench.method import EpisodeBatch

B, N, K, A = 3, 2, 4, 5


def batch() -> EpisodeBatch:
    """Every item holds its own number."""

    def numbered(count: int) -> torch.Tensor:
        return torch.arange(count).view(count, 1, 1)

    return EpisodeBatch.of(
        (B, N, K),
        (7, 9),
        {"q": numbered(B)},
        {"s": numbered(B * N * K)},
        lambda: numbered(B * N * K),
        auxiliary={"a": numbered(B * N * A)},
        query_pixels=numbered(B),
        support_pixels=lambda: numbered(B * N * K),
        query_labels=numbered(B),
        classes=torch.arange(B),
        base_labels=numbered(B),
    )


def parts(episodes: EpisodeBatch) -> dict[str, list]:
    """All numbers of a batch by the part they are in."""
    lists = {
        "query": episodes.query["q"], "support": episodes.support["s"], "labels": episodes.support_labels,
        "auxiliary": episodes.auxiliary["a"], "query_pixels": episodes.query_pixels,
        "support_pixels": episodes.support_pixels, "query_labels": episodes.query_labels, "classes": episodes.classes,
        "base_labels": episodes.base_labels,
    }  # fmt: skip
    return {name: value.flatten().tolist() for name, value in lists.items() if value is not None}


def test_items_are_laid_out_by_episode_way_and_shot() -> None:
    made = batch()
    assert made.support["s"].shape[:3] == (B, N, K)
    assert made.auxiliary["a"].shape[:3] == (B, N, A)
    assert made.support["s"][1, 1, 2].item() == 1 * N * K + 1 * K + 2
    assert made.auxiliary["a"][2, 1, 3].item() == 2 * N * A + 1 * A + 3


def test_selected_episodes_bring_all_their_parts() -> None:
    some = batch().select(slice(1, 3))
    assert some.size == (2, N, K)
    found = parts(some)
    assert found["query"] == found["query_pixels"] == found["query_labels"] == found["classes"] == [1, 2]
    assert found["support"] == found["labels"] == found["support_pixels"] == list(range(N * K, 3 * N * K))
    assert found["auxiliary"] == list(range(N * A, 3 * N * A))


def test_a_way_is_its_own_supports_and_auxiliary_images() -> None:
    second = batch().way(1)
    assert second.size == (B, 1, K)
    found = parts(second)
    expected = [b * N * K + K + k for b in range(B) for k in range(K)]
    assert found["support"] == found["labels"] == found["support_pixels"] == expected
    assert found["auxiliary"] == [b * N * A + A + a for b in range(B) for a in range(A)]
    assert found["query"] == [0, 1, 2]
    assert "query_labels" not in found  # they number the ways


def test_fewer_shots_are_the_first_ones_and_leave_the_auxiliary_images() -> None:
    fewer = batch().shots(2)
    assert fewer.size == (B, N, 2)
    found = parts(fewer)
    assert found["support"] == [b * N * K + n * K + k for b in range(B) for n in range(N) for k in range(2)]
    assert found["auxiliary"] == list(range(B * N * A))


def test_one_episode_is_repeated_without_a_copy() -> None:
    often = batch().select(slice(2, 3)).expand(6)
    assert often.size == (6, N, K)
    assert often.query["q"].stride(0) == often.support["s"].stride(0) == 0
    assert parts(often)["query"] == [2] * 6
    with pytest.raises(ValueError, match="found 3"):
        batch().expand(2)


def test_what_nobody_asks_for_is_not_loaded() -> None:
    def never() -> torch.Tensor:
        raise AssertionError("loaded")

    made = EpisodeBatch.of((1, 1, 1), (7, 9), {}, {}, never, query_pixels=never, support_pixels=never)
    made.select(slice(1)).way(0).shots(1).expand(2)
