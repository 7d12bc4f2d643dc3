"""What our GF-SAM gives for a case of its authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fssbench.parity.case import Arrays, Case
from methods.gfsam import GFSAM, Graph
from methods.sam import SamSizes
from methods.sam_dinov2 import DinoSizes, SamDinoConfig


def outputs(case: Case) -> Arrays:
    """Every tensor of the case, and its graph once more on discs in place of SAM's masks."""
    sam, dino = SamSizes(**case.meta["sam"]), DinoSizes(**case.meta["dinov2"])
    method = case.method(GFSAM, SamDinoConfig(size=case.size, sam_sizes=sam, dino_sizes=dino))
    item = case.meta["inputs"][0]
    query = _unit(case, item["query"])[None]
    support = torch.stack([_unit(case, name) for name in item["support"]])[None, None]
    labels = torch.stack([case.mask(name) for name in item["support_mask"]])[None, None]
    with torch.no_grad():
        episodes = case.episodes(method, query, support, labels)
        tokens, supports = episodes.query["tokens"][0], episodes.support["tokens"][0, 0]
        maps = method.maps(tokens, supports, episodes.support["masks"][0, 0])
        cells = method.cells(maps.filtered)
        prompts = method.prompts(cells)
        masks, logits = method.masks(episodes.query["sam"], prompts, case.size)
        graph = method.graph(masks, cells, maps, tokens)
        discs = method.graph(_discs(prompts, case.size, sam.img_size), cells, maps, tokens)
        predicted = method.decide(method.segment(episodes))[0]
    made: dict[str, Any] = {
        "query_tokens_every8": tokens[::8],
        "support_tokens_every8": supports[:, ::8],
        "sam_features_part": episodes.query["sam"][0, :8, ::2, ::2],
        "positive_max": maps.largest,
        "positive_mean": maps.mean,
        "negative_mean": maps.negative,
        "filtered": maps.filtered,
        "cells": cells,
        "prompts": prompts,
        "prompt_logits_first4_every3": logits[:4, ::3, ::3],
        "mask_area": masks.double().mean((1, 2)),
        **_of_graph(graph, ""),
        **_of_graph(discs, "graph_"),
        "final_mask": predicted,
    }
    for name in case.expected:  # "masks_first16": the case says how many it keeps
        if name.startswith("masks_first"):
            made[name] = masks[: int(name.removeprefix("masks_first"))]
    return {name: value.numpy() for name, value in made.items()}


def _of_graph(graph: Graph, prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}adjacency": graph.adjacency,
        f"{prefix}components": graph.component.max() + 1,
        f"{prefix}component": graph.component,
        f"{prefix}grown": graph.grown,
        f"{prefix}component_score": graph.score,
        f"{prefix}label": graph.label,
        f"{prefix}final_mask": graph.mask,
    }


def _discs(prompts: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """The case's stand-ins for masks: discs around the prompts, in six sizes."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    discs = []
    for number, (px, py) in enumerate(prompts.tolist()):
        radius = size[0] / 160 * (1 + (5 * number) % 6)
        discs.append((x - px * size[1] / side) ** 2 + (y - py * size[0] / side) ** 2 <= radius**2)
    return torch.from_numpy(np.stack(discs))


def _unit(case: Case, name: str) -> Tensor:
    """3 x H x W of 0..1; dimmed outside an object where the case says so."""
    pixels = case.rgb(name)
    if case.meta["dimmed"]:
        outside = case.mask(f"{name}_mask").numpy() == 0
        pixels[outside] = pixels[outside] // 8 + 112
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255
