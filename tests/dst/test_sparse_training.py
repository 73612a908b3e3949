"""The transformation: exact zeros, exact counts, the rule of the oracles."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from tests.dst import oracles
from tests.dst.runs import KEY, G, M, W, gradients, moved_once, run, start, training
from wormjax.dst import criteria, schedules
from wormjax.dst._timing import Timing


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


@pytest.mark.parametrize(
    ("treatment", "zero"),
    [
        ("reset", True),
        pytest.param("keep", False, marks=pytest.mark.slow),
        pytest.param("mean", False, marks=pytest.mark.slow),
    ],
)
def test_fw_5_a_dense_momentum_is_zero_where_it_grows_and_kept_if_asked(treatment, zero):
    params, grads = start(), gradients(2)
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
@pytest.mark.parametrize(
    "order",
    ["after", *(pytest.param(o, marks=pytest.mark.slow) for o in ("before", "skip"))],
)
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


def test_global_scope_conserves_every_leaf():
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


@pytest.mark.slow
def test_fw_7_on_one_leaf_global_scope_equals_leaf_scope():
    one = {"a": jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)}
    g = {"a": one["a"][::-1]}
    masks = [
        jax.jit(tx.update)(g, tx.init(one), one)[1].masks["a"]
        for tx in (
            training(optax.sgd(0.0), scope=scope, every=1, density=0.5, drop=criteria.sensitivity())
            for scope in ("leaf", "global")
        )
    ]
    np.testing.assert_array_equal(*masks)


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


def test_jp_13_counts_of_sixty_million_entries():
    """Shapes and dtypes only: nothing of that size is made. The arithmetic is in ``test_shares``."""
    shape = jax.eval_shape(
        training().init, {"kernel": jax.ShapeDtypeStruct((6000, 10_000), "float32")}
    )
    assert shape.masks["kernel"].shape == (6000, 10_000)
    assert shape.counts.dtype == jnp.int32


def test_it_2_tied_scores_lose_nobody():
    # three of six go, the last ones of the tie; gradient growth then takes the steepest of what is off
    mask, _ = moved_once(M, np.sign(W), np.ones_like(G))
    assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3, 4, 5]


def test_jp_14_a_drop_fraction_begins_where_updates_do():
    tx = training(optax.sgd(0.0), start=3, stop=9, every=1, schedule=schedules.linear(0.5))
    _, _, _, masks = run(tx, start(), gradients(9))
    gone = [(a & ~b).sum() for a, b in itertools.pairwise(masks)]
    assert gone[0] == 0  # step 2
    assert 0 < gone[1] <= 6  # step 3: half of 12 go, some come back
    assert gone[7] == 0  # step 9: a fraction of 0


def test_bernoulli_masks_are_right_on_average_and_keep_what_was_drawn():
    params = {"kernel": jnp.ones((40, 50))}
    tx = training(initial="bernoulli", density=0.1)
    state = tx.init(params)
    kept = int(state.masks["kernel"].sum())
    assert state.counts.tolist() == [kept]
    assert kept != 200
    assert abs(kept - 200) < 5 * np.sqrt(2000 * 0.1 * 0.9)
    _, after = jax.jit(tx.update)(params, state, params)
    assert int(after.masks["kernel"].sum()) == kept
    other = training(initial="bernoulli", density=0.1, key=jax.random.key(1)).init(params)
    assert other.counts.tolist() != [kept]


@pytest.mark.parametrize(
    ("over", "norm", "divide"),
    [
        ("input", "max", lambda a: a.max(0)),
        pytest.param("layer", "sum", lambda a: a.sum(), marks=pytest.mark.slow),
        pytest.param(
            *("output", "l2", lambda a: np.sqrt((a**2).sum(1, keepdims=True))),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_normalised_scores_of_the_whole_network(over, norm, divide):
    """The active scores of both leaves are ranked together after the division; float64."""
    random = np.random.default_rng(0)
    w = {"a": random.normal(size=(4, 6)), "b": 10 * random.normal(size=(6, 5))}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), w)
    options = {"scope": "global", "density": 0.5, "every": 1, "grow": "random", "min_kept": 0}
    tx = training(optax.sgd(0.0), normalize=over, norm=norm, zero_on_drop=True, **options)
    state = tx.init(params)
    masks = {k: np.asarray(m) for k, m in state.masks.items()}
    updates, after = jax.jit(tx.update)(params, state, params)
    scores = {k: np.where(masks[k], np.abs(w[k]), 0) for k in w}
    scores = {k: x / divide(x) for k, x in scores.items()}
    active = np.concatenate([scores[k][masks[k]] for k in "ab"])
    limit = np.sort(active)[13]  # half of 27 go, rounded up: the 14 lowest
    for k in "ab":
        stays = masks[k] & (scores[k] > limit)
        value = np.asarray(params[k] + updates[k])
        np.testing.assert_array_equal(value != 0, stays)  # what grows or comes back starts at zero
        assert after.masks[k].sum() == masks[k].sum()
