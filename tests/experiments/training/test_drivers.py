"""Both drivers against each other, against the step called by hand, and against the compiler's counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.data import epoch_order
from experiments.training import (
    Recipe,
    epoch_runner,
    init_state,
    make_step,
    order_key,
    stack_seeds,
    take_seed,
)

ROWS, BATCH = 22, 4  # ragged: two rows stay out of each epoch


def mlp(params, stats, images, train=False):
    x = images.reshape(images.shape[0], -1)
    x = jax.nn.relu(x @ params["w1"] + params["b1"][None])
    return x @ params["w2"], stats


def mlp_start(key):
    k1, k2 = jax.random.split(key)
    params = {
        "w1": jax.random.normal(k1, (16, 8)),
        "b1": jnp.zeros(8),
        "w2": jax.random.normal(k2, (8, 3)),
    }
    return params, {}


def conv(params, stats, images, train=False):
    """A convolution with normalised channels and a running mean: what a small VGG is made of."""
    dims = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(
        images, params["kernel"], (1, 1), "SAME", dimension_numbers=dims
    )
    mean = jnp.mean(x, axis=(0, 1, 2)) if train else stats["mean"]
    x = jax.nn.relu((x - mean[None, None, None]) * params["scale"][None, None, None])
    if train:
        stats = {"mean": 0.9 * stats["mean"] + 0.1 * mean}
    return jnp.mean(x, axis=(1, 2)) @ params["w"], stats


def conv_start(key):
    k1, k2 = jax.random.split(key)
    params = {
        "kernel": jax.random.normal(k1, (3, 3, 1, 4)),
        "scale": jnp.ones(4),
        "w": jax.random.normal(k2, (4, 3)),
    }
    return params, {"mean": jnp.zeros(4)}


NETS = {"mlp": (mlp, mlp_start), "conv": (conv, conv_start)}


def noise(key, images):
    return images + 0.1 * jax.random.normal(key, images.shape)


@functools.cache
def data():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(ROWS, 4, 4, 1)), jnp.float32)
    return images, jnp.asarray(rng.integers(0, 3, ROWS), jnp.int32)


def optimizer():
    return Recipe(milestones=(1,), learning_rate=0.05).optimizer(ROWS // BATCH)


def cohort(net, seeds, tx):
    return stack_seeds(
        [init_state(*NETS[net][1](key), tx, key) for key in map(jax.random.key, range(seeds))]
    )


def masks_for(state, kept):
    """One mask a seed on the last axis of one leaf; the other leaves are never pruned."""
    pruned = "scale" if "scale" in state.params else "b1"
    seeds, width = state.params[pruned].shape
    never = jnp.ones(seeds, bool)
    row = jnp.arange(width)[None] < jnp.arange(kept, kept + seeds)[:, None]
    return {k: row if k == pruned else never for k in state.params}


def raw(tree):
    """Every leaf as NumPy, keys as their data."""
    leaves = jax.tree.leaves(tree)
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in leaves
    ]


def assert_close(a, b, exact=False):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(raw(a), raw(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if exact or x.dtype.kind != "f":
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5)


def by_hand(step, state, masks, epochs, steps=None):
    """The plainest driver: one seed, one Python step at a time, its own order each epoch."""
    images, labels = data()
    sums = []
    for epoch in range(epochs):
        order = epoch_order(order_key(state.key), epoch, size=ROWS, batch=BATCH)[:steps]
        losses, correct = [], 0
        for rows in np.asarray(order):
            state, m = step(state, images[rows], labels[rows], masks)
            losses.append(float(m.loss_sum))
            correct += int(m.correct)
        sums.append((sum(losses), correct, order.size))
    return state, sums


@pytest.mark.parametrize(
    ("net", "seeds", "masked"),
    [
        ("mlp", 1, False),
        ("mlp", 3, True),
        ("conv", 1, True),
        ("conv", 3, False),
        *(
            pytest.param(net, seeds, masked, marks=pytest.mark.slow)
            for net, seeds, masked in (
                ("mlp", 1, True),
                ("mlp", 3, False),
                ("conv", 1, False),
                ("conv", 3, True),
            )
        ),
    ],
)
def test_loop_and_scan_are_equal_and_right(net, seeds, masked):
    tx = optimizer()
    step = make_step(NETS[net][0], tx, augment=noise)
    images, labels = data()
    results = {}
    for mode in ("loop", "scan"):
        run = epoch_runner(step, batch_size=BATCH, mode=mode)
        state = cohort(net, seeds, tx)
        masks = masks_for(state, 1) if masked else None
        metrics = []
        for _ in range(2):
            state, m = run(state, images, labels, masks)
            metrics.append(m)
        assert state.epoch.tolist() == [2] * seeds
        assert state.step.tolist() == [2 * (ROWS // BATCH)] * seeds
        results[mode] = (state, metrics)
    assert_close(*results.values())

    start, masks = cohort(net, seeds, tx), masks_for(cohort(net, seeds, tx), 1) if masked else None
    seed = seeds - 1
    hand, sums = by_hand(
        jax.jit(step), take_seed(start, seed), take_seed(masks, seed) if masked else None, 2
    )
    state, metrics = results["loop"]
    got = take_seed(state, seed)
    assert_close(got.params, hand.params)
    assert_close(got.stats, hand.stats)
    assert_close(got.opt_state, hand.opt_state)
    for m, (loss, correct, count) in zip(metrics, sums, strict=True):
        np.testing.assert_allclose(m.loss_sum[seed], loss, rtol=1e-4)
        assert (int(m.correct[seed]), int(m.count[seed])) == (correct, count)


def test_a_cohort_on_the_loop_is_bitwise_its_single_seeds():
    tx = optimizer()
    run = epoch_runner(make_step(conv, tx, augment=noise), batch_size=BATCH, mode="loop")
    images, labels = data()
    together, m = run(cohort("conv", 3, tx), images, labels, None)
    for seed in range(3):
        alone = stack_seeds([take_seed(cohort("conv", 3, tx), seed)])
        alone, n = run(alone, images, labels, None)
        assert_close(take_seed(together, seed), take_seed(alone, 0), exact=True)
        assert float(m.loss_sum[seed]) == float(n.loss_sum[0])
    assert run.programs == 1


@pytest.mark.parametrize("mode", ["loop", "scan"])
def test_values_never_recompile_and_masks_are_a_second_program(mode):
    traces = []

    def counted(params, stats, images, train=False):
        traces.append(1)  # runs when traced, never when executed
        return mlp(params, stats, images, train)

    tx = optimizer()
    run = epoch_runner(make_step(counted, tx), batch_size=BATCH, mode=mode)
    images, labels = data()
    state = cohort("mlp", 1, tx)
    seconds = run.compile(state, images, labels, None)
    assert seconds > 0
    assert seconds == run.compile_seconds
    once = len(traces)
    for _ in range(3):
        state, _ = run(state, images, labels, None)
    state = stack_seeds([take_seed(cohort("mlp", 2, tx), 1)])
    state, _ = run(state, -images, labels, None)
    assert run.compile(state, images, labels, None) == 0.0
    assert (run.programs, len(traces), run.compile_seconds) == (1, once, seconds)
    before = raw(state.params)  # donated below
    for kept in (1, 2, 5):
        state, _ = run(state, images, labels, masks_for(state, kept))
    assert (run.programs, len(traces)) == (2, 2 * once)
    assert not np.array_equal(raw(state.params)[1], before[1])


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("mode", ["loop", "scan"])
def test_the_state_is_donated_and_the_data_are_not(mode, seeds):
    tx = optimizer()
    run = epoch_runner(make_step(mlp, tx), batch_size=BATCH, mode=mode)
    images, labels = data()
    state = cohort("mlp", seeds, tx)
    masks = masks_for(state, 2)
    after, _ = run(state, images, labels, masks)
    assert all(x.is_deleted() for x in jax.tree.leaves((state.params, state.opt_state)))
    assert not any(x.is_deleted() for x in jax.tree.leaves((images, labels, masks, after)))


def test_compile_leaves_the_state_alone():
    tx = optimizer()
    images, labels = data()
    for mode in ("loop", "scan"):
        for seeds in (1, 2):
            state = cohort("mlp", seeds, tx)
            before = raw(state)
            run = epoch_runner(make_step(mlp, tx), batch_size=BATCH, mode=mode)
            run.compile(state, images, labels, masks_for(state, 2))
            for x, y in zip(raw(state), before, strict=True):
                np.testing.assert_array_equal(x, y)
            run(state, images, labels, masks_for(state, 2))
            assert run.programs == 1


def test_an_epoch_moves_nothing_between_host_and_device():
    tx = optimizer()
    run = epoch_runner(make_step(mlp, tx), batch_size=BATCH, mode="loop")
    images, labels = data()
    state = cohort("mlp", 1, tx)
    run.compile(state, images, labels, None)
    with jax.transfer_guard("disallow"):
        state, metrics = run(state, images, labels, None)
    assert int(metrics.count[0]) == BATCH * (ROWS // BATCH)


def test_one_seed_keeps_a_conditional_a_conditional():
    """A counter that vmap has batched turns `cond` into a select that runs both branches each step."""

    def every_other(updates, state, params=None):
        held = jax.lax.cond(
            state % 2 == 0, lambda u: u, lambda u: jax.tree.map(jnp.sin, u), updates
        )
        return held, state + 1

    gate = optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), every_other)
    tx = optax.chain(gate, optax.sgd(0.1))
    images, labels = data()
    for mode in ("loop", "scan"):
        run = epoch_runner(make_step(mlp, tx), batch_size=BATCH, mode=mode)
        state = cohort("mlp", 1, tx)
        run.compile(state, images, labels, None)
        [program] = run._run._programs.values()
        assert "conditional" in program.as_text()


def test_fewer_steps_than_there_are_batches():
    tx = optimizer()
    images, labels = data()
    for mode in ("loop", "scan"):
        run = epoch_runner(make_step(mlp, tx), batch_size=BATCH, steps_per_epoch=2, mode=mode)
        state, metrics = run(cohort("mlp", 1, tx), images, labels, None)
        _, [(loss, _, count)] = by_hand(
            make_step(mlp, tx), take_seed(cohort("mlp", 1, tx), 0), None, 1, steps=2
        )
        assert (int(state.step[0]), int(metrics.count[0])) == (2, count)
        np.testing.assert_allclose(metrics.loss_sum[0], loss, rtol=1e-5)


def test_paired_arms_see_the_same_data_and_seeds_do_not():
    seen = []

    def watch(params, stats, images, train=False):
        return mlp(params, {"rows": images[:, 0, 0, 0]}, images, train)

    images, labels = jnp.arange(ROWS, dtype=jnp.float32), data()[1]
    images = jnp.broadcast_to(images[:, None, None, None], (ROWS, 4, 4, 1))
    for arm in (optax.sgd(0.1), optax.adam(0.1)):
        run = epoch_runner(make_step(watch, arm), batch_size=BATCH, mode="loop")
        states = [
            init_state(mlp_start(key)[0], {"rows": jnp.zeros(BATCH)}, arm, key)
            for key in map(jax.random.key, range(2))
        ]
        with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to an int32 power
            state, _ = run(stack_seeds(states), images, labels, None)
        seen.append(np.asarray(state.stats["rows"]))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0][0], seen[0][1])


def test_a_step_that_changes_a_dtype_is_a_sentence():
    def careless(params, stats, images, train=False):
        return mlp(params, {"mean": stats["mean"].astype(jnp.bfloat16)}, images, train)

    tx = optax.sgd(0.1)
    key = jax.random.key(0)
    state = stack_seeds([init_state(mlp_start(key)[0], {"mean": jnp.zeros(2)}, tx, key)])
    run = epoch_runner(make_step(careless, tx), batch_size=BATCH, mode="loop")
    with pytest.raises(
        ValueError, match=r"changes 'stats/mean' from float32\[2\] to bfloat16\[2\]"
    ):
        run(state, *data(), None)


def test_a_step_that_changes_the_structure_is_a_sentence():
    def careless(params, stats, images, train=False):
        return mlp(params, {"mean": jnp.zeros(2)}, images, train)

    tx = optax.sgd(0.1)
    run = epoch_runner(make_step(careless, tx), batch_size=BATCH, mode="loop")
    with pytest.raises(ValueError, match="changes the structure of its state"):
        run(cohort("mlp", 1, tx), *data(), None)


def test_wrong_arguments_are_sentences():
    tx = optax.sgd(0.1)
    step = make_step(mlp, tx)
    images, labels = data()
    state = cohort("mlp", 2, tx)
    run = epoch_runner(step, batch_size=BATCH, mode="loop")
    with pytest.raises(ValueError, match="masks are for 3 seeds and the state holds 2"):
        run(state, images, labels, masks_for(cohort("mlp", 3, tx), 1))
    with pytest.raises(TypeError, match=r"images are a ndarray on the host.*jax\.device_put"):
        run(state, np.asarray(images), labels, None)
    with pytest.raises(ValueError, match="22 images and 21 labels"):
        run(state, images, labels[:-1], None)
    with pytest.raises(ValueError, match="labels are float32 of shape"):
        run(state, images, labels.astype(jnp.float32), None)
    with pytest.raises(ValueError, match="leading seed axis"):
        run(take_seed(state, 0), images, labels, None)
    with pytest.raises(ValueError, match="6 x 4 examples does not fit into a set of 22"):
        epoch_runner(step, batch_size=4, steps_per_epoch=6, mode="scan")(state, images, labels)
    with pytest.raises(ValueError, match="batch_size is 0"):
        epoch_runner(step, batch_size=0)
    with pytest.raises(ValueError, match="steps_per_epoch is 0"):
        epoch_runner(step, batch_size=4, steps_per_epoch=0)
    with pytest.raises(ValueError, match=r"mode is 'fast'\. Use 'loop', 'scan' or 'auto'"):
        epoch_runner(step, batch_size=4, mode="fast")
    assert not any(x.is_deleted() for x in jax.tree.leaves(state))


def test_auto_is_the_loop_on_cpu(monkeypatch):
    step = make_step(mlp, optax.sgd(0.1))
    for backend, mode in (("cpu", "loop"), ("gpu", "scan"), ("tpu", "scan")):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert epoch_runner(step, batch_size=4).mode == mode
