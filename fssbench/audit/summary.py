"""The numbers that a record claims against those that its own counts and protocol give."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from fssbench.audit.run import Problem
from fssbench.errors import FssbenchError
from fssbench.protocol import parse_protocol
from fssbench.records import Run
from fssbench.scoring.metrics import summarise
from fssbench.scoring.rules import rules_of

TOLERANCE = 1e-9  # of a fraction: what another machine's order of summation may change


def check_summary(run: Run, rows: pd.DataFrame) -> Iterator[Problem]:
    """The summary, recomputed from the counts under the record's own protocol; and the protocol against its hash."""
    try:
        protocol = parse_protocol(json.dumps(run.bank.protocol))
        recomputed = summarise(rows, run.bank.folds, rules_of(run.bank.protocol))
    except (FssbenchError, ValueError) as error:
        yield "bank.protocol", f"cannot be scored by: {error}"
        return
    if protocol.hash != run.bank.protocol_hash:
        yield (
            "bank.protocol_hash",
            f"expected {protocol.hash[:12]} for this protocol, found {run.bank.protocol_hash[:12]}",
        )
    yield from _differences("summary", recomputed, run.summary)


def _differences(where: str, expected: Any, found: Any) -> Iterator[Problem]:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected.keys() - found.keys():
            yield f"{where}.{key}", f"expected {expected[key]!r} by the counts, found nothing"
        for key in found.keys() - expected.keys():
            yield f"{where}.{key}", "expected no such entry"
        for key in expected.keys() & found.keys():
            yield from _differences(f"{where}.{key}", expected[key], found[key])
    elif not _same(expected, found):
        yield where, f"expected {expected!r} by the counts, found {found!r}"


def _same(expected: Any, found: Any) -> bool:
    numbers = (int, float)
    if isinstance(expected, numbers) and isinstance(found, numbers):
        return math.isclose(expected, found, rel_tol=0.0, abs_tol=TOLERANCE)
    return bool(expected == found)
