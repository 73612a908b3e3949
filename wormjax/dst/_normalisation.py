"""Scores made comparable between leaves, and weights brought back to the norm they had."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from wormjax._selection import check_choice

Over = Literal["layer", "input", "output", "channel", "depth"]
Norm = Literal["sum", "max", "l2"]
Rescale = Literal["leaf", "in", "out"]

# axes of a Flax kernel (height, width, in, out) or (in, out); None is all of them
_AXES: dict[str, dict[int, tuple[int, ...]]] = {
    "input": {2: (0,)},
    "output": {2: (1,)},
    "channel": {4: (0, 1, 2)},
    "depth": {4: (0, 1)},
}


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """See `normalised`."""

    over: Over
    norm: Norm = "sum"

    def __post_init__(self) -> None:
        check_choice("normalize", self.over, ("layer", "input", "output", "channel", "depth"))
        check_choice("norm", self.norm, ("sum", "max", "l2"))


def normalised(
    scores: Float[Array, "..."], active: Bool[Array, "..."], how: Normalisation
) -> Float[Array, "..."]:
    """Divide scores by a norm of the active ones.

    ``"layer"`` takes it over the leaf, ``"input"`` over the inputs of an output and ``"output"`` over the outputs of
    an input (rank 2), ``"channel"`` over all that belongs to an output and ``"depth"`` over the taps (rank 4); of
    another rank these are ``"layer"``. Where the norm is 0 all scores are 0, and stay.
    """
    axes = _AXES.get(how.over, {}).get(scores.ndim, tuple(range(scores.ndim)))
    size = jnp.where(active, jnp.abs(scores), jnp.zeros((), scores.dtype))
    if how.norm == "l2":
        norm = jnp.sqrt(jnp.sum(jnp.square(size), axis=axes, keepdims=True))
    else:
        norm = (jnp.max if how.norm == "max" else jnp.sum)(size, axis=axes, keepdims=True)
    return scores / jnp.where(norm == 0, jnp.ones_like(norm), norm)


def rescaled(
    weight: Float[Array, "..."],
    kept: Bool[Array, "..."],
    how: Rescale,
) -> Float[Array, "..."]:
    r"""Return the weights times :math:`\|\theta \odot m_{old}\| / \|\theta \odot m_{kept}\|`.

    The norm is that of the ``"leaf"``, of the inputs of every ``"out"`` (all but the last axis) or of the outputs of
    every ``"in"``. Pruned weights are zero, so the first norm is that of the weights. Where nothing was kept the
    factor is 1.
    """
    axes = {
        "leaf": tuple(range(weight.ndim)),
        "out": tuple(range(weight.ndim - 1)),
        "in": tuple(a for a in range(weight.ndim) if a != weight.ndim - 2),
    }[how]
    square = jnp.square(weight)
    before = jnp.sum(square, axis=axes, keepdims=True)
    after = jnp.sum(jnp.where(kept, square, 0), axis=axes, keepdims=True)
    factor = jnp.sqrt(before / jnp.where(after == 0, jnp.ones_like(after), after))
    return weight * jnp.where(after == 0, jnp.ones_like(factor), factor)
