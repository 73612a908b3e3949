"""WORM: detector, policy and truncation as one optax transformation."""

import dataclasses
import functools
from fractions import Fraction
from typing import Any, ClassVar, Literal, Protocol, no_type_check, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.tree_util import register_dataclass
from jaxtyping import Array, Bool, Int, PyTree

from wormjax._counts import as_fraction
from wormjax._early_bird import Compare, Detection, EarlyBirdState, MaskRule, Ratio, Score
from wormjax._masks import never_pruned
from wormjax._opt_state import part_of
from wormjax._policies import Policy, PolicyState, decide, init_policy
from wormjax._policies import worm as worm_policy
from wormjax._random_masks import random_like
from wormjax._selection import check_choice
from wormjax._shift import extend_to_shift
from wormjax._truncate import TruncateState, truncate_updates

Scope = Literal["scale", "scored", "group"]
Frozen = Literal["newest", "window"]


@runtime_checkable
class Extends(Protocol):
    """Whatever knows which parameters live and die together, as `wormjax.find_groups` finds them; hashable."""

    def extend(self, masks: PyTree[Bool[Array, "..."]]) -> PyTree[Bool[Array, "..."]]:
        """Return the masks of every parameter slice of the units that ``masks`` prunes."""


@dataclasses.dataclass(frozen=True)
class WormSettings:
    """What `wormjax.detect` needs to know and no array can hold; hashable."""

    detection: Detection
    scope: Scope
    frozen: Frozen
    groups: Extends | None


@no_type_check  # JAX rebuilds it with specs, axes and None in place of arrays
@functools.partial(
    register_dataclass,
    data_fields=["detector", "policy", "truncation", "count"],
    meta_fields=["settings"],
)
@dataclasses.dataclass(frozen=True)
class WormState:
    """State of `worm`.

    Attributes:
      detector: the Early-Bird detector's state.
      policy: the policy's numbers and whether it is engaged.
      truncation: masks and factor in force.
      count: int32, optimizer updates seen.
      settings: the static settings.
    """

    unbatched: ClassVar[tuple[str, ...]] = ("count",)

    detector: EarlyBirdState
    policy: PolicyState
    truncation: TruncateState
    count: Int[Array, "..."]
    settings: WormSettings


def worm(
    score: Score,
    prune_ratio: Ratio = 0.5,
    window: int = 5,
    epsilon: Ratio = 0.1,
    margin: Ratio = 0.05,
    factor: float | Array = 3e-3,
    every: int | None = None,
    *,
    policy: Policy | None = None,
    scope: Scope = "scale",
    groups: Extends | None = None,
    frozen: Frozen = "newest",
    compare: Compare = "newest_vs_all",
    strict: bool = False,
    mask_rule: MaskRule = "exact",
    cap: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Draw an Early-Bird ticket and truncate the gradients of what it is about to prune.

    While the mean mask distance is at least ``epsilon + margin`` nothing happens; from the first time it
    is below,

    .. math:: g_i \leftarrow g_i \text{ if } m_i \text{ else } \chi\, g_i

    Place it **first** in a chain to truncate gradients, as the paper does. Place it **last** to hold the
    displacement whatever the optimizer normalises. How far truncated entries move over live ones at factor
    0.003, in 20,000 updates of a toy problem (``python -m benchmarks.placement``):

    =========  ====  ========  =====  =======  =====
    placed     SGD   momentum  Adam   RMSProp  Lion
    =========  ====  ========  =====  =======  =====
    first      .003  .003      .54    .99      1.0
    last       .003  .003      .003   .003     .003
    =========  ====  ========  =====  =======  =====

    Decoupled weight decay comes behind a truncation that is placed first, and moves truncated entries too.

    Args:
      score: ``score(params) -> scores``.
      prune_ratio: fraction of score entries to prune.
      window: masks that the detector compares.
      epsilon: mask distance at which the ticket emerges.
      margin: added to epsilon it is the trigger of the default policy (the paper's delta).
      factor: truncation factor of the default policy (the paper's r). A JAX array, which is what
        `optax.inject_hyperparams` passes, replaces the policy's factor at every update.
      every: None detects when the driver calls `wormjax.detect`, at the top of an epoch; an integer n
        detects inside the transformation at optimizer updates 0, n, 2n, ..., on the parameters before
        the update. Under `optax.MultiSteps` optimizer updates are counted, not mini-batches.
      policy: one of `wormjax.policies`; replaces the default, which ``margin`` and ``factor`` describe.
      scope: ``"scale"`` truncates the scored leaves and the shift beside a scored scale; ``"scored"`` the
        scored leaves only; ``"group"`` every parameter slice of the units that the mask prunes.
      groups: for ``scope="group"``, what `wormjax.find_groups` found in the model.
      frozen: truncate what the ``"newest"`` mask prunes, or what every mask of the ``"window"`` does.
      compare: as in `wormjax.early_bird`.
      strict: as there.
      mask_rule: as there.
      cap: as there.

    Returns:
      An optax transformation. It sees only its part of the tree under `optax.multi_transform` and
      `optax.masked`; a part without scored leaves passes through.

    Raises:
      TypeError: a number that decides counts is a JAX array (name it in ``static_args``).
      ValueError: a setting out of range; a model without prunable leaves (at ``init``); no parameters
        at an update that detects.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import wormjax as wj
      >>> params = {"bn": {"scale": jnp.array([0.1, 0.7, 0.4, 0.9]), "bias": jnp.zeros(4)}}
      >>> tx = optax.chain(wj.worm(wj.scores.norm_scale, window=2), optax.sgd(0.1, momentum=0.9))
      >>> state = tx.init(params)
      >>> for _ in range(3):  # epochs
      ...     state = wj.detect(params, state)
      ...     if wj.early_bird_state(state).emerged:
      ...         break
      >>> print(wj.early_bird_state(state).masks["bn"]["scale"])
      [False  True False  True]

    References:
      `The EarlyBird Gets the WORM <https://arxiv.org/abs/2406.11872>`_, 2024;
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020

    Note:
      The paper's Algorithm 1 multiplies by r once more outside the truncated gradient; it is a misprint
      and not squared here. The optimizer's momentum is not truncated: existing velocity coasts.
    """
    if not isinstance(prune_ratio, float | int | str | Fraction | jax.Array):
        raise TypeError(
            f"worm truncates on one mask, so prune_ratio is one fraction, got {prune_ratio!r}. Watch "
            "several ratios with wormjax.early_bird."
        )
    detection = Detection.of(score, prune_ratio, window, epsilon, compare, strict, mask_rule, cap)
    check_choice("scope", scope, ("scale", "scored", "group"))
    if (scope == "group") != (groups is not None):
        raise ValueError(
            f"scope='group' goes together with groups=, got scope={scope!r} and "
            f"{'no groups' if groups is None else 'groups'}. Pass groups=wormjax.find_groups(apply, params, *inputs)."
        )
    check_choice("frozen", frozen, ("newest", "window"))
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        as_fraction("every", every)
        raise ValueError(
            f"every must be a positive number of optimizer updates or None, got {every!r}."
        )
    trigger = as_fraction("epsilon", epsilon) + as_fraction("margin", margin)
    chosen = worm_policy(trigger, factor) if policy is None else policy
    settings = WormSettings(detection, scope, frozen, groups)

    def init(params: PyTree) -> WormState:
        detector = detection.init(params)
        masks = _in_force(settings, params, detector.newest)
        return WormState(
            detector=detector,
            policy=init_policy(chosen, window - 1, sum(detector.sizes)),
            truncation=TruncateState(jax.tree.map(jnp.ones_like, masks), jnp.ones((), jnp.float32)),
            count=jnp.zeros((), jnp.int32),
            settings=settings,
        )

    def update(updates: PyTree, state: WormState, params: Any = None, **extra: Any) -> Any:
        del extra
        if every is not None:
            if params is None:
                raise ValueError(
                    "worm(every=n) scores the parameters: call tx.update(updates, state, params)."
                )
            state = lax.cond(state.count % every == 0, detect_one, _unchanged, params, state)
        if isinstance(chosen.factor, jax.Array):
            state = _with_factor(state, chosen.factor)
        updates = truncate_updates(updates, state.truncation)
        return updates, dataclasses.replace(state, count=optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


@jax.jit
def detect(params: PyTree, opt_state: PyTree) -> PyTree:
    """Let every WORM transformation inside an optimizer state score, compare and decide.

    The driver of ``worm(every=None)``: call it at the top of an epoch, so that the ticket is drawn from
    the weights that were judged.

    Args:
      params: the parameters that the whole optimizer sees.
      opt_state: state of any optax transformation that contains `worm`.

    Returns:
      The optimizer state with the detectors advanced by one detection. Compiled; it does not wait for the
      device.

    Raises:
      ValueError: no WORM transformation in the state.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"scale": jnp.array([0.1, 0.7, 0.4, 0.9])}
      >>> state = wj.worm(wj.scores.norm_scale).init(params)
      >>> int(wj.early_bird_state(wj.detect(params, state)).checks)
      1
    """
    found = 0

    def visit(node):
        nonlocal found
        if not isinstance(node, WormState):
            return node
        found += 1
        return detect_one(part_of(params, node.detector.planes), node)

    out = jax.tree.map(visit, opt_state, is_leaf=lambda node: isinstance(node, WormState))
    if not found:
        raise ValueError(
            "This optimizer state holds no WORM transformation to detect with. Put wormjax.worm(...) into "
            "the chain, and pass the state that tx.init returned."
        )
    return out


def detect_one(params: PyTree, state: WormState) -> WormState:
    """Advance one detector, its policy, and the masks and factor in force."""
    if not state.detector.sizes:
        return dataclasses.replace(
            state, detector=state.settings.detection.update(params, state.detector)
        )
    detector = state.settings.detection.update(params, state.detector)
    policy, factor = decide(state.policy, detector)
    masks = detector.newest if state.settings.frozen == "newest" else detector.kept_in_window
    if policy.key is not None:
        masks = random_like(policy.key, masks)
    masks = _in_force(state.settings, params, masks)
    return dataclasses.replace(
        state, detector=detector, policy=policy, truncation=TruncateState(masks, factor)
    )


def _unchanged(params: PyTree, state: WormState) -> WormState:
    # a function of this module and not a lambda: outside jit, a new one would compile at every update
    del params
    return state


def _in_force(settings: WormSettings, params: PyTree, masks: PyTree[Bool[Array, "..."]]) -> PyTree:
    if settings.groups is not None:
        return settings.groups.extend(masks)
    if settings.scope == "scale":
        return extend_to_shift(params, masks)
    return jax.tree.map(lambda m: m if m.ndim else never_pruned(), masks)


def _with_factor(state: WormState, factor: Array) -> WormState:
    """Put a factor that changes from outside in force where the policy is engaged."""
    factor = factor.astype(jnp.float32)
    in_force = jnp.where(
        state.policy.engaged & ~state.policy.follow, factor, state.truncation.factor
    )
    return dataclasses.replace(
        state,
        policy=dataclasses.replace(state.policy, factor=factor),
        truncation=TruncateState(state.truncation.masks, in_force),
    )
