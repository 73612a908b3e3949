"""When to truncate, and by how much: the rules of the papers as numbers in one state.

Every policy is the same small rule with other numbers, held as arrays, so that changing the policy of a
running experiment compiles nothing.
"""

import dataclasses
import functools
from fractions import Fraction
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Array, Bool, Float, Int, Key

from wormjax._counts import as_fraction
from wormjax._early_bird import EarlyBirdState

ALWAYS = 2**31 - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Policy:
    """Settings of a truncation policy; build one with a function of this module.

    Attributes:
      trigger: engage while the mean mask distance is below this; None engages from the first mask on.
      factor: multiply by this while engaged; None follows the mean mask distance. Traced where
        `optax.inject_hyperparams` is to change it.
      latch: stay engaged once triggered.
      follow_before: before the trigger, follow the mean mask distance (1 otherwise).
      key: draw random masks of the same counts instead of the detector's.
      engages: False never truncates.
    """

    trigger: Fraction | None = None
    factor: float | Array | None = None
    latch: bool = False
    follow_before: bool = False
    key: Key[Array, ""] | None = None
    engages: bool = True


def off() -> Policy:
    """Never truncate: plain Early-Bird (the papers' ``standard``)."""
    return Policy(factor=1.0, engages=False)


def constant(chi: float | Array) -> Policy:
    """Multiply by ``chi`` from the first mask on (``gradclip``; the WORM paper's Table 1).

    Args:
      chi: the truncation factor; 1 changes nothing, 0 freezes.
    """
    return Policy(factor=_factor("chi", chi))


def greedy(
    trigger: float | str | Fraction | None = None, factor: float | Array | None = None
) -> Policy:
    """Multiply by the mean mask distance, at every detection anew (``greedy``).

    Args:
      trigger: while the mean distance is below it, ``factor`` takes over. With 0.015 and 0.01 this is the
        rule of the WORM authors' transformer code, which is not latched.
      factor: what takes over; both or neither.
    """
    if (trigger is None) != (factor is None):
        raise ValueError("greedy takes both a trigger and a factor, or neither.")
    if factor is None:
        return Policy(factor=None)
    return Policy(trigger=_trigger(trigger), factor=_factor("factor", factor), follow_before=True)


def worm(
    trigger: float | str | Fraction = "0.15", factor: float | Array = 3e-3, latch: bool = True
) -> Policy:
    """Multiply by ``factor`` from the first time the mean mask distance falls below ``trigger``.

    Args:
      trigger: the papers' epsilon + margin; compared as an exact integer count, strictly below.
      factor: the truncation factor (the papers' r or chi).
      latch: keep it when the distance rises again.

    References:
      `The EarlyBird Gets the WORM <https://arxiv.org/abs/2406.11872>`_, 2024
    """
    return Policy(trigger=_trigger(trigger), factor=_factor("factor", factor), latch=latch)


def random_masks(key: Key[Array, ""], of: Policy | None = None) -> Policy:
    """A control: act as ``of`` does, on random masks with the ticket's count in every leaf.

    Args:
      key: PRNG key; the random order of a leaf stays the same from detection to detection.
      of: the policy that says when and how much, `worm` by default.
    """
    return dataclasses.replace(worm() if of is None else of, key=key)


@no_type_check  # JAX rebuilds it with specs, axes and None in place of arrays
@functools.partial(
    register_dataclass,
    data_fields=[
        "trigger",
        "below",
        "factor",
        "latch",
        "follow",
        "follow_before",
        "latched",
        "engaged",
        "key",
    ],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class PolicyState:
    """A policy as arrays.

    Attributes:
      trigger: int32 of shape (2,): the trigger as a fraction, (0, 1) never and (1, 0) always.
      below: int32: engage while the summed disagreements of the window are below this count.
      factor: float32: what to multiply by while engaged.
      latch: bool: stay engaged once triggered.
      follow: bool: while engaged, follow the mean distance instead of ``factor``.
      follow_before: bool: follow it before, too.
      latched: bool: the trigger has fired once.
      engaged: bool: ``factor`` is in force now.
      key: PRNG key of the random-mask control, or None.
    """

    trigger: Int[Array, "... 2"]
    below: Int[Array, "..."]
    factor: Float[Array, "..."]
    latch: Bool[Array, "..."]
    follow: Bool[Array, "..."]
    follow_before: Bool[Array, "..."]
    latched: Bool[Array, "..."]
    engaged: Bool[Array, "..."]
    key: Key[Array, "..."] | None


def count_below(
    trigger: Int[np.ndarray, "... 2"], pairs: int, total: int
) -> Int[np.ndarray, "..."]:
    """Return the counts of disagreements, of ``pairs`` masks of ``total`` entries, below which policies engage."""

    def one(numerator: int, denominator: int) -> int:
        if not denominator:
            return ALWAYS
        return min(-(-numerator * pairs * total // denominator), ALWAYS)

    counts = [one(int(top), int(bottom)) for top, bottom in trigger.reshape(-1, 2)]
    return np.array(counts, np.int32).reshape(trigger.shape[:-1])


def init_policy(policy: Policy, pairs: int, total: int) -> PolicyState:
    """Return the policy's numbers for ``pairs`` compared masks of ``total`` entries."""
    trigger = _as_pair(policy)
    below = count_below(trigger, pairs, total)
    return PolicyState(
        trigger=jnp.asarray(trigger),
        below=jnp.asarray(below),
        factor=jnp.array(1.0 if policy.factor is None else policy.factor, jnp.float32),
        latch=jnp.array(policy.latch),
        follow=jnp.array(policy.factor is None),
        follow_before=jnp.array(policy.follow_before),
        latched=jnp.zeros((), bool),
        engaged=jnp.zeros((), bool),
        key=policy.key,
    )


def on_fewer(state: PolicyState, pairs: int, total: int) -> PolicyState:
    """Return the policy's numbers once the masks have ``total`` entries; on the host."""
    below = count_below(np.asarray(state.trigger), pairs, total)
    return dataclasses.replace(state, below=jnp.asarray(below))


def decide(state: PolicyState, detector: EarlyBirdState) -> tuple[PolicyState, Float[Array, ""]]:
    """Return the policy's state and the factor in force until the next detection.

    A degenerate mask (all scores equal) says nothing about which entries will be pruned; nothing is
    truncated on it.
    """
    usable = ~detector.degenerate & ~detector.invalid
    triggered = (jnp.sum(detector.disagreements) < state.below) & usable
    engaged = (triggered | (state.latched & state.latch)) & usable
    mean = jnp.minimum(detector.mean_distance, jnp.float32(1))
    one = jnp.float32(1)
    factor = jnp.where(
        engaged,
        jnp.where(state.follow, mean, state.factor),
        jnp.where(state.follow_before & usable, mean, one),
    )
    latched = state.latched | triggered
    return dataclasses.replace(state, latched=latched, engaged=engaged), factor


def _as_pair(policy: Policy) -> Int[np.ndarray, " 2"]:
    if not policy.engages:
        return np.array([0, 1], np.int32)
    if policy.trigger is None:
        return np.array([1, 0], np.int32)
    return np.array([policy.trigger.numerator, policy.trigger.denominator], np.int32)


def _factor(name: str, value: float | Array) -> float | Array:
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(
            f"{name} must be a number in [0, 1] (1 truncates nothing, 0 freezes), got {value!r}."
        )
    return float(value)


def _trigger(value: float | str | Fraction | None) -> Fraction:
    trigger = as_fraction("trigger", value)
    if not 0 <= trigger <= 1:
        raise ValueError(
            f"trigger must lie in [0, 1], got {value}: it is compared with a mask distance."
        )
    # held as two int32; a positive trigger stays positive
    return max(trigger.limit_denominator(ALWAYS), min(trigger, Fraction(1, ALWAYS)))
