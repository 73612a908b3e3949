"""Iterative magnitude pruning: train, remove a fraction of what is left, go back, train again."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Bool, PyTree

from wormjax._counts import ratio_in_unit_interval
from wormjax._masks import apply_masks, check_same_structure, never_pruned
from wormjax._paths import leaf_names
from wormjax._selection import Scope, check_choice
from wormjax.dst._kernels import kernels
from wormjax.lottery._level_files import LevelFiles, digest
from wormjax.lottery._level_training import LevelTraining
from wormjax.lottery._levels import Level, Levels
from wormjax.lottery._network import Network, Stretch, Train
from wormjax.lottery._pruning_step import (
    COUNT_RULES,
    CountRule,
    full_masks,
    mask_counts,
    prune_step,
)
from wormjax.lottery._retraining import (
    MODES,
    REWINDING,
    Mode,
    ScheduleFrom,
    all_rates,
    pruning_loss,
    retraining,
    rewind_step,
)
from wormjax.structure._ticket_record import raw

OptimizerAtRound = Literal["fresh", "rewound", "carried"]
MaskRule = Callable[[PyTree, Network], PyTree]


def imp(
    train: Train,
    params: PyTree,
    *,
    steps: int,
    learning_rate: float | Sequence[float] | np.ndarray | Callable[..., Any],
    rounds: int,
    rate: float | int | str | Fraction = 0.2,
    rewind: float | int | str | Fraction = 0.05,
    mode: Mode = "weight_rewind",
    schedule_from: ScheduleFrom = "rewind_step",
    retrain_steps: int | None = None,
    steps_per_epoch: int | None = None,
    prunable: PyTree[bool] | None = None,
    scope: Scope = "global",
    count_rule: CountRule = "round",
    state: PyTree = None,
    init_optimizer: Callable[[PyTree], PyTree] | None = None,
    optimizer: OptimizerAtRound | None = None,
    restructure: MaskRule | None = None,
    evaluate: Callable[[Network, PyTree], Mapping[str, Any]] | None = None,
    folder: str | os.PathLike | None = None,
    save_every: int | None = None,
) -> Levels:
    r"""Find lottery tickets by iterative magnitude pruning.

    .. math::
        m_0 = 1, \qquad \theta^{(r)} = \operatorname{train}(m_r \odot \theta_i), \qquad
        m_{r+1} = m_r \text{ without its } \rho \text{ least } |\theta^{(r)}|, \qquad d_r = (1 - \rho)^r

    Counts are exact integers; see `round_counts`. What goes back before a round is the whole network: parameters that
    are never pruned and batch statistics, too.

    Args:
      train: the training function, ``train(network, masks, steps, rates) -> network``. It runs one optimizer step for
        each number of the range ``steps``, on the batch that belongs to this number, at the rate of ``rates`` in its
        place, and keeps pruned weights out: by `wormjax.apply_masks` inside the loss, or on parameters and updates
        after each step. It must be a function of its arguments alone, or a run that was interrupted ends otherwise.
        The masks have the same shapes in every round, so that one program serves all.
      params: initial parameters.
      steps: optimizer steps of the dense training.
      learning_rate: of each of them: a number, a list, or a schedule of optax.
      rounds: prunings; there are ``rounds + 1`` trainings.
      rate: fraction of the remaining weights that a round removes, in (0, 1).
      rewind: what ``weight_rewind`` goes back to: a fraction of ``steps``, ``"1000it"`` or ``"8ep"``.
      mode: ``"weight_rewind"``, ``"init"`` (back to the first weights), or one that keeps the weights:
        ``"lr_rewind"``, ``"fine_tune"``, ``"slr"``, ``"clr"``, ``"llr"``, ``"allr"``; see `retraining`.
      schedule_from: whether a rewound network goes on from the rewinding step, or starts the schedule afresh.
      retrain_steps: steps of a round in the modes that keep the weights; ``steps`` by default.
      steps_per_epoch: where ``rewind`` counts epochs.
      prunable: tree of bools, from `prunable_layers` or `wormjax.prunable`; all kernels by default.
      scope: rank all weights together, or each leaf by itself.
      count_rule: ``"round"``, ``"ceil"`` or ``"open_lth"``.
      state: batch statistics, which go back with the weights.
      init_optimizer: makes the optimizer's state from parameters, as ``tx.init`` does.
      optimizer: its state at the beginning of a round: ``"fresh"`` (the default where weights go back), ``"rewound"``
        to the rewinding point, or ``"carried"`` on from the round before (the default where weights are kept).
      restructure: makes other masks of those of a round before it is trained, from the masks and the trained network:
        Refill or Regroup inside the loop. The next round prunes what these keep.
      evaluate: called with the network and the masks at the end of every round; its numbers are kept.
      folder: where every level is saved. A run that was killed goes on there, and ends bit for bit as it would have.
      save_every: save also after so many steps in the middle of a level.

    Returns:
      `Levels`.

    Raises:
      ValueError: a rate outside (0, 1); no round; a rewinding point after the end; a tree that does not fit; weights
        that are not finite; a leaf that would be emptied.
      LevelError: the folder is of another run.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import wormjax as wj
      >>> target = jnp.arange(1.0, 11.0)
      >>> @jax.jit
      ... def descend(params, masks, rate):
      ...     grads = jax.grad(lambda p: jnp.sum((wj.apply_masks(p, masks)["kernel"] - target) ** 2))(params)
      ...     return jax.tree.map(lambda p, g: p - rate * g, params, grads)
      >>> def train(network, masks, steps, rates):
      ...     params = network.params
      ...     for rate in rates:
      ...         params = descend(params, masks, rate.astype("float32"))
      ...     return network._replace(params=params)
      >>> levels = wj.lottery.imp(
      ...     train, {"kernel": jnp.zeros((1, 10))}, steps=20, learning_rate=0.1, rounds=2, rewind="2it"
      ... )
      >>> print([level.density for level in levels], levels[2].masks["kernel"].astype(int)[0])
      [1.0, 0.8, 0.6] [0 0 0 0 1 1 1 1 1 1]

    References:
      Frankle and Carbin, `The Lottery Ticket Hypothesis <https://arxiv.org/abs/1803.03635>`_, 2018; Frankle et al.,
      `Linear Mode Connectivity and the Lottery Ticket Hypothesis <https://arxiv.org/abs/1912.05671>`_, 2019

    Note:
      In the code of "Coarsening the Granularity" the schedule starts at 0 after going back to epoch 16, against the
      paper's text (5% of training); ``rewind=0.1, schedule_from="zero"`` is that code.

      The paper's group-aware IMP is ``restructure=lambda masks, network: regroup(groups, masks).masks``. Blocks fill up
      what was pruned and drop what was not, so a level's density is no longer a power of 1 - rate; read it from the
      level. The paper finds it worse than pruning single weights and regrouping each level afterwards, which `regroup`
      of ``levels[r].masks`` and `branch` with ``"masks"`` do.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: at least one round must prune.")
    if steps < 1:
        raise ValueError(f"steps={steps}: the dense training needs at least one step.")
    if save_every is not None and save_every < 1:
        raise ValueError(f"save_every={save_every} must be at least 1.")
    ratio_in_unit_interval("rate", rate)
    check_choice("mode", mode, MODES)
    check_choice("scope", scope, ("global", "leaf"))
    check_choice("count_rule", count_rule, COUNT_RULES)
    optimizer = optimizer or ("fresh" if mode in REWINDING else "carried")
    check_choice("optimizer", optimizer, ("fresh", "rewound", "carried"))
    chosen = kernels(params) if prunable is None else prunable
    check_same_structure(params, chosen, "params", "prunable")
    back = rewind_step(rewind, steps, steps_per_epoch) if mode == "weight_rewind" else 0
    rates = all_rates(learning_rate, steps)
    budget = steps if retrain_steps is None else retrain_steps
    settings = _Settings(mode, rates, budget, back, schedule_from)
    settings.stretch(1, _SOME_LOSS)  # whatever does not fit is said before hours of training
    opt_state = None if init_optimizer is None else init_optimizer(params)
    initial = Network(params, state, opt_state)
    files = None
    if folder is not None:
        told = {
            "mode": mode,
            "schedule_from": schedule_from,
            "rewind_step": back,
            "steps": steps,
            "retrain_steps": budget,
            "rate": str(ratio_in_unit_interval("rate", rate)),
            "scope": scope,
            "count_rule": count_rule,
            "optimizer": optimizer,
            "restructure": restructure is not None,
            "learning_rate": digest(rates),
            "prunable": [
                n for n, may in zip(leaf_names(params), jax.tree.leaves(chosen), strict=True) if may
            ],
            "initial network": [
                digest(np.asarray(raw(x))) for x in jax.tree.leaves((params, state))
            ],
        }
        files = LevelFiles(folder, told)
    run = LevelTraining(train, files, save_every)

    levels: list[Level] = []
    masks = full_masks(params, chosen)
    sizes = mask_counts(params, masks)
    rewound = initial
    for r in range(rounds + 1):
        if r == 0:
            start, stretch = initial, Stretch(range(steps), rates)
        else:
            before = levels[-1]
            old = _weights_only(masks, chosen)
            masks = prune_step(
                before.trained.params, old, rate=rate, scope=scope, count_rule=count_rule
            )
            if restructure is not None:
                masks = _restructured(restructure(masks, before.trained), params, chosen)
            loss = None
            if mode == "allr":
                loss = pruning_loss(before.trained.params, old, _weights_only(masks, chosen))
            stretch = settings.stretch(r, loss)
            start = rewound if mode in REWINDING else before.trained
            start = start._replace(params=apply_masks(start.params, masks))
            if optimizer == "fresh":
                start = start._replace(opt_state=init_optimizer and init_optimizer(start.params))
            elif optimizer == "carried":
                start = start._replace(opt_state=before.trained.opt_state)
            else:
                start = start._replace(opt_state=rewound.opt_state)
        stop_at = back if r == 0 and mode == "weight_rewind" else None
        trained, point, measured = run.level(r, start, masks, stretch, stop_at, evaluate)
        if point is not None:
            rewound = point
        levels.append(
            Level(
                r,
                masks,
                trained,
                stretch,
                mask_counts(params, _weights_only(masks, chosen)),
                sizes,
                measured,
            )
        )
    return Levels(tuple(levels), initial, rewound, mode)


@dataclasses.dataclass(frozen=True)
class _Settings:
    mode: Mode
    rates: np.ndarray
    budget: int
    back: int
    schedule_from: ScheduleFrom

    def stretch(self, round: int, loss: Any) -> Stretch:
        """The steps and rates of a round; a network that keeps its weights goes on in the order of the data."""
        return retraining(
            self.mode,
            self.rates,
            self.budget,
            rewind=self.back,
            schedule_from=self.schedule_from,
            clock=len(self.rates) + (round - 1) * self.budget,
            loss=loss,
        )


_SOME_LOSS = pruning_loss(np.ones(2), np.array([True, True]), np.array([True, False]))


def _weights_only(masks: PyTree, prunable: PyTree[bool]) -> PyTree:
    """The masks of what may be pruned: restructured ones speak of biases and scales, too."""
    return jax.tree.map(lambda mask, may: mask if may else never_pruned(), masks, prunable)


def _restructured(masks: PyTree, params: PyTree, prunable: PyTree[bool]) -> PyTree:
    """Bring masks that were made by somebody else to the shapes of the others."""
    jax.eval_shape(apply_masks, params, masks)

    def whole(x: Any, mask: Any, may: bool) -> Bool[Array, "..."]:
        kept = np.broadcast_to(np.asarray(mask), x.shape)
        return jax.numpy.asarray(kept) if may else mask

    return jax.tree.map(whole, params, masks, prunable)
