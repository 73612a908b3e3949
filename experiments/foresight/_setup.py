"""What all arms share: data, pruning set, model, weights of a seed, methods, and the programs of training."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from experiments._folder import RunFolder
from experiments.data import pad_crop_flip, whole_steps
from experiments.foresight._config import Arm, ForesightConfig
from experiments.foresight._feed import Epoch, Feed, Runner, enlarged, feed
from experiments.foresight._methods import Network, method, prunable_kernels
from experiments.models import ModelConfig, abstract, build, sized
from experiments.training import (
    Checkpoints,
    Metrics,
    TrainState,
    make_step,
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
        self.feed = feed(
            config.data, split_seed=config.split_seed, limit=config.limit, workers=config.workers
        )
        self.splits, self.origin = self.feed.sizes, self.feed.origin
        self.classes = self.feed.classes
        self.steps = whole_steps(self.feed.sizes["train"], config.batch_size)
        self.model = _model(config, self.feed)
        self.prepare = _prepare(config, self.feed)
        self.view = abstract(self.model)
        self.network = Network(self.view.apply)
        like = {"params": self.view.params, "stats": self.view.state}
        self.prunable = prunable_kernels(like, dense_head=config.ablation == "dense_head")
        self.chosen = wj.foresight.pruning_set(
            self.feed.labels,
            classes=self.classes,
            seed=config.prune_seed,
            per_class=config.per_class,
            subset=config.subset,
        )
        self._first = self._first_task() if config.pretrain_data else None
        self.optimizer: optax.GradientTransformationExtraArgs = config.recipe.optimizer(self.steps)
        self._runners: dict[str, Runner] = {}
        self._held_out, self._evaluator = self.feed.evaluation(
            self.view.apply, self.prepare, config.driver
        )
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
            saved: PruningSet = wj.foresight.load_pruning_set(path, self.feed.labels)
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
        found = [self.feed.examples(rows[i * size : (i + 1) * size]) for i in range(parts)]
        return [(self.prepare(images), labels) for images, labels in found]

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

    def epoch(self, state: TrainState, masks: PyTree) -> tuple[TrainState, Metrics]:
        """Train for one epoch, by the program that trains every arm; the state is consumed."""
        return self._training(state, masks)

    @functools.cached_property
    def _training(self) -> Epoch:
        return self._trains("train", self.feed, self.optimizer, self.prepare)

    def _trains(self, name: str, images: Feed, optimizer: Any, prepare: Any) -> Epoch:
        cut = self.config.augment and not images.crops
        step = make_step(
            self.view.apply, optimizer, augment=pad_crop_flip if cut else None, prepare=prepare
        )
        epoch, self._runners[name] = images.training(
            step, batch_size=self.config.batch_size, mode=self.config.driver
        )
        return epoch

    def held_out(self, state: TrainState, masks: PyTree) -> dict[str, float]:
        """Return the accuracy on validation and test images; waits for them."""
        found = jax.device_get(self._held_out(state, masks))
        return {n: float(m.correct[0]) / int(m.count[0]) for n, m in found.items()}

    @property
    def compile_seconds(self) -> float:
        """Time that compiling training and evaluation took so far; scoring is not in it."""
        return self._evaluator.compile_seconds + sum(
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

    @functools.lru_cache(maxsize=1)  # noqa: B019 - a unit asks twice
    def _fresh(self, seed: int) -> PyTree:
        """Return fresh weights: kernels from N(0, 2 / fan-in), the classifier's too, as the papers have them."""
        key = jax.random.fold_in(jax.random.key(seed), _WEIGHTS)
        view = build(self.model, key)
        return {"params": _kaiming(view.params, key), "stats": view.state}

    def _first_task(self) -> tuple[Feed, ModelConfig]:
        """Return the data set that the weights are trained on first, and the model with a head for it."""
        config = self.config
        data = feed(
            config.pretrain_data,
            split_seed=config.split_seed,
            limit=config.pretrain_limit,
            workers=config.workers,
        )
        whole_steps(data.sizes["train"], config.batch_size)
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

    @functools.cached_property
    def _pretraining(self) -> tuple[Any, Epoch]:
        """The optimizer of the first task, and the program that trains every seed on it."""
        config = self.config
        assert self._first is not None
        data, _ = self._first
        recipe = dataclasses.replace(
            config.recipe,
            epochs=config.pretrain_epochs,
            schedule_kind="milestones" if config.pretrain_milestones else "cosine",
            milestones=config.pretrain_milestones,
        )
        optimizer = recipe.optimizer(whole_steps(data.sizes["train"], config.batch_size))
        return optimizer, self._trains("pretrain", data, optimizer, _prepare(config, data))

    @functools.cache  # noqa: B019 - as long as the run
    def _pretrained(self, seed: int, folder: RunFolder) -> PyTree:
        config = self.config
        assert self._first is not None
        _, model = self._first
        fresh = self._fresh(seed)
        own = jax.random.fold_in(jax.random.key(seed), _WEIGHTS)
        params = fresh["params"] | {"head": build(model, own).params["head"]}
        key, zero = jax.random.key(seed), jnp.zeros((), jnp.int32)
        optimizer, epoch = self._pretraining
        state = stack_seeds(
            [TrainState(params, fresh["stats"], optimizer.init(params), key, zero, zero)]
        )
        store = Checkpoints(
            folder.checkpoints / f"pretrained-{seed}", {"config": folder.provenance()["config"]}
        )
        saved = store.restore(state)
        state, done = (state, 0) if saved is None else (saved[0], saved[1]["epochs"])
        kept = time.monotonic()
        for number in range(done + 1, config.pretrain_epochs + 1):
            state, _ = epoch(state, None)
            last = number == config.pretrain_epochs
            if last or time.monotonic() - kept >= config.checkpoint_seconds:
                store.save(state, {"epochs": number})
                kept = time.monotonic()
        one = take_seed(state, 0)
        return {"params": one.params, "stats": one.stats}


def _prepare(config: ForesightConfig, data: Feed) -> Callable[[Array], Array]:
    """Return what stands between stored images and the model, in training, evaluation and pruning alike."""
    if not config.enlarge:
        return data.normalised
    return lambda images: enlarged(data.normalised(images), config.enlarge)


def _model(config: ForesightConfig, data: Feed) -> ModelConfig:
    """Return the model for a data set, with the shortcuts of the config, and scales that start at 1."""
    height, width, channels = data.image_shape
    sides = (config.enlarge, config.enlarge) if config.enlarge else (height, width)
    model = sized(config.model, (*sides, channels), classes=data.classes)
    known = {field.name for field in dataclasses.fields(model)}
    changes: dict[str, Any] = {"shortcut": config.shortcut, "scale_init": 1.0}
    return dataclasses.replace(model, **{k: v for k, v in changes.items() if k in known})


_kaiming = jax.jit(wj.foresight.reinitialised)


def _body(params: PyTree) -> PyTree:
    return {name: value for name, value in params.items() if name != "head"}
