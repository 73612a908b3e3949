"""Batches: an order that is a function of (key, epoch), and evaluation that counts each row once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import epoch_order, evaluation_batches


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (12, 4), (5, 5), (3, 1)])
def test_an_epoch_shows_no_row_twice(size, batch):
    order = epoch_order(jax.random.key(0), 0, size=size, batch=batch)
    assert order.dtype == jnp.int32
    assert order.shape == (size // batch, batch)
    rows = np.asarray(order).ravel()
    assert len(set(rows.tolist())) == rows.size
    assert rows.min() >= 0
    assert rows.max() < size


def test_the_order_is_one_function_of_key_and_epoch():
    """Eager, jitted with a traced epoch, scanned and vmapped over seeds: the same rows."""
    keys = jax.random.split(jax.random.key(7), 2)

    def order(key, epoch):
        return epoch_order(key, epoch, size=20, batch=6)

    eager = np.stack([[order(key, epoch) for epoch in range(3)] for key in keys])
    jitted = jax.jit(order)
    epochs = jnp.arange(3, dtype=jnp.int32)
    _, scanned = jax.lax.scan(lambda c, e: (c, order(keys[0], e)), None, epochs)
    seeds = jax.jit(jax.vmap(order, in_axes=(0, None)))(keys, epochs[2])
    np.testing.assert_array_equal(jitted(keys[1], epochs[1]), eager[1, 1])
    np.testing.assert_array_equal(scanned, eager[0])
    np.testing.assert_array_equal(seeds, eager[:, 2])
    assert len({eager[i, j].tobytes() for i in range(2) for j in range(3)}) == 6


def test_rows_left_out_change_with_the_epoch():
    key = jax.random.key(0)
    left_out = [
        set(range(10)) - set(np.asarray(epoch_order(key, e, size=10, batch=9)).ravel().tolist())
        for e in range(40)
    ]
    # Each of 10 rows is left out of an epoch with probability 1/10: 40 epochs show nearly all.
    assert len(set().union(*left_out)) >= 8


@pytest.mark.parametrize("batch", [0, -1, 11])
def test_a_batch_that_does_not_fit_is_refused(batch):
    with pytest.raises(ValueError, match=rf"batch={batch} does not fit .* of 10 images"):
        epoch_order(jax.random.key(0), 0, size=10, batch=batch)


@given(st.integers(1, 300), st.integers(1, 70))
def test_evaluation_counts_every_row_exactly_once(size, batch):
    rows, valid = evaluation_batches(size, batch)
    assert rows.shape == valid.shape == (-(-size // batch), batch)
    assert rows.dtype == np.int32
    assert np.bincount(rows[valid], minlength=size).tolist() == [1] * size
    assert rows.max() < size
    assert valid[:-1].all()


def test_eb_d3_accuracy_of_a_ragged_last_batch_is_correct_over_total():
    correct = jnp.array([1, 1, 1, 1, 0, 0, 1], bool)  # 5 of 7, in batches of 4 and 3
    rows, valid = evaluation_batches(7, 4)
    hits = jnp.where(valid, correct[rows], False).sum(axis=1)
    assert int(hits.sum()) / int(valid.sum()) == 5 / 7
    mean_of_batches = float(np.mean(hits / valid.sum(axis=1)))
    assert mean_of_batches == pytest.approx(2 / 3)  # what the reference reports


@pytest.mark.parametrize(("size", "batch"), [(0, 4), (4, 0)])
def test_empty_evaluation_is_refused(size, batch):
    with pytest.raises(ValueError, match=f"cannot evaluate {size} images in batches of {batch}"):
        evaluation_batches(size, batch)
