"""The compiled programs of one architecture: training, prediction and attacks, for every arm and seed of it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from experiments.models import ModelConfig, abstract
from experiments.training import EpochRunner
from experiments.training._ahead import Program
from wormjax import layers
from wormjax.evaluation import pgd


class Predicted(NamedTuple):
    """What a network says of images.

    Attributes:
      logits: ``[N, classes]``.
      features: what its head reads, ``[N, ...]``.
    """

    logits: np.ndarray
    features: np.ndarray


class Programs:
    """Programs of one architecture.

    Args:
      config: of the network.
      prepare: what stands between images and the network.
      runner: its training.
      chunk: images of one call of the prediction; every set is padded to a multiple of it.
    """

    def __init__(
        self,
        config: ModelConfig,
        prepare: Callable[[Array], Array],
        runner: EpochRunner,
        chunk: int,
    ):
        self.apply = abstract(config).apply
        self.runner = runner
        self._prepare, self._chunk = prepare, chunk
        self._predict = Program(self._forward)

    def predict(self, params: PyTree, stats: PyTree, images: Any) -> Predicted:
        """Return logits and features of a set of any size."""
        size = len(images)
        unit = np.asarray(images, np.float32) / (255 if images.dtype == np.uint8 else 1)
        blank = np.zeros((-size % self._chunk, *unit.shape[1:]), np.float32)
        padded = np.concatenate([unit, blank])
        found = []
        for start in range(0, len(padded), self._chunk):
            batch = jnp.asarray(padded[start : start + self._chunk])
            found.append(self._predict.compiled(params, stats, batch)(params, stats, batch))
        logits, features = (
            np.concatenate(parts)[:size] for parts in zip(*jax.device_get(found), strict=True)
        )
        return Predicted(logits, features)

    def measured_bytes(self, params: PyTree, stats: PyTree, image: Any) -> int | None:
        """What the compiled prediction of a chunk takes: arguments and temporaries; None where nobody says."""
        batch = jax.ShapeDtypeStruct((self._chunk, *image.shape[1:]), jnp.float32)
        told = self._predict.compiled(params, stats, batch).memory_analysis()
        if told is None:
            return None
        return int(told.argument_size_in_bytes + told.temp_size_in_bytes)

    def attacked(
        self, params: PyTree, stats: PyTree, images: Array, labels: Array, **settings: Any
    ) -> Array:
        """Return adversarial images of the network."""
        return pgd(self._loss, images, (labels, params, stats), **settings)

    @functools.cached_property
    def _loss(self) -> Callable[[Array, Any], Array]:
        # the weights come in beside the labels, so that one program serves all of this shape
        def loss(images: Array, given: Any) -> Array:
            labels, params, stats = given
            logits, _ = self.apply(params, stats, self._prepare(images), train=False)
            return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        return loss

    def _forward(self, params: PyTree, stats: PyTree, images: Array) -> tuple[Array, Array]:
        def network(params: PyTree, stats: PyTree, images: Array) -> tuple[Array, PyTree]:
            return self.apply(params, stats, images, train=False)

        x = self._prepare(images)
        return layers.penultimate(network, params, x, state=stats, with_output=True)

    @property
    def compile_seconds(self) -> float:
        """Time that compiling took so far, that of attacks left out."""
        return self.runner.compile_seconds + self._predict.seconds
