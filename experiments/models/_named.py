"""Models that have a name."""

import dataclasses
from typing import Any, Literal

from experiments.models._build import ModelConfig
from experiments.models._mlp import MLPConfig
from experiments.models._resnet import ResNetConfig
from experiments.models._vgg import VGGConfig


def _vgg(*stages: tuple[int, ...]) -> VGGConfig:
    widths: list[int | Literal["M"]] = []
    for stage in stages:
        widths += [*stage, "M"]
    return VGGConfig(widths=tuple(widths[:-1]))


# The VGGs are the CIFAR ones of Early-Bird, without the ImageNet networks' last pooling and hidden
# linear layers. XLA:CPU is over 100 times too slow at a 3x3 convolution of a 2x2 map, so those for
# 8x8 images stop at 4x4.
NAMED: dict[str, ModelConfig] = {
    "digits": VGGConfig(widths=(16, 16, "M", 32, 32), channels=1),
    "digits_mlp": MLPConfig(widths=(64, 64), inputs=64, batch_norm=True),
    "digits_resnet": ResNetConfig(blocks=2, widths=(16, 32), channels=1),
    "fashion": VGGConfig(widths=(32, "M", 64, 64, "M", 128, 128), channels=1),
    "lenet300": MLPConfig(),
    "mlp_cifar": MLPConfig(widths=(1024, 512), inputs=3072),
    "resnet20": ResNetConfig(blocks=3),
    "resnet32": ResNetConfig(blocks=5),
    "resnet44": ResNetConfig(blocks=7),
    "resnet56": ResNetConfig(blocks=9),
    "resnet110": ResNetConfig(blocks=18),
    "vgg11": _vgg((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": _vgg((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": _vgg((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": _vgg((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
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
