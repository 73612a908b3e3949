import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj


def _params():
    random = np.random.default_rng(0)
    return {
        "dense": {"kernel": random.standard_normal((7, 9)).astype(np.float32), "bias": np.ones(9)},
        "embed": {"embedding": np.full((3, 4), 1e-6, np.float32)},
        "head": {"kernel": random.standard_normal((9, 2)).astype(np.float32)},
    }


def test_an_exact_share_of_the_kernels_stays():
    params = _params()
    pruned, masks = wj.one_shot(params, density="0.29")
    kernels = np.concatenate([params[n]["kernel"].ravel() for n in ("dense", "head")])
    threshold = np.sort(np.abs(kernels))[-23]  # floor(0.29 * 81)
    for name in ("dense", "head"):
        kernel = params[name]["kernel"]
        expected = np.where(np.abs(kernel) >= threshold, kernel, 0)
        np.testing.assert_array_equal(pruned[name]["kernel"], expected)
    np.testing.assert_array_equal(pruned["dense"]["bias"], params["dense"]["bias"])
    np.testing.assert_array_equal(pruned["embed"]["embedding"], params["embed"]["embedding"])
    assert masks["embed"]["embedding"].shape == ()


def test_scores_may_be_given_and_ranked_by_leaf():
    params = {"a": jnp.arange(1.0, 11.0), "b": jnp.arange(11.0, 21.0)}
    found = wj.one_shot(params, lambda p: {"a": -p["a"], "b": p["b"]}, 0.5, scope="leaf")
    np.testing.assert_array_equal(np.flatnonzero(found.params["a"]), range(5))
    np.testing.assert_array_equal(np.flatnonzero(found.params["b"]), range(5, 10))


def test_wrong_input_gets_its_sentence():
    with pytest.raises(ValueError, match="density must lie in"):
        wj.one_shot(_params(), density=0)
    with pytest.raises(ValueError, match=r"score at 'a' has shape \(3,\)"):
        wj.one_shot({"a": jnp.ones(4)}, {"a": jnp.ones(3)}, 0.5)
    with pytest.raises(ValueError, match="No leaf looks like a kernel"):
        wj.one_shot({"bias": jnp.ones(4)}, density=0.5)
