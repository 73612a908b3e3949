"""The one driver of the structure tests: prune at random, run masked and replayed, compare."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.structure._dims import Dim
from wormjax.structure._replay import Replay, Value, zeros_removed
from wormjax.structure._trace import Axes, Traced, trace
from wormjax.structure.rules import EVALUATE, PROPAGATE


class Checked(NamedTuple):
    """What a check saw, so that a test can assert that something was pruned."""

    traced: Traced
    free: int


def free_atoms(traced: Traced) -> list[Dim]:
    """Atoms that nothing holds whole and that an axis of a parameter is made of, each once."""
    seen: dict[Dim, None] = {}
    for axes in traced.params:
        for dim in axes:
            seen.update(dict.fromkeys(traced.dims.atoms(dim)))
    return [atom for atom in seen if atom.size > 1 and not traced.dims.reasons(atom)]


def _indices(traced: Traced, axes: Axes, masks: dict[Dim, np.ndarray]) -> list[np.ndarray]:
    return [traced.dims.kept(dim, masks) for dim in axes]


def _cut(array: Any, kept: list[np.ndarray]) -> np.ndarray:
    """The kept entries of an array, by NumPy."""
    return np.asarray(array)[np.ix_(*kept)] if kept else np.asarray(array)


def _zero(array: Any, kept: list[np.ndarray]) -> np.ndarray:
    """The full-size array with every removed slice zero, by NumPy."""
    result = np.array(array)
    for axis, keep in enumerate(kept):
        np.moveaxis(result, axis, 0)[~keep] = 0
    return result


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _equal(got: list[Any], want: list[Any], tolerance: float, what: str) -> None:
    got, want = [np.asarray(x) for x in got], [np.asarray(x) for x in want]
    assert len(got) == len(want), what
    assert [x.shape for x in got] == [x.shape for x in want], what
    assert [x.dtype for x in got] == [x.dtype for x in want], what
    largest = max((np.abs(y).max() for y in want if y.size and _is_float(y)), default=0.0)
    for k, (x, y) in enumerate(zip(got, want, strict=True)):
        if not _is_float(y) or not y.size:
            np.testing.assert_array_equal(x, y, err_msg=f"{what} {k}")
            continue
        assert np.isfinite(y).all(), f"{what} {k}: the masked network is not finite"
        # a leaf whose true value is 0 (a bias before a batch norm) holds rounding only
        scale = max(float(np.abs(y).max()), 1e-2 * float(largest))
        error = float(np.abs(x - y).max())
        assert error <= tolerance * scale, f"{what} {k}: error {error:.2e} at scale {scale:.2e}"


def _check(
    apply: Callable[..., Any],
    params: Any,
    *inputs: Any,
    state: Any = None,
    seed: int = 0,
    ratio: float = 0.4,
    tolerance: float = 1e-5,
) -> Checked:
    """Prune every free atom at random; the replay must equal the masked network.

    Values, returned state (its kept part) and gradients with respect to the parameters (their kept part) and the
    inputs are compared.

    Args:
      apply: ``apply(params, *inputs)`` or, with a state, ``apply(params, state, *inputs) -> (output, state)``.
      params: full-size arrays.
      inputs: arrays.
      state: arrays, or None.
      seed: of the masks and of the functional whose gradients are compared.
      ratio: fraction of every atom that goes; at least one index goes and one stays.
      tolerance: largest error of a value relative to the largest entry; ten times that for gradients.

    Returns:
      The trace and how many atoms were pruned. A test must assert that number: zero compares nothing.
    """
    traced = trace(apply, params, inputs, state, PROPAGATE)
    rng = np.random.default_rng(seed)
    atoms = free_atoms(traced)
    masks: dict[Dim, np.ndarray] = {}
    for atom in atoms:
        gone = int(np.clip(round(ratio * atom.size), 1, atom.size - 1))
        mask = np.ones(atom.size, bool)
        mask[rng.choice(atom.size, gone, replace=False)] = False
        masks[atom] = mask

    leaves, tree = jax.tree.flatten(params)
    kept = [_indices(traced, axes, masks) for axes in traced.params]
    kept_state = [_indices(traced, axes, masks) for axes in traced.state]
    full = list(map(_zero, leaves, kept))
    small = list(map(_cut, leaves, kept))
    full_state, state_tree = jax.tree.flatten(state)
    small_state = list(map(_cut, full_state, kept_state))
    flat_inputs, input_tree = jax.tree.flatten(inputs)
    replay = Replay(traced.dims, masks, EVALUATE, traced.scope)

    def masked(params: list[Any], state: list[Any], inputs: list[Any]) -> list[Any]:
        middle = () if state_tree == jax.tree.structure(None) else (state_tree.unflatten(state),)
        return jax.tree.leaves(
            apply(tree.unflatten(params), *middle, *input_tree.unflatten(inputs))
        )

    def replayed(params: list[Any], state: list[Any], inputs: list[Any]) -> list[Any]:
        consts = [
            replay.slice(c, axes)
            for c, axes in zip(traced.closed.consts, traced.consts, strict=True)
        ]
        operands = [*map(zeros_removed, params), *map(Value, state), *map(Value, inputs)]
        return [v.array for v in replay.run(traced.closed.jaxpr, consts, operands)]

    outputs = len(traced.outputs)
    shapes = [x.shape for x in traced.closed.out_avals[:outputs]]
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    def differentiate(function: Callable[..., list[Any]], *arguments: list[Any]) -> Any:
        params, state, inputs = arguments
        moving = [x for x in (*params, *inputs) if _is_float(x)]

        def loss(moving: list[Any]) -> Any:
            rest = iter(moving)
            merged = [next(rest) if _is_float(x) else x for x in (*params, *inputs)]
            results = function(merged[: len(params)], state, merged[len(params) :])
            total = jnp.zeros(())
            for w, y in zip(weights, results, strict=False):
                if _is_float(y):
                    total += jnp.sum(w * y.real.astype(jnp.float32))
            return total, results

        (_, results), grads = jax.value_and_grad(loss, has_aux=True)(moving)
        rest = iter(grads)
        return results, [
            next(rest) if _is_float(x) else jnp.zeros(x.shape) for x in (*params, *inputs)
        ]

    @jax.jit  # to make one program is cheaper than to make two
    def both(large: list[list[Any]], little: list[list[Any]]) -> Any:
        return differentiate(masked, *large), differentiate(replayed, *little)

    (want, want_grads), (got, got_grads) = both(
        [full, full_state, flat_inputs], [small, small_state, flat_inputs]
    )
    _equal(got[:outputs], want[:outputs], tolerance, "output")
    _equal(got[outputs:], list(map(_cut, want[outputs:], kept_state)), tolerance, "new state, leaf")
    n = len(leaves)
    cut_grads = [*map(_cut, want_grads[:n], kept), *want_grads[n:]]
    names = [*traced.names, *(f"input {k}" for k in range(len(flat_inputs)))]
    # a gradient sums over more terms, and so it rounds more
    _equal(got_grads, cut_grads, 10 * tolerance, f"gradient with respect to one of {names}:")
    return Checked(traced, len(atoms))


@pytest.fixture(scope="session")
def check_function() -> Callable[..., Checked]:
    """``check_function(apply, params, *inputs, state=None, seed=0, ratio=0.4) -> (traced, free)``."""
    return _check


@pytest.fixture
def as_users_have_it():
    """JAX's own promotion rules, for networks that are written as users write them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
