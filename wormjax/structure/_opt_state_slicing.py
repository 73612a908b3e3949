"""Cutting an optimizer's state as its parameters are cut.

What follows a parameter is found by its place: a node of the state that has the parameters' structure (or, under
`optax.masked` and `optax.multi_transform`, a part of it) and whose leaves end in the parameters' shapes (L-BFGS keeps
several in a leading axis) is cut like them. States of another kind have a rule by name, see ``_opt_state_rules``.
All else stays as it is. Whether that was right is asked of the optimizer: ``tx.init`` is evaluated abstractly on
parameters of other sizes, no two alike, and every leaf must change as foretold; so a square preconditioner is not
taken for the square matrix that it belongs to.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import PyTree

from wormjax._opt_state import find_states, part_of
from wormjax._truncate import TruncateState
from wormjax.dst._state import SparseState
from wormjax.structure._cannot_cut import RESET, CannotCutError
from wormjax.structure._opt_state_rules import RULES, Regroup, holds_groups, with_groups
from wormjax.structure._slicing import Cut
from wormjax.structure._sparse_slicing import join, split


@runtime_checkable
class Optimizer(Protocol):
    """Whatever makes a state of parameters: an optax transformation, `optax.MultiSteps`."""

    @property
    def init(self) -> Callable[..., Any]: ...


class _Place(NamedTuple):
    """A leaf of the state, or a node with a rule: its path, the state it is in, the parameter it follows."""

    path: str
    owner: str
    follows: Cut | None

    def error(self, why: str, remedy: str = RESET) -> ValueError:
        return ValueError(
            f"The optimizer state {self.owner} cannot be cut at {self.path or 'its root'}: {why}. {remedy}"
        )


def cut_opt_state(
    opt_state: PyTree, tx: Optimizer, small: PyTree, cuts: PyTree[Cut], regroup: Regroup
) -> PyTree:
    """Cut an optimizer's state.

    Args:
      opt_state: of ``tx`` on the full parameters.
      tx: the optimizer.
      small: the small parameters.
      cuts: how each parameter is cut.
      regroup: finds groups again in the small network.

    Raises:
      ValueError: ``opt_state`` is not of ``tx``, or cannot be cut; the message names the state and the leaf.
    """
    # what holds masks or a pattern of the full size refuses others; what it keeps has its own rule
    lenient = bool(find_states(opt_state, TruncateState) or find_states(opt_state, SparseState))
    opt_state = split(opt_state)
    made = _made(tx, _resized(cuts, small, {}), "the parameters that the groups were found on")
    _check_is_of_tx(opt_state, made)
    places = list(_places(made, cuts, "", "of tx"))
    _check_foretold(places, made, tx, cuts, small, lenient)
    # groups of the full network need not notice that what they are shown is small
    bound = any(map(holds_groups, _nodes(opt_state)))
    accepted = not bound and _made(tx, small, "the small parameters", lenient) is not None
    fresh = split(tx.init(small)) if accepted else None
    if accepted:
        _check_structure(fresh, made)
    nodes = _nodes(opt_state)
    others = [None] * len(nodes) if fresh is None else _nodes(fresh)
    leaves = []
    for place, node, other in zip(places, nodes, others, strict=True):
        try:
            leaf = RULES[type(node)](node, cuts, other) if type(node) in RULES else node
            leaf = with_groups(leaf, regroup) if holds_groups(leaf) else leaf
        except CannotCutError as error:
            raise place.error(str(error), error.remedy) from None
        leaf = place.follows.trailing(node) if place.follows else leaf
        if fresh is not None and _shapes(leaf) != _shapes(other):
            raise place.error(
                f"it would have the shapes {_shapes(leaf)}, and tx needs {_shapes(other)}"
            )
        leaves.append(leaf)
    return join(jax.tree.unflatten(_structure(opt_state), leaves))


def _places(node: Any, cuts: PyTree[Cut], path: str, owner: str) -> Iterator[_Place]:
    """Say of every leaf, in flatten order, what it follows."""
    if hasattr(node, "_fields") or hasattr(node, "__dataclass_fields__"):
        owner = type(node).__name__
    if type(node) in RULES:
        yield _Place(path, owner, None)
        return
    children, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    followed: list[Cut | None] = []
    if _follow(node, cuts):
        children, _ = jax.tree_util.tree_flatten_with_path(node)
        followed = jax.tree.leaves(part_of(cuts, node))
    elif jax.tree_util.treedef_is_leaf(treedef):
        followed = [None]
    for k, (keys, child) in enumerate(children):
        where = path + jax.tree_util.keystr(keys)
        if followed:
            yield _Place(where, owner, followed[k])
        else:
            yield from _places(child, cuts, where, owner)


def _follow(node: Any, cuts: PyTree[Cut]) -> bool:
    """Whether a node has the parameters' structure, or a part of it, and their shapes at the end of its own."""

    def fits(x: Any, how: Any) -> bool:
        return _is_hole(x) or (isinstance(how, Cut) and how.ends(np.shape(x)))

    try:
        return all(jax.tree.leaves(jax.tree.map(fits, node, cuts, is_leaf=_is_hole)))
    except (ValueError, TypeError):
        return False  # another structure


def _check_foretold(
    places: list[_Place],
    made: PyTree,
    tx: Optimizer,
    cuts: PyTree[Cut],
    params: PyTree,
    lenient: bool,
) -> None:
    """Let the optimizer say which leaves change when every axis of every parameter does, each in its own way."""
    hows = jax.tree.leaves(cuts)
    longest = max((n for how in hows for n in how.shape), default=0)
    unused = iter(range(longest + 1, longest + 1 + sum(len(how.shape) for how in hows)))
    sizes = {how: tuple(next(unused) for _ in how.shape) for how in hows}
    grown = _made(tx, _resized(cuts, params, sizes), "parameters of other sizes", lenient)
    if grown is None:
        return
    _check_structure(grown, made)
    for place, before, after in zip(places, _nodes(made), _nodes(grown), strict=True):
        if type(before) in RULES:
            continue
        foretold = before.shape
        if place.follows and before.shape:
            front = len(before.shape) - len(place.follows.shape)
            foretold = (*before.shape[:front], *sizes[place.follows])
        if after.shape != foretold:
            raise place.error(
                f"no rule says how its shape {before.shape} comes from the parameters'"
            )


def _check_structure(other: PyTree, made: PyTree) -> None:
    if _structure(other) != _structure(made):
        raise ValueError(f"What state tx makes depends on the parameters' sizes. {RESET}")


def _resized(cuts: PyTree[Cut], params: PyTree, sizes: dict[Cut, tuple[int, ...]]) -> PyTree:
    """The parameters as shapes only: full size, or the sizes given."""
    return jax.tree.map(
        lambda how, x: jax.ShapeDtypeStruct(sizes.get(how, how.shape), x.dtype), cuts, params
    )


def _made(tx: Optimizer, params: PyTree, what: str, lenient: bool = False) -> PyTree | None:
    """What state tx makes, as shapes; None where it refuses and may."""
    try:
        return split(jax.eval_shape(tx.init, params))
    except Exception as error:  # whatever an optimizer stumbles over
        if lenient and isinstance(error, ValueError):
            return None
        raise ValueError(
            f"tx.init does not take {what} ({type(error).__name__}: {error}). {RESET}"
        ) from error


def _check_is_of_tx(opt_state: PyTree, made: PyTree) -> None:
    told = "Pass the state and the optimizer that made it."
    if _structure(opt_state) != _structure(made):
        raise ValueError(
            f"opt_state has another structure than tx makes for these parameters. {told}"
        )
    for node, expected in zip(_nodes(opt_state), _nodes(made), strict=True):
        if type(expected) in RULES and type(node) is not type(expected):
            raise ValueError(
                f"opt_state holds a {type(node).__name__} where tx makes a {type(expected).__name__}. {told}"
            )
        if _shapes(node) != _shapes(expected):
            raise ValueError(
                f"opt_state holds a leaf of shape {_shapes(node)} where tx makes {_shapes(expected)} for the "
                f"parameters that the groups were found on. {told}"
            )


def _has_rule(node: Any) -> bool:
    return type(node) in RULES


def _nodes(tree: PyTree) -> list[Any]:
    """Leaves, and nodes with a rule."""
    return jax.tree.leaves(tree, is_leaf=_has_rule)


def _structure(tree: PyTree) -> Any:
    return jax.tree.structure(tree, is_leaf=_has_rule)


def _shapes(node: Any) -> list[tuple[int, ...]]:
    return [np.shape(x) for x in jax.tree.leaves(node)]


def _is_hole(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
