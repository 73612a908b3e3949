"""Refill: from weights that a ticket keeps here and there to whole channels, as many as it has weights for."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, PyTree

from wormjax._counts import as_fraction
from wormjax._masks import apply_masks, check_masks, never_pruned
from wormjax._selection import check_choice
from wormjax._table import as_text
from wormjax.lottery._channel_scores import SCORES, RefillScore, activation_rows, weight_scores
from wormjax.lottery._layers import Layer, Layers
from wormjax.lottery._refill_count import RefillCount, keep_channels
from wormjax.structure._groups import Group, Groups
from wormjax.structure._planned import Plan
from wormjax.structure._streams import streams
from wormjax.structure._units import units_along

Residual = Literal["inner", "union"]
REFILL_PLUS = Fraction(1, 5)  # not published: it follows from two densities of one network


class RefillRow(NamedTuple):
    """What Refill did to one weight.

    Attributes:
      path: of the weight.
      channels: output channels that it had.
      density: fraction of its weights that the given mask keeps.
      k: channels that stay by the rule.
      width: the same after rounding to a hardware width.
      removed: output channels that are removed from the arrays; fewer than are masked on a residual stream.
      note: why the weight was left as it is; empty where it was refilled.
    """

    path: str
    channels: int
    density: float
    k: int
    width: int
    removed: int
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Refilled:
    """A structured ticket.

    Attributes:
      masks: mask tree to train under: whole channels of the weights, and bias, scale and shift of dropped ones.
      plan: what `wormjax.shrink` can remove of it.
      rows: what became of every weight that the given masks may prune.
      nominal_density: kept weights over all weights of these leaves, output channels only: what papers report. The
        inputs that dropped channels would have fed are counted as kept.
    """

    masks: PyTree[Bool[Array, "..."]]
    plan: Plan
    rows: tuple[RefillRow, ...]
    nominal_density: float

    def explain(self) -> str:
        """Say layer by layer what stays, and what is removed from the arrays."""
        head = ("weight", "channels", "density", "k", "width", "removed", "")
        body = [
            (r.path, *map(str, (r.channels, f"{r.density:.4f}", r.k, r.width, r.removed)), r.note)
            for r in self.rows
        ]
        before, after = self.plan.parameters
        macs = self.plan.macs
        notes = [
            f"nominal density {self.nominal_density:.4f} (output channels of the weights)",
            f"parameters {before:,} -> {after:,}; multiply-accumulates {macs[0]:,} -> {macs[1]:,}",
        ]
        return as_text(head, body, {1, 2, 3, 4, 5}, notes)


def refill(
    groups: Groups,
    params: PyTree,
    masks: PyTree[Bool[Array, "..."]],
    *,
    score: RefillScore = "weight_l1",
    rho: float | int | str | Fraction = 0,
    count: RefillCount = "ceil",
    align: int = 1,
    residual: Residual = "inner",
    mask_dead_affine: bool = True,
    key: Key[Array, ""] | None = None,
    state: PyTree | None = None,
    inputs: Sequence[PyTree] = (),
    loss: Callable[[Any], Array] | None = None,
) -> Refilled:
    r"""Turn a ticket of single weights into one of whole output channels.

    .. math:: k_l = \lceil d_l C_l + \rho\,(1 - d_l)\, C_l \rceil

    channels of layer l stay and are filled up, those of the highest score; the others go with their bias, scale and
    shift. The masks are for training from the rewinding point; ``wormjax.shrink(refilled.plan, ...)`` removes the
    channels afterwards.

    A channel that several layers make together, as in a depthwise block, is decided once, from all their weights. On a
    residual stream, where an addition joins layers, every layer drops channels of its own.

    Args:
      groups: from `wormjax.find_groups`, on the function to be shrunk, with two examples or more (of a single one,
        running statistics have an activation's shape, and adding them looks like a residual stream).
      params: trained parameters of the round that the masks come from.
      masks: its mask tree, weight by weight; rank-0 leaves are left alone.
      score: ``"weight_l1"`` (of the weights that the masks keep), ``"remain"`` (how many those are), ``"bn_gamma"``,
        ``"random"``, or by a batch ``"act_l1"``, ``"act_l2"``, ``"saliency"``: of a layer's result before
        normalisation.
      rho: fraction of the pruned channels that come back; 0.2 is Refill+.
      count: ``"ceil"``, or ``"reference"`` for the code's q + 1; see `keep_channels`.
      align: round a layer's channels up to a multiple of this.
      residual: what is removed of a residual stream: nothing (``"inner"``), or the channels that every layer that
        adds to it drops (``"union"``).
      mask_dead_affine: mask the bias, scale and shift of dropped channels, and the weights that read them. Without, as
        in the code, a dropped channel still emits its shift, and shrinking is exact only where the plan can fold it.
      key: for random scores, and for ties under ``"reference"``.
      state: for scores by a batch, where the function has a state.
      inputs: the batch, of the shapes that the groups were found on.
      loss: of the function's output, for ``"saliency"``.

    Returns:
      `Refilled`; print ``explain()``.

    Raises:
      ValueError: masks of another model; a layer that the masks empty; a score that lacks what it needs.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"a": jnp.array([[1.0, 5.0, 2.0], [1.0, 4.0, 0.5]]), "b": jnp.ones((3, 1))}
      >>> groups = wj.find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, jnp.ones((4, 2)))
      >>> masks = {"a": jnp.array([[False, True, True], [False, True, False]]), "b": jnp.array(True)}
      >>> refilled = wj.lottery.refill(groups, params, masks)
      >>> print(refilled.masks["a"][0], refilled.plan.kept)
      [False  True  True] {'a:1': array([False,  True,  True])}

    References:
      Chen et al., `Coarsening the Granularity: Towards Structurally Sparse Lottery Tickets
      <https://arxiv.org/abs/2202.04736>`_, 2022

    Note:
      The paper prints k with the sparsity where only the density gives its tables. Its code keeps q + 1 channels,
      mixes the examples of a batch up with channels, scores every layer by the first one's activations, and by the
      weights of round 1; none of that is offered. The rate of Refill+ is not published: 0.2 follows from two of its
      densities, 32.84% and 46.41%.
    """
    check_choice("score", score, SCORES)
    check_choice("count", count, ("ceil", "reference"))
    check_choice("residual", residual, ("inner", "union"))
    ratio = as_fraction("rho", rho)
    if not 0 <= ratio < 1:
        raise ValueError(
            f"rho={rho} must lie in [0, 1): it is the fraction of pruned channels that come back."
        )
    if align < 1:
        raise ValueError(f"align={align} must be at least 1.")
    check_masks(groups.shapes, masks)
    rng = None
    if key is not None:
        rng = np.random.default_rng([int(w) for w in np.asarray(jax.random.key_data(key)).ravel()])
    work = _Work.of(groups, params, masks)
    by_unit = _unit_numbers(work, score, rng, state, inputs, loss)
    joined = streams(groups.traced)
    kept: dict[str, np.ndarray] = {g.name: np.ones(g.size, bool) for g in groups}
    decided: dict[int, tuple[np.ndarray, int]] = {}  # by layer: kept units and k
    for group in groups:
        makers = [m for m in work.makers if m.group is group]
        sole = [makers] if group.atom not in joined else [[m] for m in makers]
        for together in sole:
            if not together or any(m.mask.ndim == 0 for m in together):
                continue
            choice = keep_channels(
                sum((by_unit[m.layer.step] for m in together), np.zeros(group.size)),
                sum(m.nonzeros for m in together),
                sum(m.size for m in together),
                rho=ratio,
                align=align,
                count=count,
                rng=rng,
            )
            decided |= {m.layer.step: choice for m in together}
        if group.atom not in joined:
            if makers and makers[0].layer.step in decided:
                kept[group.name] = decided[makers[0].layer.step][0]
        elif residual == "union" and makers and all(m.layer.step in decided for m in makers):
            kept[group.name] = np.any([decided[m.layer.step][0] for m in makers], axis=0)
    made = Plan(groups, kept)
    structured = _masks(work, made, decided, mask_dead_affine)
    rows, nominal = _rows(work, decided, kept)
    return Refilled(structured, Plan(groups, kept, structured), rows, nominal)


refill_plus = functools.partial(refill, rho=REFILL_PLUS)


@dataclasses.dataclass(frozen=True, eq=False)
class _Maker:
    """A layer whose output channels are units of a group.

    Attributes:
      layer: the layer.
      leaf: its parameter.
      axis: the parameter's axis of output channels.
      units: for each of them its unit.
      group: the group.
      mask: what was given.
    """

    layer: Layer
    leaf: int
    axis: int
    units: np.ndarray
    group: Group
    mask: np.ndarray
    size: int

    @property
    def nonzeros(self) -> int:
        return int(self.mask.sum())


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    groups: Groups
    layers: Layers
    params: PyTree
    masks: list[np.ndarray]
    makers: list[_Maker]
    whole: Mapping[int, str]

    @classmethod
    def of(cls, groups: Groups, params: PyTree, given: PyTree) -> "_Work":
        layers = Layers(groups.traced)
        shapes = [x.shape for x in jax.tree.leaves(groups.shapes)]
        masks = [np.asarray(m) for m in jax.tree.leaves(given)]
        masks = [np.broadcast_to(m, s) if m.ndim else m for m, s in zip(masks, shapes, strict=True)]
        makers, whole = (
            [],
            {k: "no layer that was traced reads it" for k, m in enumerate(masks) if m.ndim},
        )
        for layer in layers.layers.values():
            found = _made_by(groups, layer)
            if isinstance(found, str):
                whole |= {leaf: found for leaf in layer.leaves if leaf in whole}
                continue
            leaf, axis, group, units = found
            mask = masks[leaf]
            if mask.ndim and not mask.any():
                raise ValueError(
                    f"The mask at {groups.traced.names[leaf]!r} keeps nothing: the layer is empty, and Refill would "
                    "revive it by chance. Prune less, or leave it out of prunable."
                )
            makers.append(_Maker(layer, leaf, axis, units, group, mask, int(np.prod(shapes[leaf]))))
            whole.pop(leaf, None)
        return cls(groups, layers, params, masks, makers, whole)


def _made_by(groups: Groups, layer: Layer) -> tuple[int, int, Group, np.ndarray] | str:
    """The parameter of a layer, its output axis, the group on it and the unit of each channel; or why not."""
    if len(layer.leaves) != 1:
        return "its weight is computed from several parameters"
    if len(layer.outputs) != 1:
        return "it has several output axes"
    [leaf], [out] = layer.leaves, layer.outputs
    dims, own = groups.traced.dims, groups.traced.params[layer.leaves[0]]
    same = [a for a, dim in enumerate(own) if dims.same(dim, layer.axes[out])]
    if len(own) == len(layer.axes) and all(map(dims.same, own, layer.axes)):
        same = [out]  # the leaf itself, or cast: a square kernel of a stream has its dim twice
    if len(same) != 1:
        return "its output channels lie on no axis of the parameter alone"
    for group in groups:
        if group.atom in dims.atoms(own[same[0]]):
            table = units_along(dims, own[same[0]], group.atom)
            if table.shape[1] == 1 and (table < group.size).all():
                return leaf, same[0], group, table[:, 0]
    return "its output channels must stay whole, see groups.explain()"


def _unit_numbers(
    work: _Work,
    score: RefillScore,
    rng: np.random.Generator | None,
    state: PyTree | None,
    inputs: Sequence[PyTree],
    loss: Callable[[Any], Array] | None,
) -> dict[int, np.ndarray]:
    """By layer, one number for each unit of its group."""
    asked = [m for m in work.makers if m.mask.ndim]
    if score in ("act_l1", "act_l2", "saliency"):
        full = jax.tree.unflatten(
            jax.tree.structure(work.groups.shapes), [jnp.asarray(m) for m in work.masks]
        )
        steps = [m.layer.step for m in asked]
        rows = activation_rows(
            score,
            work.groups,
            work.layers,
            steps,
            apply_masks(work.params, full),
            state,
            inputs,
            loss,
        )
    else:
        leaves, names = jax.tree.leaves(work.params), work.groups.traced.names
        rows = {
            m.layer.step: weight_scores(
                score,
                m.layer,
                m.axis,
                leaves[m.leaf],
                m.mask,
                {names[k]: leaves[k] for k in m.layer.own},
                rng,
            )
            for m in asked
        }
    for m in asked:
        if not np.isfinite(rows[m.layer.step]).all():
            raise ValueError(
                f"The scores of {work.groups.traced.names[m.leaf]!r} hold NaN or infinity."
            )
    return {m.layer.step: np.bincount(m.units, rows[m.layer.step], m.group.size) for m in asked}


def _masks(
    work: _Work, made: Plan, decided: Mapping[int, tuple[np.ndarray, int]], affine: bool
) -> PyTree[Bool[Array, "..."]]:
    """The masks of the plan, those of layers that drop channels of a stream, and all True elsewhere."""
    dims, params = work.groups.traced.dims, work.groups.traced.params
    leaves = [np.asarray(m) if affine else np.array(True) for m in jax.tree.leaves(made.masks)]

    def put(leaf: int, axis: int, kept: np.ndarray) -> None:
        shaped = kept.reshape([-1 if a == axis else 1 for a in range(len(params[leaf]))])
        leaves[leaf] = leaves[leaf] & shaped if leaves[leaf].ndim else shaped

    for m in work.makers:
        if m.layer.step not in decided:
            continue
        kept, _ = decided[m.layer.step]
        put(m.leaf, m.axis, kept[m.units])
        for leaf in m.layer.own if affine else ():
            for axis, dim in enumerate(params[leaf]):
                table = (
                    units_along(dims, dim, m.group.atom)
                    if m.group.atom in dims.atoms(dim)
                    else _NONE
                )
                if table.shape[1] == 1:
                    put(leaf, axis, np.append(kept, True)[table[:, 0]])
    for leaf in work.whole:
        leaves[leaf] = work.masks[leaf]
    out = [never_pruned() if m.ndim == 0 else jnp.asarray(m) for m in leaves]
    return jax.tree.unflatten(jax.tree.structure(work.groups.shapes), out)


_NONE = np.zeros((0, 0), int)


def _rows(
    work: _Work, decided: Mapping[int, tuple[np.ndarray, int]], kept: Mapping[str, np.ndarray]
) -> tuple[tuple[RefillRow, ...], float]:
    """What became of every weight that may be pruned, and the nominal density."""
    names, rows, remaining, total = work.groups.traced.names, [], 0, 0
    for m in work.makers:
        if m.mask.ndim == 0:
            continue
        channels, density = len(m.units), m.nonzeros / m.size
        total += m.size
        if m.layer.step not in decided:
            remaining += m.size
            note = "a layer that may not be pruned makes the same channels"
            rows.append(RefillRow(names[m.leaf], channels, density, channels, channels, 0, note))
            continue
        stays, k = decided[m.layer.step]
        width = int(stays[m.units].sum())
        remaining += width * (m.size // channels)
        removed = int((~kept[m.group.name])[m.units].sum())
        rows.append(RefillRow(names[m.leaf], channels, density, k, width, removed))
    for leaf, why in work.whole.items():
        mask = work.masks[leaf]
        total, remaining = total + mask.size, remaining + int(mask.sum())
        rows.append(RefillRow(names[leaf], 0, mask.mean(), 0, 0, 0, f"left as it was: {why}"))
    order = {name: k for k, name in enumerate(names)}
    return tuple(sorted(rows, key=lambda r: order[r.path])), remaining / total if total else 1.0
