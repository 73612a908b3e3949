"""Floating-point operations of a forward pass by the counting rule of the pruning papers."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from wormjax.evaluation._inlined import Op, Value, before, inlined
from wormjax.evaluation._macs import of_equation
from wormjax.evaluation._walk import of_inner

Rule = Literal["early_bird", "macs"]

_RESHAPED = frozenset(
    {"broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze", "transpose"}
)
_SCALED = _RESHAPED | {
    *("add", "div", "integer_pow", "max", "mul", "neg", "select_n", "stop_gradient", "sub")
}
_PRODUCTS = frozenset({"conv_general_dilated", "dot_general"})
_POOLS = frozenset({"reduce_window", "reduce_window_max", "reduce_window_sum"})


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating-point operations of one call, by what makes them; ``int(flops)`` is their sum.

    Attributes:
      convolution: 2 for each multiply-accumulate, and 1 for each output with a bias.
      linear: the same of dot products.
      normalisation: 2 for each entry.
      activation: 1 for each entry of a ReLU.
      pooling: the size of the window for each output.
    """

    convolution: int = 0
    linear: int = 0
    normalisation: int = 0
    activation: int = 0
    pooling: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return sum(dataclasses.astuple(self))

    def __int__(self) -> int:
        return self.total

    def __add__(self, other: "Flops") -> "Flops":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Flops(*(a + b for a, b in pairs))

    def __rmul__(self, times: int) -> "Flops":
        return Flops(*(times * a for a in dataclasses.astuple(self)))


def flops(
    fn: Callable[..., Any],
    *args: Any,
    rule: Rule = "early_bird",
    global_pool: bool = False,
    while_trips: int | None = None,
) -> Flops:
    r"""Count the floating-point operations of a forward pass, by tracing it.

    With ``rule="early_bird"`` as the code of the Early-Bird paper counts its layers, for k x k windows:

    .. math::
        \begin{aligned}
        \text{convolution} &= (2 k^2 C_{in} / g + [\text{bias}]) \, N C_{out} H W &
        \text{linear} &= N (2 C_{in} + [\text{bias}]) \, C_{out} \\
        \text{normalisation} &= 2 \cdot \text{entries} \qquad \text{ReLU} = \text{entries} &
        \text{pooling} &= k^2 N C H W
        \end{aligned}

    with H and W of the output; residual additions, selections, softmax and other activations count
    nothing. ``rule="macs"`` counts 2 for each multiply-accumulate of convolutions and dot products, nothing else
    (see `wormjax.evaluation.macs`).

    A trace has no layers, they are recognised by what they compute:

    * a bias: an addition to a product of an array of the features' size and of lower rank;
    * a normalisation: a product with (a quotient by) something made of ``rsqrt`` or ``sqrt`` of an array of
      lower rank, counted where the input meets it; so LayerNorm and RMSNorm are counted like BatchNorm;
    * a ReLU: a maximum with zero, but not of a variance. ``where(x > 0, x, 0)`` is none;
    * a pooling: a ``reduce_window``. The mean over a whole map is a sum in JAX: the paper's code counts it
      where it is a layer (ResNet) and not where it is a function (VGG), which a trace cannot tell, so say
      so by ``global_pool``.

    Where it matters look at the parts of the result: a layer that is not recognised is missing there.

    Args:
      fn: a function of arrays, with a batch axis. It is traced, never run; static arguments go in by
        ``functools.partial``. A gradient is no forward pass: see `training_flops`.
      *args: its arguments: arrays, ``jax.ShapeDtypeStruct``, or pytrees of these.
      rule: ``"early_bird"`` or ``"macs"``.
      global_pool: whether a mean over all spatial axes counts as a pooling, 1 for each entry of its input.
      while_trips: as for `wormjax.evaluation.macs`.

    Returns:
      `Flops`, exact Python integers.

    Raises:
      ValueError: an unknown rule; or what `wormjax.evaluation.macs` raises.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> x, w, b = (jax.ShapeDtypeStruct(s, "float32") for s in ((8, 3), (3, 5), (5,)))
      >>> layer = lambda x, w, b: jax.nn.relu(x @ w + b[None])
      >>> flops(layer, x, w, b)
      Flops(convolution=0, linear=280, normalisation=0, activation=40, pooling=0)
      >>> int(flops(layer, x, w, b, rule="macs"))
      240

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """
    if rule not in get_args(Rule):
        raise ValueError(f"flops got rule={rule!r}. Give one of {', '.join(get_args(Rule))}.")

    def of(jaxpr: Jaxpr | ClosedJaxpr) -> Flops:
        ops = inlined(jaxpr).ops
        layers = _products(ops) if rule == "macs" else _layers(ops, global_pool)
        inside = (of_inner(op.eqn, of, Flops(), while_trips=while_trips) for op in ops)
        return sum((*layers, *inside), start=Flops())

    return of(jax.make_jaxpr(fn)(*args))


def _layers(ops: tuple[Op, ...], global_pool: bool) -> Iterator[Flops]:
    yield from _products(ops)
    roots = _Roots(ops)
    for op in ops:
        size = sum(value.size for value in op.outputs)
        if op.name == "add":
            product = _biased(op)
            if product is not None:
                yield _of_product(product, size)
        elif op.name in ("mul", "div"):
            if op.outputs[0] in roots.normalised:
                yield Flops(normalisation=2 * size)
            if global_pool:
                yield Flops(pooling=_pooled(op))
        elif op.name == "max":
            if _is_relu(op) and op.outputs[0] not in roots.clamped:
                yield Flops(activation=size)
        elif op.name in _POOLS:
            yield Flops(pooling=math.prod(op.eqn.params["window_dimensions"]) * size)


def _products(ops: tuple[Op, ...]) -> Iterator[Flops]:
    for op in ops:
        count = of_equation(op.eqn)
        if count is not None:
            yield _of_product(op, 2 * count)


def _of_product(op: Op, count: int) -> Flops:
    return Flops(convolution=count) if op.name == "conv_general_dilated" else Flops(linear=count)


def _biased(op: Op) -> Op | None:
    """Return the product to which an addition adds a bias."""
    for product, bias in (op.inputs, op.inputs[::-1]):
        made = _source(product).op
        if made is None or made.name not in _PRODUCTS:
            continue
        source, rank = _source(bias), len(made.outputs[0].shape)
        if source.size in _features(made) and 0 < len(source.shape) < rank:
            return made
    return None


def _features(product: Op) -> set[int]:
    """Return how many features a product may have: a dot product does not tell which side is the weight."""
    params, shapes = product.eqn.params, [value.shape for value in product.inputs]
    if product.name == "conv_general_dilated":
        return {product.outputs[0].shape[params["dimension_numbers"].out_spec[1]]}
    contracted, batch = params["dimension_numbers"]
    found = set()
    for shape, summed, shared in zip(shapes, contracted, batch, strict=True):
        free = math.prod(n for axis, n in enumerate(shape) if axis not in (*summed, *shared))
        found |= {free, free * math.prod(shape[axis] for axis in shared)}
    return found


def _pooled(op: Op) -> int:
    """Return the entries of a map whose mean over its two spatial axes an operation finishes, else 0."""
    made, by = _source(op.inputs[0]).op, _source(op.inputs[1]).literal
    if made is None or made.name != "reduce_sum" or by is None:
        return 0
    shape, axes = made.inputs[0].shape, made.eqn.params["axes"]
    if len(shape) != 4 or len(axes) != 2 or 0 in axes:
        return 0
    count, by = math.prod(shape[axis] for axis in axes), float(by)
    divides = np.isclose(by, count) if op.name == "div" else np.isclose(by * count, 1)
    return made.inputs[0].size if divides else 0


def _source(value: Value) -> Value:
    """Return what a value was before it was only given another form."""
    return list(before(value, _RESHAPED))[-1]


def _rank(value: Value) -> int:
    """Return the lowest rank that a value had on its way: a scale spread over a map has 1."""
    return min(len(v.shape) for v in before(value, _RESHAPED))


def _is_relu(op: Op) -> bool:
    """Whether a maximum is of floats and zero; of integers it holds an index in bounds."""
    literals = [_source(value).literal for value in op.inputs]
    aval: Any = op.eqn.outvars[0].aval
    is_float = jnp.issubdtype(aval.dtype, jnp.floating)
    return is_float and any(x is not None and bool(np.all(np.asarray(x) == 0)) for x in literals)


class _Roots:
    """What is made of the roots of variances, and where an input is divided by it.

    Attributes:
      normalised: the results of those products and quotients.
      clamped: maxima under a root: they keep a variance above zero.
    """

    def __init__(self, ops: tuple[Op, ...]):
        self.normalised: set[Value] = set()
        self.clamped: set[Value] = set()
        self._ranks: dict[Value, int] = {}  # by result, the rank of the variance behind it
        for op in ops:
            if op.name in ("rsqrt", "sqrt"):
                self._begin(op)
            elif op.name in _SCALED:
                self._follow(op)

    def _begin(self, op: Op) -> None:
        chain = list(_variance(op.inputs[0]))
        rank = min(len(value.shape) for value in chain)
        if rank:  # the root of a number is a constant, such as that of a head's width
            self._ranks[op.outputs[0]] = rank
            self.clamped |= {v for v in chain if v.op is not None and v.op.name == "max"}

    def _follow(self, op: Op) -> None:
        known = [self._ranks[value] for value in op.inputs if value in self._ranks]
        if not known:
            return
        others = [value for value in op.inputs if value not in self._ranks]
        if all(_rank(value) <= max(known) for value in others):
            self._ranks[op.outputs[0]] = max(known)
        elif op.name == "mul" or (op.name == "div" and op.inputs[1] in self._ranks):
            self.normalised.add(op.outputs[0])


def _variance(value: Value) -> Iterator[Value]:
    """Yield what is under a root, back to where more than one array goes into it."""
    while True:
        yield value
        op = value.op
        if op is None or op.name not in _SCALED:
            return
        arrays = [v for v in op.inputs if _rank(v)]
        if len(arrays) != 1:
            return
        value = arrays[0]
