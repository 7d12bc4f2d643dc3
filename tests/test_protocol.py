"""Protocols are named, frozen, hashed, and say what the published code does."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from fssbench.errors import ProtocolError
from fssbench.protocol import FSSBENCH, PROTOCOLS, Protocol, find_protocol, parse_protocol

# From the comparison of the eight codebases (code at fixed commits): 255, absent class, resolution, runs, FB-IoU.
PUBLISHED: dict[str, dict[str, Any]] = {
    "panet": {
        "pool": "trainaug",
        "pair_filter": "none",
        "seeds": (1234, 1235, 1236, 1237, 1238),
        "scoring": ("square", 417),
        "ignore_label": "ignore",
        "absent_class": "nan",
        "vanished_label": "drop",
    },
    "sgone": {"scoring": "original", "ignore_label": "background", "absent_class": "zero", "fb_pooling": "all"},
    "pmms": {"label_resize": "nearest-twice", "ignore_label": "background", "absent_class": "zero"},
    "pfenet": {"episodes": 5001, "min_area": 2048, "filter_query": False, "seeds": (321,), "absent_class": "zero"},
    "hsnet": {"support_draw": "replacement", "scoring": ("square", 400), "seeds": (0,), "absent_class": "zero"},
    "repri": {"scoring": ("padded", 417), "absent_class": "skip", "seeds": (2020, 2021, 2022, 2023, 2024)},
    "bam": {"episodes": 1000, "seeds": (510, 365, 382, 322, 988), "absent_class": "zero"},
    "oslsm": {"replays": "oslsm", "seeds": (1385,), "episodes": 1000, "scoring": ("square", 500)},
    "canet": {"scoring": ("square", 321), "ignore_label": "background", "absent_class": "error"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_protocol_says_what_its_code_does(name: str) -> None:
    found = find_protocol(name).model_dump()
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_survives_json(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert parse_protocol(protocol.model_dump_json()) == protocol


def test_hashes_tell_protocols_apart() -> None:
    assert len({protocol.hash for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)


def test_the_hash_is_over_the_fields_that_differ_from_their_defaults() -> None:
    expected = {"name": "mine", "seeds": [3, 4], "scoring": ["square", 400]}
    line = json.dumps(expected, sort_keys=True, separators=(",", ":"))
    protocol = Protocol(name="mine", seeds=(3, 4), scoring=("square", 400), note="prose is not hashed")
    assert protocol.hash == hashlib.sha256(line.encode()).hexdigest()


def test_a_protocol_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FSSBENCH.episodes = 1  # type: ignore[misc]


def test_a_changed_copy_has_another_hash_and_is_checked() -> None:
    assert FSSBENCH.but(episodes=10).hash != FSSBENCH.hash
    with pytest.raises(ProtocolError, match="seeds"):
        FSSBENCH.but(seeds=(1, 1))
    with pytest.raises(ProtocolError, match="episodes"):
        FSSBENCH.but(episodes=0)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ProtocolError, match="did you mean 'pfenet'"):
        find_protocol("pfnet")


def test_a_field_of_a_newer_release_is_refused() -> None:
    with pytest.raises(ProtocolError, match="brightness"):
        parse_protocol('{"name": "x", "brightness": 3}')
