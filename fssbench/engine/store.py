"""Features kept between the moment an image is encoded and the last time it is needed.

The episodes are fixed in advance, so the store knows when each entry is needed next: over budget it evicts the one
that is needed last (Belady's rule), from a GPU to the host's memory, then to a spill file, as long as these have room,
else for good. An entry that is not needed any more is dropped at once.
"""

from __future__ import annotations

import heapq
import io
import tempfile
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fssbench.engine.memory import empty_apart
from fssbench.method import Features

NEVER = 1 << 62


@dataclass
class _Entry:
    uses: deque[int]
    features: Features | None = None
    hosted: Features | None = None
    spilled: list[tuple[str, int, Tensor]] | None = None  # name, offset, and a tensor of the same form without values
    size: int = 0

    @property
    def next_use(self) -> int:
        return self.uses[0] if self.uses else NEVER


@dataclass
class StoreStatistics:
    """What happened to the entries, for `fssbench speed` and tests."""

    peak_bytes: int = 0
    evicted: int = 0
    host_peak_bytes: int = 0
    spilled_bytes: int = 0
    read_back: int = 0
    spill_full: bool = False
    lost: int = 0


class FeatureStore:
    """Named tensors by key, within `budget` bytes of memory and `spill_budget` bytes of disk.

    `host_budget`: bytes of the host's memory for what a GPU's budget does not hold; 0 where features are there already.

    `schedule` maps every key to the steps that need it, ascending. `put` after a key's last step, or of a key that is
    not in the schedule, keeps nothing.
    """

    def __init__(
        self,
        schedule: Mapping[Hashable, Iterable[int]],
        budget: int,
        spill_folder: Path | None = None,
        spill_budget: int = 0,
        host_budget: int = 0,
    ) -> None:
        self._entries = {key: _Entry(deque(steps)) for key, steps in schedule.items()}
        self._budget, self._spill_budget = budget, spill_budget if spill_folder is not None else 0
        self._folder = spill_folder
        self._file: io.BufferedRandom | None = None
        self._held, self._host_budget, self._hosted = 0, host_budget, 0
        self._resident: list[tuple[int, int, Hashable]] = []  # max-heap by next use, with stale entries
        self._ticket = 0
        self._due: dict[int, list[Hashable]] = {}
        for key, entry in self._entries.items():
            for step in entry.uses:
                self._due.setdefault(step, []).append(key)
        self.statistics = StoreStatistics()

    def __contains__(self, key: Hashable) -> bool:
        entry = self._entries.get(key)
        return entry is not None and any(x is not None for x in (entry.features, entry.hosted, entry.spilled))

    def wants(self, key: Hashable) -> bool:
        """Whether a step to come needs the key and it is not here."""
        entry = self._entries.get(key)
        return entry is not None and bool(entry.uses) and key not in self

    def get(self, key: Hashable) -> Features | None:
        """The features of a key, on the host if that has them, read back from the spill file if need be.

        None if they have to be made.
        """
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.features is None and entry.hosted is None and entry.spilled is not None:
            self.statistics.read_back += 1
            return self._read(entry)
        return entry.features if entry.features is not None else entry.hosted

    def put(self, key: Hashable, features: Features) -> None:
        """Keep features that the schedule still needs."""
        entry = self._entries.get(key)
        if entry is None or not entry.uses or key in self:
            return
        entry.size = sum(t.numel() * t.element_size() for t in features.values())
        if not self._make_room(entry):
            self.statistics.evicted += 1
            self._put_aside(entry, features)
            return
        entry.features = features
        self._held += entry.size
        self.statistics.peak_bytes = max(self.statistics.peak_bytes, self._held)
        self._push(key, entry)

    def finish(self, step: int) -> None:
        """A step is done: its entries' next use moves on, and those without one are dropped."""
        for key in self._due.pop(step, ()):
            entry = self._entries[key]
            while entry.uses and entry.uses[0] <= step:
                entry.uses.popleft()
            if not entry.uses:
                self._release(entry)
                self._hosted -= entry.size if entry.hosted is not None else 0
                entry.hosted = entry.spilled = None
            elif entry.features is not None:
                self._push(key, entry)

    def close(self) -> None:
        """Forget everything and delete the spill file."""
        self._entries.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _push(self, key: Hashable, entry: _Entry) -> None:
        self._ticket += 1
        heapq.heappush(self._resident, (-entry.next_use, self._ticket, key))

    def _release(self, entry: _Entry) -> None:
        if entry.features is not None:
            self._held -= entry.size
            entry.features = None

    def _make_room(self, newcomer: _Entry) -> bool:
        """Evict what is needed later than the newcomer until it fits; False if the newcomer is the last needed."""
        while self._held + newcomer.size > self._budget:
            while self._resident:
                use, _, key = self._resident[0]
                entry = self._entries[key]
                if entry.features is not None and -use == entry.next_use:
                    break
                heapq.heappop(self._resident)
            if not self._resident or -self._resident[0][0] <= newcomer.next_use:
                return False
            victim = self._entries[heapq.heappop(self._resident)[2]]
            self.statistics.evicted += 1
            if victim.features is not None:
                self._put_aside(victim, victim.features)
            self._release(victim)
        return True

    def _put_aside(self, entry: _Entry, features: Features) -> None:
        """Copy features to the host, once, or write them to disk."""
        if entry.hosted is not None:
            return
        if self._hosted + entry.size > self._host_budget:
            self._spill(entry, features)
            return
        entry.hosted = {name: _on_host(tensor) for name, tensor in features.items()}
        self._hosted += entry.size
        self.statistics.host_peak_bytes = max(self.statistics.host_peak_bytes, self._hosted)

    def _spill(self, entry: _Entry, features: Features) -> None:
        """Write features to disk, once; where the disk is full they are lost and will be made again."""
        if entry.spilled is not None:
            return
        if self.statistics.spilled_bytes + entry.size > self._spill_budget or self.statistics.spill_full:
            self.statistics.lost += 1
            return
        try:
            if self._file is None:
                # Without a name, so that nothing is left of it whatever ends the process.
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            self._file.seek(0, 2)
            places = []
            for name, tensor in features.items():
                form = torch.empty_like(tensor, device="meta", memory_format=_layout(tensor))
                places.append((name, self._file.tell(), form))
                self._file.write(_in_memory_order(tensor.detach().cpu()).contiguous().view(torch.uint8).numpy().data)
            self._file.flush()
        except OSError:
            self.statistics.spill_full = True
            self.statistics.lost += 1
            return
        entry.spilled = places
        self.statistics.spilled_bytes += entry.size

    def _read(self, entry: _Entry) -> Features:
        if self._file is None or entry.spilled is None:
            raise RuntimeError("the spill file is closed")
        features = {}
        for name, offset, form in entry.spilled:
            tensor = empty_apart(form, torch.device("cpu"))
            self._file.seek(offset)
            self._file.readinto(_in_memory_order(tensor).view(torch.uint8).numpy().data)
            features[name] = tensor
        return features


def _on_host(tensor: Tensor) -> Tensor:
    """A copy in the host's memory, in the same layout; from a GPU to pinned memory, which is not waited for."""
    there = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return there.copy_(tensor, non_blocking=True)


def _layout(tensor: Tensor) -> torch.memory_format:
    """Of a tensor on disk: channels last where it lies so in memory, else contiguous."""
    last = tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _in_memory_order(tensor: Tensor) -> Tensor:
    """B x H x W x C of a B x C x H x W tensor that lies channels last, else the tensor: a view either way."""
    return tensor.permute(0, 2, 3, 1) if _layout(tensor) == torch.channels_last else tensor


def feature_bytes(features: Mapping[str, Tensor]) -> int:
    """Bytes that named tensors take."""
    return sum(t.numel() * t.element_size() for t in features.values())
