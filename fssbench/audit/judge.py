"""`fssbench audit`: whether records can be believed as far as their files can tell. One finding is one line.

A record is judged by itself (schema, possible values, summary against counts), against the others (duplicates) and
against the banks that are at hand (fingerprint, episodes, pixels of every query).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from fssbench.audit.bank import Reference, check_against_bank
from fssbench.audit.rows import check_rows, read_rows
from fssbench.audit.run import Problem, check_run
from fssbench.audit.summary import check_summary
from fssbench.files import sha256_file
from fssbench.records import EPISODES, RUN, Run

REPEATABLE = 0.002  # how far a fold's mIoU may lie from that of another machine


@dataclass(frozen=True, order=True)
class Finding:
    """Something wrong: the file (relative to what was audited), the field in it, and what was expected and found."""

    file: str
    field: str
    problem: str

    def __str__(self) -> str:
        return printable(f"{self.file}: {self.field}: {self.problem}")


@dataclass(frozen=True)
class Audit:
    """What was looked at and what was found. `unjudged` are fingerprints for which no bank was at hand."""

    records: int
    findings: tuple[Finding, ...]
    unjudged: tuple[str, ...] = ()


def audit(root: Path, banks: Mapping[str, Reference] | None = None, *, only_these: bool = False) -> Audit:
    """Judge every record at or below `root`.

    `banks` maps fingerprints to banks; records of others are judged without one and listed as unjudged. With
    `only_these` such a record is a finding: the caller named the banks that there should be.
    """
    findings: list[Finding] = []
    seen: list[tuple[str, Run, str]] = []
    folders = record_folders(root)
    for folder in folders:
        name = folder.relative_to(root).as_posix() if folder != root else "."
        run, rows, own = _read(folder, name)
        findings += own
        if run is None:
            continue
        seen.append((name, run, sha256_file(folder / EPISODES) if rows is not None else ""))
        findings += _named(name, RUN, check_run(run, folder.resolve().as_posix()))
        if only_these:
            findings += _named(name, RUN, _known(run, banks or {}))
        if rows is None:
            continue
        problems = list(check_rows(run, rows))
        findings += _named(name, EPISODES, problems)
        if not problems:  # what follows takes the rows for granted
            findings += _named(name, RUN, check_summary(run, rows))
            bank = (banks or {}).get(run.bank.fingerprint)
            findings += _named(name, EPISODES, check_against_bank(run, rows, bank) if bank else ())
    findings += duplicates(seen)
    unjudged = {run.bank.fingerprint for _, run, _ in seen} - set(banks or {})
    return Audit(len(folders), tuple(sorted(findings)), tuple(sorted(unjudged)))


def record_folders(root: Path) -> list[Path]:
    """Folders at or below `root` that hold a record or a part of one, sorted."""
    return sorted({path.parent for name in (RUN, EPISODES) for path in root.rglob(name)})


def printable(text: str) -> str:
    """Text from a record on one line, with everything escaped that a terminal would act upon."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _read(folder: Path, name: str) -> tuple[Run | None, pd.DataFrame | None, list[Finding]]:
    run_file, episodes_file = folder / RUN, folder / EPISODES
    if not run_file.is_file():
        return (
            None,
            None,
            [Finding(_join(name, RUN), "file", "expected beside episodes.csv.gz, found none: unfinished run")],
        )
    run, problems = _read_run(run_file)
    findings = _named(name, RUN, problems)
    if not episodes_file.is_file():
        return run, None, [*findings, Finding(_join(name, EPISODES), "file", "expected beside run.json, found none")]
    rows, problems = read_rows(episodes_file)
    return run, rows, [*findings, *_named(name, EPISODES, problems)]


def _read_run(path: Path) -> tuple[Run | None, list[Problem]]:
    try:
        return Run.model_validate_json(path.read_bytes()), []
    except OSError as error:
        return None, [("file", f"could not be read: {error.strerror}")]
    except ValidationError as error:
        return None, [
            (".".join(map(str, one["loc"])) or "file", f"{one['msg']}, found {_short(one['input'])}")
            for one in error.errors(include_url=False)
        ]


def _short(value: Any) -> str:
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _known(run: Run, banks: Mapping[str, Reference]) -> Iterator[Problem]:
    if run.bank.fingerprint not in banks:
        known = ", ".join(sorted(fingerprint[:12] for fingerprint in banks))
        yield (
            "bank.fingerprint",
            f"expected a bank at hand (--bank): {known}; found {run.bank.fingerprint[:12]}, which is none of them",
        )


def duplicates(records: Iterable[tuple[str, Run, str]]) -> Iterator[Finding]:
    """Ids used twice, the same run submitted twice, and equal counts under the names of different methods or weights.

    `records` are names, runs, and the SHA-256 of their rows ("" where they could not be read).
    """
    ids: dict[str, str] = {}
    setups: dict[str, str] = {}
    repeated: dict[str, tuple[str, Run]] = {}
    counts: dict[tuple[str, int, int, str], tuple[str, str]] = {}
    for name, run, digest in records:
        first = ids.setdefault(run.id, name)
        if first != name:
            yield Finding(_join(name, RUN), "id", f"expected an id of its own, found that of {first}")
        first = setups.setdefault(_setup(run), name)
        scores = repeated.setdefault(_measurement(run), (name, run))
        if scores[0] != name and (problem := _far_apart(scores[1], run)):
            yield Finding(_join(name, RUN), "summary.folds", f"{problem} of {scores[0]}, the same weights and episodes")
        if first != name:
            yield Finding(_join(name, RUN), "method", f"the same method, weights, bank and settings as {first}")
        weights = {fold: entry.sha256 for fold, entry in run.weights.items()}
        author = json.dumps([run.method.name, run.method.config, weights], sort_keys=True)
        key = (run.bank.fingerprint, run.way, run.shot, digest)
        first, its_author = counts.setdefault(key, (name, author))
        if digest and author != its_author:
            yield Finding(_join(name, EPISODES), "file", f"equal to that of {first}, whose method or weights differ")


def _setup(run: Run) -> str:
    """What two independent results never share altogether."""
    chosen = {"method", "backbone", "input_size", "weights", "way", "shot", "annotation", "folds", "seed"}
    fields = run.model_dump(mode="json", include=chosen)
    fields["bank"] = run.bank.fingerprint
    fields["environment"] = run.environment.model_dump(
        mode="json", include={"device", "precision", "options", "versions", "git_revision", "host"}
    )
    return json.dumps(fields, sort_keys=True)


def _measurement(run: Run) -> str:
    """What a repetition, on whatever machine, has in common."""
    fields = run.model_dump(mode="json", include={"method", "backbone", "input_size", "way", "shot", "annotation"})
    weights = {fold: entry.sha256 for fold, entry in run.weights.items()}
    return json.dumps([fields, weights, run.bank.fingerprint, run.environment.precision], sort_keys=True)


def _far_apart(first: Run, second: Run) -> str:
    """What two machines cannot explain: a fold's mIoU that differs by more than `REPEATABLE`; empty if none does."""
    for fold, part in second.summary.get("folds", {}).items():
        other = first.summary.get("folds", {}).get(fold, {}).get("miou")
        if other is not None and part["miou"] is not None and abs(part["miou"] - other) > REPEATABLE:
            return f"expected a mIoU of fold {fold} near {100 * other:.2f}, found {100 * part['miou']:.2f}, beside that"
    return ""


def _join(name: str, file: str) -> str:
    return file if name == "." else f"{name}/{file}"


def _named(name: str, file: str, problems: Iterable[Problem]) -> list[Finding]:
    return [Finding(_join(name, file), field, problem) for field, problem in problems]
