"""Protocols are named, frozen, hashed, and say what the published code does."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError
from repository import ROOT

from fssbench.errors import ProtocolError
from fssbench.protocol import Protocol, parse_protocol
from fssbench.protocols import FSSBENCH, PROTOCOLS, find_protocol

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
    "hdmnet": {"episodes": 1000, "fit": "squash", "input_size": 473, "scoring": "original", "absent_class": "zero"},
    "canet": {"scoring": ("square", 321), "ignore_label": "background", "absent_class": "error"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_protocol_says_what_its_code_does(name: str) -> None:
    found = find_protocol(name).model_dump()
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]


# What the comparison of six codebases says of COCO-20i.
ON_COCO: dict[str, dict[str, Any]] = {
    "panet": {"pool": "train2014", "split": "consecutive", "pair_filter": "none", "class_draw": "uniform",
              "query_draw": "random", "support_draw": "distinct", "episodes": 1000, "fit": "squash", "input_size": 417,
              "seeds": (1234, 1235, 1236, 1237, 1238), "scoring": ("square", 417), "vanished_label": "drop"},
    "pfenet": {"pool": "val2014-repri", "split": "interleaved", "pair_filter": "area", "min_area": 2048,
               "filter_query": False, "class_draw": "image", "query_draw": "list", "episodes": 20001, "seeds": (321,),
               "fit": "pad", "input_size": 641, "scoring": "original"},
    "bam": {"pool": "val2014-bam", "split": "interleaved", "min_area": 2048, "filter_query": False, "episodes": 1000,
            "seeds": (510, 365, 382, 322, 988), "fit": "pad", "input_size": 641, "averaging": "runs"},
    "hdmnet": {"split": "interleaved", "filter_query": False, "episodes": 10000, "fit": "squash", "input_size": 633,
               "seeds": (510, 365, 382, 322, 988, 98, 742, 17, 595, 106), "scoring": "original"},
    "hsnet": {"pool": "hsnet", "split": "interleaved", "pair_filter": "list", "class_draw": "uniform",
              "support_draw": "replacement", "nested": False, "episodes": 1000, "seeds": (0,), "fit": "squash",
              "input_size": 400, "scoring": ("square", 400)},
}  # fmt: skip

# Hashes are for ever: a change here makes every bank and record of that protocol another benchmark.
FROZEN = json.loads((ROOT / "tests" / "protocol_hashes.json").read_text())


@pytest.mark.parametrize("name", ON_COCO)
def test_a_published_protocol_says_what_its_code_does_on_coco(name: str) -> None:
    found = find_protocol(name, "coco20i").model_dump()
    assert {key: found[key] for key in ON_COCO[name]} == ON_COCO[name]


@pytest.mark.parametrize("dataset", ["pascal5i", "coco20i", "elsewhere"])
def test_no_protocol_changes_its_hash(dataset: str) -> None:
    assert {name: find_protocol(name, dataset).hash for name in PROTOCOLS} == FROZEN[dataset]


def test_a_protocol_without_values_for_a_data_set_uses_its_own_images() -> None:
    assert find_protocol("panet", "shapes5i").pool == "default"


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
