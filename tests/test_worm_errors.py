"""What WORM says when misused: settings out of range or of the wrong type, another model, no detector."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj

norm_scale = wj.scores.norm_scale


def params_of(scale):
    scale = jnp.asarray(scale, jnp.float32)
    return {
        "bn": {"scale": scale, "bias": jnp.zeros_like(scale)},
        "conv": {"kernel": jnp.ones((2, scale.size))},
    }


ONES = jax.tree.map(jnp.ones_like, params_of(np.ones(4)))
FOUR = params_of([0.1, 0.7, 0.4, 0.9])


def test_an_update_that_detects_needs_the_parameters():
    tx = wj.worm(norm_scale, every=2)
    with pytest.raises(ValueError, match=r"worm\(every=n\) scores the parameters: call tx.update"):
        tx.update(ONES, tx.init(FOUR))


def test_detect_without_worm():
    for tx in (optax.adam(0.1), wj.truncate(jax.tree.map(lambda _: jnp.array(True), FOUR), 0.5)):
        with pytest.raises(ValueError, match=r"holds no WORM transformation.*wormjax.worm"):
            wj.detect(FOUR, tx.init(FOUR))


def test_detect_with_parameters_of_another_model():
    state = wj.worm(norm_scale, window=2).init(FOUR)
    with pytest.raises(ValueError, match=r"6 entries.*with 4.*new state"):
        wj.detect(params_of(np.ones(6)), state)


def test_updates_of_another_structure():
    tx = wj.worm(norm_scale)
    with pytest.raises(ValueError, match=r"updates have another structure than masks.*'bn/scale'"):
        tx.update({"bn": {"bias": jnp.ones(4)}, "conv": ONES["conv"]}, tx.init(FOUR))


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.2, -0.5])
def test_a_prune_ratio_outside_the_unit_interval(ratio):
    with pytest.raises(ValueError, match="prune_ratio must lie strictly between 0 and 1"):
        wj.worm(norm_scale, ratio)


@pytest.mark.parametrize("window", [1, 0, 32])
def test_a_window_below_two(window):
    with pytest.raises(ValueError, match="window must be an integer from 2 to 31"):
        wj.worm(norm_scale, window=window)


@pytest.mark.parametrize("every", [0, -2])
def test_every_must_be_positive(every):
    with pytest.raises(ValueError, match="every must be a positive number of optimizer updates"):
        wj.worm(norm_scale, every=every)


def test_a_trigger_that_is_no_distance():
    with pytest.raises(ValueError, match=r"trigger must lie in \[0, 1\]"):
        wj.worm(norm_scale, epsilon=0.9, margin=0.2)
    with pytest.raises(ValueError, match=r"factor must be a number in \[0, 1\]"):
        wj.worm(norm_scale, factor=2.0)


def test_a_model_without_normalisation():
    with pytest.raises(ValueError, match="no normalisation scale"):
        wj.worm(norm_scale).init({"dense": {"kernel": jnp.ones((2, 2))}})


# What the type checker of the tests would refuse first: as a user without one meets it.
SPOKEN = """
import jax, jax.numpy as jnp, optax
import wormjax as wj
from wormjax.scores import magnitude, norm_scale
P = {"bn": {"scale": jnp.arange(4.0)}}
fixed = ["score", "prune_ratio", "window", "epsilon", "margin"]
def inject(static, **settings):
    tx = optax.inject_hyperparams(wj.worm, static_args=static)(**{"score": norm_scale, **settings})
    return tx.init(P)
for name, attempt in {
    "nothing static": lambda: inject(()),
    "nothing static, magnitude": lambda: inject((), score=magnitude),
    "score not static": lambda: inject(fixed[1:], score=magnitude),
    "score only": lambda: inject("score"),
    "no margin": lambda: inject(fixed[:-1]),
    "no every": lambda: inject(fixed, every=5),
    "no cap": lambda: inject(fixed, cap=9),
    "several ratios": lambda: wj.worm(norm_scale, (0.3, 0.5)),
    "no score": lambda: wj.early_bird(0.5),
    "half a window": lambda: wj.early_bird(norm_scale, window=2.5),
    "true every": lambda: wj.worm(norm_scale, every=True),
    "compare": lambda: wj.early_bird(norm_scale, compare="newest"),
    "mask_rule": lambda: wj.early_bird(norm_scale, mask_rule="exact_k"),
    "scope": lambda: wj.worm(norm_scale, scope="groups"),
    "group without groups": lambda: wj.worm(norm_scale, scope="group"),
    "frozen": lambda: wj.worm(norm_scale, frozen="all"),
    "factor": lambda: wj.policies.constant("half"),
    "ratio": lambda: wj.early_bird(norm_scale, True),
    "masks": lambda: wj.truncate({"bn": {"scale": [True] * 4}}, 0.5).init(P),
    "float masks": lambda: wj.truncate({"bn": {"scale": jnp.ones(4)}}, 0.5).init(P),
    "whole tx": lambda: inject([*fixed, "every", "cap"], every=5, cap=9),
    "integer factor": lambda: wj.policies.constant(1) and wj.worm(norm_scale, factor=0),
}.items():
    try:
        attempt()
        print(name, "|", "fine", "|")
    except Exception as error:
        print(name, "|", type(error).__name__, "|", str(error).replace(chr(10), " "))
"""


SENTENCES = {
    "nothing static": ("ValueError", "name 'score' in its static_args"),
    "nothing static, magnitude": ("TypeError", "name 'score' in static_args"),
    "score not static": ("TypeError", "name 'score' in static_args"),
    "score only": ("TypeError", "prune_ratio arrived as a JAX array"),
    "no margin": ("TypeError", "margin arrived as a JAX array"),
    "no every": ("TypeError", "every arrived as a JAX array"),
    "no cap": ("TypeError", "cap arrived as a JAX array"),
    "several ratios": ("TypeError", "Watch several ratios with wormjax.early_bird"),
    "no score": ("TypeError", "score must be a function params -> scores, got float"),
    "half a window": ("ValueError", "window must be an integer from 2 to 31 masks, got 2.5"),
    "true every": ("TypeError", "every must be a number, got True"),
    "compare": (
        "ValueError",
        "compare must be one of 'newest_vs_all', 'consecutive', got 'newest'",
    ),
    "mask_rule": ("ValueError", "mask_rule must be one of 'exact', 'reference', 'protective', got"),
    "scope": ("ValueError", "scope must be one of 'scale', 'scored', 'group', got 'groups'"),
    "group without groups": ("ValueError", "got scope='group' and no groups"),
    "frozen": ("ValueError", "frozen must be one of 'newest', 'window', got 'all'"),
    "factor": ("ValueError", "chi must be a number in [0, 1]"),
    "ratio": ("TypeError", "prune_ratio must be a number, got True"),
    "masks": ("ValueError", "another structure"),
    "float masks": ("ValueError", "'bn/scale'"),
    "whole tx": ("fine", ""),
    "integer factor": ("fine", ""),
}


def test_what_it_says_to_settings_of_the_wrong_type():
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SPOKEN)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told = {line.split(" | ")[0]: line.split(" | ", 1)[1] for line in ran.stdout.splitlines()}

    assert set(told) == set(SENTENCES)
    for name, (kind, sentence) in SENTENCES.items():
        assert told[name].startswith(kind), f"{name}: {told[name]}"
        assert sentence in told[name], f"{name}: {told[name]}"
