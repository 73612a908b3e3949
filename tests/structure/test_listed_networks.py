"""Networks that pick channels by a list of positions: two ShuffleNets, a PreResNet with channel selection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import wormjax as wj

NUMBERS = ("NHWC", "HWIO", "NHWC")
WIDTH = 8
SHUFFLED = np.arange(WIDTH).reshape(2, WIDTH // 2).T.ravel()


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


IMAGES = normal(2, 4, 4, 3)


def conv(x, kernel, groups=1):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS, feature_group_count=groups
    )


def norm(x, p):
    centred = x - x.mean((0, 1, 2))[None, None, None]
    scaled = centred * lax.rsqrt(jnp.mean(centred**2, (0, 1, 2)) + 1e-2)[None, None, None]
    return scaled * p["scale"][None, None, None] + p["shift"][None, None, None]


def affine(width):
    return {"scale": 1 + normal(width), "shift": normal(width)}


def test_a_shufflenet_of_grouped_convolutions(check_function):
    params = {
        "stem": normal(3, 3, 3, WIDTH),
        "in": normal(1, 1, WIDTH // 2, WIDTH),
        "norm": affine(WIDTH),
        "depthwise": normal(3, 3, 1, WIDTH),
        "out": normal(1, 1, WIDTH // 2, WIDTH),
        "head": normal(WIDTH, 3),
    }

    def apply(p, x):
        x = jax.nn.relu(conv(x, p["stem"]))
        y = jax.nn.relu(norm(conv(x, p["in"], 2), p["norm"]))
        y = conv(y[..., SHUFFLED], p["depthwise"], WIDTH)
        y = jax.nn.relu(x + conv(y, p["out"], 2))
        return y.mean((1, 2)) @ p["head"]

    checked = check_function(apply, params, IMAGES, tolerance=1e-4)
    dims, traced = checked.traced.dims, checked.traced
    into = traced.params[traced.names.index("in")][3]
    # as in the shuffle by reshapes: the axis is (groups, inside) before and (inside, groups) behind the list
    assert [atom.size for atom in dims.atoms(into)] == [2, 2, 2]
    assert checked.free >= 2
    assert not dims.reasons(into)


@pytest.mark.slow
def test_a_shufflenet_that_splits_and_joins(check_function):
    half = WIDTH // 2
    params = {
        "stem": normal(3, 3, 3, WIDTH),
        "blocks": [
            {"in": normal(1, 1, half, half), "norm": affine(half), "out": normal(1, 1, half, half)}
            for _ in range(2)
        ],
        "head": normal(WIDTH, 3),
    }

    def apply(p, x):
        x = jax.nn.relu(conv(x, p["stem"]))
        for block in p["blocks"]:
            kept, y = jnp.split(x, 2, axis=-1)
            y = conv(jax.nn.relu(norm(conv(y, block["in"]), block["norm"])), block["out"])
            x = jnp.concatenate([kept, y], axis=-1)[..., SHUFFLED]
        return x.mean((1, 2)) @ p["head"]

    checked = check_function(apply, params, IMAGES, tolerance=1e-4)
    assert checked.free >= 4


SELECTED = [np.array([0, 2, 3, 5, 6, 7]), np.array([1, 2, 4, 5, 6, 7])]


def preresnet(p, x):
    """Pre-activation blocks of which each selects channels of the stream after its norm."""
    x = conv(x, p["stem"])
    for block, selected in zip(p["blocks"], SELECTED, strict=True):
        y = jnp.take(norm(x, block["norm"]), jnp.asarray(selected), axis=-1)
        y = conv(jax.nn.relu(y), block["in"])
        x = x + conv(jax.nn.relu(norm(y, block["inner"])), block["out"])
    return jax.nn.relu(norm(x, p["norm"])).mean((1, 2)) @ p["head"]


def selecting():
    params = {
        "stem": normal(3, 3, 3, WIDTH),
        "blocks": [
            {
                "norm": affine(WIDTH),
                "in": normal(3, 3, len(selected), 5),
                "inner": affine(5),
                "out": normal(3, 3, 5, WIDTH),
            }
            for selected in SELECTED
        ],
        "norm": affine(WIDTH),
        "head": normal(WIDTH, 3),
    }
    return jax.tree.map(jnp.asarray, params)


def test_a_preresnet_with_channel_selection():
    params = selecting()
    groups = wj.find_groups(preresnet, params, IMAGES)
    # the stream falls apart by who selects a channel: both blocks, the first, the second
    stream = [group.size for group in groups if any(s.path == "stem" for s in group.slices)]
    assert sorted(stream) == [2, 2, 4]
    plan = wj.plan(groups, wj.scores.magnitude(params), keep=0.5)
    ticket = wj.shrink(plan, params, verify=True)
    for block, selected in enumerate(SELECTED):
        rows = np.flatnonzero(np.isin(selected, plan.indices["stem"][3]))
        inner = plan.indices[f"blocks/{block}/in"][3]
        kernel = params["blocks"][block]["in"]
        small = ticket.params["blocks"][block]["in"]
        np.testing.assert_array_equal(small, kernel[:, :, rows][..., inner])


@pytest.mark.slow
def test_a_network_with_channel_selection_comes_back_and_is_shrunk_again(tmp_path):
    params = selecting()
    groups = wj.find_groups(preresnet, params, IMAGES)
    ticket = wj.shrink(wj.plan(groups, wj.scores.magnitude(params), keep=0.5), params)
    wj.save_ticket(tmp_path / "ticket", ticket)
    again = wj.load_ticket(tmp_path / "ticket", preresnet, params)
    np.testing.assert_allclose(
        again.apply(again.params, IMAGES), ticket.apply(ticket.params, IMAGES), rtol=1e-6
    )
    groups = wj.find_groups(ticket.apply, ticket.params, IMAGES)
    plan = wj.plan(groups, wj.scores.magnitude(ticket.params), keep=0.7)
    narrow = wj.shrink(plan, ticket.params, verify=True).params["stem"]
    assert narrow.shape[3] < ticket.params["stem"].shape[3]
