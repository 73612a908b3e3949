"""The leading seed axis: put on, taken off, split and joined."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wormjax._paths import path_name


def stack_seeds(trees: Sequence[PyTree]) -> PyTree:
    """Stack trees of single seeds along a new leading axis; the result shares no buffer with them.

    Args:
      trees: states (or masks) without a seed axis, all of one structure.

    Returns:
      One tree, every leaf with a leading axis of length ``len(trees)``.

    Raises:
      ValueError: there is no tree.

    Example:
      >>> import jax.numpy as jnp
      >>> stack_seeds([{"w": jnp.zeros(2)}, {"w": jnp.ones(2)}])["w"].shape
      (2, 2)
    """
    if not trees:
        raise ValueError("stack_seeds got no tree. Pass at least one seed's.")
    return _stack(tuple(trees))


def take_seed(tree: PyTree, seed: int) -> PyTree:
    """Return one seed's slice of any tree with a leading seed axis, without that axis.

    Args:
      tree: a `TrainState`, masks, metrics: arrays with a leading seed axis.
      seed: position along that axis, not the number that a key was made from.

    Returns:
      The same tree, every leaf one rank lower, in buffers of its own.

    Raises:
      ValueError: there is no such position.

    Example:
      >>> import jax.numpy as jnp
      >>> print(take_seed({"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])}, 1)["w"])
      [3. 4.]
    """
    seeds = count_seeds(tree, "the tree")
    if not 0 <= seed < seeds:
        raise ValueError(f"There is no seed at position {seed}: the tree holds {seeds}.")
    return _take(tree, seed)


def count_seeds(tree: PyTree, what: str) -> int:
    """Return the length of the seed axis that all leaves share."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        raise ValueError(f"{what} has no leaf, so the number of seeds is unknown.")
    first = leaves[0][1]
    for path, x in leaves:
        if x.ndim == 0 or x.shape[0] != first.shape[0]:
            raise ValueError(
                f"In {what}, the leaf {path_name(path)!r} of shape {x.shape} does not have the "
                f"leading seed axis of the others. Stack the seeds with stack_seeds, a single one too."
            )
    return first.shape[0]


def drop_axis(tree: PyTree) -> PyTree:
    """Return a tree without its seed axis of length 1; inside jit this moves no data."""
    return jax.tree.map(lambda x: jax.lax.squeeze(x, (0,)), tree)


def add_axis(tree: PyTree) -> PyTree:
    """Return a tree with a seed axis of length 1; inside jit this moves no data."""
    return jax.tree.map(lambda x: jax.lax.expand_dims(x, (0,)), tree)


@jax.jit
def slice_seed(tree: PyTree, seed: int) -> PyTree:
    """Return one seed's slice, the axis kept at length 1."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, seed, 1), tree)


@jax.jit
def join_seeds(trees: Sequence[PyTree]) -> PyTree:
    """Concatenate trees along their seed axes."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


@jax.jit
def _stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def _take(tree, seed):
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, seed, keepdims=False), tree)
