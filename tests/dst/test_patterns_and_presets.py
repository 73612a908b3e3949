"""Structured masks that really move, the presets, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from wormjax.dst import patterns, presets, schedules

KEY = jax.random.key(0)


def moved(pattern, shape, **settings):
    """Masks before and after one update of a kernel; the weights' order is the reverse of the gradients'."""
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    params = {"kernel": jnp.asarray(values)}
    options = {"density": 0.5, "distribution": "uniform", "every": 1, "stop": 10**6}
    tx = wj.sparse_training(optax.sgd(0.1), key=KEY, pattern=pattern, **{**options, **settings})
    state = tx.init(params)
    updates, after = jax.jit(tx.update)({"kernel": params["kernel"][..., ::-1]}, state, params)
    old, new = np.asarray(state.masks["kernel"]), np.asarray(after.masks["kernel"])
    assert (np.asarray(params["kernel"] + updates["kernel"])[~new] == 0).all()
    return old, new


def test_jp_8_two_of_four_moves_and_keeps_two_in_every_group():
    old, new = moved(patterns.n_of_m(2, 4), (16, 6))
    for mask in (old, new):
        assert (mask.reshape(4, 4, 6).sum(1) == 2).all()
    assert (old != new).sum() > 10


def test_jp_9_blocks_lie_in_input_and_output_of_a_convolution():
    old, new = moved(patterns.block((2, 4)), (3, 3, 4, 8))
    for mask in (old, new):
        blocks = mask.reshape(3, 3, 2, 2, 2, 4).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 8)
        assert np.isin(blocks.sum(1), (0, 8)).all()
        assert blocks.any(1).sum() == 18
    assert (old != new).any()


def test_channels():
    old, new = moved(patterns.channel(), (3, 5, 8))
    for mask in (old, new):
        assert np.isin(mask.sum((0, 1)), (0, 15)).all()
        assert mask[0, 0].sum() == 4
    assert (old != new).any()


@pytest.mark.slow
def test_constant_fan_in_by_selection_in_every_output():
    old, new = moved(patterns.fan_in(), (40, 3))
    assert (old.sum(0) == 20).all()
    assert (new.sum(0) == 20).all()
    assert (old != new).any()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"density": 0}, r"density must lie in \(0, 1\], got 0"),
        ({"density": 1.5}, r"density must lie in \(0, 1\], got 1.5"),
        ({"density": jnp.float32(0.5)}, "name it in static_args"),
        ({"density": None}, "Say how sparse"),
        ({"every": 0}, "every must be a positive number"),
        ({"every": 100, "total_steps": 50, "stop": 0.75}, "the update period is longer"),
        ({"stop": 0.75}, "whose length is not known. Add total_steps="),
        ({"stop": 5, "start": 9}, "Masks would never be updated"),
        ({"drop": "magnitud"}, "is no criterion"),
        ({"grow": "grad"}, "is no growth rule"),
        ({"distribution": "er_k"}, "There is no distribution 'er_k'"),
        ({"min_kept": -1}, "min_kept must be"),
        ({"accumulate": 2.0}, "accumulate must be"),
        ({"initial_density": 0.5}, "goes with ramp="),
        ({"grow": "momentum_neuron", "pattern": patterns.n_of_m(2, 4)}, "gives quotas to outputs"),
        ({"straight_through": True, "order": "skip"}, "does not go together"),
    ],
)
def test_settings_are_refused_with_a_sentence(settings, told):
    options = {"density": 0.5, "distribution": "uniform", "every": 1, "stop": 100}
    with pytest.raises((ValueError, TypeError), match=told):
        wj.sparse_training(optax.sgd(0.1), key=KEY, **{**options, **settings})


@pytest.mark.parametrize(
    ("pattern", "settings", "told"),
    [
        (patterns.n_of_m(2, 4), {}, "axis -2 has 6 entries, which 4 does not divide"),
        (patterns.block((4, 4)), {}, "axis -2 has 6 entries, which 4 does not divide"),
        (patterns.channel(axis=5), {}, "it has no axis 5"),
        (patterns.n_of_m(1, 2), {"drop": "set_"}, "compares more than a segment"),
        (patterns.fan_in(), {"scope": "global"}, "compares more than a segment"),
    ],
)
def test_jp_17_patterns_that_do_not_fit(pattern, settings, told):
    tx = wj.sparse_training(
        optax.sgd(0.1),
        key=KEY,
        density=0.5,
        distribution="uniform",
        stop=1000,
        pattern=pattern,
        **settings,
    )
    with pytest.raises(ValueError, match=told):
        tx.init({"kernel": jnp.zeros((6, 8))})


def test_no_kernel_and_no_parameters():
    tx = wj.sparse_training(optax.sgd(0.1), key=KEY, density=0.5, distribution="uniform", stop=1000)
    with pytest.raises(ValueError, match="is a kernel to prune"):
        tx.init({"bias": jnp.zeros(3)})
    params = {"kernel": jnp.zeros((2, 2))}
    with pytest.raises(ValueError, match=r"call tx.update\(grads, state, params\)"):
        tx.update(params, tx.init(params))


def densities(tx, steps):
    """Kept entries of a kernel of 100 after every step, and what became of the parameters."""
    params = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(10, 10)), jnp.float32)}

    def step(carry, g):
        params, state = carry
        updates, state = tx.update({"kernel": g}, state, params)
        params = optax.apply_updates(params, updates)
        kept = jnp.sum(state.masks["kernel"])
        return (params, state), (kept, jnp.all((params["kernel"] == 0) | state.masks["kernel"]))

    grads = jnp.asarray(np.random.default_rng(1).normal(size=(steps, 10, 10)), jnp.float32)
    init = (params, tx.init(params))
    (params, state), (kept, zero) = jax.jit(lambda c, g: jax.lax.scan(step, c, g))(init, grads)
    assert bool(jnp.all(zero))
    wj.check(state)
    return np.asarray(kept).tolist(), state


def test_it_1_jp_11_gradual_pruning_ends_exactly_at_its_target():
    options = {"density": 0.1, "distribution": "uniform", "total_steps": 12, "every": 3}
    kept, _ = densities(presets.gmp(optax.sgd(0.1), KEY, stop=10, **options), 12)
    assert kept[-1] == 10
    assert kept[8] > 10  # 3 does not divide 10: the last update is at the stop
    assert sorted(kept, reverse=True) == kept


@pytest.mark.slow
def test_gn_3_global_gradual_pruning_ends_exactly_at_its_target():
    options = {"density": 0.1, "distribution": "uniform", "total_steps": 12, "every": 3}
    kept, _ = densities(presets.granet(optax.sgd(0.1, momentum=0.9), KEY, stop=10, **options), 12)
    assert kept[0] == 50
    assert kept[-1] == 10


@pytest.mark.parametrize(
    "name",
    [
        *("rigl", "ste"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("static", "set_", "itop", "fantastic_weights", "snfs", "mest")
        ),
    ],
)
def test_presets_keep_their_density(name):
    made = getattr(presets, name)
    options = {"distribution": "uniform"}
    if name != "static":
        options |= {"total_steps": 6, "every": 2 if name != "ste" else 1, "stop": 5}
    tx = made(optax.sgd(0.1, momentum=0.9), KEY, 0.2, **options)
    kept, state = densities(tx, 6)
    assert set(kept) == {20}
    if name == "itop":
        assert float(state.rate_explored) > 0.2


def test_acdc_alternates():
    options = {"distribution": "uniform", "total_steps": 11}
    kept, _ = densities(presets.acdc(optax.sgd(0.1), KEY, 0.2, phase=2, stop=10, **options), 11)
    assert kept == [100, 20, 20, 100, 100, 20, 20, 100, 100, 20, 20]


@pytest.mark.slow
def test_the_soft_bound_of_mest_comes_down():
    options = {"distribution": "uniform", "total_steps": 11}
    kept, _ = densities(
        presets.mest(optax.sgd(0.1), KEY, 0.2, soft=True, every=2, stop=8, **options), 11
    )
    assert kept[0] == 24
    assert kept[-1] == 20


def test_schedules_of_the_drop_fraction_reach_the_update():
    tx = wj.sparse_training(
        optax.sgd(0.1),
        key=KEY,
        density=0.5,
        distribution="uniform",
        every=1,
        stop=10,
        schedule=schedules.constant(0.0),
    )
    params = {"kernel": jnp.ones((4, 4))}
    state = tx.init(params)
    _, after = tx.update(params, state, params)
    np.testing.assert_array_equal(state.masks["kernel"], after.masks["kernel"])


def test_fw_3_the_study_of_criteria_updates_at_the_last_step():
    preset = functools.partial(presets.fantastic_weights, optax.sgd(0.1), KEY, 0.5)
    tx = preset(total_steps=4, every=2, distribution="uniform")
    params = {"kernel": jnp.arange(1.0, 101.0).reshape(10, 10)}
    state, update, moved = tx.init(params), jax.jit(tx.update), []
    for _ in range(4):
        old = state.masks["kernel"]
        _, state = update(params, state, params)
        moved.append(bool(jnp.any(old != state.masks["kernel"])))
    assert moved[:3] == [False, True, False]
    assert moved[3]


@pytest.mark.parametrize(
    ("drop", "order"),
    [
        *((name, "before") for name in ("magnitude", "set_", "random", "running_magnitude")),
        *((name, "after") for name in ("snip", "mest", "reciprocal_sensitivity", "running_snip")),
        ("grasp", "after"),
    ],
)
def test_the_studys_code_mixes_orders(drop, order, monkeypatch):
    seen = []
    made = optax.with_extra_args_support(optax.identity())

    def captured(inner, **given):
        seen.append(given["order"])
        return made

    monkeypatch.setattr("wormjax.dst._presets.sparse_training", captured)
    study = functools.partial(
        presets.fantastic_weights, optax.sgd(0.1), KEY, 0.5, total_steps=9, drop=drop
    )
    study(order="fw_mixed")
    study()
    assert seen == [order, "after"]


def test_gn_2_unknown_options_are_refused():
    with pytest.raises(TypeError, match="death_rate"):
        presets.granet(optax.sgd(0.1), KEY, 0.1, total_steps=5000, death_rate=0.5)
    options = {"density": 0.5, "stop": 1000, "initial": "bernoulli"}
    tx = wj.sparse_training(optax.sgd(0.1), key=KEY, pattern=patterns.n_of_m(2, 4), **options)
    with pytest.raises(ValueError, match="draws entry by entry, and the pattern"):
        tx.init({"kernel": jnp.zeros((8, 8))})
