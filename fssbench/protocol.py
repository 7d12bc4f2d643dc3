"""What "mIoU on PASCAL-5i" means: the protocol object; those by name are in `fssbench.protocols`.

A protocol says how episodes are drawn and how predictions are scored. It is frozen, it has a hash, and it travels in
every bank and every record.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fssbench.errors import ProtocolError

Resolution = Literal["original"] | tuple[Literal["square", "padded"], Annotated[int, Field(gt=0)]]
CORRUPTIONS = (
    *("gaussian_noise", "defocus_blur", "jpeg_compression", "fog"),
    *("brightness", "contrast", "pixelate"),
)  # of fssbench.banks.corruptions
TARGETS = ("queries", "supports", "both")
_CORRUPTION = rf"((?:{'|'.join(TARGETS)}) (?:{'|'.join(CORRUPTIONS)})-[1-5] seed \d+)?"
Replay = Literal["", "oslsm", "sgone", "hsnet", "hsnet-coco", "hsnet-cyclic", "hsnet-fss", "pmms"]


class Protocol(BaseModel):
    """How episodes are drawn and predictions are scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    note: str = ""  # what the original does by accident, and what cannot be reproduced

    # Which (image, class) pairs there are.
    pool: str = "default"  # the image list, in the data set's words ("voc-val", "trainaug"); "default": its test images
    split: str = "default"  # which classes a fold holds out, where the data set knows several cuts
    pair_filter: Literal["none", "area", "list"] = "area"  # "list": the pool is a published list of pairs
    min_area: int = Field(default=2048, ge=0)  # px a class must cover in an image, with the filter "area"
    filter_query: bool = True  # False: the filter binds supports only, a query needs one pixel

    # How an episode is drawn. `replays` names an authors' random stream that is followed to the last episode.
    replays: Replay = ""
    class_draw: Literal["balanced", "uniform", "pair", "image"] = "balanced"  # "pair": with the query, from the list
    query_draw: Literal["even", "random", "list", "continued", "shuffled", "reshuffled"] = "even"
    support_draw: Literal["distinct", "replacement"] = "distinct"  # never the query, in either
    negatives: bool = False  # the ways are drawn by chance, the query's class as often as all others: it may lack them
    nested: bool = True  # the k-shot support is the first k of the K-shot support
    episodes: int = Field(default=1000, gt=0)  # a fold and run
    one_pass: bool = False  # the list is walked once: `episodes` is the most that a fold may have
    seeds: tuple[int, ...] = (0,)  # one run a seed

    # What was done to the images of the episodes, as in "queries fog-3 seed 0".
    corruption: str = Field(default="", pattern=f"^{_CORRUPTION}$")

    # What the authors feed the network. Methods follow their own preprocessing; this is a note for readers.
    fit: Literal["method", "native", "squash", "pad"] = "method"
    input_size: int | None = None  # px, longer side or square
    input_note: str = ""

    # How predictions are scored.
    scoring: Resolution = "original"
    label_resize: Literal["none", "nearest", "nearest-twice"] = "none"  # "twice": to `input_size` squared and back
    ignore_label: Literal["ignore", "background"] = "ignore"  # what 255 counts as
    accumulation: Literal["pooled", "episode"] = "pooled"  # sum counts, then divide; or mean of the episodes' IoUs
    absent_class: Literal["error", "zero", "skip", "nan"] = "error"  # a class of the fold that no episode had
    vanished_label: Literal["keep", "drop"] = "keep"  # false positives of an episode whose label lost the object
    fb_pooling: Literal["fold", "all"] = "fold"  # FB-IoU a fold, then averaged; or counts of all folds together
    averaging: Literal["folds", "classes", "runs"] = "folds"  # "runs": mIoU of each run, then their mean

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError(f"expected at least one seed, none negative and none twice, found {seeds}")
        return seeds

    @model_validator(mode="after")
    def _twice_has_a_size(self) -> Self:
        if self.label_resize == "nearest-twice" and (self.input_size is None or self.scoring != "original"):
            raise ValueError("label_resize nearest-twice needs input_size (px), and scoring original")
        return self

    def canonical_json(self) -> str:
        """What is hashed: one line of JSON, keys sorted, without prose and without fields that have their default.

        So a field that a later release adds, with a default that means "as before", changes no hash. For the same
        reason a default never changes.
        """
        fields = self.model_dump(mode="json", exclude={"note", "input_note"}, exclude_defaults=True)
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @property
    def hash(self) -> str:
        """SHA-256 of `canonical_json`, hex."""
        return hashlib.sha256(self.canonical_json().encode("ascii")).hexdigest()

    def with_negatives(self) -> Protocol:
        """This protocol with queries that may lack the classes asked for, drawn and scored as Kang and Cho (2022) do.

        The query is drawn as before, with a class of its own. Of the ways' classes that one is as likely as all others
        of the fold together: at 1 way every second query was drawn for another class than the one asked for. What is
        found there counts as false positives of its class. Raises `ProtocolError` for an authors' random stream.
        """
        if self.replays:
            raise ProtocolError(
                f"protocol {self.name} follows the authors' own random stream, which knows no negatives. Leave "
                "--negatives out, or use the protocol fssbench."
            )
        return self.but(negatives=True, vanished_label="keep", absent_class="zero")

    def but(self, **changes: Any) -> Protocol:
        """This protocol with other values, validated. Raises `ProtocolError` for a value that is not allowed."""
        return _validated({**self.model_dump(), **changes})


def parse_protocol(text: str) -> Protocol:
    """A protocol from its JSON. Raises `ProtocolError`, e.g. for a field of a newer version."""
    try:
        return Protocol.model_validate_json(text)
    except ValidationError as error:
        raise ProtocolError(_explain(error)) from error


def _validated(values: dict[str, Any]) -> Protocol:
    try:
        return Protocol.model_validate(values)
    except ValidationError as error:
        raise ProtocolError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'protocol'}: {e['msg']}" for e in error.errors())
    return f"this protocol cannot be used: {problems}. Its fields are those of fssbench.protocol.Protocol."
