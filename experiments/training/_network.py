"""The compiled programs of one network: epochs of training, and evaluation."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import optax
from jaxtyping import Array, PyTree

from experiments.training._drivers import EpochRunner, epoch_runner
from experiments.training._evaluate import evaluator
from experiments.training._inputs import Mode
from experiments.training._state import TrainState
from experiments.training._step import Step, make_step


class Network:
    """A network that trains and is judged: the full one, or what a ticket leaves of it.

    Programs are compiled once and serve every arm and seed of these shapes.

    Args:
      apply: ``apply(params, stats, images, train=False) -> (logits, stats)``.
      prepare: what stands between stored images and the network.
      held_out: images and labels of every split that is evaluated, on the device.
      batch_size: examples a training step.
      augment: ``(images, key) -> images`` on the device, or None.
      driver: how an epoch runs.
    """

    def __init__(
        self,
        apply: Callable,
        prepare: Callable[[Array], Array],
        held_out: Mapping[str, tuple[Array, Array]],
        *,
        batch_size: int,
        augment: Callable | None = None,
        driver: Mode = "auto",
    ):
        self.apply = apply
        self._prepare, self._held_out = prepare, held_out
        self._batch_size, self._augment, self._driver = batch_size, augment, driver
        self._runners: dict[str, EpochRunner] = {}
        self._evaluate = evaluator(apply, batch_size=500, prepare=prepare, mode=driver)

    def step(self, tx: optax.GradientTransformationExtraArgs) -> Step:
        """Return the training step with an optimizer."""
        return make_step(self.apply, tx, augment=self._augment, prepare=self._prepare)

    def runner(self, name: str, tx: optax.GradientTransformationExtraArgs) -> EpochRunner:
        """Return the one runner of that name; chains of one name differ in numbers of their state only."""
        if name not in self._runners:
            self._runners[name] = epoch_runner(
                self.step(tx), batch_size=self._batch_size, mode=self._driver
            )
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
