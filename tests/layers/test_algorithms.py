"""Both algorithms, the control and the winning test."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import wormjax as wj
from wormjax import layers, scores
from wormjax.layers import Training
from wormjax.layers._matched_filters import _shares
from wormjax.layers._student import student_cdf, student_quantile


def magnitude(found, params, state):
    return layers.score(found, scores.magnitude(params))


def test_at_initialisation_keeps_the_survivors_weights(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    ticket = layers.at_initialisation(found, magnitude, params, p=2)
    order = sorted(found.names, key=magnitude(found, params, None).get)
    assert list(ticket.manifest.layers) == order[:2]
    kept = int(order[3][-1])
    np.testing.assert_array_equal(ticket.params["blocks"][kept]["up"], params["blocks"][kept]["up"])
    assert found.per_stage(order[:2]) == {0: 2}


def test_iterative_removal_scores_what_is_left(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    seen = []

    def criterion(left, params, state):
        seen.append(len(left))
        return magnitude(left, params, state)

    ticket = layers.at_initialisation(found, criterion, params, p=2, iterative=True)
    assert seen == [4, 3]
    one_shot = layers.at_initialisation(found, magnitude, params, p=2)
    assert set(ticket.manifest.layers) == set(one_shot.manifest.layers)  # magnitudes do not change


def counting(log):
    """Training that adds to every parameter the sum of its epochs' learning rates."""

    def train(training, start, stop):
        log.append((start, stop))
        add = lambda x: np.asarray(x) + np.float32(0.1 * (stop - start))  # noqa: E731
        return Training(jax.tree.map(add, training.params), training.state, training.opt_state)

    return train


@pytest.mark.parametrize("rewind_to", [0, 2])
def test_after_training_rewinds_what_is_left(chain, rewind_to):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    log, judged = [], []

    def criterion(left, params, state):
        judged.append(params)
        return magnitude(left, params, state)

    result = layers.after_training(
        found, counting(log), criterion, Training(params), p=1, epochs=5, rewind_to=rewind_to
    )
    assert log == ([(0, 5)] if rewind_to == 0 else [(0, 2), (2, 5)])
    assert result.start == rewind_to
    np.testing.assert_allclose(judged[0]["head"], params["head"] + 0.5, rtol=1e-5)
    np.testing.assert_allclose(
        result.ticket.params["head"], params["head"] + 0.1 * rewind_to, rtol=1e-5
    )
    assert result.removed == list(result.ticket.manifest.layers)
    assert len(result.removed) == 1


def test_momentum_starts_at_zero_unless_asked(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    tx = optax.sgd(0.1, momentum=0.9)
    ones = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), jax.eval_shape(tx.init, params))
    params = jax.device_get(params)
    settings = {"p": 1, "epochs": 3, "rewind_to": 1, "tx": tx}
    begin = Training(params, None, ones)
    zero = layers.after_training(found, counting([]), magnitude, begin, **settings)
    assert np.sum(zero.ticket.opt_state[0].trace["head"]) == 0
    kept = layers.after_training(
        found, counting([]), magnitude, begin, rewind_opt_state=True, **settings
    )
    assert np.sum(kept.ticket.opt_state[0].trace["head"]) == 6
    fresh = Training(jax.tree.map(np.zeros_like, params))
    again = layers.after_training(found, counting([]), magnitude, begin, fresh=fresh, **settings)
    assert np.sum(again.ticket.params["head"]) == 0
    with pytest.raises(ValueError, match=r"pass tx=, and no fresh="):
        layers.after_training(
            found, counting([]), magnitude, begin, fresh=fresh, rewind_opt_state=True, **settings
        )
    with pytest.raises(ValueError, match=r"rewind_to=3 is no epoch of 3"):
        layers.after_training(found, counting([]), magnitude, begin, p=1, epochs=3, rewind_to=3)


def test_the_learning_rate_goes_on_from_the_rewind_epoch():
    n, i, per_epoch = 6, 2, 3
    schedule = optax.piecewise_constant_schedule(1.0, {4 * per_epoch: 0.1})
    rewound = layers.rewound_schedule(schedule, i * per_epoch)
    seen = [float(rewound(t)) for t in range((n - i) * per_epoch)]
    assert seen == [float(schedule(t)) for t in range(i * per_epoch, n * per_epoch)]
    with pytest.raises(ValueError, match=r"start=-1 must not be negative"):
        layers.rewound_schedule(schedule, -1)


@pytest.mark.parametrize(
    ("ticket", "xi", "wins"),
    [(91.5, 0.0, False), (91.5, 1.0, True), (91.5, 0.5, True), (92.0, 0.0, True)],
)
def test_winning_vectors(ticket, xi, wins):
    assert layers.winning([ticket] * 2, [92.0] * 2, xi=xi).wins is wins


def test_equality_is_exact_in_decimals():
    assert (
        layers.winning([0.3, 0.3], [0.1 + 0.2, 0.1 + 0.2]).wins is False
    )  # written 0.30000000000000004
    assert (
        layers.winning([0.1, 0.7], [0.4, 0.6], xi=0.1).wins is True
    )  # -0.3 + 0.1 = -0.2, in the mean -0.1


def test_the_interval_is_students_of_the_pairs():
    ticket, dense = [0.91, 0.93, 0.90, 0.95], [0.90, 0.91, 0.92, 0.92]
    got = layers.winning(ticket, dense, confidence=0.9)
    want = stats.ttest_rel(ticket, dense).confidence_interval(0.9)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))
    assert got.seeds == 4
    assert not got.certain


def test_one_seed_is_no_evidence_unless_forced():
    with pytest.raises(ValueError, match=r"got 1 seed, and from one run nobody can tell"):
        layers.winning([0.9], [0.8])
    forced = layers.winning([0.9], [0.8], force=True)
    assert forced.wins
    assert not forced.certain
    assert np.isnan(forced.low)
    with pytest.raises(ValueError, match=r"2 accuracies of the ticket and 1 of the dense"):
        layers.winning([0.9, 0.8], [0.8])
    with pytest.raises(ValueError, match=r"xi=-1"):
        layers.winning([0.9, 0.8], [0.8, 0.8], xi=-1.0)
    with pytest.raises(ValueError, match=r"NaN or infinite"):
        layers.winning([0.9, float("nan")], [0.8, 0.8])
    with pytest.raises(ValueError, match=r"confidence=1.0"):
        layers.winning([0.9, 0.8], [0.8, 0.8], confidence=1.0)


@settings(max_examples=20, deadline=None)
@given(st.floats(-20, 20), st.integers(1, 40))
def test_students_distribution(t, degrees):
    assert student_cdf(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), abs=1e-12)
    for probability in (0.025, 0.5, 0.9, 0.975):
        want = stats.t.ppf(probability, degrees)
        assert student_quantile(probability, degrees) == pytest.approx(want, rel=1e-9, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_shares_are_exact_and_leave_a_filter_everywhere(sizes, data):
    remove = data.draw(st.integers(0, sum(sizes) - len(sizes)))
    counts = _shares(sizes, remove, jax.random.key(0))
    assert sum(counts) == remove
    assert all(0 <= c < n for c, n in zip(counts, sizes, strict=True))
    assert all(c >= remove * n // sum(sizes) for c, n in zip(counts, sizes, strict=True))


def test_matched_filters_spare_the_stream_and_hit_the_count(chain):
    apply, params, x = chain
    groups = wj.find_groups(apply, params, x)
    tree = scores.magnitude(params)
    plan, again, other = (
        layers.matched_filters(groups, tree, 7, jax.random.key(k)) for k in (0, 0, 1)
    )
    assert sum(g.size for g in groups) - sum(plan.widths.values()) == 7
    assert plan.widths == again.widths != other.widths
    lost = {name: int((~kept).sum()) for name, kept in plan.kept.items() if not kept.all()}
    assert all(name.startswith("blocks/") for name in lost)
    assert set(lost.values()) <= {1, 2, 3}  # 7 * 5 // 20 = 1 each, and three more
    name, kept = next((n, k) for n, k in plan.kept.items() if not k.all())
    sums = np.abs(np.asarray(params["blocks"][int(name.split("/")[1])]["up"])).sum(0)
    assert set(np.flatnonzero(~kept)) == set(np.argsort(sums)[: lost[name]])
    assert layers.matched_filters(groups, tree, 0, jax.random.key(0)).masks["head"].all()
    with pytest.raises(
        ValueError, match=r"17 filters cannot be removed.*4 layers have 20.*16 of them"
    ):
        layers.matched_filters(groups, tree, 17, jax.random.key(0))


def test_sum_and_mean_take_from_other_stages():
    # a small early block of large scores and a large late one of small scores
    def apply(params, x):
        for k in ("a", "b"):
            x = x + jnp.tanh(x @ params["early"][k]) @ params["early"][k].T
        x = x @ params["turn"]
        for k in ("a", "b"):
            x = x + jnp.tanh(x @ params["late"][k]) @ params["late"][k].T
        return x

    params = {
        "early": {k: jnp.full((2, 2), 3.0) for k in "ab"},
        "turn": jnp.ones((2, 6)),
        "late": {k: jnp.full((6, 6), 1.0) for k in "ab"},
    }
    found = layers.candidates(apply, params, jnp.ones((1, 2)))
    by = {
        how: found.per_stage(layers.select(found, layers.score(found, params, how), 1))
        for how in ("sum", "mean")
    }
    assert by == {"sum": {0: 1, 1: 0}, "mean": {0: 0, 1: 1}}
