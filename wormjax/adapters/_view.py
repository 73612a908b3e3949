"""What every model becomes: a pure function and the two trees it reads."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import PyTree


class View(NamedTuple):
    """A model as a pure function of plain pytrees.

    The rest of the library sees nothing else of a model, so anything that can be written as such a
    triple can be pruned, whatever library it comes from.

    Attributes:
      apply: ``apply(params, state, *inputs, train=False) -> (output, new_state)``. ``train`` is a
        Python bool (static under ``jax.jit``); ``new_state`` has the structure of ``state``.
      params: what the optimizer trains, and what masks and scores follow.
      state: everything else the model carries from one call to the next: batch statistics, caches,
        keys of dropout. ``{}`` where there is nothing.

    Example:
      >>> import jax.numpy as jnp
      >>> def apply(params, state, x, train=False):
      ...     return x @ params["kernel"], state
      >>> view = View(apply, {"kernel": jnp.ones((3, 2))}, {})
      >>> output, state = view.apply(view.params, view.state, jnp.ones((1, 3)))
      >>> output.tolist()
      [[3.0, 3.0]]
    """

    apply: Callable[..., tuple[Any, PyTree]]
    params: PyTree
    state: PyTree
