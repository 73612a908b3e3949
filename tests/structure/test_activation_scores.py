"""Activation means against NumPy: what each layer reads of each unit, wherever it stands in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.structure import activation_scores, find_groups, plan


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def relu(x):
    return np.maximum(x, 0)


def mean_of(x, axis=-1):
    """Mean size over all axes but one."""
    x = np.moveaxis(np.abs(np.float64(x)), axis, -1)
    return x.reshape(-1, x.shape[-1]).mean(axis=0)


def scores_of(apply, params, *inputs, **how):
    groups = find_groups(apply, params, *inputs, **how)
    return activation_scores(groups, params, *inputs, **how)


def close(found, expected):
    assert sorted(found) == sorted(expected)
    for name, units in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], units, rtol=1e-5, atol=1e-7)


MLP = {"a": normal(0, 3, 5), "b": normal(1, 5, 4), "c": normal(2, 4, 2)}
X = normal(3, 7, 3)


def mlp(params, x):
    return jax.nn.relu(jax.nn.relu(x @ params["a"]) @ params["b"]) @ params["c"]


def mlp_by_hand(x):
    a, b = np.asarray(MLP["a"]), np.asarray(MLP["b"])
    first = relu(np.asarray(x) @ a)
    return {"a:1": mean_of(first), "b:1": mean_of(relu(first @ b))}


def test_what_the_next_layer_reads_behind_the_nonlinearity():
    close(scores_of(mlp, MLP, X), mlp_by_hand(X))


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(f))])
def test_inside_calls(wrap):
    close(scores_of(wrap(mlp), MLP, X), mlp_by_hand(X))


def test_a_batch_of_another_size():
    groups = find_groups(mlp, MLP, X)
    larger = normal(4, 20, 3)
    close(activation_scores(groups, MLP, larger), mlp_by_hand(larger))
    abstract = find_groups(mlp, MLP, jax.ShapeDtypeStruct((1, 3), jnp.float32))
    close(activation_scores(abstract, MLP, larger), mlp_by_hand(larger))


def test_convolutions_norms_and_a_flattened_head():
    params = {
        "kernel": normal(0, 3, 3, 2, 4),
        "scale": normal(1, 4),
        "second": normal(2, 1, 1, 4, 5),
        "head": normal(3, 3 * 3 * 5, 2),
    }
    x, state = normal(4, 6, 3, 3, 2), {"mean": normal(5, 4)}

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def features(params, state, x):
        y = conv(x, params["kernel"]) - state["mean"].reshape(1, 1, 1, 4)
        y = jax.nn.relu(y * params["scale"].reshape(1, 1, 1, 4))
        return y, jnp.tanh(conv(y, params["second"]))

    def apply(params, state, x):
        _, z = features(params, state, x)
        return z.reshape(6, -1) @ params["head"], state

    first, second = features(params, state, x)
    expected = {"kernel:3": mean_of(first), "head:0": mean_of(second)}
    close(scores_of(apply, params, x, state=state), expected)


def test_channels_of_grouped_and_depthwise_convolutions():
    params = {
        "point": normal(0, 1, 1, 3, 4),
        "depth": normal(1, 3, 3, 1, 4),
        "grouped": normal(2, 1, 1, 2, 6),
        "head": normal(3, 6, 2),
    }
    x = normal(4, 5, 4, 4, 3)

    def conv(x, kernel, groups):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def features(params, x):
        y = jnp.tanh(conv(x, params["point"], 1))
        y = jax.nn.relu(conv(y, params["depth"], 4))  # reads no channel with any other: no reading
        return y, jnp.tanh(conv(y, params["grouped"], 2))

    def apply(params, x):
        return jnp.mean(features(params, x)[1], axis=(1, 2)) @ params["head"]

    y, z = features(params, x)
    pooled = np.mean(np.float64(z), axis=(1, 2))
    # the kernel's 4 channels are 2 groups of 2; what is removed in one group is removed in both
    within = mean_of(y).reshape(2, 2).mean(axis=0)
    of_head = mean_of(pooled).reshape(2, 3)
    expected = {
        "depth:3.1": of_head.mean(axis=1),  # the conv's groups, which only the head sums over
        "depth:3.2": within,
        "grouped:3": of_head.mean(axis=0),
    }
    close(scores_of(apply, params, x), expected)


def test_a_residual_stream_is_read_by_every_layer_behind():
    params = {"up": normal(0, 3, 4), "square": normal(1, 4, 4), "down": normal(2, 4, 2)}

    def apply(params, x):
        h = x @ params["up"]
        return (h + jnp.tanh(h @ params["square"])) @ params["down"]

    h = np.asarray(X) @ np.asarray(params["up"])
    after = h + np.tanh(h @ np.asarray(params["square"]))
    close(scores_of(apply, params, X), {"down:0": (mean_of(h) + mean_of(after)) / 2})


def test_attention_reads_queries_keys_and_values():
    shapes = {"q": (3, 2, 4), "k": (3, 2, 4), "v": (3, 2, 5), "o": (2, 5, 3)}
    params = {name: normal(i, *shape) for i, (name, shape) in enumerate(shapes.items())}
    x = normal(9, 2, 6, 3)

    def parts(params, x):
        q, k, v = (jnp.einsum("btm,mhd->bthd", x, params[name]) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k), axis=-1)
        return q, k, jnp.einsum("bhts,bshd->bthd", weights, v)

    def apply(params, x):
        return jnp.einsum("bthd,hdm->btm", parts(params, x)[2], params["o"])

    q, k, read = (np.float64(y) for y in parts(params, x))
    expected = {
        "k:2": (mean_of(q) + mean_of(k)) / 2,
        "k:1": mean_of(read, axis=2),
        "o:1": mean_of(read),
    }
    close(scores_of(apply, params, x), expected)


CELL = {"in": normal(0, 3, 4), "rec": normal(1, 4, 4), "out": normal(2, 4, 2)}


def cell_by_hand(xs):
    h, read = np.zeros((xs.shape[1], 4)), []
    for x in np.asarray(xs):
        read.append(mean_of(h))
        h = np.tanh(x @ np.asarray(CELL["in"]) + h @ np.asarray(CELL["rec"]))
    return {"in:1": (np.sum(read, axis=0) + mean_of(h)) / (len(read) + 1)}


def test_every_step_of_a_scan_is_a_reading():
    def apply(params, xs):
        def step(h, x):
            return jnp.tanh(x @ params["in"] + h @ params["rec"]), None

        h, _ = jax.lax.scan(step, jnp.zeros((xs.shape[1], 4)), xs)
        return h @ params["out"]

    xs = normal(5, 6, 5, 3)
    # the first state is zeros whatever the inputs are, and counts like every other
    close(scores_of(apply, CELL, xs), cell_by_hand(xs))


def test_weights_that_a_scan_carries_are_no_activations():
    def apply(params, xs):
        def step(carry, x):
            weights, h = carry
            return (weights, jnp.tanh(x @ params["in"] + h @ weights)), None

        start = params["rec"], jnp.zeros((xs.shape[1], 4))
        (_, h), _ = jax.lax.scan(step, start, xs)
        return h @ params["out"]

    xs = normal(5, 6, 5, 3)
    close(scores_of(apply, CELL, xs), cell_by_hand(xs))


def test_the_branch_that_is_taken_is_read():
    params = {"a": normal(0, 3, 4), "b": normal(1, 4, 2), "c": normal(2, 4, 2)}

    def apply(params, x, flag):
        h = jnp.tanh(x @ params["a"])
        return jax.lax.cond(flag, lambda: h @ params["b"], lambda: (2 * h) @ params["c"])

    h = np.tanh(np.asarray(X) @ np.asarray(params["a"]))
    for flag, factor in ((True, 1), (False, 2)):
        close(scores_of(apply, params, X, jnp.array(flag)), {"a:1": factor * mean_of(h)})


def test_what_comes_from_parameters_alone_is_no_activation():
    params = {"a": normal(0, 3, 4), "left": normal(1, 4, 5), "right": normal(2, 5, 2)}

    def apply(params, x):
        low_rank = params["left"] @ params["right"]  # its 5 are summed over, and no input is there
        return jnp.tanh(x @ params["a"]) @ low_rank

    groups = find_groups(apply, params, X)
    found = activation_scores(groups, params, X)
    h = np.tanh(np.asarray(X) @ np.asarray(params["a"]))
    assert {g.name for g in groups} == {"a:1", "left:1"}
    close(found, {"a:1": mean_of(h)})
    decided = plan(groups, found, keep=0.5)
    assert decided.kept["left:1"].all()  # nothing is known of it
    assert decided.widths["a:1"] == 2


def test_the_plan_removes_the_least_active_units():
    groups = find_groups(mlp, MLP, X)
    active = activation_scores(groups, MLP, X)
    decided = plan(groups, active, keep=0.5, scope="group")
    for name, units in active.items():
        gone = np.sort(units)[: len(units) // 2]
        np.testing.assert_array_equal(np.sort(units[~decided.kept[name]]), gone)


def test_captured_constants_and_bfloat16():
    table = normal(8, 1, 5)

    def apply(params, x):
        h = jnp.tanh(x @ params["a"]) * table
        return jnp.tanh(h.astype(jnp.bfloat16) @ params["b"].astype(jnp.bfloat16)) @ params[
            "c"
        ].astype(jnp.bfloat16)

    found = scores_of(apply, MLP, X)
    h = np.tanh(np.asarray(X) @ np.asarray(MLP["a"])) * np.asarray(table)
    np.testing.assert_allclose(found["a:1"], mean_of(h), rtol=2e-2)


def test_what_it_refuses():
    groups = find_groups(mlp, MLP, X)
    with pytest.raises(ValueError, match="'c' is missing"):
        activation_scores(groups, {"a": MLP["a"], "b": MLP["b"]}, X)
    with pytest.raises(ValueError, match="found without a state; pass none"):
        activation_scores(groups, MLP, X, state={"mean": jnp.zeros(2)})
    with pytest.raises(ValueError, match="units of 'a:1' are not finite"):
        activation_scores(groups, MLP, jnp.full((2, 3), jnp.nan))

    def no_product(params, x):
        return jnp.sum(x * params["up"] * params["down"], axis=1)

    params = {"up": jnp.ones((1, 4)), "down": jnp.ones((1, 4))}
    groups = find_groups(no_product, params, jnp.ones((2, 1)))
    with pytest.raises(ValueError, match="No dot product or convolution sums over the axis of any"):
        activation_scores(groups, params, jnp.ones((2, 1)))
