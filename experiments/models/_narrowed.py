"""From the shapes of a shrunk network back to a configuration that builds it natively."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

import jax

from experiments.models._build import abstract
from experiments.models._mlp import MLPConfig
from experiments.models._vgg import VGGConfig
from wormjax._paths import leaf_names

Config = TypeVar("Config", VGGConfig, MLPConfig)

_KERNELS = {VGGConfig: "layers/{}/conv/kernel", MLPConfig: "layers/{}/dense/kernel"}


def narrowed(config: Config, shapes: Mapping[str, Sequence[int]]) -> Config:
    """Return the configuration of a network whose hidden layers have become narrower.

    A network built from it takes the parameters and the state of the ticket as they are::

        small = abstract(narrowed(config, ticket.widths))
        logits, _ = small.apply(ticket.params, ticket.state, images)

    Args:
      config: of the network that was shrunk.
      shapes: shape of every small parameter by path, ``ticket.widths``.

    Raises:
      TypeError: the configuration is of another model; in a ResNet the two ends of a block differ once it is shrunk,
        which its configuration cannot say.
      ValueError: no narrower network of this kind has these shapes.

    Example:
      >>> config = VGGConfig(widths=(8, "M", 8), channels=1)
      >>> shapes = {"layers/0/conv/kernel": (3, 3, 1, 5), "layers/1/conv/kernel": (3, 3, 5, 2)}
      >>> norms = {f"layers/{i}/norm/{n}": (w,) for i, w in ((0, 5), (1, 2)) for n in ("bias", "scale")}
      >>> narrowed(config, shapes | norms | {"head/kernel": (2, 10), "head/bias": (10,)}).widths
      (5, 'M', 2)
    """
    if type(config) not in _KERNELS:
        known = ", ".join(kind.__name__ for kind in _KERNELS)
        raise TypeError(f"narrowed got a {type(config).__name__}; it takes one of {known}.")
    kernel, layer, widths = _KERNELS[type(config)], 0, []
    for width in config.widths:
        if width != "M":
            width = shapes.get(kernel.format(layer), (width,))[-1]
            layer += 1
        widths.append(width)
    small = dataclasses.replace(config, widths=tuple(widths))
    params = abstract(small).params
    expected = {
        n: x.shape for n, x in zip(leaf_names(params), jax.tree.leaves(params), strict=True)
    }
    for name in sorted(expected.keys() | shapes.keys()):
        if tuple(shapes.get(name, ())) != expected.get(name):
            raise ValueError(
                f"A {type(config).__name__} of widths {small.widths} has {name!r} of shape {expected.get(name)}, and "
                f"the shapes given say {shapes.get(name)}: they are not those of such a network."
            )
    return small
