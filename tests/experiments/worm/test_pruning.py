"""What is pruned once a ticket is drawn, and whether it may grow again."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.models import abstract, named
from experiments.worm._arms import arm_rules
from experiments.worm._config import WormConfig
from experiments.worm._pruning import pruning_masks
from experiments.worm._retrain import begin_retrain, retrain
from experiments.worm._search import begin_search, search
from experiments.worm._setup import Setup
from wormjax._paths import leaf_names

PAPER = WormConfig(
    model="digits_mlp",
    limit=64,
    epochs=4,
    search_cap=3,
    window=2,
    epsilon=0.5,
    seeds=1,
    driver="loop",
    prune_after="magnitude_per_tensor",
    recover="dense",
)


def drawn_at_random(model, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: rng.standard_normal(x.shape).astype(x.dtype), abstract(named(model)).params
    )


@pytest.mark.parametrize("ratio", [0.5, 0.3])
def test_o_p4_of_every_tensor_round_n_p_entries_go_the_smallest(ratio):
    params = drawn_at_random("digits_mlp")
    config = dataclasses.replace(PAPER, prune_ratio=ratio)
    masks = pruning_masks(config, params, ticket=None)
    pruned = 0
    for name, x, mask in zip(
        leaf_names(params), jax.tree.leaves(params), jax.tree.leaves(masks), strict=True
    ):
        if name.endswith("norm/bias"):
            assert mask.ndim == 0
            continue
        gone = np.asarray(~mask)
        assert gone.sum() == round(x.size * ratio), name
        assert np.abs(x[gone]).max() <= np.abs(x[~gone]).min()
        pruned += 1
    assert pruned == 6  # W-D10: two weights, two scales, and the head's weight and bias


def test_half_an_entry_rounds_to_even():
    params = {"a": np.arange(1.0, 6.0, dtype=np.float32), "norm": {"bias": np.ones(2, np.float32)}}
    masks = pruning_masks(PAPER, params, ticket=None)
    assert masks["a"].tolist() == [False, False, True, True, True]


def test_wd9_the_ticket_itself_is_pruned_unless_asked_otherwise():
    ticket = object()
    assert pruning_masks(WormConfig(), None, ticket) is ticket


def test_pruned_entries_grow_again_where_recovery_is_dense():
    setup = Setup(PAPER)
    start = begin_search(setup.start_search("standard", [0]))
    found = search(
        setup,
        "standard",
        [0],
        start,
        stop=True,
        epochs=3,
        log=lambda record: None,
        after_epoch=lambda now: None,
    )
    assert found.emerged_at == (1,)
    begun = begin_retrain(setup, found, [0])
    assert begun.masks is None
    zeros = [
        int((np.asarray(x) == 0).sum())
        for name, x in zip(
            leaf_names(begun.state.params), jax.tree.leaves(begun.state.params), strict=True
        )
        if not name.endswith("norm/bias")
    ]
    sizes = [x.size for x in jax.tree.leaves(begun.state.params)]
    assert sum(zeros) >= 0.49 * (sum(sizes) - 128)
    end = retrain(
        setup, "standard", [0], begun, log=lambda record: None, after_epoch=lambda now: None
    )
    kernel = end.state.params["layers"][0]["dense"]["kernel"]
    assert (np.asarray(kernel) != 0).mean() > 0.8


def test_further_constant_factors_are_arms_of_their_own():
    config = WormConfig(arms=("standard",), chis=(0.5, 0.05))
    assert config.all_arms == ("standard", "gradclip_0.5", "gradclip_0.05")
    rules = arm_rules(config, "gradclip_0.05", jax.random.key(0))
    assert (rules.policy.factor, rules.policy.trigger, rules.last) == (0.05, None, False)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"chis": (0.5, 0.5)}, "Name each factor once"),
        ({"retrain": "shrunk", "recover": "dense"}, "does not grow again"),
        ({"retrain": "shrunk", "prune_after": "magnitude_per_tensor"}, "Only a ticket's channels"),
    ],
)
def test_settings_that_contradict_each_other(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        WormConfig(**changes)
