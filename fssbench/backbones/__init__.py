"""Image encoders by way of torchvision and timm, in the layouts that the methods' authors used.

A `Backbone` maps B x 3 x H x W to its stages `c1`..`c5`, B x C x h x w each. The modules keep the names of
torchvision or timm, so their published weights load whatever strides and dilations a method asks for.
"""

from fssbench.backbones.base import Backbone, Needs, Pretrained, Step
from fssbench.backbones.build import NAMES, build_backbone
from fssbench.backbones.by_timm import blocks_by_timm
from fssbench.backbones.imagenet import efficientnet_lite, resnet, vgg
from fssbench.backbones.published import published_file

__all__ = [
    "NAMES",
    "Backbone",
    "Needs",
    "Pretrained",
    "Step",
    "blocks_by_timm",
    "build_backbone",
    "efficientnet_lite",
    "published_file",
    "resnet",
    "vgg",
]
