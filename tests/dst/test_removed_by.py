"""The one-layer vectors of the specification (6.5), through the comparison of criteria."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj

W = np.array([0.5, -0.4, 0.3, -0.2, 0.1, -0.05, 0, 0], np.float32)
G = np.array([0.1, -0.6, 0.05, 0.9, -0.3, 0.02, 1, -2], np.float32)
M = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool)
CRITERIA = wj.dst.criteria


def test_the_removed_sets_of_the_specification():
    expected = {
        "magnitude": (CRITERIA.magnitude(), {3, 4, 5}),
        "mest": (CRITERIA.mest(1.0), {2, 4, 5}),
        "mest_tenth": (CRITERIA.mest(0.1), {3, 4, 5}),
        "snip": ("snip", {2, 4, 5}),
        "reciprocal_sensitivity": ("reciprocal_sensitivity", {1, 3, 4}),
        "sensitivity": ("sensitivity", {0, 2, 5}),
        "taylor": ("taylor", {2, 4, 5}),
        "grad_step": (CRITERIA.grad_step(1.0), {1, 2, 5}),
        "snip_plus": ("snip_plus", {0, 1, 2}),
        "set": ("set", {2, 4, 5}),
    }
    found = wj.dst.analysis.removed_by(
        {name: criterion for name, (criterion, _) in expected.items()} | {"random": "random"},
        {"w": W, "bias": np.ones(2, np.float32)},
        {"w": jnp.asarray(M), "bias": jnp.array(True)},
        {"w": G, "bias": np.ones(2, np.float32)},
        0.5,
        jax.random.key(0),
    )
    removed = {name: set(np.flatnonzero(tree["w"]).tolist()) for name, tree in found.items()}
    assert {name: removed[name] for name in expected} == {n: s for n, (_, s) in expected.items()}
    assert len(removed["random"]) == 3
    assert removed["random"] <= set(range(6))
    assert found["set"]["bias"].shape == ()


def test_wrong_input_gets_its_sentence():
    masks, params = {"w": jnp.asarray(M)}, {"w": W}
    with pytest.raises(ValueError, match="'magnitud' is no criterion"):
        wj.dst.analysis.removed_by({"a": "magnitud"}, params, masks, params, 0.5, jax.random.key(0))
    with pytest.raises(ValueError, match="needs the running"):
        wj.dst.analysis.removed_by(
            {"a": "running_snip"}, params, masks, params, 0.5, jax.random.key(0)
        )
    with pytest.raises(ValueError, match="leaf 'w' is missing"):
        wj.dst.analysis.removed_by({"a": "snip"}, params, masks, {"v": W}, 0.5, jax.random.key(0))
