"""The compiled programs of one network: epochs of training, and evaluation."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import optax
from jaxtyping import Array, PyTree

from experiments.data import pad_crop_flip
from experiments.training import EpochRunner, Step, TrainState, epoch_runner, evaluator, make_step
from experiments.worm._config import WormConfig


class Network:
    """A network that trains and is judged: the full one, or what a ticket leaves of it.

    Programs are compiled once and serve every arm and seed of these shapes.

    Args:
      config: the run's config.
      apply: ``apply(params, stats, images, train=False) -> (logits, stats)``.
      prepare: what stands between stored images and the network.
      held_out: images and labels of every split that is evaluated, on the device.
    """

    def __init__(
        self,
        config: WormConfig,
        apply: Callable,
        prepare: Callable[[Array], Array],
        held_out: Mapping[str, tuple[Array, Array]],
    ):
        self.apply = apply
        self._config, self._prepare, self._held_out = config, prepare, held_out
        self._runners: dict[str, EpochRunner] = {}
        self._evaluate = evaluator(apply, batch_size=500, prepare=prepare, mode=config.driver)

    def step(self, tx: optax.GradientTransformationExtraArgs) -> Step:
        """Return the training step with an optimizer."""
        augment = pad_crop_flip if self._config.augment else None
        return make_step(self.apply, tx, augment=augment, prepare=self._prepare)

    def runner(self, name: str, tx: optax.GradientTransformationExtraArgs) -> EpochRunner:
        """Return the one runner of that name; chains of one name differ in numbers of their state only."""
        if name not in self._runners:
            batch, mode = self._config.batch_size, self._config.driver
            self._runners[name] = epoch_runner(self.step(tx), batch_size=batch, mode=mode)
        return self._runners[name]

    def held_out(self, state: TrainState, masks: PyTree | None = None) -> dict[str, np.ndarray]:
        """Return the accuracy on every split, float64 ``(S,)`` each; waits for them."""
        found = {
            name: self._evaluate(state, images, labels, masks)
            for name, (images, labels) in self._held_out.items()
        }
        # on the host: 140 of 200 in float32 falls below a target of 0.7
        return {name: m.correct / m.count for name, m in jax.device_get(found).items()}

    @property
    def compile_seconds(self) -> float:
        """Time that compiling took so far."""
        runners = self._runners.values()
        return self._evaluate.compile_seconds + sum(r.compile_seconds for r in runners)
