"""Defects of JaxPruner, by the names of the specification; others are where their subject is."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from tests.dst.runs import KEY, M, W, moved_once, start, training
from wormjax.dst import presets

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "dst_from_jaxpruner.md"

NETWORK = {
    "conv": {"kernel": jnp.ones((3, 3, 4, 8)), "bias": jnp.ones(8)},
    "norm": {"scale": jnp.ones(8), "bias": jnp.ones(8)},
    "head": {"kernel": jnp.ones((8, 6)), "bias": jnp.ones(6)},
}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "static",
            "set_",
            "rigl",
            "snfs",
            "itop",
            "mest",
            "granet",
            "gmp",
            "ste",
            "acdc",
            "top_kast",
        )
    ],
)
def test_jp_1_every_algorithm_takes_a_tree_with_biases_and_batch_norm(name):
    """Traced only: what crashes there are structures."""
    options = {} if name == "static" else {"total_steps": 100, "every": 2, "stop": 50}
    options |= {"phase": 2} if name == "acdc" else {}
    tx = getattr(presets, name)(optax.sgd(0.1, momentum=0.9), KEY, 0.5, **options)

    def train(params):
        state = tx.init(params)
        updates, state = tx.update(params, state, params)
        return updates, wj.masks_of(state, params)

    updates, masks = jax.eval_shape(train, NETWORK)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, NETWORK)
    ranks = jax.tree.map(lambda m: m.ndim, masks)
    assert ranks["conv"] == {"kernel": 4, "bias": 0}
    assert ranks["norm"] == {"scale": 0, "bias": 0}


@pytest.mark.usefixtures("lenient")
def test_jp_7_the_guide_from_jaxpruner_runs_as_written():
    [example] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    params = {"dense": {"kernel": jnp.ones((20, 10)), "bias": jnp.zeros(10)}}
    names = {"params": params, "grads": jax.tree.map(jnp.ones_like, params), "seed": 0}
    exec(compile(example, GUIDE.name, "exec"), names)
    assert int((names["params"]["dense"]["kernel"] != 0).sum()) == 40


def test_jp_7_what_the_guide_names_is_there():
    found = set(re.findall(r"`(wj(?:\.\w+)+)", GUIDE.read_text()))
    assert len(found) > 10
    for name in found:
        value = wj
        for part in name.split(".")[1:]:
            value = getattr(value, part)


def test_jp_15_the_update_alone_masks_and_a_hand_that_unmasks_is_found():
    params, tx = start(), training(every=1)
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(params, state, params)
        params = optax.apply_updates(params, updates)
    mask = np.asarray(state.masks["dense"]["kernel"])
    assert (np.asarray(params["dense"]["kernel"])[~mask] == 0).all()
    wj.check(state)
    params["dense"]["kernel"] = jnp.ones_like(params["dense"]["kernel"])
    _, state = update(params, state, params)
    with pytest.raises(ValueError, match="found a pruned weight that was not zero"):
        wj.check(state)


def test_jp_16_a_leaf_has_a_least_number():
    """And a largest one: test_max_density."""
    # five of six are to go, and three must stay; what grows is new
    mask, value = moved_once(M, W, -W, fraction=0.9, min_kept=3, zero_on_drop=True)
    assert mask.sum() == 6
    np.testing.assert_array_equal(np.flatnonzero(value), [0, 1, 2])


def test_jp_16_what_it_lacks_has_a_name_here():
    assert {"momentum", "random_unfired", "redistribution"} <= set(wj.dst.growth.NAMED)
    assert {"mest", "snip", "taylor", "running_magnitude"} <= set(wj.dst.criteria.NAMED)
    assert {"itop", "granet", "snfs"} <= set(dir(presets))
    assert {"jaccard_matrix", "inference_flops"} <= set(dir(wj.dst.analysis))


def test_jp_18_a_mask_update_sorts_nothing_and_stores_nothing_larger_than_a_leaf():
    """What makes it fast; how fast, `benchmarks.dst` measures. 4 M entries, lowered and not compiled."""
    params = {"kernel": jax.ShapeDtypeStruct((2048, 2048), jnp.float32)}
    tx = training(optax.sgd(0.1))
    text = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params).as_text()
    assert "stablehlo.while" in text
    assert "stablehlo.sort" not in text
    assert "top_k" not in text
    sizes = [
        np.prod([int(n) for n in shape.split("x")])
        for shape in re.findall(r"tensor<((?:\d+x)*\d+)x[fiu]", text)
    ]
    assert max(sizes) == 2048 * 2048
