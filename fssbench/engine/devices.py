"""Devices, precision and running out of memory."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fssbench.engine.memory import kept_memory
from fssbench.errors import UsageError

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """`auto` takes cuda, then mps, then cpu. Raises `UsageError` if the named device is not there."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found.insert(0, "cuda")
    elif torch.backends.mps.is_available():
        found.insert(0, "mps")
    if name == "auto":
        return torch.device(found[0])
    there = {"cpu": 1, "mps": 1, "cuda": torch.cuda.device_count()}
    kind, colon, number = name.partition(":")
    if kind not in found or (colon and not (number.isdecimal() and int(number) < there[kind])):
        known = ", ".join(f"cuda:0 to cuda:{there[k] - 1}" if k == "cuda" and there[k] > 1 else k for k in found)
        raise UsageError(f"--device {name}: this machine has {known}. Choose one of those, or auto.")
    return torch.device(name)


@contextlib.contextmanager
def numerics(device: torch.device, precision: str, *, gradients: bool = False) -> Iterator[None]:
    """The numerical setting of a run: TF32 off, autocast unless in fp32, fixed cuDNN algorithms, no autograd.

    With `gradients`, for training, autograd stays on; everything else is as in evaluation.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    dtype = PRECISIONS[precision]
    cast = torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)  # fp32 also within a caller's autocast
    try:
        with kept_memory(), torch.inference_mode(not gradients), cast:
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[:2]
        torch.backends.cudnn.deterministic = before[2]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error).lower() for words in ("out of memory", "can't allocate memory"))
    )


def in_parts(
    items: Sequence[T], size: int, work: Callable[[Sequence[T], int], None], say: Callable[[int], None]
) -> int:
    """Do `work` on all items, `size` at a time, and on half as many whenever the device runs out of memory.

    `work` gets the items and the size, of which the last part may fall short. Returns the last size, of which `say` is
    told where it became smaller. What a part that failed had made is let go before the next try: nothing holds its
    exception, whose traceback would hold its tensors.
    """
    start = 0
    while start < len(items):
        try:
            work(items[start : start + size], size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or size == 1:
                raise
        else:
            start += size
            continue
        size = max(1, min(size, len(items)) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(size)
    return size


def let_go(error: E) -> E:
    """The exception without the variables of its frames: whoever keeps it does not keep their tensors."""
    one: BaseException | None = error
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__
    return error


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy on the device that the processor does not wait for: by way of pinned memory."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def describe(device: torch.device) -> str:
    """The device's name for records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type
