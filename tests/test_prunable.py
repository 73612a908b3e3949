import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax.core import FrozenDict

import wormjax as wj
from wormjax._paths import leaf_names, path_name


def _params():
    return {
        "conv1": {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)},
        "conv2": {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)},
        "head": {"kernel": jnp.ones((3, 2))},
    }


def _chosen(tree):
    return {n for n, v in zip(leaf_names(tree), jax.tree.leaves(tree), strict=True) if v is True}


def test_by_default_every_float_array_is_prunable():
    params = {
        "w": jnp.ones((2, 2)),
        "half": jnp.ones(2, jnp.bfloat16),
        "scalar": jnp.float32(1),
        "python": 1.0,
        "ids": jnp.ones(3, jnp.int32),
        "flags": jnp.ones(3, bool),
        "complex": jnp.ones(3, jnp.complex64),
        "key": jax.random.key(0),
        "keys": jax.random.split(jax.random.key(0), 3),
    }
    verdicts = wj.prunable(params)
    assert jax.tree.structure(verdicts) == jax.tree.structure(params)
    assert all(type(v) is bool for v in jax.tree.leaves(verdicts))
    assert _chosen(verdicts) == {"w", "half"}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ("kernel$", (), {"conv1/kernel", "conv2/kernel", "head/kernel"}),
        ("kernel$", "^head/", {"conv1/kernel", "conv2/kernel"}),
        (["^conv1/", "^head/"], ["bias"], {"conv1/kernel", "head/kernel"}),
        ("", "kernel", {"conv1/bias", "conv2/bias"}),
        (lambda name, leaf: leaf.ndim == 1, (), {"conv1/bias", "conv2/bias"}),
        ("", lambda name, leaf: name.startswith("conv"), {"head/kernel"}),
        (["bias", lambda name, leaf: leaf.shape == (3, 2)], "conv2", {"conv1/bias", "head/kernel"}),
        ("conv[12]/k", (), {"conv1/kernel", "conv2/kernel"}),
    ],
)
def test_rules_choose_leaves(include, exclude, expected):
    assert _chosen(wj.prunable(_params(), include=include, exclude=exclude)) == expected


def test_exclude_wins_over_include():
    assert _chosen(wj.prunable(_params(), include="conv1", exclude="conv1/bias")) == {
        "conv1/kernel"
    }


def test_a_rule_cannot_make_an_integer_or_a_scalar_prunable():
    params = {"w": jnp.ones(2), "ids": jnp.ones(2, jnp.int32), "t": jnp.float32(1)}
    assert _chosen(wj.prunable(params, include=["w", "ids", "t"])) == {"w"}


def test_shapes_are_enough():
    shapes = jax.eval_shape(_params)
    assert _chosen(wj.prunable(shapes, include="head")) == {"head/kernel"}


def test_a_rule_that_matches_nothing_is_reported_with_the_nearest_paths():
    with pytest.raises(ValueError, match=r"rule 'conv1/kernal' matches no leaf; .*'conv1/kernel'"):
        wj.prunable(_params(), include=["kernel", "conv1/kernal"])
    with pytest.raises(ValueError, match=r"rule 'zzz' matches no leaf; the paths are 'conv1/bias'"):
        wj.prunable(_params(), exclude="zzz")
    with pytest.raises(ValueError, match=r"rule <function .* matches no leaf"):
        wj.prunable(_params(), include=["kernel", lambda name, leaf: False])


def test_a_rule_counts_as_used_where_an_earlier_one_decided():
    # "conv" matches leaves, though exclude has taken every one of them
    assert _chosen(wj.prunable(_params(), include=["conv", "head"], exclude="conv")) == {
        "head/kernel"
    }


def test_not_strict_warns_instead():
    with pytest.warns(UserWarning, match="rule 'convX' matches no leaf"):
        verdicts = wj.prunable(_params(), include=["kernel", "convX"], strict=False)
    assert _chosen(verdicts) == {"conv1/kernel", "conv2/kernel", "head/kernel"}
    with pytest.warns(UserWarning, match="No leaf is prunable"):
        verdicts = wj.prunable(_params(), exclude="", strict=False)
    assert _chosen(verdicts) == set()


def test_no_prunable_leaf_is_an_error_that_lists_a_few():
    with pytest.raises(
        ValueError, match=r"No leaf is prunable .*'a', 'b', 'c', 'd', 'e' and 2 more"
    ):
        wj.prunable({k: jnp.ones(2, jnp.int32) for k in "abcdefg"})


def test_a_malformed_expression_is_a_sentence():
    with pytest.raises(ValueError, match=r"rule 'conv\(' is not a regular expression"):
        wj.prunable(_params(), include="conv(")


def test_an_empty_tree_has_nothing_to_complain_of():
    # what optax.multi_transform shows a transformation that owns no leaf
    assert wj.prunable({"a": ()}, include="kernel") == {"a": ()}


# paths


class Attention(NamedTuple):
    query: jax.Array
    key: jax.Array
    value: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Cell:
    value: jax.Array
    gates: dict


class Module(eqx.Module):
    weight: jax.Array
    inner: Attention


class Net(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
        self.layers = nnx.List([nnx.Param(jnp.ones(2))])


def test_paths_of_every_container():
    x = jnp.ones(2)
    assert leaf_names({"a": [x, {"b": x}], "c": (x,)}) == ["a/0", "a/1/b", "c/0"]
    assert leaf_names(FrozenDict({"a": {"b": x}})) == ["a/b"]
    assert leaf_names(Module(x, Attention(x, x, x))) == [
        "weight",
        "inner/query",
        "inner/key",
        "inner/value",
    ]
    assert leaf_names(x) == [""]


def test_an_nnx_state_has_the_paths_of_its_dict():
    state = nnx.state(Net(), nnx.Param)
    assert leaf_names(state) == ["layers/0", "norm/bias", "norm/scale"]
    assert leaf_names(nnx.to_pure_dict(state)) == leaf_names(state)
    verdicts = wj.prunable(state, include="norm/scale$")
    assert jax.tree.structure(verdicts) == jax.tree.structure(state)
    assert _chosen(verdicts) == {"norm/scale"}


def test_a_field_called_value_keeps_its_name_beside_others():
    # a Flax variable's ".value" is dropped; an attention's value projection must not be
    x = jnp.ones(2)
    params = {"attention": Attention(x, x, x)}
    assert leaf_names(params) == ["attention/query", "attention/key", "attention/value"]
    assert _chosen(wj.prunable(params, exclude="value$")) == {"attention/query", "attention/key"}
    assert leaf_names({"cell": Cell(x, {"in": x})}) == ["cell/value", "cell/gates/in"]


def test_path_name_joins_keys_with_slashes():
    [(path, _)] = jax.tree_util.tree_leaves_with_path({"block": {"conv": [jnp.ones(1)]}})
    assert path_name(path) == "block/conv/0"
