"""WORM on a small problem, and a plain loop that does the same.

The loop detects at the updates it should, masks by a sort, multiplies gradients by hand, steps with SGD.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import wormjax as wj

RATE, FACTOR, EVERY = 0.05, 0.25, 3
norm_scale = wj.scores.norm_scale


def start(width=8, seed=0):
    random = np.random.default_rng(seed)
    return {
        "bn": {
            "scale": jnp.asarray(random.uniform(0.1, 1.0, width), jnp.float32),
            "bias": jnp.zeros(width),
        },
        "conv": {"kernel": jnp.asarray(random.normal(size=(2, width)), jnp.float32)},
    }


def gradient_sequence(steps, width=8, seed=1):
    """Gradients that depend on the step alone, so that every wrapper sees the same ones."""
    random = np.random.default_rng(seed)
    shapes = start(width)
    return jax.tree.map(
        lambda p: jnp.asarray(random.normal(size=(steps, *p.shape)), jnp.float32), shapes
    )


def worm(**settings):
    options = {"window": 2, "every": EVERY, "policy": wj.policies.constant(FACTOR)}
    return wj.worm(norm_scale, **{**options, **settings})


def mask_by_sort(scale):
    kept = np.argsort(-np.abs(np.asarray(scale, np.float32)), kind="stable")[: scale.size // 2]
    return np.isin(np.arange(scale.size), kept)


def by_hand(params, grads, every=EVERY, factor=FACTOR):
    """The plain loop; returns the trajectory of the parameters and the last mask."""
    params = jax.tree.map(np.asarray, params)
    steps, trajectory = len(jax.tree.leaves(grads)[0]), []
    for t in range(steps):
        if t % every == 0:
            mask = mask_by_sort(params["bn"]["scale"])
        g = jax.tree.map(lambda x, t=t: np.asarray(x[t]), grads)
        g["bn"] = {k: np.where(mask, v, np.float32(factor) * v) for k, v in g["bn"].items()}
        params = jax.tree.map(lambda p, g: p - np.float32(RATE) * g, params, g)
        trajectory.append(params)
    return trajectory, mask


def close(ours, theirs):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, theirs)


def loop(tx, params, grads, state=None, **extra):
    state = tx.init(params) if state is None else state
    update = jax.jit(tx.update)
    for t in range(len(jax.tree.leaves(grads)[0])):
        g = jax.tree.map(lambda x, t=t: x[t], grads)
        updates, state = update(g, state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params, state


SGD = optax.sgd(RATE)


def scanned(tx, params, state, grads):
    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, state), grads)
