"""What a training run carries from step to step."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that training changes; what is not in here is not in a checkpoint.

    The drivers expect every leaf with a leading seed axis ``S`` (`stack_seeds`); a step function
    works on one seed, without that axis.

    Attributes:
      params: what is trained, any pytree of float arrays.
      stats: the model's other state (batch statistics, counters), any pytree.
      opt_state: state of an optax transformation; a detector lives in here.
      key: typed PRNG key of the seed; it never changes, uses fold in the step or the epoch.
      epoch: finished epochs, int32 scalar.
      step: finished optimizer calls, int32 scalar.
    """

    params: PyTree
    stats: PyTree
    opt_state: PyTree
    key: Key[Array, "*seeds"]
    epoch: Int[Array, "*seeds"]
    step: Int[Array, "*seeds"]


def init_state(
    params: PyTree, stats: PyTree, tx: optax.GradientTransformation, key: Key[Array, ""]
) -> TrainState:
    """Return the state of one seed before its first step.

    Args:
      params: any pytree of float arrays.
      stats: the model's other state, any pytree.
      tx: the optimizer; its ``init`` runs under jit (op by op it costs a compilation a leaf).
      key: typed PRNG key, ``jax.random.key(seed)``.

    Returns:
      A `TrainState` without a seed axis, at epoch 0 and step 0.

    Raises:
      TypeError: the key is not a typed PRNG key.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> state = init_state({"w": jnp.ones(2)}, {}, optax.sgd(0.1), jax.random.key(0))
      >>> int(state.step), int(state.epoch)
      (0, 0)
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("key is not a typed PRNG key. Make one with jax.random.key(seed).")
    zero = jnp.zeros((), jnp.int32)
    return TrainState(params, stats, jax.jit(tx.init)(params), key, zero, zero)
