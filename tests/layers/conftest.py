"""Small residual networks in plain JAX, and the Keras ResNet of the paper's tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def shaped(**shapes):
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def drawn(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), tree)


def conv(x, kernel, bias, stride=1):
    out = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out + bias[None, None, None]


def norm(x, p):
    """BatchNorm in evaluation mode; its statistics are among the parameters, as Keras counts them."""
    gamma, beta, mean, var = (p[k][None, None, None] for k in ("gamma", "beta", "mean", "var"))
    return (x - mean) * jax.lax.rsqrt(var + 1e-3) * gamma + beta


class KerasResNet:
    """ResNet-v1 of depth 6 b + 2: biased convolutions, projections without normalisation."""

    def __init__(self, blocks, widths=(16, 32, 64)):
        vector = dict.fromkeys(("gamma", "beta", "mean", "var"))

        def layer(i, o, k):
            return {
                **shaped(kernel=(k, k, i, o), bias=(o,)),
                "norm": shaped(**dict.fromkeys(vector, (o,))),
            }

        self.params = {"stem": layer(3, widths[0], 3), "stages": []}
        inputs = widths[0]
        for s, width in enumerate(widths):
            stage = []
            for b in range(blocks):
                block = {"one": layer(inputs, width, 3), "two": layer(width, width, 3)}
                if s > 0 and b == 0:
                    block["projection"] = shaped(kernel=(1, 1, inputs, width), bias=(width,))
                stage.append(block)
                inputs = width
            self.params["stages"].append(stage)
        self.params["head"] = shaped(kernel=(inputs, 10), bias=(10,))

    def apply(self, params, x):
        return self.layers(params, x)[-1]

    def layers(self, params, x):
        """The output of every Keras layer, the input included."""
        outputs = [x]

        def out(y):
            outputs.append(y)
            return y

        def convolution(y, p, stride=1):
            y = out(conv(y, p["kernel"], p["bias"], stride))
            return out(norm(y, p["norm"]))

        x = out(jax.nn.relu(convolution(x, params["stem"])))
        for stage in params["stages"]:
            for block in stage:
                stride = 2 if "projection" in block else 1
                y = out(jax.nn.relu(convolution(x, block["one"], stride)))
                y = convolution(y, block["two"])
                if stride == 2:
                    p = block["projection"]
                    x = out(conv(x, p["kernel"], p["bias"], 2))
                x = out(jax.nn.relu(out(y + x)))
        x = out(x.mean(axis=(1, 2)))  # pooling
        x = out(x)  # flattening
        x = x @ params["head"]["kernel"] + params["head"]["bias"][None]
        out(jax.nn.softmax(x))
        return [*outputs, x]


@pytest.fixture(scope="session")
def keras_resnet():
    return KerasResNet


def chain_apply(params, x):
    """Blocks ``x + tanh(x up + b) down``, then a head."""
    for p in params["blocks"]:
        x = x + jnp.tanh(x @ p["up"] + p["bias"][None]) @ p["down"]
    return x @ params["head"]


@pytest.fixture(scope="session")
def chain():
    """A residual network of four blocks, its parameters and an input."""
    block = shaped(up=(3, 5), bias=(5,), down=(5, 3))
    params = drawn({"blocks": [block] * 4, "head": jax.ShapeDtypeStruct((3, 2), jnp.float32)})
    return chain_apply, params, drawn(jax.ShapeDtypeStruct((4, 3), jnp.float32), 1)


@pytest.fixture(scope="session")
def scanned():
    """Four stacked blocks under one scan, their parameters and an input."""

    def apply(params, x):
        def step(x, p):
            return x + jnp.tanh(x @ p["up"]) @ p["down"], None

        return jax.lax.scan(step, x, params["blocks"])[0] @ params["head"]

    shapes = {"blocks": shaped(up=(4, 3, 5), down=(4, 5, 3)), **shaped(head=(3, 2))}
    return apply, drawn(shapes), drawn(jax.ShapeDtypeStruct((4, 3), jnp.float32), 1)
