"""Which leaves dynamic sparse training masks unless it is told otherwise: kernels."""

import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax._prunable import prunable
from wormjax._selection import check_choice
from wormjax.scores._protocol import is_kernel, last_name

# A part of a path that names a normalisation: batch_norm, bn1, ln_f, RMSNorm_0. Rank cannot tell it
# from a kernel, since in a scanned stack of layers its scale has rank 2.
_NORM = re.compile(r"norm|(^|_)(bn|ln)\d*(_|$)", re.IGNORECASE)
# The last part of a path that names a table of rows which are looked up, or learned tokens.
_TABLE = re.compile(
    r"embed|(^|_)(pos|position|wte|wpe|cls|token|tokens)(_|$)|_token$", re.IGNORECASE
)


def kernels(
    params: PyTree, *, embeddings: bool = False, mask_rule: Literal["kernels", "ndim>1"] = "kernels"
) -> PyTree[bool]:
    """Say for each leaf whether dynamic sparse training masks it: kernels only.

    A kernel has rank 2 or more, is not called bias, shift, offset, beta, scale or gamma, and lies in no
    part of the tree that is called after a normalisation (``norm``, ``bn1``, ``ln_f``). So the biases
    and scales of a scanned stack, of shape ``(layers, n)``, are never masked, nor are the rank-2 biases of
    attention heads. Depthwise kernels and 1x1 shortcuts are kernels like others. Names decide, since
    rank alone cannot: look at what was chosen, and use `wj.prunable` where a model's names are others.

    Args:
      params: any pytree of arrays; names and shapes are read.
      embeddings: also mask embedding tables, positions and learned tokens.
      mask_rule: ``"ndim>1"`` masks whatever has rank 2 or more, as JaxPruner does, embeddings and stacked
        biases included.

    Returns:
      A tree of Python bools with the structure of ``params``.

    Raises:
      ValueError: no leaf is a kernel, or an unknown rule.

    Example:
      >>> import jax.numpy as jnp
      >>> stack = {"kernel": jnp.ones((4, 3, 3)), "bias": jnp.ones((4, 3))}
      >>> kernels({"blocks": stack, "embed": {"embedding": jnp.ones((9, 3))}})
      {'blocks': {'bias': False, 'kernel': True}, 'embed': {'embedding': False}}

    References:
      Lee et al., `JaxPruner: A Concise Library for Sparsity Research
      <https://arxiv.org/abs/2304.14082>`_, 2023
    """
    check_choice("mask_rule", mask_rule, ("kernels", "ndim>1"))
    if mask_rule == "ndim>1":
        return prunable(params, include=lambda _, leaf: jnp.ndim(leaf) > 1)

    names, leaves = leaf_names(params), jax.tree.leaves(params)
    if not any(
        kernel_like(name, leaf, embeddings) for name, leaf in zip(names, leaves, strict=True)
    ):
        raise ValueError(
            f"No leaf looks like a kernel by its name and rank; the leaves are {', '.join(map(repr, names[:5]))}. "
            "Say which may be pruned with wj.prunable."
        )
    return prunable(params, include=lambda name, leaf: kernel_like(name, leaf, embeddings))


def kernel_like(name: str, leaf: Any, embeddings: bool = False) -> bool:
    """Whether a leaf is a kernel by its path and rank; see `kernels`."""
    if not is_kernel(name, leaf) or any(_NORM.search(part) for part in name.split("/")):
        return False
    return embeddings or not _is_table(name, leaf)


def _is_table(name: str, leaf: Any) -> bool:
    last = last_name(name)
    if last == "weight" and jnp.ndim(leaf) == 2:  # Equinox and PyTorch name the table by its module
        parts = name.split("/")
        return len(parts) > 1 and _TABLE.search(parts[-2]) is not None
    return last != "kernel" and _TABLE.search(last) is not None
