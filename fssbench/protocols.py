"""The published protocols by name, as data.

Facts about them were read from the authors' code; where the code differs from what it was meant to do, we keep what it
does and say so in `note`.
"""

from __future__ import annotations

from typing import Any

from fssbench.errors import ProtocolError, unknown_name
from fssbench.protocol import Protocol

FSSBENCH = Protocol(name="fssbench", note="The default: balanced classes, every image a query before any is again.")

OSLSM = Protocol(
    name="oslsm",
    note="Episodes of the original benchmark, to the last one. Lists as the authors' grid filter made them.",
    pool="oslsm",
    pair_filter="list",
    replays="oslsm",
    class_draw="pair",
    query_draw="shuffled",
    seeds=(1385,),
    fit="squash",
    input_size=500,
    scoring=("square", 500),
    label_resize="nearest",
    ignore_label="background",
    absent_class="zero",
    fb_pooling="all",
)

SGONE = OSLSM.but(
    name="sgone",
    note="OSLSM's stream, but at 1 shot the walked item is the support and the random image the query.",
    replays="sgone",
    nested=False,
    fit="native",
    input_size=None,
    scoring="original",
    label_resize="none",
    averaging="classes",
)

PANET = Protocol(
    name="panet",
    note="Tested on held-out classes of the training images. An episode whose resized label lost the object is left "
    "out for its class. Python's and torch's random streams are not followed: same distribution, other episodes.",
    pool="trainaug",
    pair_filter="none",
    class_draw="uniform",
    query_draw="random",
    seeds=(1234, 1235, 1236, 1237, 1238),
    fit="squash",
    input_size=417,
    scoring=("square", 417),
    label_resize="nearest",
    absent_class="nan",
    vanished_label="drop",
    averaging="runs",
)

PFENET = Protocol(
    name="pfenet",
    note="5000 episodes meant, 5001 done. The area filter binds supports only: smaller objects are queries too. "
    "torch's worker streams are not followed: same distribution, other episodes.",
    filter_query=False,
    class_draw="image",
    query_draw="list",
    episodes=5001,
    seeds=(321,),
    fit="pad",
    input_size=473,
    input_note="The image fills the canvas up to multiples of 8 only, the prediction is stretched from all of it: "
    "a small shift. Scored in a square of the longer side, outside ignored, which is the original size.",
    absent_class="zero",
)

HSNET = Protocol(
    name="hsnet",
    note="Episodes of the published test loop, to the last one. Supports are drawn with replacement: in 5 to 13 % of "
    "the 5-shot episodes one image is there twice. Each number of shots is its own draw.",
    pool="hsnet",
    pair_filter="list",
    replays="hsnet",
    class_draw="pair",
    query_draw="list",
    support_draw="replacement",
    nested=False,
    fit="squash",
    input_size=400,
    scoring=("square", 400),
    label_resize="nearest",
    absent_class="zero",
)

BAM = PFENET.but(
    name="bam",
    note="PFENet's loop with 1000 episodes and five seeds. The authors also print the best seed; we do not.",
    episodes=1000,
    seeds=(510, 365, 382, 322, 988),
    averaging="runs",
)

HDMNET = BAM.but(
    name="hdmnet",
    note="BAM's loop with ten seeds, squashed images and no shift: the prediction is resized to the original size.",
    seeds=(510, 365, 382, 322, 988, 98, 742, 17, 595, 106),
    fit="squash",
    input_note="",
)

PMMS = Protocol(
    name="pmms",
    note="Episodes of the published test, to the last one. Each number of shots is its own draw. The label is shrunk "
    "to 481 px and enlarged again before scoring, 255 is background.",
    pool="hsnet",
    pair_filter="list",
    replays="pmms",
    class_draw="pair",
    query_draw="reshuffled",
    nested=False,
    seeds=(1385,),
    fit="squash",
    input_size=481,
    label_resize="nearest-twice",
    ignore_label="background",
    absent_class="zero",
    averaging="classes",
)

REPRI = PFENET.but(
    name="repri",
    note="A run goes on in the list where the one before stopped. Classes without an episode are left out. "
    "numpy's worker streams are not followed: same distribution, other episodes.",
    query_draw="continued",
    episodes=1000,
    seeds=(2020, 2021, 2022, 2023, 2024),
    input_size=417,
    input_note="",
    scoring=("padded", 417),
    label_resize="nearest",
    absent_class="skip",
    averaging="runs",
)

CANET = Protocol(
    name="canet",
    note="The released quick validation: unseeded, 1 shot only, supports scaled, cropped and flipped at random, lists "
    "not published. Only its scoring can be followed.",
    pair_filter="none",
    class_draw="pair",
    query_draw="list",
    fit="squash",
    input_size=321,
    scoring=("square", 321),
    label_resize="nearest",
    ignore_label="background",
)

PROTOCOLS: dict[str, Protocol] = {
    p.name: p for p in (FSSBENCH, OSLSM, SGONE, PANET, PFENET, HSNET, BAM, HDMNET, PMMS, REPRI, CANET)
}

_LABELS = "Objects are drawn whole here, by their authors as the first polygon only: areas near 2048 px differ."

_CYCLIC = {
    "pool": "default",
    "pair_filter": "none",
    "replays": "hsnet-cyclic",
    "episodes": 600,
    "class_draw": "balanced",
    "query_draw": "random",
    "note": "PATNet's test: the classes by turns, query and supports drawn from a class's sorted images, supports with "
    "replacement. Each number of shots is its own draw.",
}

# What a protocol is on another data set than PASCAL-5i, where its authors' code says so: (data set, name) -> changes.
ELSEWHERE: dict[tuple[str, str], dict[str, Any]] = {
    ("coco20i", "panet"): {
        "pool": "train2014",
        "split": "consecutive",
        "note": f"{PANET.note} Masks are one a class: overlapping objects of two classes both keep their pixels.",
    },
    ("coco20i", "pfenet"): {
        "pool": "val2014-repri",
        "split": "interleaved",
        "episodes": 20001,
        "input_size": 641,
        "note": f"20000 episodes meant, 20001 done. The list's order is RePRI's, by inference PFENet's own. {_LABELS}",
    },
    ("coco20i", "bam"): {
        "pool": "val2014-bam",
        "split": "interleaved",
        "input_size": 641,
        "note": f"The first 1000 images of a fold's list, in each of five runs. {_LABELS}",
    },
    ("coco20i", "hdmnet"): {
        "pool": "val2014-repri",
        "split": "interleaved",
        "episodes": 10000,
        "input_size": 633,
        "note": f"Its list is not published and said to follow PFENet's. {_LABELS}",
    },
    ("coco20i", "hsnet"): {
        "pool": "hsnet",
        "split": "interleaved",
        "replays": "hsnet-coco",
        "class_draw": "uniform",
        "query_draw": "random",
        "note": "Episodes of the published test loop, to the last one: class, query and supports are drawn from stored "
        "lists. Supports are drawn with replacement. Each number of shots is its own draw.",
    },
    ("coco20i", "repri"): {"pool": "val2014-repri", "split": "interleaved"},
    ("fss1000", "hsnet"): {
        "pool": "default",
        "replays": "hsnet-fss",
        "episodes": 2400,
        "note": "Every image of the 240 test classes is a query once. Supports are drawn with replacement: 1793 of "
        "2400 5-shot episodes hold one image twice. Each number of shots is its own draw.",
    },
    **{(name, "hsnet"): _CYCLIC for name in ("deepglobe", "isic2018", "chestxray")},
    ("lvis92i", "hsnet"): {
        **_CYCLIC,
        "episodes": 2300,
        "note": "Matcher's and GF-SAM's test: the classes by turns, query and supports drawn from a class's images, "
        "supports with replacement. The order of a class's images is not published: same distribution, other episodes.",
    },
    ("isaid5i", "hsnet"): {
        "pool": "default",
        "one_pass": True,
        "episodes": 3657,
        "note": "GF-SAM's test: every line of a fold's list is a query once (3108, 3657 and 3298). Supports are drawn "
        "with replacement. Each number of shots is its own draw.",
    },
}


def find_protocol(name: str, dataset: str = "pascal5i") -> Protocol:
    """A published protocol by its name, as its authors carry it out on a data set.

    Where the table has no values for the data set, those of PASCAL-5i hold on its own list of test images.
    Raises `ProtocolError` with the nearest names.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(unknown_name("protocol", name, PROTOCOLS))
    protocol = PROTOCOLS[name]
    if dataset == "pascal5i":
        return protocol
    return protocol.but(**ELSEWHERE.get((dataset, name), {"pool": "default"}))
