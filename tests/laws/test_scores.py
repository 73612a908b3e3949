"""Laws that every score obeys, on every kind of tree: a new score adds one line to SCORES."""

import dataclasses
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict

from wormjax import scores

BATCH = jnp.full((2, 3), 0.5)


def floats(params):
    """The floating-point leaves of any tree, as float32."""
    leaves = [x for x in jax.tree.leaves(params) if hasattr(x, "dtype")]
    return [x.astype(jnp.float32) for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]


def loss(params, batch):  # its gradient with respect to w is mean(batch) = 0.5 everywhere
    return jnp.mean(batch) * sum(jnp.sum(x) for x in floats(params))


def bowl(params, batch):  # its Hessian is diagonal, mean(batch) = 0.5 everywhere
    return 0.5 * jnp.mean(batch) * sum(jnp.sum(x**2) for x in floats(params))


def apply(params, x):  # homogeneous in x; its gradient with respect to |w| is 3 everywhere
    return jnp.sum(x, axis=-1) * sum(jnp.sum(w) for w in floats(params))


def everything(params):
    return jax.tree.map(lambda _: True, params)


KEY = jax.random.key(7)

# name -> (score of params alone, what it is of |w| in these toys, or None)
SCORES = {
    "magnitude": (scores.magnitude, lambda w: w),
    "norm_scale": (scores.norm_scale, lambda w: w),
    "random": (partial(scores.random, key=KEY), None),
    "snip": (partial(scores.snip, batch=BATCH, loss=loss), lambda w: 0.5 * w),
    "synflow": (partial(scores.synflow, batch=BATCH, apply=apply), lambda w: 3 * w),
    "taylor": (partial(scores.taylor, batch=BATCH, loss=loss), lambda w: (0.5 * w) ** 2),
    "diagonal_hessian": (
        partial(scores.diagonal_hessian, batch=BATCH, key=KEY, loss=bowl, probes=2),
        lambda w: 0.25 * w**2,
    ),
    "iter_snip": (partial(scores.iter_snip, batch=BATCH, loss=loss), lambda w: 0.5 * w),
    "grasp": (
        partial(
            scores.grasp,
            batches=[(BATCH, None)],
            apply=bowl,
            loss=lambda value, labels: value,
            temperature=1.0,
        ),
        lambda w: 0.25 * w**2,
    ),
    "synflow_l2": (partial(scores.synflow_l2, batch=BATCH, apply=apply), lambda w: 3 * w**2),
    # two examples of three inputs of 0.5
    "px_gated": (partial(scores.px_gated, batches=[BATCH], apply=apply), lambda w: 1.5 * w**2),
    "px_exact": (partial(scores.px_exact, batches=[BATCH], apply=apply), lambda w: 4.5 * w**2),
}
# what they compile is dear; on most trees the cheaper ones stand for them in the normal run
DEAR = {"grasp", "px_exact", "px_gated", "synflow_l2"}
# on every tree in every run; what the others share with them, trees included, is one protocol
ON_EVERY_TREE = {"magnitude", "snip", "synflow"}
ON_ITS_KIND = {"dict", "nnx_state", "bfloat16", "integers_and_keys", "scanned", "part", "empty"}


class Pair(NamedTuple):
    kernel: jax.Array
    scale: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Block:
    kernel: jax.Array
    scale: jax.Array
    bias: jax.Array


def numbers(*shape):
    """Distinct non-zero numbers of both signs."""
    size = int(np.prod(shape))
    return jnp.asarray((np.arange(size) - size / 2 + 0.25).reshape(shape), jnp.float32)


def block():
    return {"kernel": numbers(2, 3), "scale": numbers(3), "bias": numbers(3)}


class Dense(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(numbers(2, 3))
        self.scale = nnx.Param(numbers(3))
        self.bias = nnx.Param(numbers(3))
        self.steps = nnx.Variable(jnp.zeros((), jnp.int32))


class Layer(eqx.Module):
    kernel: jax.Array
    scale: jax.Array
    bias: jax.Array
    width: int
    activation: object

    def __call__(self, x):
        return self.activation(x @ self.kernel)


def with_dtype(dtype):
    return lambda: jax.tree.map(lambda x: x.astype(dtype), block())


TREES = {
    "dict": lambda: {"a": block(), "b": block()},
    "list": lambda: [block(), (block(), [])],
    "tuple": lambda: (block(),),
    "namedtuple": lambda: Pair(numbers(2, 3), numbers(3)),
    "dataclass": lambda: Block(numbers(2, 3), numbers(3), numbers(3)),
    "frozen_dict": lambda: FrozenDict({"a": block()}),
    "nnx_state": lambda: nnx.state(Dense()),
    "equinox": lambda: eqx.filter(
        Layer(numbers(2, 3), numbers(3), numbers(3), 3, jax.nn.relu), eqx.is_array
    ),
    "numpy": lambda: jax.tree.map(np.asarray, block()),
    "bfloat16": with_dtype(jnp.bfloat16),
    "float16": with_dtype(jnp.float16),
    "integers_and_keys": lambda: (
        block()
        | {
            "step": jnp.arange(4),
            "table": {"scale": jnp.ones((2, 2), jnp.int8)},
            "flag": np.ones((2, 2), bool),
            "key": jax.random.key(0),
            "keys": jax.random.split(jax.random.key(0), 3),
            "temperature": jnp.float32(2.0),
        }
    ),
    "scanned": lambda: {"kernel": numbers(4, 2, 3), "scale": numbers(4, 3), "bias": numbers(4, 3)},
    "zero_size": lambda: block() | {"none": {"kernel": numbers(0, 3), "scale": numbers(0)}},
    "part": lambda: {"a": block(), "b": optax.MaskedNode()},
    "part_without_arrays": lambda: {"a": optax.MaskedNode(), "b": [optax.MaskedNode()]},
    "part_without_weights": lambda: {"a": {"bias": numbers(3)}, "b": optax.MaskedNode()},
    "empty": dict,
    "hidden_node": optax.MaskedNode,
}
EMPTY = {"part_without_arrays", "part_without_weights", "empty", "hidden_node"}


def _in_every_run(name, tree):
    if name in DEAR:
        return tree == "part"
    return name in ON_EVERY_TREE or tree in ON_ITS_KIND


each_score = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in DEAR else []) for n in SCORES]
)
each_pair = pytest.mark.parametrize(
    ("name", "tree"),
    [
        pytest.param(n, t, marks=[] if _in_every_run(n, t) else [pytest.mark.slow])
        for n in SCORES
        for t in TREES
    ],
)


def is_ranked_by_default(name, path, leaf):
    last = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
    last = last.rsplit("/", 1)[-1]
    if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
        return False
    return last == ("scale" if name == "norm_scale" else "kernel")


def as_numpy(tree):
    return [np.asarray(x.astype(jnp.float32)) for x in jax.tree.leaves(tree)]


@each_pair
def test_structure_ranks_and_shapes(name, tree):
    score, _ = SCORES[name]
    params = TREES[tree]()
    result = score(params)
    assert jax.tree.structure(result) == jax.tree.structure(params)
    scores.check(result, params)
    ranked = 0
    for (path, leaf), s in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(result), strict=True
    ):
        if is_ranked_by_default(name, path, leaf):
            ranked += 1
            assert s.shape == leaf.shape
            assert s.dtype in (jnp.float32, leaf.dtype)
        else:
            assert s.shape == ()
            assert s == jnp.inf
            assert s.dtype == jnp.float32
    assert (ranked == 0) == (tree in EMPTY)


@each_pair
def test_the_value_on_a_linear_toy(name, tree):
    score, expected = SCORES[name]
    params = TREES[tree]()
    for p, s in zip(jax.tree.leaves(params), jax.tree.leaves(score(params)), strict=True):
        if s.ndim == 0:
            continue
        s = np.asarray(s.astype(jnp.float32))
        if expected is None:
            assert np.all((s > 0) & (s < 1))
        else:
            np.testing.assert_allclose(s, expected(np.abs(np.asarray(p, np.float32))), rtol=1e-6)


@each_pair
def test_jit_gives_the_same_scores(name, tree):
    score, _ = SCORES[name]
    params = TREES[tree]()
    arguments = params if tree != "numpy" else jax.tree.map(jnp.asarray, params)
    compiled = jax.jit(score)(arguments)
    assert jax.tree.structure(compiled) == jax.tree.structure(arguments)
    for a, b in zip(as_numpy(score(params)), as_numpy(compiled), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@each_score
def test_the_same_call_gives_the_same_bits_and_leaves_params_alone(name):
    score, _ = SCORES[name]
    params = TREES["integers_and_keys"]()
    del params["key"], params["keys"]
    before = jax.tree.map(np.array, params)
    first, second = score(params), score(params)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(np.testing.assert_array_equal, before, params)


@pytest.mark.parametrize("name", [name for name in SCORES if name != "random"])
def test_higher_is_more_important(name):
    score, _ = SCORES[name]
    params = {"kernel": jnp.array([[0.1, -5.0], [1.0, -0.01]]), "scale": jnp.array([-2.0, 0.5])}
    ranked = score(params)
    if name == "norm_scale":
        assert ranked["scale"][0] > ranked["scale"][1]
    else:
        np.testing.assert_array_equal(np.argsort(ranked["kernel"].ravel()), [3, 0, 2, 1])


@each_score
def test_a_part_scores_like_the_whole(name):
    score, _ = SCORES[name]
    whole = {"a": block(), "b": block()}
    part = {"a": jax.tree.map(lambda _: optax.MaskedNode(), whole["a"]), "b": whole["b"]}
    jax.tree.map(np.testing.assert_array_equal, score(part)["b"], score(whole)["b"])
    assert jax.tree.leaves(score(part)["a"]) == []


@each_score
def test_a_rule_made_for_the_whole_is_cut_to_the_part(name):
    score, _ = SCORES[name]
    rule = {
        "a": {"kernel": True, "scale": True, "bias": True},
        "b": {"kernel": False, "scale": True},
    }
    part = {"a": optax.MaskedNode(), "b": {"kernel": numbers(2, 2), "scale": numbers(2)}}
    result = score(part, prunable=rule)
    assert result["b"]["kernel"].shape == ()
    assert result["b"]["scale"].shape == (2,)
    assert isinstance(result["a"], optax.MaskedNode)


@each_score
def test_multi_transform_shows_a_part_or_nothing(name):
    score, _ = SCORES[name]
    params = {"a": block(), "b": block()}
    seen = []

    def watch(p):
        seen.append(score(p))
        return optax.EmptyState()

    watcher = optax.GradientTransformation(watch, lambda u, s, p=None: (u, s))
    labels = {"a": "x", "b": "x"}
    optax.multi_transform({"x": watcher, "unused": watcher}, labels).init(params)
    ranked = [sum(s.ndim > 0 for s in jax.tree.leaves(tree)) for tree in seen]
    assert sorted(ranked) == [0, 2]


@each_score
def test_no_rule_ranks_integers_keys_or_scalars(name):
    score, _ = SCORES[name]
    params = TREES["integers_and_keys"]()
    result = score(params, prunable=everything)
    ranked = {k for k, s in result.items() if k != "table" and s.ndim > 0}
    assert ranked == {"kernel", "scale", "bias"}
    assert result["table"]["scale"].ndim == 0


@each_score
def test_a_rule_may_be_a_tree_a_callable_tree_or_a_function(name):
    score, _ = SCORES[name]
    params = Layer(numbers(2, 3), numbers(3), numbers(3), jnp.int32(3), None)
    tree = Layer(True, np.False_, jnp.array(True), False, None)  # has __call__, and is a tree
    for rule in (tree, lambda p: tree, jax.tree_util.Partial(lambda p: tree)):
        result = score(params, prunable=rule)
        assert [s.ndim for s in jax.tree.leaves(result)] == [2, 0, 1, 0]


@each_score
def test_a_rule_for_another_tree_is_named(name):
    score, _ = SCORES[name]
    with pytest.raises(ValueError, match="'scale' is missing"):
        score(block(), prunable={"kernel": True, "bias": False})
    with pytest.raises(ValueError, match="'more' is not in params"):
        score(block(), prunable=everything(block()) | {"more": True})
    with pytest.raises(ValueError, match="other containers"):
        score(block(), prunable=FrozenDict(everything(block())))
    with pytest.raises(TypeError, match="has a float at 'kernel', not a bool"):
        score(block(), prunable=everything(block()) | {"kernel": 1.0})
    with pytest.raises(TypeError, match="MaskedNode at 'kernel', not a bool"):
        score(block(), prunable=everything(block()) | {"kernel": optax.MaskedNode()})


@each_score
def test_a_rule_cannot_be_traced(name):
    score, _ = SCORES[name]
    with pytest.raises(TypeError, match="close over it"):
        jax.jit(lambda p, rule: score(p, prunable=rule))(block(), everything(block()))


@each_score
def test_a_leaf_that_is_no_array_is_named(name):
    score, _ = SCORES[name]
    with pytest.raises(TypeError, match="'activation' is a function, not an array"):
        score(block() | {"activation": everything})


@each_score
def test_sharding_changes_nothing(name):
    score, _ = SCORES[name]
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    params = {"kernel": numbers(8, 16), "scale": numbers(16)}
    sharding = jax.NamedSharding(mesh, jax.P("x"))
    split = jax.device_put(params, sharding)
    one, eight = score(params), jax.jit(score)(split)
    ranked = "scale" if name == "norm_scale" else "kernel"
    np.testing.assert_allclose(one[ranked], eight[ranked], rtol=1e-6)
    if name != "random":  # drawn from the key, so there is no array to take a sharding from
        assert eight[ranked].sharding.is_equivalent_to(sharding, one[ranked].ndim)
