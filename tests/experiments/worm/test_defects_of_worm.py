"""Defects of the WORM code that need no run: shapes of masks, what is pruned, the width of the head."""

import jax
import jax.numpy as jnp
import optax
import pytest

import wormjax as wj
from experiments.models import abstract, named
from experiments.worm._config import WormConfig
from experiments.worm._pruning import pruning_masks


def paths(tree, chosen):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") for path, x in leaves if chosen(x)
    }


def test_w_d2_the_mask_of_each_layer_has_its_shape_and_all_together_are_the_networks():
    """The reference multiplies the gradient of a layer with the mask of all 2,752 channels."""
    params = abstract(named("vgg11")).params
    tx = wj.worm(wj.scores.norm_scale, every=1)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)

    def after_one_step(params):
        state = tx.init(params)
        updates, state = tx.update(params, state, params)
        return updates, wj.masks_of(state, params)

    updates, masks = jax.eval_shape(after_one_step, params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(masks), strict=True)
    assert all(m.shape in ((), p.shape) for p, m in pairs)
    scales = [m.size for m in jax.tree.leaves(masks) if m.ndim]
    assert len(scales) == 2 * 8  # scale and shift share a mask
    assert sum(scales) == 2 * 2752


def test_w_d10_the_filter_says_what_is_pruned_and_the_head_has_the_width_of_its_classes():
    """The reference prunes biases as it does weights, and trains a head of a thousand classes on ten."""
    config = WormConfig(prune_after="magnitude_per_tensor")
    params = {
        "conv": {"kernel": jnp.ones((3, 3, 2, 4))},
        "norm": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
        "head": {"kernel": jnp.ones((4, 10)), "bias": jnp.ones(10)},
    }
    masks = pruning_masks(config, params, params)
    assert paths(masks, lambda m: m.ndim) == {
        *("conv/kernel", "norm/scale", "head/kernel", "head/bias"),  # as in the paper's code
    }
    may = wj.prunable(params, exclude="bias$|scale$")
    assert paths(may, bool) == {"conv/kernel", "head/kernel"}
    for classes in (10, 1000):
        head = jax.tree.leaves(abstract(named("vgg11", classes=classes)).params)
        assert {x.shape[-1] for x in head if x.ndim == 2} == {classes}


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_w_d10_a_named_network_has_ten_classes_unless_told(name):
    shapes = {x.shape for x in jax.tree.leaves(abstract(named(name)).params)}
    assert (512, 10) in shapes
