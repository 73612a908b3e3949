import jax
import jax.numpy as jnp
import pytest

import wormjax as wj


def _shapes(tree):
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        tree,
        is_leaf=lambda x: isinstance(x, tuple),
    )


MODEL = _shapes(
    {
        "stem": {"kernel": (3, 3, 3, 8), "bias": (8,)},
        "bn1": {"scale": (8,), "bias": (8,), "weight": (2, 8)},
        "depthwise": {"kernel": (3, 3, 1, 8)},
        "blocks": {
            "dense": {"kernel": (4, 8, 8), "bias": (4, 8)},
            "norm": {"scale": (4, 8), "bias": (4, 8), "weight": (4, 8)},
            "ln_1": {"weight": (4, 8)},
            "query": {"kernel": (4, 8, 2, 4), "bias": (4, 2, 4)},
        },
        "embed": {"embedding": (10, 8)},
        "patch_embed": {"kernel": (4, 4, 3, 8)},
        "pos_embedding": (1, 16, 8),
        "wte": {"weight": (10, 8)},
        "cls": (1, 1, 8),
        "head": {"kernel": (8, 10), "bias": (10,)},
        "fc": {"weight": (10, 8)},
    }
)
KERNELS = {
    *("stem/kernel", "depthwise/kernel", "blocks/dense/kernel", "blocks/query/kernel"),
    *("patch_embed/kernel", "head/kernel", "fc/weight"),
}
TABLES = {"embed/embedding", "pos_embedding", "wte/weight", "cls"}


def _chosen(**options):
    tree = wj.dst.kernels(MODEL, **options)
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/") for p, yes in paths if yes}


def test_kernels_and_nothing_else():
    assert _chosen() == KERNELS


def test_embeddings_are_opt_in():
    assert _chosen(embeddings=True) == KERNELS | TABLES


def test_jaxpruners_rule_goes_by_rank():
    stacked = {"blocks/dense/bias", "blocks/norm/scale", "blocks/norm/bias", "blocks/query/bias"}
    found = _chosen(mask_rule="ndim>1")
    assert found == KERNELS | TABLES | stacked | {
        "blocks/norm/weight",
        "blocks/ln_1/weight",
        "bn1/weight",
    }


def test_wrong_input_gets_its_sentence():
    with pytest.raises(ValueError, match=r"No leaf looks like a kernel .* 'bias'"):
        wj.dst.kernels({"bias": jnp.ones((2, 2))})
