"""SET: as many of the smallest positive weights go as of the negative ones nearest to zero."""

import functools
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array

from wormjax._selection import check_choice
from wormjax.dst._seen import Seen
from wormjax.dst._shares import floor_share
from wormjax.dst.criteria._protocol import Choose, Criterion, only

Split = Literal["half", "per_sign"]
Legacy = Literal["two_ceil", "released"]


def set_(split: Split = "half", legacy: Legacy | None = None) -> Criterion:
    r"""Drop the positive weights and the negative weights that are nearest to zero.

    Of the ``n`` to drop, :math:`\lceil n/2 \rceil` are positive and :math:`\lfloor n/2 \rfloor` negative; where one
    sign has fewer, the other makes up for it. So exactly ``n`` go at every drop fraction. An active weight that is
    exactly zero counts as positive.

    Args:
      split: ``"per_sign"`` drops the same fraction of each sign instead of the same number.
      legacy: ``"two_ceil"`` drops :math:`\lceil n/2 \rceil` of both signs, thus one too many where n is odd.
        ``"released"`` is the class that the Fantastic Weights code runs under the name SET: of the negative weights
        it keeps only the :math:`\lceil n/2 \rceil - 1` most negative, so that about half of a layer is removed
        at every drop fraction. Growth restores the count in either case.

    Returns:
      The criterion. It counts signs over one segment: not for N:M or constant fan-in.

    Raises:
      ValueError: an unknown word.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import wormjax as wj
      >>> tx = wj.sparse_training(optax.sgd(0.1), key=jax.random.key(0), density=0.5,
      ...                         distribution="uniform", drop=wj.dst.criteria.set_(),
      ...                         grow="random", every=100, total_steps=1000)

    References:
      Mocanu et al., `Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity inspired by
      Network Science <https://arxiv.org/abs/1707.04780>`_, 2017;
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    check_choice("split", split, ("half", "per_sign"))
    check_choice("legacy", legacy, (None, "two_ceil", "released"))
    keep = functools.partial(_keep, split=split, legacy=legacy)
    return Criterion("set_", _signed, keep=keep, segmented=False)


def _signed(seen: Seen) -> Array:
    return seen.weight


def _keep(
    scores: Sequence[Array],
    active: Sequence[Array],
    kept: Array,
    dropped: Array,
    choose: Choose,
    *,
    split: Split,
    legacy: Legacy | None,
) -> list[Array]:
    sign = [s >= 0 for s in scores]
    positive = [a & s for a, s in zip(active, sign, strict=True)]
    negative = [a & ~s for a, s in zip(active, sign, strict=True)]
    up = sum((jnp.sum(x, dtype=jnp.int32) for x in positive), jnp.int32(0))
    down = kept + dropped - up
    half = (dropped + 1) // 2
    if split == "per_sign":
        share = up.astype(jnp.float32) / jnp.maximum(kept + dropped, 1).astype(jnp.float32)
        half = floor_share(jnp.minimum(share, jnp.float32(1)), dropped)
    from_down = jnp.minimum(dropped - jnp.minimum(half, up), down)
    from_up = dropped - from_down
    near_zero = [jnp.abs(s) for s in scores]
    if legacy is not None:
        from_up, from_down = jnp.minimum(half, up), jnp.minimum(half, down)
    stay_up = choose([only(p, s) for p, s in zip(positive, near_zero, strict=True)], up - from_up)
    if legacy == "released":
        from_down = down - jnp.clip(half - 1, 0, down)
    stay_down = choose(
        [only(n, s) for n, s in zip(negative, near_zero, strict=True)], down - from_down
    )
    return [u | d for u, d in zip(stay_up, stay_down, strict=True)]
