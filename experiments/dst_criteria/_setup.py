"""What all arms share: data on the device, the model, and one compiled program for each criterion and growth."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from experiments.data import pad_crop_flip, place
from experiments.dst_criteria._config import Arm, DstConfig
from experiments.models import abstract, build, sized
from experiments.training import (
    EpochRunner,
    TrainState,
    epoch_runner,
    evaluator,
    make_step,
    pick_mode,
    stack_seeds,
)
from wormjax.adapters import View

_WEIGHTS, _MASKS = 2**31 + 5, 2**31 + 9  # folded into a seed's key; apart from steps


class Setup:
    """Data, model and programs of one run.

    Density and seed are numbers in the optimizer's state, so that all arms of one criterion and growth run the same
    program.
    """

    def __init__(self, config: DstConfig):
        self.config = config
        data = place(config.data, split_seed=config.split_seed, limit=config.limit)
        self.splits, self.origin, self.train = data.sizes, data.origin, data.train
        self._held_out = data.held_out
        self.steps, self._steps_of = data.steps(config.batch_size), data.steps
        self.model = sized(config.model, data.image_shape, classes=data.classes)
        self.prepare = data.normalised("float32")
        self.criteria: dict[str, wj.dst.criteria.Criterion] = {
            name: wj.dst.criteria.mest(config.mest_gamma)
            if name == "mest"
            else wj.dst.criteria.criterion_of(name)
            for name in config.criteria
        }
        view = abstract(self.model)
        self.apply = view.apply
        self.prunable = wj.dst.kernels(view.params)
        self._view = view
        for arm in config.arms:  # raises on a setting out of range
            self.optimizer(arm, jax.random.key(0))
        self._runners: dict[tuple, EpochRunner] = {}
        mode = pick_mode(config.driver)
        self._evaluate = evaluator(self.apply, batch_size=500, prepare=self.prepare, mode=mode)

    def optimizer(self, arm: Arm, key: Array) -> optax.GradientTransformationExtraArgs:
        """Return the optimizer of an arm, whose random choices begin with this key."""
        config = self.config
        inner = config.recipe.optimizer(self._steps_of(config.batch_of(arm)))
        if arm.name == "dense":
            return optax.with_extra_args_support(inner)
        shared: dict[str, Any] = {
            "key": jax.random.fold_in(key, _MASKS),
            "density": arm.density,
            "distribution": config.distribution,
            "every": config.every,
            "prunable": self.prunable,
            "track_fired": True,
        }
        if config.released:
            shared["initial"] = "bernoulli"
        if arm.criterion is None:
            return wj.dst.presets.static(inner, **shared)
        moving: dict[str, Any] = {
            "drop": self.criteria[arm.criterion],
            "grow": arm.growth,
            "scope": config.scope,
            "total_steps": config.epochs * self.steps,
        }
        if config.released:
            study = wj.dst.presets.fantastic_weights
            return study(inner, order="fw_mixed", **moving, **shared)
        return wj.sparse_training(
            inner,
            schedule=wj.dst.schedules.cosine(config.drop_fraction),
            stop=config.stop,
            order=config.order,
            **moving,
            **shared,
        )

    def start(self, arm: Arm, seed: int) -> TrainState:
        """Return the state of an arm and seed before its first step, its pruned weights zero; a seed axis of 1."""
        key = jax.random.key(seed)
        _, params, stats = self._weights(key)
        opt_state = self.optimizer(arm, key).init(params)
        if arm.name != "dense":
            params = wj.apply_masks(params, wj.masks_of(opt_state, params))
        zero = jnp.zeros((), jnp.int32)
        return stack_seeds([TrainState(params, stats, opt_state, key, zero, zero)])

    def runner(self, arm: Arm) -> EpochRunner:
        """Return the runner whose program trains this arm, and all that differ from it in density and seed."""
        # "static" stands for all densities, and the masks of its state tell them apart
        kind = (arm.criterion, arm.growth, arm.name == "dense")
        if kind not in self._runners:
            step = make_step(
                self.apply,
                self.optimizer(arm, jax.random.key(0)),
                augment=pad_crop_flip if self.config.augment else None,
                prepare=self.prepare,
            )
            mode = self.config.driver
            batch = self.config.batch_of(arm)
            self._runners[kind] = epoch_runner(step, batch_size=batch, mode=mode)
        return self._runners[kind]

    def held_out(self, state: TrainState) -> dict[str, float]:
        """Return the accuracy on validation and test images; waits for them."""
        found = {
            name: self._evaluate(state, images, labels)
            for name, (images, labels) in self._held_out.items()
        }
        return {n: float(m.correct[0]) / int(m.count[0]) for n, m in jax.device_get(found).items()}

    @functools.cached_property
    def gradient(self):
        """``gradient(params, stats)``: the dense gradient of the loss on the first training images."""
        images, labels = (x[: self.config.batch_size] for x in self.train)

        def loss(params: PyTree, stats: PyTree) -> Array:
            logits, _ = self.apply(params, stats, self.prepare(images), train=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses)

        return jax.jit(jax.grad(loss))

    def forward_flops(self, masks: PyTree) -> wj.dst.analysis.Flops:
        """Return the operations of one image's forward pass, dense and by the masks."""
        image = jax.eval_shape(lambda: self.prepare(self.train[0][:1]))

        def forward(params: PyTree, stats: PyTree, x: Array) -> Array:
            return self.apply(params, stats, x)[0]

        return wj.dst.analysis.inference_flops(
            forward, self._view.params, masks, self._view.state, image
        )

    def training_flops(self, arm: Arm, masks: PyTree) -> int:
        """Return the operations of a whole training, were pruned weights skipped; its masks keep their counts."""
        config = self.config
        total = config.epochs * self.steps
        last = min(int(config.last_update * total), total if config.released else total - 1)
        updates = last // config.every if arm.growth == "gradient" else 0
        flops = self.forward_flops(masks)
        return config.batch_size * wj.dst.analysis.training_flops(flops, total, updates)

    @property
    def compile_seconds(self) -> float:
        """Time that compiling took so far."""
        runners = self._runners.values()
        return self._evaluate.compile_seconds + sum(r.compile_seconds for r in runners)

    @property
    def programs(self) -> int:
        """Training programs that were compiled."""
        return sum(runner.programs for runner in self._runners.values())

    def sizes(self) -> dict[str, int]:
        """Return the number of parameters, and of those that can be pruned."""
        leaves = jax.tree.leaves(self._view.params)
        chosen = jax.tree.leaves(self.prunable)
        sizes = [int(np.prod(x.shape)) for x in leaves]
        return {
            "parameters": sum(sizes),
            "prunable": sum(n for n, yes in zip(sizes, chosen, strict=True) if yes),
        }

    def _weights(self, key: Array) -> View:
        return build(self.model, jax.random.fold_in(key, _WEIGHTS))
