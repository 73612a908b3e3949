"""Keras models on the JAX backend as views."""

import dataclasses
import functools
import inspect
import operator
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from wormjax.adapters._view import View


def from_keras(model: Any) -> View:
    """View a Keras 3 model as a pure function of two plain nested dicts.

    * ``params`` holds what ``model.trainable_variables`` holds, by the variables' paths without the model's
      own name, as in ``params["conv1"]["kernel"]``; ``state`` holds the other variables: moving statistics, seeds of
      dropout, layers that are frozen. The view keeps its own arrays; the model stays as it is.
    * ``apply`` is ``model.stateless_call``. ``train`` is passed on as ``training`` where the model's
      ``call`` takes it. Losses that layers add (regularisers) are not part of the output.
    * A model with several inputs takes them as Keras does, as one list or dict.

    Keras numbers the layers that have no name (``dense``, ``dense_1``), on from one model to the next, so
    two models made by the same code have different trees: name the layers where trees are to be
    stacked, or use `keras.models.clone_model`.

    Args:
      model: a `keras.Model` or `keras.Layer` that has its variables.

    Returns:
      The view.

    Raises:
      TypeError: ``model`` is not of Keras.
      ValueError: Keras runs on another backend than JAX; the model has no variables yet; two variables
        have one path. From ``apply``: params or state have another structure than the view's, or
        layers of the model were frozen, freed or built since.

    Example:
      >>> import os
      >>> os.environ["KERAS_BACKEND"] = "jax"  # before the first import of Keras
      >>> import keras
      >>> import jax.numpy as jnp
      >>> net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
      >>> view = from_keras(net)
      >>> output, state = view.apply(view.params, view.state, jnp.ones((4, 3)))
      >>> output.shape, view.params["dense"]["kernel"].shape
      ((4, 2), (3, 2))
    """
    import keras

    if keras.config.backend() != "jax":
        raise ValueError(
            f"Keras runs on its {keras.config.backend()} backend, and wormjax needs JAX: set the "
            "environment variable KERAS_BACKEND=jax before Keras is imported."
        )
    if not isinstance(model, keras.Layer):
        raise TypeError(f"from_keras got a {type(model).__name__}, not a keras.Model.")
    if not model.variables:
        raise ValueError(
            f"The {type(model).__name__} has no variables yet: call it once, or its build(shape)."
        )
    trained, others = _paths(model)
    return View(
        _KerasApply(model, trained, others),
        _nested(trained, [v.value for v in model.trainable_variables]),
        _nested(others, [v.value for v in model.non_trainable_variables]),
    )


@dataclasses.dataclass(frozen=True)
class _KerasApply:
    """The forward pass of one model; equal to another where the models are one."""

    model: Any
    trained: tuple[str, ...]
    others: tuple[str, ...]

    def __call__(
        self, params: PyTree, state: PyTree, *inputs: Any, train: bool = False
    ) -> tuple[Any, PyTree]:
        model = self.model
        now = _paths(model)
        if now != (self.trained, self.others):
            odd = sorted(set(now[0]) ^ set(self.trained)) or sorted(set(now[1]) ^ set(self.others))
            raise ValueError(
                f"The variables of the model have changed since from_keras ({odd[0]!r} was frozen, "
                "freed, made or deleted): view it again."
            )
        takes_mode = "training" in inspect.signature(model.call).parameters
        mode = {"training": train} if takes_mode else {}
        output, new = model.stateless_call(
            _listed("params", params, self.trained),
            _listed("state", state, self.others),
            *inputs,
            **mode,
        )
        return output, _nested(self.others, new)


def _paths(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths of the trained variables and of the others, below the model's own name."""
    lists = model.trainable_variables, model.non_trainable_variables
    trained, others = (
        tuple(v.path.removeprefix(f"{model.name}/") for v in variables) for variables in lists
    )
    return trained, others


def _nested(paths: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return the values in nested dicts, by path."""
    tree: dict[str, Any] = {}
    for path, value in zip(paths, values, strict=True):
        *above, name = path.split("/")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or name in node:
            raise ValueError(
                f"The model has two variables or layers at the path {path!r}, and a tree tells them apart "
                "by path: give its layers different names."
            )
        node[name] = value
    return tree


def _listed(what: str, tree: PyTree, paths: Sequence[str]) -> list[Any]:
    """Return a nested dict's values in the order of the paths."""
    expected: Any = jax.tree.structure(_nested(paths, paths))
    if jax.tree.structure(tree) != expected:
        raise ValueError(
            f"{what} has another structure than view.{what}: pass nested dicts of arrays as the view holds them."
        )
    return [functools.reduce(operator.getitem, path.split("/"), tree) for path in paths]
