"""The Early-Bird detector, against a detector written with plain lists and exact fractions."""

import io
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj

WIDTHS = {"a": 7, "b": 5}  # two ranked leaves; "c" is never pruned
TOTAL = sum(WIDTHS.values())


def as_given(params):
    """A score for tests: the parameters are the scores."""
    return params


def tree(values):
    """Scores of the two leaves from a flat list, with a leaf that is never pruned beside them."""
    flat = jnp.asarray(np.asarray(values, np.float32))
    return {"a": flat[:7], "b": flat[7:], "c": jnp.array(jnp.inf)}


def one_leaf(values):
    return {"bn": {"scale": jnp.asarray(np.asarray(values, np.float32))}}


def flat(masks):
    return [bool(x) for leaf in jax.tree.leaves(masks) if jnp.ndim(leaf) for x in np.ravel(leaf)]


def feed(detector, sequence, state=None, make=one_leaf):
    """Return the states after each of several detections."""
    state = detector.init(make(sequence[0])) if state is None else state
    states = []
    for values in sequence:
        state = detector.update(make(values), state)
        states.append(state)
    return states


class ListDetector:
    """A first-in-first-out list of boolean lists; every number an integer or a fraction."""

    def __init__(self, ratio, window, epsilon, compare, strict, mask_rule, cap=None):
        self.ratio, self.window, self.epsilon = Fraction(str(ratio)), window, Fraction(str(epsilon))
        self.compare, self.strict, self.mask_rule, self.cap = compare, strict, mask_rule, cap
        self.masks, self.checks, self.emerged_at, self.ticket = [], 0, -1, None

    def mask(self, scores):
        n = len(scores)
        if self.mask_rule == "reference":
            threshold = sorted(scores)[int(n * float(self.ratio))]
            return [s > threshold for s in scores]
        pruned = math.floor(self.ratio * n)
        ranking = sorted(range(n), key=lambda i: (-scores[i], i))
        kept = set(ranking[: n - pruned])
        return [i in kept for i in range(n)]

    def push(self, scores):
        self.masks = [*self.masks, self.mask(scores)][-self.window :]
        self.degenerate = len(set(scores)) == 1
        if self.full and self.ticket is None and not self.degenerate and self.settled:
            self.ticket, self.emerged_at = self.masks[-1], self.checks
        self.checks += 1

    @property
    def full(self):
        return len(self.masks) == self.window

    @property
    def pairs(self):
        if self.compare == "consecutive":
            return list(itertools.pairwise(self.masks))
        return [(old, self.masks[-1]) for old in self.masks[:-1]]

    def differing(self, part=slice(None)):
        if not self.full:
            return [len(range(TOTAL)[part])] * (self.window - 1)
        return [sum(x != y for x, y in zip(a[part], b[part], strict=True)) for a, b in self.pairs]

    @property
    def settled(self):
        distances = [Fraction(d, TOTAL) for d in self.differing()]
        if self.strict:
            return all(d < self.epsilon for d in distances)
        return all(d <= self.epsilon for d in distances)

    @property
    def kept_in_window(self):
        if not self.full:
            return [True] * TOTAL
        return [any(column) for column in zip(*self.masks, strict=True)]


@jax.jit
def report(state):
    """Everything that a state tells, in one compiled program."""
    return {
        "masks": state.masks,
        "newest": state.newest,
        "kept_in_window": state.kept_in_window,
        "full": state.full,
        "disagreements": state.disagreements,
        "distances": state.distances,
        "leaf_distances": state.leaf_distances,
        "largest": state.largest_distance,
        "mean": state.mean_distance,
        "no_ticket": state.no_ticket,
        "degenerate": state.degenerate,
        "emerged": state.emerged,
        "emerged_at": state.emerged_at,
        "checks": state.checks,
        "invalid": state.invalid,
    }


def assert_agrees(state, oracle):
    told = jax.device_get(report(state))
    newest = oracle.masks[-1]
    assert flat(told["newest"]) == newest
    assert flat(told["masks"]) == (newest if oracle.ticket is None else oracle.ticket)
    assert flat(told["kept_in_window"]) == oracle.kept_in_window
    assert all(bool(told[name]["c"]) and told[name]["c"].ndim == 0 for name in ("masks", "newest"))
    assert bool(told["full"]) == oracle.full
    assert bool(told["emerged"]) == (oracle.ticket is not None)
    assert int(told["emerged_at"]) == oracle.emerged_at
    assert int(told["checks"]) == oracle.checks
    assert bool(told["degenerate"]) == oracle.degenerate
    late = oracle.cap is not None and oracle.checks >= oracle.cap
    assert bool(told["no_ticket"]) == (late and oracle.ticket is None)
    assert not told["invalid"]

    parts = [oracle.differing(slice(0, 7)), oracle.differing(slice(7, 12))]
    np.testing.assert_array_equal(told["disagreements"], np.transpose(parts))
    # the compiler divides by multiplying with a reciprocal
    distances = np.array(oracle.differing()) / TOTAL
    np.testing.assert_allclose(told["distances"], distances, rtol=1e-6)
    np.testing.assert_allclose(told["largest"], distances.max(), rtol=1e-6)
    np.testing.assert_allclose(told["mean"], distances.mean(), rtol=1e-6)
    leaves = np.transpose(parts) / np.array(list(WIDTHS.values()))
    np.testing.assert_allclose(told["leaf_distances"], leaves, rtol=1e-6)


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


# Ten scores with ties of the spec's O-M3, and the counts that both rules prune.
TIED = [0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_o_m3_the_reference_rule_prunes_one_more_and_all_of_a_tie():
    detector = wj.early_bird(as_given, (0.1, 0.2, 0.3, 0.5), window=2, mask_rule="reference")
    newest = feed(detector, [TIED])[0].newest["bn"]["scale"]

    assert [int(10 - kept) for kept in newest.sum(1)] == [3, 3, 4, 6]
    np.testing.assert_array_equal(newest[0], np.array(TIED) > 0.25)


def test_o_m5_the_exact_rule_prunes_exactly_also_with_ties():
    detector = wj.early_bird(as_given, (0.1, 0.2, 0.3, 0.5), window=2)
    newest = feed(detector, [TIED])[0].newest["bn"]["scale"]

    assert [int(10 - kept) for kept in newest.sum(1)] == [1, 2, 3, 5]
    assert newest[1].tolist() == [False, True, False] + [True] * 7  # a tie keeps the lower index


@pytest.mark.parametrize(
    ("total", "ratios", "pruned"),
    [(4224, (0.3, 0.5, 0.7), (1268, 2113, 2957)), (7408, (0.3, 0.5, 0.7), (2223, 3705, 5186))],
)
def test_o_m2_counts_of_the_published_networks(total, ratios, pruned):
    values = np.random.default_rng(0).permutation(total) + 1.0
    detector = wj.early_bird(as_given, ratios, window=2, mask_rule="reference")
    newest = feed(detector, [values])[0].newest["bn"]["scale"]

    assert tuple(total - int(kept) for kept in newest.sum(1)) == pruned
    assert pruned == tuple(int(total * p) + 1 for p in ratios)


def test_the_reference_rule_truncates_as_floats_do_and_the_exact_rule_does_not():
    values = np.arange(100.0)
    counts = {
        rule: 100
        - int(sum(flat(feed(wj.early_bird(as_given, 0.29, 2, mask_rule=rule), [values])[0].newest)))
        for rule in ("reference", "exact")
    }
    assert counts == {"reference": int(100 * 0.29) + 1, "exact": 29}
    assert int(100 * 0.29) == 28


@pytest.mark.parametrize(("rule", "kept"), [("reference", 0), ("exact", 5)])
def test_o_m4_equal_scales_are_degenerate_and_draw_no_ticket(rule, kept):
    detector = wj.early_bird(as_given, 0.5, window=2, mask_rule=rule)
    states = feed(detector, [[0.5] * 10] * 4)

    for state in states:
        assert bool(state.degenerate)
        assert not bool(state.emerged)
        assert sum(flat(state.newest)) == kept
    assert float(states[-1].largest_distance) == 0.0  # they agree, and still mean nothing
    # the flag is of the newest detection; a network that has moved since is judged as ever
    state = feed(detector, [np.arange(10.0)] * 2, states[-1])[-1]
    assert not bool(state.degenerate)
    assert bool(state.emerged)
    assert int(state.emerged_at) == 5


def test_scales_that_differ_only_among_subnormals_or_by_one_bit_are_not_degenerate():
    tiny = np.array([1, 2, 3, 4], np.int32).view(np.float32)  # flushed to zero by some backends
    near = np.nextafter(np.float32(0.5), np.float32(1)) * np.ones(4, np.float32)
    near[2] = 0.5
    for values in (tiny, near):
        state = feed(wj.early_bird(as_given, 0.5, window=2), [values] * 2)[-1]
        assert not bool(state.degenerate)
        assert bool(state.emerged)
    zeros = np.array([0.0, -0.0, 0.0, -0.0], np.float32)  # equal, whatever their signs
    assert bool(feed(wj.early_bird(as_given, 0.5, window=2), [zeros])[-1].degenerate)


def test_o_det_1_no_emergence_before_the_window_is_full():
    # the all-zero mask of a fresh network, then five equal masks that keep five of ten
    detector = wj.early_bird(as_given, 0.4, mask_rule="reference")
    states = feed(detector, [[0.5] * 10] + [np.arange(10.0)] * 5)

    assert sum(flat(states[0].newest)) == 0
    assert sum(flat(states[1].newest)) == 5
    for index in range(4):
        assert states[index].distances.tolist() == [1.0] * 4
        assert not bool(states[index].full)
    assert states[4].distances.tolist() == [0.5, 0, 0, 0]
    assert not bool(states[4].emerged)
    assert states[5].distances.tolist() == [0, 0, 0, 0]
    assert bool(states[5].emerged)
    assert int(states[5].emerged_at) == 5


def swapped(count, total=20):
    """Scores whose top half has ``count`` entries exchanged with the other half."""
    values = np.arange(total, 0, -1.0)
    for i in range(count):
        values[i], values[total // 2 + i] = values[total // 2 + i], values[i]
    return values


def test_o_det_2_a_distance_of_exactly_epsilon():
    # W-D11: the code accepts equality, the papers' text does not
    for strict in (False, True):
        detector = wj.early_bird(as_given, window=2, epsilon=0.1, strict=strict)
        state = feed(detector, [swapped(0), swapped(1)])[-1]
        assert state.disagreements.sum() == 2
        assert bool(state.emerged) == (not strict)
        assert bool(feed(detector, [swapped(0)], state)[-1].emerged) == (not strict)


def test_o_det_3_newest_against_all_or_consecutive():
    def at(epoch):
        # one swap an epoch, fresh positions each time
        return swapped(epoch)

    newest = feed(wj.early_bird(as_given), [at(e) for e in range(5)])[-1]
    np.testing.assert_allclose(newest.distances, [0.4, 0.3, 0.2, 0.1], rtol=1e-6)
    assert not bool(newest.emerged)

    pairs = feed(wj.early_bird(as_given, compare="consecutive"), [at(e) for e in range(5)])[-1]
    np.testing.assert_allclose(pairs.distances, [0.1] * 4, rtol=1e-6)
    assert bool(pairs.emerged)


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


def test_o_d1_the_distances_are_those_of_the_masks():
    random = np.random.default_rng(5)
    sequence = [random.normal(size=TOTAL) ** 2 for _ in range(4)]
    detector = wj.early_bird(as_given, 0.4, window=4)
    states = feed(detector, sequence, make=tree)
    masks = [s.newest for s in states]

    for j, old in enumerate(masks[:-1]):
        expected = wj.mask_distance(masks[-1], old)
        assert states[-1].distances[j] == expected
        assert states[-1].distances[j] == wj.mask_distance(old, masks[-1])


@pytest.mark.parametrize(
    ("older", "newer", "distance"),
    [
        (np.arange(10.0), np.arange(10.0), 0.0),  # itself
        (np.arange(10.0), -np.arange(10.0), 1.0),  # its complement
        (np.ones(10), np.arange(10.0), 0.4),  # the all-zero mask: the kept fraction
    ],
)
def test_o_d1_distance_to_itself_to_the_complement_and_to_nothing(older, newer, distance):
    ratio, rule = (0.5, "reference") if distance == 0.4 else (0.5, "exact")
    state = feed(wj.early_bird(as_given, ratio, 2, mask_rule=rule), [older, newer])[-1]

    np.testing.assert_allclose(state.distances, [distance], rtol=1e-6)


@pytest.mark.parametrize(
    ("epsilon", "accepted"),
    # of 20 entries; a swap moves two. 0.3 * 20 is 6.000000000000001 less a bit in one float or another.
    [(0.1, 1), (0.3, 3), (0.7, 7), ("0.1", 1), (Fraction(3, 10), 3), (0.29999999, 2), (0.0, 0)],
)
def test_epsilon_is_compared_in_exact_integers(epsilon, accepted):
    detector = wj.early_bird(as_given, window=2, epsilon=epsilon)
    outcomes = [bool(feed(detector, [swapped(0), swapped(k)])[-1].emerged) for k in range(11)]

    assert outcomes == [k <= accepted for k in range(11)]


def test_epsilon_at_float_pitfalls_that_would_decide_wrongly():
    # 1 - 18/20 passes "< 0.1" in float64 and fails "<= 0.1" in float32; here it is 2 <= 2
    assert 1 - 18 / 20 < 0.1
    assert not np.float32(1) - np.float32(18) / np.float32(20) <= np.float32(0.1)
    # and int(0.58 * 100) is 57, where 58 entries differ; here it is 58 <= 58
    assert int(0.58 * 100) == 57
    detector = wj.early_bird(as_given, window=2, epsilon=0.58)
    outcomes = [feed(detector, [swapped(0, 100), swapped(k, 100)])[-1] for k in (29, 30)]
    assert [bool(state.emerged) for state in outcomes] == [True, False]


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
