"""The network, the batch and the recipe that the step benchmarks share, and what carries a step."""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from benchmarks._rows import Row
from benchmarks._timing import compiled
from experiments.models import build, named
from experiments.training import Recipe, init_state, make_step
from wormjax.adapters import View

RECIPE = Recipe()  # of the Early-Bird paper
STEPS_PER_EPOCH = 391  # 50,000 images in batches of 128: it only places the schedule


class Stepper:
    """A compiled, donated step that carries its own state from call to call.

    Args:
      step: ``step(state, *batch) -> (state, anything)``.
      state: where it starts; copied, because a step consumes its buffers.
      *batch: the arrays that every step sees.

    Attributes:
      state: the newest one.
      compile_seconds: what tracing and compiling took.
    """

    def __init__(self, step: Callable[..., tuple[PyTree, Any]], state: PyTree, *batch: Array):
        self.state: Any = jax.tree.map(jnp.copy, state)
        self._batch = batch
        self._step, self.compile_seconds = compiled(step, self.state, *batch, donate=(0,))

    @property
    def costs(self) -> dict[str, float]:
        """What the compiler counts: floating-point operations, bytes; empty where it does not."""
        return self._step.cost_analysis() or {}

    @property
    def text(self) -> str:
        """The compiled program as text; empty where the backend does not say."""
        return self._step.as_text() or ""

    def __call__(self) -> tuple[PyTree, Any]:
        """Take one step; return what it returns."""
        self.state, told = self._step(self.state, *self._batch)
        return self.state, told


class Problem(NamedTuple):
    """A network with images to train it on."""

    view: View
    images: Array
    labels: Array

    def stepper(self, tx: optax.GradientTransformation) -> Stepper:
        """Return the step of `experiments.training` with an optimizer."""
        state = init_state(self.view.params, self.view.state, tx, jax.random.key(1))
        return Stepper(make_step(self.view.apply, tx), state, self.images, self.labels)


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that `problem` reads."""
    flags.add_argument("--batch", type=int, default=128, help="images a step (%(default)s)")
    flags.add_argument("--side", type=int, default=32, help="pixels of a side (%(default)s)")
    flags.add_argument(
        "--blocks", type=int, default=3, help="blocks a stage; 3 is ResNet-20 (%(default)s)"
    )
    flags.add_argument(
        "--widths",
        type=int,
        nargs="+",
        default=(16, 32, 64),
        help="channels of each stage (%(default)s)",
    )


def problem(args: argparse.Namespace) -> Problem:
    """Build a CIFAR ResNet and one random batch."""
    config = named("resnet20", blocks=args.blocks, widths=args.widths)
    images, labels = jax.random.split(jax.random.key(0))
    return Problem(
        build(config, jax.random.key(2)),
        jax.random.normal(images, (args.batch, args.side, args.side, 3)),
        jax.random.randint(labels, (args.batch,), 0, 10, dtype=jnp.int32),
    )


def cost_rows(name: str, over: Stepper, under: Stepper, target: float) -> list[Row]:
    """Compare what the compiler counts of two steps, which needs no clock."""
    pairs = {k: (over.costs.get(k, 0), under.costs.get(k, 0)) for k in ("flops", "bytes accessed")}
    return [
        Row.counted(f"{key} {name}", *pair, target=target)
        for key, pair in pairs.items()
        if min(pair) > 0  # a backend may not count
    ]
