"""What long work tells of its progress, whoever shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Hands out items one by one, and shows how many are done."""

    def __call__(self, items: Sequence[T], what: str, /) -> Iterable[T]:
        """The items, in order; `what` says what is done to them."""


def quiet(items: Sequence[T], what: str, /) -> Iterable[T]:
    """No progress bar."""
    return items
