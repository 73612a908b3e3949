"""What all arms share: data on the device, the model, and the compiled programs."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from experiments.data import check_disjoint, load, normalise, pad_crop_flip
from experiments.models import build, named
from experiments.training import (
    EpochRunner,
    TrainState,
    epoch_runner,
    evaluator,
    init_state,
    make_step,
    pick_mode,
    stack_seeds,
    start_at,
)
from experiments.worm._arms import arm_rules, retrain_optimizer, search_optimizer
from experiments.worm._config import Arm, WormConfig
from wormjax._selection import ranked, ranked_names
from wormjax.adapters import View
from wormjax.evaluation import macs

_WEIGHTS = 2**31 + 5  # folded into a seed's key; apart from steps, whose keys draw the augmentation


class Setup:
    """Data, model and programs of one run of the main job.

    Programs are compiled once and serve every arm and seed: arms differ in numbers inside the optimizer
    state, not in code, except where the truncation stands.
    """

    def __init__(self, config: WormConfig):
        self.config = config
        self._runners: dict[str, EpochRunner] = {}
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
        self.model = named(
            config.model,
            classes=data.classes,
            scale_init=config.scale_init,
            dtype=config.compute,
            **_input_size(config.model, data.image_shape),
        )
        self._prepare = functools.partial(
            normalise, mean=data.mean, std=data.std, dtype=jnp.dtype(config.compute)
        )
        view = self._network(jax.random.key(config.first_seed))
        self._apply = view.apply
        self._evaluate = evaluator(
            view.apply, batch_size=500, prepare=self._prepare, mode=config.driver
        )
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
        """Seeds that run together: all by vmap on accelerators, one after another on CPU."""
        seeds = self.config.seed_numbers
        return [seeds] if self.mode == "scan" else [[seed] for seed in seeds]

    def start_search(self, arm: Arm, seeds: Sequence[int]) -> TrainState:
        """Return the stacked state of seeds before their first step."""
        states = []
        for seed in seeds:
            key = jax.random.key(seed)
            _, params, stats = self._network(key)
            tx = search_optimizer(self.config, arm_rules(self.config, arm, key), self.steps)
            states.append(init_state(params, stats, tx, key))
        return stack_seeds(states)

    def start_retrain(
        self, params: PyTree, stats: PyTree, seeds: Sequence[int], epochs: Sequence[int]
    ) -> TrainState:
        """Return a state with a fresh optimizer that stands at each seed's epoch."""
        epoch = jnp.asarray(np.asarray(epochs, np.int32))
        keys = jax.vmap(jax.random.key)(jnp.asarray(np.asarray(seeds, np.uint32)))
        tx = retrain_optimizer(self.config, self.steps)
        opt_state = start_at(jax.jit(jax.vmap(tx.init))(params), epoch * self.steps)
        return TrainState(params, stats, opt_state, keys, epoch, epoch * self.steps)

    def search_runner(self, arm: Arm) -> EpochRunner:
        """Return the runner whose program trains with an arm's chain."""
        rules = arm_rules(self.config, arm, jax.random.key(0))
        tx = search_optimizer(self.config, rules, self.steps)
        return self._runner("search, truncating last" if rules.last else "search", tx)

    @property
    def retrain_runner(self) -> EpochRunner:
        """The runner whose program trains masked."""
        return self._runner("retrain", retrain_optimizer(self.config, self.steps))

    def held_out(self, state: TrainState, masks: PyTree | None = None) -> dict[str, np.ndarray]:
        """Return validation and test accuracy, float64 ``(S,)`` each; waits for them."""
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

    def _network(self, key: Array) -> View:
        return build(self.model, jax.random.fold_in(key, _WEIGHTS))

    def _runner(self, name: str, tx: optax.GradientTransformationExtraArgs) -> EpochRunner:
        """Return the one runner of that name; chains of one name differ in numbers of their state only."""
        if name not in self._runners:
            augment = pad_crop_flip if self.config.augment else None
            step = make_step(self._apply, tx, augment=augment, prepare=self._prepare)
            self._runners[name] = epoch_runner(
                step, batch_size=self.config.batch_size, mode=self.config.driver
            )
        return self._runners[name]

    def _one_image(self) -> Array:
        return self._prepare(self.train[0][:1])


def _input_size(name: str, image_shape: tuple[int, ...]) -> dict[str, int]:
    """The model's field for the size of its input: channels, or pixels of a flat one."""
    fields = named(name).__dataclass_fields__
    height, width, channels = image_shape
    return {"channels": channels} if "channels" in fields else {"inputs": height * width * channels}
