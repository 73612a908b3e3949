"""Image networks in Flax Linen."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo._case import Example, case, draws, images


def from_linen(model: nn.Module, x: jax.Array, groups: int, **settings) -> Example:
    variables = draws(
        jax.eval_shape(functools.partial(model.init, **settings), jax.random.key(0), x)
    )
    state = {k: v for k, v in variables.items() if k != "params"} or None

    def apply(params, *rest):
        if state is None:
            return model.apply({"params": params}, *rest, **settings)
        return model.apply({"params": params, **rest[0]}, *rest[1:], **settings), rest[0]

    return Example(apply, variables["params"], state, (x,), groups)


class VGG16(nn.Module):
    widths: tuple = (4, 4, "M", 5, 5, "M", 6, 6, 6, "M", 7, 7, 7, 8, 8, 8)

    @nn.compact
    def __call__(self, x, train):
        for width in self.widths:
            if width == "M":
                x = nn.max_pool(x, (2, 2), (2, 2))
                continue
            x = nn.Conv(width, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(9)(x)))
        return nn.Dense(5)(x)


@case
def vgg16():
    """Convolutions with BatchNorm in a chain, flattened into dense layers."""
    return from_linen(VGG16(), images(16), 14, train=False)


class Bottleneck(nn.Module):
    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        conv = functools.partial(nn.Conv, use_bias=False)
        y = nn.relu(norm()(conv(self.width, (1, 1))(x)))
        y = nn.relu(norm()(conv(self.width, (3, 3), self.stride)(y)))
        y = norm(scale_init=nn.initializers.zeros)(conv(4 * self.width, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.width, (1, 1), self.stride)(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    """As published, of fewer blocks a stage where ``stages`` says so."""

    stages: tuple = (2, 2, 1, 1)
    width: int = 2

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (7, 7), 2, padding=[(3, 3), (3, 3)], use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                x = Bottleneck(self.width * 2**stage, 1 if stage == 0 or block else 2)(x)
        return nn.Dense(5)(jnp.mean(x, axis=(1, 2)))


@case
def resnet50():
    """Bottlenecks; every stage's residual stream with its shortcut."""
    # the stem, two inside each of six blocks, and one residual stream a stage
    return from_linen(ResNet50(), images(32), 1 + 2 * 6 + 4)


class WideBlock(nn.Module):
    width: int
    stride: int

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        y = nn.relu(norm()(x))
        shortcut = x
        if x.shape[-1] != self.width or self.stride > 1:
            shortcut = nn.Conv(self.width, (1, 1), self.stride, use_bias=False)(y)
        y = nn.Conv(self.width, (3, 3), self.stride, use_bias=False)(y)
        y = nn.Dropout(0.3, deterministic=True)(nn.relu(norm()(y)))
        return shortcut + nn.Conv(self.width, (3, 3), use_bias=False)(y)


class WideResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (3, 3), use_bias=False)(x)
        for width, stride in ((6, 1), (6, 1), (8, 2)):
            x = WideBlock(width, stride)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.avg_pool(x, (4, 4), (4, 4))
        return nn.Dense(5)(x.reshape(x.shape[0], -1))


@case
def wide_resnet():
    """Pre-activation blocks with dropout, average pooling."""
    # the stem's own width, one inside each of three blocks, two streams
    return from_linen(WideResNet(), images(8), 6)


class InvertedResidual(nn.Module):
    features: int
    stride: int = 1
    expand: int = 2

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        hidden = x.shape[-1] * self.expand
        y = nn.relu6(norm()(nn.Conv(hidden, (1, 1), use_bias=False)(x)))
        y = nn.Conv(hidden, (3, 3), self.stride, feature_group_count=hidden, use_bias=False)(y)
        y = nn.relu6(norm()(y))
        y = norm()(nn.Conv(self.features, (1, 1), use_bias=False)(y))
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), 2, use_bias=False)(x)
        x = nn.relu6(nn.BatchNorm(use_running_average=True)(x))
        for features, stride in ((3, 1), (4, 2), (4, 1)):
            x = InvertedResidual(features, stride)(x)
        x = nn.relu6(nn.BatchNorm(use_running_average=True)(nn.Conv(9, (1, 1))(x)))
        return nn.Dense(5)(x.mean((1, 2)))


@case
def mobilenet_v2():
    """Inverted residuals with depthwise convolutions."""
    # the stem, three expansions, two bottlenecks (the second a residual stream), the head
    return from_linen(MobileNetV2(), images(16), 7)


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        def block(x, width):
            for _ in range(2):
                x = nn.relu(nn.GroupNorm(num_groups=2)(nn.Conv(width, (3, 3))(x)))
            return x

        skips = []
        for width in (4, 6):
            x = block(x, width)
            skips.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = block(x, 8)
        for width, skip in zip((6, 4), reversed(skips), strict=True):
            x = nn.ConvTranspose(width, (2, 2), (2, 2))(x)
            x = block(jnp.concatenate([skip, x], axis=-1), width)
        return nn.Conv(3, (1, 1))(x)


@case
def unet():
    """GroupNorm, transposed convolutions, skips joined by concatenation."""
    # for each of ten normalised convolutions its norm's groups and the units within them, and two upsamplings
    return from_linen(UNet(), images(8), 22)
