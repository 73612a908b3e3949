"""Forward passes against NumPy in float64, in evaluation and in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import MLPConfig, ResNetConfig, VGGConfig, abstract


def convolve(x, kernel, stride=1):
    """A convolution padded as PyTorch pads it, by explicit sums over windows."""
    size = kernel.shape[0]
    pad = size // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = range(0, x.shape[1] - size + 1, stride)
    columns = range(0, x.shape[2] - size + 1, stride)
    windows = [[x[:, r : r + size, c : c + size] for c in columns] for r in rows]
    return np.array(
        [[np.tensordot(w, kernel, axes=([1, 2, 3], [0, 1, 2])) for w in row] for row in windows]
    ).transpose(2, 0, 1, 3)


class Oracle:
    """The layers in NumPy; in training it notes what the running statistics must become."""

    def __init__(self, train):
        self.train = train
        self.statistics = []

    def norm(self, x, params, state):
        axes = tuple(range(x.ndim - 1))
        mean, var = (x.mean(axes), x.var(axes)) if self.train else (state["mean"], state["var"])
        if self.train:
            self.statistics += [
                (0.9 * state["mean"] + 0.1 * mean),
                (0.9 * state["var"] + 0.1 * var),
            ]
        return (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]

    def conv_norm(self, x, params, state, stride=1):
        return self.norm(
            convolve(x, params["conv"]["kernel"], stride), params["norm"], state["norm"]
        )

    def head(self, x, params):
        return x @ params["head"]["kernel"] + params["head"]["bias"]


def relu(x):
    return np.maximum(x, 0)


def vgg(oracle, params, state, x):
    x = relu(oracle.conv_norm(x, params["layers"][0], state["layers"][0]))
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
    x = relu(oracle.conv_norm(x, params["layers"][1], state["layers"][1]))
    return oracle.head(x.mean((1, 2)), params)


def resnet(oracle, params, state, x):
    x = relu(oracle.conv_norm(x, params["layers"][0], state["layers"][0]))
    for index, stride in ((1, 1), (2, 2)):
        p, s = params["layers"][index], state["layers"][index]
        y = relu(oracle.conv_norm(x, p["convs"][0], s["convs"][0], stride))
        y = oracle.conv_norm(y, p["convs"][1], s["convs"][1])
        if "shortcut" in p:
            x = oracle.conv_norm(x, p["shortcut"], s["shortcut"], stride)
        elif stride == 2:
            x = np.concatenate([x[:, ::2, ::2], np.zeros((*y.shape[:3], 2))], axis=-1)
        x = relu(y + x)
    return oracle.head(x.mean((1, 2)), params)


def mlp(oracle, params, state, x):
    x = x.reshape(x.shape[0], -1)
    for index in range(2):
        p = params["layers"][index]
        x = x @ p["dense"]["kernel"]
        x = (
            oracle.norm(x, p["norm"], state["layers"][index]["norm"])
            if "norm" in p
            else x + p["dense"]["bias"]
        )
        x = relu(x)
    return oracle.head(x, params)


CASES = {
    "vgg": (VGGConfig(widths=(3, "M", 4), channels=2, classes=3), vgg),
    "resnet A": (ResNetConfig(blocks=1, widths=(3, 5), channels=2, classes=3), resnet),
    "resnet B": (
        ResNetConfig(blocks=1, widths=(3, 5), shortcut="B", channels=2, classes=3),
        resnet,
    ),
    "mlp": (MLPConfig(widths=(5, 4), inputs=50, classes=3), mlp),
    "mlp norm": (MLPConfig(widths=(5, 4), inputs=50, classes=3, batch_norm=True), mlp),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_forward_equals_numpy(name, train):
    config, forward = CASES[name]
    view = abstract(config)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(scale=0.5, size=leaf.shape), view.params)
    state = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, size=leaf.shape), view.state)
    size = 5 if forward is mlp else 6
    x = rng.normal(size=(3, size, size, 2))

    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (params, state, x))
    logits, new_state = jax.jit(view.apply, static_argnames="train")(*single, train=train)

    oracle = Oracle(train)
    np.testing.assert_allclose(logits, forward(oracle, params, state, x), rtol=1e-3, atol=1e-4)
    if train:
        # the tree flattens in the order in which the oracle meets the layers
        found = jax.tree.leaves(new_state)
        assert len(found) == len(oracle.statistics)
        for ours, theirs in zip(found, oracle.statistics, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    else:
        jax.tree.map(np.testing.assert_array_equal, new_state, single[1])
