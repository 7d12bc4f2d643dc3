"""A backbone by its name on the command line."""

from __future__ import annotations

from fssbench.backbones import by_timm
from fssbench.backbones.base import Backbone, Needs
from fssbench.backbones.imagenet import LITE, efficientnet_lite, resnet, vgg
from fssbench.errors import MethodError, unknown_name

NAMES = ("vgg16", "vgg16_bn", "resnet50", "resnet101", *LITE)


def build_backbone(name: str, output_stride: int = 8, stages: int = 5, needs: Needs | None = None) -> Backbone:
    """A backbone by name with random weights, its last stages dilated to `output_stride` (8, 16 or 32).

    Only the first `stages` stages are built (VGG-16: always all five), so that none is computed or trained in vain.
    `timm:NAME` is any of timm's models with feature maps or patch tokens; those that cannot be dilated keep their
    strides. Raises `MethodError` where a backbone is unknown or does not offer what is needed.
    """
    if output_stride not in (8, 16, 32):
        raise MethodError(f"expected an output stride of 8, 16 or 32, found {output_stride}")
    needs = needs or Needs(maps=())
    if name.startswith(by_timm.PREFIX):
        return by_timm.stages(name, output_stride, stages, needs)
    backbone = _classic(name, output_stride, stages)
    backbone.check_needs(needs)
    return backbone


def _classic(name: str, output_stride: int, stages: int) -> Backbone:
    if name in ("vgg16", "vgg16_bn"):
        return vgg(name, strides=(2, 2, 2, 2 if output_stride > 8 else 1), dilation5=1 if output_stride > 8 else 2)
    if name in ("resnet50", "resnet101"):
        dilations = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}[output_stride]
        return resnet(name, dilations=dilations, depth=stages - 1)
    if name in LITE:
        return efficientnet_lite(name, output_stride, stages)
    raise MethodError(
        unknown_name("backbone", name, NAMES) + f". Any other of timm's goes by its name there: {by_timm.PREFIX}NAME."
    )
