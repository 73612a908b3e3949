"""Foresight pruning of units: the ticket is smaller and computes what the masked network computes."""

import jax
import jax.numpy as jnp
import numpy as np

import wormjax as wj


def apply(params, x):
    x = jax.nn.relu(x @ params["a"] + params["shift"][None])
    return jax.nn.relu(x @ params["b"]) @ params["c"]


def test_units_go_over_rounds_and_the_ticket_is_small():
    rng = np.random.default_rng(0)
    shapes = {"a": (4, 8), "b": (8, 6), "c": (6, 3)}
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    params["shift"] = jnp.zeros(8)
    x = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    groups = wj.find_groups(apply, params, x)
    kernels = {k: k != "shift" for k in params}
    method = wj.foresight.methods.px(apply, prunable=kernels)
    plan = wj.foresight.prune_units(method, params, [x], groups, keep=0.5, rounds=3)
    assert sum(int(k.sum()) for k in plan.kept.values()) == 7
    ticket = wj.shrink(plan, params)
    masked = wj.apply_masks(params, plan.masks)
    small = jax.jit(ticket.apply)(ticket.params, x)
    np.testing.assert_allclose(small, jax.jit(apply)(masked, x), rtol=1e-5, atol=1e-6)
    assert sum(p.size for p in jax.tree.leaves(ticket.params)) < 0.5 * sum(
        p.size for p in jax.tree.leaves(params)
    )
