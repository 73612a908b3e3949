"""What a score tree is, and how one is built from parameters and a rule.

A score tree has the structure of the parameters. A *ranked* leaf is a float32, bfloat16 or float16
(float64 under x64)
array of its parameter's rank that broadcasts against it; higher is more important. A leaf that must
never be pruned is a rank-0 array, ``+inf`` by convention and recognised by its rank alone.

A score is called with the whole tree or with a part of it, in which ``optax.MaskedNode`` stands for
what the caller may not see (``optax.multi_transform``, ``optax.masked``); an empty part is fine.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from wormjax._masks import check_masks, check_same_structure
from wormjax._paths import leaf_names, path_name
from wormjax._selection import check_scores
from wormjax._shift import SHIFT_NAMES

# A tree of bools as `wj.prunable` returns, a function from params to one, or None for the default.
Rule: TypeAlias = PyTree | Callable[[PyTree], PyTree] | None

SCALE_NAMES = ("scale", "gamma")


def never() -> Float[Array, ""]:
    """Return the score of a leaf that must never be pruned: a rank-0 ``+inf``.

    Returns:
      Scalar float32.

    Example:
      >>> from wormjax import scores
      >>> scores.never()
      Array(inf, dtype=float32)
    """
    return jnp.asarray(jnp.inf, jnp.float32)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One parameter: its place, its path name, its array, and whether a score ranks it.

    The place is that of flatten order with an ``optax.MaskedNode`` counted as one leaf, so that a
    leaf keeps its place when a part of the tree is hidden.
    """

    index: int
    name: str
    value: Any
    ranked: bool


@dataclasses.dataclass(frozen=True)
class Layout:
    """A parameter tree taken apart; ``nodes`` holds every array and every ``optax.MaskedNode``."""

    leaves: tuple[Leaf, ...]
    nodes: tuple[Any, ...]
    treedef: Any

    @property
    def ranked(self) -> tuple[Leaf, ...]:
        """The leaves that a score ranks."""
        return tuple(leaf for leaf in self.leaves if leaf.ranked)

    @property
    def is_part(self) -> bool:
        """Whether an ``optax.MaskedNode`` hides something."""
        return len(self.leaves) < len(self.nodes)

    def params(self, values: Mapping[int, Any]) -> PyTree:
        """Return the parameters with the leaves of these indices replaced."""
        return self.treedef.unflatten([values.get(i, node) for i, node in enumerate(self.nodes)])

    def scores(self, values: Mapping[int, Array]) -> PyTree:
        """Return the score tree with these values at their indices, and `never` elsewhere."""
        return self.params({leaf.index: values.get(leaf.index, never()) for leaf in self.leaves})


def lay_out(params: PyTree, rule: Rule, default: Callable[[str, Any], bool]) -> Layout:
    """Take ``params`` apart and decide which leaves are ranked.

    Only a floating-point leaf of rank 1 or more can be ranked, whatever the rule says: integers and
    PRNG keys have no order of importance, and a rank-0 score means "never".

    Args:
      params: any pytree of arrays, with ``optax.MaskedNode`` where a part is hidden.
      rule: which leaves; one made for the whole tree is cut to the part that ``params`` shows.
      default: the rule by (path name, leaf) when ``rule`` is ``None``.

    Raises:
      TypeError: a leaf is not an array, or a leaf of the rule is not a bool.
      ValueError: the rule has another structure than ``params``.
    """
    paths, treedef = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_hole)
    nodes = tuple(node for _, node in paths)
    chosen: list[Any] = [None] * len(nodes)
    if rule is not None:
        chosen = _cut(rule(params) if _is_function(rule) else rule, params, treedef)
    leaves = []
    for index, (path, node) in enumerate(paths):
        if _is_hole(node):
            continue
        name = path_name(path)
        rankable = _can_be_ranked(name, node)
        wanted = default(name, node) if rule is None else _as_bool(name, chosen[index])
        leaves.append(Leaf(index, name, node, rankable and wanted))
    return Layout(tuple(leaves), nodes, treedef)


def masked(layout: Layout, weights: Mapping[int, Array], masks: PyTree | None) -> dict[int, Array]:
    """Return the weights of a layout with what a mask tree prunes set to zero; None prunes nothing."""
    if masks is None:
        return dict(weights)
    check_masks(layout.params({}), masks)
    of = layout.treedef.flatten_up_to(masks)
    return {
        i: w if jnp.ndim(of[i]) == 0 else jnp.where(of[i], w, jnp.zeros((), w.dtype))
        for i, w in weights.items()
    }


def last_name(name: str) -> str:
    """Return the last part of a path name: ``"kernel"`` of ``"block/conv/kernel"``."""
    return name.rsplit("/", 1)[-1]


def is_kernel(name: str, leaf: Any) -> bool:
    """Tell a weight from a bias or a scale.

    Rank alone would not do: the biases of a scanned stack of layers have rank 2.
    """
    return jnp.ndim(leaf) >= 2 and last_name(name) not in SCALE_NAMES + SHIFT_NAMES


def as_score(values: Array) -> Array:
    """Return ``values`` in a dtype that can be ranked: anything of 8 bits or less as float32."""
    return values if values.dtype.itemsize > 1 else values.astype(jnp.float32)


def sensitivity(weight: Array, gradient: Array) -> Float[Array, "..."]:
    """Return ``|w * g|``, multiplied in float32 or wider: a float16 product would underflow."""
    return jnp.abs(widened(weight) * widened(gradient))


def widened(x: Array) -> Float[Array, "..."]:
    """Return ``x`` in float32, or as it is if that is wider."""
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)


def scalar_loss(value: Any) -> Array:
    """Return what a loss returned as an array; raise where it is not a scalar."""
    value = jnp.asarray(value)
    if value.ndim > 0:
        raise ValueError(
            f"The loss returned an array of shape {value.shape}. It must return a scalar, "
            "for example the mean over the batch."
        )
    return value


def check(scores: PyTree, params: PyTree) -> None:
    """Raise on the host if ``scores`` is not a valid score tree of ``params``.

    Structure, dtypes and shapes are checked always; values (NaN and infinity inside a ranked leaf)
    only where they are concrete, that is outside of ``jax.jit``.

    Args:
      scores: a score tree.
      params: the parameters that it ranks; shapes alone are read.

    Raises:
      ValueError: the scores break a rule; the message names the leaf's path.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> scores.check({"w": jnp.ones((2, 1))}, {"w": jnp.ones((2, 3))})  # one score a row
      >>> scores.check({"w": jnp.ones(2)}, {"w": jnp.ones((2, 3))})
      Traceback (most recent call last):
      ...
      ValueError: The score at 'w' has shape (2,), which does not broadcast against the \
parameter's (2, 3) at equal rank. Give it that rank, each axis with the same size or 1.
    """
    check_same_structure(params, scores, "params", "scores")
    for name, score, param in zip(
        leaf_names(scores), jax.tree.leaves(scores), jax.tree.leaves(params), strict=True
    ):
        shape, target = jnp.shape(score), jnp.shape(param)
        fits = len(shape) == len(target) and all(
            s in (1, t) for s, t in zip(shape, target, strict=True)
        )
        if shape and not fits:
            raise ValueError(
                f"The score at {name!r} has shape {shape}, which does not broadcast against the "
                f"parameter's {target} at equal rank. Give it that rank, each axis with the same "
                "size or 1."
            )
    check_scores(scores)


def _is_hole(node: Any) -> bool:
    # optax.MaskedNode, known by what it is (a NamedTuple without fields): scores need no optax
    return isinstance(node, tuple) and not node and hasattr(node, "_fields")


def _is_function(rule: Any) -> bool:
    # a callable Equinox module filled with bools is a tree; a function is a leaf to jax
    return callable(rule) and (
        jax.tree_util.all_leaves([rule]) or isinstance(rule, jax.tree_util.Partial)
    )


def _can_be_ranked(name: str, leaf: Any) -> bool:
    if isinstance(leaf, bool | int | float | complex):
        return False
    if not (hasattr(leaf, "dtype") and hasattr(leaf, "ndim")):
        raise TypeError(
            f"The parameter at {name!r} is a {type(leaf).__name__}, not an array. Pass arrays only "
            "(with Equinox: eqx.filter(model, eqx.is_array))."
        )
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating)) and leaf.ndim > 0


def _cut(rule: PyTree, params: PyTree, treedef: Any) -> list[Any]:
    try:
        return treedef.flatten_up_to(rule)
    except (ValueError, TypeError):
        check_same_structure(params, rule, "params", "the leaves of prunable= or biases=")
        raise


def _as_bool(name: str, choice: Any) -> bool:
    if isinstance(choice, bool | np.bool_):
        return bool(choice)
    concrete = isinstance(choice, np.ndarray | jax.Array) and not isinstance(
        choice, jax.core.Tracer
    )
    if concrete and choice.ndim == 0 and choice.dtype == jnp.bool_:
        return bool(choice)
    raise TypeError(
        f"prunable= or biases= has a {type(choice).__name__} at {name!r}, not a bool. Under "
        "jax.jit it cannot be an argument: close over it, for example with functools.partial."
    )
