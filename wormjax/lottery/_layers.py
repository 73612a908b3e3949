"""The layers of a traced function: its contractions with weights, and what is between one and the next."""

import dataclasses

from jax.extend.core import JaxprEqn

from wormjax.structure._flat import Flat, Step, flatten
from wormjax.structure._trace import Axes, Traced, shape_of

CONTRACTIONS = ("conv_general_dilated", "dot_general")
_INNER = ("jaxpr", "branches", "body_jaxpr", "call_jaxpr", "fun_jaxpr")


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A dot product or convolution of an activation with a weight.

    Attributes:
      step: its position in the program.
      eqn: its equation.
      side: which of its operands is the weight.
      leaves: the parameters that the weight is computed from; one in most networks.
      axes: the dims of the weight operand.
      own: parameters that enter between this layer and the next: bias, scale, shift.
    """

    step: int
    eqn: JaxprEqn
    side: int
    leaves: tuple[int, ...]
    axes: Axes
    own: tuple[int, ...]

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution."""
        return self.eqn.primitive.name == "conv_general_dilated"

    @property
    def is_pointwise(self) -> bool:
        """Whether it looks at one place at a time."""
        if not self.is_convolution:
            return True
        kernel, numbers = shape_of(self.eqn.invars[1]), self.eqn.params["dimension_numbers"]
        return all(kernel[axis] == 1 for axis in numbers.rhs_spec[2:])

    @property
    def is_depthwise(self) -> bool:
        """Whether every output channel reads a single input channel of several."""
        if not self.is_convolution:
            return False
        kernel, numbers = shape_of(self.eqn.invars[1]), self.eqn.params["dimension_numbers"]
        return self.eqn.params["feature_group_count"] > 1 and kernel[numbers.rhs_spec[1]] == 1

    def _free(self) -> tuple[list[int], list[int]]:
        """The weight operand's output axes and its input axes."""
        if self.is_convolution:
            out, into, *_ = self.eqn.params["dimension_numbers"].rhs_spec
            return [out], [into]
        contracting, batch = self.eqn.params["dimension_numbers"]
        into = list(contracting[self.side])
        taken = {*into, *batch[self.side]}
        return [k for k in range(len(self.axes)) if k not in taken], into

    @property
    def outputs(self) -> list[int]:
        """Axes of the weight operand that are axes of the result."""
        return self._free()[0]

    @property
    def inputs(self) -> list[int]:
        """Axes of the weight operand that are summed over; a window's are not among them."""
        return self._free()[1]


class Layers:
    """All layers of a program, and which of them come before which.

    Sets of layers are integers, a bit for each position.

    Args:
      traced: the program.

    Attributes:
      flat: the program as a list of steps; what is inside loops and branches is not looked into.
      layers: the layers, by position.
      near: for each value that depends on the inputs, the layers that reach it past no other layer.
      before: for each such value, all layers that it depends on.
      looped: parameters that go into a loop or a branch beside an activation.
    """

    def __init__(self, traced: Traced):
        self.flat: Flat = flatten(traced)
        first = len(self.flat.params) + len(self.flat.state)
        self.live = set(range(first, len(traced.closed.jaxpr.invars)))
        self.near: dict[int, int] = {}
        self.before: dict[int, int] = {}
        self.looped: set[int] = set()
        self._leaves: dict[int, set[int]] = {v: {k} for k, v in enumerate(self.flat.params)}
        self._found: dict[int, tuple[Step, int, set[int]]] = {}
        self._own: dict[int, set[int]] = {}
        for k, step in enumerate(self.flat.steps):
            self._visit(k, step)
        self.layers = {
            k: Layer(
                k,
                step.eqn,
                side,
                tuple(sorted(leaves)),
                self.flat.axes[step.inputs[side]],
                tuple(sorted(self._own.get(k, set()))),
            )
            for k, (step, side, leaves) in self._found.items()
        }

    def reads(self, k: int) -> int:
        """Return the layers near the activation that a layer reads."""
        layer = self.layers[k]
        return self.near.get(self.flat.steps[k].inputs[1 - layer.side], 0)

    def _visit(self, k: int, step: Step) -> None:
        live = [v for v in step.inputs if v in self.live]
        still = [i for i, v in enumerate(step.inputs) if v not in self.live]
        below = set().union(*(self._leaves.get(step.inputs[i], set()) for i in still))
        name = step.eqn.primitive.name
        near = before = 0
        for v in live:
            near |= self.near.get(v, 0)
            before |= self.before.get(v, 0)
        if name in CONTRACTIONS and live and below:
            self._found[k] = step, still[0], below
            near, before = 1 << k, before | 1 << k
        elif live and any(inner in step.eqn.params for inner in _INNER) and "custom" not in name:
            self.looped |= below
        elif live and near and near & (near - 1) == 0:
            self._own.setdefault(near.bit_length() - 1, set()).update(below)
        for out in step.outputs:
            if live:
                self.live.add(out)
                self.near[out], self.before[out] = near, before
            else:
                self._leaves[out] = below
