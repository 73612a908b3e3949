"""Whatever sparse training is put into, around or beside: optimizers, wrappers, containers, devices, files."""

import functools
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import wormjax as wj
from tests.compiling import counted
from tests.dst.runs import KEY, SHAPE, gradients, run, start, training


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
        "accumulated": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
        "finite": optax.apply_if_finite(optax.adam(0.1), 3),
        "muon": optax.contrib.muon(0.1),
        "schedule_free": optax.contrib.schedule_free_adamw(0.1),
    }


QUICK = {"momentum", "adam", "adafactor"}


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
        past = state.inner
        updates, state = update(jax.tree.map(lambda g, t=t: g[t], grads), state, params)
        params = optax.apply_updates(params, updates)
    mask = np.asarray(state.masks["dense"]["kernel"])
    new = mask & ~old
    assert mask.sum() == 12
    assert new.any()
    assert (np.asarray(params["dense"]["kernel"])[~mask] == 0).all()
    if name in ("schedule_free", "sm3", "rprop", "optimistic"):
        return  # what they keep is not zero where nothing happens
    # one step of the optimizer alone, from zeros and with a gradient of zero
    zeros = jax.tree.map(jnp.zeros_like, params)
    past = jax.tree.map(
        lambda x: jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, past
    )
    blank = jax.jit(optax.with_extra_args_support(inner).update)(zeros, past, zeros)[1]
    for leaf, want in zip(jax.tree.leaves(state.inner), jax.tree.leaves(blank), strict=True):
        if leaf.shape == SHAPE and jnp.issubdtype(leaf.dtype, jnp.floating):
            np.testing.assert_array_equal(np.asarray(leaf)[new], np.asarray(want)[new])
            # these add a constant of theirs to a gradient or its square, be it zero
            constant = {"adabelief": 1e-16, "adafactor": 1e-30, "adamax": 1e-8, "adamaxw": 1e-8}
            assert np.abs(want).max() <= np.float32(constant.get(name, 0))


def test_jp_4_extra_arguments_arrive():
    def update(updates, state, params=None, *, value, **extra):
        del params, extra
        return jax.tree.map(lambda u: u * value, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    tx, params = training(inner), start()
    g = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(g, tx.init(params), params, value=jnp.float32(3))
    np.testing.assert_array_equal(updates["scale"], 3)


@pytest.mark.parametrize(
    "name",
    [
        "multi",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("chain", "masked", "finite", "injected")
        ),
    ],
)
def test_jp_5_inside_everything_that_wraps_it(name):
    params, grads = start(), gradients(4)
    plain = run(training(), params, grads)
    labels = {"dense": {"kernel": "sparse", "bias": "sparse"}, "scale": "rest"}
    seen = {"dense": {"kernel": True, "bias": True}, "scale": False}
    tx = {
        "chain": lambda: optax.chain(optax.identity(), training()),
        "multi": lambda: optax.multi_transform(
            {"sparse": training(), "rest": optax.sgd(0.1, momentum=0.9)}, labels
        ),
        "masked": lambda: optax.masked(training(), seen),
        "finite": lambda: optax.apply_if_finite(training(), 2),
        "injected": lambda: optax.inject_hyperparams(
            lambda learning_rate: training(optax.sgd(learning_rate, momentum=0.9))
        )(learning_rate=0.1),
    }[name]()
    _, state, path, masks = run(tx, params, grads)
    np.testing.assert_array_equal(masks, plain[3])
    np.testing.assert_allclose(path, plain[2], rtol=1e-5)
    wj.check(state)


@pytest.mark.slow
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


def test_jp_6_containers():
    leaf = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE), jnp.float32)
    params = [leaf, {"b": (leaf,)}]
    tx = training()
    state = tx.init(params)
    updates, state = tx.update(params, state, params)
    trees = (jax.tree.leaves(tree) for tree in (params, updates, state.masks))
    for p, u, m in zip(*([np.asarray(x) for x in t] for t in trees), strict=True):
        assert ((p + u)[~m] == 0).all()


def test_one_compilation_whatever_the_step():
    params, tx = start(), training()
    state, (update, programs) = tx.init(params), counted(tx.update)
    for t in range(3):
        _, state = update(jax.tree.map(lambda g, t=t: g[t], gradients(3)), state, params)
    assert len(programs) == 1


def test_eight_seeds_by_vmap_keep_one_conditional_and_equal_eight_runs():
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


@pytest.mark.slow  # explicit sharding is in every run
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


def test_explicitly_sharded_leaves_stay_where_they_are():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.NamedSharding(mesh, jax.P(None, "x"))
    params, tx = start(), training(every=1)
    _, plain = jax.jit(tx.update)(params, tx.init(params), params)
    with jax.set_mesh(mesh):
        kernel = jax.device_put(params["dense"]["kernel"], spec)
        sharded = {**params, "dense": {**params["dense"], "kernel": kernel}}
        state, update = tx.init(sharded), jax.jit(tx.update)
        assert jax.typeof(state.masks["dense"]["kernel"]).sharding.spec == spec.spec
        updates, after = update(sharded, state, sharded)
    assert jax.typeof(after.masks["dense"]["kernel"]).sharding.spec == spec.spec
    assert jax.typeof(updates["dense"]["kernel"]).sharding.spec == spec.spec
    np.testing.assert_array_equal(after.masks["dense"]["kernel"], plain.masks["dense"]["kernel"])


def test_an_nnx_state_as_parameters():
    params = nnx.state(nnx.Linear(6, 8, rngs=nnx.Rngs(0)), nnx.Param)
    tx = training(every=1)
    state = tx.init(params)
    updates, state = jax.jit(tx.update)(params, state, params)
    left = optax.apply_updates(params, updates)
    told = wj.masks_of(state, params)
    assert jax.tree.structure(told) == jax.tree.structure(params)
    mask = np.asarray(told["kernel"][...])
    assert mask.sum() == 12
    np.testing.assert_array_equal(np.asarray(left["kernel"][...])[~mask], 0)
    assert told["bias"][...].ndim == 0


def test_orbax_round_trip_with_key_fired_and_packed_masks(tmp_path):
    tx = training(packed=True, track_fired=True, accumulate=0.5)
    state = tx.init(start())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        read = checkpointer.restore(tmp_path / "state", jax.eval_shape(lambda: state))
    assert jax.tree.structure(read) == jax.tree.structure(state)
    assert jnp.issubdtype(read.key.dtype, jax.dtypes.prng_key)

    def values(state):
        return [
            np.asarray(jax.random.key_data(x) if x is state.key else x)
            for x in jax.tree.leaves(state)
        ]

    for got, want in zip(values(read), values(state), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


PRINTED = """
import jax, jax.numpy as jnp, numpy as np, optax, wormjax as wj
tx = wj.sparse_training(optax.sgd(0.1), key=jax.random.key(3), density=0.25, drop="random", grow="random",
                        distribution="uniform", every=1, stop=9)
params = {"kernel": jnp.ones((6, 8)), "other": {"kernel": jnp.ones((8, 4))}}
state = tx.init(params)
_, state = tx.update(params, state, params)
print([np.packbits(np.asarray(m)).tolist() for m in jax.tree.leaves(state.masks)])
"""


@pytest.mark.slow
def test_rl_2_two_fresh_processes_draw_the_same_masks():
    printed = [
        subprocess.run([sys.executable, "-c", PRINTED], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert len(printed[0].stdout) > 40
    assert printed[0].stdout == printed[1].stdout
