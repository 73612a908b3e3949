"""What grows: where, how much, and the value it starts with."""

import jax
import numpy as np
import pytest

from tests.dst import oracles
from tests.dst.runs import G, M, W, gradients, moved_once, run, start, training
from wormjax.dst import grow_init


def test_the_worked_growth_keeps_the_value_of_what_comes_back():
    mask, w = moved_once(M, W, G)
    assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3, 6, 7]
    assert w[3] == np.float32(-0.2)
    assert w[6] == w[7] == w[4] == 0


def test_zero_on_drop_starts_it_afresh():
    mask, w = moved_once(M, W, G, zero_on_drop=True)
    assert mask[3]
    assert w[3] == 0


def test_without_regrowth_fewer_are_dropped():
    mask, _ = moved_once(M, W, G, allow_regrow_dropped=False)
    assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3, 6, 7]
    np.testing.assert_array_equal(mask, oracles.moved(M, np.abs(W), np.abs(G), "0.5", regrow=False))
    mask = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    w = np.array([0.5, 0.1, 0, 0.3, 0, 0, 0, 0], np.float32)
    g = np.array([0, 9, 9, 0, 1, 2, 3, 4], np.float32)
    same, _ = moved_once(mask, w, g)
    np.testing.assert_array_equal(same, mask)
    new, _ = moved_once(mask, w, g, allow_regrow_dropped=False)
    assert np.flatnonzero(new).tolist() == [0, 3, 6, 7]


def test_fw_2_a_dense_network_does_not_change_unless_asked():
    full = np.ones(8, bool)
    mask, w = moved_once(full, W, G)
    assert mask.all()
    np.testing.assert_array_equal(w, W)
    mask, w = moved_once(full, W, G, zero_on_drop=True)
    assert mask.all()
    assert (w[[0, 1]] == W[[0, 1]]).all()
    assert w[4] == 0


@pytest.mark.parametrize(
    "grow",
    [
        *("random_unfired", "redistribution"),
        *(pytest.param(g, marks=pytest.mark.slow) for g in ("momentum", "momentum_neuron")),
    ],
)
def test_growth_rules_conserve_the_count(grow):
    params, grads = start(), gradients(6)
    tx = training(grow=grow, mask_gradients=False, opt_state="keep", order="before", every=1)
    _, state, path, masks = run(tx, params, grads)
    assert (masks.sum((1, 2)) == 12).all()
    assert (np.asarray(path)[~masks] == 0).all()
    if grow == "random_unfired":
        ever = np.cumsum(masks, 0) > 0
        # 6 new places an update until all 48 were tried; masks[0] is that of the first update
        first = int((masks[0] | np.asarray(tx.init(params).masks["dense"]["kernel"])).sum())
        assert first == 18
        assert int(ever[-1].sum()) >= 42
        assert float(state.rate_explored) == 1


@pytest.mark.parametrize(
    ("how", "axes"),
    [
        ("out", (0,)),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in (("leaf", (0, 1)), ("in", (1,)))),
    ],
)
def test_rescaled_weights_have_the_norm_of_before(how, axes):
    w = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    full = np.ones_like(w, bool)
    mask, value = moved_once(full, w, w, rescale=how, zero_on_drop=True, fraction=0.25)
    assert mask.all()
    stays = np.abs(w) > np.sort(np.abs(w).ravel())[5]
    np.testing.assert_array_equal(value != 0, stays)
    norms = [np.sqrt((x.astype(np.float64) ** 2).sum(axes)) for x in (w, value)]
    kept = stays.any(axes)
    np.testing.assert_allclose(norms[1][kept], norms[0][kept], rtol=1e-5)


def test_new_connections_start_as_asked():
    new = [6, 7]
    mean = np.abs(W[:6]).mean()
    _, w = moved_once(M, W, G, grow_init=grow_init.gradient_scaled(4.0))
    np.testing.assert_allclose(w[new], -G[new] / 4, rtol=1e-6)
    assert w[3] == W[3]  # it came back
    _, w = moved_once(M, W, G, grow_init=grow_init.gradient_sign(2.0))
    np.testing.assert_allclose(w[new], [-mean / 2, mean / 2], rtol=1e-6)


@pytest.mark.slow
def test_new_connections_may_start_at_random_or_by_an_initializer():
    mean = np.abs(W[:6]).mean()
    _, w = moved_once(M, W, G, grow_init=grow_init.uniform(2.0))
    assert (np.abs(w[6:]) <= mean / 2).all()
    assert w[6] != w[7]
    constant = jax.nn.initializers.constant(3.0)
    _, w = moved_once(M, W, G, grow_init=grow_init.initializer(constant, 2.0), zero_on_drop=True)
    np.testing.assert_allclose(w[[3, 6, 7]], 1.5)


@pytest.mark.slow
def test_new_connections_of_a_normal_distribution():
    w = np.random.default_rng(0).normal(2.0, 0.5, size=4000).astype(np.float32)
    mask = np.arange(4000) < 2000
    new, value = moved_once(
        mask, np.where(mask, w, 0), w, grow="random", grow_init=grow_init.normal(2.0)
    )
    grown = value[new & ~mask]
    assert 400 < len(grown) <= 1000
    np.testing.assert_allclose(grown.std(), 0.25, rtol=0.15)
    assert abs(grown.mean()) < 0.05
