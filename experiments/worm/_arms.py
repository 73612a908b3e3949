"""The arms of the comparison as optax chains."""

from typing import NamedTuple

import jax
import optax
from jaxtyping import PyTree

import wormjax as wj
from experiments.worm._config import WormConfig

_RANDOM_MASKS = 2**31 + 7  # folded into a seed's key; apart from steps and from the data order


class ArmRules(NamedTuple):
    """What distinguishes an arm.

    Attributes:
      policy: when it truncates, and by how much.
      last: the truncation stands behind the optimizer and not in front of it.
      searches: it stops at the ticket, prunes and retrains; dense training does not.
    """

    policy: wj.policies.Policy
    last: bool = False
    searches: bool = True


def arm_rules(config: WormConfig, arm: str, key: jax.Array) -> ArmRules:
    """Return an arm's rules for the seed whose key this is."""
    worm = wj.policies.worm(config.trigger, config.factor)
    if arm.startswith("gradclip_"):
        return ArmRules(wj.policies.constant(float(arm.removeprefix("gradclip_"))))
    random = wj.policies.random_masks(jax.random.fold_in(key, _RANDOM_MASKS), of=worm)
    return {
        "dense": ArmRules(wj.policies.off(), searches=False),
        "standard": ArmRules(wj.policies.off()),
        "gradclip": ArmRules(wj.policies.constant(config.chi)),
        "greedy": ArmRules(wj.policies.greedy()),
        "worm": ArmRules(worm),
        "worm_last": ArmRules(worm, last=True),
        "worm_random": ArmRules(random),
    }[arm]


def search_optimizer(
    config: WormConfig, rules: ArmRules, steps: int
) -> optax.GradientTransformationExtraArgs:
    """Return the search's chain: truncation, L1 pull, weight decay, momentum, or truncation last."""
    worm = wj.worm(
        wj.scores.norm_scale,
        prune_ratio=config.prune_ratio,
        window=config.window,
        epsilon=config.epsilon,
        policy=rules.policy,
        frozen=config.frozen,
        mask_rule=config.mask_rule,
        cap=config.search_cap + 1 if rules.searches else None,
    )
    rest = config.optimizer(steps)
    return optax.chain(rest, worm) if rules.last else optax.chain(worm, rest)


def carried_state(rules: ArmRules, opt_state: PyTree) -> PyTree:
    """Return what `WormConfig.optimizer` goes on with of the state of `search_optimizer`."""
    before, after = opt_state
    return before if rules.last else after
