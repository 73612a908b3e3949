"""What removed units would still send on: zero, a constant, or something that depends on the input.

A ticket that masks the scale of a batch normalisation and not its shift leaves a constant behind: every removed
channel still sends ``relu(shift)``. This pass follows such *fills* forward through a traced program, unit by unit,
from the parameters as the user masked them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from wormjax.structure._dims import Dim, Dims
from wormjax.structure._flat import Flat, Step
from wormjax.structure.rules._elementwise import NAMES as ELEMENTWISE


class Fill(NamedTuple):
    """What the removed entries of one axis hold, entry by entry.

    Attributes:
      numbers: float64, one for each removed entry; NaN is a constant whose number is not known.
      varies: bool, the entry depends on the input, or differs along other axes.
    """

    numbers: np.ndarray
    varies: np.ndarray

    @property
    def zero(self) -> np.ndarray:
        """Which entries are zero."""
        return ~self.varies & (self.numbers == 0)


class Leaf(NamedTuple):
    """A parameter as the user has it.

    Attributes:
      mask: the user's mask for it, of its rank, or rank 0.
      array: its value, or None where only the masks are known.
    """

    mask: np.ndarray
    array: np.ndarray | None


class Fills:
    """The fills of every value of a program along every pruned axis.

    Args:
      flat: the program.
      dims: its union-find.
      atoms: masks of the pruned atoms.
      leaves: the parameters, by number of their value.

    Attributes:
      flat: the program.
      scalars: single numbers that are known, by number of their value.
    """

    def __init__(
        self, flat: Flat, dims: Dims, atoms: Mapping[Dim, np.ndarray], leaves: Mapping[int, Leaf]
    ):
        self.flat = flat
        self._dims, self._atoms = dims, atoms
        self._known: dict[tuple[int, int], Fill] = {}
        self.scalars = {n: np.asarray(x) for n, x in flat.known.items() if np.ndim(x) == 0}
        for number, leaf in leaves.items():
            for axis in self.pruned(number):
                self._known[number, axis] = self._of_leaf(leaf, number, axis)
        for number, array in flat.known.items():
            for axis in self.pruned(number):
                full = Leaf(np.ones((), bool), np.asarray(array))
                self._known[number, axis] = self._of_leaf(full, number, axis)
        for step in flat.steps:
            self._evaluate(step)
            rule = _RULES.get(step.eqn.primitive.name, _unknown)
            for number in step.outputs:
                for axis in self.pruned(number):
                    self._known[number, axis] = rule(self, step, axis) or self._varying(
                        number, axis
                    )

    def of(self, number: int, axis: int) -> Fill:
        """Return the fill of a value along an axis; what nobody described varies."""
        return self._known.get((number, axis)) or self._varying(number, axis)

    def pruned(self, number: int) -> list[int]:
        """Return the axes of a value that lose something."""
        found = []
        for axis, dim in enumerate(self.flat.axes[number]):
            if any(a in self._atoms and not self._atoms[a].all() for a in self._dims.atoms(dim)):
                found.append(axis)
        return found

    def gone(self, number: int, axis: int) -> np.ndarray:
        """Return the removed indices of an axis."""
        return np.flatnonzero(~self._dims.kept(self.flat.axes[number][axis], self._atoms))

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the full shape of a value."""
        return tuple(dim.size for dim in self.flat.axes[number])

    def _evaluate(self, step: Step) -> None:
        """Compute a single number from numbers that stand in the program's text."""
        is_single = len(step.outputs) == 1 and not self.flat.axes[step.outputs[0]]
        is_known = step.eqn.primitive.name in ELEMENTWISE and is_single
        if is_known and all(number in self.scalars for number in step.inputs):
            numbers = [jax.numpy.asarray(self.scalars[number]) for number in step.inputs]
            with jax.ensure_compile_time_eval():
                result = step.eqn.primitive.bind(*numbers, **step.eqn.params)
            self.scalars[step.outputs[0]] = np.asarray(result)

    def _varying(self, number: int, axis: int) -> Fill:
        n = len(self.gone(number, axis))
        return Fill(np.full(n, np.nan), np.ones(n, bool))

    def _of_leaf(self, leaf: Leaf, number: int, axis: int) -> Fill:
        gone = self.gone(number, axis)
        n = len(gone)
        if leaf.array is not None:
            array = np.where(leaf.mask, leaf.array, 0) if leaf.mask.ndim else leaf.array
            rows = np.moveaxis(array, axis, 0)[gone].reshape(n, -1)
            same = (rows == rows[:, :1]).all(axis=1)
            return Fill(np.where(same, rows[:, 0], np.nan).astype(np.float64), ~same)
        # an entry of a vector is a constant, and one number, whatever it is
        several = math.prod(self.shape(number)) > self.shape(number)[axis]
        masked = np.zeros(n, bool)
        if leaf.mask.ndim:
            shape = [m if k == axis else 1 for k, m in enumerate(self.shape(number))]
            rows = np.moveaxis(leaf.mask & np.ones(shape, bool), axis, 0)[gone]
            masked = ~np.any(rows.reshape(n, -1), axis=1)
        return Fill(np.where(masked, 0.0, np.nan), ~masked & np.array(several))


Rule = Callable[[Fills, Step, int], Fill | None]


def _unknown(fills: Fills, step: Step, axis: int) -> None:
    del fills, step, axis


def _elementwise(fills: Fills, step: Step, axis: int) -> Fill | None:
    [output] = step.outputs
    rank, n = len(fills.flat.axes[output]), len(fills.gone(output, axis))
    inner = []
    size = fills.shape(output)[axis]
    for number in step.inputs:
        shape = fills.shape(number)
        if len(shape) == rank and shape[axis] == size:  # others are repeated along the axis
            inner.append(fills.of(number, axis))
        elif number in fills.scalars:
            value = float(fills.scalars[number])
            inner.append(Fill(np.full(n, value), np.zeros(n, bool)))
        else:
            inner.append(Fill(np.full(n, np.nan), np.ones(n, bool)))
    varies = np.any([f.varies for f in inner], axis=0)
    unknown = np.any([np.isnan(f.numbers) for f in inner], axis=0)
    numbers = np.full(n, np.nan)
    if (~unknown).any():
        numbers[~unknown] = _apply(step, [f.numbers[~unknown] for f in inner])
    name = step.eqn.primitive.name
    zero = np.zeros(n, bool)
    if name == "mul":
        zero = np.any([f.zero for f in inner], axis=0)
    elif name in ("div", "rem"):
        zero = inner[0].zero
    elif name == "select_n" and all((f.zero | (f.numbers == 0)).all() for f in inner[1:]):
        zero = np.all([f.zero for f in inner[1:]], axis=0)
    numbers[zero] = 0
    return Fill(numbers, varies & ~zero)


def _apply(step: Step, numbers: Sequence[np.ndarray]) -> np.ndarray:
    """Apply an equation's primitive to plain numbers, to a single one where all are alike."""
    alike = all((x == x[0]).all() for x in numbers)
    arrays = [
        np.asarray(x[0] if alike else x, v.aval.dtype)  # type: ignore[attr-defined]
        for x, v in zip(numbers, step.eqn.invars, strict=True)
    ]
    with jax.ensure_compile_time_eval():
        result = step.eqn.primitive.bind(*map(jax.numpy.asarray, arrays), **step.eqn.params)
    return np.broadcast_to(np.asarray(result).astype(np.float64), numbers[0].shape)


def _broadcast(fills: Fills, step: Step, axis: int) -> Fill | None:
    placed = step.eqn.params["broadcast_dimensions"]
    [number, *_] = step.inputs
    if axis in placed and fills.shape(number)[placed.index(axis)] > 1:
        return fills.of(number, placed.index(axis))
    if number in fills.scalars:
        n = len(fills.gone(step.outputs[0], axis))
        value = float(fills.scalars[number])
        return Fill(np.full(n, value), np.zeros(n, bool))
    return None


def _transpose(fills: Fills, step: Step, axis: int) -> Fill:
    return fills.of(step.inputs[0], step.eqn.params["permutation"][axis])


def _reshape(fills: Fills, step: Step, axis: int) -> Fill | None:
    """Follow an axis that stays, and one that is merged with others."""
    before, after = fills.shape(step.inputs[0]), fills.shape(step.outputs[0])
    outer, inner = math.prod(after[:axis]), math.prod(after[axis + 1 :])
    found = fills.pruned(step.inputs[0])
    if len(found) != 1:
        return None
    [source] = found
    if math.prod(before[:source]) % outer or math.prod(before[source + 1 :]) % inner:
        return None
    behind = (
        math.prod(before[source + 1 :]) // inner
    )  # entries of the merged axis behind the source
    index = (fills.gone(step.outputs[0], axis) // behind) % before[source]
    where = np.searchsorted(fills.gone(step.inputs[0], source), index)
    fill = fills.of(step.inputs[0], source)
    if not np.array_equal(
        fills.gone(step.inputs[0], source)[where % max(len(fill.numbers), 1)], index
    ):
        return None
    return Fill(fill.numbers[where], fill.varies[where])


def _squeeze(fills: Fills, step: Step, axis: int) -> Fill:
    rank = len(fills.flat.axes[step.inputs[0]])
    left = [k for k in range(rank) if k not in step.eqn.params["dimensions"]]
    return fills.of(step.inputs[0], left[axis])


def _slice(fills: Fills, step: Step, axis: int) -> Fill | None:
    """Pass an axis that is taken whole."""
    whole = fills.shape(step.inputs[0])[axis] == fills.shape(step.outputs[0])[axis]
    return fills.of(step.inputs[0], axis) if whole else None


def _gather(fills: Fills, step: Step, axis: int) -> Fill | None:
    """Follow an axis that is read at a list of positions, and those beside it."""
    if step.positions is None:
        return None
    numbers, [number, *_] = step.eqn.params["dimension_numbers"], step.inputs
    [source] = numbers.start_index_map
    if axis in numbers.offset_dims:
        rest = [k for k in range(len(fills.flat.axes[number])) if k != source]
        return fills.of(number, rest[numbers.offset_dims.index(axis)])
    if step.positions.ndim > 1:
        return None
    return _at(fills, number, source, step.positions[fills.gone(step.outputs[0], axis)])


def _rev(fills: Fills, step: Step, axis: int) -> Fill:
    [number] = step.inputs
    if axis not in step.eqn.params["dimensions"]:
        return fills.of(number, axis)
    last = fills.shape(number)[axis] - 1
    return _at(fills, number, axis, last - fills.gone(step.outputs[0], axis))


def _at(fills: Fills, number: int, axis: int, entries: np.ndarray) -> Fill:
    """The fill of some removed entries of a value."""
    where = np.searchsorted(fills.gone(number, axis), entries)
    fill = fills.of(number, axis)
    return Fill(fill.numbers[where], fill.varies[where])


def _concatenate(fills: Fills, step: Step, axis: int) -> Fill | None:
    parts = [fills.of(number, axis) for number in step.inputs if axis in fills.pruned(number)]
    if axis == step.eqn.params["dimension"]:
        return Fill(
            np.concatenate([p.numbers for p in parts]), np.concatenate([p.varies for p in parts])
        )
    numbers = np.stack([p.numbers for p in parts])
    same = (numbers == numbers[:1]).all(axis=0)
    return Fill(np.where(same, numbers[0], np.nan), ~same)


def _pad(fills: Fills, step: Step, axis: int) -> Fill | None:
    """Put a number beside an axis, or beside what its entries hold along others."""
    operand, padding = step.inputs
    config = step.eqn.params["padding_config"]
    low, high, between = config[axis]
    if padding not in fills.scalars or between or low < 0 or high < 0:
        return None
    gone = fills.gone(step.outputs[0], axis) - low
    inside = (gone >= 0) & (gone < fills.shape(operand)[axis])
    numbers = np.full(len(gone), float(fills.scalars[padding]))
    varies = np.zeros(len(gone), bool)
    if inside.any():
        fill = fills.of(operand, axis)
        where = np.searchsorted(fills.gone(operand, axis), gone[inside])
        differs = fill.numbers[where] != numbers[inside]
        elsewhere = any(sides != (0, 0, 0) for k, sides in enumerate(config) if k != axis)
        numbers[inside] = fill.numbers[where]
        varies[inside] = fill.varies[where] | (differs & elsewhere)
    return Fill(numbers, varies)


def _reduce(fills: Fills, step: Step, axis: int) -> Fill:
    """Reduce other axes: the sum of a constant is a multiple of it, its maximum is itself."""
    gone, rank = step.eqn.params["axes"], len(fills.flat.axes[step.inputs[0]])
    fill = fills.of(step.inputs[0], [k for k in range(rank) if k not in gone][axis])
    if step.eqn.primitive.name != "reduce_sum":
        return fill
    times = math.prod(fills.shape(step.inputs[0])[k] for k in gone)
    return Fill(fill.numbers * times, fill.varies)


def _window(fills: Fills, step: Step, axis: int) -> Fill | None:
    """Slide a window over other axes; a sum beside padding is no constant unless it is zero."""
    params = step.eqn.params
    if params["window_dimensions"][axis] != 1:
        return None
    fill = fills.of(step.inputs[0], axis)
    if step.eqn.primitive.name == "reduce_window_max":
        return fill
    padded = np.array(any(tuple(p) != (0, 0) for p in params["padding"]))
    times = math.prod(params["window_dimensions"])
    return Fill(fill.numbers * times, fill.varies | (~fill.zero & padded))


def _contraction(fills: Fills, step: Step, axis: int) -> Fill | None:
    """A result's entry is zero where the filters that make it are."""
    if step.eqn.primitive.name == "conv_general_dilated":
        numbers = step.eqn.params["dimension_numbers"]
        if axis != numbers.out_spec[1]:
            return None
        channels = fills.shape(step.inputs[0])[numbers.lhs_spec[1]]
        if step.eqn.params["feature_group_count"] == channels == fills.shape(step.outputs[0])[axis]:
            silent = fills.of(step.inputs[0], numbers.lhs_spec[1]).zero  # one filter a channel
            silent = silent | fills.of(step.inputs[1], numbers.rhs_spec[0]).zero
            return Fill(np.where(silent, 0.0, np.nan), ~silent)
        source = 1, numbers.rhs_spec[0]
    else:
        (left, right), batch = step.eqn.params["dimension_numbers"]
        places = [
            [k for k in range(len(fills.flat.axes[v])) if k not in c and k not in b]
            for v, c, b in zip(step.inputs, (left, right), batch, strict=True)
        ]
        position = axis - len(batch[0])
        if position < 0:
            return None
        inside = position < len(places[0])
        source = (0, places[0][position]) if inside else (1, places[1][position - len(places[0])])
    fill = fills.of(step.inputs[source[0]], source[1])
    return Fill(np.where(fill.zero, 0.0, np.nan), ~fill.zero)


_RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "reshape": _reshape,
    "slice": _slice,
    "squeeze": _squeeze,
    "gather": _gather,
    "rev": _rev,
    "concatenate": _concatenate,
    "pad": _pad,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_window_sum": _window,
    "reduce_window_max": _window,
    "conv_general_dilated": _contraction,
    "dot_general": _contraction,
}
