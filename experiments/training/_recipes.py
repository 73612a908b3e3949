"""Training recipes: plain numbers in, an optax chain and a pure schedule out."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    r"""Stochastic gradient descent with momentum, weight decay and a schedule in epochs.

    .. math::
        v \leftarrow \mu v + g + \lambda \theta, \qquad \theta \leftarrow \theta - \eta(t)\, v

    The defaults are the CIFAR recipe of the Early-Bird paper's code.

    Attributes:
      epochs: length of the schedule, in epochs.
      learning_rate: :math:`\eta(0)`.
      momentum: :math:`\mu`, in [0, 1); 0 keeps no velocity.
      nesterov: look ahead along the velocity.
      weight_decay: :math:`\lambda`, on every parameter, scales and shifts included.
      schedule_kind: ``"milestones"``, ``"constant"`` or ``"cosine"`` (to zero after ``epochs``).
      milestones: epochs at whose start the rate is multiplied by ``decay``.
      decay: that factor.

    Raises:
      ValueError: a number is out of its range; the message names the field.

    Example:
      >>> recipe = Recipe()
      >>> print(f"{recipe.schedule(steps_per_epoch=10)(1000):.3f}")
      0.010

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """

    epochs: int = 160
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    schedule_kind: Literal["milestones", "constant", "cosine"] = "milestones"
    milestones: tuple[int, ...] = (80, 120)
    decay: float = 0.1

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"Recipe.epochs is {self.epochs}. Train for at least one epoch.")
        if not (self.learning_rate >= 0 and math.isfinite(self.learning_rate)):
            raise ValueError(
                f"Recipe.learning_rate is {self.learning_rate}. Give a finite number that is not negative."
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"Recipe.momentum is {self.momentum}. Give a number in [0, 1).")
        if self.nesterov and self.momentum == 0:
            raise ValueError("Recipe.nesterov needs a velocity. Give momentum above 0.")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise ValueError(
                f"Recipe.weight_decay is {self.weight_decay}. Give a finite number that is not negative."
            )
        if self.schedule_kind not in ("milestones", "constant", "cosine"):
            raise ValueError(
                f"Recipe.schedule_kind is {self.schedule_kind!r}. Use 'milestones', 'constant' or 'cosine'."
            )
        rising = all(a < b for a, b in zip((0, *self.milestones), self.milestones, strict=False))
        if not rising:
            raise ValueError(
                f"Recipe.milestones are {self.milestones}. Give epochs from 1 on, each later than "
                "the one before."
            )
        if not 0 < self.decay <= 1:
            raise ValueError(f"Recipe.decay is {self.decay}. Give a factor in (0, 1].")

    def schedule(self, steps_per_epoch: int) -> optax.Schedule:
        """Return ``step -> learning rate``, a pure function: any step may be asked first.

        Args:
          steps_per_epoch: optimizer steps an epoch.

        Returns:
          ``schedule(step)``: step is an integer or an int32 scalar; the rate is a float32 scalar.

        Raises:
          ValueError: steps_per_epoch is below 1.
        """
        if steps_per_epoch < 1:
            raise ValueError(
                f"steps_per_epoch is {steps_per_epoch}. An epoch has at least one step."
            )
        if self.schedule_kind == "cosine":
            cosine = optax.cosine_decay_schedule(self.learning_rate, self.epochs * steps_per_epoch)
            # optax divides the step by a float, which strict dtype promotion refuses for an int32
            return lambda step: jnp.asarray(cosine(jnp.asarray(step, jnp.float32)), jnp.float32)
        milestones = self.milestones if self.schedule_kind == "milestones" else ()
        # one constant a stage: nothing is multiplied up on the way, so where a run starts does not matter
        stages = [
            optax.constant_schedule(self.learning_rate * self.decay**i)
            for i in range(len(milestones) + 1)
        ]
        joined = optax.join_schedules(stages, [m * steps_per_epoch for m in milestones])
        return lambda step: jnp.asarray(joined(step), jnp.float32)

    def optimizer(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """Return the optax chain: decay added to the gradient, momentum, then the scheduled rate.

        Its state always holds one `optax.ScaleByScheduleState` (see `start_at`) and, with momentum,
        one `optax.TraceState`. Weight decay of 0 adds no transformation.

        Args:
          steps_per_epoch: optimizer steps an epoch.
        """
        decay = [optax.add_decayed_weights(self.weight_decay)] if self.weight_decay else []
        sgd = optax.sgd(
            self.schedule(steps_per_epoch), momentum=self.momentum or None, nesterov=self.nesterov
        )
        return optax.chain(*decay, sgd)


def start_at(opt_state: PyTree, step: int | Int[Array, "*seeds"]) -> PyTree:
    """Return a fresh optimizer state whose schedule continues at ``step`` instead of 0.

    For a retraining that begins in the middle of a recipe. Only schedules are moved; Adam's bias
    correction counts its own moments and stays. The count is state: another step does not
    recompile.

    Args:
      opt_state: any optax state, with or without a leading seed axis.
      step: optimizer steps done before; an integer, or int32 of shape ``(S,)``.

    Raises:
      ValueError: there is no schedule in this state.

    Example:
      >>> import jax.numpy as jnp
      >>> recipe = Recipe()
      >>> state = start_at(recipe.optimizer(10).init({"w": jnp.ones(2)}), 1000)
      >>> int(state[-1][-1].count)
      1000
    """
    found = []

    def is_schedule(node):
        return isinstance(node, optax.ScaleByScheduleState)

    def move(node):
        if not is_schedule(node):
            return node
        found.append(node)
        count = jnp.asarray(step, node.count.dtype)
        return node._replace(count=jnp.broadcast_to(count, node.count.shape))

    moved = jax.tree.map(move, opt_state, is_leaf=is_schedule)
    if not found:
        raise ValueError(
            "The optimizer state holds no schedule to move. Build the optimizer with a schedule "
            "(optax.scale_by_learning_rate of a function, as Recipe.optimizer does)."
        )
    return moved
