"""PANet's cases: 1-way and 2-way, masks, scribbles and boxes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fssbench.method import BACKGROUND, OBJECT, OTHER_WAY, UNLABELLED, VOID
from fssbench.parity.case import Arrays, Case
from methods.blocks import resize
from methods.panet import PANet, PANetConfig


def outputs(case: Case) -> Arrays:
    """Logits, prototypes, losses; where labels are no plain mask, also the maps and what becomes of them."""
    method = case.method(PANet, PANetConfig(size=case.size)).train()
    queries = int(case.meta["queries"])
    support = case.images(_support_names(case)).unflatten(0, (case.batch, _ways(case), case.shots))
    labels = _support_labels(case)
    query = case.images(f"{item}query{j}" for item in case.items for j in range(queries))
    truth = _query_labels(case)

    def repeated(value: Tensor) -> Tensor:  # every query is an episode of its own, with the same supports
        return value.repeat_interleave(queries, dim=0)

    with torch.no_grad():
        episodes = case.episodes(method, query, repeated(support), repeated(labels), truth)
        low = method.segment(episodes)
        logits = resize(low, case.size)
        query_loss = F.cross_entropy(logits, truth, ignore_index=VOID)
        align_loss = method.alignment_loss(
            episodes.query["feature"].unflatten(0, (case.batch, queries)),
            low.unflatten(0, (case.batch, queries)),
            episodes.support["feature"][::queries],
            labels,
        ).mean()
        tensors = {
            "prototypes": method.prototypes(episodes)[::queries],
            "logits_low": _queries_first(low, queries),
            "logits": _queries_first(logits, queries),
            "query_feat": _queries_first(episodes.query["feature"], queries),
            "query_loss": query_loss,
            "align_loss": align_loss,
            "loss": method.loss(episodes) if queries == 1 else query_loss + align_loss,
        }
        foreground, background = method.regions(labels)
    maps = {"support_fg": foreground, "support_bg": background} | _stored_maps(case)
    tensors |= {name: value.movedim(0, 2).byte() for name, value in maps.items()}
    tensors["query_label"] = _queries_first(truth, queries).byte()
    return {name: value.numpy() for name, value in tensors.items()}


def _ways(case: Case) -> int:
    return int(case.meta["ways"])


def _support_names(case: Case) -> list[str]:
    ways = [f"way{w}_" for w in range(_ways(case))] if _ways(case) > 1 else [""]
    return [f"{item}{way}support{k}" for item in case.items for way in ways for k in range(case.shots)]


def _queries_first(x: Tensor, queries: int) -> Tensor:
    """(batch * queries) x ... to the authors' order, query * batch + item."""
    ordered: Tensor = x.unflatten(0, (-1, queries)).transpose(0, 1).flatten(0, 1)
    return ordered


def _plain(case: Case) -> bool:
    return _ways(case) == 1 and case.meta["annotation"] == "mask"


def _classes(case: Case) -> list[int]:
    return [int(c) for c in case.meta["class_ids"]]


def _label_map(case: Case, name: str, way: int) -> NDArray[np.uint8]:
    """0, the image's own class, the second class, 255; H x W."""
    classes = _classes(case)
    second = classes[1 - way] if len(classes) > 1 else 4
    own, other, ignore = (case.mask(f"{name}_{part}").numpy() > 0 for part in ("mask", "other", "ignore"))
    rows, columns = np.indices(case.size)
    labels = np.where(own, classes[way], np.where(other, second, 0)).astype(np.uint8)
    labels[ignore & ~own & ~other & ((rows + columns) % 5 == 0)] = VOID
    return labels


def _instances(case: Case, name: str, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The own class split into instances 1 and 2, the second class 3."""
    own = _classes(case)[0]
    inside = case.mask(f"{name}_inst").numpy() > 0
    found = np.where(labels == own, np.where(inside, 1, 2), np.where(labels == VOID, VOID, 3))
    return np.where(labels == 0, 0, found).astype(np.uint8)


def _scribbles(labels: NDArray[np.uint8], instances: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Strokes along rows and columns; 0 background, 255 unlabelled."""
    rows, columns = np.indices(labels.shape)
    drawn = np.full(labels.shape, VOID, np.uint8)
    drawn[(labels == 0) & (rows % 16 == 8)] = 0
    object_stroke = np.isin(instances, (1, 2)) & (rows % 8 == 4)
    drawn[object_stroke] = instances[object_stroke]
    drawn[(instances == 3) & (columns % 8 == 4)] = 3
    return drawn


def _maps(case: Case) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]]:
    """Labels, instances and scribbles of each support."""
    made = []
    for index, name in enumerate(_support_names(case)):
        labels = _label_map(case, name, index // case.shots % _ways(case))
        instances = _instances(case, name, labels)
        made.append((labels, instances, _scribbles(labels, instances)))
    return made


def _stored_maps(case: Case) -> dict[str, Tensor]:
    """The maps as batch x way x shot x H x W; nothing for plain masks."""
    if _plain(case):
        return {}
    shape = (case.batch, _ways(case), case.shots)
    names = ("support_label", "support_inst", "support_scribble")
    kinds = zip(names, zip(*_maps(case), strict=True), strict=True)
    return {name: torch.from_numpy(np.stack(maps)).unflatten(0, shape) for name, maps in kinds}


def _support_labels(case: Case) -> Tensor:
    """B x N x K x H x W codes of `fssbench.method`."""
    shape = (case.batch, _ways(case), case.shots)
    if _plain(case):
        masks: Tensor = case.masks(f"{name}_mask" for name in _support_names(case)).unflatten(0, shape)
        return masks
    code = {"mask": _mask_codes, "scribble": _scribble_codes, "bbox": _box_codes}[case.meta["annotation"]]
    made = [code(case, index, *maps) for index, maps in enumerate(_maps(case))]
    codes: Tensor = torch.from_numpy(np.stack(made)).unflatten(0, shape)
    return codes


def _mask_codes(
    case: Case, index: int, labels: NDArray[np.uint8], instances: NDArray[np.uint8], strokes: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    classes, own = _classes(case), _classes(case)[index // case.shots % _ways(case)]
    codes = np.where(np.isin(labels, classes), OTHER_WAY, np.where(labels == VOID, VOID, BACKGROUND))
    return np.where(labels == own, OBJECT, codes).astype(np.uint8)


def _scribble_codes(
    case: Case, index: int, labels: NDArray[np.uint8], instances: NDArray[np.uint8], strokes: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    # Which stroke the authors' loader drew is an input of the case, kept only as the mask that came out.
    b, rest = divmod(index, case.shots * _ways(case))
    drawn = case.expected["support_fg"][rest // case.shots, rest % case.shots, b] > 0
    return np.where(drawn, OBJECT, np.where(strokes == 0, BACKGROUND, UNLABELLED)).astype(np.uint8)


def _box_codes(
    case: Case, index: int, labels: NDArray[np.uint8], instances: NDArray[np.uint8], strokes: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    codes = np.full(labels.shape, BACKGROUND, np.uint8)
    own = labels == _classes(case)[0]
    sizes = {i: int((own & (instances == i)).sum()) for i in (1, 2)}
    for instance in sorted((i for i in sizes if sizes[i]), key=lambda i: (sizes[i], -i)):  # the largest last
        codes[codes == OBJECT] = UNLABELLED
        rows, columns = np.nonzero(own & (instances == instance))
        codes[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = OBJECT
    return codes


def _query_labels(case: Case) -> Tensor:
    """(batch * queries) x H x W int64: 0, 1..N, 255."""
    names = [f"{item}query{j}" for item in case.items for j in range(int(case.meta["queries"]))]
    if _plain(case):
        return case.masks(f"{name}_mask" for name in names).long()
    truth = []
    for name in names:
        labels = _label_map(case, name, 0)
        made = np.where(labels == VOID, VOID, 0)
        for way, class_id in enumerate(_classes(case), 1):
            made[labels == class_id] = way
        truth.append(torch.from_numpy(made))
    return torch.stack(truth).long()
