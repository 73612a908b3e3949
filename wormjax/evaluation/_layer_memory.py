"""Memory by the rule of layer pruning papers: all layer outputs, and all weights."""

from jaxtyping import PyTree

from wormjax.evaluation._memory import parameters


def layer_memory(outputs: PyTree, weights: PyTree, itemsize: int = 4) -> int:
    r"""Return the bytes of all layer outputs and all weights, as papers on layer pruning count them.

    .. math:: M = b \, \Bigl(\sum_l |\text{output}_l| + |\text{weights}|\Bigr)

    What is a layer is the caller's to say: of a Keras ResNet the input, every convolution, normalisation, activation
    and sum, pooling, flattening and softmax. It is no peak: nothing is ever freed. `peak_memory` is what a trace needs
    at once, and ``compiled.memory_analysis()`` what one program takes.

    Args:
      outputs: the output of every layer, with its batch; arrays or ``jax.ShapeDtypeStruct``.
      weights: all weights, batch statistics included.
      itemsize: bytes of an entry.

    Returns:
      Bytes, an exact integer.

    Example:
      >>> import jax.numpy as jnp
      >>> layer_memory([jnp.ones((1, 3)), jnp.ones((1, 2))], {"kernel": jnp.ones((3, 2))})
      44
    """
    return itemsize * (parameters(outputs) + parameters(weights))
