"""A detector of plain lists and exact fractions, and what tests feed to it and to ours."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

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


def swapped(count, total=20):
    """Scores whose top half has ``count`` entries exchanged with the other half."""
    values = np.arange(total, 0, -1.0)
    for i in range(count):
        values[i], values[total // 2 + i] = values[total // 2 + i], values[i]
    return values
