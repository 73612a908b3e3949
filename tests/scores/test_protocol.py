"""The score protocol: what `check` refuses, and the parts that scores are built from."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wormjax import scores
from wormjax.scores._protocol import is_kernel, lay_out


def test_never_is_a_rank_0_infinity():
    assert scores.never().shape == ()
    assert scores.never().dtype == jnp.float32
    assert scores.never() == jnp.inf
    assert jax.jit(scores.never)() == jnp.inf


PARAMS = {"a": {"w": jnp.ones((2, 3))}, "b": jnp.ones(3)}


@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (2, 1), (1, 1), ()])
def test_check_accepts_what_broadcasts(shape):
    scores.check({"a": {"w": jnp.ones(shape)}, "b": scores.never()}, PARAMS)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 3, 1), (2, 2), (0, 3)])
def test_check_names_the_leaf_that_does_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"'a/w' has shape .*parameter's \(2, 3\)"):
        scores.check({"a": {"w": jnp.ones(shape)}, "b": scores.never()}, PARAMS)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_check_names_the_leaf_that_is_not_finite(bad):
    tree = {"a": {"w": jnp.ones((2, 3)).at[1, 2].set(bad)}, "b": scores.never()}
    with pytest.raises(ValueError, match="'a/w' holds NaN or infinity"):
        scores.check(tree, PARAMS)


def test_check_names_the_leaf_of_another_dtype():
    with pytest.raises(ValueError, match="'b' has dtype int32"):
        scores.check({"a": {"w": scores.never()}, "b": jnp.arange(3)}, PARAMS)


def test_check_names_the_missing_and_the_surplus_leaf():
    with pytest.raises(ValueError, match="'a/w' is missing"):
        scores.check({"a": {}, "b": scores.never()}, PARAMS)
    with pytest.raises(ValueError, match="'c' is not in params"):
        scores.check({"a": {"w": scores.never()}, "b": scores.never(), "c": scores.never()}, PARAMS)


def test_check_under_jit_looks_at_shapes_only():
    @jax.jit
    def checked(x):
        scores.check({"w": x}, {"w": jnp.ones(2)})
        return x

    assert np.isnan(checked(jnp.array([jnp.nan, 1.0]))).tolist() == [True, False]
    with pytest.raises(ValueError, match="'w' has shape"):
        checked(jnp.ones(3))


def test_a_hidden_leaf_keeps_the_places_of_the_others():
    whole = lay_out({"a": jnp.ones((1, 1)), "b": jnp.ones((1, 1))}, None, is_kernel)
    part = lay_out({"a": optax.MaskedNode(), "b": jnp.ones((1, 1))}, None, is_kernel)
    assert [leaf.index for leaf in whole.leaves] == [0, 1]
    assert [leaf.index for leaf in part.leaves] == [1]
    assert (whole.is_part, part.is_part) == (False, True)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("conv/kernel", (3, 3, 1, 2), True),
        ("embed/embedding", (10, 4), True),
        ("layers/0/weight", (4, 4), True),
        ("0", (4, 4), True),
        ("conv/bias", (2,), False),
        ("layers/attention/query/bias", (2, 4), False),
        ("layers/norm/scale", (12, 4), False),
        ("norm/gamma", (4,), False),
        ("bias/kernel", (4, 4), True),
    ],
)
def test_what_counts_as_a_kernel(name, shape, expected):
    assert is_kernel(name, np.ones(shape, np.float32)) is expected
