"""The layers that the models share, with the constants of the pruning papers."""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models._initial import he_normal, normal


class ConvNorm(nnx.Module):
    """A convolution without bias, then BatchNorm; no activation.

    Weights start from N(0, 2 / (k k C_out)), scales from ``scale_init``, shifts from 0. The
    convolution runs in ``dtype`` and so is the output; BatchNorm runs in float32.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        scale_init: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (kernel, kernel),
            strides=stride,
            # as PyTorch pads; "SAME" would pad a strided convolution on one side only
            padding=kernel // 2,
            use_bias=False,
            dtype=dtype,
            kernel_init=he_normal("out"),
            rngs=rngs,
        )
        self.norm = batch_norm(outputs, scale_init, rngs)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[N, H, W, C_in]`` to ``[N, H / stride, W / stride, C_out]``."""
        return self.norm(self.conv(x)).astype(self.dtype)


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
