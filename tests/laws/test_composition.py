"""WORM inside everything that optax, JAX and the model libraries wrap around a transformation.

Each test trains the same small problem and compares with a plain loop written here: detect at the updates it
should, mask by a sort, multiply gradients by hand, step with SGD.
"""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import wormjax as wj
from tests.tracing import counted

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
PLACED = {
    "first": optax.chain(worm(), SGD),
    "last": optax.chain(SGD, worm()),
    "nested": optax.chain(optax.identity(), optax.chain(optax.chain(worm())), SGD),
    "named": optax.named_chain(("worm", worm()), ("sgd", SGD)),
}


@pytest.mark.parametrize("placed", PLACED)
def test_in_a_chain(placed):
    # SGD is linear: first and last are the same thing
    grads = gradient_sequence(8)
    expected, mask = by_hand(start(), grads)
    params, state = loop(PLACED[placed], start(), grads)
    close(params, expected[-1])
    np.testing.assert_array_equal(wj.masks_of(state, params)["bn"]["scale"], mask)
    assert int(wj.early_bird_state(state).checks) == 3


def test_first_truncates_before_momentum_and_last_behind_it():
    grads = jax.tree.map(lambda p: jnp.ones((4, *p.shape)), start())
    outcomes = {}
    for place in ("first", "last"):
        parts = [worm(every=100), optax.trace(0.9)]
        tx = optax.chain(*(parts if place == "first" else parts[::-1]))
        state, update = tx.init(start()), jax.jit(tx.update)
        for _ in range(4):
            updates, state = update(jax.tree.map(lambda g: g[0], grads), state, start())
        outcomes[place] = np.asarray(updates["bn"]["scale"]), jax.tree.leaves(state)
    mask = mask_by_sort(start()["bn"]["scale"])
    velocity = 1 + 0.9 + 0.81 + 0.729
    for updates, _ in outcomes.values():
        np.testing.assert_allclose(updates, np.where(mask, 1, FACTOR) * velocity, rtol=1e-6)
    momenta = {
        place: [x for x in leaves if x.shape == (8,) and x.dtype == jnp.float32][-1]
        for place, (_, leaves) in outcomes.items()
    }
    np.testing.assert_allclose(momenta["last"], np.full(8, velocity), rtol=1e-6)
    np.testing.assert_allclose(momenta["first"], np.where(mask, 1, FACTOR) * velocity, rtol=1e-6)


SEEN = {
    "partition": optax.multi_transform(
        {"norm": optax.chain(worm(), SGD), "rest": SGD}, {"bn": "norm", "conv": "rest"}
    ),
    "empty part": optax.multi_transform(
        {
            "norm": optax.chain(worm(), SGD),
            "rest": optax.chain(worm(), SGD),  # there is nothing to score in it: no-op
            "none": worm(),
        },
        {"bn": "norm", "conv": "rest"},
    ),
    "masked": optax.chain(optax.masked(worm(), {"bn": True, "conv": False}), SGD),
    "masked leaf by leaf": optax.chain(
        optax.masked(worm(), lambda p: jax.tree.map(lambda x: x.ndim == 1, p)), SGD
    ),
    "masked to nothing": optax.chain(
        worm(), optax.masked(worm(), {"bn": False, "conv": False}), SGD
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_where_it_sees_a_part_of_the_tree(name):
    grads = gradient_sequence(8)
    expected, mask = by_hand(start(), grads)
    params, state = loop(SEEN[name], start(), grads)
    close(params, expected[-1])
    told = wj.masks_of(state, params)
    np.testing.assert_array_equal(told["bn"]["scale"], mask)
    assert told["conv"]["kernel"].ndim == 0
    wj.check(state)
    jax.block_until_ready(wj.detect(params, state))  # the driver finds every part, empty ones too


def test_masked_to_the_scale_alone_it_cannot_see_the_shift():
    tx = optax.masked(
        worm(), lambda p: jax.tree.map(lambda _: False, p) | {"bn": {"scale": True, "bias": False}}
    )
    ones = jax.tree.map(jnp.ones_like, start())
    updates, _ = tx.update(ones, tx.init(start()), start())
    mask = mask_by_sort(start()["bn"]["scale"])
    np.testing.assert_array_equal(updates["bn"]["scale"], np.where(mask, 1, FACTOR))
    np.testing.assert_array_equal(updates["bn"]["bias"], np.ones(8))


@pytest.mark.parametrize("policy", ["constant", "random"])
def test_under_multi_steps_optimizer_updates_are_counted(policy):
    # two mini-batches an update: detections at updates 0, 3, 6, that is mini-batches 0-1, 6-7, 12-13
    chosen = wj.policies.constant(FACTOR)
    if policy == "random":
        chosen = wj.policies.random_masks(jax.random.key(0), chosen)
    tx = optax.MultiSteps(optax.chain(worm(policy=chosen), SGD), every_k_schedule=2)
    grads = gradient_sequence(8)
    twice = jax.tree.map(lambda g: jnp.repeat(g, 2, axis=0), grads)
    expected, mask = by_hand(start(), grads)
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic mixes dtypes here
        params, state = loop(tx, start(), twice)
        odd, unfinished = loop(tx, start(), jax.tree.map(lambda g: g[:13], twice))

    told = wj.early_bird_state(state)
    assert int(told.checks) == 3
    assert int(state.inner_opt_state[0].count) == 8
    assert int(wj.early_bird_state(unfinished).checks) == 2  # the thirteenth only accumulates
    if policy == "constant":
        close(params, expected[-1])
        close(odd, expected[5])
        np.testing.assert_array_equal(wj.masks_of(state, params)["bn"]["scale"], mask)
    else:
        assert int(wj.masks_of(state, params)["bn"]["scale"].sum()) == 4


STATIC = ("score", "prune_ratio", "window", "epsilon", "margin", "every")


def test_under_inject_hyperparams_the_factor_changes_without_compiling():
    settings = {"prune_ratio": 0.5, "window": 2, "epsilon": 0.9, "margin": 0.1, "every": 1}
    made = optax.inject_hyperparams(wj.worm, static_args=STATIC)(
        norm_scale, factor=FACTOR, **settings
    )
    params, ones = start(), jax.tree.map(jnp.ones_like, start())
    mask = mask_by_sort(params["bn"]["scale"])
    (update, traces), state = counted(made.update), made.init(params)
    updates, state = update(ones, state, params)
    assert updates["bn"]["scale"].tolist() == [1.0] * 8  # the trigger is not reached yet
    updates, state = update(ones, state, params)
    compiled = len(traces)
    np.testing.assert_allclose(updates["bn"]["scale"], np.where(mask, 1, FACTOR))

    for factor in (0.5, 0.0, 1.0):
        state.hyperparams["factor"] = jnp.float32(factor)
        updates, state = update(ones, state, params)
        np.testing.assert_array_equal(updates["bn"]["scale"], np.where(mask, 1, factor))
        assert float(state.inner_state.truncation.factor) == factor
    assert len(traces) == compiled


def test_under_inject_hyperparams_the_factor_may_follow_a_schedule():
    made = optax.inject_hyperparams(wj.worm, static_args=STATIC)(
        norm_scale,
        window=2,
        epsilon=0.9,
        margin=0.1,
        every=1,
        factor=lambda step: 1.0 / (1.0 + step.astype(jnp.float32)),
    )
    params, ones = start(), jax.tree.map(jnp.ones_like, start())
    mask = mask_by_sort(params["bn"]["scale"])
    state, seen = made.init(params), []
    for _ in range(4):
        updates, state = made.update(ones, state, params)
        seen.append(np.asarray(updates["bn"]["scale"])[~mask])
    np.testing.assert_allclose(seen, np.repeat([[1, 1 / 2, 1 / 3, 1 / 4]], 4, axis=0).T, rtol=1e-6)


def test_under_inject_hyperparams_truncate_and_a_policy_of_its_own():
    masks = {"bn": {"scale": jnp.arange(8) < 4, "bias": jnp.array(True)}}
    masks["conv"] = {"kernel": jnp.array(True)}
    made = optax.inject_hyperparams(wj.truncate, static_args="masks")(masks, 0.5)
    params, ones = start(), jax.tree.map(jnp.ones_like, start())
    state = made.init(params)
    for factor in (0.5, 0.125):
        state.hyperparams["factor"] = jnp.float32(factor)
        updates, state = made.update(ones, state, params)
        assert updates["bn"]["scale"].tolist() == [1] * 4 + [factor] * 4

    # a policy that follows the distance is not overruled by a factor that is injected
    made = optax.inject_hyperparams(wj.worm, static_args=STATIC)(
        norm_scale, window=2, every=1, policy=wj.policies.constant(0.5), factor=0.125
    )
    updates, _ = made.update(ones, made.init(params), params)
    mask = mask_by_sort(params["bn"]["scale"])
    np.testing.assert_array_equal(updates["bn"]["scale"], np.where(mask, 1, 0.5))


def test_under_apply_if_finite_a_rejected_update_is_not_counted():
    tx = optax.apply_if_finite(optax.chain(worm(), SGD), max_consecutive_errors=5)
    grads = gradient_sequence(8)
    spoiled = jax.tree.map(lambda g: jnp.insert(g, 3, jnp.nan, axis=0), grads)
    expected, mask = by_hand(start(), grads)
    params, state = loop(tx, start(), spoiled)

    close(params, expected[-1])
    assert int(state.total_notfinite) == 1
    assert int(state.inner_state[0].count) == 8
    assert int(wj.early_bird_state(state).checks) == 3
    np.testing.assert_array_equal(wj.masks_of(state, params)["bn"]["scale"], mask)


def scanned(tx, params, state, grads):
    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, state), grads)


def test_under_jit_and_scan():
    tx, grads = optax.chain(worm(), SGD), gradient_sequence(8)
    expected, _ = by_hand(start(), grads)
    (params, state), trajectory = jax.jit(functools.partial(scanned, tx))(
        start(), tx.init(start()), grads
    )
    close(params, expected[-1])
    for t, theirs in enumerate(expected):
        close(jax.tree.map(lambda x, t=t: x[t], trajectory), theirs)
    looped, again = loop(tx, start(), grads)
    jax.tree.map(np.testing.assert_array_equal, again[0].detector, state[0].detector)
    close(looped, params)


def test_without_jit_as_with_it():
    tx, grads = optax.chain(worm(), SGD), gradient_sequence(4)
    params, state = start(), tx.init(start())
    for t in range(4):
        updates, state = tx.update(jax.tree.map(lambda x, t=t: x[t], grads), state, params)
        params = optax.apply_updates(params, updates)
    close(params, by_hand(start(), grads)[0][-1])


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
    state, update = tx.init(params), jax.jit(tx.update)
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

    for t in range(4):
        g = sharded(mesh, jax.tree.map(lambda x, t=t: x[t], grads))
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        assert_laid_out(state)
    # once for scalars on one device, as optax's own counters start, and once for them everywhere
    assert update._cache_size() <= 2
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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("every", [1, None])
def test_in_both_precisions(dtype, every):
    params = jax.tree.map(lambda x: x.astype(dtype), start())
    ones = jax.tree.map(jnp.ones_like, params)
    tx = worm(every=every)
    state = tx.init(params)
    for _ in range(2):
        state = wj.detect(params, state) if every is None else state
        updates, state = jax.jit(tx.update)(ones, state, params)
    wide = np.asarray(params["bn"]["scale"], np.float32)
    mask = mask_by_sort(wide)
    assert all(u.dtype == dtype for u in jax.tree.leaves(updates))
    for leaf in ("scale", "bias"):
        np.testing.assert_array_equal(
            np.asarray(updates["bn"][leaf], np.float32), np.where(mask, 1, FACTOR)
        )
    assert bool(wj.early_bird_state(state).emerged)


class Block(eqx.Module):
    norm: eqx.nn.LayerNorm
    linear: eqx.nn.Linear
    activation: object

    def __init__(self, key):
        self.norm = eqx.nn.LayerNorm(4)
        self.linear = eqx.nn.Linear(4, 4, key=key)
        self.activation = jax.nn.relu


def test_on_an_equinox_module_filtered_to_arrays():
    params = eqx.filter(Block(jax.random.key(0)), eqx.is_array)
    params = eqx.tree_at(lambda b: b.norm.weight, params, jnp.array([0.1, -0.7, 0.4, 0.9]))
    score = functools.partial(norm_scale, prunable=lambda p: wj.prunable(p, include="norm/weight$"))
    tx = optax.chain(
        wj.worm(score, window=2, every=1, policy=wj.policies.constant(FACTOR)), optax.sgd(1.0)
    )
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, params)

    expected = [-FACTOR, -1, -FACTOR, -1]
    assert updates.norm.weight.tolist() == expected
    assert updates.norm.bias.tolist() == expected
    np.testing.assert_array_equal(updates.linear.weight, -np.ones((4, 4)))
    assert updates.activation is None
    told = wj.masks_of(state, params)
    assert isinstance(told, Block)
    assert told.norm.weight.tolist() == [False, True, False, True]
    assert told.linear.bias.ndim == 0
    assert wj.early_bird_state(state).names == ("norm/weight",)
    assert bool(wj.early_bird_state(wj.detect(params, state)).emerged)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.linear = nnx.Linear(4, 4, rngs=rngs)


def test_on_an_nnx_state():
    params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    params["norm"]["scale"] = params["norm"]["scale"].replace(jnp.array([0.1, -0.7, 0.4, 0.9]))
    tx = optax.chain(worm(every=1), optax.sgd(1.0))
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, params)

    expected = [-FACTOR, -1, -FACTOR, -1]
    assert updates["norm"]["scale"][...].tolist() == expected
    assert updates["norm"]["bias"][...].tolist() == expected
    np.testing.assert_array_equal(updates["linear"]["kernel"][...], -np.ones((4, 4)))
    told = wj.masks_of(state, params)
    assert jax.tree.structure(told) == jax.tree.structure(params)
    assert told["norm"]["scale"][...].tolist() == [False, True, False, True]
    assert wj.early_bird_state(state).names == ("norm/scale",)
    assert bool(wj.early_bird_state(wj.detect(params, state)).emerged)
    applied = wj.apply_masks(params, told)
    np.testing.assert_allclose(applied["norm"]["scale"][...], [0, -0.7, 0, 0.9], rtol=1e-6)
