"""Random growth."""

import jax
import jax.numpy as jnp

from wormjax.dst._seen import Seen
from wormjax.dst.growth._protocol import Growth


def _uniform(seen: Seen):
    assert seen.key is not None
    return jax.random.uniform(seen.key, seen.weight.shape, jnp.float32)


def _unfired_first(seen: Seen):
    # noise is below 1, so that no fired position comes before one that was never active
    return _uniform(seen) + (~seen.fired).astype(jnp.float32)


def random() -> Growth:
    """Switch on inactive entries uniformly at random, in the exact number.

    Several references draw every entry by itself, which gives the number only on average.

    Returns:
      The growth rule.

    References:
      Mocanu et al., `Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity inspired by
      Network Science <https://arxiv.org/abs/1707.04780>`_, 2017
    """
    return Growth("random", _uniform, ("key",))


def random_unfired() -> Growth:
    """Switch on entries that were never active before; when there are no more, any inactive ones.

    It needs the set of entries that ever were, one bool an entry, which it makes `sparse_training` keep.

    Returns:
      The growth rule.

    References:
      Liu et al., `Do We Actually Need Dense Over-Parameterization? In-Time Over-Parameterization in Sparse Training
      <https://arxiv.org/abs/2102.02887>`_, 2021
    """
    return Growth("random_unfired", _unfired_first, ("key", "fired"))
