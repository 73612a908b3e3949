"""A ticket's cut of another function of the same trees: in training, after a second shrinking, of a wrong one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax.structure import find_groups, plan, shrink

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)


def draw(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape), jnp.float32)


PARAMS = {"up": draw(5, 8), "mid": draw(8, 7), "down": draw(7, 3)}
STATE = {"mean": draw(8)}


def apply(params, state, x, train=False):
    """A layer whose mean is the batch's in training, and the running one in evaluation."""
    h = x @ params["up"]
    mean = h.mean(axis=0) if train else state["mean"]
    new = {"mean": 0.5 * state["mean"] + 0.5 * mean} if train else state
    return jnp.tanh(jnp.tanh(h - mean[None]) @ params["mid"]) @ params["down"], new


def cut(function, params, state, keep):
    groups = find_groups(function, params, X, state=state)
    assert len(groups) == 2
    return shrink(
        plan(groups, wj.scores.magnitude(params), keep=keep, scope="group"), params, state
    )


def leaves_agree(got, want):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-6, rtol=1e-5)


def by_hand(train, *tickets):
    """The original function with the removed slices zero, its state cut."""
    kept = [np.arange(8), np.arange(7)]
    for ticket in tickets:
        told = ticket.apply.indices
        kept = [k[told[n][1]] for k, n in zip(kept, ("up", "mid"), strict=True)]
    up, mid = ([int(i in k) for i in range(n)] for k, n in zip(kept, (8, 7), strict=True))
    masked = {
        "up": PARAMS["up"] * jnp.asarray(up, jnp.float32)[None],
        "mid": PARAMS["mid"]
        * jnp.outer(jnp.asarray(up, jnp.float32), jnp.asarray(mid, jnp.float32)),
        "down": PARAMS["down"] * jnp.asarray(mid, jnp.float32)[:, None],
    }
    output, state = apply(masked, STATE, X, train=train)
    return output, {"mean": state["mean"][kept[0]]}


@pytest.mark.parametrize("found_in_training", [False, True])
def test_a_cut_found_in_one_mode_serves_the_other(found_in_training):
    ticket = cut(functools.partial(apply, train=found_in_training), PARAMS, STATE, 0.6)
    for train in (False, True):
        other = ticket.apply.of(functools.partial(apply, train=train))
        leaves_agree(other(ticket.params, ticket.state, X), by_hand(train, ticket))


def test_a_network_that_was_shrunk_twice_takes_the_first_function():
    first = cut(apply, PARAMS, STATE, 0.8)
    second = cut(first.apply, first.params, first.state, 0.7)
    assert second.params["mid"].shape == (5, 5)  # of 7 and 6
    for train in (False, True):
        other = second.apply.of(functools.partial(apply, train=train))
        leaves_agree(other(second.params, second.state, X), by_hand(train, first, second))


def test_a_function_that_ties_other_channels_together_is_refused():
    ticket = cut(apply, PARAMS, STATE, 0.6)

    def tied(params, state, x):
        h = x @ params["up"]
        return (h[:, :7] + h @ params["mid"]) @ params["down"], state

    with pytest.raises(ValueError, match=r"must stay whole|ties them to other parameters"):
        ticket.apply.of(tied)(ticket.params, ticket.state, X)
