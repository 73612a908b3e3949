"""One optimizer step of one seed, as a pure function."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from experiments.training._state import TrainState
from wormjax._masks import apply_masks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Metrics:
    """Sums over examples, so that batches of any size add up.

    Attributes:
      loss_sum: summed cross-entropy in nats, float32.
      correct: number of right first guesses, int32.
      count: number of examples, int32.
    """

    loss_sum: Float[Array, "*seeds"]
    correct: Int[Array, "*seeds"]
    count: Int[Array, "*seeds"]


def no_metrics(shape: tuple[int, ...]) -> Metrics:
    """Return sums over nothing."""
    return Metrics(
        jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32)
    )


class Step(Protocol):
    """A training step of one seed: what `make_step` returns and the drivers run."""

    def __call__(
        self, state: TrainState, images: Array, labels: Array, masks: PyTree | None = None, /
    ) -> tuple[TrainState, Metrics]: ...


def classify(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, "batch"],
    valid: Bool[Array, "batch"] | None = None,
) -> Metrics:
    r"""Softmax cross-entropy and right guesses, summed over a batch.

    .. math:: L = \sum_i \Big( \log \sum_c e^{z_{ic}} - z_{i y_i} \Big)

    Args:
      logits: any float dtype; the loss is computed in float32.
      labels: class indices, int32.
      valid: which rows count; all of them when None.

    Returns:
      `Metrics` of scalars.

    Example:
      >>> import jax.numpy as jnp
      >>> m = classify(jnp.array([[2.0, 0.0], [2.0, 0.0]]), jnp.array([0, 1]))
      >>> print(f"{m.loss_sum:.4f}", int(m.correct), int(m.count))
      2.2539 1 2
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    right = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels
    if valid is None:
        count = jnp.asarray(labels.shape[0], jnp.int32)
    else:
        # select, not multiply: a NaN in a row of padding must not reach the sum
        losses = jnp.where(valid, losses, jnp.zeros((), jnp.float32))
        right, count = right & valid, jnp.sum(valid, dtype=jnp.int32)
    return Metrics(jnp.sum(losses), jnp.sum(right, dtype=jnp.int32), count)


def make_step(
    apply: Callable,
    tx: optax.GradientTransformation | optax.GradientTransformationExtraArgs,
    *,
    augment: Callable[[Key[Array, ""], Array], Array] | None = None,
    prepare: Callable[[Array], Array] | None = None,
    penalty: Callable[[PyTree], Float[Array, ""]] | None = None,
) -> Step:
    r"""Build the training step of one seed.

    .. math::
        g = \nabla_\theta \Big[ \tfrac{1}{B} \sum_i \mathrm{CE}\big(f(m \odot \theta, x_i), y_i\big)
        + \Omega(m \odot \theta) \Big]

    The masks stand inside the loss (`wormjax.apply_masks`), so a pruned entry has an exactly zero
    gradient and whatever value it holds does not matter. The step is pure and neither jitted nor
    donated: the drivers do that.

    Args:
      apply: ``apply(params, stats, images, train=True) -> (logits, new_stats)``.
      tx: any optax transformation; called as ``tx.update(grads, opt_state, params)``.
      augment: ``augment(key, images) -> images``; the key is ``fold_in(state.key, state.step)``, so
        it depends on the seed and the step and not on how the run was cut into epochs or resumed.
      prepare: ``prepare(images) -> images`` after it, for example normalisation; give the same one
        to `evaluator`.
      penalty: ``penalty(params) -> scalar`` added to the objective and not to the reported loss (an
        L1 pull).

    Returns:
      ``step(state, images, labels, masks=None) -> (state, Metrics)``. ``masks=None`` trains densely
      and is another program than a tree of masks; the values of the masks never recompile.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from experiments.training import init_state
      >>> apply = lambda params, stats, x, train=False: (x @ params["w"], stats)
      >>> tx = optax.sgd(1.0)
      >>> state = init_state({"w": jnp.zeros((2, 2))}, {}, tx, jax.random.key(0))
      >>> state, metrics = make_step(apply, tx)(state, jnp.eye(2), jnp.array([0, 1]))
      >>> print(state.params["w"])
      [[ 0.25 -0.25]
       [-0.25  0.25]]
    """

    def step(state, images, labels, masks=None):
        if augment is not None:
            images = augment(jax.random.fold_in(state.key, state.step), images)
        if prepare is not None:
            images = prepare(images)

        def objective(params):
            used = params if masks is None else apply_masks(params, masks)
            logits, stats = apply(used, state.stats, images, train=True)
            metrics = classify(logits, labels)
            loss = metrics.loss_sum / labels.shape[0]
            return loss if penalty is None else loss + penalty(used), (stats, metrics)

        grads, (stats, metrics) = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = dataclasses.replace(
            state, params=params, stats=stats, opt_state=opt_state, step=state.step + 1
        )
        return state, metrics

    return step
