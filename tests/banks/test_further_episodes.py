"""The published test episodes of FSS-1000, ISIC 2018 and iSAID-5i, to the last one, from lists alone."""

from __future__ import annotations

import hashlib

import pytest

from fssbench.banks.sampling import Pool, Shape, draw
from fssbench.datasets.fss1000 import IMAGES, published_classes
from fssbench.datasets.isaid5i import published_pairs
from fssbench.datasets.isic2018 import SPLITS
from fssbench.datasets.isic2018 import published_classes as lesions
from fssbench.protocols import find_protocol

# SHA-256 over the episodes of the authors' own data-set classes, run over empty files with the listed names.
PUBLISHED = {
    "fss1000_1shot": "8481804827d0aeb1a1571cf381948e87c26c19e8eb53ed061a136e4119958869",
    "fss1000_5shot": "d432d7ffc2211bf78638073b2d597346a933410677c166aafc6e090845b379df",
    "isic_nev_mel_seb_1shot": "8f3ceea39f160a38c1ce5dc569ee280152a7138cfb54d31f688a1a8f48629e87",
    "isic_nev_mel_seb_5shot": "87bfbfdcec8cc9ddec0f13455092cd3ec870f03cce2f6d08dc62ab8b9a3b1e1f",
    "isic_nev_seb_mel_1shot": "08b471ddd41149a35281fb40c32119f1f5a064226b97583c02390254ead857b2",
    "isic_nev_seb_mel_5shot": "6806afbf9ac40f215c9f4f75dee853211fe17b928823be8692459bcdd2f4ed04",
    "isaid_fold0_1shot": "86cb01c33395343e868a8e35e12653695c71fb0f558d61265d9adf18b3739dcb",
    "isaid_fold0_5shot": "33a274d84a0af7261fe444cb2f45109621187d43f4ea62022c670ef942d36d47",
    "isaid_fold1_1shot": "8493227a34586e942d5f318750977d0b973daae3fdec7be5d32428418ced48a4",
    "isaid_fold1_5shot": "7b63f1747e943c446749adc424f84359efc42d5cc32fab1fc40df93cd86d70b2",
    "isaid_fold2_1shot": "acba662adad29dcb35d5e482f4768d501ad128a187788099841f325a38657d42",
    "isaid_fold2_5shot": "381053794e28cdbf0ba0ef976cccc61904a68382d96b24f0501620a953c25406",
}


def numbered(pairs: list[tuple[str, int]], ids: list[str]) -> Pool:
    order = {image_id: number for number, image_id in enumerate(ids)}
    found = [(order[image_id], class_id) for image_id, class_id in pairs]
    return Pool(found, {c: [i for i, other in found if other == c] for c in sorted({c for _, c in found})})


def lines(dataset: str, pool: Pool, ids: list[str], fold: int, shots: int, words: dict[int, str]) -> str:
    drawn = draw(find_protocol("hsnet", dataset), pool, fold, Shape(shots=shots))
    rows = zip(drawn.query.tolist(), drawn.classes[:, 0].tolist(), drawn.support[:, 0].tolist(), strict=True)
    return "".join(
        " ".join(filter(None, (ids[query], words[c], *(ids[i] for i in support)))) + "\n" for query, c, support in rows
    )


def fss(shots: int) -> str:
    names = published_classes("test")
    ids = [f"{name}/{i}" for name in names for i in range(1, IMAGES + 1)]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    walk = [(f"{name}/{i}", numbers[name]) for name in sorted(names) for i in (1, 10, 2, 3, 4, 5, 6, 7, 8, 9)]
    return lines("fss1000", numbered(walk, ids), ids, 0, shots, dict.fromkeys(numbers.values(), ""))


def isic(split: str, shots: int) -> str:
    ids = sorted(lesions())
    words = dict(enumerate(SPLITS[split], start=1))
    numbers = {name: number for number, name in words.items()}
    pairs = [(image_id, numbers[lesions()[image_id]]) for image_id in ids]
    return lines("isic2018", numbered(pairs, ids), ids, 0, shots, words)


def isaid(fold: int, shots: int) -> str:
    pairs = list(published_pairs("val")[fold])
    ids = list(dict.fromkeys(patch for patch, _ in pairs))
    return lines("isaid5i", numbered(pairs, ids), ids, fold, shots, {c: str(c) for c in range(1, 16)})


@pytest.mark.parametrize("key", PUBLISHED)
def test_a_published_test_is_reproduced(key: str) -> None:
    name, shots = key.rsplit("_", 1)[0], int(key[-5])
    if name == "fss1000":
        found = fss(shots)
    elif name.startswith("isaid"):
        found = isaid(int(name[-1]), shots)
    else:
        found = isic("gfsam" if name.endswith("mel_seb") else "ifa", shots)
    assert hashlib.sha256(found.encode()).hexdigest() == PUBLISHED[key]
