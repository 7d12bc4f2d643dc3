"""Matcher: Segment Anything with One Shot Using All-Purpose Feature Matching (ICLR 2024).

Object patches of the supports are assigned to the query's by DINOv2; pairs that do not fall back on the object are
dropped. Subsets of the matched points, and a dense grid, prompt SAM; each mask is scored by how cheaply the object's
patches are carried into it (earth mover's distance), and by the points it holds. The best are united.

Our reading of the authors' code (its SAM version): their prompts come from one random stream that runs through all
episodes, so that none can be repeated by itself. Here the generator is seeded by the matched points: an episode has the
same prompts whatever was run before, alone or in a batch. Other differences: points are ordered by place, not as a
Python set has them; SciPy's k-means++ stands for theirs; masks without a pixel are dropped, and a query without any
other gets an empty mask, where theirs stops. The box prompt (object parts only) and Semantic-SAM are not here.

The defaults are the authors' for COCO-20i and LVIS-92i. Theirs for FSS-1000: `--set prompts=centres sample=4,6
subsets=30 dense=0 multimask=false quality=0 stability=0 nms=1 emd=0.8 purity=0.2 coverage_power=1 least_purity=0
union=best most=10,5`. They publish none for PASCAL-5i.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import masks_to_boxes, nms

from fssbench.errors import MethodError
from fssbench.method import EpisodeBatch, Features, MethodInfo, SupportBatch
from methods.sam_dinov2 import SamDinoConfig, SamDinoMethod, object_or_square

FEW = 8  # points: all of their subsets are taken, and there are no more centres than this
MANY = 40  # pairs: of more, the more similar half is kept
PROMPTS_AT_ONCE = 64
NEAR, NEARER = 0.33, 0.1  # of `union=near`: what 1 - score may be, and how much more than the best one's
SHARE_OF_BEST = 0.7  # of `union=best`


class MatcherConfig(SamDinoConfig):
    """Options of Matcher, with the authors' values for COCO-20i."""

    size: tuple[int, int] = (518, 518)
    prompts: Literal["points", "centres"] = Field("points", description="the matched points, or their k-means centres")
    sample: tuple[int, int] = Field((1, 6), description="the smallest and the largest subset that prompts")
    subsets: int = Field(64, ge=1, description="random subsets of each size, where there are more than 8 points")
    dense: int = Field(64, ge=0, description="points a side of the grid that prompts besides; 0: none")
    multimask: bool = Field(default=True, description="three masks a subset instead of one")
    quality: float = Field(0.85, description="that SAM must expect of a subset's mask")
    stability: float = Field(0.9, description="of a subset's mask: its area at logit 1 over that at -1")
    dense_quality: float = Field(0.88, description="the same for the grid's")
    dense_stability: float = Field(0.95, description="the same for the grid's")
    nms: float = Field(0.65, gt=0, le=1, description="overlap of boxes above which the better mask stays; 1: all stay")
    emd: float = Field(1.0, description="weight of 1 - the earth mover's distance in a mask's score")
    purity: float = Field(0.0, description="weight of purity times coverage to the power of `coverage_power`")
    coverage_power: float = 0.0
    least_coverage: float = 0.0
    least_emd: float = 0.0
    least_purity: float = Field(0.02, description="masks below are dropped, unless all are")
    union: Literal["near", "best"] = Field("near", description="masks as good as the best within a margin, or 70 %")
    most: tuple[int, int] = Field((9, 5), description="masks that are united, with one shot and with more")


class Matcher(SamDinoMethod):
    """Matched points, SAM's masks, and their scores."""

    info = MethodInfo(
        title="Matcher",
        paper="Matcher: Segment Anything with One Shot Using All-Purpose Feature Matching",
        venue="ICLR",
        year=2024,
        url="https://arxiv.org/abs/2305.13310",
        code="https://github.com/aim-uofa/Matcher",
        backbones=("sam_vit_h",),
        our_reading=True,
        untrained=True,
        trainable=False,
    )
    Config = MatcherConfig
    checked_with = (  # without filters, which no mask of an untrained SAM passes
        "backbone=sam_test", "dino=dinov2_test", "size=112,112", "sample=1,2", "subsets=3", "dense=2",
        "quality=0", "stability=0", "dense_quality=0", "dense_stability=0",
    )  # fmt: skip
    config: MatcherConfig

    def encode(self, images: Tensor) -> Features:
        """SAM's features, B x C x g x g, and DINOv2's tokens of unit length, B x N x C."""
        features = super().encode(images)
        return features | {"tokens": F.normalize(features["tokens"], dim=2)}

    def encode_support(self, support: SupportBatch) -> Features:
        """Tokens of unit length, M x N x C, and whether a patch has a pixel of the object, M x N."""
        inside = F.adaptive_max_pool2d(object_or_square(support), self.dino.grid)
        return {"tokens": F.normalize(self.dino(support.pixels), dim=2), "inside": inside.flatten(1)}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        """B x 2 x H x W: zeros, and 1 inside the mask, -1 outside."""
        return self.scores([self._mask(episodes, b) for b in range(episodes.size[0])])

    def _mask(self, episodes: EpisodeBatch, b: int) -> Tensor:
        inside = episodes.support["inside"][b, 0].flatten() > 0
        with torch.autocast(inside.device.type, enabled=False):
            supports = episodes.support["tokens"][b, 0].flatten(0, 1).float()  # (K N) x C
            similarity = supports @ episodes.query["tokens"][b].float().T
        points = matched(similarity, inside)
        masks = self.masks(episodes.query["sam"][b : b + 1], points, episodes.query_shape)
        if not len(masks):
            return torch.zeros(episodes.query_shape, dtype=torch.bool, device=inside.device)
        cells = F.adaptive_max_pool2d(masks[:, None].float(), self.dino.grid).flatten(1) > 0
        chosen = self.chosen(similarity[inside], cells, points, many=episodes.size[2] > 1)
        return masks[chosen].any(0)

    def masks(self, features: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
        """All masks that pass their filters, M x h x w bool, for matched cells P."""
        options = self.config
        made = [
            self._made(features, prompt, size, multimask=options.multimask, least=(options.quality, options.stability))
            for prompt in self.prompts(points)
        ]
        if options.dense:
            steps = (torch.arange(options.dense, device=points.device) + 0.5) / options.dense
            grid = torch.cartesian_prod(steps, steps).flip(1)[:, None] * self.encoder.sizes.img_size
            least = (options.dense_quality, options.dense_stability)
            made.append(self._made(features, grid, size, multimask=False, least=least))
        masks, qualities = (torch.cat(parts) for parts in zip(*made, strict=True))
        if options.nms < 1 and len(masks):
            masks = masks[nms(masks_to_boxes(masks), qualities, options.nms)]
        return masks

    def _made(
        self, features: Tensor, prompts: Tensor, size: tuple[int, int], *, multimask: bool, least: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """Masks of P prompts, P x T x 2 (x, y) in SAM's input, and their qualities; only those that are good enough."""
        masks, found = [], []
        for points in prompts.split(PROMPTS_AT_ONCE):
            labels = torch.ones(points.shape[:2], dtype=torch.int, device=points.device)
            low, qualities = self.encoder.decode(features, (points.float(), labels))
            kept = slice(1, None) if multimask else slice(0, 1)
            low, qualities = low[:, kept].flatten(0, 1), qualities[:, kept].flatten()
            good = qualities > least[0] if least[0] else torch.ones_like(qualities, dtype=torch.bool)
            full = self.encoder.at_size(low[good][:, None].float(), size)[:, 0]
            surely, perhaps = ((full > threshold).sum((1, 2)) for threshold in (1, -1))
            steady = (surely >= least[1] * perhaps) & (full > 0).flatten(1).any(1)
            masks.append(full[steady] > 0)
            found.append(qualities[good][steady])
        return torch.cat(masks), torch.cat(found)

    def prompts(self, points: Tensor) -> list[Tensor]:
        """Subsets of the points, or of their centres, by size: S x T x 2 (x, y) each, in SAM's input. See `matched`."""
        side, patch = self.dino.sizes.img_size, self.dino.sizes.patch_size
        places = torch.stack([points % self.dino.grid, points // self.dino.grid], dim=1).cpu().numpy() * patch
        places = places + patch // 2
        draw = np.random.default_rng(crc32(places.astype("<i8").tobytes()))
        if self.config.prompts == "centres":
            places = centres(places, min(FEW, len(places)), draw)
        low, high = (min(size, len(places)) for size in self.config.sample)
        scale = self.encoder.sizes.img_size / side
        made = []
        for size in range(low, high + 1):
            if len(places) > FEW:
                chosen = [draw.choice(len(places), size, replace=False) for _ in range(self.config.subsets)]
            else:
                chosen = [np.array(subset) for subset in combinations(range(len(places)), size)]
            made.append(torch.from_numpy(places[np.stack(chosen)] * scale).to(points.device))
        return made

    def chosen(self, similarity: Tensor, cells: Tensor, points: Tensor, *, many: bool) -> Tensor:
        """Which masks are united: the object's cosines O x N, the masks' cells M x N, the matched cells P; indices."""
        options = self.config
        held = cells[:, points].sum(1)
        values = {
            "coverage": held / len(points) + 1e-6,
            "emd": torch.stack([1 - transport(similarity[:, mask]) for mask in cells]),
            "purity": held / cells.sum(1) + 1e-6,
        }
        score = options.emd * values["emd"]
        score = score + options.purity * values["purity"] * values["coverage"] ** options.coverage_power
        left = torch.arange(len(cells), device=cells.device)
        for name in ("coverage", "emd", "purity"):
            least = getattr(options, f"least_{name}")
            if least > 0:
                value = values[name][left]
                left = left[value >= min(least, float(value.max()))]
        left = left[score[left].argsort(descending=True, stable=True)]
        best = score[left]
        if options.union == "near":
            distance = 1 - best
            good = (distance < NEAR) & ((distance - distance[0]) / (distance[-1] + 1e-6) < NEARER)
            good[0] = True
            left = left[good]
            return left[: options.most[many]]
        left = left[: options.most[many]]
        return left[(best[: len(left)] / best[0] > SHARE_OF_BEST) | (left == left[0])]


def matched(similarity: Tensor, inside: Tensor) -> Tensor:
    """Query cells that the object falls on and that fall back on it, in order: S x N cosines, S bool -> P.

    Forward, object patches are assigned to query patches one to one; back, these to any support patch.
    """
    values = similarity.cpu().double().numpy()
    is_object = inside.cpu().numpy()
    rows, cells = linear_sum_assignment(values[is_object], maximize=True)
    _, back = linear_sum_assignment(values[:, cells].T, maximize=True)
    kept = is_object[back]
    if kept.any():
        rows, cells = rows[kept], cells[kept]
    if len(cells) > MANY:
        strength = values[is_object][rows, cells]
        cells = cells[np.argsort(-strength, kind="stable")[: len(cells) // 2]]
    return torch.from_numpy(np.unique(cells)).to(similarity.device)


def centres(places: NDArray[np.int64], count: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """K-means++ centres of P x 2 places, truncated to whole pixels; drawn again where a cluster is left empty."""
    while True:
        try:
            found, _ = kmeans2(places.astype(float), count, minit="++", missing="raise", rng=draw)
        except ClusterError:
            continue
        return np.asarray(found, dtype=np.int64)


def transport(similarity: Tensor) -> Tensor:
    """The earth mover's distance between two sets of patches of equal weights, by their cosines O x M: 0..1."""
    cost = ((1 - similarity.double()) / 2).cpu().numpy()
    distance = _package().emd2([], [], np.ascontiguousarray(cost))
    return torch.as_tensor(float(distance), dtype=similarity.dtype, device=similarity.device)


def _package() -> Any:
    try:
        import ot
    except ImportError as error:
        raise MethodError(
            "Matcher's earth mover's distance comes with the package POT, which is not installed: "
            "`pip install fssbench[foundation]`."
        ) from error
    return ot
