"""Training by numbered steps at given rates, as iterative pruning asks for it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from experiments.data import epoch_order
from experiments.training import Step, TrainState, order_key
from wormjax.lottery import Network


class Rated(NamedTuple):
    """An optimizer's state, and the learning rate of its next step."""

    rate: Array
    inner: PyTree


def rated(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Scale what ``inner`` returns by minus a rate that stands in the state."""

    def update(updates: PyTree, state: Rated, params: PyTree | None = None) -> Any:
        updates, after = inner.update(updates, state.inner, params)
        return jax.tree.map(lambda u: -state.rate * u, updates), state._replace(inner=after)

    return optax.GradientTransformation(
        lambda params: Rated(jnp.zeros((), jnp.float32), inner.init(params)), update
    )


class Trainer:
    """A training function for `wormjax.lottery.imp`; one program serves all seeds, rounds and masks.

    Args:
      step: from `make_step` with an optimizer of `rated`.
      train: images and labels, on the device.
      batch_size: examples a step.
    """

    def __init__(self, step: Step, train: tuple[Array, Array], batch_size: int):
        self._train, self._batch = train, batch_size
        self.steps = train[1].shape[0] // batch_size
        self._order = jax.jit(self._draw)
        self._advance = jax.jit(self._one(step))

    def of(self, key: Key[Array, ""]) -> Callable[..., Network]:
        """Return the training function of a seed: the order of its data and its augmentation come from the key."""

        def train(network: Network, masks: PyTree, steps: range, rates: np.ndarray) -> Network:
            zero = np.zeros((), np.int32)
            given = (network.params, network.state, network.opt_state)
            state = TrainState(*given, key, zero, zero)  # type: ignore[arg-type]
            order, drawn = None, -1
            for step, rate in zip(steps, rates, strict=True):
                if step // self.steps != drawn:
                    drawn = step // self.steps
                    order = self._order(key, np.int32(drawn))
                place = np.int32(step % self.steps)
                state = self._advance(
                    state, masks, order, place, np.int32(step), np.float32(rate), *self._train
                )
            return Network(state.params, state.stats, state.opt_state)

        return train

    def _draw(self, key: Key[Array, ""], epoch: Array) -> Array:
        size = self._train[1].shape[0]
        return epoch_order(order_key(key), epoch, size=size, batch=self._batch)

    @staticmethod
    def _one(step: Step) -> Callable[..., TrainState]:
        def advance(state, masks, order, place, number, rate, images, labels):
            rows = order[place]
            opt_state = state.opt_state._replace(rate=rate)
            state = dataclasses.replace(state, step=number, opt_state=opt_state)
            after, _ = step(state, images[rows], labels[rows], masks)
            return dataclasses.replace(after, epoch=state.epoch, step=state.epoch)

        return advance
