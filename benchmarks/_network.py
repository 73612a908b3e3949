"""The network, the batch and the optimizer that the step benchmarks share."""

import argparse
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from experiments.models import build, named
from experiments.training import Recipe, TrainState, init_state
from wormjax.adapters import View

STEPS_PER_EPOCH = 391  # 50,000 images in batches of 128: it only places the schedule


class Problem(NamedTuple):
    """A network with images to train it on, and the plain recipe."""

    view: View
    images: Array
    labels: Array
    recipe: optax.GradientTransformation

    def state(self, tx: optax.GradientTransformation) -> TrainState:
        """Return a state whose buffers are its own, so that a step may consume them."""
        state = init_state(self.view.params, self.view.state, tx, jax.random.key(1))
        return jax.tree.map(jnp.copy, state)


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that `problem` reads."""
    flags.add_argument("--batch", type=int, default=128, help="images a step (%(default)s)")
    flags.add_argument("--side", type=int, default=32, help="pixels of a side (%(default)s)")
    flags.add_argument(
        "--blocks", type=int, default=3, help="blocks a stage; 3 is ResNet-20 (%(default)s)"
    )


def problem(args: argparse.Namespace) -> Problem:
    """Build a CIFAR ResNet, one random batch and the recipe of the Early-Bird paper."""
    config = dataclasses.replace(named("resnet20"), blocks=args.blocks)
    images, labels = jax.random.split(jax.random.key(0))
    return Problem(
        build(config, jax.random.key(2)),
        jax.random.normal(images, (args.batch, args.side, args.side, 3)),
        jax.random.randint(labels, (args.batch,), 0, 10, dtype=jnp.int32),
        Recipe().optimizer(STEPS_PER_EPOCH),
    )
