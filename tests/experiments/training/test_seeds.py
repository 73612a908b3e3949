import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training import init_state, stack_seeds, take_seed


def one(seed):
    params = {"w": jnp.arange(6.0).reshape(2, 3) + seed, "b": jnp.ones((), jnp.bfloat16)}
    return init_state(params, {"on": jnp.array(True)}, optax.adam(0.1), jax.random.key(seed))


def bits(tree):
    raw = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in jax.tree.leaves(tree)
    ]
    return [(np.asarray(x).dtype, np.asarray(x).tobytes()) for x in raw]


def test_take_undoes_stack_for_every_kind_of_leaf():
    states = [one(0), one(1), one(2)]
    stacked = stack_seeds(states)
    assert stacked.params["w"].shape == (3, 2, 3)
    assert stacked.key.shape == (3,)
    for i, state in enumerate(states):
        back = take_seed(stacked, i)
        assert jax.tree.structure(back) == jax.tree.structure(state)
        assert bits(back) == bits(state)


def test_a_stack_of_one_owns_its_buffers():
    state = one(0)
    stacked = stack_seeds([state])
    for leaf in jax.tree.leaves(stacked):
        leaf.delete()
    np.testing.assert_array_equal(state.params["w"], np.arange(6.0).reshape(2, 3))


def test_wrong_seeds_are_sentences():
    with pytest.raises(ValueError, match="at least one seed's"):
        stack_seeds([])
    with pytest.raises(ValueError, match="no seed at position 2: the tree holds 2"):
        take_seed(stack_seeds([one(0), one(1)]), 2)
    with pytest.raises(ValueError, match=r"leaf 'b'.*Stack the seeds with stack_seeds"):
        take_seed({"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))}, 0)
    with pytest.raises(ValueError, match="leaf 'a'"):
        take_seed({"a": jnp.ones(())}, 0)
    with pytest.raises(ValueError, match="no leaf"):
        take_seed({}, 0)


def test_a_state_wants_a_typed_key():
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        init_state({}, {}, optax.sgd(0.1), jax.random.PRNGKey(0))
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        init_state({}, {}, optax.sgd(0.1), 3)
