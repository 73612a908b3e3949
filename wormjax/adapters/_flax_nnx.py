"""Flax NNX modules as views."""

import dataclasses
from typing import Any

import jax
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.adapters._view import View


def from_nnx(model: Any) -> View:
    """View a Flax NNX module as a pure function of two plain nested dicts.

    The module is taken apart once for training and once for evaluation, so that a call only puts it
    together again, which costs nothing under ``jax.jit``. The module itself is left as it is, and
    shares its arrays with the view (so donate copies if it is to live on).

    * ``params`` holds the array of every ``nnx.Param``, ``state`` that of every other variable:
      batch statistics, caches, and the keys and counters of ``nnx.Rngs``. In training they come
      back changed in ``new_state``, so two calls on the same state drop the same units.
    * Both are plain dicts, keyed by attribute names and, in an ``nnx.List``, by ints, so that layer
      10 comes after layer 9. Orbax restores them with the tree itself as the target.
    * ``train`` sets ``deterministic`` and ``use_running_average``, and reaches modules of one's own
      through the attributes or the ``set_view`` method that Flax looks for.
    * A variable that several modules share appears once, under the first path that reaches it.
    * ``nnx.Intermediate`` values (``sow``) are dropped.

    Args:
      model: a callable ``nnx.Module``; an abstract one, from ``nnx.eval_shape``, gives a view with
        abstract ``params`` and ``state``.

    Returns:
      The view; :func:`to_nnx` is the way back. Views of equal modules have equal, hashable
      ``apply``, so ``jax.jit(apply, static_argnames="train")`` compiles once for both.

    Raises:
      TypeError: ``model`` is not a callable NNX module.
      ValueError: the module has no ``nnx.Param``, or a variable holds something that is not an
        array. From ``apply``: the forward pass sets a parameter, or makes or deletes a variable.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> view = from_nnx(nnx.BatchNorm(2, momentum=0.9, rngs=nnx.Rngs(0)))
      >>> sorted(view.params), sorted(view.state)
      (['bias', 'scale'], ['mean', 'var'])
      >>> x = jnp.array([[1.0, 3.0], [3.0, 5.0]])
      >>> output, state = view.apply(view.params, view.state, x, train=True)
      >>> [round(value, 3) for value in state["mean"].tolist()]
      [0.2, 0.4]
    """
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"from_nnx got a {type(model).__name__}, not an nnx.Module; for a flax.linen.Module "
            "use wormjax.adapters.from_linen."
        )
    if not callable(model):
        raise TypeError(
            f"{type(model).__name__} has no __call__ method, so there is no forward pass to view."
        )

    parts: Any = nnx.split(_in_mode(model, train=True), nnx.Param, ...)
    train_def, param_variables, state_variables = parts
    eval_def = nnx.graphdef(_in_mode(model, train=False))
    _check_arrays(type(model).__name__, param_variables, state_variables)
    params, state = nnx.to_pure_dict(param_variables), nnx.to_pure_dict(state_variables)
    if not params:
        raise ValueError(
            f"{type(model).__name__} has no nnx.Param, so there is nothing to train or to prune. "
            "Hold weights in nnx.Param; an array in a plain attribute is taken as state."
        )
    structures = (jax.tree.structure(params), jax.tree.structure(state))
    return View(_NnxApply(train_def, eval_def, *structures), params, state)


def to_nnx(view: View, params: PyTree = None, state: PyTree = None, *, train: bool = False) -> Any:
    """Put a view's trees back into a Flax NNX module.

    Args:
      view: what :func:`from_nnx` returned.
      params: the parameters to put in, structured like ``view.params``; those of the view if left
        out.
      state: the state to put in, structured like ``view.state``; that of the view if left out.
      train: whether the module is to be in training mode.

    Returns:
      A new module of the class that was viewed.

    Raises:
      TypeError: the view does not come from :func:`from_nnx`.
      ValueError: ``params`` or ``state`` has another structure than the view's.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> view = from_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
      >>> model = to_nnx(view, jax.tree.map(jnp.ones_like, view.params))
      >>> model(jnp.ones((1, 3))).tolist()
      [[4.0, 4.0]]
    """
    if not isinstance(view.apply, _NnxApply):
        raise TypeError(
            "this view does not come from from_nnx, so it has no NNX module to go back to."
        )
    params = view.params if params is None else params
    state = view.state if state is None else state
    return view.apply.module(params, state, train=train)


@dataclasses.dataclass(frozen=True)
class _NnxApply:
    """The forward pass of one module; a value, so that equal modules compile once."""

    train_def: Any
    eval_def: Any
    params_structure: Any
    state_structure: Any

    def module(self, params: PyTree, state: PyTree, *, train: bool) -> Any:
        from flax import nnx

        # nnx.merge takes leaves in order and does not look at their names
        _check_structure("params", params, self.params_structure)
        _check_structure("state", state, self.state_structure)
        return nnx.merge(self.train_def if train else self.eval_def, params, state)

    def __call__(
        self, params: PyTree, state: PyTree, *inputs: Any, train: bool = False
    ) -> tuple[Any, PyTree]:
        from flax import nnx

        model = self.module(params, state, train=train)
        before = _raw(nnx.state(model, nnx.Param))
        kept = {path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.Param)))}
        output = model(*inputs)
        nnx.pop(model, nnx.Intermediate)
        new_state = nnx.state(model, nnx.Not(nnx.Param))

        after = _raw(nnx.state(model, nnx.Param))
        changed = [path for path in before | after if before.get(path) is not after.get(path)]
        if changed:
            raise ValueError(
                f"the forward pass of {type(model).__name__} sets the parameter "
                f"{_name(changed[0])}, which a view cannot return. Hold what the forward pass "
                "updates in an nnx.Variable of another type, such as nnx.BatchStat."
            )
        found = {path for path, _ in nnx.to_flat_state(new_state)}
        if found != kept:
            odd = min(found ^ kept, key=str)
            what = "makes" if odd in found else "deletes"
            raise ValueError(
                f"the forward pass of {type(model).__name__} {what} the variable {_name(odd)}, so "
                "its state would change structure from step to step. Make every variable in "
                "__init__, or call the model once before from_nnx."
            )
        return output, nnx.to_pure_dict(new_state)


def _in_mode(model: Any, *, train: bool) -> Any:
    """Return a copy that shares its arrays with ``model``, in one mode, without intermediates."""
    from flax import nnx

    # `view` calls a module's own set_view, `train()` and `eval()` set attributes wherever they
    # exist: a user's module may follow either habit.
    copy = nnx.view(
        model, deterministic=not train, use_running_average=not train, raise_if_not_found=False
    )
    if train:
        copy.train()
    else:
        copy.eval()
    nnx.pop(copy, nnx.Intermediate)
    return copy


def _raw(state: Any) -> dict[Any, Any]:
    from flax import nnx

    return {path: variable.get_raw_value() for path, variable in nnx.to_flat_state(state)}


def _check_structure(what: str, tree: PyTree, expected: Any) -> None:
    if jax.tree.structure(tree) == expected:
        return
    names = leaf_names(tree)
    wanted = leaf_names(jax.tree.unflatten(expected, range(expected.num_leaves)))
    odd = [f"{name} is missing" for name in wanted if name not in names]
    odd += [f"{name} is not in the view" for name in names if name not in wanted]
    difference = odd[0] if odd else "the names agree, but not the kinds of nodes or keys"
    raise ValueError(
        f"{what} has another structure than view.{what}: {difference}. Pass plain nested dicts as "
        "the view holds them (nnx.to_pure_dict of an nnx.State); a checkpoint restored without a "
        "target tree has strings for the int keys of an nnx.List, which nnx.restore_int_paths mends. What "
        "calls a function of (params, inputs) wants lambda p, x: view.apply(p, state, x)[0]."
    )


def _check_arrays(owner: str, *states: Any) -> None:
    from flax import nnx

    for path, variable in (item for state in states for item in nnx.to_flat_state(state)):
        value = variable.get_value() if isinstance(variable, nnx.Variable) else variable
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            raise ValueError(
                f"the variable {_name(path)} of {owner} holds a {type(value).__name__}, not an "
                "array. Wrap a number in jnp.asarray, and give every array of a container its own "
                "variable."
            )


def _name(path: Any) -> str:
    return "/".join(str(part) for part in path)
