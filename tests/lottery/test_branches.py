"""Controls from a level: what stays of the ticket in each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.lottery import LevelError, branch, imp, shuffled_channels

PARAMS = {
    "w": np.arange(1.0, 41.0, dtype=np.float32).reshape(5, 8),
    "v": np.arange(30.0, 60.0, dtype=np.float32)[None],
}


@pytest.fixture(scope="module")
def levels():
    def train(network, masks, steps, rates):
        return network

    return imp(train, PARAMS, steps=4, learning_rate=0.1, rounds=2, rewind="1it",
               prunable={"w": True, "v": True})  # fmt: skip


def _counts(masks):
    return {k: int(np.asarray(m).sum()) for k, m in masks.items()}


def test_random_masks_have_the_counts_of_the_level(levels):
    of_leaves = branch(levels, 2, "random_mask", key=jax.random.key(0))
    assert _counts(of_leaves.masks) == dict(levels[2].kept)
    assert (np.asarray(of_leaves.masks["w"]) != np.asarray(levels[2].masks["w"])).any()


@pytest.mark.slow
def test_random_masks_may_have_the_count_in_all_only(levels):
    of_all = branch(levels, 2, "random_mask", key=jax.random.key(0), scope="global")
    assert sum(_counts(of_all.masks).values()) == sum(levels[2].kept.values())
    assert _counts(of_all.masks) != dict(levels[2].kept)


def test_shuffled_masks_keep_the_channels(levels):
    old, new = (
        levels[2].masks["w"],
        branch(levels, 2, "shuffled_mask", key=jax.random.key(2)).masks["w"],
    )
    columns = [sorted(map(tuple, np.asarray(m).T.astype(int))) for m in (old, new)]
    assert columns[0] == columns[1]
    assert (np.asarray(old) != np.asarray(new)).any()
    assert shuffled_channels(jax.random.key(0), {"b": jnp.array(True)})["b"].ndim == 0


def test_one_shot_prunes_as_much_at_once(levels):
    start = branch(levels, 2, "one_shot")
    flat = np.concatenate([PARAMS["v"].ravel(), PARAMS["w"].ravel()])
    kept = np.concatenate([np.ravel(start.masks["v"]), np.ravel(start.masks["w"])])
    order = np.argsort(-flat, kind="stable")[: sum(levels[2].kept.values())]
    np.testing.assert_array_equal(np.flatnonzero(kept), np.sort(order))


def test_other_weights_under_the_same_masks_and_other_masks(levels):
    fresh = {"w": np.full((5, 8), 7, np.float32), "v": np.full((1, 30), 7, np.float32)}
    start = branch(levels, 1, "reinitialised", params=fresh)
    np.testing.assert_array_equal(
        np.asarray(start.network.params["w"]), np.where(levels[1].masks["w"], 7, 0)
    )
    mine = {"w": jnp.asarray(np.arange(8)[None] > 0), "v": jnp.array(True)}
    assert not np.asarray(branch(levels, 1, "masks", masks=mine).network.params["w"])[:, 0].any()


def test_a_branch_trains_as_its_level(levels):
    seen = []

    def train(network, masks, steps, rates):
        seen.append((steps, list(rates)))
        return network._replace(params={k: np.asarray(x) + 1 for k, x in network.params.items()})

    start = branch(levels, 1)
    end = start.run(train)
    assert seen == [(range(1, 4), [0.1] * 3)]
    assert not np.asarray(end.params["w"])[~np.asarray(start.masks["w"])].any()


def test_a_branch_that_was_killed_goes_on(levels, tmp_path):
    calls = []

    def train(network, masks, steps, rates):
        calls.append(steps)
        return network._replace(params={k: np.asarray(x) + 1 for k, x in network.params.items()})

    def killed(network, masks, steps, rates):
        if steps.start == 3:
            raise KeyboardInterrupt
        return train(network, masks, steps, rates)

    start = branch(levels, 1)
    with pytest.raises(KeyboardInterrupt):
        start.run(killed, folder=tmp_path, save_every=2)
    ends = [start.run(train, folder=tmp_path, save_every=2) for _ in range(2)]
    assert calls == [range(1, 3), range(3, 4)]  # the last one is read back
    for end in ends:
        expected = np.where(levels[1].masks["w"], PARAMS["w"] + 2, 0)
        np.testing.assert_array_equal(np.asarray(end.params["w"]), expected)
    with pytest.raises(LevelError, match="start and masks"):
        branch(levels, 2).run(train, folder=tmp_path)
    with pytest.raises(ValueError, match="save_every=0"):
        start.run(train, folder=tmp_path, save_every=0)


@pytest.mark.parametrize(
    ("round", "kind", "told"),
    [(0, "ticket", "no pruned round 0"), (3, "ticket", "1 to 2"), (1, "random_mask", "needs key="),
     (1, "reinitialised", "needs params="), (1, "masks", "needs masks=")],
)  # fmt: skip
def test_wrong_input(levels, round, kind, told):
    with pytest.raises(ValueError, match=told):
        branch(levels, round, kind)
