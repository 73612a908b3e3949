"""Image networks in Flax NNX."""

import jax
import jax.numpy as jnp
from flax import nnx

from zoo._case import Example, case, draws, images


def from_nnx(make, x: jax.Array, groups: int) -> Example:
    """Split a module into parameters and the rest, as `nnx.jit` users do; evaluation mode."""
    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    abstract.eval()
    graph, params, state = nnx.split(abstract, nnx.Param, ...)

    def apply(params, state, x):
        model = nnx.merge(graph, params, state)
        return model(x), nnx.split(model, nnx.Param, ...)[2]

    return Example(apply, draws(params), draws(state, 1), (x,), groups)


def conv(inputs, outputs, size, rngs, stride=1, **settings):
    return nnx.Conv(inputs, outputs, (size, size), stride, use_bias=False, rngs=rngs, **settings)


class Norms(nnx.Module):
    def __init__(self, width, rngs):
        self.norm = nnx.BatchNorm(width, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.norm(x))


class BasicBlock(nnx.Module):
    def __init__(self, inputs, width, stride, rngs):
        self.conv1 = conv(inputs, width, 3, rngs, stride)
        self.bn1 = nnx.BatchNorm(width, rngs=rngs)
        self.conv2 = conv(width, width, 3, rngs)
        self.bn2 = nnx.BatchNorm(width, rngs=rngs)
        down = [conv(inputs, width, 1, rngs, stride), nnx.BatchNorm(width, rngs=rngs)]
        self.down = nnx.List(down if stride > 1 or inputs != width else [])

    def __call__(self, x):
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        for layer in self.down:
            x = layer(x)
        return nnx.relu(y + x)


class ResNet18(nnx.Module):
    def __init__(self, rngs):
        self.stem, self.bn = conv(3, 4, 3, rngs), nnx.BatchNorm(4, rngs=rngs)
        blocks, inputs = [], 4
        for width, stride in ((4, 1), (5, 2), (6, 2), (7, 2)):
            for k in range(2):
                blocks.append(BasicBlock(inputs, width, stride if k == 0 else 1, rngs))
                inputs = width
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


@case
def resnet18():
    """Basic blocks with projected shortcuts."""
    return from_nnx(ResNet18, images(16), 8 + 4)


class PreBlock(nnx.Module):
    def __init__(self, inputs, width, stride, rngs):
        self.bn1, self.conv1 = nnx.BatchNorm(inputs, rngs=rngs), conv(inputs, width, 1, rngs)
        self.bn2, self.conv2 = nnx.BatchNorm(width, rngs=rngs), conv(width, width, 3, rngs, stride)
        self.bn3, self.conv3 = nnx.BatchNorm(width, rngs=rngs), conv(width, 2 * width, 1, rngs)
        needs = stride > 1 or inputs != 2 * width
        self.down = conv(inputs, 2 * width, 1, rngs, stride) if needs else None

    def __call__(self, x):
        y = nnx.relu(self.bn1(x))
        shortcut = x if self.down is None else self.down(y)
        y = nnx.relu(self.bn2(self.conv1(y)))
        y = nnx.relu(self.bn3(self.conv2(y)))
        return shortcut + self.conv3(y)


class PreResNet(nnx.Module):
    def __init__(self, rngs):
        self.stem = conv(3, 4, 3, rngs)
        self.blocks = nnx.List(
            [PreBlock(4, 3, 1, rngs), PreBlock(6, 3, 1, rngs), PreBlock(6, 4, 2, rngs)]
        )
        self.bn, self.head = nnx.BatchNorm(8, rngs=rngs), nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = nnx.relu(self.bn(x))
        return self.head(nnx.avg_pool(x, (4, 4), (4, 4)).reshape(x.shape[0], -1))


@case
def preresnet():
    """Pre-activation bottlenecks."""
    # the stem, two inside each of three blocks, two streams
    return from_nnx(PreResNet, images(8), 9)


class DenseLayer(nnx.Module):
    def __init__(self, inputs, growth, rngs):
        self.bn1, self.conv1 = nnx.BatchNorm(inputs, rngs=rngs), conv(inputs, 4, 1, rngs)
        self.bn2, self.conv2 = nnx.BatchNorm(4, rngs=rngs), conv(4, growth, 3, rngs)

    def __call__(self, x):
        y = self.conv1(nnx.relu(self.bn1(x)))
        return jnp.concatenate([x, self.conv2(nnx.relu(self.bn2(y)))], axis=-1)


class DenseNet(nnx.Module):
    def __init__(self, rngs):
        self.stem = conv(3, 4, 3, rngs)
        self.first = nnx.List([DenseLayer(4 + 3 * k, 3, rngs) for k in range(3)])
        self.bn, self.transition = nnx.BatchNorm(13, rngs=rngs), conv(13, 6, 1, rngs)
        self.second = nnx.List([DenseLayer(6 + 3 * k, 3, rngs) for k in range(2)])
        self.last, self.head = nnx.BatchNorm(12, rngs=rngs), nnx.Linear(12, 5, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for layer in self.first:
            x = layer(x)
        x = nnx.avg_pool(self.transition(nnx.relu(self.bn(x))), (2, 2), (2, 2))
        for layer in self.second:
            x = layer(x)
        return self.head(nnx.relu(self.last(x)).mean(axis=(1, 2)))


@case
def densenet():
    """Every layer's growth, through all later concatenations."""
    # stem, transition, and a bottleneck and a growth for each of five layers
    return from_nnx(DenseNet, images(8), 12)


class ShuffleUnit(nnx.Module):
    """ShuffleNet's unit: grouped pointwise convolutions with a channel shuffle between them."""

    def __init__(self, width, rngs, groups=2):
        self.groups = groups
        self.conv1 = conv(width, width, 1, rngs, feature_group_count=groups)
        self.bn1 = nnx.BatchNorm(width, rngs=rngs)
        self.depthwise = conv(width, width, 3, rngs, feature_group_count=width)
        self.bn2 = nnx.BatchNorm(width, rngs=rngs)
        self.conv2 = conv(width, width, 1, rngs, feature_group_count=groups)
        self.bn3 = nnx.BatchNorm(width, rngs=rngs)

    def __call__(self, x):
        y = nnx.relu(self.bn1(self.conv1(x)))
        n, h, w, c = y.shape
        y = y.reshape(n, h, w, self.groups, c // self.groups).swapaxes(-1, -2).reshape(n, h, w, c)
        y = self.bn2(self.depthwise(y))
        return nnx.relu(x + self.bn3(self.conv2(y)))


class ShuffleNet(nnx.Module):
    def __init__(self, rngs):
        self.stem, self.bn = conv(3, 8, 3, rngs), nnx.BatchNorm(8, rngs=rngs)
        self.units = nnx.List([ShuffleUnit(8, rngs), ShuffleUnit(8, rngs)])
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn(self.stem(x)))
        for unit in self.units:
            x = unit(x)
        return self.head(x.mean(axis=(1, 2)))


@case
def shufflenet():
    """Grouped convolutions with channel shuffles: whole groups, and units within all groups."""
    # whole convolution groups, tied everywhere; the stream within them; and the inside of each of two units
    return from_nnx(ShuffleNet, images(8), 4)
