"""A network whose layers run block by block: the traced function, with its contractions replaced."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn
from jaxtyping import PyTree

from wormjax.lottery._block_order import block_orders, reordered, reordered_blocks
from wormjax.lottery._block_products import pack, product
from wormjax.lottery._blocks import Block, BlockList, LayerBlocks
from wormjax.lottery._layers import Layer, Layers
from wormjax.lottery._pallas_product import Kernel, Products, kernel_of
from wormjax.lottery._regroup import WeightMatrix, as_matrix, executed_macs
from wormjax.structure._groups import Groups
from wormjax.structure._replay import Replay, Value
from wormjax.structure._small_apply import at_full_size
from wormjax.structure._trace import Scope, Traced, trace
from wormjax.structure.rules import EVALUATE, PROPAGATE

_VIEWS = ("convert_element_type", "copy")


@dataclasses.dataclass(frozen=True, eq=False)
class BlockApply:
    """Call it like the original function, with the parameters of `block_apply`.

    Attributes:
      original: the function.
      shapes: its abstract parameters.
      state_shapes: its abstract state, or None.
      blocks: of each weight that runs block by block.
      places: how each of them is a matrix.
      kernel: what runs the products where they are Pallas's; None where they are XLA's.
    """

    original: Callable[..., Any]
    shapes: PyTree
    state_shapes: PyTree | None
    blocks: BlockList
    places: Mapping[str, WeightMatrix]
    kernel: Kernel | None = None

    def __call__(self, params: PyTree, *rest: PyTree) -> Any:
        state, inputs = (rest[0], rest[1:]) if self.state_shapes is not None else (None, rest)
        abstract = jax.eval_shape(lambda *xs: xs, *inputs)
        state_shapes = None if state is None else at_full_size(state, self.state_shapes, "state")
        structure: Any = jax.tree.structure(self.shapes)
        leaves = structure.flatten_up_to(params)
        full = [
            jax.ShapeDtypeStruct(like.shape, jax.tree.leaves(x)[0].dtype)
            for like, x in zip(jax.tree.leaves(self.shapes), leaves, strict=True)
        ]
        tree = jax.tree.unflatten(structure, full)
        traced = trace(self.original, tree, abstract, state_shapes, PROPAGATE)
        listed = {traced.names.index(name): name for name in self.blocks}
        blocks = {leaf: self.blocks[name] for leaf, name in listed.items()}
        run = _BlockRun(traced, blocks, leaves, self.kernel)
        operands = [
            # a weight that runs in blocks is never read as a whole
            jnp.zeros(like.shape, like.dtype) if k in listed else x
            for k, (x, like) in enumerate(zip(leaves, full, strict=True))
        ]
        operands += jax.tree.leaves(state) + jax.tree.leaves(inputs)
        return jax.tree.unflatten(traced.out_tree, run(operands))


class _BlockRun:
    """One evaluation of a traced program."""

    def __init__(
        self,
        traced: Traced,
        blocks: Mapping[int, LayerBlocks],
        leaves: Sequence[Any],
        kernel: Kernel | None,
    ):
        self.traced, self.blocks, self.leaves, self.kernel = traced, blocks, leaves, kernel
        self.waiting: dict[tuple[Scope, int], Layer] = {}
        layers = Layers(traced)
        for step, layer in layers.layers.items():
            place = layers.flat.steps[step].place
            if len(layer.leaves) == 1 and layer.leaves[0] in blocks and place is not None:
                self.waiting[place] = layer

    def __call__(self, operands: Sequence[Any]) -> list[Any]:
        traced = self.traced
        rules = EVALUATE | {n: self._rule(n) for n in ("conv_general_dilated", "dot_general")}
        replay = Replay(traced.dims, {}, rules, traced.scope)
        results = replay.closed(traced.closed, list(map(Value, operands)))
        if self.waiting:
            layer = next(iter(self.waiting.values()))
            raise ValueError(
                f"The weight {traced.names[layer.leaves[0]]!r} is read inside a block that is evaluated as one, such "
                "as jax.checkpoint or a function with its own derivative, and cannot run in blocks there. Leave it "
                "out of the block list."
            )
        return [r.array for r in results]

    def _rule(self, name: str) -> Callable[..., Sequence[Value]]:
        plain = EVALUATE[name]

        def rule(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
            layer = self.waiting.pop((run.scope, run.index), None)
            if layer is None:
                return plain(run, eqn, *operands)
            [leaf] = layer.leaves
            dtype = eqn.invars[layer.side].aval.dtype  # type: ignore[attr-defined]
            packed = [w.astype(dtype) for w in self.leaves[leaf]]
            x = jnp.asarray(operands[1 - layer.side].array)
            made = product(eqn, layer.side, x, packed, self.blocks[leaf], self.kernel)
            return [Value(made)]

        return rule


@dataclasses.dataclass(frozen=True, eq=False)
class BlockTicket:
    """A network that runs block by block.

    Attributes:
      params: the parameters; in the place of each weight with blocks, one array a block.
      state: the state, or None.
      apply: call it like the original function. Compile it, as every JAX function.
      blocks: the blocks, in the numbers of ``params``.
      macs: multiply-accumulates on the example inputs, dense and executed.
      folded: weights whose results need no permutation; the others put theirs in order.
    """

    params: PyTree
    state: PyTree | None
    apply: BlockApply
    blocks: BlockList
    macs: tuple[int, int]
    folded: tuple[str, ...]


def block_apply(
    groups: Groups,
    blocks: BlockList,
    params: PyTree,
    state: PyTree | None = None,
    *,
    fold: bool = True,
    products: Products = "xla",
) -> BlockTicket:
    """Replace the layers of a function by dense products of their blocks.

    Args:
      groups: from `wormjax.find_groups`, on any function.
      blocks: from `regroup`, `row_blocks`, or the disk. Weights that are listed as ``"dense"`` or ``"unstructured"``,
        and those that are not listed, run as they did.
      params: the parameters, zero outside the blocks: what was trained under ``regrouped.masks``.
      state: the state, where the groups were found with one.
      fold: number channels in the order of the blocks, so that no result is permuted.
      products: ``"xla"``, convolutions and dot products as they are; ``"pallas"``, a kernel of ours on a GPU or a TPU,
        convolutions unrolled, never yet timed; ``"pallas_interpreted"``, the same as a slow JAX program, to check it.
        `wormjax.evaluation.macs` does not look into a kernel; the ticket's ``macs`` tells.

    Returns:
      `BlockTicket`.

    Raises:
      ValueError: a weight is not zero outside its blocks, is also read by something that is no layer, or is of
        another shape than its blocks; or there is no device for ``products``.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"a": jnp.array([[1.0, 0, 2], [0, 3, 0]]), "b": jnp.ones((3, 1))}
      >>> groups = wj.find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, jnp.ones((1, 2)))
      >>> masks = {"a": params["a"] != 0, "b": jnp.array(True)}
      >>> found = wj.lottery.regroup(groups, masks, settings=wj.lottery.RegroupSettings(parts=2))
      >>> ticket = wj.lottery.block_apply(groups, found.blocks, params)
      >>> [w.shape for w in ticket.params["a"]], ticket.macs
      ([(1, 2), (1, 1)], (9, 6))
      >>> print(ticket.apply(ticket.params, jnp.ones((1, 2))) - jnp.tanh(jnp.ones((1, 2)) @ params["a"]).sum())
      [[0.]]
    """
    kernel = kernel_of(products)
    if (state is None) != (groups.state_shapes is None):
        raise ValueError(
            "The groups were found "
            + ("without a state; pass none." if state is not None else "with a state; pass it.")
        )
    names = groups.traced.names
    running = {n: b for n, b in blocks.layers.items() if b.form in ("blocks", "whole_block")}
    chosen = BlockList(running, blocks.made_by)
    places = _places(groups, chosen)
    leaves = jax.tree.leaves(params)
    for name, place in places.items():
        _check(name, np.asarray(leaves[place.leaf]), chosen[name], place)
    orders = block_orders(groups, chosen, places) if fold else {}
    params, state = reordered(groups, orders, params, state)
    chosen = reordered_blocks(groups, orders, chosen, places)
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(params)]
    for name, place in places.items():
        leaves[place.leaf] = pack(leaves[place.leaf], chosen[name], place.out, place.into)
    return BlockTicket(
        jax.tree.unflatten(jax.tree.structure(params), leaves),
        None if state is None else jax.tree.map(jnp.asarray, state),
        BlockApply(groups.apply, groups.shapes, groups.state_shapes, chosen, places, kernel),
        chosen,
        executed_macs(groups, {name: made.executed for name, made in chosen.layers.items()}),
        tuple(name for name in names if name in running and _in_order(chosen[name])),
    )


def row_blocks(groups: Groups, masks: PyTree) -> BlockList:
    """Return the block list of masks of whole channels: each weight a block of its non-empty rows and columns.

    Run by `block_apply`, it is the narrow form of a layer on a residual stream: few channels are computed, and put in
    their places among zeros.

    Args:
      groups: from `wormjax.find_groups`.
      masks: mask tree, such as that of `refill`.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 1))}
      >>> groups = wj.find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, jnp.ones((1, 2)))
      >>> masks = {"a": jnp.array([[True, False, True]]), "b": jnp.array(True)}
      >>> row_blocks(groups, masks)["a"].blocks[0].rows
      array([0, 2])
    """
    names, shapes = groups.traced.names, [x.shape for x in jax.tree.leaves(groups.shapes)]
    given = [np.asarray(m) for m in jax.tree.leaves(masks)]
    listed: dict[str, LayerBlocks] = {}
    for layer in Layers(groups.traced).layers.values():
        place = as_matrix(groups, layer)
        if isinstance(place, str) or given[place.leaf].ndim == 0:
            continue
        shape = shapes[place.leaf]
        mask = np.transpose(np.broadcast_to(given[place.leaf], shape), place.order(len(shape)))
        cells = np.any(mask.reshape(*mask.shape[:2], -1), axis=2)
        rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
        if len(rows):
            size = (*cells.shape, mask.size // cells.size)
            block = (Block(rows, columns),)
            listed[names[place.leaf]] = LayerBlocks(size, block, "input_channel", "whole_block")
    return BlockList(listed, {"rule": "rows"})


def _places(groups: Groups, blocks: BlockList) -> dict[str, WeightMatrix]:
    """How each listed weight is a matrix; it may be read by its layers alone."""
    layers = Layers(groups.traced)
    found: dict[int, WeightMatrix | str] = {}
    steps: dict[int, set[int]] = {}
    for position, layer in layers.layers.items():
        for leaf in layer.leaves:
            found[leaf] = as_matrix(groups, layer)
            steps.setdefault(leaf, set()).add(position)
    places = {}
    for name in blocks:
        if name not in groups.traced.names:
            raise ValueError(
                f"The block list speaks of {name!r}, which the parameters do not have. Use the blocks of this model."
            )
        leaf = groups.traced.names.index(name)
        place = found.get(leaf, "no layer that was traced reads it")
        if isinstance(place, str):
            raise ValueError(f"The weight {name!r} cannot run in blocks: {place}.")
        values = [layers.flat.params[leaf]]
        while values:
            value = values.pop()
            for user in layers.flat.users(value):
                step = layers.flat.steps[user]
                if user in steps[leaf]:
                    continue
                if step.eqn.primitive.name not in _VIEWS:
                    raise ValueError(
                        f"The weight {name!r} is also read by {step.eqn.primitive.name}, which needs it whole. Leave "
                        "it out of the block list."
                    )
                values += step.outputs
        places[name] = place
    return places


def _check(name: str, weight: np.ndarray, made: LayerBlocks, place: WeightMatrix) -> None:
    """Raise unless a weight fits its blocks and is zero outside them."""
    cells = np.transpose(weight, place.order(weight.ndim))
    cells = cells.reshape(*cells.shape[:2], -1)
    if cells.shape != made.shape:
        raise ValueError(
            f"The blocks of {name!r} are of a weight with {made.shape} output channels, input channels and places of "
            f"the window, and this one has {cells.shape}. Use the blocks of this model."
        )
    mask = made.mask()
    filled = cells != 0
    filled = (
        filled.any(axis=2) if made.granularity == "input_channel" else filled.reshape(mask.shape)
    )
    if outside := int((filled & ~mask).sum()):
        raise ValueError(
            f"The weight {name!r} has {outside} columns of rows outside its blocks that are not zero, and would lose "
            "them. Train under the masks of the blocks, or apply them first."
        )


def _in_order(made: LayerBlocks) -> bool:
    rows = np.concatenate([b.rows for b in made.blocks])
    return bool(np.array_equal(rows, np.arange(len(rows))))
