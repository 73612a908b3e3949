"""A bound on the density of leaves is cut with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import wormjax as wj

PARAMS = {
    name: jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
    for seed, (name, shape) in enumerate({"a": (5, 8), "b": (8, 3)}.items())
}


def apply(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


def test_the_bound_of_shared_growth_is_the_same_part_of_the_small_leaf():
    tx = wj.sparse_training(
        optax.sgd(0.1, momentum=0.9),
        key=jax.random.key(0),
        density=0.25,
        distribution="uniform",
        prunable={"a": True, "b": True},
        grow="redistribution",
        max_density={"^a$": 0.5},
        every=2,
        stop=4,
    )
    state = tx.init(PARAMS)
    assert state.most.tolist() == [20, 24]
    left = np.arange(8) < 4
    plan = wj.plan(
        wj.find_groups(apply, PARAMS, jnp.ones((2, 5))),
        masks={"a": jnp.asarray(left[None]), "b": jnp.array(True)},
    )
    ticket = wj.shrink(plan, PARAMS, opt_state=state, tx=tx)
    assert ticket.params["a"].shape == (5, 4)
    assert ticket.opt_state.most.tolist() == [10, 12]
    assert (np.asarray(ticket.opt_state.counts) <= [10, 12]).all()
