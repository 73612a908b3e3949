"""What a ticket's network costs by the clock: dense, masked, shrunk, and the same one built narrow."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments.models import ModelConfig, abstract, narrowed
from experiments.training import Network, Program, TrainState
from experiments.worm._config import Arm
from experiments.worm._setup import Setup
from experiments.worm._shrunk import Shrunk
from wormjax.evaluation import latency

BUDGET = 20.0  # seconds after which no new round of a measurement begins
WARM_UP = 3  # rounds
STEPS = {"loop": 1, "scan": 20}  # a timed program takes as many: an accelerator trains by scans


class SpeedTest:
    """Times the networks of one ticket after another; what they share is compiled once.

    Args:
      setup: data, model and settings.
    """

    def __init__(self, setup: Setup):
        self._setup = setup
        self._full = _Timed(setup, setup.full)
        self._narrow: dict[ModelConfig, _Timed] = {}
        self._spent = 0.0

    @property
    def compile_seconds(self) -> float:
        """Time that compiling took so far."""
        shared = (self._full, *self._narrow.values())
        return self._spent + sum(timed.compile_seconds for timed in shared)

    def record(self, arm: Arm, seed: int, small: Shrunk) -> dict:
        """Compare, then time.

        Args:
          arm: the arm's name.
          seed: the seed.
          small: its shrunk network.

        Returns:
          A record of kind ``"speed"``: sizes, what is lost, the largest difference between shrunk and masked logits,
          and the seconds of every round.

        Raises:
          ValueError: the shrunk network cannot run, or is not the masked one.
        """
        drawn, ticket = small.drawn, small.ticket
        full, shrunk = self._full, _Timed(self._setup, self._setup.network(small.apply))
        running = {
            "dense": full.start(drawn.params, drawn.stats),
            "masked": full.start(small.pruned, drawn.stats, drawn.masks),
            "shrunk": shrunk.start(ticket.params, ticket.state, small.masks),
        }
        native, why = self._native(small)
        if native is not None:
            running["narrow"] = native.start(ticket.params, ticket.state)
        difference = _difference(running["shrunk"].infer(), running["masked"].infer())
        _check(difference, self._setup.config.compute)
        timed = functools.partial(
            latency, rounds=self._setup.config.speed_rounds, warmup=WARM_UP, budget=BUDGET
        )
        steps = timed({name: r.train for name, r in running.items()})
        calls = timed({name: r.infer for name, r in running.items()})
        self._spent += shrunk.compile_seconds
        taken = STEPS[self._setup.mode]
        return {
            "kind": "speed",
            "arm": arm,
            "seed": seed,
            "widths": {g.name: [g.size, small.plan.widths[g.name]] for g in self._setup.groups},
            "parameters": list(small.plan.parameters),
            "macs": list(small.plan.macs),
            "losses": {n: [v.kind, v.why] for n, v in small.plan.losses.items()},
            "still_masked": _count_pruned(small.masks),
            "difference": difference,
            "no_narrow": why,
            "step_seconds": {n: [s / taken for s in times] for n, times in steps.seconds.items()},
            "inference_seconds": dict(calls.seconds),
        }

    def _native(self, small: Shrunk) -> tuple["_Timed | None", str]:
        """Return the same narrow network from scratch, or why there is none."""
        try:
            config = narrowed(self._setup.model, small.ticket.widths)
        except (TypeError, ValueError) as error:
            return None, str(error)
        if config not in self._narrow:  # tickets of the same widths share it
            self._narrow[config] = _Timed(self._setup, self._setup.network(abstract(config).apply))
        return self._narrow[config], ""


class _Timed:
    """The programs of one network that are timed: training steps on one batch, and inference of one."""

    def __init__(self, setup: Setup, network: Network):
        self._setup = setup
        self._tx = setup.retrain_tx
        step, steps = network.step(self._tx), STEPS[setup.mode]

        def train(state, images, labels, masks):
            def body(state, _):
                return step(state, images, labels, masks)

            if steps == 1:
                return step(state, images, labels, masks)
            return jax.lax.scan(body, state, length=steps)

        def infer(params, stats, images, masks):
            used = params if masks is None else wj.apply_masks(params, masks)
            return network.apply(used, stats, images, train=False)[0]

        self._train, self._infer = Program(train, donate=(0,)), Program(infer)

    @property
    def compile_seconds(self) -> float:
        return self._train.seconds + self._infer.seconds

    def start(self, params: PyTree, stats: PyTree, masks: PyTree | None = None) -> "_Running":
        """Compile for arrays like these, and begin with a copy of them.

        What the optimizer holds is zero: no time depends on it.
        """
        rows = self._setup.config.batch_size
        images, labels = (x[:rows] for x in self._setup.train)
        prepared = self._setup.prepare(images)
        opt_state = jax.tree.map(_zeros, jax.eval_shape(self._tx.init, params))
        params_copy, stats_copy, epoch, step = jax.tree.map(
            _copy, (params, stats, np.int32(0), np.int32(0))
        )
        state = TrainState(params_copy, stats_copy, opt_state, jax.random.key(0), epoch, step)
        train = self._train.compiled(state, images, labels, masks)
        infer = self._infer.compiled(params, stats, prepared, masks)
        return _Running(
            state,
            lambda state: train(state, images, labels, masks),
            functools.partial(infer, params, stats, prepared, masks),
        )


class _Running:
    """One network that is being timed; it carries its state from step to step.

    Attributes:
      infer: returns the logits of one batch.
    """

    def __init__(self, state: TrainState, train: Callable, infer: Callable[[], Any]):
        self._state, self._train = state, train
        self.infer = infer

    def train(self) -> Any:
        """Take the program's steps on one batch."""
        self._state, metrics = self._train(self._state)
        return self._state, metrics


def _copy(x: Any) -> jax.Array:
    """Copy without compiling a program for every shape; training donates its buffers."""
    return jnp.array(np.asarray(x))


def _zeros(like: jax.ShapeDtypeStruct) -> jax.Array:
    return _copy(np.zeros(like.shape, like.dtype))


def _difference(got: Any, want: Any) -> float:
    """Return the largest difference over the largest entry."""
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    return float(np.abs(got - want).max() / max(np.abs(want).max(), np.finfo(np.float32).tiny))


def _check(difference: float, compute: str) -> None:
    """Raise where shrunk and masked logits differ by more than rounding."""
    exact = (
        compute == "float32" and jax.default_backend() == "cpu"
    )  # accelerators round to TF32 or bfloat16
    if not difference <= (1e-4 if exact else 0.1):
        raise ValueError(
            f"The shrunk network's logits differ from the masked one's by {difference:.1e} of the largest: it is "
            "another network. Please report this with the configuration of the run."
        )


def _count_pruned(masks: PyTree | None) -> int:
    return sum(int(mask.size - np.asarray(mask).sum()) for mask in jax.tree.leaves(masks))
