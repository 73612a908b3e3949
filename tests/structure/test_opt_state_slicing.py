"""The optimizer state of a shrunk network, over every optimizer of optax.

The oracle is the masked network: with its removed entries zero, and no gradient on them, one more step of the
small network must be one more step of the masked one, restricted to what is kept.
"""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib
from optax._src import alias

import wormjax as wj
from wormjax.structure import find_groups, plan, shrink

RATE = 0.01
# what an optimizer needs beside a learning rate
SETTINGS = {
    "adadelta": {"learning_rate": 1.0},
    "lars": {"learning_rate": 1.0},
    "noisy_sgd": {"learning_rate": RATE, "key": 0},
    "polyak_sgd": {"max_learning_rate": RATE},
}
# whose step looks at sizes, so that the state is exact and the step is not
BY_SIZE = {
    "adafactor": "clips and scales by means over all entries of a leaf",
    "muon": "scales a matrix by the ratio of its sides",
    "noisy_sgd": "draws noise by shape",
}
NOT_OPTIMIZERS = {
    "optimistic_adam": "a deprecated name that warns",
    "differentially_private_aggregate": "takes gradients of single examples; below",
    "dpsgd": "warns of its own call to the one before",
    "galore": "refused; below",
    "hutchinson_estimator_diag_hessian": "the first half of sophia",
    "normalize": "has no state",
    "schedule_free_eval_params": "reads a state",
    "mechanize": "wraps one; below",
    "reduce_on_plateau": "follows one; below",
    "sam": "wraps two; below",
    "schedule_free": "wraps one; below",
    "split_real_and_imaginary": "wraps one; below",
}


def enumerated():
    here = [
        n
        for n, f in vars(alias).items()
        if inspect.isfunction(f) and f.__module__ == alias.__name__
    ]
    there = [
        n
        for n, f in vars(contrib).items()
        if inspect.isfunction(f) and not n.startswith("scale_by_")
    ]
    named = {n: getattr(optax, n) for n in here if hasattr(optax, n)}
    named |= {n: getattr(contrib, n) for n in there}
    return {
        name: functools.partial(make, **SETTINGS.get(name, {"learning_rate": RATE}))
        for name, make in named.items()
        if name not in NOT_OPTIMIZERS
    }


WRAPPED = {
    "mechanize": lambda: contrib.mechanize(optax.adam(RATE)),
    "plateau": lambda: optax.chain(optax.adam(RATE), contrib.reduce_on_plateau()),
    "schedule_free": lambda: contrib.schedule_free(optax.adam(RATE), RATE),
    "multi_steps": lambda: optax.MultiSteps(optax.adam(RATE), 2),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(RATE), 2),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adamw)(learning_rate=RATE),
    "multi_transform": lambda: optax.multi_transform(
        {"m": optax.adam(RATE), "s": optax.chain(optax.sm3(RATE)), "n": optax.set_to_zero()},
        {"a": "m", "b": "s", "c": {"w": "n"}},
    ),
    "masked": lambda: optax.masked(
        optax.chain(optax.scale_by_factored_rms(min_dim_size_to_factor=2), optax.scale(-RATE)),
        {"a": True, "b": False, "c": {"w": True}},
    ),
    "chain": lambda: optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.adamw(RATE),
        optax.ema(0.9),
        optax.keep_params_nonnegative(),
    ),
    "named_chain": lambda: optax.named_chain(("m", optax.sgd(RATE, momentum=0.9, nesterov=True))),
    "factored": lambda: optax.chain(
        optax.scale_by_factored_rms(min_dim_size_to_factor=2), optax.scale(-RATE)
    ),
    "orthogonalised": lambda: optax.chain(
        contrib.scale_by_muon(
            weight_dimension_numbers=lambda p: jax.tree.map(
                lambda _: contrib.MuonDimensionNumbers(), p
            )
        ),
        optax.scale(-RATE),
    ),
    "real_and_imaginary": lambda: contrib.split_real_and_imaginary(optax.adam(RATE)),
    "sam": lambda: contrib.sam(optax.sgd(RATE), optax.chain(contrib.normalize(), optax.sgd(0.05))),
}
TABLE = enumerated() | WRAPPED
# kinds of state that differ; -m slow runs them all
IN_EVERY_RUN = {
    *("sgd", "adamw", "rmsprop", "lion", "adafactor", "sm3", "novograd", "lbfgs", "polyak_sgd"),
    *("noisy_sgd", "dowg", "momo", "muon", "schedule_free_sgd", "ademamix", "prodigy"),
    *("multi_steps", "multi_transform", "chain", "masked", "real_and_imaginary", "sam"),
}
# each program runs a few times on a few entries


def apply(params, x):
    h = jnp.tanh(x @ params["a"]["w"] + params["a"]["b"])
    return jnp.tanh(h @ params["b"]["w"]) @ params["c"]["w"]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / 2, jnp.float32)


PARAMS = {
    "a": {"w": normal(0, 5, 8), "b": normal(1, 1, 8)},
    "b": {"w": normal(2, 8, 6)},
    "c": {"w": normal(3, 6, 3)},
}
X, Y = normal(4, 16, 5), normal(5, 16, 3)


class Case(NamedTuple):
    plan: object
    params: object  # masked


@pytest.fixture(scope="module")
def case():
    groups = find_groups(apply, PARAMS, X)
    planned = plan(groups, wj.scores.magnitude(PARAMS), keep=0.5)
    assert sorted(int(k.sum()) for k in planned.kept.values()) == [3, 4]
    return Case(planned, wj.apply_masks(PARAMS, planned.masks))


@pytest.fixture(autouse=True)
def _ordinary_promotion():
    # several of optax's own optimizers mix int32 step counts with floats
    with jax.numpy_dtype_promotion("standard"):
        yield


def loss(apply, masks, params):
    kept = params if masks is None else wj.apply_masks(params, masks)
    return jnp.mean((apply(kept, X) - Y) ** 2)


def stepper(name, tx, apply, masks):
    """One optimizer step, compiled; every optimizer gets the extra arguments that some of them want."""
    bare = name in ("sam", "multi_steps")
    tx = tx if bare else optax.with_extra_args_support(tx)
    value_fn = functools.partial(loss, apply, masks)

    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(value_fn)(params)
        extra = {"value": value, "grad": grad, "value_fn": value_fn}
        extra = {"obj_fn": value_fn} if name == "sophia" else extra
        updates, state = tx.update(grad, state, params, **({} if bare else extra))
        return optax.apply_updates(params, updates), state

    return step


def raw(x):
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def assert_close(got, want, tolerance=5e-6):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(map(raw, jax.tree.leaves(got)), map(raw, jax.tree.leaves(want)), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        scale = max(float(np.abs(y).max(initial=0)), 1e-30)
        np.testing.assert_allclose(x / scale, y / scale, rtol=0, atol=tolerance)


def test_the_table_is_the_whole_of_optax():
    known = {"sgd", "adam", "adafactor", "lbfgs", "sm3", "muon", "schedule_free_adamw", "sophia"}
    assert known | set(BY_SIZE) <= set(TABLE)
    assert len(TABLE) >= 55
    assert set(TABLE) > IN_EVERY_RUN


@pytest.mark.parametrize(
    "name",
    [n if n in IN_EVERY_RUN else pytest.param(n, marks=pytest.mark.slow) for n in TABLE],
)
def test_the_next_step_is_the_masked_networks(name, case):
    tx = TABLE[name]()
    step = stepper(name, tx, apply, case.plan.masks)
    params, state = case.params, tx.init(case.params)
    for _ in range(3):
        params, state = step(params, state)
    ticket = shrink(case.plan, params, opt_state=state, tx=tx)
    assert ticket.params["b"]["w"].size < PARAMS["b"]["w"].size

    after, state_after = step(params, state)
    masked = shrink(case.plan, after, opt_state=state_after, tx=tx)
    small = stepper(name, tx, ticket.apply, None)(ticket.params, ticket.opt_state)
    assert_close(small[1], masked.opt_state)
    if name not in BY_SIZE:
        assert_close(small[0], masked.params)


def test_a_masked_entry_of_the_state_is_really_gone(case):
    """Not only do shapes fit: the kept entries are those of the plan, by NumPy."""
    tx = optax.chain(optax.adam(RATE), optax.ema(0.9))
    state = jax.tree.map(lambda x: normal(7, *x.shape) if x.ndim else x, tx.init(PARAMS))
    cut = shrink(case.plan, PARAMS, opt_state=state, tx=tx).opt_state
    kept = case.plan.indices
    expected = np.asarray(state[0][0].nu["b"]["w"])[np.ix_(kept["b/w"][0], kept["b/w"][1])]
    np.testing.assert_array_equal(cut[0][0].nu["b"]["w"], expected)
    np.testing.assert_array_equal(
        cut[1].ema["a"]["b"], np.asarray(state[1].ema["a"]["b"])[:, kept["a/b"][1]]
    )


def test_lookahead_keeps_its_state_and_its_slow_weights_are_like_params(case):
    tx = optax.lookahead(optax.adam(RATE), 2, 0.5)
    both = optax.LookaheadParams.init_synced(case.params)
    grads = jax.tree.map(jnp.ones_like, case.params)
    grads = wj.apply_masks(grads, case.plan.masks)
    updates, state = tx.update(grads, tx.init(both), both)
    both = optax.apply_updates(both, updates)
    ticket = shrink(case.plan, both.fast, opt_state=state, tx=tx, like_params=(both.slow,))
    assert ticket.opt_state.fast_state[0].mu["b"]["w"].shape == ticket.params["b"]["w"].shape
    assert ticket.like_params[0]["b"]["w"].shape == ticket.params["b"]["w"].shape


def test_noise_for_single_examples_keeps_its_key(case):
    tx = contrib.differentially_private_aggregate(1.0, 0.1, key=0)
    state = tx.init(PARAMS)
    cut = shrink(case.plan, PARAMS, opt_state=state, tx=tx).opt_state
    assert_close(cut, state)


def test_adafactor_swaps_rows_and_columns_where_the_longer_side_becomes_the_shorter():
    params = {"a": normal(0, 5, 4), "b": normal(1, 4, 9), "c": normal(2, 9, 3)}

    def apply(params, x):
        return jnp.tanh(jnp.tanh(x @ params["a"]) @ params["b"]) @ params["c"]

    planned = plan(
        find_groups(apply, params, X),
        masks={
            "a": jnp.array(True),
            "b": jnp.arange(9)[None] < 3,
            "c": jnp.array(True),
        },
    )
    params = wj.apply_masks(params, planned.masks)
    tx = WRAPPED["factored"]()
    step = stepper("factored", tx, apply, planned.masks)
    params, state = step(*step(params, tx.init(params)))
    ticket = shrink(planned, params, opt_state=state, tx=tx)
    assert (state[0].v_row["b"].shape, ticket.opt_state[0].v_row["b"].shape) == ((4,), (3,))
    after, after_state = step(params, state)
    masked = shrink(planned, after, opt_state=after_state, tx=tx)
    small = stepper("factored", tx, ticket.apply, None)(ticket.params, ticket.opt_state)
    assert_close(small, (masked.params, masked.opt_state))


def test_adafactor_is_refused_where_the_small_matrix_is_not_factored(case):
    tx = optax.adafactor(RATE, min_dim_size_to_factor=5)
    told = r"FactoredState cannot be cut at \[0\]: 'a/w' is too narrow at \(5, 4\).*'reset'"
    with pytest.raises(ValueError, match=told):
        shrink(case.plan, PARAMS, opt_state=tx.init(PARAMS), tx=tx)
    fresh = shrink(case.plan, PARAMS, opt_state="reset", tx=tx)
    assert_close(fresh.opt_state, tx.init(fresh.params))
    tx = optax.adafactor(RATE, min_dim_size_to_factor=3)
    assert shrink(case.plan, PARAMS, opt_state=tx.init(PARAMS), tx=tx).opt_state is not None


def test_adafactor_is_refused_where_other_axes_become_the_longest():
    kernels = {"a": normal(0, 5, 2, 6), "b": normal(1, 6, 3)}

    def apply(params, x):
        return jnp.tanh(jnp.einsum("ni,iko->no", x, params["a"])) @ params["b"]

    masks = {"a": jnp.arange(6)[None, None] < 1, "b": jnp.array(True)}
    planned = plan(find_groups(apply, kernels, X), masks=masks)
    tx = optax.adafactor(RATE, min_dim_size_to_factor=1)
    with pytest.raises(ValueError, match=r"'a' is factored along other axes at \(5, 2, 1\)"):
        shrink(planned, kernels, opt_state=tx.init(kernels), tx=tx)


def test_galore_is_refused_by_name(case):
    tx = contrib.galore(RATE)
    with pytest.raises(ValueError, match=r"GaLoreState cannot be cut at .*singular vectors.*reset"):
        shrink(case.plan, PARAMS, opt_state=tx.init(PARAMS), tx=tx)


class PreconditionerState(NamedTuple):
    left: object


def preconditioner(of_leaf):
    """An optimizer of one's own whose state is the named function of every parameter's shape."""
    return optax.GradientTransformation(
        lambda params: PreconditionerState(
            jax.tree.map(lambda p: jnp.zeros(of_leaf(p.shape)), params)
        ),
        lambda updates, state, params=None: (updates, state),
    )


@pytest.mark.parametrize(
    "of_leaf",
    [
        lambda s: (s[0], s[0]),
        lambda s: (s[0] * s[1],),
        lambda s: (s[1], s[0]),
        lambda s: (s[1],),
    ],
)
def test_a_state_of_another_kind_is_refused_by_name_and_leaf(of_leaf, case):
    tx = optax.chain(optax.adam(RATE), preconditioner(of_leaf))
    with pytest.raises(
        ValueError,
        match=r"PreconditionerState cannot be cut at \[1\]\.left\['a'\].*no rule says.*'reset'",
    ):
        shrink(case.plan, PARAMS, opt_state=tx.init(PARAMS), tx=tx)


def test_a_square_preconditioner_is_not_taken_for_its_square_matrix():
    params = {"a": normal(0, 4, 4), "b": normal(1, 4, 4)}
    groups = find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, X[:, :4])
    planned = plan(groups, wj.scores.magnitude(params), keep=0.5)
    tx = preconditioner(lambda s: (s[0], s[0]))
    with pytest.raises(ValueError, match="PreconditionerState cannot be cut at"):
        shrink(planned, params, opt_state=tx.init(params), tx=tx)


def test_a_leaf_that_follows_no_parameter_stays(case):
    tx = optax.chain(preconditioner(lambda s: (8, 6)), optax.sgd(RATE, momentum=0.9))
    cut = shrink(case.plan, PARAMS, opt_state=tx.init(PARAMS), tx=tx).opt_state
    assert cut[0].left["b"]["w"].shape == (8, 6)
    assert cut[1][0].trace["b"]["w"].shape == (4, 3)


def test_a_leaf_that_has_its_parameters_shape_by_chance_is_refused(case):
    constant = jax.tree.map(jnp.zeros_like, PARAMS)
    tx = optax.GradientTransformation(lambda params: PreconditionerState(constant), None)
    with pytest.raises(
        ValueError, match=r"PreconditionerState cannot be cut at .left\['a'\]\['b'\]"
    ):
        shrink(case.plan, PARAMS, opt_state=tx.init(PARAMS), tx=tx)


def test_wrong_arguments_are_sentences(case):
    adam, sgd = optax.adam(RATE), optax.sgd(RATE, momentum=0.9)
    with pytest.raises(ValueError, match="another structure than tx makes"):
        shrink(case.plan, PARAMS, opt_state=adam.init(PARAMS), tx=sgd)
    narrow = adam.init(jax.tree.map(lambda p: p[..., :1], PARAMS))
    with pytest.raises(ValueError, match=r"leaf of shape .*where tx makes"):
        shrink(case.plan, PARAMS, opt_state=narrow, tx=adam)
    for given in ({"opt_state": adam.init(PARAMS)}, {"tx": adam}):
        with pytest.raises(ValueError, match="opt_state= together with the tx="):
            shrink(case.plan, PARAMS, **given)
    with pytest.raises(ValueError, match="or the word 'reset', got 'fresh'"):
        shrink(case.plan, PARAMS, opt_state="fresh", tx=adam)
    for limit in (40, 7):  # passed by growing, and by shrinking
        by_size = optax.masked(adam, lambda p, n=limit: jax.tree.map(lambda x: x.size > n, p))
        with pytest.raises(ValueError, match="depends on the parameters' sizes"):
            shrink(case.plan, PARAMS, opt_state=by_size.init(PARAMS), tx=by_size)
    assert shrink(case.plan, PARAMS).opt_state is None
