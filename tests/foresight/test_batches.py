"""What is often passed for a pruning set gets a sentence."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax import foresight
from wormjax.foresight._batches import check_pruning_batches

PARAMS = {"first": jnp.ones((3, 4)), "second": jnp.ones((4, 2))}
X, Y = jnp.ones((5, 3)), jnp.arange(5) % 2


def apply(params, x):
    return jax.nn.relu(x @ params["first"]) @ params["second"]


WRONG = {
    "one pair": ((X, Y), "one pair \\(inputs, labels\\)"),
    "one array": (X, r"batches is one array of shape \(5, 3\)"),
    "a generator": (((X, Y) for _ in range(2)), "batches is a generator. Pass a list"),
    "rows": (
        foresight.pruning_set(np.arange(4) % 2, classes=2, seed=0, per_class=2),
        "is a PruningSet, which names rows",
    ),
    "no example": ([(X, Y), (X[:0], Y[:0])], "Batch 1 of the pruning set holds no example"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_pruning_set_is_a_sentence(name):
    batches, sentence = WRONG[name]
    with pytest.raises(ValueError, match=sentence):
        check_pruning_batches(batches)


def test_both_prunings_look_at_it():
    method, groups = foresight.methods.px(apply), wj.find_groups(apply, PARAMS, X)
    with pytest.raises(ValueError, match="one pair"):
        foresight.prune(method, PARAMS, (X, Y), density=0.5)
    with pytest.raises(ValueError, match="one pair"):
        foresight.prune_units(method, PARAMS, (X, Y), groups, keep=0.5)


def test_a_method_that_was_not_called_is_a_sentence():
    for maker, call in (("px", "px(apply)"), ("snip", "snip(loss)"), ("random", "random()")):
        with pytest.raises(TypeError, match=re.escape(f"Call it: wj.foresight.methods.{call}.")):
            foresight.prune(getattr(foresight.methods, maker), PARAMS, [(X, Y)], density=0.5)
