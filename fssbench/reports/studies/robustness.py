"""`fssbench robustness` and `fssbench suite`: what worse photographs and masks cost, and a mean over several data sets.

Worse episodes are the clean ones with other images or support masks, so a drop is a paired difference: what is hard in
both cancels. The members of a suite are different images, so their errors add up as independent ones do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

from fssbench.banks.corruptions import clean_id
from fssbench.errors import RecordError, UsageError, unknown_name
from fssbench.names import SEPARATOR
from fssbench.progress import Progress, quiet
from fssbench.reports.entries.lines import Entry, entries_of
from fssbench.reports.entries.results import Place, Result, Setting, episodes_of, grouped
from fssbench.reports.entries.uncertainty import LEVEL, result_intervals
from fssbench.scoring.intervals import Interval
from fssbench.scoring.paired import Difference, Measured, measure, paired_differences
from fssbench.scoring.rules import rules_of

CLEAN = ("", "mask")  # corruption and annotation

# The data sets of a suite, each of which is tested by itself.
SUITES: Mapping[str, tuple[str, ...]] = {"cross-domain": ("deepglobe", "isic2018", "chestxray", "fss1000")}


@dataclass(frozen=True)
class Robustness:
    """One setting under worse conditions; `drops`: condition -> worse minus clean, by its name."""

    clean: Result
    miou: float
    drops: Mapping[str, Difference]


@dataclass(frozen=True)
class SuiteLine:
    """One setting on the members of a suite; without a mean while a member is missing. Fractions."""

    protocol: str
    setting: Setting
    shot: int
    members: Mapping[str, Interval]
    mean: Interval | None


def robustness(results: Sequence[Result], track: Progress = quiet) -> list[Robustness]:
    """Each setting's drops from its clean result, where there are both; below them their mean by kind of condition.

    Raises `UsageError` if no result has a clean and a worse one, `RecordError` where they are not the same episodes.
    """
    groups: dict[tuple[object, ...], dict[tuple[str, str], Entry]] = {}
    for entry in entries_of(results):
        other = groups.setdefault(_clean_key(entry.first), {}).setdefault(_condition(entry.first), entry)
        if other is not entry:
            places = " and ".join(str(one.first.sources[0].path) for one in (other, entry))
            raise UsageError(f"{places} differ in their bank alone: expected one bank of a protocol. Name its folders.")
    several = [group for group in groups.values() if CLEAN in group and len(group) > 1]
    if not several:
        raise UsageError(
            "expected results on a clean bank and on worse ones (`fssbench corrupt`, or `run --annotation eroded-3`) "
            "of the same method, found none. Run both, or name the folders of both."
        )
    return [_drops(group) for group in track(several, "measuring")]


def by_place(found: Sequence[Robustness]) -> list[list[Robustness]]:
    """What has one clean bank and one number of shots, together."""
    return list(grouped(found, lambda each: (each.clean.place, each.clean.shot)).values())


def _condition(result: Result) -> tuple[str, str]:
    return str(result.run.bank.protocol.get("corruption", "")), result.setting.annotation


def _clean_key(result: Result) -> tuple[object, ...]:
    """What a worse result shares with its clean one."""
    protocol = {key: value for key, value in result.run.bank.protocol.items() if key != "corruption"}
    place, setting = result.place, replace(result.setting, annotation="mask")
    return place.dataset, json.dumps(protocol, sort_keys=True), place.way, place.lens, setting, result.shot


def _drops(group: Mapping[tuple[str, str], Entry]) -> Robustness:
    clean = _measured(group[CLEAN])
    worse = {condition: _measured(entry) for condition, entry in sorted(group.items()) if condition != CLEAN}
    drops = {_name(*condition): _drop(each, clean) for condition, each in worse.items()}
    for kind, members in (
        ("mean of corruptions", [each for (corruption, _), each in worse.items() if corruption]),
        ("mean of mask qualities", [each for (_, annotation), each in worse.items() if annotation[-1:].isdigit()]),
    ):
        if len(members) > 1:
            drops[kind] = _drop(_mean(members), clean)
    return Robustness(group[CLEAN].first, _value(clean), drops)


def _name(corruption: str, annotation: str) -> str:
    words = [corruption.partition(" seed ")[0], "" if annotation == "mask" else annotation]
    return ", ".join(filter(None, words))


def _measured(entry: Entry) -> Measured:
    bank = entry.first.run.bank
    frames = [_with_clean_names(episodes_of(result)) for result in entry.results]
    found = measure(frames, bank.folds, rules_of(bank.protocol))
    if "mean" not in found.names or not math.isfinite(_value(found)):
        raise RecordError(f"{entry.first.sources[0].path}: expected a mean over all folds, found none: run all folds.")
    return found


def _with_clean_names(episodes: pd.DataFrame) -> pd.DataFrame:
    """Corrupted copies under the names of their images, so that they are the same image wherever they are used."""
    supports = [SEPARATOR.join(map(clean_id, names.split(SEPARATOR))) for names in episodes["supports"].tolist()]
    return episodes.assign(query=[clean_id(name) for name in episodes["query"].tolist()], supports=supports)


def _value(found: Measured) -> float:
    return float(found.value[found.names.index("mean")])


def _drop(worse: Measured, clean: Measured) -> Difference:
    return paired_differences(worse, clean, level=LEVEL)["mean"]


def _mean(members: Sequence[Measured]) -> Measured:
    """The mean over conditions of the same episodes, as a result of its own."""
    place = [each.names.index("mean") for each in members]
    return replace(
        members[0],
        names=("mean",),
        value=np.array([np.mean([each.value[k] for each, k in zip(members, place, strict=True)])]),
        influence=np.mean([each.influence[:, [k]] for each, k in zip(members, place, strict=True)], axis=0),
        between=np.mean([each.between[[k]] for each, k in zip(members, place, strict=True)], axis=0),
    )


def suite_lines(name: str, results: Sequence[Result], track: Progress = quiet) -> list[SuiteLine]:
    """Each setting on a suite's members by one protocol, and the mean over them with its interval.

    Raises `UsageError` for an unknown suite, or if none of its members is in the results; `RecordError` where one
    setting was measured twice on a member, by two banks of one protocol.
    """
    if name not in SUITES:
        raise UsageError(unknown_name("suite", name, SUITES))
    groups: dict[tuple[str, Setting, int], dict[str, Entry]] = {}
    for entry in entries_of([result for result in results if result.place.dataset in SUITES[name]]):
        first = entry.first
        members = groups.setdefault((first.place.protocol, first.setting, first.shot), {})
        other = members.setdefault(first.place.dataset, entry)
        if other is not entry:
            raise RecordError(
                f"expected one bank of {first.place.dataset}, found results on two ({_bank(other.first.place)} and "
                f"{_bank(first.place)}). Name the folders of one."
            )
    if not groups:
        raise UsageError(f"expected results on {', '.join(SUITES[name])}, found none.")
    return [_suite_line(name, *key, members) for key, members in track([*groups.items()], "measuring")]


def _suite_line(name: str, protocol: str, setting: Setting, shot: int, entries: Mapping[str, Entry]) -> SuiteLine:
    every = {member: result_intervals(entry.results) for member, entry in entries.items()}
    members = {member: each["mean"] for member, each in every.items() if "mean" in each}
    return SuiteLine(protocol, setting, shot, members, mean_interval([members.get(member) for member in SUITES[name]]))


def mean_interval(members: Sequence[Interval | None]) -> Interval | None:
    """The mean of independent numbers with its normal interval; None while one is missing."""
    known = [member for member in members if member is not None]
    if len(known) < len(members) or not known:
        return None
    value = math.fsum(member.value for member in known) / len(known)
    error = math.sqrt(math.fsum(member.error**2 for member in known)) / len(known)
    reach = float(special.ndtri(0.5 + LEVEL / 2)) * error
    return Interval(value, max(value - reach, 0.0), min(value + reach, 1.0), error)


def _bank(place: Place) -> str:
    return f"{place.protocol} {place.fingerprint[:12]}"
