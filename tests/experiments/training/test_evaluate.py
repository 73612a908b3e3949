import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training import (
    Metrics,
    accuracy,
    evaluator,
    init_state,
    mean_loss,
    stack_seeds,
)

ROWS = 11


def linear(params, stats, images, train=False):
    assert not train
    return (images - stats["mean"][None]) @ params["w"], {"mean": stats["mean"] + 1}


def problem(seeds=2):
    rng = np.random.default_rng(0)
    w, mean = rng.normal(size=(seeds, 4, 3)), rng.normal(size=(seeds, 4))
    x, y = rng.normal(size=(ROWS, 4)), rng.integers(0, 3, ROWS)

    def as_jax(a):
        return jnp.asarray(a, jnp.float32)

    state = stack_seeds(
        [
            init_state({"w": as_jax(w[s])}, {"mean": as_jax(mean[s])}, optax.sgd(1.0), key)
            for s, key in enumerate(map(jax.random.key, range(seeds)))
        ]
    )
    return state, as_jax(x), jnp.asarray(y, jnp.int32), (w, mean, x, y)


def reference(w, mean, x, y):
    """Summed loss and right guesses over the whole set at once, in float64."""
    z = (x - mean) @ w
    losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]
    return losses.sum(), int((z.argmax(axis=1) == y).sum())


@pytest.mark.parametrize("mode", ["loop", "scan"])
@pytest.mark.parametrize("batch", [1, 4, 11, 64])
def test_eb_d3_accuracy_is_correct_over_total_with_a_ragged_last_batch(batch, mode):
    # foresight's defect 11: a sum of the batches' means over the number of examples depends on the batch
    state, x, y, (w, mean, *rest) = problem()
    metrics = evaluator(linear, batch_size=batch, mode=mode)(state, x, y)
    assert metrics.count.tolist() == [ROWS, ROWS]
    for s in range(2):
        loss, correct = reference(w[s], mean[s], *rest)
        np.testing.assert_allclose(metrics.loss_sum[s], loss, rtol=1e-5)
        assert int(metrics.correct[s]) == correct
        np.testing.assert_allclose(accuracy(metrics)[s], correct / ROWS, rtol=1e-6)
        np.testing.assert_allclose(mean_loss(metrics)[s], loss / ROWS, rtol=1e-5)


def test_eb_d3_is_not_the_mean_of_batch_accuracies():
    """Three right of four, then a lone wrong one: 3/5, where the mean of the batches says 3/8."""

    def apply(params, stats, x, train=False):
        return x @ params["w"], stats

    state = stack_seeds([init_state({"w": jnp.eye(2)}, {}, optax.sgd(1.0), jax.random.key(0))])
    x = jnp.eye(2)[jnp.zeros(5, jnp.int32)]
    metrics = evaluator(apply, batch_size=4)(state, x, jnp.array([0, 0, 0, 1, 1]))
    np.testing.assert_allclose(accuracy(metrics), [0.6], rtol=1e-6)


@pytest.mark.parametrize("mode", ["loop", "scan"])
def test_masks_and_new_values_cost_one_program_each_kind(mode):
    state, x, y, (w, mean, *rest) = problem()
    evaluate = evaluator(linear, batch_size=4, mode=mode)
    for row in range(3):
        keep = np.arange(4) != row
        masks = {"w": jnp.asarray(np.stack([keep, ~keep])[:, :, None])}
        metrics = evaluate(state, x, y, masks)
        for s, kept in enumerate((keep, ~keep)):
            loss, correct = reference(np.where(kept[:, None], w[s], 0), mean[s], *rest)
            np.testing.assert_allclose(metrics.loss_sum[s], loss, rtol=1e-5)
            assert int(metrics.correct[s]) == correct
    assert evaluate.programs == 1
    evaluate(state, x, y)
    assert evaluate.programs == 2
    assert evaluate.compile_seconds > 0
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_padding_never_counts_even_when_its_row_is_not_a_number():
    state, x, y, (w, mean, *rest) = problem(1)
    x = x.at[0].set(jnp.nan)  # row 0 stands in for the padding
    metrics = evaluator(linear, batch_size=4)(state, x[1:], y[1:])
    loss, correct = reference(w[0], mean[0], rest[0][1:], rest[1][1:])
    np.testing.assert_allclose(metrics.loss_sum[0], loss, rtol=1e-5)
    assert (int(metrics.correct[0]), int(metrics.count[0])) == (correct, ROWS - 1)


def test_prepare_is_applied_to_each_batch():
    state, x, y, _ = problem(1)
    plain = evaluator(linear, batch_size=4)(state, x * 2, y)
    prepared = evaluator(linear, batch_size=4, prepare=lambda images: images * 2)(state, x, y)
    np.testing.assert_array_equal(plain.loss_sum, prepared.loss_sum)


def test_nothing_counted_is_not_a_number():
    nothing = Metrics(jnp.zeros(1), jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32))
    assert np.isnan(accuracy(nothing)).all()
    assert np.isnan(mean_loss(nothing)).all()


def test_wrong_arguments_are_sentences():
    state, x, y, _ = problem()
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluator(linear, batch_size=0)
    with pytest.raises(ValueError, match="mode is 'x'"):
        evaluator(linear, batch_size=1, mode="x")
    with pytest.raises(TypeError, match="labels are a ndarray on the host"):
        evaluator(linear, batch_size=1)(state, x, np.asarray(y))
