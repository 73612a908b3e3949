"""Regroup: from single weights to dense blocks of output channels that read the same input channels."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from wormjax._masks import check_masks, never_pruned
from wormjax._table import as_text
from wormjax.evaluation._macs import of_equation
from wormjax.lottery._blocks import BlockList, Form, LayerBlocks
from wormjax.lottery._layers import Layer, Layers
from wormjax.lottery._regroup_matrix import REGROUP, MatrixBlocks, RegroupSettings, regroup_matrix
from wormjax.structure._costs import contractions, mac_count, whole
from wormjax.structure._groups import Groups


class WeightMatrix(NamedTuple):
    """How a weight is a matrix.

    Attributes:
      leaf: index of the parameter.
      out: its axis of output channels.
      into: its axis of input channels.
    """

    leaf: int
    out: int
    into: int

    def order(self, rank: int) -> tuple[int, ...]:
        """The axes as (output channel, input channel, *window)."""
        return self.out, self.into, *(a for a in range(rank) if a not in (self.out, self.into))


class RegroupRow(NamedTuple):
    """What Regroup did to one weight.

    Attributes:
      path: of the weight.
      form: see `LayerBlocks`.
      groups: rows of each row group.
      blocks: how many there are.
      before: density of the given mask.
      after: density of the new one.
      executed: fraction of the layer's multiplications that are done.
      fallback: groups that the rule found no block for, and that kept all of their columns.
      dropped: output channels that had weights and lost them all.
      empty: output channels that had none.
      note: why the weight was not regrouped; empty where it was.
    """

    path: str
    form: Form
    groups: tuple[int, ...]
    blocks: int
    before: float
    after: float
    executed: float
    fallback: int
    dropped: int
    empty: int
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Regrouped:
    """A structured ticket of row blocks.

    Attributes:
      masks: mask tree to train under: the union of the blocks.
      blocks: the blocks, for `block_apply` and for the disk.
      rows: what became of every weight that the given masks may prune.
      nominal_density: kept weights over all weights of these leaves.
      executed_density: weights that are multiplied with, over all: a layer without blocks counts as 1.
      macs: multiply-accumulates of the whole function on the example inputs, dense and executed.
    """

    masks: PyTree[Bool[Array, "..."]]
    blocks: BlockList
    rows: tuple[RegroupRow, ...]
    nominal_density: float
    executed_density: float
    macs: tuple[int, int]

    def explain(self) -> str:
        """Say layer by layer what the blocks are, and where there is none."""
        head = ("weight", "form", "groups", "blocks", "before", "after", "executed", "")
        body = [
            (r.path, r.form, str(len(r.groups)), str(r.blocks), f"{r.before:.4f}", f"{r.after:.4f}",
             f"{r.executed:.4f}", _remarks(r))
            for r in self.rows
        ]  # fmt: skip
        notes = [
            f"nominal density {self.nominal_density:.4f}, executed density {self.executed_density:.4f}",
            f"multiply-accumulates {self.macs[0]:,} -> {self.macs[1]:,}",
        ]
        return as_text(head, body, {2, 3, 4, 5, 6}, notes)


def regroup(
    groups: Groups,
    masks: PyTree[Bool[Array, "..."]],
    *,
    settings: RegroupSettings = REGROUP,
    magnitudes: PyTree | None = None,
    seed: int = 0,
) -> Regrouped:
    r"""Turn a ticket of single weights into one of dense row blocks.

    The output channels of every layer are divided into groups that share inputs, and each group reads one set of input
    channels, all of it. Train under the masks from the rewinding point; `block_apply` then runs each group as a small
    dense convolution.

    Args:
      groups: from `wormjax.find_groups`.
      masks: mask tree, weight by weight; rank-0 leaves are left alone.
      settings: see `RegroupSettings`; ``REGROUP_REFERENCE`` are the constants of the public code.
      magnitudes: parameters of the masks' round, to take columns in order of their magnitude; by default their numbers
        of weights decide, as in the paper.
      seed: the same one gives the same blocks.

    Returns:
      `Regrouped`; print ``explain()``.

    Raises:
      ValueError: masks of another model; a layer that the masks empty.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"a": jnp.ones((4, 4)), "b": jnp.ones((4, 1))}
      >>> groups = wj.find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, jnp.ones((1, 4)))
      >>> cells = jnp.array([[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 0]], bool)
      >>> found = wj.lottery.regroup(
      ...     groups, {"a": cells, "b": jnp.array(True)}, settings=wj.lottery.RegroupSettings(parts=2)
      ... )
      >>> print(found.masks["a"].astype(int), found.executed_density)
      [[1 0 1 0]
       [1 0 1 0]
       [0 1 0 1]
       [0 1 0 1]] 0.5

    References:
      Chen et al., `Coarsening the Granularity: Towards Structurally Sparse Lottery Tickets
      <https://arxiv.org/abs/2202.04736>`_, 2022

    Note:
      In the public code counters of later rows stand still when a row rejects a column, which makes blocks 1.6 to 2
      times as wide; groups of 16 rows and less vanish; layers without a block keep their mask, are counted sparse, and
      run dense. All of that is a switch here, and reported.
    """
    check_masks(groups.shapes, masks)
    layers = Layers(groups.traced)
    names = groups.traced.names
    shapes = [x.shape for x in jax.tree.leaves(groups.shapes)]
    given = [np.asarray(m) for m in jax.tree.leaves(masks)]
    sizes = None if magnitudes is None else [np.asarray(x) for x in jax.tree.leaves(magnitudes)]
    places: dict[int, WeightMatrix | str] = {}
    for layer in layers.layers.values():
        places |= dict.fromkeys(layer.leaves, as_matrix(groups, layer))
    listed: dict[str, LayerBlocks] = {}
    rows: list[RegroupRow] = []
    leaves: list[Array] = []
    for leaf, (name, shape, mask) in enumerate(zip(names, shapes, given, strict=True)):
        if mask.ndim == 0:
            leaves.append(never_pruned())
            continue
        full = np.broadcast_to(mask, shape)
        if not full.any():
            raise ValueError(
                f"The mask at {name!r} keeps nothing: the layer is empty. Prune less, or leave it out of prunable."
            )
        place = places.get(leaf, "no layer that was traced reads it")
        if isinstance(place, str):  # it runs dense, so that is what it is counted as
            leaves.append(jnp.asarray(np.ones((1,) * len(shape), bool)))
            rows.append(
                RegroupRow(name, "dense", (), 0, float(full.mean()), 1.0, 1.0, 0, 0, 0, place)
            )
            continue
        found, made = _blocks(full, place, settings, None if sizes is None else sizes[leaf], seed)
        listed[name] = made
        new = full if made.form == "unstructured" else _on_leaf(made, place, shape)
        leaves.append(jnp.asarray(new))
        after = float(np.broadcast_to(new, shape).mean())
        row = (found.groups, len(found.blocks), float(full.mean()), after, made.executed)
        rows.append(RegroupRow(name, made.form, *row, found.fallback, found.dropped, found.empty))
    if not rows:
        raise ValueError("Every mask is rank-0: there is nothing to regroup.")
    entries = {name: int(np.prod(shape)) for name, shape in zip(names, shapes, strict=True)}
    total = sum(entries[r.path] for r in rows)
    told = dataclasses.asdict(settings) | {"seed": seed, "by_magnitude": magnitudes is not None}
    return Regrouped(
        jax.tree.unflatten(jax.tree.structure(masks), leaves),
        BlockList(listed, told),
        tuple(rows),
        sum(entries[r.path] * r.after for r in rows) / total,
        sum(entries[r.path] * r.executed for r in rows) / total,
        executed_macs(groups, {r.path: r.executed for r in rows}),
    )


def as_matrix(groups: Groups, layer: Layer) -> WeightMatrix | str:
    """Return how a layer's parameter is a matrix, or why it is none."""
    if len(layer.leaves) != 1:
        return "its weight is computed from several parameters"
    own = groups.traced.params[layer.leaves[0]]
    if len(own) != len(layer.axes) or not all(map(groups.traced.dims.same, own, layer.axes)):
        return "its weight is a view of the parameter"
    if layer.is_convolution and layer.eqn.params["feature_group_count"] > 1:
        return "depthwise and grouped convolutions have no blocks"
    if len(layer.outputs) != 1 or len(layer.inputs) != 1:
        return "it has several axes of input or output channels"
    if len(own) != 2 and not layer.is_convolution:
        return "it multiplies in a batch"
    return WeightMatrix(layer.leaves[0], layer.outputs[0], layer.inputs[0])


def executed_macs(groups: Groups, executed: dict[str, float]) -> tuple[int, int]:
    """Return the multiply-accumulates of a function on its example inputs, dense and executed.

    Args:
      groups: from `wormjax.find_groups`.
      executed: the fraction of a weight's multiplications that are done, by path; all of the others.
    """
    dense = mac_count(contractions(groups.traced), whole)
    saved = 0.0
    for layer in Layers(groups.traced).layers.values():
        for leaf in layer.leaves:
            share = 1 - executed.get(groups.traced.names[leaf], 1.0)
            saved += share * (of_equation(layer.eqn) or 0)
    return dense, round(dense - saved)


def _blocks(
    mask: np.ndarray,
    place: WeightMatrix,
    settings: RegroupSettings,
    weight: np.ndarray | None,
    seed: int,
) -> tuple[MatrixBlocks, LayerBlocks]:
    cells = np.transpose(mask, place.order(mask.ndim))
    cells = cells.reshape(*cells.shape[:2], -1)
    sizes = None
    if weight is not None:
        sizes = np.abs(np.transpose(weight, place.order(mask.ndim)).astype(np.float64))
        sizes = np.where(cells, sizes.reshape(cells.shape), 0)
    by_channel = settings.granularity == "input_channel"

    def columns(x: np.ndarray) -> np.ndarray:
        return x.sum(axis=2) if by_channel else x.reshape(len(x), -1)

    taps = cells.shape[2] if by_channel else 1
    found = regroup_matrix(
        columns(cells.astype(np.int32)),
        settings,
        taps=taps,
        magnitudes=None if sizes is None else columns(sizes),
        seed=seed,
    )
    return found, LayerBlocks(cells.shape, found.blocks, settings.granularity, found.form)


def _on_leaf(made: LayerBlocks, place: WeightMatrix, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of blocks in the shape of the parameter, of size 1 along the window where it does not tell it apart."""
    order = place.order(len(shape))
    window = [shape[a] if made.granularity == "element" else 1 for a in order[2:]]
    return np.transpose(made.mask().reshape(*made.shape[:2], *window), np.argsort(order))


def _remarks(row: RegroupRow) -> str:
    told = [row.note] if row.note else []
    for count, what in (
        (row.fallback, "groups without a block kept all of their columns"),
        (row.dropped, "output channels dropped"),
        (row.empty, "output channels were empty"),
    ):
        told += [f"{count} {what}"] if count else []
    return "; ".join(told)
