"""Models that have a name."""

import dataclasses
from typing import Any, Literal

from experiments.models._build import ModelConfig
from experiments.models._convnet import ConvNetConfig
from experiments.models._lenet import LeNetConfig
from experiments.models._mlp import MLPConfig
from experiments.models._mobilenet import MobileNetConfig
from experiments.models._preresnet import PreResNetConfig
from experiments.models._resnet import ResNetConfig
from experiments.models._vgg import VGGConfig


def _vgg(*stages: tuple[int, ...]) -> VGGConfig:
    widths: list[int | Literal["M"]] = []
    for stage in stages:
        widths += [*stage, "M"]
    return VGGConfig(widths=tuple(widths[:-1]))


def _resnet18(**settings: Any) -> ResNetConfig:
    return ResNetConfig(
        blocks=2, widths=(64, 128, 256, 512), shortcut="B", scale_init=1.0, **settings
    )


def _wide(blocks: int, factor: int) -> PreResNetConfig:
    """Return a WideResNet of depth 6n+4."""
    widths = (16 * factor, 32 * factor, 64 * factor)
    return PreResNetConfig(blocks, widths, block="basic", shortcut="activation", scale_init=1.0)


# BatchNorm scales start from 0.5 in the networks of Early-Bird but its ResNets on ImageNet, elsewhere
# from 1. A name without a data set is for images of 32x32 (28x28 for lenet5) in ten classes; resnet50
# is ImageNet's, and with stem="3x3" it is for small images.
#
# The VGGs are the CIFAR ones of Early-Bird, without the ImageNet networks' last pooling and hidden
# linear layers. XLA:CPU is over 100 times too slow at a 3x3 convolution of a 2x2 map, so those for
# 8x8 images stop at 4x4.
NAMED: dict[str, ModelConfig] = {
    "convnet": ConvNetConfig(),
    "digits": VGGConfig(widths=(16, 16, "M", 32, 32), channels=1),
    "digits_convnet": ConvNetConfig(widths=(16, 32), channels=1),
    "digits_mlp": MLPConfig(widths=(64, 64), inputs=64, batch_norm=True),
    "digits_mobilenet": MobileNetConfig(widths=(16, 16, 32, 32), strides=(1, 1, 2, 1), channels=1),
    "digits_preresnet": PreResNetConfig(blocks=1, widths=(32, 64), stem_width=8, channels=1),
    "digits_resnet": ResNetConfig(blocks=2, widths=(16, 32), channels=1),
    "fashion": VGGConfig(widths=(32, "M", 64, 64, "M", 128, 128), channels=1),
    "lenet300": MLPConfig(),
    "lenet5": LeNetConfig(),
    "mobilenet": MobileNetConfig(scale_init=1.0),
    "mobilenet_imagenet": MobileNetConfig(
        strides=(2, 1, 2, 1, 2, 1, 2, *(1,) * 5, 2, 1), scale_init=1.0, classes=1000
    ),
    "preresnet20": PreResNetConfig(blocks=2),
    "preresnet101": PreResNetConfig(blocks=11),
    "preresnet164": PreResNetConfig(blocks=18),
    "resnet18": _resnet18(),
    "resnet18_imagenet": _resnet18(stem="7x7", classes=1000),
    "resnet20": ResNetConfig(blocks=3),
    "resnet32": ResNetConfig(blocks=5),
    "resnet44": ResNetConfig(blocks=7),
    "resnet56": ResNetConfig(blocks=9),
    "resnet110": ResNetConfig(blocks=18),
    "resnet50": ResNetConfig(
        blocks=(3, 4, 6, 3),
        widths=(256, 512, 1024, 2048),
        shortcut="B",
        block="bottleneck",
        stem="7x7",
        stem_width=64,
        classes=1000,
        scale_init=1.0,
    ),
    "vgg11": _vgg((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": _vgg((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": _vgg((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": _vgg((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
    # the one of the structured-ticket papers: a ResNet-32 of twice the width, activations last
    "wrn32_2": ResNetConfig(blocks=5, widths=(32, 64, 128), shortcut="B", scale_init=1.0),
    "wrn28_2": _wide(4, 2),
    "wrn28_10": _wide(4, 10),
}


def named(name: str, **changes: Any) -> ModelConfig:
    """Return the configuration of a known model, with some of its settings changed.

    Args:
      name: a key of ``NAMED``.
      **changes: fields of its configuration, such as ``classes``, ``channels`` or ``dtype``.

    Returns:
      A configuration for :func:`build`.

    Raises:
      ValueError: there is no model of that name.

    Example:
      >>> named("resnet20", classes=100).depth
      20
    """
    if name not in NAMED:
        raise ValueError(f"there is no model named {name!r}; there are {', '.join(sorted(NAMED))}.")
    return dataclasses.replace(NAMED[name], **changes)
