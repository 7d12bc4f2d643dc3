"""One record in the making: its folder, its journal, and the record at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fssbench.engine.entrant import Entrant
from fssbench.engine.evaluate import Counted
from fssbench.engine.inputs import fit_label
from fssbench.engine.journal import Journal, Lock, same_run
from fssbench.engine.plan import RunPlan
from fssbench.engine.rows import frame_of, ways_of
from fssbench.engine.sources import BankImages
from fssbench.method import OBJECT, Method
from fssbench.names import plain_name
from fssbench.predictions import FILE, encode_label, write_predictions
from fssbench.records import MethodEntry, Run, write_record
from fssbench.score import bank_entry
from fssbench.scoring.metrics import summarise
from fssbench.scoring.rules import rules_of

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank, Episodes


class Progress(Protocol):
    """What a run tells its user."""

    def total(self, episodes: int, done: int) -> None:
        """How many episodes there are to do in all (method x shot x episode), and how many are done already."""

    def advance(self, episodes: int) -> None:
        """Episodes that were just done."""

    def say(self, message: str) -> None:
        """Something the user should know."""


@dataclass
class Outcome:
    """One record: where it is, and how it came about."""

    name: str
    shot: int
    folder: Path
    state: str  # "finished", "already there", "failed"
    message: str = ""
    summary: dict[str, Any] = field(default_factory=dict)


class Job:
    """One record in the making."""

    def __init__(self, plan: RunPlan, entrant: Entrant, shot: int) -> None:
        settings, bank, weights = plan.settings, plan.bank, entrant.weights
        self.plan, self.entrant, self.shot = plan, entrant, shot
        self.journal: Journal | None = None
        self.keeps_masks = plan.request.save_predictions
        self.error: Exception | None = None
        self.seconds: dict[str, float] = {}
        self._left_out: dict[int, frozenset[int]] = {}
        self._hosts: set[str] = set()
        self._resumed = False  # what it took before it was cut off is not known
        self._episodes = {fold: bank.episodes(fold, shot) for fold in plan.folds}
        config = entrant.method.config.model_dump(mode="json")
        self.name = plain_name(entrant.spec.name)
        what = {
            "method": self.name, "config": config, "bank": bank.fingerprint, "protocol": bank.protocol.hash,
            "weights": {str(f): w.sha256 for f, w in weights.items()}, "way": bank.ways, "shot": shot,
            "annotation": settings.annotation, "folds": list(plan.folds), "precision": settings.precision,
        }  # fmt: skip
        self.id = _record_name(self.name, config["backbone"], weights[plan.folds[0]].kind, what, bank)
        self.identity = {
            **what,
            "device": plan.environment.device,
            "torch": torch.__version__,
            "channels_last": settings.channels_last,
            "compile": settings.compile,
            "head_batch": settings.head_batch,
            "encode_batch": settings.encode_batch,
            "predictions": self.keeps_masks,
            "code": entrant.code,
        }
        self.folder = plan.request.out / self.id
        self.outcome = Outcome(self.name, shot, self.folder, "failed")

    def begin(self, stack: ExitStack, progress: Progress) -> None:
        """Take the record's folder, or find that it is finished."""
        journal = self.folder / "journal"
        # A journal beside a record is that of a run with --force that was cut off: there is work to go on with.
        if (self.folder / "run.json").exists() and not self.plan.request.force and not journal.exists():
            self.outcome.state = "already there"
            progress.say(f"{self.folder} is finished already; --force runs it again")
            return
        stack.enter_context(Lock(self.folder / ".lock"))
        if self.plan.request.force and journal.exists() and not same_run(journal, self.identity):
            journal.unlink()
        self.journal = Journal(journal, self.identity)
        stack.callback(self.journal.close)
        self._resumed = self.journal.resumed and bool(self.done_episodes)
        if self.journal.resumed:
            progress.say(f"{self.folder}: going on after {len(self.done_episodes)} episodes")

    @property
    def done_episodes(self) -> set[tuple[int, int]]:
        """(fold, episode) in the journal."""
        rows = self.journal.rows if self.journal is not None else {}
        return {(fold, episode) for fold, episode, _ in rows}

    @property
    def episodes_to_do(self) -> int:
        """Episodes in all, done ones included."""
        return sum(len(episodes.query) for episodes in self._episodes.values())

    def done_of(self, fold: int) -> frozenset[int]:
        """The episodes of a fold that are in the journal, or were left out."""
        return frozenset(episode for f, episode in self.done_episodes if f == fold) | self._left_out.get(
            fold, frozenset()
        )

    def leave_out(self, fold: int, episodes: Collection[int]) -> None:
        """These are in another journal."""
        self._left_out[fold] = frozenset(episodes)

    def pending(self, fold: int) -> NDArray[np.int64]:
        """The episodes of a fold that are still to do."""
        done = self.done_of(fold)
        return np.array([e for e in range(len(self._episodes[fold].query)) if e not in done], dtype=np.int64)

    def forget_seconds(self) -> None:
        """A part of the work was done by a process that can no longer say what it took."""
        self._resumed = True

    def merge(self, line: bytes, host: str) -> int:
        """Take a step of another journal, made on `host`; returns how many of its episodes are new."""
        if self.journal is None:
            raise RuntimeError("`begin` comes first")
        self._hosts.add(host)
        return self.journal.merge(line)

    def take(self, fold: int, rows: Sequence[Counted]) -> None:
        """Write a step to the journal: counts and predictions of the episodes that were not done."""
        if self.journal is None:
            raise RuntimeError("`begin` comes first")
        ways = ways_of(self.plan.bank.ways)
        new = [row for row in rows if (fold, row[0], ways[0]) not in self.journal.rows]
        self.journal.append(
            fold,
            [(episode, way, row) for episode, counts, _ in new for way, row in zip(ways, counts, strict=True)],
            {episode: encode_label(label) for episode, _, label in new if self.keeps_masks and label is not None},
        )

    def finish(self) -> None:
        """Make the record of the journal, or say what went wrong."""
        if self.journal is None:
            return
        if self.error is not None:
            self.outcome.message = str(self.error)
            return
        frame = self.frame()
        fold_classes = {fold: list(self.plan.bank.fold_classes[fold]) for fold in sorted(self.plan.bank.fold_classes)}
        summary = summarise(frame, fold_classes, rules_of(self.plan.bank.protocol.model_dump()))
        for left in self.folder.glob(".*.tmp"):  # by a process that was killed here; this one holds the folder's lock
            left.unlink()
        if self.keeps_masks:
            write_predictions(self.folder / FILE, self.plan.bank.fingerprint, self.journal.masks(), self.id)
        write_record(self.folder, self._run(summary), frame)
        self.journal.delete()
        self.outcome.state, self.outcome.summary = "finished", summary

    def frame(self) -> pd.DataFrame:
        """The rows of `episodes.csv.gz`, ordered by fold, episode and way."""
        return frame_of(self.plan.bank, self.shot, self.journal.rows.items() if self.journal is not None else ())

    def _run(self, summary: dict[str, Any]) -> Run:
        method, bank, folds = self.entrant.method, self.plan.bank, list(self.plan.folds)
        info = method.info
        merged = info.max_ways is not None and bank.ways > info.max_ways
        hosts = {"host": ", ".join(sorted(self._hosts))} if self._hosts else {}
        return Run(
            id=self.id,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            method=MethodEntry(
                name=self.name,
                title=info.title,
                config=method.config.model_dump(mode="json"),
                our_reading=info.our_reading,
                supervision=info.supervision,
                merged_ways=merged,
                auxiliary_images=_auxiliary(self._episodes[folds[0]]) if info.uses_auxiliary else 0,
            ),
            backbone=method.config.backbone,
            input_size=_input_size(method),
            weights=self.entrant.weights,
            bank=bank_entry(bank, self.shot),
            way=bank.ways,
            shot=self.shot,
            annotation=self.plan.settings.annotation,
            folds=folds,
            seed=self.entrant.spec.seed,
            vanished_supports=self._vanished(),
            environment=self.plan.environment.model_copy(update=hosts),
            seconds={} if self._resumed else {phase: round(value, 3) for phase, value in self.seconds.items()},
            parameters=self.entrant.parameters(),
            summary=summary,
        )

    def _vanished(self) -> int:
        """How many of the episodes' supports have no pixel of their object at the network's input size."""
        images, how = BankImages(self.plan.bank, self.plan.settings.annotation), self.entrant.method.support_input

        @cache
        def lost(image: int, class_id: int) -> bool:
            return not bool((fit_label(images.support_codes(image, class_id, ()), how) == OBJECT).any())

        return sum(
            lost(image, class_id)
            for episodes in self._episodes.values()
            for classes, supports in zip(episodes.classes.tolist(), episodes.support.tolist(), strict=True)
            for class_id, shots in zip(classes, supports, strict=True)
            for image in shots
        )


def _auxiliary(episodes: Episodes) -> int:
    return 0 if episodes.auxiliary is None else int(episodes.auxiliary.shape[-1])


def _input_size(method: Method) -> str:
    how = method.query_input
    return "native" if how.size is None else f"{how.size[0]}x{how.size[1]} {how.fit}"


def _record_name(name: str, backbone: str, kind: str, what: dict[str, Any], bank: Bank) -> str:
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]
    plain, network = ("".join(c if c.isalnum() or c in "._-" else "-" for c in text) for text in (name, backbone))
    some = what["folds"] != sorted(bank.fold_classes)
    folds = f"-fold{'+'.join(map(str, what['folds']))}" if some else ""
    weak = "" if what["annotation"] == "mask" else f"-{what['annotation']}"
    return f"{bank.dataset}/{plain}-{network}-{kind}-{what['way']}way-{what['shot']}shot{weak}{folds}-{digest}"
