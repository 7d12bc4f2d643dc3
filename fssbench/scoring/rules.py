"""How counts become numbers: the accumulation rules in which the published codebases differ.

Nearly all sum intersections and unions over the episodes of a class and divide once; they differ in what they do
with ignored pixels, with labels whose object vanished, with classes that never came up, and in what they average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class ScoringRules:
    """The part of a `Protocol` that can be changed after a run, from the six counts alone. Same names and values."""

    # Pixels labelled 255: left out, or scored as background.
    ignore_label: Literal["ignore", "background"] = "ignore"
    # Sum counts over a class's episodes, then divide; or the mean of the episodes' IoUs.
    accumulation: Literal["pooled", "episode"] = "pooled"
    # A class without a counted episode: 0, left out of the mean, or ("nan", "error") there is no mean.
    absent_class: Literal["error", "zero", "skip", "nan"] = "error"
    # An episode whose label holds no pixel of the class: its false positives count, or are dropped (PANet).
    vanished_label: Literal["keep", "drop"] = "keep"
    # FB-IoU: pooled within a fold and then averaged, or pooled over all folds (SG-One).
    fb_pooling: Literal["fold", "all"] = "fold"
    # The final number: mean of the folds' means, or mean over all classes; of each run, then over runs.
    averaging: Literal["folds", "classes", "runs"] = "folds"
    # Queries may lack the classes asked for: what is found in them is reported besides.
    negatives: bool = False


NEUTRAL = ScoringRules()


def rules_of(protocol: Mapping[str, Any]) -> ScoringRules:
    """The rules of a protocol as it is stored in a record (`Protocol.model_dump()`).

    >>> rules_of({"name": "pfenet", "absent_class": "zero"}).absent_class
    'zero'
    """
    return ScoringRules(**{f.name: protocol[f.name] for f in fields(ScoringRules) if f.name in protocol})
