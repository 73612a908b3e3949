"""The bench of the experiment: detectors of all ratios, scores before training, costs of tickets."""

import functools
import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments.channels import Bench
from experiments.data import epoch_order
from experiments.early_bird._config import EarlyBirdConfig
from experiments.training import PerSeed, classify, order_key, stack_seeds
from wormjax import structure
from wormjax._selection import ranked

_FRESH = (
    2**31 + 9
)  # folded into a seed's key for the weights of `reinit`; apart from its other uses


class Reading(NamedTuple):
    """What a detection says of each ratio, on the device."""

    emerged: Any
    largest: Any
    mean: Any
    of_leaves: Any
    degenerate: Any
    mask: Any
    kept: Any


class Cost(NamedTuple):
    """What is left of a network without the channels that a mask prunes.

    Attributes:
      macs: multiply-accumulates of one image.
      parameters: number of parameters.
      share: its multiply-accumulates as a share of the whole network's.
    """

    macs: int
    parameters: int
    share: float


class Setup(Bench[EarlyBirdConfig]):
    """Data, model and programs of one run."""

    def check(self) -> None:
        """Raise on a setting that the detector refuses."""
        config = self.config
        self.detector = wj.early_bird(
            wj.scores.norm_scale,
            prune_ratio=config.prune_ratios,
            window=config.window,
            epsilon=config.epsilon,
            mask_rule=config.mask_rule,
        )
        self.detect = PerSeed(self._detect)
        self.sensitivity = PerSeed(self._sensitivity)
        self.pruned = PerSeed(wj.apply_masks)
        self._costs: dict[bytes, Cost] = {}

    def initial(self, seeds: Sequence[int], *, fresh: bool = False) -> tuple[PyTree, PyTree]:
        """Return stacked initial parameters and state: the dense networks', or others of the same law."""
        keys = [jax.random.key(seed) for seed in seeds]
        if fresh:
            keys = [jax.random.fold_in(key, _FRESH) for key in keys]
        views = [self.weights(key) for key in keys]
        return stack_seeds([(v.params, v.state) for v in views])

    def start_detector(self, params: PyTree) -> PyTree:
        """Return the detector's stacked state before its first detection."""
        seeds = jax.tree.leaves(params)[0].shape[0]
        one = self.detector.init(jax.tree.map(lambda x: x[0], params))
        return stack_seeds([one] * seeds)

    def kept(self, ratio: float) -> int:
        """Channels that an exact mask of this ratio keeps."""
        total = sum(self.widths)
        return total - int(Fraction(str(ratio)) * total)

    def cost(self, flat: np.ndarray) -> Cost:
        """Return what the network costs without the channels that a flat mask prunes.

        Raises:
          ValueError: these channels cannot be removed; the message says why.
        """
        key = np.packbits(flat).tobytes()
        if key not in self._costs:
            plan = structure.plan(self.groups, masks=self.mask_tree(flat))
            whole, left = plan.macs
            self._costs[key] = Cost(left, plan.parameters[1], left / whole)
        return self._costs[key]

    def _detect(self, params: PyTree, detector: PyTree) -> tuple[PyTree, Reading]:
        detector = self.detector.update(params, detector)
        newest = [m.reshape(m.shape[0], -1) for m in ranked(detector.newest)]
        return detector, Reading(
            detector.emerged,
            detector.largest_distance,
            detector.mean_distance,
            jnp.max(detector.leaf_distances, axis=-2),
            detector.degenerate,
            jnp.concatenate(newest, axis=1),
            jnp.stack([jnp.sum(m, axis=1, dtype=jnp.int32) for m in newest], axis=1),
        )

    def _sensitivity(self, params: PyTree, stats: PyTree, key: Any) -> Any:
        r"""Score channels by SNIP on their scales, on the seed's first batch; return scores and masks, flat.

        Before training the shifts are zero, so that the mask of a scale masks its whole channel. Over a channel's
        kernel the signed sensitivities would sum to zero, because BatchNorm makes the loss independent of the
        kernel's length, and their absolute values would say nothing of the channel.
        """
        images, labels = self.train
        size, batch = labels.shape[0], self.config.batch_size
        rows = epoch_order(order_key(key), jnp.int32(0), size=size, batch=batch)[0]

        def loss(params, batch):
            images, labels = batch
            logits, _ = self.full.apply(params, stats, self.prepare(images), train=True)
            return classify(logits, labels).loss_sum / labels.shape[0]

        scales = jax.tree.map(lambda s: s.ndim > 0, jax.eval_shape(wj.scores.norm_scale, params))
        scores = wj.scores.snip(params, (images[rows], labels[rows]), loss=loss, prunable=scales)
        masks = [
            # an exact count over all layers and ties by index, as the detector has them
            wj.top_masks(scores, density=Fraction(self.kept(ratio), sum(self.widths)))
            for ratio in self.config.prune_ratios
        ]
        return _flat(scores), jnp.stack([_flat(m) for m in masks])

    @property
    def compile_seconds(self) -> float:
        """Time that compiling took so far."""
        own = (self.detect, self.sensitivity, self.pruned)
        return super().compile_seconds + sum(program.compile_seconds for program in own)

    @functools.cached_property
    def edges(self) -> list[int]:
        """Where layers begin and end in a flat mask."""
        return [0, *itertools.accumulate(self.widths)]


def _flat(tree: PyTree) -> jax.Array:
    return jnp.concatenate([x.ravel() for x in ranked(tree)])
