"""The layers that the models share, with the constants of the pruning papers."""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models._initial import he_normal, normal


def convolution(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    dtype: str,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Make a convolution without bias that keeps the map's size, but for its stride.

    Weights start from N(0, 2 / (k k C_out)), as PyTorch counts the fan of grouped ones too.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        # as PyTorch pads; "SAME" would pad a strided convolution on one side only
        padding=kernel // 2,
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal("out"),
        rngs=rngs,
    )


class ConvNorm(nnx.Module):
    """A convolution without bias, then BatchNorm; no activation.

    Scales start from ``scale_init``, shifts from 0. The convolution runs in ``dtype`` and so is the
    output; BatchNorm runs in float32.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        scale_init: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.conv = convolution(
            inputs, outputs, kernel=kernel, stride=stride, groups=groups, dtype=dtype, rngs=rngs
        )
        self.norm = batch_norm(outputs, scale_init, rngs)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[N, H, W, C_in]`` to ``[N, H / stride, W / stride, C_out]``."""
        return self.norm(self.conv(x)).astype(self.dtype)


class Unpadded(nnx.Module):
    """A convolution without padding, with bias or BatchNorm in its place, then ReLU.

    Weights start from N(0, 2 / (k k C_in)), biases from 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        norm: bool,
        scale_init: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (kernel, kernel),
            padding="VALID",
            use_bias=not norm,
            dtype=dtype,
            kernel_init=he_normal("in"),
            rngs=rngs,
        )
        self.norm = batch_norm(outputs, scale_init, rngs) if norm else None
        self.kernel, self.dtype = kernel, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[N, H, W, C_in]`` to ``[N, H - k + 1, W - k + 1, C_out]``.

        Raises:
          ValueError: the map is smaller than the kernel.
        """
        if min(x.shape[1:3]) < self.kernel:
            raise ValueError(
                f"a map of {x.shape[1]}x{x.shape[2]} is too small for a {self.kernel}x{self.kernel} "
                "convolution without padding: use larger images or fewer layers."
            )
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x).astype(self.dtype)
        return nnx.relu(x)


class Hidden(nnx.Module):
    """A linear layer, with bias or BatchNorm in its place, then ReLU.

    Weights start from N(0, 2 / inputs), biases from 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        norm: bool,
        scale_init: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.dense = nnx.Linear(
            inputs,
            outputs,
            use_bias=not norm,
            dtype=dtype,
            kernel_init=he_normal("in"),
            rngs=rngs,
        )
        self.norm = batch_norm(outputs, scale_init, rngs) if norm else None
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[N, inputs]`` to ``[N, outputs]``."""
        x = self.dense(x)
        if self.norm is not None:
            x = self.norm(x).astype(self.dtype)
        return nnx.relu(x)


def halve(x: jax.Array) -> jax.Array:
    """Take the maximum of every 2x2 square of a map ``[N, H, W, C]``.

    Raises:
      ValueError: there is no such square.
    """
    if min(x.shape[1:3]) < 2:
        raise ValueError(
            f"a map of {x.shape[1]}x{x.shape[2]} is too small for a 2x2 pooling: use larger images or "
            "fewer 'M' in widths."
        )
    return nnx.max_pool(x, (2, 2), strides=(2, 2))


def batch_norm(width: int, scale_init: float, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Make a BatchNorm that computes in float32.

    Flax's ``momentum=0.9`` is PyTorch's 0.1. In bfloat16 Flax's BatchNorm would promote dtypes
    implicitly in training and round the running statistics in evaluation.
    """
    return nnx.BatchNorm(
        width,
        momentum=0.9,
        epsilon=1e-5,
        dtype=jnp.float32,
        scale_init=jax.nn.initializers.constant(scale_init),
        rngs=rngs,
    )


def head(inputs: int, classes: int, rngs: nnx.Rngs) -> nnx.Linear:
    """Make the classifier: weights from N(0, 0.01^2), bias 0, float32 logits."""
    return nnx.Linear(inputs, classes, dtype=jnp.float32, kernel_init=normal(0.01), rngs=rngs)
