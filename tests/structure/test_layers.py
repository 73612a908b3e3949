"""The layers of Flax, Linen and NNX, as their users write them: pruned at random, they equal the masked network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from wormjax._paths import leaf_names
from wormjax.adapters import from_linen, from_nnx

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((2, 8, 8, 3)).astype(np.float32)
ROWS = RNG.standard_normal((5, 6)).astype(np.float32)
SEQUENCE = RNG.standard_normal((2, 7, 6)).astype(np.float32)
TOKENS = RNG.integers(0, 20, (2, 7)).astype(np.int32)


def filled(tree):
    """Numbers for abstract leaves; variances are positive."""

    def fill(name, leaf):
        assert jnp.issubdtype(leaf.dtype, jnp.floating), name
        values = np.random.default_rng(len(name)).standard_normal(leaf.shape).astype(leaf.dtype)
        return 0.5 + values**2 if name.endswith("var") else 0.5 * values

    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(map(fill, leaf_names(tree), leaves))


def check_view(check_function, view, x, train, **how):
    def apply(params, state, x):
        return view.apply(params, state, x, train=train)

    return check_function(apply, filled(view.params), x, state=filled(view.state), **how)


def linen_view(module, x):
    return from_linen(module, jax.eval_shape(module.init, jax.random.key(0), x))


def pixels(x):
    return x.mean((1, 2))


def flat(x):
    return x.reshape(len(x), -1)


# ------------------------------------------------------------------------------------------------ Linen


class SqueezeExcite(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3))(x)
        gate = nn.relu(nn.Dense(5)(x.mean((1, 2), keepdims=True)))
        x = x * nn.sigmoid(nn.Dense(8)(gate))
        return pixels(nn.Conv(4, (1, 1))(x))


class SpatialAttention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        seen = jnp.concatenate([x.mean(-1, keepdims=True), x.max(-1, keepdims=True)], axis=-1)
        return pixels(nn.Conv(4, (1, 1))(x * nn.sigmoid(nn.Conv(1, (5, 5))(seen))))


class Residual(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3))(x)
        for _ in range(2):
            y = nn.Conv(6, (3, 3), use_bias=False)(x)
            y = nn.relu(nn.BatchNorm(use_running_average=not self.train)(y))
            x = x + nn.Conv(8, (3, 3), use_bias=False)(y)
        return nn.Dense(4)(pixels(x))


class TiedEmbedding(nn.Module):
    @nn.compact
    def __call__(self, ids):
        embed = nn.Embed(20, 8)
        x = nn.LayerNorm()(embed(ids))
        return embed.attend(x + nn.Dense(8)(nn.gelu(nn.Dense(5)(x))))


class Attention(nn.Module):
    causal: bool = False

    @nn.compact
    def __call__(self, x):
        mask = nn.make_causal_mask(x[..., 0]) if self.causal else None
        x = nn.Dense(10)(x)
        y = nn.MultiHeadDotProductAttention(num_heads=4, qkv_features=12)(
            nn.LayerNorm()(x), mask=mask
        )
        return nn.Dense(4)(nn.RMSNorm()(x + y))


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(8)(x)))
        return nn.Dense(4)(x)


class Gated(nn.Module):
    @nn.compact
    def __call__(self, x):
        gate, value = jnp.split(nn.Dense(16)(x), 2, axis=-1)
        return nn.Dense(4)(nn.silu(gate) * value)


def convs(*between, into=8, **how):
    """A convolution, what comes between, another convolution and the mean over the pixels."""
    return nn.Sequential([nn.Conv(into, (3, 3), **how), *between, nn.Conv(4, (3, 3)), pixels])


def denses(*between):
    return nn.Sequential([nn.Dense(8), *between, nn.Dense(4)])


def average(x):
    with jax.numpy_dtype_promotion("standard"):  # Flax divides by an integer
        return nn.avg_pool(x, (2, 2), (2, 2))


def resized(method):
    return lambda x: jax.image.resize(x, (x.shape[0], 13, 5, x.shape[-1]), method)


LINEN = {  # the model, its input, and how many axes are free, counted by hand
    "dense": (denses(nn.relu, nn.Dense(6), nn.gelu), ROWS, 2),
    "dense on sequences": (denses(nn.DenseGeneral((3, 2)), nn.swish, lambda x: x.reshape(2, 7, 6)), SEQUENCE, 3),
    "prelu": (denses(nn.PReLU(), nn.Dense(6), nn.leaky_relu), ROWS, 2),
    "weight norm": (denses(nn.relu, nn.WeightNorm(nn.Dense(6)), nn.softplus), ROWS, 2),
    "conv": (convs(nn.relu), IMAGE, 1),
    "conv, strided": (convs(nn.silu, strides=2), IMAGE, 1),
    "conv, dilated": (convs(nn.elu, kernel_dilation=2), IMAGE, 1),
    "conv, valid": (convs(nn.hard_swish, padding="VALID"), IMAGE, 1),
    "conv, circular": (convs(nn.celu, padding="CIRCULAR"), IMAGE, 1),
    "conv, one axis": (nn.Sequential([nn.Conv(8, (3,)), nn.relu, nn.Conv(4, (3,))]), SEQUENCE, 1),
    "conv, groups": (convs(nn.relu, nn.Conv(12, (3, 3), feature_group_count=4), nn.relu), IMAGE, 3),
    "conv, depthwise": (convs(nn.relu, nn.Conv(8, (3, 3), feature_group_count=8), nn.relu6), IMAGE, 1),
    "conv, transposed": (convs(nn.relu, nn.ConvTranspose(6, (3, 3), strides=(2, 2)), nn.relu), IMAGE, 2),
    "conv, transposed kernel": (convs(nn.ConvTranspose(6, (2, 2), strides=(2, 2), transpose_kernel=True)), IMAGE, 2),
    "conv, then dense": (nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, flat, nn.Dense(6), nn.Dense(4)]), IMAGE, 2),
    "batch norm": (convs(nn.BatchNorm(use_running_average=True), nn.relu, use_bias=False), IMAGE, 1),
    "layer norm": (denses(nn.LayerNorm(), nn.gelu), ROWS, 1),
    "layer norm, one pass": (denses(nn.LayerNorm(use_fast_variance=False), nn.gelu), ROWS, 1),
    "layer norm, bare": (denses(nn.LayerNorm(use_scale=False, use_bias=False), nn.gelu), ROWS, 1),
    "rms norm": (denses(nn.RMSNorm(), nn.gelu), ROWS, 1),
    "group norm": (convs(nn.GroupNorm(4), nn.relu), IMAGE, 2),
    "instance norm": (convs(nn.InstanceNorm(), nn.relu), IMAGE, 1),
    "max pool": (convs(nn.relu, lambda x: nn.max_pool(x, (2, 2), (2, 2))), IMAGE, 1),
    "max pool, padded": (convs(lambda x: nn.max_pool(x, (3, 3), (2, 2), "SAME")), IMAGE, 1),
    "average pool": (convs(nn.relu, average), IMAGE, 1),
    "average pool, padded": (
        convs(lambda x: nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)), IMAGE, 1,
    ),
    "resize, nearest": (convs(resized("nearest")), IMAGE, 1),
    "resize, bilinear": (convs(resized("bilinear")), IMAGE, 1),
    "resize, cubic": (convs(nn.sigmoid, resized("cubic")), IMAGE, 1),
    "glu": (nn.Sequential([nn.Dense(16), nn.glu, nn.Dense(4)]), ROWS, 1),
    "swiglu by split": (Gated(), ROWS, 1),
    "squeeze and excite": (SqueezeExcite(), IMAGE, 2),
    "spatial attention": (SpatialAttention(), IMAGE, 1),
    "residual": (Residual(), IMAGE, 3),
    "dropout": (Dropped(), ROWS, 1),
    "embedding, tied": (TiedEmbedding(), TOKENS, 2),
    "attention": (Attention(), SEQUENCE, 4),
    "attention, causal": (Attention(causal=True), SEQUENCE, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEN)
def test_linen(check_function, name):
    module, x, free = LINEN[name]
    assert check_view(check_function, linen_view(module, x), x, train=False).free == free


LINEN_TRAINED = {
    "batch norm": (convs(nn.BatchNorm(use_running_average=False), nn.relu), IMAGE, 1),
    "batch norm, bare": (
        convs(nn.BatchNorm(use_running_average=False, use_scale=False), nn.relu),
        IMAGE,
        1,
    ),
    "residual": (Residual(train=True), IMAGE, 3),
}


@pytest.mark.parametrize("name", LINEN_TRAINED)
def test_linen_in_training(check_function, name):
    module, x, free = LINEN_TRAINED[name]
    # batch statistics of near-zero variance make the rounding of the masked network large
    assert (
        check_view(check_function, linen_view(module, x), x, train=True, tolerance=1e-4).free
        == free
    )


# -------------------------------------------------------------------------------------------------- NNX


class NnxSqueezeExcite(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.squeeze = nnx.Linear(8, 5, rngs=rngs)
        self.excite = nnx.Linear(5, 8, rngs=rngs)
        self.out = nnx.Conv(8, 4, (1, 1), rngs=rngs)

    def __call__(self, x):
        x = self.conv(x)
        gate = nnx.sigmoid(self.excite(nnx.relu(self.squeeze(x.mean(axis=(1, 2))))))
        return self.out(x * gate[:, None, None, :]).mean(axis=(1, 2))


class NnxTiedEmbedding(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(20, 8, rngs=rngs)
        self.norm = nnx.RMSNorm(8, rngs=rngs)
        self.up = nnx.Linear(8, 5, rngs=rngs)
        self.down = nnx.Linear(5, 8, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids)
        return self.embed.attend(self.norm(x + self.down(nnx.gelu(self.up(x)))))


class NnxAttention(nnx.Module):
    def __init__(self, rngs):
        self.into = nnx.Linear(6, 10, rngs=rngs)
        self.norm = nnx.LayerNorm(10, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 10, 12, decode=False, rngs=rngs)
        self.out = nnx.Linear(10, 4, rngs=rngs)

    def __call__(self, x):
        x = self.into(x)
        return self.out(x + self.attention(self.norm(x)))


def nnx_convs(*between):
    return lambda rngs: nnx.Sequential(
        nnx.Conv(3, 8, (3, 3), rngs=rngs),
        *(f(rngs) for f in between),
        nnx.Conv(8, 4, (3, 3), rngs=rngs),
        pixels,
    )


def nnx_denses(*between):
    return lambda rngs: nnx.Sequential(
        nnx.Linear(6, 8, rngs=rngs), *(f(rngs) for f in between), nnx.Linear(8, 4, rngs=rngs)
    )


def plain(function):
    return lambda rngs: function


NNX = {
    "dense": (nnx_denses(plain(nnx.relu)), ROWS, 1),
    "dropout": (nnx_denses(plain(nnx.relu), lambda r: nnx.Dropout(0.5, deterministic=True)), ROWS, 1),
    "einsum": (nnx_denses(plain(nnx.relu), lambda r: nnx.Einsum("nc,cd->nd", (8, 8), (8,), rngs=r)), ROWS, 2),
    "layer norm": (nnx_denses(lambda r: nnx.LayerNorm(8, rngs=r), plain(nnx.gelu)), ROWS, 1),
    "rms norm": (nnx_denses(lambda r: nnx.RMSNorm(8, rngs=r), plain(nnx.silu)), ROWS, 1),
    "prelu": (nnx_denses(lambda r: nnx.PReLU()), ROWS, 1),
    "conv": (nnx_convs(plain(nnx.relu)), IMAGE, 1),
    "conv, groups": (nnx_convs(lambda r: nnx.Conv(8, 8, (3, 3), feature_group_count=4, rngs=r)), IMAGE, 3),
    "conv, depthwise": (nnx_convs(lambda r: nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=r)), IMAGE, 1),
    "conv, transposed": (nnx_convs(lambda r: nnx.ConvTranspose(8, 8, (3, 3), strides=(2, 2), rngs=r)), IMAGE, 2),
    "batch norm": (nnx_convs(lambda r: nnx.BatchNorm(8, rngs=r), plain(nnx.relu)), IMAGE, 1),
    "group norm": (nnx_convs(lambda r: nnx.GroupNorm(8, 4, rngs=r), plain(nnx.relu)), IMAGE, 2),
    "instance norm": (nnx_convs(lambda r: nnx.InstanceNorm(8, rngs=r), plain(nnx.relu)), IMAGE, 1),
    "max pool": (nnx_convs(plain(lambda x: nnx.max_pool(x, (2, 2), (2, 2)))), IMAGE, 1),
    "average pool": (nnx_convs(plain(average)), IMAGE, 1),
    "squeeze and excite": (NnxSqueezeExcite, IMAGE, 2),
    "embedding, tied": (NnxTiedEmbedding, TOKENS, 2),
    "attention": (NnxAttention, SEQUENCE, 4),
}  # fmt: skip


def nnx_view(build):
    return from_nnx(nnx.eval_shape(lambda: build(nnx.Rngs(0))))


@pytest.mark.parametrize("name", NNX)
def test_nnx(check_function, name):
    build, x, free = NNX[name]
    assert check_view(check_function, nnx_view(build), x, train=False).free == free


def test_nnx_batch_norm_in_training(check_function):
    build, x, free = NNX["batch norm"]
    assert check_view(check_function, nnx_view(build), x, train=True, tolerance=1e-4).free == free
