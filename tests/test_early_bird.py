"""The Early-Bird detector, against a detector written with plain lists and exact fractions."""

import io
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from tests.early_bird import (
    TOTAL,
    ListDetector,
    as_given,
    assert_agrees,
    feed,
    flat,
    report,
    swapped,
    tree,
)

# A random walk of scores: few values, so that ties abound; few swaps a step, so that masks do settle.
first_scores = st.lists(st.integers(0, 6), min_size=TOTAL, max_size=TOTAL)
swaps = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=2)
steps = st.lists(st.one_of(swaps, st.just("flat")), min_size=1, max_size=7)


def walk(scores, moves):
    yield list(scores)
    for move in moves:
        if move == "flat":
            yield [3] * TOTAL
            continue
        scores = list(scores)
        for i, j in move:
            scores[i], scores[j] = scores[j], scores[i]
        yield scores


@pytest.mark.parametrize("mask_rule", ["exact", "reference"])
@pytest.mark.parametrize("compare", ["newest_vs_all", "consecutive"])
@pytest.mark.parametrize("strict", [False, True])
def test_agrees_with_a_detector_of_plain_lists(mask_rule, compare, strict):
    # epsilon = 1/6 of 12 entries is exactly one swap; no float is it
    options = {"compare": compare, "strict": strict, "mask_rule": mask_rule, "cap": 4}
    epsilon = Fraction(1, 6)
    detector = wj.early_bird(as_given, "0.4", 3, epsilon, **options)

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(first_scores, steps)
    def check(scores, moves):
        oracle = ListDetector("0.4", 3, epsilon, **options)
        state = detector.init(tree(scores))
        for values in walk(scores, moves):
            state = detector.update(tree(values), state)
            oracle.push(values)
            assert_agrees(state, oracle)

    check()


@pytest.mark.parametrize(
    "window", [7, 8, 31, *(pytest.param(w, marks=pytest.mark.slow) for w in (2, 15, 16))]
)
def test_windows_at_every_width_of_the_bit_planes(window):
    # 7, 15 and 31 masks fill a plane up to the bit of the ticket
    random = np.random.default_rng(window)
    detector = wj.early_bird(as_given, 0.5, window, 0.2, compare="consecutive")
    oracle = ListDetector(0.5, window, 0.2, "consecutive", False, "exact")
    state, values = detector.init(tree(np.zeros(TOTAL))), list(range(TOTAL))
    for _ in range(window + 4):
        i, j = random.choice(TOTAL, 2, replace=False)
        values[i], values[j] = values[j], values[i]
        state = detector.update(tree(values), state)
        oracle.push(list(values))
        assert_agrees(state, oracle)
    assert oracle.ticket is not None  # one swap moves two of twelve entries at most
    assert oracle.emerged_at == window - 1


def through_flatten(state):
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, leaves)


def through_numpy(state):
    leaves, structure = jax.tree.flatten(state)
    with io.BytesIO() as file:
        np.savez(file, **{str(i): np.asarray(x) for i, x in enumerate(leaves)})
        file.seek(0)
        read = np.load(file)
        return jax.tree.unflatten(
            structure, [jnp.asarray(read[str(i)]) for i in range(len(leaves))]
        )


@pytest.mark.parametrize("through", [through_flatten, through_numpy])
def test_o_det_4_serialised_in_mid_window_it_decides_the_same(through):
    random = np.random.default_rng(3)
    sequence = [swapped(k) for k in (3, 2, 0, 1, 0, 0, 1, 5, 0)] + [random.normal(size=20) ** 2]
    detector = wj.early_bird(as_given, (0.3, 0.5), window=4)
    whole = feed(detector, sequence)
    assert whole[-1].emerged.tolist() == [True, True]

    for cut in (1, 3, 6):
        resumed = feed(detector, sequence[cut:], through(whole[cut - 1]))
        for ours, theirs in zip(resumed, whole[cut:], strict=True):
            jax.tree.map(np.testing.assert_array_equal, ours, theirs)
            assert jax.tree.structure(ours) == jax.tree.structure(theirs)


def test_the_ticket_stays_while_the_newest_mask_moves_on():
    detector = wj.early_bird(as_given, window=2)
    drawn, later, last = feed(detector, [swapped(0), swapped(0), swapped(6), swapped(9)])[1:]
    ticket = flat(drawn.masks)

    for state, swaps_made in ((later, 6), (last, 9)):
        assert flat(state.masks) == ticket
        assert flat(state.newest) == [bool(v > 10) for v in swapped(swaps_made)]
        assert bool(state.emerged)
        assert int(state.emerged_at) == 1
        assert float(state.largest_distance) > 0.1
    # and when the masks settle elsewhere, no second ticket replaces the first
    settled = feed(detector, [swapped(9)] * 2, last)[-1]
    assert flat(settled.masks) == ticket
    assert int(settled.emerged_at) == 1


def test_several_ratios_equal_separate_detectors():
    ratios = (0.3, "0.5", Fraction(7, 10))
    random = np.random.default_rng(11)
    values, sequence = random.permutation(TOTAL), []
    for swaps_made in (3, 1, 0, 0, 2, 1, 0, 0):
        for _ in range(swaps_made):
            i, j = random.choice(TOTAL, 2, replace=False)
            values[i], values[j] = values[j], values[i]
        sequence.append(values.copy())
    options = {"window": 3, "epsilon": 0.1, "cap": 4}
    together = feed(wj.early_bird(as_given, ratios, **options), sequence, make=tree)
    apart = [feed(wj.early_bird(as_given, p, **options), sequence, make=tree) for p in ratios]

    for moment, state in enumerate(together):
        told = report(state)
        assert told["emerged"].shape == (3,)
        assert told["leaf_distances"].shape == (3, 2, 2)
        for r in range(3):
            single = report(apart[r][moment])
            for name in told:
                one = jax.tree.map(lambda x, r=r: x[r] if jnp.ndim(x) else x, told[name])
                jax.tree.map(np.testing.assert_array_equal, one, single[name])
    fired = together[-1].emerged_at.tolist()
    assert len(set(fired)) > 1, "each detector fires at its own time"
    assert -1 not in fired


def test_a_single_ratio_in_a_sequence_keeps_its_axis():
    state = feed(wj.early_bird(as_given, [0.5], window=2), [swapped(0)] * 2)[-1]
    assert state.emerged.shape == (1,)
    assert state.masks["bn"]["scale"].shape == (1, 20)


def test_leaf_distances_are_named_and_ordered_as_the_tree():
    detector = wj.early_bird(as_given, 0.5, window=2)
    params = [
        {"b": jnp.array([1.0, 2.0]), "a": {"x": jnp.array([[5.0, 0.1]])}},
        {"b": jnp.array([2.0, 1.0]), "a": {"x": jnp.array([[5.0, 0.1]])}},
    ]
    state = detector.init(params[0])
    for p in params:
        state = detector.update(p, state)

    assert state.names == ("a/x", "b")
    assert state.sizes == (2, 2)
    assert state.leaf_distances.tolist() == [[0.0, 1.0]]
    assert state.distances.tolist() == [0.5]
    assert state.masks["a"]["x"].shape == (1, 2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_scores_are_ranked_as_they_are(dtype):
    values = jnp.asarray(np.random.default_rng(0).normal(size=40) ** 2, dtype)
    state = feed(wj.early_bird(as_given, 0.5, 2), [values] * 2, make=lambda v: {"scale": v})[-1]

    wide = np.asarray(values, np.float32)
    order = sorted(range(40), key=lambda i: (-wide[i], i))
    assert [i for i, kept in enumerate(flat(state.newest)) if kept] == sorted(order[:20])


def test_a_leaf_without_entries_takes_no_part():
    params = {"empty": jnp.zeros((0,)), "scale": jnp.array([0.1, 0.7, 0.4, 0.9])}
    detector = wj.early_bird(as_given, 0.5, window=2)
    state = detector.init(params)
    for _ in range(2):
        state = detector.update(params, state)
    assert bool(state.emerged)
    assert flat(state.masks) == [False, True, False, True]
    with pytest.raises(ValueError, match="no prunable leaf among"):
        detector.init({"empty": jnp.zeros((0,))})


def test_eb_d6_a_pretrained_network_emerges_as_soon_as_the_window_is_full():
    # the reference reads a variable that only an epoch of training would have defined
    pretrained = {"bn": {"scale": jnp.linspace(-1.0, 2.0, 16), "bias": jnp.zeros(16)}}
    detector = wj.early_bird(wj.scores.norm_scale)
    state = detector.init(pretrained)
    for _ in range(5):
        assert not bool(state.emerged)
        state = detector.update(pretrained, state)

    assert int(state.emerged_at) == 4
    magnitude = np.abs(np.linspace(-1.0, 2.0, 16))
    assert set(np.flatnonzero(state.masks["bn"]["scale"])) == set(np.argsort(magnitude)[8:])
    assert state.masks["bn"]["bias"].ndim == 0


def test_w_d8_no_ticket_at_the_cap_is_said():
    moving = [swapped(k) for k in (0, 5, 0, 5, 0, 5)]
    states = feed(wj.early_bird(as_given, window=2, cap=4), moving)
    assert [bool(s.no_ticket) for s in states] == [False, False, False, True, True, True]
    assert not bool(states[-1].emerged)

    at_the_cap = feed(wj.early_bird(as_given, window=2, cap=4), [*moving[:3], moving[2]])
    assert bool(at_the_cap[-1].emerged)
    assert not bool(at_the_cap[-1].no_ticket)

    uncapped = feed(wj.early_bird(as_given, window=2), moving)
    assert not any(bool(s.no_ticket) for s in uncapped)

    several = feed(wj.early_bird(as_given, (0.5, 0.05), window=2, cap=4), moving)[-1]
    assert several.no_ticket.tolist() == [True, False]


def test_equal_settings_and_new_values_trace_nothing_again():
    traced = []

    def counted(params):
        traced.append(1)
        return params

    first = wj.early_bird(counted, window=3, epsilon=0.1)
    feed(first, [swapped(0)] * 2)
    seen = len(traced)
    again = wj.early_bird(counted, window=3, epsilon="0.1")  # the same settings in other words
    states = feed(again, [swapped(k) for k in (0, 5, 0, 5, 0)])
    assert len(traced) - seen <= 1  # init scores abstractly once
    assert not bool(states[-1].emerged)
