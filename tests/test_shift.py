"""The shift beside a masked scale is masked with it, and nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import wormjax as wj

KEPT = jnp.array([True, False, True])
WHOLE = jnp.array(True)


def extended(params, masks):
    out = wj.extend_to_shift(params, masks)
    assert jax.tree.structure(out) == jax.tree.structure(params)
    return out


@pytest.mark.parametrize("shift", ["bias", "shift", "offset", "beta"])
@pytest.mark.parametrize("scale", ["scale", "gamma", "weight"])
def test_every_name_of_a_shift_follows_any_name_of_a_scale(shift, scale):
    params = {"norm": {scale: jnp.ones(3), shift: jnp.zeros(3)}}
    out = extended(params, {"norm": {scale: KEPT, shift: WHOLE}})
    np.testing.assert_array_equal(out["norm"][shift], KEPT)
    np.testing.assert_array_equal(out["norm"][scale], KEPT)


def test_the_bias_of_a_kernel_is_left_alone():
    params = {"dense": {"kernel": jnp.ones((3, 3)), "bias": jnp.zeros(3)}}
    masks = {"dense": {"kernel": jnp.eye(3, dtype=bool), "bias": WHOLE}}
    assert extended(params, masks)["dense"]["bias"].ndim == 0


def test_a_shift_of_another_shape_or_another_layer_is_left_alone():
    params = {
        "a": {"scale": jnp.ones(3), "bias": jnp.zeros(4)},
        "b": {"bias": jnp.zeros(3)},
        "bias": jnp.zeros(3),
        "a/inner": {"bias": jnp.zeros(3)},
    }
    masks = jax.tree.map(lambda _: WHOLE, params)
    masks["a"]["scale"] = KEPT
    out = extended(params, masks)
    assert [m.ndim for m in jax.tree.leaves(out)] == [0, 1, 0, 0, 0]


def test_leaves_that_only_sound_like_a_shift_are_left_alone():
    params = {"norm": {"scale": jnp.ones(3), "biases": jnp.ones(3), "mean": jnp.ones(3)}}
    masks = {"norm": {"scale": KEPT, "biases": WHOLE, "mean": WHOLE}}
    out = extended(params, masks)["norm"]
    assert out["biases"].ndim == 0
    assert out["mean"].ndim == 0


def test_a_shift_that_has_its_own_mask_keeps_it():
    params = {"norm": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}}
    own = jnp.array([False, False, True])
    out = extended(params, {"norm": {"scale": KEPT, "bias": own}})
    np.testing.assert_array_equal(out["norm"]["bias"], own)
    np.testing.assert_array_equal(out["norm"]["scale"], KEPT)


def test_scales_that_are_not_masked_mask_nothing():
    params = {"norm": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}}
    out = extended(params, jax.tree.map(lambda _: WHOLE, params))
    assert all(m.ndim == 0 for m in jax.tree.leaves(out))


def test_at_the_root_in_stacked_layers_and_for_scalars():
    root = extended({"scale": jnp.ones(3), "bias": jnp.ones(3)}, {"scale": KEPT, "bias": WHOLE})
    np.testing.assert_array_equal(root["bias"], KEPT)

    stacked = {"scale": jnp.ones((2, 3)), "bias": jnp.ones((2, 3))}  # layers under a scan
    masks = {"scale": jnp.array([[True, False, True], [False, True, True]]), "bias": WHOLE}
    np.testing.assert_array_equal(extended(stacked, masks)["bias"], masks["scale"])

    scalar = {"scale": jnp.ones(3), "bias": jnp.ones(())}
    assert extended(scalar, {"scale": KEPT, "bias": WHOLE})["bias"].ndim == 0


def test_two_layers_do_not_exchange_their_masks():
    params = {name: {"scale": jnp.ones(3), "bias": jnp.zeros(3)} for name in ("bn1", "bn10", "bn2")}
    masks = {
        name: {"scale": jnp.arange(3) == i, "bias": WHOLE} for i, name in enumerate(sorted(params))
    }
    out = extended(params, masks)
    for i, name in enumerate(sorted(params)):
        np.testing.assert_array_equal(out[name]["bias"], np.arange(3) == i)


def test_in_lists_in_an_nnx_state_and_in_a_part_of_a_tree():
    listed = [
        {"scale": jnp.ones(3), "bias": jnp.ones(3)},
        {"scale": jnp.ones(3), "bias": jnp.ones(3)},
    ]
    masks = [{"scale": KEPT, "bias": WHOLE}, {"scale": ~KEPT, "bias": WHOLE}]
    out = extended(listed, masks)
    np.testing.assert_array_equal(out[0]["bias"], KEPT)
    np.testing.assert_array_equal(out[1]["bias"], ~KEPT)

    state = nnx.state(nnx.BatchNorm(3, rngs=nnx.Rngs(0)), nnx.Param)
    masks = jax.tree.map(lambda _: WHOLE, state)
    masks["scale"] = masks["scale"].replace(KEPT)
    np.testing.assert_array_equal(jax.tree.leaves(extended(state, masks))[0], KEPT)

    hole = optax.MaskedNode()
    part = {"bn": {"scale": jnp.ones(3), "bias": jnp.ones(3)}, "head": hole}
    out = extended(part, {"bn": {"scale": KEPT, "bias": WHOLE}, "head": hole})
    np.testing.assert_array_equal(out["bn"]["bias"], KEPT)
