"""What all arms share: data, model, candidates, scores, and programs by architecture."""

import functools
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from experiments._energy import EnergyMeter
from experiments.data import pad_crop_flip, place
from experiments.layer_tickets._config import Arm, LayerConfig
from experiments.layer_tickets._programs import Programs
from experiments.models import ModelConfig, abstract, build, fewer_blocks, narrowed, sized
from experiments.training import TrainState, epoch_runner, make_step, stack_seeds, start_at
from wormjax import layers
from wormjax.adapters import View
from wormjax.evaluation import corrupt, corruption_names, macs, parameters, peak_memory

_WEIGHTS, _RANDOM, _FILTERS = 2**31 + 5, 2**31 + 9, 2**31 + 13  # folded into keys; apart from steps


class Drawn(NamedTuple):
    """A network before its training.

    Attributes:
      config: of its architecture.
      params: initial parameters.
      stats: initial statistics.
      masks: of the parameters, or None.
      removed: names of the blocks that are gone, the least important first.
      filters: convolution filters that are left.
      macs: multiply-accumulates of one image that are left.
      start: epoch from which it is trained, with the schedule and the batches of that epoch.
    """

    config: ModelConfig
    params: PyTree
    stats: PyTree
    masks: PyTree | None
    removed: list[str]
    filters: int
    macs: int
    start: int = 0


class Setup:
    """Data, model and programs of one run."""

    def __init__(self, config: LayerConfig):
        self.config = config
        self.meter = EnergyMeter("--measure_energy") if config.measure_energy else None
        data = place(config.data, split_seed=config.split_seed, limit=config.limit)
        self.splits, self.origin, self.train = data.sizes, data.origin, data.train
        self.held_out = {
            name: (np.asarray(x), np.asarray(y)) for name, (x, y) in data.held_out.items()
        }
        self.steps = data.steps(config.batch_size)
        self.prepare = data.normalised("float32")
        stages = {"blocks": config.stage_blocks, "widths": config.stage_widths}
        changes: dict[str, Any] = {k: v for k, v in stages.items() if v is not None}
        try:
            self.model = sized(
                config.model,
                data.image_shape,
                classes=data.classes,
                shortcut="B",
                scale_init=1.0,
                **changes,
            )
        except TypeError as error:
            raise ValueError(
                f"The model {config.model!r} is no ResNet of experiments.models ({error}). Choose one, such as --model "
                "resnet20."
            ) from error
        self.tx = config.recipe.optimizer(self.steps)
        self.view = abstract(self.model)
        self.image = jax.eval_shape(lambda: self.prepare(self.train[0][:1]))
        self.found = layers.candidates(
            self.view.apply,
            self.view.params,
            self.image,
            state=self.view.state,
            rule=config.rule,
        )
        for p in config.removed:  # raises where so many cannot go
            layers.select(
                self.found,
                dict.fromkeys(self.found.names, 0.0),
                p,
                min_blocks_per_stage=config.min_blocks_per_stage,
            )
        self.macs = self._macs(self.view)
        self._programs: dict[tuple[ModelConfig, bool], Programs] = {}

    def initial(self, seed: int) -> View:
        """Return the dense network with the initial weights of a seed."""
        return build(self.model, jax.random.fold_in(jax.random.key(seed), _WEIGHTS))

    def draw(self, arm: Arm, seed: int) -> Drawn:
        """Return an arm's network before its training."""
        view = self.initial(seed)
        if arm.kind == "dense":
            return Drawn(
                self.model, view.params, view.state, None, [], _filters(view.params), self.macs
            )
        if arm.kind == "filters":
            return self._matched(arm, seed, view)
        names = self._chosen(arm.kind, seed, arm.p)
        return self.smaller(layers.remove(self.found, names, view.params, state=view.state), names)

    def smaller(self, ticket: wj.Ticket, removed: list[str], start: int = 0) -> Drawn:
        """Return the network of fewer blocks that a ticket is, to be trained from an epoch."""
        small = fewer_blocks(self.model, ticket.params, ticket.state)
        left = self._macs(abstract(small.config))
        filters = _filters(small.params)
        return Drawn(small.config, small.params, small.state, None, removed, filters, left, start)

    def block_scores(self, kind: str, seed: int, aggregate: str) -> dict[str, float]:
        """Return one score a block, of a seed's initial weights."""
        if kind == "random":
            return layers.random(self.found, random_key(seed))
        if kind == "l1":
            return layers.l1(self.found, self.initial(seed).params)
        return layers.score(self.found, self._weight_scores(kind, seed), aggregate)  # type: ignore[arg-type]

    def per_stage(self, arm: Arm, seed: int) -> dict[str, dict[str, int]]:
        """How many blocks go in each stage by sum and by mean."""
        counts = {}
        for how in ("sum", "mean"):
            names = self._chosen(arm.kind, seed, arm.p, how)
            counts[how] = {str(k): n for k, n in self.found.per_stage(names).items()}
        return counts

    def start(self, drawn: Drawn, seed: int) -> TrainState:
        """Return the state before the first step, with a seed axis of 1; momentum is zero."""
        epoch = jnp.asarray(drawn.start, jnp.int32)
        step = jnp.asarray(drawn.start * self.steps, jnp.int32)
        opt_state = start_at(jax.jit(self.tx.init)(drawn.params), step)
        state = TrainState(drawn.params, drawn.stats, opt_state, jax.random.key(seed), epoch, step)
        return stack_seeds([state])

    def programs(self, drawn: Drawn) -> Programs:
        """Return the programs of an architecture, made once."""
        key = drawn.config, drawn.masks is not None
        if key not in self._programs:
            step = make_step(
                abstract(drawn.config).apply,
                self.tx,
                augment=pad_crop_flip if self.config.augment else None,
                prepare=self.prepare,
            )
            runner = epoch_runner(step, batch_size=self.config.batch_size, mode=self.config.driver)
            self._programs[key] = Programs(
                drawn.config,
                self.prepare,
                runner,
                chunk=100 if self.splits["test"] < 1000 else 1000,
            )
        return self._programs[key]

    def memory(self, drawn: Drawn) -> int:
        """Return the bytes that one image's forward pass takes by its trace: weights and activations."""
        view = abstract(drawn.config)
        told = peak_memory(
            lambda p, s, x: view.apply(p, s, x)[0], view.params, view.state, self.image
        )
        return told.arguments + told.activations

    @functools.cached_property
    def corrupted(self) -> dict[str, np.ndarray]:
        """The corrupted test images, all corruptions and severities in one set."""
        images, _labels = self.robust
        made = {}
        for name in corruption_names(images.shape[-1]):
            for severity in self.config.severities:
                made[f"{name}-{severity}"] = corrupt(images, name, severity, jax.random.key(0))
        return made

    @functools.cached_property
    def robust(self) -> tuple[np.ndarray, np.ndarray]:
        """The test images that are corrupted and attacked, in [0, 1]."""
        images, labels = (x[: self.config.robust_images] for x in self.held_out["test"])
        unit = 1 / 255 if images.dtype == np.uint8 else 1.0
        return (images * unit).astype(np.float32), labels

    @property
    def compile_seconds(self) -> float:
        """Time that compiling took so far."""
        return sum(p.compile_seconds for p in self._programs.values())

    @property
    def architectures(self) -> int:
        """How many programs of training were made."""
        return len(self._programs)

    def _chosen(self, kind: str, seed: int, p: int, aggregate: str | None = None) -> list[str]:
        scores = self.block_scores(kind, seed, aggregate or self.config.aggregate)
        return layers.select(
            self.found, scores, p, min_blocks_per_stage=self.config.min_blocks_per_stage
        )

    def _matched(self, arm: Arm, seed: int, view: View) -> Drawn:
        """The control: as many filters as the first criterion's blocks have."""
        first = self.config.criteria[0]
        names = self._chosen(first, seed, arm.p)
        gone = sum(self._filters_of[name] for name in names)
        by = first if first in ("grasp", "snip", "signed_snip") else "snip"
        # the same widths for all seeds, so that they share their program
        key = jax.random.fold_in(jax.random.key(arm.p), _FILTERS)
        plan = layers.matched_filters(self._groups, self._weight_scores(by, seed), gone, key)
        left = _filters(view.params) - gone
        if self.config.filter_control == "masked":
            return Drawn(self.model, view.params, view.state, plan.masks, [], left, plan.macs[1])
        ticket = wj.shrink(plan, view.params, state=view.state)
        config = narrowed(self.model, ticket.widths)
        return Drawn(config, ticket.params, ticket.state, None, [], left, plan.macs[1])

    @functools.cached_property
    def _groups(self) -> wj.Groups:
        view = self.view
        return wj.find_groups(view.apply, view.params, self.image, state=view.state)

    @functools.cached_property
    def _filters_of(self) -> dict[str, int]:
        shapes = dict(zip(self.found.program.names, self.found.program.params, strict=True))
        return {
            c.name: sum(shapes[p].shape[-1] for p in c.paths if len(shapes[p].shape) == 4)
            for c in self.found
        }

    @functools.lru_cache(maxsize=256)  # noqa: B019  (one setup lives as long as the run)
    def _weight_scores(self, kind: str, seed: int) -> PyTree:
        view = self.initial(seed)
        return self._scorers[kind](view.params, view.state, self.score_images(seed))

    @functools.cached_property
    def _scorers(self) -> dict[str, Any]:
        apply = self.view.apply

        def logits(params: PyTree, stats: PyTree, images: Array) -> Array:
            return apply(params, stats, self.prepare(images), train=True)[0]

        def cross_entropy(z: Array, labels: Array) -> Array:
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(z, labels))

        def of_loss(score: Any) -> Any:
            def scored(params: PyTree, stats: PyTree, batch: Any) -> PyTree:
                loss = lambda p, b: cross_entropy(logits(p, stats, b[0]), b[1])  # noqa: E731
                return score(params, batch, loss=loss)

            return jax.jit(scored)

        def grasp(params: PyTree, stats: PyTree, batch: Any) -> PyTree:
            return wj.scores.grasp(
                params,
                [batch],
                apply=lambda p, x: logits(p, stats, x),
                loss=cross_entropy,
                temperature=self.config.temperature,
            )

        return {
            "snip": of_loss(wj.scores.snip),
            "signed_snip": of_loss(layers.signed_snip),
            "grasp": jax.jit(grasp),
        }

    def score_images(self, seed: int) -> tuple[Array, Array]:
        """Return training images and labels for the scores, as many of each class, drawn by the seed."""
        labels = np.asarray(self.train[1])
        order = np.random.default_rng(seed).permutation(len(labels))
        rows = [order[labels[order] == c][: self.config.score_per_class] for c in np.unique(labels)]
        chosen = np.concatenate(rows)
        return self.train[0][chosen], self.train[1][chosen]

    def _macs(self, view: View) -> int:
        return macs(view.apply, view.params, view.state, self.image)

    def share(self, drawn: Drawn) -> Fraction:
        """Return the multiply-accumulates that are left, as a share of the dense network's."""
        return Fraction(drawn.macs, self.macs)


def random_key(seed: int) -> Array:
    """Return the key by which a seed draws its random blocks."""
    return jax.random.fold_in(jax.random.key(seed), _RANDOM)


def _filters(params: PyTree) -> int:
    """Output channels of all convolutions, projections among them."""
    return sum(x.shape[-1] for x in jax.tree.leaves(params) if len(x.shape) == 4)


def parameters_of(drawn: Drawn) -> int:
    """Return the parameters that are left; masked ones are not counted."""
    if drawn.masks is None:
        return parameters(drawn.params)
    leaves = zip(jax.tree.leaves(drawn.masks), jax.tree.leaves(drawn.params), strict=True)
    return sum(int(np.broadcast_to(np.asarray(m), p.shape).sum()) for m, p in leaves)
