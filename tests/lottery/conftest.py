"""Small networks in plain JAX, with normalisation by running statistics, and their values in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import wormjax as wj


def conv(x, kernel, stride=1, groups=1, padding="SAME"):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


def norm(x, p, s):
    def along(v):
        return v.reshape(1, 1, 1, -1)

    y = (x - along(s["mean"])) * lax.rsqrt(along(s["var"]) + 1e-5)
    return y * along(p["scale"]) + along(p["shift"])


def chain(params, state, x):
    """Three convolutions with biases, the second of stride 2, and a head."""
    for name, stride in (("a", 1), ("b", 2), ("c", 1)):
        p = params[name]
        x = conv(x, p["kernel"], stride) + p["bias"].reshape(1, 1, 1, -1)
        x = jax.nn.relu(norm(x, p, state[name]))
    return jnp.mean(x, axis=(1, 2)) @ params["head"], state


def residual(params, state, x):
    """A stem, a block whose inner channels are no stream, a depthwise convolution, a head."""
    x = jax.nn.relu(norm(conv(x, params["a"]["kernel"]), params["a"], state["a"]))
    y = jax.nn.relu(norm(conv(x, params["b"]["kernel"]), params["b"], state["b"]))
    y = norm(conv(y, params["c"]["kernel"]), params["c"], state["c"])
    x = jax.nn.relu(x + y)
    x = jax.nn.relu(norm(conv(x, params["d"]["kernel"]), params["d"], state["d"]))
    x = conv(x, params["e"]["kernel"], groups=x.shape[-1])
    x = jax.nn.relu(norm(x, params["e"], state["e"]))
    return jnp.mean(x, axis=(1, 2)) @ params["head"], state


class Net:
    def __init__(self, apply, kernels, head, size, bias=False):
        rng = np.random.default_rng(0)

        def draw(*shape):
            return rng.normal(size=shape).astype(np.float32)

        self.apply = apply
        self.params = {"head": draw(*head)}
        self.state = {}
        for name, shape in kernels.items():
            c = shape[-1]
            self.params[name] = {"kernel": draw(*shape), "scale": draw(c), "shift": draw(c)}
            if bias:
                self.params[name]["bias"] = draw(c)
            self.state[name] = {"mean": draw(c), "var": np.abs(draw(c)) + 0.5}
        self.x = draw(2, size, size, 3)
        self.groups = wj.find_groups(apply, self.params, self.x, state=self.state)
        self.compiled = jax.jit(apply)

    def masks(self, names, density=0.5, seed=1):
        """Random weight masks of these kernels; rank-0 elsewhere."""
        rng = np.random.default_rng(seed)
        masks = jax.tree.map(lambda _: jnp.array(True), self.params)
        for name in names:
            shape = self.params[name]["kernel"].shape
            masks[name]["kernel"] = jnp.asarray(rng.random(shape) < density)
        return masks

    def output(self, params, state=None):
        return np.asarray(self.compiled(params, state or self.state, self.x)[0])


@pytest.fixture(scope="session")
def chained():
    return Net(
        chain, {"a": (3, 3, 3, 8), "b": (3, 3, 8, 12), "c": (1, 1, 12, 8)}, (8, 4), 5, bias=True
    )


@pytest.fixture(scope="session")
def streamed():
    kernels = {
        "a": (3, 3, 3, 6),
        "b": (3, 3, 6, 8),
        "c": (3, 3, 8, 6),
        "d": (1, 1, 6, 10),
        "e": (3, 3, 1, 10),
    }
    return Net(residual, kernels, (10, 4), 5)
