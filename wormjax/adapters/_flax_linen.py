"""Flax Linen modules as views."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Key, PyTree

from wormjax._paths import leaf_names
from wormjax.adapters._view import View

# What `train=True` means for the arguments that Flax code uses for the mode of a module.
_MODE_ARGUMENTS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
_RNGS = "rngs"


def from_linen(
    module: Any,
    variables: Mapping[str, PyTree],
    *,
    rngs: Mapping[str, Key[Array, ""]] | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    eval_kwargs: Mapping[str, Any] | None = None,
) -> View:
    """View a Flax Linen module and its variables as a pure function of two plain nested dicts.

    * ``params`` is ``variables["params"]``; ``state`` holds the other collections by name
      (``batch_stats``, ``cache``, ...). All of them may change in training; in evaluation none may,
      and Flax raises ``ModifyScopeVariableError`` if the module tries.
    * ``train`` is passed to the module under the name that its ``__call__`` uses: ``train``,
      ``training`` or ``is_training`` as it is, ``deterministic`` and ``use_running_average``
      negated, each of them that is there. A module with none of these arguments is called the same
      way in both modes. ``train_kwargs`` and ``eval_kwargs`` replace this guess.
    * Keys for dropout and the like are given as ``rngs`` and kept in ``state["rngs"]``: in training
      each is split, one half is used and the other is returned in ``new_state``.

    Args:
      module: a ``flax.linen.Module``.
      variables: what ``module.init`` returned; a ``FrozenDict`` is thawed.
      rngs: typed keys (``jax.random.key``) by the name of their stream, as in
        ``{"dropout": key}``.
      train_kwargs: keyword arguments for calls with ``train=True``.
      eval_kwargs: keyword arguments for calls with ``train=False``.

    Returns:
      The view; ``module.apply({"params": params, **state}, x)`` is the way back.

    Raises:
      TypeError: ``module`` is not a Linen module.
      ValueError: ``variables`` has no ``"params"``, or has a collection named ``"rngs"``. From
        ``apply``: the forward pass changes the structure of the state, or needs a key that
        ``rngs`` did not name.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import linen as nn
      >>> class Net(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x, train: bool = False):
      ...         return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
      >>> x = jnp.array([[1.0, 3.0], [3.0, 5.0]])
      >>> net = Net()
      >>> view = from_linen(net, net.init(jax.random.key(0), x))
      >>> output, state = view.apply(view.params, view.state, x, train=True)
      >>> [round(v, 3) for v in state["batch_stats"]["BatchNorm_0"]["mean"].tolist()]
      [0.2, 0.4]
    """
    from flax import linen
    from flax.core import unfreeze

    if not isinstance(module, linen.Module):
        raise TypeError(
            f"from_linen got a {type(module).__name__}, not a flax.linen.Module; "
            "for an nnx.Module use wormjax.adapters.from_nnx."
        )
    collections = unfreeze(dict(variables))
    if "params" not in collections:
        raise ValueError(
            f"variables has no 'params' collection, only {sorted(collections)}: pass what "
            "module.init returned, whole."
        )
    if _RNGS in collections:
        raise ValueError(
            "variables has a collection named 'rngs', the name under which a view keeps its keys: "
            "rename that collection."
        )
    params = collections.pop("params")
    state = collections | ({_RNGS: dict(rngs)} if rngs else {})
    train_kwargs = _mode_kwargs(module, train=True) if train_kwargs is None else train_kwargs
    eval_kwargs = _mode_kwargs(module, train=False) if eval_kwargs is None else eval_kwargs
    return View(
        _LinenApply(module, tuple(train_kwargs.items()), tuple(eval_kwargs.items())), params, state
    )


@dataclasses.dataclass(frozen=True)
class _LinenApply:
    """The forward pass of one module; a value, so that equal modules compile once."""

    module: Any
    train_kwargs: tuple[tuple[str, Any], ...]
    eval_kwargs: tuple[tuple[str, Any], ...]

    def __call__(
        self, params: PyTree, state: PyTree, *inputs: Any, train: bool = False
    ) -> tuple[Any, PyTree]:
        from flax.errors import InvalidRngError

        collections = {name: value for name, value in state.items() if name != _RNGS}
        variables = {"params": params, **collections}
        if not train:
            return self.module.apply(variables, *inputs, **dict(self.eval_kwargs)), state

        split = {name: jax.random.split(key) for name, key in state.get(_RNGS, {}).items()}
        try:
            output, changed = self.module.apply(
                variables,
                *inputs,
                **dict(self.train_kwargs),
                rngs={name: pair[0] for name, pair in split.items()},
                mutable=list(collections),
            )
        except InvalidRngError as error:
            raise ValueError(
                f"{type(self.module).__name__} draws random numbers in training ({error}): name "
                'the stream and give it a key, as in from_linen(..., rngs={"dropout": key}).'
            ) from error
        new_state = collections | changed
        odd = sorted(set(leaf_names(new_state)) ^ set(leaf_names(collections)))
        if odd:
            raise ValueError(
                f"the forward pass of {type(self.module).__name__} makes or deletes "
                f"{', '.join(odd)}, so its state would change structure from step to step. Leave "
                "out of the variables a collection that the module fills with sow."
            )
        if split:
            new_state = new_state | {_RNGS: {name: pair[1] for name, pair in split.items()}}
        return output, new_state


def _mode_kwargs(module: Any, *, train: bool) -> dict[str, bool]:
    arguments = inspect.signature(type(module).__call__).parameters
    return {
        name: in_training == train
        for name, in_training in _MODE_ARGUMENTS.items()
        if name in arguments
    }
