"""The bench of the main job: its arms' optimizers and programs."""

from collections.abc import Sequence

import jax
import optax

from experiments.channels import Bench
from experiments.training import EpochRunner, TrainState, init_state, stack_seeds
from experiments.worm._arms import arm_rules, search_optimizer
from experiments.worm._config import WormConfig
from experiments.worm._pruning import pruner


class Setup(Bench[WormConfig]):
    """Data, model and programs of one run of the main job.

    Programs are compiled once and serve every arm and seed: arms differ in numbers inside the optimizer
    state, not in code, except where the truncation stands.
    """

    def check(self) -> None:
        """Raise on a setting that an arm's optimizer refuses."""
        self.prune = pruner(self.config)
        for arm in self.config.all_arms:
            search_optimizer(
                self.config, arm_rules(self.config, arm, jax.random.key(0)), self.steps
            )

    @property
    def cohorts(self) -> list[list[int]]:
        """Seeds that run together; one after another where the shrunk networks are retrained.

        No two of those have the same shapes.
        """
        if self.config.retrain == "masked":
            return super().cohorts
        return [[seed] for seed in self.config.seed_numbers]

    @property
    def retrain_tx(self) -> optax.GradientTransformationExtraArgs:
        """The chain that retraining runs with."""
        return self.tx

    def start_search(self, arm: str, seeds: Sequence[int]) -> TrainState:
        """Return the stacked state of seeds before their first step."""
        states = []
        for seed in seeds:
            key = jax.random.key(seed)
            _, params, stats = self.weights(key)
            tx = search_optimizer(self.config, arm_rules(self.config, arm, key), self.steps)
            states.append(init_state(params, stats, tx, key))
        return stack_seeds(states)

    def search_runner(self, arm: str) -> EpochRunner:
        """Return the runner whose program trains with an arm's chain."""
        rules = arm_rules(self.config, arm, jax.random.key(0))
        tx = search_optimizer(self.config, rules, self.steps)
        return self.full.runner("search, truncating last" if rules.last else "search", tx)
