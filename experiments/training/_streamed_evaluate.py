"""Accuracy as correct / total over a whole stream, for every seed."""

from collections import deque
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from experiments.data import Stream, prefetch
from experiments.training._ahead import Program
from experiments.training._evaluate import batch_metrics
from experiments.training._seeds import add_axis, count_seeds, drop_axis, join_seeds, slice_seed
from experiments.training._state import TrainState
from experiments.training._step import Metrics, no_metrics


class StreamEvaluator:
    """Evaluate every seed on one stream, which is read once; made by `stream_evaluator`."""

    def __init__(
        self,
        apply: Callable,
        prepare: Callable[[Array], Array] | None,
        depth: int,
        sharding: jax.sharding.Sharding | None,
    ):
        self._apply, self._prepare = apply, prepare
        self._depth, self._sharding = depth, sharding
        self._run = Program(self._advance, donate=(1,))

    @property
    def compile_seconds(self) -> float:
        """Time spent in tracing and compiling so far, in seconds."""
        return self._run.seconds

    def __call__(self, state: TrainState, stream: Stream, masks: PyTree | None = None) -> Metrics:
        """Evaluate every seed.

        Args:
          state: leaves with a leading seed axis ``S``; only ``params`` and ``stats`` are read, nothing is
            donated.
          stream: of the split to evaluate.
          masks: None, or masks with a leading seed axis ``S``.

        Returns:
          `Metrics` of shape ``(S,)``, each image counted exactly once; see `accuracy`.

        Raises:
          ValueError: seed axes disagree.
        """
        seeds = count_seeds(state, "the state")
        model = (state.params, state.stats, masks)
        count_seeds(model, "the model with its masks")
        models = [model] if seeds == 1 else [slice_seed(model, i) for i in range(seeds)]
        totals = [no_metrics((1,)) for _ in models]
        program, running = None, deque[jax.Array]()
        for batch in prefetch(stream.once(), depth=self._depth, sharding=self._sharding):
            for i, one in enumerate(models):
                if program is None:
                    program = self._run.compiled(one, totals[i], *batch)
                totals[i], count = program(one, totals[i], *batch)
            running.append(count)
            if len(running) > self._depth:  # see StreamRunner
                running.popleft().block_until_ready()
        return join_seeds(totals)

    def _advance(self, model, total, images, labels, valid):
        """Evaluate one batch of one seed; the seed axis of length 1 exists outside this program only."""
        metrics = batch_metrics(self._apply, self._prepare, drop_axis(model), images, labels, valid)
        return jax.tree.map(jnp.add, total, add_axis(metrics)), metrics.count


def stream_evaluator(
    apply: Callable,
    *,
    prepare: Callable[[Array], Array] | None = None,
    depth: int = 2,
    sharding: jax.sharding.Sharding | None = None,
) -> StreamEvaluator:
    """Make a function that evaluates every seed on a whole `Stream`, as `evaluator` does in memory.

    Args:
      apply: ``apply(params, stats, images, train=False) -> (logits, stats)``.
      prepare: ``prepare(images) -> images``, the one given to `make_step`.
      depth: batches on the device at once; see `prefetch`.
      sharding: of the global batch; None for the default device.

    Returns:
      A `StreamEvaluator`: ``evaluate(state, stream, masks=None) -> Metrics`` of shape ``(S,)``.

    Raises:
      ValueError: depth is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}. At least one batch has to be on the device.")
    return StreamEvaluator(apply, prepare, depth, sharding)
