"""Random: any active weight may go."""

import jax
import jax.numpy as jnp

from wormjax.dst._seen import Seen
from wormjax.dst.criteria._protocol import Criterion


def _rule(seen: Seen):
    assert seen.key is not None
    return jax.random.uniform(seen.key, seen.weight.shape, jnp.float32)


def random() -> Criterion:
    """Drop uniformly at random: the control of every criterion.

    Returns:
      The criterion.
    """
    return Criterion("random", _rule, ("key",))
