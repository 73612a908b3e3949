"""One epoch of a step function over batches that come from a stream."""

import dataclasses
from collections import deque
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from experiments.data import Position, Stream, prefetch
from experiments.training._ahead import Program
from experiments.training._drivers import check_unchanged, order_key
from experiments.training._seeds import add_axis, count_seeds, drop_axis
from experiments.training._state import TrainState
from experiments.training._step import Metrics, Step, no_metrics

Save = Callable[[TrainState, Metrics, Position], object]


class StreamRunner:
    """Train one seed for one epoch of a stream; made by `stream_runner`.

    Attributes:
      compile_seconds: time spent in tracing and compiling so far, in seconds.
    """

    def __init__(self, step: Step, depth: int, sharding: jax.sharding.Sharding | None):
        self._step = step
        self._depth = depth
        self._sharding = sharding
        self._run = Program(self._advance, donate=(0, 1))

    @property
    def compile_seconds(self) -> float:
        """Time spent in tracing and compiling so far, in seconds."""
        return self._run.seconds

    @property
    def programs(self) -> int:
        """Step programs compiled so far: values never add one, another shape or structure does."""
        return self._run.count

    def __call__(
        self,
        state: TrainState,
        stream: Stream,
        masks: PyTree | None = None,
        *,
        start: int = 0,
        total: Metrics | None = None,
        every: int | None = None,
        save: Save | None = None,
    ) -> tuple[TrainState, Metrics]:
        """Train for one epoch, or for the rest of one.

        Args:
          state: leaves with a leading seed axis of length 1. It is **consumed**: its buffers are donated.
          stream: of the training split.
          masks: None, or masks with a leading seed axis of length 1.
          start: step of the epoch to begin with: of a saved position.
          total: `Metrics` of the epoch so far, as saved; consumed. None begins with nothing.
          every: steps of an epoch between two calls of `save`; None for no call.
          save: ``save(state, total, position)``, to write a checkpoint: what it is given is consumed by the
            next step, so it has to have read it when it returns. Not called at the end of the epoch.

        Returns:
          The state after the epoch, its ``epoch`` one higher, and `Metrics` of shape ``(1,)`` summed over
          the epoch, as from `epoch_runner` bit for bit where that runs in mode ``"loop"``. The last steps
          have not been waited for.

        Raises:
          ValueError: more than one seed, no such step, saved metrics that are missing or too many, or the
            step changes a dtype.
        """
        self._check(state, masks, start, total, every, save)
        total = no_metrics((1,)) if total is None else total
        key, epoch = _order_of(state.key), int(state.epoch[0])
        batches = stream.epoch(key, epoch, start=start)
        program, running = None, deque[jax.Array]()
        for images, labels, after in prefetch(batches, depth=self._depth, sharding=self._sharding):
            if program is None:
                program = self._prepare(state, total, images, labels, masks)
            state, total, count = program(state, total, images, labels, masks)
            running.append(count)
            if len(running) > self._depth:
                # not for the newest step, which leaves the device busy, but for one that is older: a loop
                # that ran on would fill the device with batches
                running.popleft().block_until_ready()
            if save is not None and every and after.epoch == epoch and after.step % every == 0:
                save(state, total, after)
        return dataclasses.replace(state, epoch=_next(state.epoch)), total

    def _advance(self, state, total, images, labels, masks):
        """Take one step; the seed axis of length 1 exists outside this program only."""
        new, metrics = self._step(drop_axis(state), images, labels, drop_axis(masks))
        total = jax.tree.map(jnp.add, total, add_axis(metrics))
        return add_axis(new), total, metrics.count

    def _prepare(self, *args):
        known = self._run.count
        program = self._run.compiled(*args)
        if self._run.count > known:
            check_unchanged(args[0], program.out_info[0])
        return program

    def _check(self, state, masks, start, total, every, save):
        for tree, what in ((state, "the state"), (masks, "the tree of masks")):
            seeds = 1 if tree is None else count_seeds(tree, what)
            if seeds != 1:
                raise ValueError(
                    f"{what} is for {seeds} seeds. Each seed has its own data order: stream one seed at a "
                    "time, stack_seeds([take_seed(state, i)])."
                )
        if (start > 0) != (total is not None):
            raise ValueError(
                f"start is {start} and total is {'missing' if total is None else 'given'}. In the middle of an "
                "epoch pass both as they were saved, at its beginning neither."
            )
        if (every is None) != (save is None) or (every is not None and every < 1):
            raise ValueError(f"every is {every}, save is {save}. Pass both, and at least one step.")


def stream_runner(
    step: Step, *, depth: int = 2, sharding: jax.sharding.Sharding | None = None
) -> StreamRunner:
    """Make a function that trains one seed for one epoch of a `Stream`.

    A Python loop starts one jitted, donated step a batch and waits only for steps that are `depth` behind,
    so that the device computes while the next batch is decoded and travels. Step, order and metrics are
    those of `epoch_runner`.

    Args:
      step: what `make_step` returns: pure, one seed.
      depth: batches on the device at once; see `prefetch`.
      sharding: of the global batch; None for the default device.

    Returns:
      A `StreamRunner`: ``runner(state, stream, masks=None) -> (state, metrics)``.

    Raises:
      ValueError: depth is below 1.

    Example:
      >>> run = stream_runner(make_step(apply, tx))  # doctest: +SKIP
      >>> state, metrics = run(  # doctest: +SKIP
      ...     state, stream, every=1000, save=lambda s, m, p: store.save((s, m), p._asdict())
      ... )
      >>> (state, total), position = store.restore((state, metrics))  # doctest: +SKIP
      >>> state, metrics = run(state, stream, start=position["step"], total=total)  # doctest: +SKIP
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}. At least one batch has to be on the device.")
    return StreamRunner(step, depth, sharding)


@jax.jit
def _order_of(key):
    return order_key(key[0])


@jax.jit
def _next(epoch):
    return epoch + 1
