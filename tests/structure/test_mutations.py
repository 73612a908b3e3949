"""Breaking a rule is noticed: each family is broken in several ways, and the masked network then differs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._replay import Value, zeros_removed
from wormjax.structure._trace import Walk, shape_of
from wormjax.structure.rules import EVALUATE, PROPAGATE

NOTICED = (AssertionError, ValueError, TypeError, KeyError)


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


PARAMS, X, BLUR = {"a": normal(4, 8)}, normal(5, 4), normal(3, 1, 1)
ROWS = np.array([[3], [0], [3]])


@jax.custom_jvp
def squared(h):
    return h * h


squared.defjvps(lambda dh, y, h: 3 * h * dh)


@jax.custom_vjp
def cubed(h):
    return h**3


cubed.defvjp(lambda h: (h**3, h), lambda h, g: (5 * h * g,))


def computed(position):
    """A position that the program's text does not tell."""
    return jnp.argmax(jnp.arange(9) == position)


def lifted(rows):
    """The gather of ``rows`` of a matrix."""
    numbers = lax.GatherDimensionNumbers((1,), (0,), (0,))
    return lambda h: lax.gather(h, jnp.asarray(rows), numbers, (1, h.shape[1]), mode="clip")


def written(h):
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    return lax.scatter_add(h, jnp.asarray(ROWS[:2]), h[:2], numbers, mode="clip")


def blurred(h):
    """A depthwise convolution along the rows, one filter for all channels."""
    kernel = jnp.broadcast_to(jnp.asarray(BLUR), (3, 1, h.shape[1]))
    numbers = ("NWC", "WIO", "NWC")
    return lax.conv_general_dilated(
        h[None], kernel, (1,), "SAME", dimension_numbers=numbers, feature_group_count=h.shape[1]
    )


# For each primitive what it does to a (5, 8) layer whose 8 are pruned and whose removed entries are 1: it lets the 8
# pass, or brings them to an end. What comes out is summed.
PASSING = {
    "bitcast_convert_type": lambda h: lax.bitcast_convert_type(
        lax.bitcast_convert_type(h, jnp.int32), jnp.float32
    ),
    "cond": lambda h: lax.cond(computed(1) > 0, lambda h: 2 * h, jnp.exp, h),
    "broadcast_in_dim": lambda h: lax.broadcast_in_dim(h, (2, 5, 8), (1, 2)),
    "squeeze": lambda h: lax.squeeze(h.reshape(5, 1, 8), (1,)),
    "jit": jax.jit(jnp.exp),
    "remat2": jax.checkpoint(lambda h: jnp.sin(jnp.sin(h))),
    "concatenate": lambda h: jnp.concatenate([h, h + 1], 0),
    "conv_general_dilated": blurred,
    "cumsum": lambda h: lax.cumsum(h, 0),
    "custom_jvp_call": squared,
    "custom_vjp_call": cubed,
    "dot_general": lambda h: lax.dot(h, h.T) @ h,
    "dynamic_slice": lambda h: lax.dynamic_slice(h, (computed(1), 0), (2, 8)),
    "dynamic_update_slice": lambda h: lax.dynamic_update_slice(h, h[:2], (computed(1), 0)),
    "exp": jnp.exp,
    "add": lambda h: h + jnp.flip(h, 0),
    "mul": lambda h: h * lax.stop_gradient(h),
    "gather": lambda h: lifted(ROWS)(h)[:, np.array([7, 2, 1, 5, 6, 0, 3, 4])],
    "scan": lambda h: lax.scan(lambda c, _: (jnp.sin(c) + h, None), h, None, length=2)[0],
    "while": lambda h: lax.stop_gradient(
        lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, h))[1]
    ),
    "pad": lambda h: lax.pad(h, 2.0, ((1, 0, 0), (0, 0, 0))),
    "optimization_barrier": lax.optimization_barrier,
    "reduce_sum": lambda h: lax.reduce_sum(lax.reduce_sum(h, (0,)) ** 2, (0,)),
    "reduce_max": lambda h: lax.reduce_max(lax.reduce_max(h - 9, (0,)), (0,)),
    "reshape": lambda h: lax.reshape(h, (40,)),
    "scatter-add": written,
    "slice": lambda h: h[1:, :5],
    "sort": lambda h: lax.sort(h, dimension=0),
    "split": lambda h: lax.split(h, (3, 5), axis=1)[0],
    "transpose": lambda h: lax.transpose(h, (1, 0)),
    "rev": lambda h: lax.rev(h, (0, 1)),
    "reduce_window_max": lambda h: lax.reduce_window(h, -jnp.inf, lax.max, (2, 1), (1, 1), "VALID"),
}
LOCAL = {"iota": lambda h: h * lax.broadcasted_iota(jnp.float32, h.shape, 0)}

# What must keep the 8 whole.
BARRED = {
    "cumsum": lambda h: lax.cumsum(h, 1),
    "sort": lambda h: lax.sort(h, dimension=1) * jnp.arange(8.0)[None],
    "argmax": lambda h: lax.argmax(h, 1, jnp.int32),
    "reduce_window_max": lambda h: lax.reduce_window(h, -jnp.inf, lax.max, (1, 2), (1, 1), "VALID"),
    "gather": lambda h: jnp.take(h, computed(4), axis=1, mode="clip"),
    "dynamic_slice": lambda h: lax.dynamic_slice(h, (0, computed(4)), (5, 2)),
    "scatter-mul": lambda h: h.at[:, computed(4)].mul(3.0, mode="clip"),
    "slice": lambda h: h[:, ::3],
}


def network(layer):
    def apply(params, x):
        return jnp.sum(layer(lax.cos(x @ params["a"])))

    return apply


def untied(rule):
    """Results have axes of their own."""
    return lambda walk, eqn, *operands: [walk.fresh(shape_of(v)) for v in eqn.outvars]


def forgetful(rule):
    """Nobody knows what removed entries of the results hold."""
    return lambda run, eqn, *operands: [Value(v.array) for v in rule(run, eqn, *operands)]


def careless(rule):
    """Removed entries of the operands are taken for zero."""

    def zero(value):
        return zeros_removed(value.array) if getattr(value.array, "ndim", 0) else value

    return lambda run, eqn, *operands: rule(run, eqn, *map(zero, operands))


def lax_walk(rule):
    """No axis has to stay whole."""

    def broken(walk, eqn, *operands):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Walk, "fix", lambda *_: None)
            return rule(walk, eqn, *operands)

    return broken


@pytest.mark.parametrize("name", [*PASSING, *LOCAL])
def test_unbroken_rules_pass(name, check_function):
    apply = network((PASSING | LOCAL)[name])
    assert any(eqn.primitive.name == name for eqn in equations(apply))
    assert check_function(apply, PARAMS, X).free >= 1


def equations(apply):
    """All equations of a program, those of inner programs too."""
    todo = [jax.make_jaxpr(apply)(PARAMS, X).jaxpr]
    while todo:
        for eqn in todo.pop().eqns:
            yield eqn
            for value in jax.tree.leaves(tuple(eqn.params.values())):
                inner = getattr(value, "jaxpr", value)
                todo += [inner] if hasattr(inner, "eqns") else []


@pytest.mark.slow
@pytest.mark.parametrize("name", PASSING)
def test_untied_results_are_noticed(name, check_function, monkeypatch):
    monkeypatch.setitem(PROPAGATE, name, untied(PROPAGATE[name]))
    with pytest.raises(NOTICED):
        check_function(network(PASSING[name]), PARAMS, X)


@pytest.mark.parametrize("name", [*PASSING, *LOCAL])
def test_forgotten_entries_are_noticed(name, check_function, monkeypatch):
    monkeypatch.setitem(EVALUATE, name, forgetful(EVALUATE[name]))
    with pytest.raises(NOTICED):
        check_function(network((PASSING | LOCAL)[name]), PARAMS, X)


@pytest.mark.slow
@pytest.mark.parametrize("name", PASSING)
def test_entries_taken_for_zero_are_noticed(name, check_function, monkeypatch):
    monkeypatch.setitem(EVALUATE, name, careless(EVALUATE[name]))
    with pytest.raises(NOTICED):
        check_function(network(PASSING[name]), PARAMS, X)


@pytest.mark.parametrize("name", BARRED)
def test_freed_axes_are_noticed(name, check_function, monkeypatch):
    apply = network(BARRED[name])
    assert check_function(apply, PARAMS, X).free == 0
    monkeypatch.setitem(PROPAGATE, name, lax_walk(PROPAGATE[name]))
    with pytest.raises(NOTICED):
        check_function(apply, PARAMS, X)
