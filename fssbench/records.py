"""The result schema, and reading and writing `results/`. A record is a folder with `run.json` and `episodes.csv`.

One record holds one method in one configuration on one bank, one way and one shot, and any number of folds.
`run.json` is written last and atomically: a folder without it is a run that did not finish.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from fssbench.errors import RecordError
from fssbench.files import atomic_write_text
from fssbench.regime import Regime

SCHEMA = 1
COUNTS = ["tp", "fp", "fn", "tn", "ignored_fg", "ignored_bg"]
TEXT = ["query", "supports"]
# One row an episode and way; of N ways, a row of way 0 and class_id 0 counts the background. `episode` counts from 0
# within its fold, `run` is the seed's number, `group` numbers the query where a bank draws several supports for one;
# `query` and `supports` (joined by a blank) are image ids.
COLUMNS = ["fold", "run", "episode", "group", "way", "class_id", *TEXT, *COUNTS]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Entry = TypeVar("Entry", bound=_Model)


class MethodEntry(_Model):
    """The method and its whole configuration."""

    name: str
    title: str
    config: dict[str, Any]
    our_reading: bool = False
    supervision: str = "mask"
    merged_ways: bool = False  # a 1-way method that was run once a way and merged
    auxiliary_images: int = 0  # images known by class only that each way saw


class WeightsEntry(_Model):
    """Where the parameters came from. `sha256` is over the file, or over the parameters where there is none."""

    kind: str  # "imagenet" (backbone only, untrained), "random", "checkpoint"
    path: str | None = None
    sha256: str
    source: str = ""  # from the checkpoint's card: "fssbench train", the authors' file, a web address
    regime: Regime | None = None  # from the checkpoint's card: classes, training list, steps, selected on ...


class BankEntry(_Model):
    """The bank, and the protocol it belongs to."""

    fingerprint: str
    dataset: str
    protocol: dict[str, Any]
    protocol_hash: str
    class_names: dict[int, str]
    folds: dict[int, list[int]]  # the classes of every fold of the bank
    episodes: dict[int, int]  # episodes of every fold of the bank
    complete: bool = True  # False: classes or images were left out; `note` says which
    note: str = ""


class Environment(_Model):
    """What it ran on."""

    device: str
    precision: str
    options: dict[str, Any] = {}
    versions: dict[str, str]
    git_revision: str | None = None
    git_dirty: bool | None = None
    host: str = ""
    command: str = ""


class FoldSummary(_Model):
    """The numbers of one fold: fractions, or None where a number does not exist."""

    miou: float | None
    fb_iou: float | None
    fg_iou: float | None
    bg_iou: float | None
    episodes: int
    classes: dict[str, float | None]  # IoU by class id
    absent: list[int]  # classes of the fold that no episode had
    vanished: int  # episodes whose label held no pixel of their class


class Summary(_Model):
    """What `fssbench.scoring.metrics.summarise` gives: means over folds, and over runs where there are several."""

    miou: float | None
    miou_std: float | None  # over runs, n - 1
    fb_iou: float | None
    fb_iou_std: float | None
    episodes: int
    runs: int
    missing_folds: list[int]  # of the bank; while there are any, there is no mean
    folds: dict[str, FoldSummary]
    rules: dict[str, str]


class Run(_Model):
    """Everything in `run.json`."""

    schema_version: int = SCHEMA
    id: str
    created: str  # ISO 8601, UTC
    method: MethodEntry
    backbone: str
    input_size: str
    weights: dict[int, WeightsEntry]  # by fold: a trained method has other weights for each
    bank: BankEntry
    way: int
    shot: int
    annotation: str = "mask"
    folds: list[int]  # the folds that were run
    seed: int = 0
    environment: Environment
    seconds: dict[str, float] = {}
    summary: dict[str, Any]  # a `Summary`, as `summarise` in fssbench.scoring gives it; `scores` checks it

    def scores(self, folder: Path) -> Summary:
        """The summary, typed. Raises `RecordError` naming `folder` if it is not one."""
        return _validated(Summary, self.summary, folder / "run.json", "summary.")


@dataclass(frozen=True)
class Record:
    """One finished run: its folder, `run.json`, and `episodes.csv` as a frame with `COLUMNS`."""

    path: Path
    run: Run
    episodes: pd.DataFrame


def read_run(folder: Path) -> Run:
    """`run.json` of a record. Raises `RecordError` naming the file and the first thing wrong with it."""
    path = folder / "run.json"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RecordError(f"no record at {folder}: {path.name} could not be read ({error.strerror})") from error
    return _validated(Run, text, path)


def read_record(folder: Path) -> Record:
    """A record from its folder."""
    run = read_run(folder)
    path = folder / "episodes.csv"
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} could not be read: {error}") from error
    if list(frame.columns) != COLUMNS:
        raise RecordError(f"{path}: expected the columns {COLUMNS}, found {list(frame.columns)}")
    _check_numbers(frame, path)
    return Record(folder, run, frame)


def _validated(model: type[Entry], value: bytes | dict[str, Any], path: Path, prefix: str = "") -> Entry:
    try:
        return model.model_validate_json(value) if isinstance(value, bytes) else model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = prefix + ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}. Expected a record of schema {SCHEMA}.") from error


def _check_numbers(frame: pd.DataFrame, path: Path) -> None:
    for name in COLUMNS:
        if name in TEXT or (pd.api.types.is_integer_dtype(frame[name]) and (frame[name] >= 0).all()):
            continue
        wrong = [str(value) for value in frame[name].tolist() if not str(value).isdecimal()]
        raise RecordError(
            f"{path}: {name}: expected whole numbers that are not negative, found {wrong[0] if wrong else 'none'!r}"
        )


def find_records(root: Path) -> list[Path]:
    """The folders below `root` (or `root` itself) that hold a finished record, sorted by path."""
    return sorted(path.parent for path in root.rglob("run.json"))


def write_record(folder: Path, run: Run, episodes: pd.DataFrame) -> None:
    """Write a record; `run.json` comes last, so that a folder is finished or recognisably not."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "episodes.csv", episodes[COLUMNS].to_csv(index=False, lineterminator="\n"))
    text = json.dumps(run.model_dump(mode="json"), indent=1, ensure_ascii=False)
    atomic_write_text(folder / "run.json", text + "\n")
