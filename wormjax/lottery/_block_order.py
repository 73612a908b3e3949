"""Units in the order in which the blocks make them, so that their results need not be put in order.

Channels of a group may be numbered as one likes: all slices of the parameters and of the state that lie on the group
are permuted alike, and the network computes what it did. Numbered block by block, the results of a layer's blocks are
only joined; the inverse permutation is in the next layer's weights.
"""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax.lottery._blocks import Block, BlockList
from wormjax.lottery._regroup import WeightMatrix
from wormjax.structure._dims import Dim
from wormjax.structure._groups import Groups

Orders = Mapping[Dim, np.ndarray]


def block_orders(groups: Groups, blocks: BlockList, places: Mapping[str, WeightMatrix]) -> Orders:
    """Return for each group that a layer with blocks makes, and that may be renumbered, its units in the new order.

    Where several layers make a group, as on a residual stream, the first one's order counts.
    """
    dims, traced = groups.traced.dims, groups.traced
    held = {atom for axes in traced.consts for dim in axes for atom in dims.atoms(dim)}
    orders: dict[Dim, np.ndarray] = {}
    for name, place in places.items():
        made = blocks[name]
        if not made.blocks:
            continue
        atom = dims.find(traced.params[place.leaf][place.out])
        simple = all(
            dims.find(dim) is atom or atom not in dims.atoms(dim)
            for axes in (*traced.params, *traced.state)
            for dim in axes
        )
        if atom.kind != "atom" or dims.reasons(atom) or atom in held or not simple:
            continue
        rows = np.concatenate([b.rows for b in made.blocks])
        missing = np.setdiff1d(np.arange(made.shape[0]), rows)
        orders.setdefault(atom, np.concatenate([rows, missing]))
    return orders


def reordered(
    groups: Groups, orders: Orders, params: PyTree, state: PyTree | None
) -> tuple[PyTree, PyTree | None]:
    """Return parameters and state with the units of the groups renumbered."""
    dims = groups.traced.dims

    def of(tree: PyTree, all_axes: list) -> PyTree:
        leaves = []
        for leaf, axes in zip(jax.tree.leaves(tree), all_axes, strict=True):
            for axis, dim in enumerate(axes):
                order = orders.get(dims.find(dim))
                if order is not None:
                    leaf = np.take(np.asarray(leaf), order, axis=axis)
            leaves.append(leaf)
        return jax.tree.unflatten(jax.tree.structure(tree), leaves)

    small = None if state is None else of(state, groups.traced.state)
    return of(params, groups.traced.params), small


def reordered_blocks(
    groups: Groups, orders: Orders, blocks: BlockList, places: Mapping[str, WeightMatrix]
) -> BlockList:
    """Return the blocks in the new numbers, rows and columns."""
    dims = groups.traced.dims
    layers = dict(blocks.layers)
    for name, place in places.items():
        made, axes = blocks[name], groups.traced.params[place.leaf]
        new = [
            np.argsort(orders[atom]) if atom in orders else np.arange(atom.size)
            for atom in (dims.find(axes[place.out]), dims.find(axes[place.into]))
        ]
        taps = made.shape[2] if made.granularity == "element" else 1
        columns = (new[1][:, None] * taps + np.arange(taps)).ravel()
        moved = (Block(np.sort(new[0][b.rows]), np.sort(columns[b.columns])) for b in made.blocks)
        layers[name] = dataclasses.replace(made, blocks=tuple(moved))
    return BlockList(layers, blocks.made_by)
