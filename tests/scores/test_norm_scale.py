"""Normalisation scales: which leaves they are, and what happens when there are none."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from wormjax import scores


def ranked(tree):
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), s.tolist())
        for path, s in jax.tree_util.tree_leaves_with_path(tree)
        if s.ndim > 0
    ]


def test_is_the_absolute_scale_and_nothing_else():
    params = {
        "conv": {"kernel": jnp.ones((1, 1, 1, 3)), "bias": jnp.ones(3)},
        "bn": {"scale": jnp.array([-2.0, 0.0, 0.5]), "bias": jnp.ones(3)},
    }
    assert ranked(scores.norm_scale(params)) == [("bn/scale", [2.0, 0.0, 0.5])]


def test_keras_and_haiku_names():
    params = {"norm": {"gamma": jnp.array([-1.0]), "beta": jnp.array([3.0])}}
    assert ranked(scores.norm_scale(params)) == [("norm/gamma", [1.0])]
    params = {"net/~/norm": {"scale": jnp.array([[[-4.0, 2.0]]]), "offset": jnp.ones((1, 1, 2))}}
    assert ranked(scores.norm_scale(params)) == [("net/~/norm/scale", [[[4.0, 2.0]]])]


def test_linen_and_nnx_name_every_normalisation_layer_alike():
    x = jnp.ones((2, 4))
    for module in (linen.LayerNorm(), linen.RMSNorm(), linen.BatchNorm(use_running_average=True)):
        params = module.init(jax.random.key(0), x)["params"]
        assert ranked(scores.norm_scale(params)) == [("scale", [1.0] * 4)]
    for module in (nnx.LayerNorm, nnx.RMSNorm, nnx.BatchNorm):
        params = nnx.state(module(4, rngs=nnx.Rngs(0)), nnx.Param)
        [(_, values)] = ranked(scores.norm_scale(params))
        assert values == [1.0] * 4


def test_stacked_scales_of_scanned_layers():
    tree = scores.norm_scale({"layers": {"scale": -jnp.arange(6.0).reshape(2, 3)}})
    np.testing.assert_array_equal(tree["layers"]["scale"], np.arange(6.0).reshape(2, 3))


def test_no_scale_is_an_error_that_says_what_to_do():
    params = {f"layer{i}": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)} for i in range(3)}
    with pytest.raises(ValueError, match="no normalisation scale") as error:
        scores.norm_scale(params)
    message = str(error.value)
    assert "'scale' or 'gamma'" in message
    assert "'layer0/bias', 'layer0/kernel', 'layer1/bias', 'layer1/kernel' and 2 more" in message
    assert "prunable=wj.prunable(params, include=...)" in message
    with pytest.raises(ValueError, match="found 'kernel'\\."):
        jax.jit(scores.norm_scale)({"kernel": jnp.ones((2, 2))})


def test_an_integer_or_scalar_scale_is_no_scale():
    with pytest.raises(ValueError, match="no normalisation scale"):
        scores.norm_scale({"scale": jnp.ones(3, jnp.int32), "log": {"scale": jnp.float32(1)}})


@pytest.mark.parametrize(
    "part", [{}, [], {"kernel": jnp.ones((2, 2)), "rest": optax.MaskedNode()}, optax.MaskedNode()]
)
def test_no_scale_is_fine_in_a_part(part):
    assert ranked(scores.norm_scale(part)) == []


def test_equinox_needs_the_rule():
    norm = eqx.filter(eqx.nn.LayerNorm(3), eqx.is_inexact_array)
    with pytest.raises(ValueError, match="found 'weight', 'bias'"):
        scores.norm_scale(norm)
    rule = eqx.tree_at(lambda n: (n.weight, n.bias), norm, (True, False))
    assert ranked(scores.norm_scale(norm, prunable=rule)) == [("weight", [1.0] * 3)]


def test_a_rule_that_ranks_nothing_is_taken_at_its_word():
    assert ranked(scores.norm_scale({"kernel": jnp.ones((2, 2))}, prunable={"kernel": False})) == []
