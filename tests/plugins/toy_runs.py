"""What tests read back from runs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fssbench.engine.run import Outcome
from fssbench.records import read_record


def frames(outcomes: Sequence[Outcome]) -> list[pd.DataFrame]:
    """`episodes.csv.gz` of each outcome."""
    return [read_record(outcome.folder).episodes for outcome in outcomes]
