"""Small trainings that several tests run: one kernel, a bias, a scale."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import wormjax as wj
from wormjax.dst import schedules

KEY = jax.random.key(0)
SHAPE = (6, 8)


def start(seed=0, dtype=np.float32):
    random = np.random.default_rng(seed)
    return {
        "dense": {
            "kernel": jnp.asarray(random.normal(size=SHAPE), dtype),
            "bias": jnp.asarray(random.normal(size=SHAPE[1]), dtype),
        },
        "scale": jnp.ones(3, dtype),
    }


def gradients(steps, seed=1, dtype=np.float32):
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: jnp.asarray(random.normal(size=(steps, *p.shape)), dtype), start()
    )


def training(inner=None, **settings):
    options = {
        "key": KEY,
        "density": 0.25,
        "distribution": "uniform",
        "schedule": schedules.constant(0.5),
        "every": 2,
        "stop": 10**6,
    }
    inner = optax.sgd(0.1, momentum=0.9) if inner is None else inner
    return wj.sparse_training(inner, **{**options, **settings})


def run(tx, params, grads, state=None, update=None, **extra):
    """Every step's parameters and masks, by one scan."""
    state = tx.init(params) if state is None else state

    def step(carry, g):
        params, state = carry
        updates, state = (update or tx.update)(g, state, params, **extra)
        params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)
        return (params, state), (params, state_masks(state))

    def state_masks(state):
        return wj.masks_of(state, params)["dense"]["kernel"]

    (params, state), (path, masks) = jax.jit(lambda c, g: jax.lax.scan(step, c, g))(
        (params, state), grads
    )
    return params, state, path["dense"]["kernel"], np.asarray(masks)


def moved_once(mask, w, g, fraction=0.5, **settings):
    """One mask update of one leaf in the first step; masks and weights after it."""
    tx = training(
        settings.pop("inner", optax.sgd(0.0)),
        masks={"w": mask},
        prunable={"w": True},
        schedule=schedules.constant(fraction),
        every=1,
        **settings,
    )
    params = {"w": jnp.asarray(w)}
    updates, state = tx.update({"w": jnp.asarray(g)}, tx.init(params), params)
    return np.asarray(state.masks["w"]), np.asarray(params["w"] + updates["w"])


W = np.array([0.5, -0.4, 0.3, -0.2, 0.1, -0.05, 0, 0], np.float32)
G = np.array([0.1, -0.6, 0.05, 0.9, -0.3, 0.02, 1, -2], np.float32)
M = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool)
