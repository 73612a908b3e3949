"""Training and evaluating from a stream against the in-memory drivers: the same numbers bit for bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.data import (
    ArrayRecords,
    Decode,
    Position,
    Stream,
    StreamedSplit,
    digits,
    normalise,
)
from experiments.training import (
    Checkpoints,
    epoch_runner,
    evaluator,
    init_state,
    make_step,
    stack_seeds,
    stream_evaluator,
    stream_runner,
    take_seed,
)

pytest.importorskip("grain", reason="Grain is not installed")
ROWS, BATCH = 46, 8  # ragged: six rows stay out of each epoch
STEPS = ROWS // BATCH


def net(params, stats, images, train=False):
    """A convolution with normalised channels and a running mean."""
    x = jax.lax.conv_general_dilated(
        images, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean = jnp.mean(x, axis=(0, 1, 2)) if train else stats["mean"]
    x = jax.nn.relu((x - mean[None, None, None]) * params["scale"][None, None, None])
    if train:
        stats = {"mean": 0.9 * stats["mean"] + 0.1 * mean}
    return jnp.mean(x, axis=(1, 2)) @ params["head"], stats


@functools.cache
def data():
    """Rows of the digits in memory, and the same rows as a stream."""
    split = digits(split_seed=0, limit=ROWS).train
    pixels = np.rint(split.images * 255).astype(np.uint8)
    records = ArrayRecords(pixels, split.labels)
    return jax.device_put((pixels, split.labels)), StreamedSplit(records, np.arange(ROWS), Decode())


def prepare(images):
    return normalise(images, (0.3,), (0.37,))


TX = optax.sgd(0.05, momentum=0.9)


def mirror(key, images):
    mirrored = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


STEP = make_step(net, TX, augment=mirror, prepare=prepare)


def cohort(seeds=1):
    def one(seed):
        rng = np.random.default_rng(seed)
        kernel, head = (rng.normal(size=size) for size in ((3, 3, 1, 4), (4, 10)))
        params = {"kernel": kernel, "scale": np.ones(4), "head": head}
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
        stats = {"mean": jnp.asarray(np.zeros(4, np.float32))}
        return init_state(params, stats, TX, jax.random.key(seed))

    return stack_seeds([one(seed) for seed in range(seeds)])


def masks(seeds=1):
    one = {
        "kernel": np.ones(1, bool),
        "scale": np.array([[True, False, True, True]]),
        "head": np.ones(1, bool),
    }
    return jax.tree.map(lambda x: jnp.asarray(np.repeat(x, seeds, axis=0)), one)


def stream(**settings):
    return Stream(data()[1], batch_size=BATCH, threads=1, **settings)


def raw(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(raw(a), raw(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_array_equal(x, y)


@functools.cache
def runners():
    return epoch_runner(STEP, batch_size=BATCH, mode="loop"), stream_runner(STEP)


@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_from_a_stream_is_training_from_memory(masked):
    (images, labels), _ = data()
    given = masks() if masked else None
    held, read = runners()
    a, b = cohort(), cohort()
    for _ in range(2):
        a, total = held(a, images, labels, given)
        b, again = read(b, stream(), given)
        assert_equal((a, total), (b, again))
    assert (int(b.epoch[0]), int(b.step[0]), int(again.count[0])) == (2, 2 * STEPS, STEPS * BATCH)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_killed_in_an_epoch_resumes_exactly(stop, tmp_path):
    _, run = runners()
    expected = run(run(cohort(), stream())[0], stream())

    class Killed(Exception):
        pass

    store = Checkpoints(tmp_path, {"run": 1})

    def save(state, total, position):
        store.save((state, total), position._asdict())
        if position.step == stop:
            raise Killed

    state, total = run(cohort(), stream())
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, total))
    with pytest.raises(Killed):
        run(state, stream(), every=1, save=save)
    (state, total), saved = store.restore(like)
    position = Position(**saved)
    assert position == (1, stop)
    assert int(state.step[0]) == STEPS + stop
    assert_equal(run(state, stream(), start=position.step, total=total), expected)


def test_saves_come_when_promised_and_change_nothing():
    _, run = runners()
    seen = []
    state, total = run(
        cohort(),
        stream(),
        every=2,
        save=lambda s, m, p: seen.append((int(s.step[0]), int(m.count[0]), *p)),
    )
    assert seen == [(2, 2 * BATCH, 0, 2), (4, 4 * BATCH, 0, 4)]
    assert_equal((state, total), run(cohort(), stream()))


def test_the_state_is_donated_and_nothing_recompiles():
    _, run = runners()
    after, _ = run(cohort(), stream())
    known = (run.programs, run.compile_seconds)
    run(state := after, stream())
    assert all(x.is_deleted() for x in jax.tree.leaves((state.params, state.opt_state)))
    assert (run.programs, run.compile_seconds) == known
    assert known[0] <= 2  # with masks and without
    assert known[1] > 0


def test_steps_run_behind_the_loop_but_not_without_bound(monkeypatch):
    """The loop waits for the step that is `depth` behind, never for the newest."""
    _, run = runners()
    events, state = [], cohort()
    run(cohort(), stream())

    class Count:
        def __init__(self, i):
            self.i = i

        def block_until_ready(self):
            events.append(("wait", self.i))

    def program(state, total, images, labels, masks):
        i = len([e for e in events if e[0] == "step"])
        events.append(("step", i))
        return state, total, Count(i)

    monkeypatch.setattr(run, "_prepare", lambda *args: program)
    run(state, stream())
    assert events == [
        *(("step", 0), ("step", 1), ("step", 2)),
        *(("wait", 0), ("step", 3), ("wait", 1), ("step", 4), ("wait", 2)),
    ]


@pytest.mark.parametrize("seeds", [1, 2])
def test_evaluating_a_stream_is_evaluating_from_memory(seeds):
    (images, labels), _ = data()
    state = cohort(seeds)
    given = masks(seeds)
    held = evaluator(net, batch_size=BATCH, prepare=prepare, mode="loop")
    read = stream_evaluator(net, prepare=prepare)
    assert_equal(held(state, images, labels, given), read(state, stream(), given))
    assert read(state, stream(), given).count.tolist() == [ROWS] * seeds


@pytest.mark.slow
def test_several_devices_share_a_batch():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("data"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.P())
    run = stream_runner(STEP, sharding=sharding)
    state, total = run(jax.device_put(cohort(), everywhere), stream())
    alone, expected = runners()[1](cohort(), stream())
    assert total.count.tolist() == expected.count.tolist()
    for x, y in zip(raw(state.params), raw(alone.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_wrong_arguments_are_sentences():
    _, run = runners()
    state = cohort(2)
    with pytest.raises(ValueError, match="the state is for 2 seeds"):
        run(state, stream())
    state = cohort()
    with pytest.raises(ValueError, match="tree of masks is for 2 seeds"):
        run(state, stream(), masks(2))
    with pytest.raises(ValueError, match="start is 2 and total is missing"):
        run(state, stream(), start=2)
    with pytest.raises(ValueError, match=r"every is 3, save is None"):
        run(state, stream(), every=3)
    _, total = run(cohort(), stream())
    with pytest.raises(ValueError, match="step 9 is no position in an epoch of 5 steps"):
        run(state, stream(), start=9, total=total)
    for make in (stream_runner, lambda step, depth: stream_evaluator(net, depth=depth)):
        with pytest.raises(ValueError, match="depth is 0"):
            make(STEP, depth=0)
    assert not any(x.is_deleted() for x in jax.tree.leaves(take_seed(state, 0)))
