"""Reductions over a pruned axis: removed entries are accounted for, in values and in derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from wormjax.structure._replay import ReplayError
from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


PARAMS = {"a": normal(4, 8), "b": normal(8, 3), "e": normal(4, 6)}
X, ROW = normal(5, 4), normal(5, 1)

# what the removed entries of a (5, 8) hidden layer hold: zero, a number, something of each row
HIDDEN = {
    "zero": lambda p, x, row: x @ p["a"],
    "number": lambda p, x, row: lax.cos(x @ p["a"]),
    "row": lambda p, x, row: x @ p["a"] + row,
    "large row": lambda p, x, row: x @ p["a"] + 9.0 * row,
    "product": lambda p, x, row: lax.cos(x @ p["a"]) * row,
}
SUBSET = {"a": PARAMS["a"]}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=list(HIDDEN))
@pytest.mark.parametrize(
    "reduce", [lax.reduce_sum, lax.reduce_prod, lax.reduce_max, lax.reduce_min]
)
def test_a_pruned_axis_is_reduced_with_its_removed_entries(check_function, reduce, hidden):
    def apply(p, x, row):
        return reduce(hidden(p, x, row), (1,))

    assert check_function(apply, SUBSET, X, ROW).free == 1


TIES = {  # whole rows, removed entries included, hold one value and move in different ways
    "derivatives differ": lambda h, row: h - lax.stop_gradient(h) + row,
    "from above": lambda h, row: lax.max(h + row, row),
    "from below": lambda h, row: lax.min(h + row, row),
}


@pytest.mark.parametrize("tie", TIES.values(), ids=list(TIES))
@pytest.mark.parametrize("reduce", [lax.reduce_max, lax.reduce_min])
def test_ties_with_removed_entries_share_the_derivative(check_function, reduce, tie):
    def apply(p, x, row):
        return reduce(tie(x @ p["a"], row), (1,))

    assert check_function(apply, SUBSET, X, ROW).free == 1


@pytest.mark.parametrize("reduce", [lax.reduce_and, lax.reduce_or, lax.reduce_xor])
@pytest.mark.parametrize("compare", [lax.ge, lax.gt, lax.le, lax.lt])
def test_logical_reductions(check_function, reduce, compare):
    def apply(p, x):
        hidden = x @ p["a"]
        return reduce(compare(hidden, 0.0), (1,)), reduce(
            lax.convert_element_type(hidden, int) | 5, (1,)
        )

    for ratio in (0.4, 0.5):  # an odd and an even number of removed entries
        assert check_function(apply, SUBSET, 0.1 * abs(X), ratio=ratio).free == 1


def outer(p, x):
    """(5, 8, 6), both last axes pruned."""
    left, right = x @ p["a"], x @ p["e"]
    return lax.dot_general(left, right, (((), ()), ((0,), (0,))))


TWO = {
    "zero": lambda p, x: outer(p, x),
    "number": lambda p, x: lax.cos(outer(p, x)),
}


@pytest.mark.parametrize("hidden", TWO.values(), ids=list(TWO))
@pytest.mark.parametrize("axes", [(1, 2), (0, 1, 2), (1,), (2,)])
@pytest.mark.parametrize("reduce", [lax.reduce_sum, lax.reduce_max])
def test_two_pruned_axes(check_function, reduce, axes, hidden):
    def apply(p, x):
        found = reduce(hidden(p, x), axes)
        # the ghost of what is left is asked for here
        return lax.reduce_sum(found, (1,)) if found.ndim == 2 else found

    assert check_function(apply, {"a": PARAMS["a"], "e": PARAMS["e"]}, X).free == 2


UNKNOWN = {
    "both at once": lambda h: lax.reduce_sum(h, (1, 2)),
    "one after the other": lambda h: lax.reduce_sum(lax.reduce_sum(h, (1,)), (1,)),
}


@pytest.mark.parametrize("reduce", UNKNOWN.values(), ids=list(UNKNOWN))
def test_entries_removed_twice_must_be_numbers(check_function, reduce):
    def apply(
        p, x, row
    ):  # where both a unit of "a" and one of "e" are gone, only arrays were known
        return reduce(lax.cos(outer(p, x)) * row)

    message = r"reduce_sum at test_reduce.py:\d+: .*leave the group whole"
    with pytest.raises(ReplayError, match=message):
        check_function(apply, {"a": PARAMS["a"], "e": PARAMS["e"]}, X, normal(5, 1, 1))


SHIFT, LABELS = normal(8), np.array([1, 0, 2, 2, 1])

# removed entries that differ and are known: an array that the function has captured stands beside them
BESIDE = {
    "mean": lambda h, x: jnp.mean((h + SHIFT[None]) ** 2, 1),
    "maximum": lambda h, x: jnp.max(h + SHIFT[None], 1),
    "product": lambda h, x: jnp.prod(1.0 + h * SHIFT[None] + SHIFT[None], 1),
    "beside rows": lambda h, x: jnp.sum(jnp.exp(h + x[:, :1]) * SHIFT[None], 1),
    "cross entropy": lambda h, x: optax.softmax_cross_entropy(h, np.eye(8)[LABELS].astype("f4")),
    "counted classes": lambda h, x: optax.softmax_cross_entropy(h, jax.nn.one_hot(LABELS, 8)),
}


@pytest.mark.parametrize("name", BESIDE)
def test_removed_entries_beside_a_captured_array_are_reduced_one_by_one(check_function, name):
    assert check_function(lambda p, x: BESIDE[name](x @ p["a"], x), SUBSET, X).free == 1


def test_integer_labels_that_are_captured_look_up_their_classes(check_function):
    def apply(p, x):
        logits = jnp.tanh(x @ p["e"]) @ p["f"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)

    checked = check_function(apply, {"e": PARAMS["e"], "f": normal(6, 3)}, X)
    assert checked.free == 1
    assert checked.traced.dims.reasons(checked.traced.params[1][1])


def test_a_reduction_of_an_unpruned_axis_passes_the_others(check_function):
    def apply(p, x):
        hidden = lax.cos(x @ p["a"])
        return lax.reduce_sum(lax.reduce_max(hidden, (0,)), (0,)), lax.reduce_prod(hidden, (0, 1))

    assert check_function(apply, SUBSET, X).free == 1


def test_integers_and_half_precision(check_function):
    def apply(p, x):
        hidden = lax.cos(x @ p["a"])
        count = lax.reduce_sum(lax.convert_element_type(hidden > 0.0, jnp.uint8), (1,))
        most = lax.reduce_max(lax.convert_element_type(10.0 * hidden, jnp.int8), (1,))
        return count, most, lax.reduce_sum(lax.convert_element_type(hidden, jnp.bfloat16), (1,))

    assert check_function(apply, SUBSET, X, tolerance=2e-2).free == 1


@pytest.mark.parametrize("position", [lax.argmax, lax.argmin])
def test_positions_keep_their_axis_and_pass_the_others(check_function, position):
    def along_channels(p, x):
        return position(x @ p["a"], 1, jnp.int32)

    traced = trace(along_channels, SUBSET, (X,), None, PROPAGATE)
    [reason] = traced.dims.reasons(traced.params[0][1])
    assert "positions along this axis" in reason.why
    assert reason.primitive in ("argmax", "argmin")
    assert reason.source.startswith("test_reduce.py:")

    def along_the_batch(p, x):
        return lax.reduce_sum(position(lax.sin(x @ p["a"]), 0, jnp.int32), (0,))

    assert check_function(along_the_batch, SUBSET, X).free == 1


def test_a_function_of_the_program_keeps_its_axis_and_passes_the_others(check_function):
    def halves(x, axis):
        return lax.reduce(x, np.float32(0), lambda a, b: a + 0.5 * b, (axis,))

    traced = trace(lambda p, x: halves(x @ p["a"], -1), SUBSET, (X,), None, PROPAGATE)
    assert "a function of the program" in traced.dims.reasons(traced.params[0][1])[0].why

    def pick(a, b):
        first = a[0] > b[0]
        return lax.select(first, a[0], b[0]), lax.select(first, a[1], b[1])

    def two(p, x):
        hidden = lax.stop_gradient(x @ p["a"])  # JAX does not differentiate this one
        start = np.float32(-9), np.float32(0)
        top, other = lax.reduce((hidden, lax.cos(hidden)), start, pick, (0,))
        return lax.reduce_sum(top, (0,)), lax.reduce_sum(other, (0,))

    assert check_function(two, SUBSET, X).free == 1


# ---------------------------------------------------------------------- normalisations over a pruned axis


def layer_norm(x):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    var = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-5)


NORMS = {
    "layer norm, two passes": layer_norm,
    "layer norm, jnp.var": lambda x: (
        (x - x.mean(-1, keepdims=True)) / jnp.sqrt(jnp.var(x, -1, keepdims=True) + 1e-5)
    ),
    "layer norm, one pass": lambda x: (
        (x - x.mean(-1, keepdims=True))
        * lax.rsqrt((x * x).mean(-1, keepdims=True) - x.mean(-1, keepdims=True) ** 2 + 1e-5)
    ),
    "rms norm": lambda x: x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6),
    "l2 norm": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "log softmax": lambda x: jax.nn.log_softmax(x, axis=-1),
    "logsumexp": lambda x: x - jax.nn.logsumexp(x, axis=-1, keepdims=True),
    "standardize": lambda x: jax.nn.standardize(x, axis=-1),
    "max pooling of channels": lambda x: x - jnp.max(x, axis=-1, keepdims=True),
    "norm of a norm": lambda x: layer_norm(jnp.cos(layer_norm(x))),
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
def test_normalising_over_a_pruned_axis_is_exact(check_function, norm):
    def apply(p, x):
        hidden = norm(x @ p["a"])
        return hidden @ p["b"], jnp.sum(hidden * hidden, axis=-1)

    assert check_function(apply, {"a": PARAMS["a"], "b": PARAMS["b"]}, X).free == 1


def test_second_derivatives_of_a_maximum(check_function):
    def apply(p, x):
        def energy(x):
            return lax.reduce_sum(
                jnp.square(lax.reduce_max(jnp.cos(x @ p["a"]) * x[:, :1], (1,))), (0,)
            )

        return jax.jvp(jax.grad(energy), (x,), (jnp.sin(x),))[1]

    assert check_function(apply, SUBSET, X).free == 1


def test_normalising_over_two_pruned_axes(check_function):
    def apply(p, x):
        hidden = outer(p, x)
        mean = hidden.mean((1, 2), keepdims=True)
        return jnp.mean(jnp.exp(hidden), (1, 2)) + jnp.square(mean).sum((1, 2))

    assert check_function(apply, {"a": PARAMS["a"], "e": PARAMS["e"]}, X).free == 2
