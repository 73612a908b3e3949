"""How a pruned network is trained again: from where, over which steps, at which learning rates."""

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wormjax._counts import as_fraction
from wormjax._selection import check_choice
from wormjax.lottery._network import Stretch

Mode = Literal["init", "weight_rewind", "lr_rewind", "fine_tune", "slr", "clr", "llr", "allr"]
MODES = ("init", "weight_rewind", "lr_rewind", "fine_tune", "slr", "clr", "llr", "allr")
REWINDING = ("init", "weight_rewind")  # weights go back; in all other modes they stay
ScheduleFrom = Literal["rewind_step", "zero"]
WARMUP = Fraction(1, 10)  # of a retraining, in the modes that have one


class Loss(NamedTuple):
    """What a pruning step took from the weights, for ``allr``.

    Attributes:
      distance: the norm of what was pruned over the norm of all weights before.
      sparsity: the fraction of the weights, remaining before, that was pruned.
    """

    distance: float
    sparsity: float


def all_rates(
    learning_rate: float | Sequence[float] | np.ndarray | Callable[..., Any], steps: int
) -> np.ndarray:
    """Return the learning rate of every step of the dense training, float64.

    Args:
      learning_rate: a number, one number a step, or a schedule of optax.
      steps: how many.

    Raises:
      ValueError: another number of rates than of steps, or one that is negative or not finite.
    """
    if callable(learning_rate):
        values = jax.jit(jax.vmap(learning_rate))(jnp.arange(steps, dtype=jnp.int32))
        rates = np.asarray(values, np.float64)
    else:
        rates = np.asarray(learning_rate, np.float64)
    rates = np.broadcast_to(rates, (steps,)) if rates.ndim == 0 else rates
    if rates.shape != (steps,):
        raise ValueError(
            f"learning_rate has the shape {rates.shape}, and there are {steps} steps: give one number a step, a "
            "number, or a schedule."
        )
    if not (np.isfinite(rates).all() and (rates >= 0).all()):
        raise ValueError("learning_rate holds a rate that is negative or not finite.")
    return rates


def rewind_step(
    rewind: float | int | str | Fraction, steps: int, steps_per_epoch: int | None = None
) -> int:
    """Return the step that weights go back to.

    Args:
      rewind: a fraction of the training (0.05), ``"1000it"`` for steps, or ``"8ep"`` for epochs.
      steps: of the dense training.
      steps_per_epoch: needed for epochs.

    Raises:
      ValueError: it is not written like this, or lies at or after the end of training.

    Example:
      >>> rewind_step(0.05, 56320), rewind_step("8ep", 56320, 352), rewind_step("1000it", 56320)
      (2816, 2816, 1000)
    """
    written = re.fullmatch(r"\s*(\d+)\s*(it|ep)\s*", rewind) if isinstance(rewind, str) else None
    if written and written[2] == "ep" and not steps_per_epoch:
        raise ValueError(f"rewind={rewind!r} counts epochs: pass steps_per_epoch=.")
    if written:
        step = int(written[1]) * (steps_per_epoch or 1 if written[2] == "ep" else 1)
    else:
        try:
            ratio = as_fraction("rewind", rewind)
        except ValueError:
            raise ValueError(
                f"rewind is a fraction of the training (0.05), steps ('1000it') or epochs ('8ep'), got {rewind!r}."
            ) from None
        if ratio > 1:
            raise ValueError(
                f"rewind={rewind} is a fraction of the training and lies after its end. Write '{rewind}it' for steps."
            )
        step = math.floor(ratio * steps)
    if not 0 <= step < steps:
        raise ValueError(
            f"The rewinding point {rewind!r} is step {step}, at or after the end of a training of {steps} steps: "
            "nothing would be trained again. Choose an earlier one."
        )
    return step


def retraining(
    mode: Mode,
    rates: np.ndarray,
    budget: int,
    *,
    rewind: int = 0,
    schedule_from: ScheduleFrom = "rewind_step",
    clock: int | None = None,
    loss: Loss | None = None,
    warmup: float | int | str | Fraction = WARMUP,
) -> Stretch:
    r"""Return the steps and learning rates of one retraining.

    With the dense training's rates :math:`\eta_0 \ldots \eta_{T-1}`, its highest :math:`\hat\eta`, its lowest from
    there on :math:`\check\eta`, and n steps after the warm-up (a half-cosine from 0 to the peak):

    ==================  =========================================================================
    ``init``            weights of step 0, :math:`\eta_0 \ldots \eta_{T-1}`
    ``weight_rewind``   weights of step i, :math:`\eta_i \ldots \eta_{T-1}`, or all from 0
    ``lr_rewind``       the last n of :math:`\eta`
    ``fine_tune``       :math:`\check\eta`
    ``slr``             warm-up; :math:`\eta_{\lfloor jT/n \rfloor}`, before the highest :math:`\hat\eta`
    ``clr``             warm-up; a cosine from :math:`\hat\eta` to :math:`\check\eta`
    ``llr``             warm-up; a line from :math:`\hat\eta` to 0
    ``allr``            ``llr`` from the peak :math:`\hat\eta\, d / \sqrt{s}`, clipped to [n/T, 1] of
                        :math:`\hat\eta`, where d of the norm and s of the weights were pruned
    ==================  =========================================================================

    Args:
      mode: one of these.
      rates: of the dense training.
      budget: steps of a retraining; the rewinding modes have their own.
      rewind: the step i.
      schedule_from: whether ``weight_rewind`` goes on from step i (the paper, open_lth), rates and order of the data,
        or starts both afresh (``"zero"``, the code of Structure-LTH).
      clock: number of the first step in the modes that keep the weights; the end of the dense training by default.
      loss: what was pruned, for ``allr``.
      warmup: the fraction of the budget that warms up, where a mode has it.

    Returns:
      `Stretch`.

    Raises:
      ValueError: an unknown mode, or a budget that does not fit it.

    Example:
      >>> original = np.array([0.1] * 5 + [0.01] * 3 + [0.001] * 2)
      >>> print(retraining("slr", original, 5, warmup=0).rates)
      [0.1   0.1   0.1   0.01  0.001]

    References:
      Renda et al., `Comparing Rewinding and Fine-tuning <https://arxiv.org/abs/2003.02389>`_, 2020; Le and Hua,
      `Network Pruning That Matters <https://arxiv.org/abs/2105.03193>`_, 2021; Zimmer et al., `How I Learned to Stop
      Worrying and Love Retraining <https://arxiv.org/abs/2111.00843>`_, 2021
    """
    check_choice("mode", mode, MODES)
    check_choice("schedule_from", schedule_from, ("rewind_step", "zero"))
    total = len(rates)
    if mode in REWINDING:
        start = 0 if mode == "init" or schedule_from == "zero" else rewind
        return Stretch(range(start, total), rates[start:])
    longest = total if mode == "lr_rewind" else None
    if budget < 1 or (longest is not None and budget > longest):
        raise ValueError(
            f"retrain_steps={budget} does not fit mode={mode!r}: it must be at least 1"
            + (f", and at most the {longest} steps of the schedule." if longest else ".")
        )
    first = total if clock is None else clock
    steps = range(first, first + budget)
    highest = int(np.argmax(rates))
    peak, lowest = float(rates[highest]), float(rates[highest:].min())
    if mode == "lr_rewind":
        return Stretch(steps, rates[total - budget :])
    if mode == "fine_tune":
        return Stretch(steps, np.full(budget, lowest))
    if mode == "allr":
        peak = _adaptive_peak(peak, Fraction(budget, total), loss)
    warm = math.floor(as_fraction("warmup", warmup) * budget)
    n = budget - warm
    if n < 1:
        raise ValueError(f"warmup={warmup} of {budget} steps leaves none after it. Lower it.")
    rise = peak * (1 - np.cos(np.pi * np.arange(warm) / max(warm, 1))) / 2
    j = np.arange(n)
    if mode == "slr":
        whole = np.where(np.arange(total) < highest, peak, rates)
        after = whole[j * total // n]
    elif mode == "clr":
        after = lowest + (peak - lowest) * (1 + np.cos(np.pi * j / n)) / 2
    else:
        after = peak * (1 - j / n)
    return Stretch(steps, np.concatenate([rise, after]))


def _adaptive_peak(peak: float, share: Fraction, loss: Loss | None) -> float:
    if loss is None or loss.sparsity == 0:
        raise ValueError("mode='allr' needs to know what a pruning step took: pass loss=.")
    wanted = loss.distance / math.sqrt(loss.sparsity) * peak
    return float(np.clip(wanted, min(float(share), 1.0) * peak, peak))


def pruning_loss(params: PyTree, before: PyTree, after: PyTree) -> Loss:
    r"""Return what going from one mask tree to the next took from the weights.

    .. math:: d = \sqrt{|\, \|W_{before}\|^2 - \|W_{after}\|^2 |} \,/\, \|W_{before}\|
    """
    squares, counts = [0.0, 0.0], [0, 0]
    triples = zip(*(jax.tree.leaves(tree) for tree in (params, before, after)), strict=True)
    for x, old, new in ((x, old, new) for x, old, new in triples if old.ndim):
        square = np.asarray(x, np.float64) ** 2
        for k, mask in enumerate((old, new)):
            squares[k] += float(square.sum(where=np.asarray(mask)))
            counts[k] += int(np.asarray(mask).sum())
    distance = math.sqrt(abs(squares[0] - squares[1]) / squares[0]) if squares[0] else 0.0
    return Loss(distance, 1 - counts[1] / counts[0])
