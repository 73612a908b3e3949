"""Accuracy as correct / total over a whole set, for every seed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from experiments.data import evaluation_batches
from experiments.training._ahead import Program
from experiments.training._inputs import Mode, check_inputs, pick_mode
from experiments.training._seeds import add_axis, drop_axis, join_seeds, slice_seed
from experiments.training._state import TrainState
from experiments.training._step import Metrics, classify, no_metrics
from wormjax._masks import apply_masks


class Evaluator:
    """Evaluate every seed on one set; made by `evaluator`.

    Attributes:
      mode: ``"loop"`` or ``"scan"``.
    """

    def __init__(
        self, apply: Callable, batch_size: int, prepare: Callable[[Array], Array] | None, mode: Mode
    ):
        self.mode = pick_mode(mode)
        self._apply = apply
        self._batch = batch_size
        self._prepare = prepare
        self._begin = Program(self._plan)
        if self.mode == "loop":
            self._run = Program(self._advance, donate=(4,))
        else:
            self._run = Program(self._whole_set)

    @property
    def compile_seconds(self) -> float:
        """Time spent in tracing and compiling so far, in seconds."""
        return self._begin.seconds + self._run.seconds

    @property
    def programs(self) -> int:
        """Programs compiled so far: values never add one, another shape or structure does."""
        return self._run.count

    def __call__(
        self, state: TrainState, images: Array, labels: Array, masks: PyTree | None = None
    ) -> Metrics:
        """Evaluate every seed.

        Args:
          state: leaves with a leading seed axis ``S``; only ``params`` and ``stats`` are read,
            nothing is donated.
          images: the whole set on the device, ``(N, H, W, C)``.
          labels: int32 of shape ``(N,)``.
          masks: None, or masks with a leading seed axis ``S``.

        Returns:
          `Metrics` of shape ``(S,)``, each row of the set counted exactly once; see `accuracy`.

        Raises:
          TypeError: images or labels lie on the host.
          ValueError: seed axes or lengths disagree.
        """
        seeds = check_inputs(state, images, labels, masks)
        model = (state.params, state.stats, masks)
        if self.mode == "scan":
            return self._run.compiled(model, images, labels)(model, images, labels)
        if seeds == 1:
            return self._loop(model, images, labels)
        return join_seeds([self._loop(slice_seed(model, i), images, labels) for i in range(seeds)])

    def _loop(self, model, images, labels):
        plan, carry = self._begin.compiled(labels)(labels)
        advance = self._run.compiled(model, images, labels, plan, carry)
        for _ in range(plan[0].shape[0]):
            carry = advance(model, images, labels, plan, carry)
        return carry[1]

    def _plan(self, labels):
        plan = evaluation_batches(labels.shape[0], self._batch)
        return jax.tree.map(jnp.asarray, tuple(plan)), (jnp.zeros((), jnp.int32), no_metrics((1,)))

    def _advance(self, model, images, labels, plan, carry):
        """Evaluate one batch of one seed; the seed axis of length 1 exists outside this program only."""
        cursor, total = carry
        batch = jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, cursor, keepdims=False), plan
        )
        metrics = self._batch_metrics(drop_axis(model), images, labels, batch)
        return cursor + 1, jax.tree.map(jnp.add, total, add_axis(metrics))

    def _whole_set(self, model, images, labels):
        plan = jax.tree.map(jnp.asarray, tuple(evaluation_batches(labels.shape[0], self._batch)))

        def one(model):
            def body(total, batch):
                metrics = self._batch_metrics(model, images, labels, batch)
                return jax.tree.map(jnp.add, total, metrics), None

            return jax.lax.scan(body, no_metrics(()), plan)[0]

        return jax.vmap(one)(model)

    def _batch_metrics(self, model, images, labels, batch):
        rows, valid = batch
        return batch_metrics(self._apply, self._prepare, model, images[rows], labels[rows], valid)


def batch_metrics(apply, prepare, model, images, labels, valid) -> Metrics:
    """Evaluate one batch of one seed; ``model`` is its params, stats and masks."""
    params, stats, masks = model
    if prepare is not None:
        images = prepare(images)
    if masks is not None:
        params = apply_masks(params, masks)
    logits, _ = apply(params, stats, images, train=False)
    return classify(logits, labels, valid)


def evaluator(
    apply: Callable,
    *,
    batch_size: int,
    prepare: Callable[[Array], Array] | None = None,
    mode: Mode = "auto",
) -> Evaluator:
    r"""Make a function that evaluates every seed on a whole set.

    The last batch may be ragged: it is padded, and the padding is not counted, so that

    .. math:: \text{accuracy} = \frac{\sum_i \mathbf{1}[\arg\max_c z_{ic} = y_i]}{N}

    and not the mean of the batches' accuracies, as the Early-Bird code has it.

    Args:
      apply: ``apply(params, stats, images, train=False) -> (logits, stats)``.
      batch_size: examples at a time.
      prepare: ``prepare(images) -> images``, the one given to `make_step`.
      mode: ``"loop"``, ``"scan"`` or ``"auto"``, as for `epoch_runner`.

    Returns:
      An `Evaluator`: ``evaluate(state, images, labels, masks=None) -> Metrics`` of shape ``(S,)``.

    Raises:
      ValueError: batch_size is below 1, or an unknown mode.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from experiments.training import accuracy, init_state, stack_seeds
      >>> apply = lambda params, stats, x, train=False: (x @ params["w"], stats)
      >>> state = init_state({"w": jnp.eye(2)}, {}, optax.sgd(0.1), jax.random.key(0))
      >>> evaluate = evaluator(apply, batch_size=2)
      >>> metrics = evaluate(stack_seeds([state]), jnp.eye(2)[jnp.array([0, 1, 1])], jnp.array([0, 1, 0]))
      >>> print(accuracy(metrics))
      [0.6666667]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}. Give at least one example at a time.")
    return Evaluator(apply, batch_size, prepare, mode)


def accuracy(metrics: Metrics) -> Array:
    """Return correct / count, float32 in [0, 1], NaN where nothing was counted.

    Args:
      metrics: sums of any shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from experiments.training import Metrics
      >>> print(accuracy(Metrics(jnp.zeros(1), jnp.array([3]), jnp.array([4]))))
      [0.75]
    """
    return metrics.correct.astype(jnp.float32) / metrics.count.astype(jnp.float32)


def mean_loss(metrics: Metrics) -> Array:
    """Return the mean cross-entropy in nats, float32, NaN where nothing was counted.

    Args:
      metrics: sums of any shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from experiments.training import Metrics
      >>> print(mean_loss(Metrics(jnp.array([3.0]), jnp.array([3]), jnp.array([4]))))
      [0.75]
    """
    return metrics.loss_sum / metrics.count.astype(jnp.float32)
