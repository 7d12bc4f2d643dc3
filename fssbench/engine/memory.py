"""The process's memory: what large tensors leave behind, what features are kept in, the most that was held."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4  # malloc.h
_KEEP = {_M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}
_KEEP_ALL, _KEEP_SMALLER = {_M_MMAP_MAX: 0}, {_M_MMAP_THRESHOLD: 32 << 20}
_GLIBC_DEFAULT = {
    _M_MMAP_MAX: 65536, _M_MMAP_THRESHOLD: 128 << 10, _M_TRIM_THRESHOLD: 128 << 10, _M_TOP_PAD: 128 << 10
}  # fmt: skip

_OWN_PAGES = 1 << 20  # bytes from which a tensor has pages of its own
_PRIVATE = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Have glibc keep the memory of large tensors for the next ones. Does nothing on other systems.

    By default every activation is mapped and unmapped, and the kernel clears its pages anew each time: some 60,000 page
    faults an image, a third of an encoder's time on a CPU. Afterwards glibc has its defaults again, and the kernel the
    memory. Where the process may have so many addresses and no more (`ulimit -v`), tensors above 32 MB are not kept:
    what is free between two small ones would count, and may be a few bytes too short for the next.
    """
    libc: ctypes.CDLL | None = None
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in (_KEEP | (_KEEP_SMALLER if _addresses_are_limited() else _KEEP_ALL)).items():
            libc.mallopt(option, value)
    try:
        yield
    finally:
        if libc is not None:
            for option, value in _GLIBC_DEFAULT.items():
                libc.mallopt(option, value)
            libc.malloc_trim(0)


def _addresses_are_limited() -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def empty_apart(form: Tensor, device: torch.device) -> Tensor:
    """A tensor without values of the shape, type and layout of `form`, in which something is kept for long.

    On a CPU a large one has pages of its own. Between the intermediate results of their time, features would leave
    room that fits no later ones, and the process would grow by more than it holds.
    """
    if device.type != "cpu" or form.nbytes < _OWN_PAGES:
        return torch.empty_like(form, device=device)
    try:
        pages = mmap.mmap(-1, form.nbytes, **_PRIVATE)
    except OSError as error:
        raise MemoryError(f"no memory for {form.nbytes} bytes") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux: fewer pages to be cleared, each at a fault of its own
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=form.dtype).as_strided(
        form.shape, torch.empty_like(form, device="meta").stride()
    )


def copied_apart(value: Tensor) -> Tensor:
    """A copy of the same layout, see `empty_apart`."""
    return empty_apart(value, value.device).copy_(value)


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that PyTorch held on the GPU, or that the process held in memory; 0 where nobody counts."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
