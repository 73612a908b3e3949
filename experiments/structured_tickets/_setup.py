"""What all arms share: data on the device, the model, its groups, and one training program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from experiments.data import pad_crop_flip, place
from experiments.models import abstract, build, sized
from experiments.structured_tickets._config import TicketConfig
from experiments.structured_tickets._trainer import Trainer, rated
from experiments.training import TrainState, evaluator, make_step, stack_seeds
from wormjax.lottery import Network, prunable_layers, rewind_step

_WEIGHTS = 2**31 + 5  # folded into a seed's key; apart from steps


class Setup:
    """Data, model and programs of one run.

    Raises:
      ValueError: a setting that does not fit the data or the model.
    """

    def __init__(self, config: TicketConfig):
        self.config = config
        data = place(config.data, split_seed=config.split_seed, limit=config.limit)
        self.splits, self.origin = data.sizes, data.origin
        self._held_out = data.held_out
        steps = data.steps(config.batch_size)
        model = sized(config.model, data.image_shape, classes=data.classes)
        if hasattr(model, "scale_init"):
            model = dataclasses.replace(model, scale_init=1.0)  # as in the paper
        self.model = model
        self._prepare = data.normalised("float32")
        view = abstract(self.model)
        self.apply = functools.partial(view.apply, train=False)
        # of one example a running mean has the shape of what it is subtracted from, and looks like a branch beside it
        self.image = jax.eval_shape(lambda: self._prepare(data.train[0][:2]))
        self.groups = wj.find_groups(self.apply, view.params, self.image, state=view.state)
        self.prunable = prunable_layers(
            self.apply, view.params, self.image, state=view.state, stem=config.prune_stem
        )
        self.total_steps = config.epochs * steps
        self.steps_per_epoch = steps
        self.rates = np.asarray(
            jax.jit(jax.vmap(config.recipe.schedule(steps)))(jnp.arange(self.total_steps)),
            np.float64,
        )
        rewind_step(config.rewind, self.total_steps, steps)  # raises on one that is none
        inner = [optax.trace(config.momentum)] if config.momentum else []
        decay = [optax.add_decayed_weights(config.weight_decay)] if config.weight_decay else []
        self.tx = rated(optax.chain(*decay, *inner))
        step = make_step(
            view.apply,
            self.tx,
            augment=pad_crop_flip if config.augment else None,
            prepare=self._prepare,
        )
        self.trainer = Trainer(step, data.train, config.batch_size)
        self.init_optimizer = jax.jit(self.tx.init)
        self._evaluate = evaluator(view.apply, batch_size=500, prepare=self._prepare)

    def initial(self, seed: int) -> tuple[PyTree, PyTree]:
        """Return first parameters and batch statistics of a seed."""
        view = build(self.model, jax.random.fold_in(jax.random.key(seed), _WEIGHTS))
        return view.params, view.state

    def held_out(self, network: Network) -> dict[str, float]:
        """Return the accuracy on validation and test images; waits for them."""
        zero = jnp.zeros((), jnp.int32)
        state = stack_seeds(
            [TrainState(network.params, network.state, (), jax.random.key(0), zero, zero)]
        )
        found = {name: self._evaluate(state, *data) for name, data in self._held_out.items()}
        return {n: float(m.correct[0]) / int(m.count[0]) for n, m in jax.device_get(found).items()}

    def images(self, count: int) -> Array:
        """Return validation images as the network sees them, repeated where there are too few."""
        rows = np.arange(count) % self._held_out["validation"][1].shape[0]
        return self._prepare(self._held_out["validation"][0][rows])

    def sizes(self) -> dict[str, int]:
        """Return the number of parameters, and of those that can be pruned."""
        leaves = jax.tree.leaves(self.groups.shapes)
        counts = [int(np.prod(x.shape)) for x in leaves]
        chosen = jax.tree.leaves(self.prunable)
        return {
            "parameters": sum(counts),
            "prunable": sum(n for n, yes in zip(counts, chosen, strict=True) if yes),
        }
