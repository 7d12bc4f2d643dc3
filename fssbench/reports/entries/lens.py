"""A record seen through another codebase's scoring: same episodes and counts, its rules of accumulation."""

from __future__ import annotations

from dataclasses import replace

from fssbench.protocol import Protocol
from fssbench.reports.entries.differences import draw_differences, resolution_difference
from fssbench.reports.entries.results import Result, rescore
from fssbench.scoring.rules import rules_of


def through(result: Result, lens: Protocol) -> Result:
    """The result with its numbers accumulated as `lens` does."""
    return replace(
        result,
        summary=rescore(result, rules_of(lens.model_dump())),
        place=replace(result.place, lens=lens.name),
    )


def limits(result: Result, lens: Protocol) -> tuple[str, ...]:
    """What the lens cannot change, in sentences: these numbers are not what that codebase would print."""
    ours = result.run.bank.protocol
    sentences = [
        f"Accumulated by the rules of {lens.name}, from the stored counts (bank protocol: {result.place.protocol})."
    ]
    resolution = resolution_difference(ours, lens)
    if resolution:
        sentences.append(f"Not possible: another scoring resolution ({resolution}).")
    draws = draw_differences(ours, lens)
    if draws:
        sentences.append(f"Not possible: other episodes; these differ in {'; '.join(draws)}.")
    return tuple(sentences)
