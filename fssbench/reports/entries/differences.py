"""What separates two measurements, in words: protocols, input sizes, weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fssbench.protocol import Protocol

# What the six counts cannot give back once a run is over, field by field, as a reader would say it.
_DRAW = {
    "pool": "images",
    "pair_filter": "filter of small objects",
    "min_area": "smallest object",
    "filter_query": "whether the filter binds queries",
    "replays": "random stream",
    "class_draw": "draw of the class",
    "query_draw": "draw of the query",
    "support_draw": "draw of supports",
    "nested": "whether shots are nested",
    "negatives": "whether queries may lack their classes",
    "episodes": "episodes a fold",
    "seeds": "seeds",
}
_RULES = {
    "ignore_label": "what 255 counts as",
    "accumulation": "accumulation",
    "absent_class": "classes without episodes",
    "vanished_label": "labels that lost their object",
    "fb_pooling": "pooling of FB-IoU",
    "averaging": "averaging",
}


def scoring_size(protocol: Mapping[str, Any]) -> str:
    """Where a protocol compares prediction and label, in words.

    >>> scoring_size({"scoring": ("square", 400), "label_resize": "nearest"})
    '400x400 px, label by nearest'
    """
    kind = protocol.get("scoring", "original")
    if kind == "original":
        size = "original size"
    else:
        size = f"{kind[1]}x{kind[1]} px" + (" with padding" if kind[0] == "padded" else "")
    resize = {"nearest": ", label by nearest", "nearest-twice": ", label shrunk and enlarged again"}
    return size + resize.get(str(protocol.get("label_resize", "none")), "")


def resolution_difference(ours: Mapping[str, Any], theirs: Protocol) -> str:
    """How the scoring resolution differs; empty if it does not."""
    mine, other = scoring_size(ours), scoring_size(theirs.model_dump())
    return "" if mine == other else f"scored at {mine}, not at {other}"


def draw_differences(ours: Mapping[str, Any], theirs: Protocol) -> list[str]:
    """How the episodes differ."""
    return _named(_DRAW, ours, theirs)


def rule_differences(ours: Mapping[str, Any], theirs: Protocol) -> list[str]:
    """How the accumulation differs: what `fssbench report --protocol` can make equal."""
    return _named(_RULES, ours, theirs)


def input_difference(input_size: str, theirs: Protocol) -> str:
    """How the network's input differs from what the authors feed; empty if it does not, or is not known."""
    if theirs.input_size is None or theirs.fit == "method":
        return ""
    wanted = f"{theirs.input_size}x{theirs.input_size}"
    return "" if wanted in input_size and theirs.fit in input_size else f"input {input_size}, not {wanted} {theirs.fit}"


def _named(words: Mapping[str, str], ours: Mapping[str, Any], theirs: Protocol) -> list[str]:
    other = theirs.model_dump(mode="json")
    return [
        f"{word} ({_shown(ours[field])}, not {_shown(other[field])})"
        for field, word in words.items()
        if field in ours and _shown(ours[field]) != _shown(other[field]) and not _test_images(field, ours, other)
    ]


def _test_images(field: str, *both: Mapping[str, Any]) -> bool:
    """The pool "default" is the data set's own list of test images, by whatever name."""
    pools = [protocol["pool"] for protocol in both] if field == "pool" else []
    return "default" in pools and all(pool == "default" or pool.endswith("val") for pool in pools)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value) or "none"
