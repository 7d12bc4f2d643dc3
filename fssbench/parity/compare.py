"""Running a case and comparing what comes out with what the authors' code returned."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fssbench.errors import DataError, unknown_name
from fssbench.parity import runners
from fssbench.parity.case import Arrays, Case
from fssbench.parity.rows import Row
from fssbench.parity.training import compare_steps

TOLERANCE = 1e-4  # float32 on a CPU, relative to the largest expected value where that is above 1
FLIPPED = 1e-3  # share of labels that may differ, where two scores tie


def runner_names() -> list[str]:
    """The methods that have a runner: a module of `fssbench.parity.runners`, named as cases do in lower case."""
    return sorted(module.name for module in pkgutil.iter_modules(runners.__path__))


def run_case(case: Case) -> Arrays:
    """The case's tensors as our method computes them, under the case's own names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: Arrays = _runner(case).outputs(case)
    return made


def compare(case: Case) -> Iterator[Row]:
    """A row for every tensor of the case; one that our code does not give does not pass.

    A case of training steps has a row for every kind of number and step. Raises `DataError` where no runner knows it.
    """
    if case.meta.get("kind") == "train":
        yield from compare_steps(case)
        return
    tolerances: dict[str, float] = getattr(_runner(case), "TOLERANCES", {})  # by the pattern of a tensor's name
    made = run_case(case)
    for name, expected in case.expected.items():
        relative = next((value for pattern, value in tolerances.items() if fnmatch(name, pattern)), TOLERANCE)
        yield _row(case, name, expected, made.get(name), relative)


def _row(
    case: Case, name: str, expected: NDArray[np.generic], found: NDArray[np.generic] | None, relative: float
) -> Row:
    if found is None or found.shape != expected.shape:
        return Row(case.name, name, None, 0.0, False)
    if expected.dtype.kind in "biu":
        share = float(np.mean(found.astype(np.int64) != expected.astype(np.int64)))
        return Row(case.name, name, share, FLIPPED, share <= FLIPPED)
    reference = expected.astype(np.float64)
    stored = np.spacing(np.abs(expected)).astype(np.float64) / 2  # what rounding may have taken (some are float16)
    deviation = float((np.abs(found.astype(np.float64) - reference) - stored).max(initial=0.0))
    noise = float(case.meta.get("float_noise", {}).get(name, 0.0))  # of the authors' own code
    tolerance = max(relative * max(1.0, float(np.abs(reference).max(initial=0.0))), noise)
    known = deviation if np.isfinite(deviation) else None
    return Row(case.name, name, known, tolerance, known is not None and known <= tolerance)


def _runner(case: Case) -> Any:
    name = str(case.meta.get("method")).lower()
    known = runner_names()
    if name not in known:
        raise DataError(f"{case.file}: " + unknown_name("method", name, known))
    return importlib.import_module(f"{runners.__name__}.{name}")
