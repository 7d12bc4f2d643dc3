"""Values made on threads ahead of the time they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

from torch import Tensor

K = TypeVar("K", bound=Hashable)


class Ahead(Generic[K]):
    """Tensors by key, made by `make` on threads; the last ones asked for are kept, up to `keep_bytes`.

    Pillow releases the interpreter lock while it decodes and resizes, so threads suffice and nothing is copied between
    processes. What comes out does not depend on the number of threads, nor on what was prefetched.
    """

    def __init__(self, make: Callable[[K], Tensor], workers: int, keep_bytes: int = 0) -> None:
        self._make, self._keep_bytes, self._held = make, keep_bytes, 0
        self._pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="ahead")
        self._coming: dict[K, Future[Tensor]] = {}
        self._kept: OrderedDict[K, Tensor] = OrderedDict()

    def __enter__(self) -> Ahead[K]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prefetch(self, keys: Iterable[K]) -> None:
        """Begin to make what will be asked for soon."""
        for key in keys:
            if key not in self._coming and key not in self._kept:
                self._coming[key] = self._pool.submit(self._make, key)

    def get(self, key: K) -> Tensor:
        """The value of a key, made now if nobody began it. Raises what `make` raised."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        coming = self._coming.pop(key, None)
        value = self._make(key) if coming is None else coming.result()
        self._kept[key] = value
        self._held += value.nbytes
        while self._held > self._keep_bytes:
            self._held -= self._kept.popitem(last=False)[1].nbytes
        return value

    def close(self) -> None:
        """Stop the threads, without waiting for what nobody asked for."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._coming.clear()
        self._kept.clear()
