"""What all arms share: data, pruning set, model, weights of a seed, methods, and the programs of training."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from experiments._folder import RunFolder
from experiments.data import Placed, pad_crop_flip, place
from experiments.foresight._config import Arm, ForesightConfig
from experiments.foresight._methods import Network, method, prunable_kernels
from experiments.models import ModelConfig, abstract, build, sized
from experiments.training import (
    Checkpoints,
    EpochRunner,
    TrainState,
    epoch_runner,
    evaluator,
    make_step,
    pick_mode,
    stack_seeds,
    take_seed,
)
from wormjax.foresight import Method, PruningSet

_WEIGHTS, _MASKS, _AGAIN = 2**31 + 5, 2**31 + 9, 2**31 + 13  # folded into a seed's key


class Setup:
    """Data, model, methods and programs of one run.

    Masks are arguments of training and scoring, so that all arms are trained by one program and each method is compiled
    once.
    """

    def __init__(self, config: ForesightConfig):
        self.config = config
        data = place(config.data, split_seed=config.split_seed, limit=config.limit)
        self.splits, self.origin, self.train = data.sizes, data.origin, data.train
        self.classes = data.classes
        self._held_out = data.held_out
        self.steps = data.steps(config.batch_size)
        self.model = _model(config, data)
        self.prepare = data.normalised("float32")
        self.view = abstract(self.model)
        self.network = Network(self.view.apply)
        like = {"params": self.view.params, "stats": self.view.state}
        self.prunable = prunable_kernels(like, dense_head=config.ablation == "dense_head")
        self.chosen = wj.foresight.pruning_set(
            np.asarray(self.train[1]),
            classes=data.classes,
            seed=config.prune_seed,
            per_class=config.per_class,
            subset=config.subset,
        )
        self._first = self._first_task() if config.pretrain_data else None
        self.optimizer: optax.GradientTransformationExtraArgs = config.recipe.optimizer(self.steps)
        self._runners: dict[str, EpochRunner] = {}
        mode = pick_mode(config.driver)
        self._evaluate = evaluator(self.view.apply, batch_size=500, prepare=self.prepare, mode=mode)
        for arm in config.arms:  # raises on a setting out of range
            if arm.method is not None:
                self.method(arm.method)

    def keep_pruning_set(self, folder: RunFolder) -> None:
        """Write the pruning set into the run's folder, or check that it is the one that is there.

        Raises:
          ValueError: it is another one.
        """
        path = Path(folder.path) / "pruning_set.json"
        if path.exists():
            saved: PruningSet = wj.foresight.load_pruning_set(path, np.asarray(self.train[1]))
            if saved.rows.tolist() != self.chosen.rows.tolist():
                raise ValueError(f"{path.name} holds another pruning set than these settings make.")
        elif folder.writes:
            wj.foresight.save_pruning_set(path, self.chosen)

    @functools.cached_property
    def batches(self) -> list[tuple[Array, Array]]:
        """The pruning set as the model sees it, in parts of one size, without augmentation."""
        rows = self.chosen.rows
        parts = math.ceil(len(rows) / self.config.prune_batch)
        size = len(rows) // parts
        images, labels = self.train
        return [
            (self.prepare(images[own]), labels[own])
            for own in (jnp.asarray(rows[i * size : (i + 1) * size]) for i in range(parts))
        ]

    @functools.cache  # noqa: B019 - as long as the run
    def method(self, name: str) -> Method:
        """Return a method by its name, inverted where that is the ablation."""
        found = method(
            name,
            self.network,
            prunable=self.prunable,
            trained=bool(self.config.pretrain_data),
            rounds=20 if self.classes <= 10 else 100,
        )
        inverted = self.config.ablation == "inverted"
        return wj.foresight.methods.inverted(found) if inverted else found

    def prune(self, arm: Arm, seed: int, tree: PyTree) -> PyTree:
        """Return the masks of an arm on the weights of a seed, for the parameters alone."""
        key = jax.random.fold_in(jax.random.key(seed), _MASKS)
        if arm.method is None:
            return self.whole
        pruned = wj.foresight.prune(
            self.method(arm.method),
            tree,
            self.batches,
            density=arm.density,
            rounds=self.config.rounds or None,
            schedule=self.config.schedule,
            scope=self.config.scope,
            key=key,
        )
        masks = pruned.masks
        if self.config.ablation == "shuffled":
            masks = wj.foresight.shuffled(jax.random.fold_in(key, 1), masks)
        return masks["params"]

    @functools.cached_property
    def whole(self) -> PyTree:
        """Masks that keep everything."""
        return jax.tree.map(
            lambda x, yes: jnp.ones(x.shape if yes else (), bool),
            self.view.params,
            self.prunable["params"],
        )

    def weights(self, seed: int, folder: RunFolder) -> PyTree:
        """Return parameters and statistics of a seed before it is pruned: fresh, or trained on another data set."""
        found = self._fresh(seed)
        if not self.config.pretrain_data:
            return found
        trained = self._pretrained(seed, folder)
        # a new task has a new head
        params = trained["params"] | {"head": found["params"]["head"]}
        return {"params": params, "stats": trained["stats"]}

    def start(self, arm: Arm, seed: int, tree: PyTree, masks: PyTree) -> TrainState:
        """Return the state of an arm and seed before its first step, its pruned weights zero; a seed axis of 1."""
        key = jax.random.key(seed)
        params = tree["params"]
        if self.config.ablation == "reinitialised" and arm.method is not None:
            params = _kaiming(params, jax.random.fold_in(key, _AGAIN))
        params = wj.apply_masks(params, masks)
        zero = jnp.zeros((), jnp.int32)
        state = TrainState(params, tree["stats"], self.optimizer.init(params), key, zero, zero)
        return stack_seeds([state])

    @functools.cached_property
    def runner(self) -> EpochRunner:
        """The program that trains every arm."""
        step = make_step(
            self.view.apply,
            self.optimizer,
            augment=pad_crop_flip if self.config.augment else None,
            prepare=self.prepare,
        )
        self._runners["train"] = epoch_runner(
            step, batch_size=self.config.batch_size, mode=self.config.driver
        )
        return self._runners["train"]

    def held_out(self, state: TrainState, masks: PyTree) -> dict[str, float]:
        """Return the accuracy on validation and test images; waits for them."""
        found = {
            name: self._evaluate(state, images, labels, masks)
            for name, (images, labels) in self._held_out.items()
        }
        return {n: float(m.correct[0]) / int(m.count[0]) for n, m in jax.device_get(found).items()}

    @property
    def compile_seconds(self) -> float:
        """Time that compiling training and evaluation took so far; scoring is not in it."""
        return self._evaluate.compile_seconds + sum(
            r.compile_seconds for r in self._runners.values()
        )

    @property
    def programs(self) -> int:
        """Training programs that were compiled."""
        return sum(runner.programs for runner in self._runners.values())

    def sizes(self) -> dict[str, int]:
        """Return the number of parameters, and of those that can be pruned."""
        sizes = [math.prod(x.shape) for x in jax.tree.leaves(self.view.params)]
        chosen = jax.tree.leaves(self.prunable["params"])
        return {
            "parameters": sum(sizes),
            "prunable": sum(n for n, yes in zip(sizes, chosen, strict=True) if yes),
        }

    def _fresh(self, seed: int) -> PyTree:
        """Return fresh weights: kernels from N(0, 2 / fan-in), the classifier's too, as the papers have them."""
        key = jax.random.fold_in(jax.random.key(seed), _WEIGHTS)
        view = build(self.model, key)
        return {"params": _kaiming(view.params, key), "stats": view.state}

    def _first_task(self) -> tuple[Placed, ModelConfig]:
        """Return the data set that the weights are trained on first, and the model with a head for it."""
        config = self.config
        data = place(
            config.pretrain_data, split_seed=config.split_seed, limit=config.pretrain_limit
        )
        data.steps(config.batch_size)
        model = _model(config, data)
        shapes = [
            [x.shape for x in jax.tree.leaves(_body(params))]
            for params in (abstract(model).params, self.view.params)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"The model {config.model!r} has other shapes on {config.pretrain_data} than on {config.data}, so its "
                "weights cannot be taken over. Choose one for images of any size, such as --model digits."
            )
        return data, model

    @functools.cache  # noqa: B019 - as long as the run
    def _pretrained(self, seed: int, folder: RunFolder) -> PyTree:
        config = self.config
        assert self._first is not None
        data, model = self._first
        fresh = self._fresh(seed)
        own = jax.random.fold_in(jax.random.key(seed), _WEIGHTS)
        params = fresh["params"] | {"head": build(model, own).params["head"]}
        key, zero = jax.random.key(seed), jnp.zeros((), jnp.int32)
        recipe = dataclasses.replace(
            config.recipe, epochs=config.pretrain_epochs, schedule_kind="cosine", milestones=()
        )
        optimizer = recipe.optimizer(data.steps(config.batch_size))
        state = stack_seeds(
            [TrainState(params, fresh["stats"], optimizer.init(params), key, zero, zero)]
        )
        store = Checkpoints(
            folder.checkpoints / f"pretrained-{seed}", {"config": folder.provenance()["config"]}
        )
        saved = store.restore(state)
        if saved is None:
            step = make_step(
                self.view.apply,
                optimizer,
                augment=pad_crop_flip if config.augment else None,
                prepare=data.normalised("float32"),
            )
            if "pretrain" not in self._runners:
                self._runners["pretrain"] = epoch_runner(
                    step, batch_size=config.batch_size, mode=config.driver
                )
            for _ in range(config.pretrain_epochs):
                state, _ = self._runners["pretrain"](state, *data.train)
            store.save(state, {"epochs": config.pretrain_epochs})
        else:
            state = saved[0]
        one = take_seed(state, 0)
        return {"params": one.params, "stats": one.stats}


def _model(config: ForesightConfig, data: Placed) -> ModelConfig:
    """Return the model for a data set, with the shortcuts of the config, and scales that start at 1."""
    model = sized(config.model, data.image_shape, classes=data.classes)
    known = {field.name for field in dataclasses.fields(model)}
    changes: dict[str, Any] = {"shortcut": config.shortcut, "scale_init": 1.0}
    return dataclasses.replace(model, **{k: v for k, v in changes.items() if k in known})


_kaiming = jax.jit(wj.foresight.reinitialised)


def _body(params: PyTree) -> PyTree:
    return {name: value for name, value in params.items() if name != "head"}
