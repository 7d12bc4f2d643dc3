"""DINOv2's tokens and SAM's masks in one method: what GF-SAM and Matcher share.

Tokens say where a query resembles the supports, and SAM, which looks at queries only, says where what is there ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from fssbench.backbones import Pretrained, published_file
from fssbench.errors import CheckpointError, MethodError, unknown_name
from fssbench.method import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Features,
    Method,
    MethodConfig,
    Preprocess,
    SupportBatch,
    load_converted,
)
from methods.sam import Sam, SamSizes, our_names, sam_named

FALLBACK_SIDE = 14  # of the square that stands for a mask without a pixel
ADDRESS = "https://dl.fbaipublicfiles.com/dinov2/"  # Apache-2.0


@dataclass(frozen=True)
class DinoSizes:
    """The sizes of a DINOv2. `file` holds its published weights."""

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4
    file: str | None = None


DINO = {
    "dinov2_vits14": DinoSizes(embed_dim=384, depth=12, num_heads=6, file="dinov2_vits14/dinov2_vits14_pretrain.pth"),
    "dinov2_vitb14": DinoSizes(embed_dim=768, depth=12, num_heads=12, file="dinov2_vitb14/dinov2_vitb14_pretrain.pth"),
    "dinov2_vitl14": DinoSizes(file="dinov2_vitl14/dinov2_vitl14_pretrain.pth"),
    "dinov2_test": DinoSizes(img_size=112, embed_dim=32, depth=2, num_heads=2),  # for tests: there are no weights
}


class Dino(Pretrained):
    """DINOv2's patch tokens: the last block's output before the final norm."""

    weights_kind = "published"  # trained on LVD-142M

    def __init__(self, sizes: DinoSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.body = VisionTransformer(
            img_size=sizes.img_size, patch_size=sizes.patch_size, embed_dim=sizes.embed_dim, depth=sizes.depth,
            num_heads=sizes.num_heads, mlp_ratio=sizes.mlp_ratio, init_values=1e-5, num_classes=0,
        )  # fmt: skip

    @property
    def grid(self) -> int:
        """Cells a side."""
        return self.sizes.img_size // self.sizes.patch_size

    def forward(self, images: Tensor) -> Tensor:
        """Images of 0..1, B x 3 x h x w, squashed without antialiasing -> B x N x C, row by row."""
        side = self.sizes.img_size
        x = F.interpolate(images, (side, side), mode="bilinear")
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        body: Any = self.body
        last: Tensor = body.forward_intermediates(
            (x - mean) / std, indices=1, norm=False, output_fmt="NLC", intermediates_only=True
        )[0]
        return last

    def load_imagenet(self) -> None:
        """Meta's weights, downloaded on first use (their MD5 is not published)."""
        if self.sizes.file is None:
            raise CheckpointError("there are no published weights of a DINOv2 of these sizes; say --weights random.")
        state = dict(published_file(ADDRESS + self.sizes.file))
        state.pop("mask_token", None)
        load_converted(self.body, state)


class SamDinoConfig(MethodConfig):
    """Options of methods on DINOv2 and SAM."""

    backbone: str = Field("sam_vit_h", description="the SAM: sam_vit_b, sam_vit_l or sam_vit_h")
    dino: str = Field("dinov2_vitl14", description="what similarity is taken on: dinov2_vits14, _vitb14 or _vitl14")
    size: tuple[int, int] = (1024, 1024)
    sam_sizes: SamSizes | None = Field(None, description="of another SAM; not from the command line")
    dino_sizes: DinoSizes | None = Field(None, description="of another DINOv2; not from the command line")


class SamDinoMethod(Method):
    """Frozen encoders, and masks without strength: where ways claim one pixel, the first has it."""

    encodes_support = False  # SAM looks at queries only
    encoder: Sam

    def __init__(self, config: SamDinoConfig) -> None:
        super().__init__(config)
        if config.dino_sizes is None and config.dino not in DINO:
            raise MethodError(unknown_name("DINOv2", config.dino, DINO))
        self.encoder = sam_named(config.backbone, config.sam_sizes).requires_grad_(False)
        self.dino = Dino(config.dino_sizes or DINO[config.dino]).requires_grad_(False)
        self.query_input = Preprocess(config.size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def encode(self, images: Tensor) -> Features:
        """SAM's features, B x C x g x g, and DINOv2's tokens, B x N x C."""
        return {"sam": self.encoder.encode(images), "tokens": self.dino(images)}

    def scores(self, masks: list[Tensor]) -> Tensor:
        """Logits of B masks, H x W bool: zeros, and 1 inside the mask, -1 outside."""
        foreground = torch.stack(masks).float().unsqueeze(1) * 2 - 1
        return torch.cat([torch.zeros_like(foreground), foreground], dim=1)

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Load DINOv2's and SAM's published entries, named with the prefixes `dinov2.` and `sam.`."""
        sam = our_names({name[4:]: value for name, value in state.items() if name.startswith("sam.")})
        renamed = {f"encoder.{name}": value for name, value in sam.items()}
        renamed |= {
            f"dino.body.{name[7:]}" if name.startswith("dinov2.") else name: value
            for name, value in state.items()
            if not name.startswith("sam.")
        }
        load_converted(self, renamed, unused=("dino.body.mask_token",))


def object_or_square(support: SupportBatch) -> Tensor:
    """Where the object is, M x 1 x H x W; a square in the middle where a support has no pixel of its object."""
    inside = support.foreground
    height, width = inside.shape[2:]
    square = torch.zeros_like(inside[0])
    top, left = height // 2 - FALLBACK_SIDE // 2, width // 2 - FALLBACK_SIDE // 2
    square[:, top : top + FALLBACK_SIDE, left : left + FALLBACK_SIDE] = 1
    return torch.where(inside.flatten(1).any(1).view(-1, 1, 1, 1), inside, square)
