"""Breaking a rule is noticed: mistakes that a writer of rules would make, one by one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._replay import Replay, Value, bind
from wormjax.structure.rules import (
    EVALUATE,
    PROPAGATE,
    _conv,
    _elementwise,
    _loops,
    _reduce,
    _slice,
)

NOTICED = (AssertionError, ValueError, TypeError)
SOUND, SOUND_SUM = dict(PROPAGATE), EVALUATE["reduce_sum"]
Break = Callable[[pytest.MonkeyPatch], None]


class Mistake(NamedTuple):
    """A mistake in a rule, and a network that is wrong then.

    Attributes:
      make: breaks the rule.
      apply: the network, a function of the parameters and of x.
      groups: how many groups it has.
    """

    make: Break
    apply: Callable[..., Any]
    groups: int = 1


def propagating(name: str, rule: Callable[..., Any]) -> Break:
    return lambda patch: patch.setitem(PROPAGATE, name, rule)


def evaluating(name: str, rule: Callable[..., Any]) -> Break:
    return lambda patch: patch.setitem(EVALUATE, name, rule)


def replacing(owner: Any, name: str, function: Callable[..., Any]) -> Break:
    return lambda patch: patch.setattr(owner, name, function)


def as_written(run, eqn, *operands):
    """The primitive on what is kept, as the program's text says it."""
    return [Value(x) for x in bind(eqn, [v.array for v in operands])]


def at_kept_size(run, eqn, *operands):
    """The primitive with the shape that is kept, as if nothing had been removed."""
    shape = run.shape(run.axes_of(eqn)[1][0])
    return [Value(x) for x in bind(eqn, [v.array for v in operands], shape=shape)]


def inlined(run, eqn, *operands):
    return run.enter(0, eqn.params["call_jaxpr"], operands)


def mean_of_kept(run, eqn, operand):
    """A sum that, divided as in the program's text, is the mean of what is kept."""
    [[axes], _] = run.axes_of(eqn)
    [value] = SOUND_SUM(run, eqn, operand)
    return [Value(value.array * (axes[1].size / run.size(axes[1])))]


def one_of_the_ties(eqn, counts):
    return lambda array, parts: bind(eqn, [jnp.concatenate([array, *parts], axis=1)])[0]


def fast_factor_first(walk, eqn, operand):
    """A split axis whose factors are taken for the fastest first."""
    [result] = SOUND["reshape"](walk, eqn, operand)
    return [(*result[:-2], result[-1], result[-2])] if len(result) == 3 else [result]


def second_piece_first(walk, eqn, first, second):
    return [(first[0], walk.dims.concat([second[1], first[1]]))]


def second_half_first(walk, eqn, operand):
    return SOUND["split"](walk, eqn, operand)[::-1]


def padding_behind(walk, eqn, operand, value):
    return [(operand[0], walk.dims.concat([operand[1], *walk.fresh([3])]))]


def results_of_the_first(walk, eqn, _, *operands):
    first, *_ = [walk.enter(branch, operands) for branch in eqn.params["branches"]]
    return first


@jax.custom_vjp
def straight_through(h):
    return jnp.round(h)


straight_through.defvjp(lambda h: (jnp.round(h), ()), lambda _, g: (g,))


def depthwise(p, x):
    y, numbers = (x @ p["a"])[None], ("NWC", "WIO", "NWC")
    [y] = lax.conv_general_dilated(
        y, p["k"], (1,), "SAME", dimension_numbers=numbers, feature_group_count=8
    )
    return y @ p["b"]


def recurrent(p, x):
    def step(h, _):
        return jnp.tanh(h @ p["e"] + x @ p["a"]), None

    return lax.scan(step, jnp.zeros((5, 8)), None, length=2)[0] @ p["b"]


def branching(p, x):
    chosen = lax.cond(jnp.argmax(x[0]) > 1, lambda x: x @ p["a"], lambda x: x @ p["c"], x)
    return chosen @ p["b"]


MISTAKES = {
    "a contraction ties nothing": Mistake(
        propagating("dot_general", lambda walk, eqn, lhs, rhs: [(lhs[0], rhs[1])]),
        lambda p, x: x @ p["a"] @ p["b"],
    ),
    "a residual sum ties nothing": Mistake(
        propagating("add", lambda walk, eqn, lhs, rhs: [lhs]),
        lambda p, x: (x @ p["a"] + x @ p["c"]) @ p["b"],
    ),
    "a mean divides by what is kept": Mistake(
        evaluating("reduce_sum", mean_of_kept), lambda p, x: (x @ p["a"]).mean(1)
    ),
    "a maximum overlooks what was removed": Mistake(
        evaluating("reduce_max", as_written),
        lambda p, x: lax.reduce_max(-((x @ p["a"]) ** 2), (1,)),
    ),
    "ties with removed entries have a derivative of their own": Mistake(
        replacing(_reduce, "_extreme", one_of_the_ties),
        lambda p, x: lax.reduce_max(lax.min(x @ p["a"], 0.0), (1,)),
    ),
    "what removed entries add is added once": Mistake(
        replacing(Replay, "removed", lambda run, dim: 1),
        lambda p, x: jnp.cos(x @ p["a"]) @ jnp.cos(x @ p["a"]).T,
    ),
    "relu is inlined": Mistake(
        evaluating("custom_jvp_call", inlined), lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
    ),
    "a straight-through estimator is inlined": Mistake(
        evaluating("custom_vjp_call", inlined), lambda p, x: straight_through(x @ p["a"]) @ p["b"]
    ),
    "a depthwise convolution keeps its number of groups": Mistake(
        evaluating("conv_general_dilated", as_written), depthwise
    ),
    "a depthwise convolution ties nothing": Mistake(
        replacing(_conv, "_tie_groups", lambda *_: None), depthwise
    ),
    "a joined axis begins with the second operand": Mistake(
        propagating("concatenate", second_piece_first),
        lambda p, x: jnp.concatenate([x @ p["a"], x @ p["c"]], axis=1) @ p["d"],
        2,
    ),
    "a split axis begins with the second result": Mistake(
        propagating("split", second_half_first),
        lambda p, x: jnp.split(x @ p["g"], [8], axis=1)[0] @ p["b"],
        2,
    ),
    "factors are taken for the fastest first": Mistake(
        propagating("reshape", fast_factor_first),
        lambda p, x: jnp.sum((x @ p["h"]).reshape(5, 3, 3) * p["w"][None, :, None], (1, 2)),
        2,
    ),
    "padding is behind instead of before": Mistake(
        propagating("pad", padding_behind),
        lambda p, x: lax.pad(x @ p["a"], 1.0, ((0, 0, 0), (3, 0, 0))) @ p["v"],
        2,
    ),
    "a slice begins where it began": Mistake(
        replacing(
            _slice,
            "_kept",
            lambda run, dim, piece, span: span._replace(limit=span.start + run.size(piece)),
        ),
        lambda p, x: (x @ p["g"])[:, 8:] @ p["b"],
        2,
    ),
    "a carry is another one after a step": Mistake(
        replacing(_loops, "_tie", lambda *_: None), recurrent
    ),
    "branches return axes of their own": Mistake(
        propagating("cond", results_of_the_first), branching
    ),
    "a selection takes the first case": Mistake(
        lambda patch: patch.setitem(_elementwise._SETTLED, "select_n", lambda _, inner: inner[1]),
        lambda p, x: jnp.sum(jnp.where(jnp.cos(x @ p["a"]) > 0.5, 3.0, 2.0) * jnp.cos(x @ p["a"])),
    ),
    "kept entries are counted anew": Mistake(
        evaluating("iota", at_kept_size), lambda p, x: jnp.sum((x @ p["a"]) * jnp.arange(8.0)[None])
    ),
    "kept entries are drawn anew": Mistake(
        evaluating("random_bits", at_kept_size),
        lambda p, x: jnp.sum((x @ p["a"]) * jax.random.uniform(jax.random.key(0), (5, 8))),
    ),
}


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


SHAPES = {
    "a": (4, 8),
    "b": (8, 3),
    "c": (4, 8),
    "d": (16, 3),
    "e": (8, 8),
    "g": (4, 16),
    "h": (4, 9),
    "k": (3, 1, 8),
    "v": (11, 3),
    "w": (3,),
}
X = np.concatenate([normal(4, 4), np.zeros((1, 4), np.float32)])  # in the last row layers are 0


def used(apply):
    """The parameters that a network reads."""

    class Noting(dict):
        def __getitem__(self, name):
            seen.add(name)
            return super().__getitem__(name)

    seen, everything = set(), {name: normal(*shape) for name, shape in SHAPES.items()}
    jax.eval_shape(lambda x: apply(Noting(everything), x), X)
    return {name: everything[name] for name in sorted(seen)}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed(name, check_function, monkeypatch):
    make, apply, groups = MISTAKES[name]
    params = used(apply)
    assert check_function(apply, params, X).free == groups
    make(monkeypatch)
    with pytest.raises(NOTICED):
        check_function(apply, params, X)
