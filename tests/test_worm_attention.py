"""WORM on attention: the masks of query and key."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import wormjax as wj


def attention(random):
    def leaf(*shape):
        return jnp.asarray(random.normal(size=shape).astype(np.float32))

    def layer():
        return {name: {"kernel": leaf(4, 4), "bias": leaf(4)} for name in ("query", "key", "value")}

    return {"layer1": layer(), "layer2": layer()}


QUERY_KEY = functools.partial(
    wj.scores.magnitude, prunable=lambda p: wj.prunable(p, include=r"(query|key)/kernel$")
)


def test_w_d4_masks_of_two_attention_layers_fill_their_places():
    # the reference overwrites the query by the key and leaves the second half zero
    params = attention(np.random.default_rng(0))
    detector = wj.early_bird(QUERY_KEY, 0.5, window=2)
    state = detector.update(params, detector.init(params))

    names = [f"layer{i}/{part}/kernel" for i in (1, 2) for part in ("key", "query")]
    assert list(state.names) == names
    assert state.sizes == (16,) * 4
    kernels = [params[f"layer{i}"][part]["kernel"] for i in (1, 2) for part in ("key", "query")]
    every = np.concatenate([np.abs(np.ravel(k)) for k in kernels])
    threshold = np.sort(every)[32]
    masks = [state.newest[f"layer{i}"][part]["kernel"] for i in (1, 2) for part in ("key", "query")]
    written = np.concatenate([np.ravel(m) for m in masks])
    assert written.size == 64
    assert written[:32].any()
    assert written[32:].any()
    np.testing.assert_array_equal(written, every >= threshold)
    for kernel, mask in zip(kernels, masks, strict=True):
        np.testing.assert_array_equal(mask, np.abs(kernel) >= threshold)

    # and the distance is the true one: turning the signs of all magnitudes' order complements the mask
    flipped = jax.tree.map(lambda x: 1 / x, params)
    assert detector.update(flipped, state).distances.tolist() == [1.0]


def test_w_d5_query_and_key_are_scaled_by_their_own_mask_and_biases_untouched():
    random = np.random.default_rng(1)
    params, grads = attention(random), attention(random)
    tx = wj.worm(QUERY_KEY, window=2, policy=wj.policies.constant(0.003), every=1)
    out, state = jax.jit(tx.update)(grads, tx.init(params), params)

    newest = state.detector.newest
    for layer in ("layer1", "layer2"):
        for part in ("query", "key"):
            mask, g = newest[layer][part]["kernel"], np.asarray(grads[layer][part]["kernel"])
            assert mask.shape == (4, 4)
            expected = np.where(mask, g, np.float32(0.003) * g)
            np.testing.assert_array_equal(out[layer][part]["kernel"], expected)
            np.testing.assert_array_equal(out[layer][part]["bias"], grads[layer][part]["bias"])
        jax.tree.map(np.testing.assert_array_equal, out[layer]["value"], grads[layer]["value"])
    masks = [newest["layer1"][part]["kernel"] for part in ("query", "key")]
    assert not np.array_equal(*masks)
