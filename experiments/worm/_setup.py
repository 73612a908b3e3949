"""What all arms share: data on the device, the model, its channel groups and compiled programs."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from experiments.data import check_disjoint, load, normalise
from experiments.models import abstract, build, sized
from experiments.training import (
    EpochRunner,
    TrainState,
    init_state,
    pick_mode,
    stack_seeds,
    start_at,
)
from experiments.worm._arms import arm_rules, retrain_optimizer, search_optimizer
from experiments.worm._config import Arm, WormConfig
from experiments.worm._network import Network
from wormjax._selection import ranked, ranked_names
from wormjax.adapters import View
from wormjax.evaluation import macs
from wormjax.structure import Groups, find_groups

_WEIGHTS = 2**31 + 5  # folded into a seed's key; apart from steps, whose keys draw the augmentation


class Setup:
    """Data, model and programs of one run of the main job.

    Programs are compiled once and serve every arm and seed: arms differ in numbers inside the optimizer
    state, not in code, except where the truncation stands.
    """

    def __init__(self, config: WormConfig):
        self.config = config
        self._networks: list[Network] = []
        data = load(config.data, split_seed=config.split_seed, limit=config.limit)
        check_disjoint(data)
        self.splits = {name: split.size for name, split in data.splits.items()}
        self.origin = data.origin
        self.train: tuple[Array, Array] = jax.device_put((data.train.images, data.train.labels))
        self._held_out = {
            "validation": jax.device_put((data.validation.images, data.validation.labels)),
            "test": jax.device_put((data.test.images, data.test.labels)),
        }
        self.steps = data.train.size // config.batch_size
        if self.steps < 1:
            raise ValueError(
                f"batch_size {config.batch_size} is larger than the training split of "
                f"{data.train.size} images. Lower it, or raise limit."
            )
        if max(config.epochs, *config.milestones, 0) * self.steps >= 2**31:
            raise ValueError(
                f"epochs {config.epochs} of {self.steps} steps (milestones {config.milestones}) are more "
                "than the 2**31 - 1 that a step counter holds. Lower epochs or milestones."
            )
        for arm in config.arms:  # raises on a setting out of range
            search_optimizer(config, arm_rules(config, arm, jax.random.key(0)), self.steps)
        self.mode = pick_mode(config.driver)
        self.model = sized(
            config.model,
            data.image_shape,
            classes=data.classes,
            scale_init=config.scale_init,
            dtype=config.compute,
        )
        self.prepare = functools.partial(
            normalise, mean=data.mean, std=data.std, dtype=jnp.dtype(config.compute)
        )
        view = self._view(jax.random.key(config.first_seed))
        self.full = self.network(view.apply)
        try:
            scores = wj.scores.norm_scale(view.params)
        except ValueError as error:
            raise ValueError(
                f"The model {config.model!r} has no BatchNorm, and tickets are drawn from its scales. Choose "
                "one that has it, such as --model digits, digits_mlp, fashion or resnet20."
            ) from error
        self.layers = ranked_names(scores)
        self.widths = [x.size for x in ranked(scores)]
        self.macs = macs(view.apply, view.params, view.state, self._one_image())
        self.parameters = sum(x.size for x in jax.tree.leaves(view.params))

    @property
    def epoch_flops(self) -> int:
        """Floating-point operations of one epoch: 3 x forward, 2 for a multiply-accumulate."""
        return 3 * 2 * self.macs * self.steps * self.config.batch_size

    @property
    def cohorts(self) -> list[list[int]]:
        """Seeds that run together: all by vmap on accelerators, one after another on CPU.

        One after another too where the shrunk networks are retrained: no two have the same shapes.
        """
        seeds = self.config.seed_numbers
        together = self.mode == "scan" and self.config.retrain == "masked"
        return [seeds] if together else [[seed] for seed in seeds]

    @functools.cached_property
    def groups(self) -> Groups:
        """The channel groups of the network in training, on one image."""
        view = abstract(self.model)
        image = jax.eval_shape(self._one_image)
        training = functools.partial(view.apply, train=True)
        return find_groups(training, view.params, image, state=view.state)

    @property
    def retrain_tx(self) -> optax.GradientTransformationExtraArgs:
        """The chain that retraining runs with."""
        return retrain_optimizer(self.config, self.steps)

    def start_search(self, arm: Arm, seeds: Sequence[int]) -> TrainState:
        """Return the stacked state of seeds before their first step."""
        states = []
        for seed in seeds:
            key = jax.random.key(seed)
            _, params, stats = self._view(key)
            tx = search_optimizer(self.config, arm_rules(self.config, arm, key), self.steps)
            states.append(init_state(params, stats, tx, key))
        return stack_seeds(states)

    def start_retrain(
        self,
        params: PyTree,
        stats: PyTree,
        seeds: Sequence[int],
        epochs: Sequence[int],
        opt_state: PyTree | None = None,
    ) -> TrainState:
        """Return a state that stands at each seed's epoch, with a fresh optimizer unless one is given."""
        epoch = jnp.asarray(np.asarray(epochs, np.int32))
        keys = jax.vmap(jax.random.key)(jnp.asarray(np.asarray(seeds, np.uint32)))
        if opt_state is None:
            opt_state = jax.jit(jax.vmap(self.retrain_tx.init))(params)
        opt_state = start_at(opt_state, epoch * self.steps)
        return TrainState(params, stats, opt_state, keys, epoch, epoch * self.steps)

    def search_runner(self, arm: Arm) -> EpochRunner:
        """Return the runner whose program trains with an arm's chain."""
        rules = arm_rules(self.config, arm, jax.random.key(0))
        tx = search_optimizer(self.config, rules, self.steps)
        return self.full.runner("search, truncating last" if rules.last else "search", tx)

    def network(self, apply: Callable) -> Network:
        """Return the programs of a network on this data, which are compiled when they are called."""
        self._networks.append(Network(self.config, apply, self.prepare, self._held_out))
        return self._networks[-1]

    def mask_tree(self, flat: np.ndarray) -> PyTree:
        """Return a ticket's masks, on scale and shift, from its flat mask of `widths` entries."""
        params = abstract(self.model).params
        parts = iter(np.split(np.asarray(flat, bool), np.cumsum(self.widths)[:-1]))
        masks = jax.tree.map(
            lambda score: jnp.asarray(next(parts) if score.ndim else True),
            jax.eval_shape(wj.scores.norm_scale, params),
        )
        return wj.extend_to_shift(params, masks)

    @property
    def compile_seconds(self) -> float:
        """Time that compiling took so far."""
        return sum(network.compile_seconds for network in self._networks)

    def _view(self, key: Array) -> View:
        return build(self.model, jax.random.fold_in(key, _WEIGHTS))

    def _one_image(self) -> Array:
        return self.prepare(self.train[0][:1])
