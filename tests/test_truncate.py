"""The bare truncation: every bit of what it may not touch, and every number of what it scales."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from tests.compiling import counted

BITS = {jnp.float32: np.uint32, jnp.bfloat16: np.uint16, jnp.float16: np.uint16}
MASK = np.array([True, False, True, False, True, False, True, False, True, False])

# Zero, minus zero, the least subnormals, infinities, quiet and signalling NaNs with payloads, one.
ODD = {
    jnp.float32: [
        *(0, 1 << 31, 1, 0x807FFFFF, 0x7F800000, 0xFF800000),
        *(0x7FC00123, 0xFF800001, 0x3F800000, 0x7F7FFFFF),
    ],
    jnp.bfloat16: [0, 1 << 15, 1, 0x807F, 0x7F80, 0xFF80, 0x7FC3, 0xFF81, 0x3F80, 0x7F7F],
    jnp.float16: [0, 1 << 15, 1, 0x83FF, 0x7C00, 0xFC00, 0x7E03, 0xFC01, 0x3C00, 0x7BFF],
}


def floats(dtype, bits):
    return jnp.asarray(np.asarray(bits, BITS[dtype])).view(dtype)


def bits(x):
    return np.asarray(x).view(f"u{x.dtype.itemsize}")


def truncated(updates, mask, factor, compiled=False):
    tx = wj.truncate({"scale": jnp.asarray(mask)}, factor)
    tree = {"scale": updates}
    update = jax.jit(tx.update) if compiled else tx.update
    return update(tree, tx.init(tree))[0]["scale"]


def test_o_w1_the_numbers_of_the_spec():
    out = truncated(jnp.array([1.0, -2.0, 3.0, 4.0]), [True, False, True, False], 0.003)
    np.testing.assert_allclose(out, [1, -0.006, 3, 0.012], rtol=1e-6)
    assert out[0] == 1.0
    assert out[2] == 3.0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", BITS)
def test_factor_one_is_the_identity_in_every_bit(dtype, compiled):
    updates = floats(dtype, ODD[dtype])
    for mask in (MASK, ~MASK, np.zeros(10, bool), np.ones(10, bool)):
        out = truncated(updates, mask, 1.0, compiled)
        assert out.dtype == dtype
        np.testing.assert_array_equal(bits(out), ODD[dtype])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("factor", [0.0, 0.003, 0.5, 1.0])
@pytest.mark.parametrize("dtype", BITS)
def test_kept_entries_are_untouched_in_every_bit(dtype, factor, compiled):
    updates = floats(dtype, ODD[dtype])
    for mask in (MASK, ~MASK):
        out = truncated(updates, mask, factor, compiled)
        np.testing.assert_array_equal(bits(out)[mask], np.array(ODD[dtype], BITS[dtype])[mask])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", BITS)
def test_factor_zero_gives_exact_zeros_of_infinities_and_nans_too(dtype, compiled):
    out = truncated(floats(dtype, ODD[dtype]), np.zeros(10, bool), 0.0, compiled)
    np.testing.assert_array_equal(bits(out), np.zeros(10, BITS[dtype]))


def test_truncated_infinities_and_nans_stay_what_they_are():
    out = truncated(jnp.array([jnp.inf, -jnp.inf, jnp.nan, 8.0]), np.zeros(4, bool), 0.25)
    np.testing.assert_array_equal(out, [np.inf, -np.inf, np.nan, 2.0])


eight = jax.jit(wj.truncate({"scale": jnp.ones(8, bool)}, 1.0).update)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.floats(0, 1, width=32, allow_subnormal=False),
)
def test_any_bits_any_mask_any_factor(raw, mask, factor):
    raw, mask = np.array(raw, np.uint32), np.array(mask)
    state = wj.TruncateState({"scale": jnp.asarray(mask)}, jnp.float32(factor))
    updates = raw.view(np.float32)
    out = np.asarray(eight({"scale": jnp.asarray(updates)}, state)[0]["scale"])

    untouched = mask | (factor == 1)
    np.testing.assert_array_equal(out.view(np.uint32)[untouched], raw[untouched])
    with np.errstate(all="ignore"):
        expected = updates * np.float32(factor) if factor else np.zeros(8, np.float32)
    near_zero = np.abs(expected) < np.finfo(np.float32).tiny  # a backend may flush subnormals
    np.testing.assert_array_equal(out[~mask & ~near_zero], expected[~mask & ~near_zero])
    assert np.all(np.abs(out[~untouched & near_zero]) < np.finfo(np.float32).tiny)
    if factor == 0:
        assert np.all(out.view(np.uint32)[~mask] == 0)


def test_it_equals_a_gradient_multiply_by_hand_to_the_last_bit():
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 4)).astype(np.float32)
    mask = random.random((3, 4)) < 0.5
    tx = wj.truncate({"kernel": jnp.asarray(mask)}, 0.003)
    out, _ = tx.update({"kernel": jnp.asarray(kernel)}, tx.init({"kernel": jnp.asarray(kernel)}))

    by_hand = np.where(mask, kernel, np.float32(0.003) * kernel)
    np.testing.assert_array_equal(out["kernel"], by_hand)


def test_the_factor_is_rounded_to_the_updates_dtype():
    out = truncated(jnp.ones(2, jnp.bfloat16) * 3, [True, False], 0.003)
    assert out.dtype == jnp.bfloat16
    assert out[1] == jnp.bfloat16(3) * jnp.bfloat16(0.003)


def test_a_channel_mask_broadcasts_over_its_parameter():
    masks = {"kernel": jnp.array([[True, False, True]]), "bias": jnp.array(True)}
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    tx = wj.truncate(masks, 0.5)
    out, _ = tx.update(params, tx.init(params))

    assert out["kernel"].tolist() == [[1, 0.5, 1], [1, 0.5, 1]]
    assert out["bias"].tolist() == [1, 1, 1]


def test_a_leaf_that_is_never_pruned_passes_as_it_is_whatever_its_type():
    params = {"scale": jnp.ones(2), "count": jnp.arange(3), "key": jax.random.key(0)}
    masks = {"scale": jnp.array([True, False]), "count": jnp.array(True), "key": jnp.array(True)}
    tx = wj.truncate(masks, 0.0)
    updates = {**params, "count": np.zeros(3, jax.dtypes.float0)}
    out, _ = tx.update(updates, tx.init(params))

    assert out["count"] is updates["count"]
    assert out["key"] is updates["key"]
    assert out["scale"].tolist() == [1, 0]


def test_o_w4_new_masks_and_factors_are_in_force_at_once_and_compile_nothing():
    # counted inside this process; the first call is a warm-up
    tx = optax.chain(wj.truncate({"scale": jnp.array([True, False, True])}, 0.5), optax.sgd(1.0))
    params = {"scale": jnp.ones(3)}
    (update, programs), state = counted(tx.update), tx.init(params)
    for _ in range(2):
        updates, state = update(params, state, params)
    assert updates["scale"].tolist() == [-1, -0.5, -1]
    compiled = len(programs)

    mine, *rest = state
    for mask, factor in [
        ([False, False, True], 0.5),
        ([True, False, False], 0.25),
        ([True] * 3, 0.0),
    ]:
        mine = dataclasses.replace(
            mine, masks={"scale": jnp.array(mask)}, factor=jnp.float32(factor)
        )
        updates, (mine, *rest) = update(params, (mine, *rest), params)
        assert updates["scale"].tolist() == [-1 if kept else -factor for kept in mask]
    assert len(programs) == compiled


def test_a_factor_given_as_an_array_is_in_force_at_every_update():
    params = {"scale": jnp.ones(2)}
    masks = {"scale": jnp.array([True, False])}

    @jax.jit
    def update(factor, state):
        return wj.truncate(masks, factor).update(params, state)

    state = wj.truncate(masks, 1.0).init(params)
    for factor in (0.5, 0.25):
        updates, state = update(jnp.float32(factor), state)
        assert updates["scale"].tolist() == [1, factor]
        assert float(state.factor) == factor
    # and a Python number is only where the state starts
    updates, _ = wj.truncate(masks, 1.0).update(params, state)
    assert updates["scale"].tolist() == [1, 0.25]


def test_the_state_does_not_change_and_masks_of_reads_it():
    params = {"scale": jnp.ones(2), "bias": jnp.ones(2)}
    masks = {"scale": jnp.array([True, False]), "bias": jnp.array(True)}
    tx = wj.truncate(masks, 0.5)
    state = tx.init(params)
    _, after = tx.update(params, state, params, value=jnp.float32(1))  # extra arguments are ignored

    jax.tree.map(np.testing.assert_array_equal, state, after)
    told = wj.masks_of(after, params)
    assert told["scale"].tolist() == [True, False]
    assert told["bias"].ndim == 0


def travelled(tx, params, state, gradient, steps):
    def step(carry, _):
        p, s = carry
        u, s = tx.update({"scale": gradient}, s, p)
        return (optax.apply_updates(p, u), s), None

    return jax.jit(lambda p, s: jax.lax.scan(step, (p, s), None, length=steps)[0])(params, state)


def test_o_w3_factor_zero_freezes_under_plain_sgd():
    masks = {"scale": jnp.array([True, False, True, False])}
    tx = optax.chain(wj.truncate(masks, 0.0), optax.sgd(0.1))
    params = {"scale": jnp.array([1.0, 2.0, 3.0, 4.0])}
    after, _ = travelled(tx, params, tx.init(params), jnp.ones(4), 20)

    np.testing.assert_array_equal(after["scale"][1::2], params["scale"][1::2])
    np.testing.assert_allclose(after["scale"][::2], [-1, 1], rtol=1e-5)


def test_o_w3_velocity_that_is_there_coasts_nine_steps_far():
    # v <- 0.9 v + g, w <- w - lr v: with no further gradient the travel is lr v (0.9 + 0.81 + ...)
    rate = 0.01
    masks = {"scale": jnp.array([True, False])}
    tx = optax.chain(wj.truncate(masks, 1.0), optax.sgd(rate, momentum=0.9))
    params = {"scale": jnp.zeros(2)}
    moving, (mine, *rest) = travelled(tx, params, tx.init(params), jnp.array([1.0, 3.0]), 5)
    velocity = 3.0 * (1 - 0.9**5) / 0.1
    np.testing.assert_allclose(jax.tree.leaves(rest)[0][1], velocity, rtol=1e-6)

    frozen = (dataclasses.replace(mine, factor=jnp.float32(0)), *rest)
    after, _ = travelled(tx, moving, frozen, jnp.array([1.0, 3.0]), 400)
    np.testing.assert_allclose(
        moving["scale"][1] - after["scale"][1], 9 * rate * velocity, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"scale": jnp.ones(3, bool)}, r"'bias'"),
        (
            {"scale": jnp.ones(3, bool), "bias": jnp.array(True), "more": jnp.array(True)},
            r"'more' is not in params",
        ),
        ({"scale": jnp.ones(4, bool), "bias": jnp.array(True)}, r"'scale' has shape \(4,\)"),
        ({"scale": jnp.ones((1, 3), bool), "bias": jnp.array(True)}, r"'scale' has shape \(1, 3\)"),
        ([jnp.ones(3, bool), jnp.array(True)], r"another structure"),
    ],
)
def test_masks_of_another_structure_are_refused_at_init(masks, message):
    params = {"scale": jnp.ones(3), "bias": jnp.ones(3)}
    with pytest.raises(ValueError, match=message):
        wj.truncate(masks, 0.5).init(params)


def test_updates_of_another_structure_are_refused():
    params = {"scale": jnp.ones(3), "bias": jnp.ones(3)}
    tx = wj.truncate({"scale": jnp.ones(3, bool), "bias": jnp.array(True)}, 0.5)
    with pytest.raises(ValueError, match=r"updates have another structure than masks.*'bias'"):
        tx.update({"scale": jnp.ones(3)}, tx.init(params))


def test_masks_for_the_whole_tree_are_cut_to_the_part_it_sees():
    params = {"bn": {"scale": jnp.ones(2)}, "head": {"kernel": jnp.ones((2, 2))}}
    masks = {"bn": {"scale": jnp.array([True, False])}, "head": {"kernel": jnp.array(True)}}
    cut = functools.partial(optax.masked, wj.truncate(masks, 0.5))
    for part in ({"bn": True, "head": False}, {"bn": {"scale": True}, "head": {"kernel": False}}):
        tx = cut(part)
        updates, state = tx.update(params, tx.init(params), params)
        assert updates["bn"]["scale"].tolist() == [1, 0.5]
        assert updates["head"]["kernel"].tolist() == [[1, 1], [1, 1]]
        assert wj.masks_of(state, params)["head"]["kernel"].ndim == 0
    tx = cut({"bn": False, "head": False})
    updates, _ = tx.update(params, tx.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, updates, params)
