"""What all arms of an experiment share: data on the device, the model, its channels and programs."""

import functools
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

import wormjax as wj
from experiments.channels._config import ChannelConfig
from experiments.data import pad_crop_flip, place
from experiments.models import abstract, build, sized
from experiments.training import Network, TrainState, pick_mode, start_at
from wormjax._selection import ranked, ranked_names
from wormjax.adapters import View
from wormjax.evaluation import PhaseClock, macs, parameters, training_flops
from wormjax.structure import Groups, find_groups

_WEIGHTS = 2**31 + 5  # folded into a seed's key; apart from steps, whose keys draw the augmentation

C = TypeVar("C", bound=ChannelConfig)


class Bench(Generic[C]):
    """Data, model and programs of one run, compiled once for every arm and seed.

    Args:
      config: the settings.

    Attributes:
      config: the settings.
      train: images and labels of the training split, on the device.
      steps: optimizer steps an epoch.
      full: the programs of the whole network.
      layers: path of each normalisation scale, in the order of masks.
      widths: its number of channels.
      clock: what training, evaluating and detecting cost so far.
      macs: multiply-accumulates of one image.

    Raises:
      ValueError: a setting is out of its range, or the model has no channels to prune.
    """

    def __init__(self, config: C):
        self.config = config
        self._networks: list[Network] = []
        data = place(config.data, split_seed=config.split_seed, limit=config.limit)
        self.splits, self.origin, self.train = data.sizes, data.origin, data.train
        self._held_out = data.held_out
        self.steps = data.steps(config.batch_size)
        if max(config.epochs, *config.milestones, 0) * self.steps >= 2**31:
            raise ValueError(
                f"epochs {config.epochs} of {self.steps} steps (milestones {config.milestones}) are more "
                "than the 2**31 - 1 that a step counter holds. Lower epochs or milestones."
            )
        self.tx = config.optimizer(self.steps)
        self._init = jax.jit(jax.vmap(self.tx.init))  # one program for every call
        self.check()
        self.clock = PhaseClock(lambda: self.compile_seconds)
        self.mode = pick_mode(config.driver)
        self.model = sized(
            config.model,
            data.image_shape,
            classes=data.classes,
            scale_init=config.scale_init,
            dtype=config.compute,
        )
        self.prepare = data.normalised(config.compute)
        view = self.weights(jax.random.key(config.first_seed))
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
        self.parameters = parameters(view.params)

    def check(self) -> None:
        """Raise on a setting that only the experiment's own parts understand."""

    @property
    def epoch_flops(self) -> int:
        """Floating-point operations of one epoch: 3 x forward, 2 for a multiply-accumulate."""
        return training_flops(2 * self.macs, images=self.steps * self.config.batch_size)

    @property
    def cohorts(self) -> list[list[int]]:
        """Seeds that run together: all by vmap on accelerators, one after another on CPU."""
        seeds = self.config.seed_numbers
        return [seeds] if self.mode == "scan" else [[seed] for seed in seeds]

    @functools.cached_property
    def groups(self) -> Groups:
        """The channel groups of the network in training, on one image."""
        view = abstract(self.model)
        image = jax.eval_shape(self._one_image)
        training = functools.partial(view.apply, train=True)
        return find_groups(training, view.params, image, state=view.state)

    def weights(self, key: Array) -> View:
        """Return the model with the initial weights of a seed whose key this is."""
        return build(self.model, jax.random.fold_in(key, _WEIGHTS))

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
            opt_state = self._init(params)
        opt_state = start_at(opt_state, epoch * self.steps)
        return TrainState(params, stats, opt_state, keys, epoch, epoch * self.steps)

    def network(self, apply: Callable) -> Network:
        """Return the programs of a network on this data, which are compiled when they are called."""
        network = Network(
            apply,
            self.prepare,
            self._held_out,
            batch_size=self.config.batch_size,
            augment=pad_crop_flip if self.config.augment else None,
            driver=self.config.driver,
        )
        self._networks.append(network)
        return network

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

    def spent(self, compiling: float = 0.0) -> dict[str, float]:
        """Return the seconds of this start by what they were spent on; the rest is timing, saving and reporting.

        Args:
          compiling: what programs that are not this bench's took to compile.
        """
        seconds = self.clock.seconds
        names = {"train": "training", "evaluate": "evaluating", "detect": "detecting"}
        return {
            "of these compiling": round(self.compile_seconds + compiling, 1),
            **{f"of these {v}": round(seconds.get(k, 0.0), 2) for k, v in names.items()},
        }

    def _one_image(self) -> Array:
        return self.prepare(self.train[0][:1])
