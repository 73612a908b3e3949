"""The transformation: exact zeros, exact counts, the rule of the oracles, whatever wraps it."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from tests.dst import oracles
from wormjax.dst import criteria, schedules
from wormjax.dst._shares import ceil_share, floor_share
from wormjax.dst._timing import Timing

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


def test_the_masks_of_magnitude_and_gradient_are_the_oracles():
    params, grads, tx = start(), gradients(4), training(optax.sgd(0.1))
    state = tx.init(params)
    mask = np.asarray(wj.masks_of(state, params)["dense"]["kernel"])
    assert mask.sum() == 12
    _, _, path, masks = run(tx, params, grads, state)
    w = np.where(mask, np.asarray(params["dense"]["kernel"]), 0)
    for t in range(4):
        g = np.asarray(grads["dense"]["kernel"][t])
        if t % 2 == 1:  # steps are counted from 1
            mask = oracles.moved(mask, np.abs(w), np.abs(g), "0.5")
            same = oracles.jaxpruner(masks[t - 1], w, g, 0.5)
            np.testing.assert_array_equal(same, mask)
        np.testing.assert_array_equal(masks[t], mask)
        w = np.where(mask, np.float32(w - np.float32(0.1) * np.where(mask, g, 0)), 0)
        np.testing.assert_allclose(path[t], w, rtol=1e-6)
        assert (np.asarray(path[t])[~mask] == 0).all()


def test_ties_go_by_the_lowest_index_as_in_jaxpruner():
    mask = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    w = np.array([0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0], np.float32)
    g = np.array([0, 0, 2, 0, 1, 1, 1, 1], np.float32)
    new, _ = moved_once(mask, w, g)
    np.testing.assert_array_equal(new, oracles.jaxpruner(mask, w, g, 0.5))
    np.testing.assert_array_equal(new, oracles.moved(mask, w, g, "0.5"))


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


def test_the_worked_growth_keeps_the_value_of_what_comes_back():
    mask, w = moved_once(M, W, G)
    assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3, 6, 7]
    assert w[3] == np.float32(-0.2)
    assert w[6] == w[7] == w[4] == 0


def test_zero_on_drop_starts_it_afresh():
    mask, w = moved_once(M, W, G, zero_on_drop=True)
    assert mask[3]
    assert w[3] == 0


def test_without_regrowth_fewer_are_dropped():
    mask, _ = moved_once(M, W, G, allow_regrow_dropped=False)
    assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3, 6, 7]
    np.testing.assert_array_equal(mask, oracles.moved(M, np.abs(W), np.abs(G), "0.5", regrow=False))
    mask = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    w = np.array([0.5, 0.1, 0, 0.3, 0, 0, 0, 0], np.float32)
    g = np.array([0, 9, 9, 0, 1, 2, 3, 4], np.float32)
    same, _ = moved_once(mask, w, g)
    np.testing.assert_array_equal(same, mask)
    new, _ = moved_once(mask, w, g, allow_regrow_dropped=False)
    assert np.flatnonzero(new).tolist() == [0, 3, 6, 7]


def test_fw_2_a_dense_network_does_not_change_unless_asked():
    full = np.ones(8, bool)
    mask, w = moved_once(full, W, G)
    assert mask.all()
    np.testing.assert_array_equal(w, W)
    mask, w = moved_once(full, W, G, zero_on_drop=True)
    assert mask.all()
    assert (w[[0, 1]] == W[[0, 1]]).all()
    assert w[4] == 0


def test_fw_4_counts_are_the_same_after_ten_thousand_updates():
    tx = wj.sparse_training(
        optax.sgd(0.1, momentum=0.9),
        key=KEY,
        density=0.25,
        distribution="uniform",
        drop="set_",
        grow="random",
        schedule=schedules.cosine(0.5),
        every=1,
        stop=None,
        total_steps=10_001,
    )
    params = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)}

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (jnp.sum(state.masks["kernel"]), state.masks["kernel"][0, 0])

    init = (params, tx.init(params))
    (params, state), (counts, first) = jax.jit(lambda c: jax.lax.scan(step, c, None, 10_000))(init)
    assert set(np.asarray(counts).tolist()) == {5}
    assert 0 < np.mean(first) < 1
    assert state.counts.tolist() == [5]
    wj.check(state)


@functools.cache
def optimizers():
    return {
        "sgd": optax.sgd(0.1),
        "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
        "adabelief": optax.adabelief(0.1),
        "adadelta": optax.adadelta(0.1),
        "adafactor": optax.adafactor(0.1),
        "adagrad": optax.adagrad(0.1),
        "adam": optax.adam(0.1),
        "adamax": optax.adamax(0.1),
        "adamaxw": optax.adamaxw(0.1),
        "adamw": optax.adamw(0.1, weight_decay=0.1),
        "adan": optax.adan(0.1),
        "amsgrad": optax.amsgrad(0.1),
        "fromage": optax.fromage(0.1),
        "lamb": optax.lamb(0.1, weight_decay=0.1),
        "lars": optax.lars(0.1, weight_decay=0.1),
        "lion": optax.lion(0.1),
        "nadam": optax.nadam(0.1),
        "nadamw": optax.nadamw(0.1),
        "noisy_sgd": optax.noisy_sgd(0.1, key=0),
        "novograd": optax.novograd(0.1),
        "optimistic": optax.optimistic_gradient_descent(0.1),
        "radam": optax.radam(0.1),
        "rmsprop": optax.rmsprop(0.1, momentum=0.9),
        "rprop": optax.rprop(0.1),
        "sign_sgd": optax.sign_sgd(0.1),
        "sm3": optax.sm3(0.1),
        "yogi": optax.yogi(0.1),
        "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)),
        "injected": optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
        "accumulated": optax.MultiSteps(optax.adam(0.1), 2),
        "finite": optax.apply_if_finite(optax.adam(0.1), 3),
        "muon": optax.contrib.muon(0.1),
        "schedule_free": optax.contrib.schedule_free_adamw(0.1),
    }


QUICK = {"momentum", "adam", "adafactor", "lion", "rmsprop", "amsgrad", "injected", "muon"}


@pytest.fixture
def lenient():
    """What optax itself needs: its own arithmetic mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in optimizers()],
)
@pytest.mark.usefixtures("lenient")
def test_jp_3_every_optimizer_runs_and_new_connections_have_no_past(name):
    """Two steps; the masks move after the second one."""
    inner = optimizers()[name]
    params, grads, old = start(), gradients(2), None
    tx = training(inner, order="before")
    state, update = tx.init(params), jax.jit(tx.update)
    old = np.asarray(state.masks["dense"]["kernel"])
    for t in range(2):
        updates, state = update(jax.tree.map(lambda g, t=t: g[t], grads), state, params)
        params = optax.apply_updates(params, updates)
    mask = np.asarray(state.masks["dense"]["kernel"])
    new = mask & ~old
    assert mask.sum() == 12
    assert new.any()
    assert (np.asarray(params["dense"]["kernel"])[~mask] == 0).all()
    if name in ("schedule_free", "sm3", "rprop", "optimistic"):
        return  # what they keep is not zero where nothing happens
    for leaf in jax.tree.leaves(state.inner):
        if leaf.shape == SHAPE and jnp.issubdtype(leaf.dtype, jnp.floating):
            # Adafactor adds 1e-30 to a squared gradient of zero
            assert (np.abs(np.asarray(leaf)[new]) < 1e-20).all()


def test_fw_5_a_dense_momentum_is_zero_where_it_grows_and_kept_if_asked():
    params, grads = start(), gradients(2)
    for treatment, zero in (("reset", True), ("keep", False), ("mean", False)):
        tx = training(order="before", opt_state=treatment, mask_gradients=False)
        state = tx.init(params)
        old = np.asarray(state.masks["dense"]["kernel"])
        _, state, _, masks = run(tx, params, grads, state)
        new = masks[-1] & ~old
        trace = np.asarray(state.inner[0].trace["dense"]["kernel"])
        assert (trace[new] == 0).all() == zero
        if treatment == "mean":
            np.testing.assert_allclose(trace[new], trace[masks[-1] & old].mean(), rtol=1e-5)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("order", ["after", "before", "skip"])
def test_bfloat16_weights_with_decay_are_exactly_zero(order):
    params = start(dtype=jnp.bfloat16)
    tx = training(optax.adamw(0.1, weight_decay=0.1), order=order)
    params, state, path, masks = run(tx, params, gradients(4, dtype=jnp.bfloat16))
    assert path.dtype == jnp.bfloat16
    assert (np.asarray(path, np.float32)[~masks] == 0).all()
    assert (masks.sum((1, 2)) == 12).all()
    assert (masks[1] != masks[0]).any()
    wj.check(state)


def test_skip_leaves_weights_and_inner_state_alone():
    params, grads = start(), gradients(2)
    tx = training(order="skip")
    _, state, path, masks = run(tx, params, grads)
    both = masks[0] & masks[1]
    np.testing.assert_array_equal(np.asarray(path)[1][both], np.asarray(path)[0][both])
    one = run(tx, params, jax.tree.map(lambda g: g[:1], grads))[1]
    np.testing.assert_array_equal(
        state.inner[0].trace["dense"]["bias"], one.inner[0].trace["dense"]["bias"]
    )
    assert int(state.count) == 2


def test_fw_3_no_update_at_the_last_step_or_the_first():
    timing = functools.partial(Timing.of, start=1, stop=None, guard_last=True, catch_up=False)
    steps = jnp.arange(1, 35_201)
    assert int(jnp.sum(jax.vmap(timing(every=800, total_steps=35_200).due)(steps))) == 43
    released = Timing.of(800, 1, None, 35_200, False, False)
    assert int(jnp.sum(jax.vmap(released.due)(steps))) == 44
    assert not bool(timing(every=1, total_steps=10).due(jnp.int32(0)))


def test_jp_4_extra_arguments_arrive():
    def update(updates, state, params=None, *, value, **extra):
        del params, extra
        return jax.tree.map(lambda u: u * value, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    tx, params = training(inner), start()
    g = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(g, tx.init(params), params, value=jnp.float32(3))
    np.testing.assert_array_equal(updates["scale"], 3)


def test_jp_5_inside_everything_that_wraps_it():
    params, grads = start(), gradients(4)
    plain = run(training(), params, grads)
    label = {"dense": {"kernel": "sparse", "bias": "sparse"}, "scale": "rest"}
    wrapped = {
        "chain": optax.chain(optax.identity(), training()),
        "multi": optax.multi_transform(
            {"sparse": training(), "rest": optax.sgd(0.1, momentum=0.9)}, label
        ),
        "masked": optax.masked(
            training(), {"dense": {"kernel": True, "bias": True}, "scale": False}
        ),
        "finite": optax.apply_if_finite(training(), 2),
        "injected": optax.inject_hyperparams(
            lambda learning_rate: training(optax.sgd(learning_rate, momentum=0.9))
        )(learning_rate=0.1),
    }
    for name, tx in wrapped.items():
        _, state, path, masks = run(tx, params, grads)
        np.testing.assert_array_equal(masks, plain[3], err_msg=name)
        np.testing.assert_allclose(path, plain[2], rtol=1e-5, err_msg=name)
        wj.check(state)


@pytest.mark.usefixtures("lenient")
def test_micro_batches_do_not_count_as_steps():
    params, grads = start(), gradients(2)
    plain = run(training(), params, grads)
    twice = jax.tree.map(lambda g: jnp.repeat(g, 2, axis=0), grads)
    tx = optax.MultiSteps(training(), 2)
    _, state, path, masks = run(tx, params, twice)
    np.testing.assert_array_equal(masks[1::2], plain[3])
    np.testing.assert_allclose(path[1::2], plain[2], rtol=1e-5)
    assert int(state.inner_opt_state.count) == 2


def test_leaks_are_found():
    params = start()
    tx = training()
    _, state, _, _ = run(tx, params, gradients(3))
    wj.check(state)  # the first update sets to zero what nobody had masked
    leaky = optax.chain(training(), optax.scale(0.5))
    _, state, _, _ = run(leaky, params, gradients(3))
    with pytest.raises(ValueError, match="it must be the last transformation that changes updates"):
        wj.check(state)


def test_nan_is_flagged_with_the_leaf():
    params, grads = start(), gradients(2)
    grads["dense"]["kernel"] = grads["dense"]["kernel"].at[1].set(jnp.nan)
    tx = training(optax.sgd(0.0), drop="snip")
    _, state, _, masks = run(tx, params, grads)
    assert masks[-1].sum() == 12
    with pytest.raises(ValueError, match="'dense/kernel' held NaN or infinity at a mask update"):
        wj.check(state)


def test_jp_10_the_parameters_can_be_masked_after_init():
    params = start()
    state = training().init(params)
    masks = wj.masks_of(state, params)
    assert float(wj.density(masks, params)) == 0.25
    assert int((wj.apply_masks(params, masks)["dense"]["kernel"] != 0).sum()) == 12
    assert masks["scale"].ndim == 0


def test_jp_12_other_keys_other_masks():
    params = start()
    a, b = (training(key=jax.random.key(i)).init(params).masks["dense"]["kernel"] for i in (0, 1))
    assert bool(jnp.any(a != b))


def test_jp_2_packed_masks_are_the_same_masks():
    params, grads = start(), gradients(4)
    plain, packed = (run(training(packed=p), params, grads) for p in (False, True))
    np.testing.assert_array_equal(plain[3], packed[3])
    np.testing.assert_array_equal(plain[2], packed[2])
    assert packed[1].masks["dense"]["kernel"].bits.nbytes == 6


def test_jp_6_containers():
    leaf = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE), jnp.float32)
    for params in ([leaf, {"b": (leaf,)}], (leaf,), leaf):
        tx = training()
        state = tx.init(params)
        updates, state = tx.update(params, state, params)
        left = jax.tree.map(lambda p, u, m: ((p + u)[~m] != 0).any(), params, updates, state.masks)
        assert not any(jax.tree.leaves(left))


def test_one_compilation_whatever_the_step():
    params, tx = start(), training()
    state, update = tx.init(params), jax.jit(tx.update)
    for t in range(3):
        _, state = update(jax.tree.map(lambda g, t=t: g[t], gradients(3)), state, params)
    assert update._cache_size() == 1


def test_eight_seeds_by_vmap_keep_one_gate_and_equal_eight_runs():
    keys = jax.random.split(KEY, 8)
    params = jax.tree.map(lambda *x: jnp.stack(x), *[start(i) for i in range(8)])
    grads = jax.tree.map(lambda *x: jnp.stack(x, 1), *[gradients(2, i) for i in range(8)])
    tx = training()
    axes = wj.seed_axes(tx.init(start()))

    def made(key, params):
        return training(key=key).init(params)

    state = jax.vmap(made, out_axes=axes)(keys, params)
    update = jax.jit(jax.vmap(tx.update, (0, axes, 0), (0, axes)))
    first = jax.tree.map(lambda g: g[0], grads)
    text = update.lower(first, state, params).compile().as_text()
    # a loop of no or one round, whose flag all seeds share; a batched one would be a select
    assert len(re.findall(r"= \(pred\[\],.* while\(", text)) == 1
    assert " conditional(" not in text
    for t in range(2):
        updates, state = update(jax.tree.map(lambda g, t=t: g[t], grads), state, params)
        params = optax.apply_updates(params, updates)
    assert state.count.ndim == 0
    one = run(training(key=keys[3]), start(3), gradients(2, 3))
    np.testing.assert_array_equal(state.masks["dense"]["kernel"][3], one[3][-1])
    np.testing.assert_allclose(params["dense"]["kernel"][3], one[2][-1], rtol=1e-5)
    # masks of one seed differ from another's
    assert bool(jnp.any(state.masks["dense"]["kernel"][0] != state.masks["dense"]["kernel"][1]))


def test_global_scope_conserves_every_leaf_and_equals_leaf_scope_on_one():
    random = np.random.default_rng(0)
    params = {"a": jnp.asarray(random.normal(size=(4, 6)), jnp.float32)}
    params["b"] = 0.01 * jnp.asarray(random.normal(size=(5, 4)), jnp.float32)
    g = jax.tree.map(lambda p: p[::-1], params)
    tx = training(optax.sgd(0.0), scope="global", every=1, density=0.5)
    state = tx.init(params)
    _, after = jax.jit(tx.update)(g, state, params)
    assert after.counts.tolist() == [12, 10]
    assert [int(m.sum()) for m in jax.tree.leaves(after.masks)] == [12, 10]
    # 11 go, and the small leaf loses all but the one that it must keep
    stayed = np.asarray(state.masks["a"] & after.masks["a"])
    assert stayed.sum() >= 10
    one = {"a": params["a"]}
    masks = [
        jax.jit(tx.update)({"a": g["a"]}, tx.init(one), one)[1].masks["a"]
        for tx in (
            training(optax.sgd(0.0), scope=scope, every=1, density=0.5, drop=criteria.sensitivity())
            for scope in ("leaf", "global")
        )
    ]
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize(
    "grow", ["random_unfired", "momentum", "momentum_neuron", "redistribution"]
)
def test_growth_rules_conserve_the_count(grow):
    params, grads = start(), gradients(6)
    tx = training(grow=grow, mask_gradients=False, opt_state="keep", order="before", every=1)
    _, state, path, masks = run(tx, params, grads)
    assert (masks.sum((1, 2)) == 12).all()
    assert (np.asarray(path)[~masks] == 0).all()
    if grow == "random_unfired":
        ever = np.cumsum(masks, 0) > 0
        # 6 new places an update until all 48 were tried; masks[0] is that of the first update
        first = int((masks[0] | np.asarray(tx.init(params).masks["dense"]["kernel"])).sum())
        assert first == 18
        assert int(ever[-1].sum()) >= 42
        assert float(state.rate_explored) == 1


def test_growth_without_what_it_needs():
    params = start()
    g = jax.tree.map(jnp.ones_like, params)
    for inner, grow, told in (
        (optax.sgd(0.1), "momentum", "Give the inner optimizer a momentum"),
        (optax.sgd(0.1, momentum=0.9), "adam_momentum", "two moments"),
    ):
        tx = training(inner, grow=grow)
        with pytest.raises(ValueError, match=told):
            tx.update(g, tx.init(params), params)
    tx = training(drop="grasp")
    with pytest.raises(ValueError, match="value_fn=loss"):
        tx.update(g, tx.init(params), params)


def test_grasp_takes_its_product_from_the_loss():
    w = np.array([1.0, 2.0, 3.0, 0.0], np.float32)
    curve = np.array([1.0, 3.0, 0.5, 1.0], np.float32)
    tx = training(
        optax.sgd(0.0),
        masks={"w": w != 0},
        prunable={"w": True},
        drop="grasp",
        grow="random",
        every=1,
        schedule=schedules.constant(0.1),
        allow_regrow_dropped=False,
    )
    params = {"w": jnp.asarray(w)}

    def loss(p):
        return 0.5 * jnp.sum(curve * p["w"] ** 2)

    # w * Hg = curve^2 w^2 = 1, 36, 2.25: the first goes
    _, state = tx.update(jax.grad(loss)(params), tx.init(params), params, value_fn=loss)
    assert state.masks["w"].tolist() == [False, True, True, True]


def test_running_criteria_and_averaged_gradients():
    params, grads = start(), gradients(3)
    tx = training(optax.sgd(0.0), drop=criteria.running_snip(0.5), accumulate="mean", every=3)
    state = tx.init(params)
    old = np.asarray(state.masks["dense"]["kernel"])
    _, state, _, masks = run(tx, params, grads, state)
    g = np.asarray(grads["dense"]["kernel"], np.float64)
    w = np.where(old, np.asarray(params["dense"]["kernel"], np.float64), 0)
    score = np.abs(w * g[0])
    for t in (1, 2):
        score = 0.5 * score + 0.5 * np.abs(w * g[t])
    np.testing.assert_array_equal(masks[-1], oracles.moved(old, score, np.abs(g.mean(0)), "0.5"))
    assert int(state.since) == 0


def test_sharded_leaves_stay_where_they_are():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.NamedSharding(mesh, jax.P(None, "x"))
    params, tx = start(), training()
    kernel = jax.device_put(params["dense"]["kernel"], spec)
    sharded = {**params, "dense": {**params["dense"], "kernel": kernel}}
    state = tx.init(sharded)
    assert state.masks["dense"]["kernel"].sharding == spec
    _, after = jax.jit(tx.update)(sharded, state, sharded)
    _, same = jax.jit(tx.update)(params, tx.init(params), params)
    np.testing.assert_array_equal(after.masks["dense"]["kernel"], same.masks["dense"]["kernel"])


def test_jp_13_counts_of_sixty_million_entries():
    """The arithmetic only; nothing of that size is made."""
    for size in (1_048_576, 20_000_003, 30_000_001, 60_000_001):
        kept = -(-size // 10)
        gone = int(ceil_share(jnp.float32(0.3), jnp.int32(kept)))
        assert abs(gone - 0.3 * kept) <= 2
        assert int(ceil_share(jnp.float32(1.0), jnp.int32(size))) == size
        assert int(floor_share(jnp.float32(1.0), jnp.int32(size))) == size
        assert int(ceil_share(jnp.float32(0.0), jnp.int32(size))) == 0
        assert int(ceil_share(jnp.float32(0.5), jnp.int32(size))) == -(-size // 2)
    assert int(ceil_share(jnp.float32(0.1), jnp.int32(30_000_000))) == 3_000_000

    shape = jax.eval_shape(
        training().init, {"kernel": jax.ShapeDtypeStruct((6000, 10_000), "float32")}
    )
    assert shape.masks["kernel"].shape == (6000, 10_000)
    assert shape.counts.dtype == jnp.int32
