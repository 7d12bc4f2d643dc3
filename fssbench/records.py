"""The result schema, and reading and writing `results/`. A record is a folder with `run.json` and `episodes.csv.gz`.

One record holds one method in one configuration on one bank, one way and one shot, and any number of folds.
`run.json` is written last and atomically: a folder without it is a run that did not finish.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fssbench.errors import RecordError
from fssbench.files import atomic_path
from fssbench.regime import Exposure, Regime, exposure

SCHEMA: Final = 3
RUN, EPISODES = "run.json", "episodes.csv.gz"
LARGEST = 256 << 20  # bytes of run.json, or of the rows unpacked; the largest ever made has 10
COUNTS = ["tp", "fp", "fn", "tn", "ignored_fg", "ignored_bg"]
TEXT = ["query", "supports"]
# One row an episode and way; of N ways, a row of way 0 and class_id 0 counts the background. `episode` counts from 0
# within its fold, `run` is the seed's number, `group` numbers the query where a bank draws several supports for one;
# `query` and `supports` (joined by `fssbench.names.SEPARATOR`) are image ids.
COLUMNS = ["fold", "run", "episode", "group", "way", "class_id", *TEXT, *COUNTS]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$", max_length=4096)]
Count = Annotated[int, Field(ge=0)]

# What becomes part of a path: a record may come from a stranger.
_PLAIN = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")

Entry = TypeVar("Entry", bound=_Model)


class MethodEntry(_Model):
    """The method and its whole configuration."""

    name: Text
    title: Text
    config: dict[str, Any]
    our_reading: bool = False
    supervision: str = "mask"
    merged_ways: bool = False  # a 1-way method that was run once a way and merged
    auxiliary_images: int = 0  # images known by class only that each way saw


class WeightsEntry(_Model):
    """Where the parameters came from. `sha256` is over the file, or over the parameters where there is none."""

    # imagenet: backbone only; published: the same, of encoders that are not ImageNet's (SAM, DINOv2); none: the method
    # has no parameters; external: masks made elsewhere
    kind: Literal["imagenet", "published", "random", "none", "checkpoint", "external"]
    path: str | None = None
    sha256: str
    source: str = ""  # from the checkpoint's card: "fssbench train", the authors' file, a web address
    regime: Regime | None = None  # from the checkpoint's card: classes, training list, steps, selected on ...
    contaminated: list[Text] = []  # tested classes that it was trained on; the user allowed it


class BankEntry(_Model):
    """The bank, and the protocol it belongs to."""

    fingerprint: str  # of what the episodes are; equal ones can be compared
    image_fingerprint: str = ""  # of the image files' own bytes as well; empty while some are unknown
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

    device: Text  # the GPU's model, or "cpu (n threads)"
    precision: str
    options: dict[str, Any] = {}
    versions: dict[str, str]
    git_revision: str | None = None
    git_dirty: bool | None = None
    host: str = ""
    command: str = ""


class Parameters(_Model):
    """How many parameters a method has, and how many of them a training of fssbench changed; None: not known."""

    total: Count
    trained: Count | None


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
    false_positive_rate: float | None = None  # of pixels of such queries; of protocols with negatives


class Summary(_Model):
    """What `fssbench.scoring.metrics.summarise` gives: means over folds, and over runs where there are several."""

    miou: float | None
    miou_std: float | None  # over runs, n - 1
    fb_iou: float | None
    fb_iou_std: float | None
    episodes: int
    runs: int
    missing_folds: list[int]  # of the bank; while there are any, there is no mean
    false_positive_rate: float | None = None  # mean over folds; of protocols with negatives
    folds: dict[str, FoldSummary]
    rules: dict[str, str]


class Run(_Model):
    """Everything in `run.json`."""

    schema_version: Literal[3] = SCHEMA
    id: str  # also the folder below `results/`
    created: str  # ISO 8601, UTC
    method: MethodEntry
    backbone: str
    input_size: str
    weights: dict[int, WeightsEntry]  # by fold: a trained method has other weights for each
    bank: BankEntry
    way: Annotated[int, Field(ge=1)]
    shot: Annotated[int, Field(ge=1)]
    annotation: str = "mask"
    folds: list[Count]  # the folds that were run, ascending
    seed: int = 0
    vanished_supports: Count | None = None  # how many of episodes x ways x shots supports lost their object when they
    # were resized to the network's input; None: not known
    environment: Environment
    # By phase: what was done for this record alone, and its share (by episodes) of what was done for several, such as
    # encoding an image once; those of all records of a run sum to its time. Empty where a run was cut off and resumed.
    seconds: dict[str, float] = {}
    parameters: Parameters | None = None  # of the first fold's method; None in older records and scored masks
    summary: dict[str, Any]  # a `Summary`, as `summarise` in fssbench.scoring gives it; `scores` checks it

    def scores(self, folder: Path) -> Summary:
        """The summary, typed. Raises `RecordError` naming `folder` if it is not one."""
        return _validated(Summary, self.summary, folder / "run.json", "summary.")


@dataclass(frozen=True)
class Record:
    """One finished run: its folder, `run.json`, and `episodes.csv.gz` as a frame with `COLUMNS`."""

    path: Path
    run: Run
    episodes: pd.DataFrame


def exposures(run: Run) -> dict[int, Exposure]:
    """By fold that was run on a checkpoint, whether the checkpoint had seen the tested classes."""
    found = {}
    for fold in run.folds:
        entry = run.weights.get(fold)
        if entry is None or (entry.kind != "checkpoint" and not entry.contaminated):
            continue
        tested = {c: run.bank.class_names.get(c, str(c)) for c in run.bank.folds.get(fold, [])}
        if entry.contaminated:
            found[fold] = Exposure("contaminated", "marked so by its run", tuple(entry.contaminated))
        else:
            found[fold] = exposure(entry.regime or Regime(), run.bank.dataset, tested, fold)
    return found


def contamination(run: Run) -> dict[int, tuple[str, ...]]:
    """By fold that was run, the tested classes that its checkpoint was trained on; folds without any are left out."""
    return {fold: seen.classes for fold, seen in exposures(run).items() if seen.state == "contaminated"}


def read_run(folder: Path) -> Run:
    """`run.json` of a record. Raises `RecordError` naming the file and the first thing wrong with it."""
    path = folder / "run.json"
    text = _bytes(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: expected JSON, found something else ({error}). Run or score it again.") from error
    version = found.get("schema_version") if isinstance(found, dict) else None
    if isinstance(version, int) and version != SCHEMA:
        raise RecordError(
            f"{path}: expected a record of schema {SCHEMA}, found one of schema {version}. "
            + ("An older fssbench made it; run or score it again." if version < SCHEMA else "Update fssbench.")
        )
    run = _validated(Run, text, path)
    for name, value in (("bank.dataset", run.bank.dataset), ("annotation", run.annotation)):
        if not _PLAIN.fullmatch(value):
            raise RecordError(
                f"{path}: {name}: expected letters, digits, '.', '_', '+', '-' and single slashes within, found "
                f"{value[:80]!r}. A name that leads out of its folder is not followed."
            )
    return run


def read_record(folder: Path) -> Record:
    """A record from its folder."""
    return Record(folder, read_run(folder), read_episodes(folder))


def read_episodes(folder: Path) -> pd.DataFrame:
    """`episodes.csv.gz` of a record, a frame with `COLUMNS`. Raises `RecordError` naming the file for anything else."""
    path = folder / EPISODES
    try:
        frame = pd.read_csv(unpacked(path), dtype=dict.fromkeys(TEXT, str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} could not be read: {error}") from error
    if list(frame.columns) != COLUMNS:
        raise RecordError(f"{path}: expected the columns {COLUMNS}, found {list(frame.columns)}")
    _check_numbers(frame, path)
    return frame


def unpacked(path: Path) -> io.BytesIO:
    """The rows of an `episodes.csv.gz`. Raises `RecordError` for anything else, and for more than any record holds."""
    packed = _bytes(path)
    try:
        with gzip.open(io.BytesIO(packed)) as file:
            text = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordError(f"{path} could not be read: expected a table packed by gzip ({error})") from error
    if len(text) > LARGEST:
        raise RecordError(f"{path}: expected at most {LARGEST >> 20} MiB unpacked, found more: this is no record")
    return io.BytesIO(text)


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise RecordError(f"{path}: expected at most {LARGEST >> 20} MiB, found {size >> 20}: this is no record")
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"no record at {path.parent}: {path.name} could not be read ({error.strerror})") from error


def _validated(model: type[Entry], value: bytes | dict[str, Any], path: Path, prefix: str = "") -> Entry:
    try:
        return model.model_validate_json(value) if isinstance(value, bytes) else model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = prefix + ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}. Expected a record of schema {SCHEMA}.") from error


def _check_numbers(frame: pd.DataFrame, path: Path) -> None:
    numbers = frame[[name for name in COLUMNS if name not in TEXT]]
    if all(kind.kind == "i" for kind in numbers.dtypes) and (numbers.to_numpy() >= 0).all():
        return
    for name in numbers:
        values = [str(value) for value in frame[name].tolist()]
        wrong = [value for value in values if not value.isdecimal()]
        if wrong or not values:
            raise RecordError(
                f"{path}: {name}: expected whole numbers that are not negative, found {wrong[0] if wrong else 'none'!r}"
            )


def find_records(root: Path) -> list[Path]:
    """The folders below `root` (or `root` itself) that hold a finished record, sorted by path."""
    return sorted(path.parent for path in root.rglob("run.json"))


def write_record(folder: Path, run: Run, episodes: pd.DataFrame) -> None:
    """Write a record; `run.json` comes last, so that a folder is finished or recognisably not.

    Raises `RecordError` if it cannot be written; an older record in the folder is then still there.
    """
    text = json.dumps(run.model_dump(mode="json"), indent=1, ensure_ascii=False)
    try:
        # Both are whole on disk before either takes its place, so a full disk leaves an older record as it was.
        with atomic_path(folder / RUN) as of_run, atomic_path(folder / EPISODES) as of_episodes:
            of_run.write_text(text + "\n", encoding="utf-8", newline="")
            rows = episodes[COLUMNS].to_csv(index=False, lineterminator="\n").encode()
            of_episodes.write_bytes(gzip.compress(rows, mtime=0))  # equal rows, equal bytes
    except OSError as error:
        raise RecordError(
            f"{folder} could not be written ({error.strerror or error}). Make room, or choose another --out, and run "
            "the same command again."
        ) from error
