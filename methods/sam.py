"""SAM, the Segment Anything Model, as the methods on top of it use it: image encoder, prompts, mask decoder.

The encoder is timm's, prompt encoder and mask decoder are the package `segment-anything-py`'s (extra `foundation`);
each equals Meta's code. A guided pass of the decoder is PerSAM's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor

from fssbench.backbones import Pretrained, published_file
from fssbench.errors import CheckpointError, MethodError, unknown_name

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # on 0..255
ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"  # Apache-2.0, as SAM's code


@dataclass(frozen=True)
class SamSizes:
    """The sizes of a SAM. `file` holds its published weights, of that MD5."""

    img_size: int = 1024
    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4
    window_size: int = 14
    global_attn_indexes: tuple[int, ...] = (2, 5, 8, 11)
    prompt_embed_dim: int = 256
    mask_in_chans: int = 16
    decoder_mlp_dim: int = 2048
    decoder_heads: int = 8
    iou_head_hidden_dim: int = 256
    file: str | None = None
    md5: str | None = None

    @property
    def grid(self) -> int:
        """Cells a side."""
        return self.img_size // self.patch_size


SIZES = {
    "sam_vit_b": SamSizes(file="sam_vit_b_01ec64.pth", md5="01ec64d29a2fca3f0661936605ae66f8"),
    "sam_vit_l": SamSizes(
        embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23),
        file="sam_vit_l_0b3195.pth", md5="0b3195507c641ddb6910d2bb5adee89c",
    ),
    "sam_vit_h": SamSizes(
        embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31),
        file="sam_vit_h_4b8939.pth", md5="4b8939a88964f0f4ff5f5b2642c598a6",
    ),
    "sam_test": SamSizes(  # for tests: there are no weights
        img_size=64, patch_size=4, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, global_attn_indexes=(1,),
        prompt_embed_dim=32, decoder_mlp_dim=64, decoder_heads=4, iou_head_hidden_dim=32,
    ),
}  # fmt: skip


class Guide(NamedTuple):
    """What PerSAM adds to the decoder: the target, 1 x 1 x C, and weights of the image's cells, 1 x 1 x 1 x g*g."""

    target: Tensor
    weights: Tensor


class Sam(Pretrained):
    """SAM's three parts, with the names of its checkpoints but for the encoder's layers, which have timm's."""

    weights_kind = "published"  # trained on SA-1B

    def __init__(self, sizes: SamSizes) -> None:
        super().__init__()
        modeling = _package()
        self.sizes, width, grid = sizes, sizes.prompt_embed_dim, (sizes.grid, sizes.grid)
        self.image_encoder = VisionTransformerSAM(
            img_size=sizes.img_size, patch_size=sizes.patch_size, embed_dim=sizes.embed_dim, depth=sizes.depth,
            num_heads=sizes.num_heads, mlp_ratio=sizes.mlp_ratio, window_size=sizes.window_size, use_rel_pos=True,
            global_attn_indexes=sizes.global_attn_indexes, neck_chans=width, num_classes=0,
            norm_layer=None,  # the default's eps is not SAM's
        )  # fmt: skip
        self.prompt_encoder = modeling.PromptEncoder(
            embed_dim=width, image_embedding_size=grid, input_image_size=(sizes.img_size, sizes.img_size),
            mask_in_chans=sizes.mask_in_chans,
        )  # fmt: skip
        self.mask_decoder = modeling.MaskDecoder(
            transformer_dim=width,
            transformer=modeling.TwoWayTransformer(2, width, sizes.decoder_heads, sizes.decoder_mlp_dim),
            iou_head_hidden_dim=sizes.iou_head_hidden_dim,
        )

    def load_imagenet(self) -> None:
        """Meta's weights, downloaded on first use."""
        if self.sizes.file is None or self.sizes.md5 is None:
            raise CheckpointError("there are no published weights of a SAM of these sizes; say --weights random.")
        state = published_file(ADDRESS + self.sizes.file, self.sizes.md5)
        self.load_state_dict(our_names(state))

    def encode(self, images: Tensor) -> Tensor:
        """Images of 0..1 in any size, B x 3 x h x w, to features B x C x g x g."""
        encoder: Any = self.image_encoder
        features: Tensor = encoder.forward_features(sam_input(images, self.sizes.img_size))
        return features

    def decode(
        self,
        features: Tensor,
        points: tuple[Tensor, Tensor],
        box: Tensor | None = None,
        mask: Tensor | None = None,
        guide: Guide | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks and their qualities, one image with P prompts: P x 4 x 4g x 4g logits and P x 4 (token 0 is single).

        `features` 1 x C x g x g; `points` P x T x 2 (x, y) in pixels of the input and their labels P x T; `box` P x 4;
        `mask` P x 1 x 4g x 4g logits.
        """
        decoder = self.mask_decoder
        sparse, dense = self.prompt_encoder(points, box, mask)
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)  # P x T x C
        image = features + dense
        places = self.prompt_encoder.get_dense_pe().expand_as(image)
        if guide is None:
            tokens, cells = decoder.transformer(image, places, tokens)
        else:
            tokens, cells = _guided(decoder.transformer, image, places, tokens, guide)
        upscaled = decoder.output_upscaling(cells.transpose(1, 2).unflatten(2, features.shape[2:]))
        filters = [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        logits = torch.einsum("pmc,pchw->pmhw", torch.stack(filters, dim=1), upscaled)
        return logits, decoder.iou_prediction_head(tokens[:, 0])

    def at_size(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps on the decoder's grid, P x M x h x w, at an image's own size: enlarged, cropped, resized."""
        side = self.sizes.img_size
        height, width = fitted(size, side)
        full = F.interpolate(logits, (side, side), mode="bilinear")[..., :height, :width]
        return F.interpolate(full, size, mode="bilinear")


def sam_named(name: str, sizes: SamSizes | None = None) -> Sam:
    """A SAM by name, or of other sizes. Raises `MethodError` for a name that is not known."""
    if sizes is None and name not in SIZES:
        raise MethodError(unknown_name("SAM", name, SIZES))
    return Sam(sizes or SIZES[name])


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of Meta's code with the names of `Sam`."""
    return {
        name.replace(".mlp.lin", ".mlp.fc") if name.startswith("image_encoder.") else name: value
        for name, value in state.items()
    }


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size that an image of `size` is brought to: its longest side to `side`."""
    scale = side / max(size)
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def resized(channel: Tensor, side: int) -> Tensor:
    """A channel of bytes, h x w uint8, with its longest side at `side`, by Pillow as SAM does."""
    height, width = fitted((channel.shape[0], channel.shape[1]), side)
    if (height, width) == tuple(channel.shape):
        return channel
    picture = Image.fromarray(channel.cpu().numpy()).resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(picture).copy()).to(channel.device)


def sam_input(images: Tensor, side: int) -> Tensor:
    """Images of 0..1, B x 3 x h x w, as SAM takes them: B x 3 x side x side, padded with the mean colour."""
    pixels = (images * 255).round().to(torch.uint8)
    bytes_ = torch.stack([torch.stack([resized(channel, side) for channel in image]) for image in pixels]).float()
    mean, std = (bytes_.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return F.pad((bytes_ - mean) / std, (0, side - bytes_.shape[3], 0, side - bytes_.shape[2]))


def _guided(transformer: Any, image: Tensor, places: Tensor, tokens: Tensor, guide: Guide) -> tuple[Tensor, Tensor]:
    """SAM's two-way transformer with PerSAM's target in every query and its guidance in every look at the image."""
    keys, key_places = image.flatten(2).transpose(1, 2), places.flatten(2).transpose(1, 2)
    queries, place = tokens, tokens + guide.target  # the authors add in place: the target stays in the positions
    for layer in transformer.layers:
        queries = queries + guide.target
        if layer.skip_first_layer_pe:
            queries = layer.self_attn(q=queries, k=queries, v=queries)
        else:
            q = queries + place
            queries = queries + layer.self_attn(q=q, k=q, v=queries)
        queries = layer.norm1(queries)
        attention = layer.cross_attn_token_to_image
        queries = queries + _weighted(attention, queries + place, keys + key_places, keys, guide.weights)
        queries = layer.norm2(queries)
        queries = layer.norm3(queries + layer.mlp(queries))
        k = queries + place
        keys = layer.norm4(keys + layer.cross_attn_image_to_token(q=keys + key_places, k=k, v=queries))
    found = transformer.final_attn_token_to_image(q=queries + place + guide.target, k=keys + key_places, v=keys)
    return transformer.norm_final_attn(queries + found), keys


def _weighted(attention: Any, q: Tensor, k: Tensor, v: Tensor, weights: Tensor) -> Tensor:
    """Attention whose probabilities get `weights` added and go through the softmax again."""
    q, k, v = (
        linear(x).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for linear, x in ((attention.q_proj, q), (attention.k_proj, k), (attention.v_proj, v))
    )
    plain = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(-1)
    out: Tensor = attention.out_proj(((plain + weights).softmax(-1) @ v).transpose(1, 2).flatten(2))
    return out


def _package() -> Any:
    try:
        from segment_anything import modeling
    except ImportError as error:
        raise MethodError(
            "SAM's prompt encoder and mask decoder come with the package segment-anything-py, which is not installed: "
            "`pip install fssbench[foundation]`."
        ) from error
    return modeling
