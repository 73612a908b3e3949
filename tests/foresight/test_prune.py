"""Foresight pruning: exact counts, nested masks, one program, sanity ablations, and every refusal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax import foresight
from wormjax._jaxprs import jaxprs, opened
from wormjax.foresight import methods
from wormjax.foresight._method import as_method
from wormjax.foresight._prune import _round

RNG = np.random.default_rng(1)
PARAMS = {
    "first": {
        "bias": jnp.zeros(6),
        "kernel": jnp.asarray(RNG.normal(size=(5, 6)), jnp.float32),
    },
    "head": {"bias": jnp.zeros(3), "kernel": jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32)},
}
BATCHES = [
    (jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32), jnp.asarray([0, 1, 2, 0])),
    (jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32), jnp.asarray([1, 1, 2, 0])),
]
KEY = jax.random.key(5)


def apply(params, x):
    x = jax.nn.relu(x @ params["first"]["kernel"] + params["first"]["bias"][None])
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


def loss(params, batch):
    inputs, labels = batch
    at = jnp.take_along_axis(jax.nn.log_softmax(apply(params, inputs)), labels[:, None], axis=1)
    return -jnp.mean(at)


METHODS = {
    "random": methods.random(),
    "magnitude": methods.magnitude(),
    "snip": methods.snip(loss),
    "iter_snip": methods.iter_snip(loss),
    "grasp": methods.grasp(apply),
    "synflow": methods.synflow(apply),
    "synflow_l2": methods.synflow_l2(apply),
    "ntk_sap": methods.ntk_sap(apply),
    "px": methods.px(apply),
    "px_gated": methods.px_gated(apply),
}


def kept_of(masks):
    return [int(m.sum()) for m in jax.tree.leaves(masks) if m.ndim]


# what they compile stands in others' programs
_SLOW = ("iter_snip", "synflow", "synflow_l2", "ntk_sap", "px_gated")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in _SLOW else []) for n in METHODS]
)
def test_every_method_keeps_the_count_and_leaves_params_alone(name):
    before = jax.tree.map(np.array, PARAMS)
    pruned = foresight.prune(METHODS[name], PARAMS, BATCHES, density="0.3", rounds=3, key=KEY)
    # defect 7: the caller's weights are bit for bit what they were
    jax.tree.map(np.testing.assert_array_equal, before, PARAMS)
    assert pruned.names == ("first/kernel", "head/kernel")
    assert pruned.sizes == (30, 18)
    assert sum(kept_of(pruned.masks)) == 15 == pruned.kept[-1].sum()  # 48 - floor(0.7 * 48)
    assert pruned.kept.shape == (3, 2)
    assert pruned.masks["first"]["bias"].ndim == 0
    for p, q, m in zip(*map(jax.tree.leaves, (PARAMS, pruned.params, pruned.masks)), strict=True):
        np.testing.assert_array_equal(np.where(m, p, 0), q)


def test_one_program_for_all_rounds_densities_and_seeds():
    traced = []

    def score(params, masks, batches, key):
        traced.append(1)
        return wj.scores.random(params, key)

    method = foresight.Method("counted", score)
    foresight.prune(method, PARAMS, density=0.5, rounds=7, key=KEY)
    foresight.prune(method, PARAMS, density=0.1, rounds=3, key=jax.random.key(1))
    assert len(traced) == 2  # once for the shapes, once for the program of all rounds of both calls


def test_no_conditional_of_a_round_depends_on_a_counter():
    """Under vmap a conditional on a batched counter would do the work of both branches at every step.

    It does not apply here: the rounds are a loop in Python, outside of every training step and of vmap, and no program
    holds their number. The one conditional of a round asks whether scores tie at the threshold.
    """
    masks = jax.tree.map(lambda x: np.ones(x.shape if x.ndim == 2 else (), bool), PARAMS)
    for scope, conditionals in (("global", 1), ("leaf", 2)):
        step = _round(methods.magnitude(), scope, "as_scored", "exact")
        counts = [np.asarray([n] * conditionals, np.int32) for n in (15, 9)]
        found = [_conditionals(step, PARAMS, masks, (), None, n) for n in counts]
        assert [len(each) for each in found] == [conditionals] * 2


def _conditionals(function, *args):
    """Return the conditionals anywhere in a function."""
    found, left = [], [jax.make_jaxpr(function)(*args).jaxpr]
    while left:
        for eqn in left.pop().eqns:
            found += [eqn] if eqn.primitive.name == "cond" else []
            left += map(opened, jaxprs(eqn.params.values()))
    return found


def rising(params, batches):
    """A score by which what was pruned comes back: the pruned are the best."""
    return jax.tree.map(lambda s: jnp.where(s == 0, 9.0, s), wj.scores.magnitude(params))


def test_what_is_pruned_returns_only_where_it_may():
    method = as_method(rising)  # one method for three calls: one program
    free = foresight.prune(method, PARAMS, density=0.25, rounds=2)
    nested = foresight.prune(method, PARAMS, density=0.25, rounds=2, regrow="never")
    half = foresight.prune(method, PARAMS, density="0.5", rounds=1)
    for mask, outer in zip(*map(jax.tree.leaves, (nested.masks, half.masks)), strict=True):
        assert not (np.asarray(mask) & ~np.asarray(outer)).any()
    assert kept_of(free.masks) != kept_of(nested.masks) or any(
        (np.asarray(a) & ~np.asarray(b)).any()
        for a, b in zip(*map(jax.tree.leaves, (free.masks, half.masks)), strict=True)
    )


def test_masks_of_grasp_are_nested():  # defect 16: masked weights score 0 and outrank negative ones
    assert METHODS["grasp"].regrow == "never"
    once = foresight.prune(METHODS["grasp"], PARAMS, BATCHES, density=0.49, rounds=1)
    twice = foresight.prune(METHODS["grasp"], PARAMS, BATCHES, density="0.2401", rounds=2)
    for mask, outer in zip(*map(jax.tree.leaves, (twice.masks, once.masks)), strict=True):
        assert not (np.asarray(mask) & ~np.asarray(outer)).any()


SCORES = jnp.asarray([[0, 0, 0, 0, 0, 5, 4, 3, 2, 1]], jnp.float32)


@pytest.mark.parametrize(
    ("density", "reference", "exact"), [(0.5, 5, 5), (0.7, 5, 7), (0.9, 10, 9)]
)
def test_thresholds(density, reference, exact):  # specs, foresight 6.3; defect 13: ties
    def by_value(params, masks, batches, key):
        return {"kernel": params["kernel"]}

    method = foresight.Method("given", by_value)
    params = {"kernel": SCORES}
    found = foresight.prune(method, params, density=density, rounds=1, threshold="reference")
    assert kept_of(found.masks) == [reference]
    found = foresight.prune(method, params, density=density, rounds=1)
    assert kept_of(found.masks) == [exact]


def test_a_tie_that_overshoots_is_an_error_under_the_reference_rule():
    params = {"kernel": jnp.ones((4, 4))}
    with pytest.raises(ValueError, match="many scores are equal"):
        foresight.prune(methods.magnitude(), params, density=0.5, rounds=1, threshold="reference")


def test_each_leaf_by_itself():
    pruned = foresight.prune(METHODS["magnitude"], PARAMS, density=0.5, scope="leaf")
    assert kept_of(pruned.masks) == [15, 9]


def test_the_ablations():
    pruned = foresight.prune(METHODS["magnitude"], PARAMS, density=0.25)
    upside_down = foresight.prune(methods.inverted(methods.magnitude()), PARAMS, density=0.75)
    # the most important quarter is what the inverted scores prune
    for m, n in zip(*map(jax.tree.leaves, (pruned.masks, upside_down.masks)), strict=True):
        assert m.ndim == 0 or (np.asarray(m) == ~np.asarray(n)).all()
    # defect 17: a shuffle that rebinds a local variable
    shuffled = jax.jit(foresight.shuffled)(KEY, pruned.masks)
    assert kept_of(shuffled) == kept_of(pruned.masks)
    assert (shuffled["first"]["kernel"] != pruned.masks["first"]["kernel"]).any()
    reinitialised = jax.jit(foresight.reinitialised)
    again = reinitialised(PARAMS, KEY)
    assert (again["first"]["kernel"] != PARAMS["first"]["kernel"]).all()
    assert np.std(reinitialised({"kernel": np.zeros((200, 50), np.float32)}, KEY)["kernel"]) == (
        pytest.approx(0.1, rel=0.02)
    )


@pytest.mark.slow
def test_with_a_dense_head_px_is_synflow_l2():  # specs, foresight 1.3
    head = wj.prunable(PARAMS, include="kernel$", exclude="^head/")
    dense = foresight.prune(
        methods.px(apply, prunable=head), PARAMS, BATCHES, density=0.5, rounds=2
    )
    assert kept_of(dense.masks) == [15]
    control = foresight.prune(
        methods.synflow_l2(apply, prunable=head), PARAMS, BATCHES, density=0.5, rounds=2
    )
    np.testing.assert_array_equal(*(p.masks["first"]["kernel"] for p in (dense, control)))


def no_path(params, batches):
    return jax.tree.map(lambda s: s * jnp.nan if s.ndim else s, wj.scores.magnitude(params))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: foresight.prune(METHODS["px"], PARAMS, [], density=0.5), ValueError, "is empty"),
        (
            lambda: foresight.prune(METHODS["px"], PARAMS, BATCHES, density=0),
            ValueError,
            r"must lie in \(0, 1\]",
        ),
        (
            lambda: foresight.prune(METHODS["px"], PARAMS, BATCHES, density=1.1),
            ValueError,
            r"must lie in \(0, 1\]",
        ),
        (
            lambda: foresight.prune(methods.magnitude(), {"bias": jnp.ones(3)}, density=0.5),
            ValueError,
            "ranks no leaf",
        ),
        (
            lambda: foresight.prune(methods.random(), PARAMS, density=0.5),
            ValueError,
            "pass key=",
        ),
        (lambda: as_method("px"), TypeError, "score is a str"),
        (
            lambda: foresight.prune(no_path, PARAMS, density=0.5),
            ValueError,
            "'first/kernel' is NaN or infinite in round 1 of 1",
        ),
        (
            lambda: foresight.prune(
                methods.magnitude(), PARAMS, density=0.5, threshold="reference", scope="leaf"
            ),
            ValueError,
            "a rule for scope='global'",
        ),
        (
            lambda: foresight.prune(
                methods.px(lambda p, x: jax.nn.gelu(x @ p["first"]["kernel"])),
                PARAMS,
                BATCHES,
                density=0.5,
            ),
            ValueError,
            "not piecewise linear",
        ),
    ],
)
def test_refusals(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
