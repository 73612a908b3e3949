"""WORM over seeds and devices, against a plain loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import wormjax as wj
from tests.compiling import counted
from tests.laws.composition import (
    SGD,
    by_hand,
    close,
    gradient_sequence,
    mask_by_sort,
    scanned,
    start,
    worm,
)


def conditionals(compiled):
    return sum(" conditional(" in line for line in compiled.as_text().splitlines())


def test_eight_seeds_by_vmap_keep_one_conditional_and_equal_eight_runs():
    # a batched counter would turn the gate into a select that detects at every update
    tx, seeds, steps = optax.chain(worm(), SGD), 8, 8
    singles = [start(seed=s) for s in range(seeds)]
    grads = [gradient_sequence(steps, seed=100 + s) for s in range(seeds)]
    stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
    params, each = stack(*singles), stack(*grads)
    axes = wj.seed_axes(tx.init(singles[0]))
    states = jax.vmap(tx.init, out_axes=axes)(params)
    assert states[0].count.shape == ()

    def update(g, state, p):
        updates, state = tx.update(g, state, p)
        return optax.apply_updates(p, updates), state

    batched = jax.jit(jax.vmap(update, in_axes=(0, axes, 0), out_axes=(0, axes)))
    first = jax.tree.map(lambda x: x[:, 0], each)
    lowered = batched.lower(first, states, params)
    assert conditionals(lowered.compile()) == 1
    for t in range(steps):
        params, states = batched(jax.tree.map(lambda x, t=t: x[:, t], each), states, params)

    run = jax.jit(functools.partial(scanned, tx))
    for seed in range(seeds):
        (alone, state), _ = run(singles[seed], tx.init(singles[seed]), grads[seed])
        close(jax.tree.map(lambda x, s=seed: x[s], params), alone)
        mine = dataclasses.replace(states[0], count=jnp.zeros(seeds))
        mine = jax.tree.map(lambda x, s=seed: x[s], mine)
        jax.tree.map(np.testing.assert_array_equal, mine.detector, state[0].detector)
        jax.tree.map(np.testing.assert_array_equal, mine.truncation, state[0].truncation)
        close(alone, by_hand(singles[seed], grads[seed])[0][-1])


def test_seeds_by_vmap_under_the_driver_and_inside_a_scan():
    seeds = 3
    tx = optax.chain(worm(every=None), SGD)
    singles = [start(seed=s) for s in range(seeds)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *singles)
    axes = wj.seed_axes(tx.init(singles[0]))
    states = jax.vmap(tx.init, out_axes=axes)(params)
    states = jax.vmap(wj.detect, in_axes=(0, axes), out_axes=axes)(params, states)
    for s in range(seeds):
        mask = mask_by_sort(singles[s]["bn"]["scale"])
        np.testing.assert_array_equal(states[0].truncation.masks["bn"]["scale"][s], mask)

    gated = optax.chain(worm(), SGD)
    axes = wj.seed_axes(gated.init(singles[0]))
    states = jax.vmap(gated.init, out_axes=axes)(params)
    grads = [gradient_sequence(7, seed=50 + s) for s in range(seeds)]
    each = jax.tree.map(lambda *x: jnp.stack(x, axis=1), *grads)  # steps first, then seeds

    @jax.jit
    def train(params, states, each):
        def step(carry, g):
            p, s = carry
            u, s = jax.vmap(gated.update, (0, axes, 0), (0, axes))(g, s, p)
            return (optax.apply_updates(p, u), s), None

        return jax.lax.scan(step, (params, states), each)[0]

    compiled = train.lower(params, states, each).compile()
    assert conditionals(compiled) == 1
    after, states = train(params, states, each)
    assert int(states[0].count) == 7
    for s in range(seeds):
        close(jax.tree.map(lambda x, s=s: x[s], after), by_hand(singles[s], grads[s])[0][-1])


WIDE = 1024


def mesh_of(kind):
    return jax.make_mesh((8,), ("x",), axis_types=(kind,))


def sharded(mesh, tree, *before):
    def put(x):
        spec = P(*before, *(None,) * (x.ndim - 1 - len(before)), "x")
        return jax.device_put(x, NamedSharding(mesh, spec))

    return jax.tree.map(put, tree)


def test_with_sharded_parameters_the_masks_shard_like_them_and_no_leaf_is_gathered():
    mesh = mesh_of(AxisType.Auto)
    params = sharded(mesh, start(WIDE))
    grads = gradient_sequence(4, WIDE)
    tx = optax.chain(worm(), SGD)
    state, (update, programs) = tx.init(params), counted(tx.update)
    layout = params["bn"]["scale"].sharding

    def assert_laid_out(state):
        mine = state[0]
        for leaf in (
            mine.detector.planes["bn"]["scale"],
            mine.truncation.masks["bn"]["scale"],
            mine.truncation.masks["bn"]["bias"],
            wj.early_bird_state(state).masks["bn"]["scale"],
        ):
            assert leaf.sharding.is_equivalent_to(layout, 1)

    assert_laid_out(state)
    first = jax.tree.map(lambda g: g[0], grads)
    text = update.lower(sharded(mesh, first), state, params).compile().as_text()
    moved = [
        line
        for line in text.splitlines()
        if any(f" {op}" in line for op in ("all-gather", "all-to-all", "collective-permute"))
    ]
    assert all(f"[{n}" not in line for line in moved for n in (WIDE, WIDE // 8)), moved
    assert any("all-reduce" in line or "all-gather" in line for line in text.splitlines())

    looked_at = len(programs)
    for t in range(4):
        g = sharded(mesh, jax.tree.map(lambda x, t=t: x[t], grads))
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        assert_laid_out(state)
    # once for scalars on one device, as optax's own counters start, and once for them everywhere
    assert len(programs) - looked_at <= 2
    expected, mask = by_hand(start(WIDE), grads)
    close(params, expected[-1])
    np.testing.assert_array_equal(wj.masks_of(state, params)["bn"]["scale"], mask)
    assert_laid_out(wj.detect(params, state))


def test_with_explicitly_sharded_parameters():
    mesh = mesh_of(AxisType.Explicit)
    grads = gradient_sequence(4)
    with jax.set_mesh(mesh):
        params = sharded(mesh, start())
        tx = optax.chain(worm(), SGD)
        state, update = tx.init(params), jax.jit(tx.update)
        before = jax.tree.map(jax.typeof, state)
        for t in range(4):
            g = sharded(mesh, jax.tree.map(lambda x, t=t: x[t], grads))
            updates, state = update(g, state, params)
            params = optax.apply_updates(params, updates)
        assert jax.tree.map(jax.typeof, state) == before
        state = wj.detect(params, state)
        wj.check(state)
        assert jax.typeof(state[0].truncation.masks["bn"]["scale"]).sharding.spec == P("x")
    close(params, by_hand(start(), grads)[0][-1])


def test_in_shard_map_with_the_batch_split_over_devices():
    mesh, grads = mesh_of(AxisType.Auto), gradient_sequence(4)
    tx = optax.chain(worm(), SGD)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(), P("x")), out_specs=(P(), P()))
    def step(params, state, pieces):
        # every device holds an eighth of the batch's gradient
        g = jax.tree.map(lambda x: jax.lax.psum(x[0], "x"), pieces)
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    params, state = start(), tx.init(start())
    for t in range(4):
        pieces = jax.tree.map(lambda x, t=t: jnp.stack([x[t] / 8] * 8), grads)
        params, state = step(params, state, pieces)
    expected, mask = by_hand(start(), grads)
    close(params, expected[-1])
    np.testing.assert_array_equal(wj.masks_of(state, params)["bn"]["scale"], mask)
