"""Layers and costs of sparse networks, against counts by hand."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.dst import analysis

PARAMS = {
    "conv": {"kernel": jax.ShapeDtypeStruct((3, 3, 2, 4), jnp.float32)},
    "head": {
        "bias": jax.ShapeDtypeStruct((3,), jnp.float32),
        "kernel": jax.ShapeDtypeStruct((4, 3), jnp.bfloat16),
    },
}


def _masks():
    conv = np.zeros((3, 3, 2, 4), bool)
    conv[0, 0, 0, :2] = True  # reads input 0 only, and leaves outputs 2 and 3 constant
    conv[2, 1, 0, 1] = True
    head = np.zeros((4, 3), bool)
    head[1] = True
    return {"conv": {"kernel": conv}, "head": {"bias": np.array(True), "kernel": head}}


def _apply(params, x):
    y = jax.lax.conv_general_dilated(
        x, params["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = jax.nn.relu(y).mean((1, 2)).astype(jnp.bfloat16)
    return y @ params["head"]["kernel"]


def test_densities_and_dead_units():
    masks = jax.tree.map(jnp.asarray, _masks())
    found = analysis.layer_densities(masks, PARAMS)
    assert found == {
        "conv/kernel": (3, 72, Fraction(1, 24)),
        "head/kernel": (3, 12, Fraction(1, 4)),
    }
    dead = analysis.dead_units(masks, PARAMS)
    assert dead == {"conv/kernel": (2, 4, 1, 2), "head/kernel": (0, 3, 3, 4)}


def test_stacked_layers_have_units_of_their_own():
    mask = np.zeros((2, 3, 4), bool)
    mask[0, 0, 0] = mask[1, 0, 1] = True
    tree, params = {"w": jnp.asarray(mask)}, {"w": jnp.ones((2, 3, 4))}
    assert analysis.dead_units(tree, params)["w"] == (2, 4, 2, 3)
    assert analysis.dead_units(tree, params, stacked="^w$")["w"] == (6, 8, 4, 6)


def test_a_channel_mask_counts_whole_channels():
    masks, params = {"w": jnp.array([[True, False, True]])}, {"w": jnp.ones((5, 3))}
    assert analysis.layer_densities(masks, params)["w"][:2] == (10, 15)
    assert analysis.dead_units(masks, params)["w"] == (1, 3, 0, 5)


def test_flops_are_counts_times_output_positions():
    x = jax.ShapeDtypeStruct((1, 6, 5, 2), jnp.float32)
    flops = analysis.inference_flops(_apply, PARAMS, jax.tree.map(jnp.asarray, _masks()), x)
    assert flops == (2 * (30 * 72 + 12), 2 * (30 * 3 + 3))
    assert analysis.training_flops(flops, 10) == 30 * flops.sparse
    # RigL: growth by gradient at every 10th step, in RigL's own average and by exact steps
    average = analysis.rigl_step_flops(flops, every=9)
    assert analysis.training_flops(flops, 10, dense_gradients=1) == 10 * average
    snfs = analysis.training_flops(flops, 7, dense_gradients=7)
    assert snfs == 7 * (2 * flops.sparse + flops.dense)


def test_bits():
    found = analysis.parameter_bits(jax.tree.map(jnp.asarray, _masks()), PARAMS)
    assert found == (32 * 72 + 32 * 3 + 16 * 12, (32 * 3 + 72) + 32 * 3 + (16 * 3 + 12))


def test_wrong_input_gets_its_sentence():
    flops = analysis.Flops(10, 5)
    with pytest.raises(ValueError, match="between 0 and steps, got 4 of 3 steps"):
        analysis.training_flops(flops, 3, 4)
    with pytest.raises(ValueError, match="every must be at least one step"):
        analysis.rigl_step_flops(flops, 0)
    with pytest.raises(ValueError, match="masks have another structure"):
        analysis.layer_densities({"conv": {"kernel": jnp.array(True)}}, PARAMS)
