"""Whatever optax exports that makes a state: each is cut where it should be, or refused by name; a new one is noticed.

`test_opt_state_slicing` compares steps; here it is told entry by entry, for every building block as well, what is
left of the state. Which parameter a leaf belongs to is read off its path.
"""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from wormjax.structure import find_groups, plan, shrink

PARAMS = {
    "one": {"w": jnp.arange(1, 41, dtype=jnp.float32).reshape(5, 8), "b": jnp.ones((1, 8))},
    "two": jnp.arange(1, 49, dtype=jnp.float32).reshape(8, 6),
    "end": jnp.ones((6, 3)),
}
ADAM = optax.scale_by_adam()
OF_TWO = {"p": ADAM, "q": optax.scale_by_sm3()}
LABELS = {"one": "p", "two": "q", "end": "p"}
PART = {"one": True, "two": False, "end": True}
# where numbers alone will not do
ARGUMENTS = {
    "MultiSteps": (ADAM, 2),
    "apply_if_finite": (ADAM, 1),
    "chain": (ADAM, optax.trace(0.9)),
    "conditionally_mask": (ADAM, lambda step: step > 1),
    "conditionally_transform": (ADAM, lambda step: step > 1),
    "dpsgd": None,  # its own call of the transformation that it wraps warns
    "flatten": (ADAM,),
    "freeze": (PART,),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adamw)(0.1),
    "inject_stateful_hyperparams": None,  # a deprecated name that warns
    "lookahead": None,  # its parameters are pairs; in test_opt_state_slicing
    "masked": (ADAM, PART),
    "measure_with_ema": (optax.tree.norm, 0.9),
    "mechanize": (ADAM,),
    "monitor": ({"norm": optax.tree.norm},),
    "multi_transform": (OF_TWO, LABELS),
    "named_chain": (("m", ADAM),),
    "optimistic_adam": None,  # a deprecated name that warns
    "partition": (OF_TWO, LABELS),
    "sam": (optax.sgd(0.1), contrib.normalize()),
    "scale_by_schedule": (optax.linear_schedule(1.0, 0.1, 3),),
    "schedule_free": (ADAM, 0.1),
    "selective_transform": lambda: optax.selective_transform(ADAM, freeze_mask=PART),
    "snapshot": ("norm", optax.tree.norm),
    "split_real_and_imaginary": (ADAM,),
    "stateless": (lambda updates, params: updates,),
    "stateless_with_tree_map": (lambda g, p: g,),
    "with_extra_args_support": (ADAM,),
}
NUMBERS = {"seed": 0, "key": 0, "max_linesearch_steps": 3, "max_backtracking_steps": 3}
# functions of optax without a return annotation that make a transformation, and its class that is one
UNANNOTATED = {
    "MultiSteps",
    "dog",
    "dowg",
    "hutchinson_estimator_diag_hessian",
    "monitor",
    "scale_by_factored_rms",
}
REFUSED = {
    "flatten": "no rule says how its shape",
    "galore": "GaLoreState cannot be cut at .*neither orthonormal nor singular",
    "scale_by_galore": "GaLoreState cannot be cut at .*neither orthonormal nor singular",
}  # fmt: skip


def exported():
    found = {"MultiSteps": optax.MultiSteps}
    for name, thing in [*vars(optax).items(), *vars(contrib).items()]:
        if inspect.isfunction(thing) and not name.startswith("_"):
            told = str(inspect.signature(thing).return_annotation)
            if "GradientTransformation" in told or name in UNANNOTATED:
                found[name] = thing
    return found


def made(name, make):
    given = ARGUMENTS.get(name, ())
    if callable(given):
        return given()
    needed = {
        k: NUMBERS.get(k, 0.1)
        for k, p in inspect.signature(make).parameters.items()
        if k == "key" or (p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD)
    }
    return make(*given) if given else make(**needed)


MAKERS = {name: make for name, make in exported().items() if ARGUMENTS.get(name, ()) is not None}


@pytest.fixture(scope="module")
def planned():
    def apply(params, x):
        h = jnp.tanh(x @ params["one"]["w"] + params["one"]["b"])
        return jnp.tanh(h @ params["two"]) @ params["end"]

    groups = find_groups(apply, PARAMS, jax.ShapeDtypeStruct((4, 5), jnp.float32))
    masks = {
        "one": {"w": jnp.isin(jnp.arange(8), jnp.array([0, 3, 6]))[None], "b": jnp.array(True)},
        "two": jnp.isin(jnp.arange(6), jnp.array([1, 2, 4, 5]))[None],
        "end": jnp.array(True),
    }
    return plan(groups, masks=masks)


# by hand: what is left of each parameter
ONE, TWO = [0, 3, 6], [1, 2, 4, 5]
KEPT = {
    "['one']['w']": (range(5), ONE),
    "['one']['b']": (range(1), ONE),
    "['two']": (ONE, TWO),
    "['end']": (TWO, range(3)),
}
FULL = {"['one']['w']": (5, 8), "['one']['b']": (1, 8), "['two']": (8, 6), "['end']": (6, 3)}


def numbered(tree):
    """Entries that tell their place, from shapes alone."""
    return jax.tree.map(
        lambda x: (
            jnp.asarray(np.arange(x.size).reshape(x.shape).astype(x.dtype))
            if x.ndim and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else jnp.asarray(np.ones(x.shape, x.dtype))
            if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else jax.random.key(0)
        ),
        tree,
    )


def wanted(path, array):
    """What must be left of a leaf, by NumPy; None where it is a factor, whose rule has its own tests."""
    array = np.asarray(array)
    name = next((n for n in KEPT if n in path), None)
    if name is None or array.ndim == 0:
        return array
    if sm3 := re.search(r"\.mu.*\[(\d)\]$", path):
        return array[list(KEPT[name][int(sm3[1])])]
    if array.shape[array.ndim - 2 :] == FULL[name]:
        return array[(..., *np.ix_(*KEPT[name]))]
    return array if array.shape in ((), (1,)) else None


@functools.cache
def state_of(name):
    tx = made(name, MAKERS[name])
    return tx, numbered(jax.eval_shape(tx.init, PARAMS))


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_each_is_cut_entry_by_entry_or_refused_by_name(name, planned):
    with jax.numpy_dtype_promotion("standard"):
        tx, state = state_of(name)
        if name in REFUSED:
            with pytest.raises(ValueError, match=rf"{REFUSED[name]}.*opt_state='reset'"):
                shrink(planned, PARAMS, opt_state=state, tx=tx)
            return
        cut = shrink(planned, PARAMS, opt_state=state, tx=tx).opt_state
    left = dict(jax.tree_util.tree_leaves_with_path(cut))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            continue
        want = wanted(jax.tree_util.keystr(path), leaf)
        assert want is not None, f"{jax.tree_util.keystr(path)} of shape {leaf.shape}"
        np.testing.assert_array_equal(left[path], want, err_msg=jax.tree_util.keystr(path))


def test_the_table_is_all_that_optax_exports():
    """A transformation that is new to optax is in it by itself; one that says not what it returns is noticed here."""
    assert set(REFUSED) | {"adam", "scale_by_muon", "partition", "freeze"} <= set(MAKERS)
    assert len(MAKERS) >= 120
    silent = {
        name
        for module in (optax, contrib)
        for name, thing in vars(module).items()
        if inspect.isfunction(thing)
        and not name.startswith("_")
        and inspect.signature(thing).return_annotation is inspect.Signature.empty
    }
    others = {
        *("bias_correction", "matrix_inverse_pth_root", "schedule_free_eval_params"),
        *("sigmoid_binary_cross_entropy", "update_infinity_moment", "update_moment"),
        "update_moment_per_elem_norm",
    }
    assert silent <= UNANNOTATED | others
