"""From a configuration and a key to a model ready for use."""

import functools

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Key, PyTree

from experiments.models._convnet import ConvNet, ConvNetConfig
from experiments.models._lenet import LeNet, LeNetConfig
from experiments.models._mlp import MLP, MLPConfig
from experiments.models._mobilenet import MobileNet, MobileNetConfig
from experiments.models._preresnet import PreResNet, PreResNetConfig
from experiments.models._resnet import ResNet, ResNetConfig
from experiments.models._vgg import VGG, VGGConfig
from wormjax.adapters import View, from_nnx

ModelConfig = (
    VGGConfig
    | ResNetConfig
    | PreResNetConfig
    | MobileNetConfig
    | LeNetConfig
    | ConvNetConfig
    | MLPConfig
)

_CLASSES: dict[type, type] = {
    VGGConfig: VGG,
    ResNetConfig: ResNet,
    PreResNetConfig: PreResNet,
    MobileNetConfig: MobileNet,
    LeNetConfig: LeNet,
    ConvNetConfig: ConvNet,
    MLPConfig: MLP,
}


def build(config: ModelConfig, key: Key[Array, ""]) -> View:
    """Make the model that a configuration describes, with fresh weights.

    The module is traced, not built, and its initial values come from one compiled program that is
    kept for the next key. ``build`` may itself be mapped over keys::

        params, state = jax.vmap(lambda key: build(config, key)[1:])(jax.random.split(key, 3))

    Args:
      config: of one of the models in this package.
      key: a typed key, ``jax.random.key(seed)``; the initial weights are a function of it alone.

    Returns:
      ``View(apply, params, state)``, see :class:`wormjax.adapters.View`.

    Raises:
      TypeError: ``config`` is none of the configurations of this package.

    Example:
      >>> import jax
      >>> view = build(MLPConfig(widths=(4,), inputs=8), jax.random.key(0))
      >>> view.params["layers"][0]["dense"]["kernel"].shape
      (8, 4)
    """
    params, state = _initial(config, key)
    return View(abstract(config).apply, params, state)


@functools.lru_cache(maxsize=64)
def abstract(config: ModelConfig) -> View:
    """Describe a model without making its weights.

    Args:
      config: of one of the models in this package.

    Returns:
      The view that :func:`build` gives, with ``jax.ShapeDtypeStruct`` leaves: enough to count
      operations, to plan, or to restore a checkpoint into.

    Raises:
      TypeError: ``config`` is none of the configurations of this package.

    Example:
      >>> view = abstract(MLPConfig(widths=(4,), inputs=8))
      >>> view.params["layers"][0]["dense"]["kernel"]
      ShapeDtypeStruct(shape=(8, 4), dtype=float32)
    """
    return from_nnx(nnx.eval_shape(lambda: _module(config, jax.random.key(0))))


@functools.partial(jax.jit, static_argnums=0)
def _initial(config: ModelConfig, key: Key[Array, ""]) -> tuple[PyTree, PyTree]:
    return from_nnx(_module(config, key))[1:]


def _module(config: ModelConfig, key: Key[Array, ""]) -> nnx.Module:
    if type(config) not in _CLASSES:
        known = ", ".join(kind.__name__ for kind in _CLASSES)
        raise TypeError(f"build got a {type(config).__name__}; it takes one of {known}.")
    return _CLASSES[type(config)](config, rngs=_Keys(key))


class _Keys:
    """The keys of ``nnx.Rngs(params=key)``, in time linear in the number of layers.

    A stream of Flax holds its counter in an array: while tracing, every key asks where that array
    comes from, and the longer the program, the longer that takes: most of the time of a PreResNet-101.
    """

    def __init__(self, key: Key[Array, ""]):
        self._key, self._count = key, 0

    def params(self) -> Key[Array, ""]:
        """Return the next key."""
        self._count += 1
        return jax.random.fold_in(self._key, np.uint32(self._count - 1))
