"""What BAM and HDMNet share: a segmentation network of the base classes, and the merging of its answer with theirs.

A PSPNet learns the base classes first, as one learns any semantic segmentation (`base_loss`, step 1 of two); then it
is frozen. What it takes for a base class is likely no object of a novel one, which corrects the background's score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fssbench.backbones import Backbone
from fssbench.errors import CheckpointError
from fssbench.method import EpisodeBatch, Method, MethodConfig, Preprocess, Term, load_converted, strip_prefix
from methods.blocks import cross_entropy
from methods.dense_comparison import renamed
from methods.pfenet import aligned, encoder_as_published, encoder_name

BINS = (1, 2, 3, 6)  # of the pyramid pooling
WIDTH = 512  # channels of the base feature


class BaseLearnerConfig(MethodConfig):
    """Options of methods with a base learner."""

    backbone: str = "resnet50"
    size: tuple[int, int] = Field((473, 473), description="network input")
    base_classes: int = Field(15, ge=1, description="how many; in training those of the data")
    shots: int = Field(1, ge=1, description="shots that it is trained for; above 1 it learns to weigh that many")
    deep_stem: bool = Field(
        default=True, description="ResNets with the authors' three 3x3 convolutions for torchvision's 7x7"
    )


class PyramidPooling(nn.Module):
    """Means over 1, 4, 9 and 36 parts of the map beside the map itself: C to 2C channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins), *conv_norm(channels, channels // len(BINS), 1), nn.ReLU(inplace=True)
            )
            for bins in BINS
        )

    def forward(self, x: Tensor) -> Tensor:
        """B x C x h x w -> B x 2C x h x w."""
        size = (x.shape[2], x.shape[3])
        return torch.cat([x, *(aligned(pool(x), size) for pool in self.features)], dim=1)


class BaseLearner(nn.Module):
    """PSPNet's head: pyramid pooling and a classifier of background and the base classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.ppm = PyramidPooling(channels)
        hidden = channels + channels // len(BINS) * len(BINS)
        self.cls = nn.Sequential(
            *conv_norm(hidden, WIDTH, 3), nn.ReLU(inplace=True), nn.Dropout2d(0.1), nn.Conv2d(WIDTH, 1 + classes, 1)
        )

    def feature(self, layer4: Tensor) -> Tensor:
        """B x C x h x w -> the base feature, signed, B x 512 x h x w."""
        found: Tensor = self.cls[1](self.cls[0](self.ppm(layer4)))
        return found

    def classify(self, feature: Tensor) -> Tensor:
        """The base feature -> logits B x (1 + base classes) x h x w."""
        logits: Tensor = self.cls[4](self.cls[3](F.relu(feature)))
        return logits


class Merging(nn.Module):
    """The ensemble of meta and base learner: two mixtures of two numbers each, at first the meta learner alone."""

    def __init__(self) -> None:
        super().__init__()
        self.gram_merge = nn.Conv2d(2, 1, 1, bias=False)
        self.cls_merge = nn.Conv2d(2, 1, 1, bias=False)
        for layer in (self.gram_merge, self.cls_merge):
            with torch.no_grad():
                layer.weight.copy_(torch.tensor([1.0, 0.0]).view_as(layer.weight))

    def forward(self, logits: Tensor, psi: Tensor, base_map: Tensor) -> Tensor:
        """Meta logits B x 2 x h x w, adjustment factor B, base map B x 1 x h x w -> scores B x 2 x h x w.

        The scores are mixed probabilities, and they are nevertheless used as logits, as in the authors' codes.
        """
        background, foreground = logits.softmax(1).split(1, dim=1)
        factor = psi[:, None, None, None].expand_as(foreground)
        background = self.gram_merge(torch.cat([background, factor], dim=1))
        foreground = self.gram_merge(torch.cat([foreground, factor], dim=1))
        background = self.cls_merge(torch.cat([background, base_map], dim=1))
        return torch.cat([background, foreground], dim=1)


class TwoStageMethod(Method):
    """A method on a frozen base learner: `encoder` and `base` are trained by step 1, everything else by step 2."""

    Config: ClassVar[type[MethodConfig]] = BaseLearnerConfig
    align_corners = True
    fit: ClassVar[Literal["squash", "pad"]] = "squash"  # how images become square
    official_names: ClassVar[Mapping[str, str]]  # the authors' names of layers, and ours
    config: Any
    encoder: Backbone

    def __init__(self, config: BaseLearnerConfig) -> None:
        super().__init__(config)
        self.encoder = encoder_as_published(config.backbone, config.deep_stem)
        self.query_input = Preprocess(
            config.size, self.fit, mean=self.encoder.mean, std=self.encoder.std, multiple=8 if self.fit == "pad" else 1
        )
        self.base = BaseLearner(self.encoder.channels["c5"], config.base_classes)
        self.merging = Merging()
        self.encoder.requires_grad_(False)
        self.base.requires_grad_(False)

    def train(self, mode: bool = True) -> TwoStageMethod:
        """Training mode of step 2: every BatchNorm keeps its running statistics, Dropout is on."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        return self

    def train_base(self) -> TwoStageMethod:
        """Training mode of step 1: BatchNorm on batch statistics."""
        super().train()
        return self

    def base_loss(self, images: Tensor, labels: Tensor) -> Term:
        """Step 1, B x 3 x H x W and B x H x W (0, 1 + place of the base class, 255): mean over pixels not void."""
        return self._base_entropy(self.base_logits(self.encoder(images)["c5"]), labels)

    def base_logits(self, layer4: Tensor) -> Tensor:
        """B x (1 + base classes) x h x w of an image's last map."""
        return self.base.classify(self.base.feature(layer4))

    def entropy(self, scores: Tensor, episodes: EpisodeBatch) -> Term:
        """Cross entropy of scores B x 2 x h x w with the query's labels."""
        return cross_entropy(aligned(scores.float(), episodes.query_shape), needed(episodes)[0])

    def _base_entropy(self, logits: Tensor, labels: Tensor) -> Term:
        return cross_entropy(aligned(logits.float(), (labels.shape[1], labels.shape[2])), labels.long())

    @classmethod
    def official_settings(cls, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        """How many base classes and shots an authors' checkpoint is for."""
        named = renamed(strip_prefix(state), {**cls.official_names, "cls": "base.cls"})
        classes, shots = named.get("base.cls.4.weight"), named.get("kshot_rw.0.weight")
        found = () if classes is None else (f"base_classes={len(classes) - 1}",)
        return found if shots is None else (*found, f"shots={shots.shape[1]}")

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state_dict` of the authors' train.py, or of train_base.py, which is a base learner alone."""
        plain = strip_prefix(state)
        if not any(name.startswith("down_query.") for name in plain):
            self.load_base(plain)
            return
        named = encoder_name(self.encoder)
        load_converted(self, renamed({named(name): value for name, value in plain.items()}, self.official_names))

    def load_base(self, state: Mapping[str, Tensor]) -> None:
        """Load a checkpoint of the authors' train_base.py into `encoder` and `base`, every key accounted for."""
        named = encoder_name(self.encoder)
        renamed = {
            f"base.{name}" if name.startswith(("ppm.", "cls.")) else named(name): value
            for name, value in strip_prefix(state).items()
            if not name.startswith("encoder.")  # the same tensors as layer0 to layer4
        }
        rest = {name: value for name, value in self.state_dict().items() if not name.startswith(("encoder.", "base."))}
        clash = sorted(set(renamed) & set(rest))
        if clash:
            raise CheckpointError(f"expected a base learner alone, found {clash[0]}: use load_official for the whole")
        load_converted(self, renamed | rest)


def conv_norm(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    """A convolution without bias that keeps the size, and BatchNorm."""
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


def base_map(logits: Tensor, classes: Tensor | None = None) -> Tensor:
    """How likely a position shows a base class, B x 1 x h x w; in training, one other than the episode's own."""
    likely = logits.softmax(1)[:, 1:]
    if classes is not None:
        others = torch.ones(likely.shape[:2], device=likely.device, dtype=likely.dtype)
        likely = likely * others.scatter(1, classes[:, None], 0)[..., None, None]
    return likely.sum(1, keepdim=True)


def gram(low: Tensor) -> Tensor:
    """Cosines between the channels of a low-level map: B x C x h x w -> B x C x C."""
    with torch.autocast(low.device.type, enabled=False):
        rows = low.flatten(2).float()
        length: Tensor = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
        return (rows @ rows.transpose(1, 2)) / (length @ length.transpose(1, 2) + 1e-7)


def gram_distance(query: Tensor, support: Tensor) -> Tensor:
    """How differently two images look, small if alike: B x C x C and B x K x C x C -> B x K (the papers' psi)."""
    difference = query.unsqueeze(1).float() - support.float()
    norms: Tensor = torch.linalg.vector_norm(difference, dim=(2, 3))
    return norms / query.shape[1]


def shot_weigher(shots: int) -> nn.Sequential | None:
    """`kshot_rw`: from the sorted distances of K shots to a score each; none for a single shot."""
    if shots == 1:
        return None
    return nn.Sequential(nn.Conv2d(shots, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, shots, 1))


def shot_scores(weigher: nn.Sequential, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the shots in ascending order of distance, B x K, and that order."""
    ascending, order = distances.sort(dim=1)
    scores: Tensor = weigher(ascending[..., None, None])[..., 0, 0]
    return scores, order


def needed(episodes: EpisodeBatch) -> tuple[Tensor, Tensor, Tensor]:
    """`query_labels`, `classes` and `base_labels` of episodes to train on."""
    if episodes.query_labels is None or episodes.classes is None or episodes.base_labels is None:
        raise ValueError("the loss of a method with a base learner expects query_labels, classes and base_labels")
    return episodes.query_labels, episodes.classes, episodes.base_labels
