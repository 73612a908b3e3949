"""One epoch of a step function, dispatched by a Python loop or as one `lax.scan`.

On accelerators an epoch is one scan and seeds are one vmap. On XLA:CPU a convolution's gradient
inside a `while` loop is about thirty times slower and a vmap over three seeds costs twelve times
one, so there a Python loop dispatches one jitted program a step, and seeds run one after another.
Both donate the state and leave everything on the device until the caller reads a number.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from experiments.data import epoch_order
from experiments.training._ahead import Program
from experiments.training._inputs import Mode, check_inputs, pick_mode
from experiments.training._seeds import add_axis, drop_axis, join_seeds, slice_seed
from experiments.training._state import TrainState
from experiments.training._step import Metrics, Step, no_metrics
from wormjax._paths import path_name

# a step counter is an int32 and never gets here: no order shares a key with an augmentation
_ORDER = 2**32 - 1


def order_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """Return the key from which a seed's data order is drawn, one epoch after another.

    Args:
      key: the key of a `TrainState`.

    Returns:
      The key to give to `experiments.data.epoch_order`.

    Example:
      >>> import jax
      >>> order_key(jax.random.key(0)).shape
      ()
    """
    return jax.random.fold_in(key, _ORDER)


class _Progress(NamedTuple):
    """Where an epoch stands: the next batch and the sums so far, carried and donated like the state."""

    cursor: Int[Array, ""]
    total: Metrics


class EpochRunner:
    """Run one epoch of every seed; made by `epoch_runner`.

    Attributes:
      mode: ``"loop"`` or ``"scan"``.
    """

    def __init__(self, step: Step, batch_size: int, steps_per_epoch: int | None, mode: Mode):
        self.mode = pick_mode(mode)
        self._step = step
        self._batch = batch_size
        self._steps = steps_per_epoch
        self._begin = Program(self._begin_epoch)
        if self.mode == "loop":
            self._run = Program(self._advance, donate=(0, 1))
        else:
            self._run = Program(self._whole_epoch, donate=(0,))

    @property
    def compile_seconds(self) -> float:
        """Time spent in tracing and compiling so far, in seconds."""
        return self._begin.seconds + self._run.seconds

    @property
    def programs(self) -> int:
        """Step programs compiled so far: values never add one, another shape or structure does."""
        return self._run.count

    def compile(
        self, state: TrainState, images: Array, labels: Array, masks: PyTree | None = None
    ) -> float:
        """Compile for arguments like these; nothing is trained and nothing is donated.

        Args:
          state: as for a call.
          images: as for a call.
          labels: as for a call.
          masks: as for a call.

        Returns:
          Seconds that this took; 0.0 when the program was there already.
        """
        before = self.compile_seconds
        seeds = self._check(state, images, labels, masks)
        if self.mode == "scan":
            self._run.compiled(state, images, labels, masks)
        else:
            if seeds > 1:
                state, masks = slice_seed(state, 0), slice_seed(masks, 0)
            self._prepare(state, images, labels, masks)
        return self.compile_seconds - before

    def __call__(
        self, state: TrainState, images: Array, labels: Array, masks: PyTree | None = None
    ) -> tuple[TrainState, Metrics]:
        """Train every seed for one epoch.

        Args:
          state: leaves with a leading seed axis ``S``. It is **consumed**: its buffers are donated.
          images: the whole training set on the device, ``(N, H, W, C)``, shared by the seeds.
          labels: int32 of shape ``(N,)``.
          masks: None, or masks with a leading seed axis ``S`` (a leaf that is never pruned has
            shape ``(S,)``).

        Returns:
          The state after the epoch, its ``epoch`` one higher, and `Metrics` of shape ``(S,)``
          summed over the epoch. Nothing has been waited for: `jax.block_until_ready` before reading
          a clock.

        Raises:
          TypeError: images or labels lie on the host.
          ValueError: seed axes or lengths disagree, the set is smaller than the epoch, or the step
            changes a dtype.
        """
        seeds = self._check(state, images, labels, masks)
        if self.mode == "scan":
            return self._run.compiled(state, images, labels, masks)(state, images, labels, masks)
        if seeds == 1:
            return self._loop(state, images, labels, masks)
        pieces = [(slice_seed(state, i), slice_seed(masks, i)) for i in range(seeds)]
        for leaf in jax.tree.leaves(state):
            leaf.delete()  # as donation would: a caller who keeps the old state learns it here too
        return join_seeds([self._loop(piece, images, labels, mask) for piece, mask in pieces])

    def _loop(self, state, images, labels, masks):
        """Dispatch every step of one seed without waiting for any."""
        advance, order, progress = self._prepare(state, images, labels, masks)
        for _ in range(order.shape[0]):
            state, progress = advance(state, progress, order, images, labels, masks)
        return state, progress.total

    def _prepare(self, state, images, labels, masks):
        """Draw the order and return it with the program of one step."""
        start = (state.key, state.epoch, labels)
        order, progress = self._begin.compiled(*start)(*start)
        known = self._run.count
        program = self._run.compiled(state, progress, order, images, labels, masks)
        if self._run.count > known:
            check_unchanged(state, program.out_info[0])
        return program, order, progress

    def _order(self, key, epoch, labels):
        """Return one seed's batches of this epoch, int32 of shape ``(steps, batch)``."""
        order = epoch_order(order_key(key), epoch, size=labels.shape[0], batch=self._batch)
        return order if self._steps is None else order[: self._steps]

    def _begin_epoch(self, key, epoch, labels):
        order = self._order(key[0], epoch[0], labels)
        return order, _Progress(jnp.zeros((), jnp.int32), no_metrics((1,)))

    def _advance(self, state, progress, order, images, labels, masks):
        """Take one step of one seed; the seed axis of length 1 exists outside this program only."""
        rows = jax.lax.dynamic_index_in_dim(order, progress.cursor, keepdims=False)
        new, metrics = self._step(drop_axis(state), images[rows], labels[rows], drop_axis(masks))
        cursor = progress.cursor + 1
        finished = (cursor == order.shape[0]).astype(jnp.int32)
        new = dataclasses.replace(new, epoch=new.epoch + finished)
        total = jax.tree.map(jnp.add, progress.total, add_axis(metrics))
        return add_axis(new), _Progress(cursor, total)

    def _whole_epoch(self, state, images, labels, masks):
        """Scan over the steps of an epoch, all seeds at once."""

        def one(state, masks):
            def body(carry, rows):
                state, total = carry
                state, metrics = self._step(state, images[rows], labels[rows], masks)
                return (state, jax.tree.map(jnp.add, total, metrics)), None

            order = self._order(state.key, state.epoch, labels)
            (state, total), _ = jax.lax.scan(body, (state, no_metrics(())), order)
            return dataclasses.replace(state, epoch=state.epoch + 1), total

        if state.step.shape[0] == 1:
            # no vmap over a single seed: it would turn a conditional on a counter into a select
            return add_axis(one(drop_axis(state), drop_axis(masks)))
        return jax.vmap(one)(state, masks)

    def _check(self, state, images, labels, masks):
        seeds = check_inputs(state, images, labels, masks)
        rows, steps = labels.shape[0], self._steps or 1
        if steps * self._batch > rows:
            raise ValueError(
                f"An epoch of {steps} x {self._batch} examples does not fit into a set of {rows}. "
                "Lower batch_size or steps_per_epoch."
            )
        return seeds


def epoch_runner(
    step: Step, *, batch_size: int, steps_per_epoch: int | None = None, mode: Mode = "auto"
) -> EpochRunner:
    """Make a function that trains every seed for one epoch.

    Each seed walks through the set in its own order, drawn from its key and its epoch, and leaves
    out the ragged rest, another one each epoch. The data lie on the device, and so do the sums: no
    number reaches the host.

    Args:
      step: what `make_step` returns: pure, one seed.
      batch_size: examples a step.
      steps_per_epoch: steps an epoch; None takes as many whole batches as there are.
      mode: ``"loop"`` (CPU), ``"scan"`` (accelerators), or ``"auto"``, which asks
        `jax.default_backend`.

    Returns:
      An `EpochRunner`: ``runner(state, images, labels, masks=None) -> (state, metrics)``, with
      ``runner.compile``, ``runner.compile_seconds`` and ``runner.programs`` to tell compile time
      from run time.

    Raises:
      ValueError: a number below 1, or an unknown mode.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from experiments.training import init_state, make_step, stack_seeds
      >>> apply = lambda params, stats, x, train=False: (x @ params["w"], stats)
      >>> tx = optax.sgd(0.1)
      >>> state = stack_seeds([init_state({"w": jnp.zeros((2, 2))}, {}, tx, jax.random.key(0))])
      >>> run = epoch_runner(make_step(apply, tx), batch_size=2)
      >>> state, metrics = run(state, jnp.ones((5, 2)), jnp.zeros(5, jnp.int32))
      >>> int(state.epoch[0]), int(state.step[0]), int(metrics.count[0]), run.programs
      (1, 2, 4, 1)
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}. Give at least one example a step.")
    if steps_per_epoch is not None and steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch is {steps_per_epoch}. An epoch has at least one step.")
    return EpochRunner(step, batch_size, steps_per_epoch, mode)


def check_unchanged(state, after):
    """Raise when a step would give its state back with another structure, shape or dtype."""
    structures: tuple[Any, Any] = (jax.tree.structure(state), jax.tree.structure(after))
    if structures[0] != structures[1]:
        raise ValueError(
            f"The step changes the structure of its state from {structures[0]} to "
            f"{structures[1]}. The model and the optimizer must return "
            "what they were given."
        )
    before = jax.tree_util.tree_leaves_with_path(state)
    for (path, x), y in zip(before, jax.tree.leaves(after), strict=True):
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            raise ValueError(
                f"The step changes {path_name(path)!r} from {x.dtype}{list(x.shape[1:])} to "
                f"{y.dtype}{list(y.shape[1:])}. The model and the optimizer must keep "
                "shapes and dtypes: cast there."
            )
