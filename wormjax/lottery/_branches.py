"""Branches from a level: what shows that it is the ticket, and not its density, that wins."""

import os
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, PyTree

from wormjax._masks import apply_masks
from wormjax._random_masks import random_like
from wormjax._selection import check_choice, largest, place, ranked
from wormjax.lottery._level_files import LevelFiles, digest
from wormjax.lottery._level_training import LevelTraining
from wormjax.lottery._levels import Levels
from wormjax.lottery._network import Network, Stretch, Train
from wormjax.lottery._pruning_step import keep_largest
from wormjax.structure._ticket_record import raw

Kind = Literal["ticket", "random_mask", "shuffled_mask", "reinitialised", "one_shot", "masks"]
_KINDS = ("ticket", "random_mask", "shuffled_mask", "reinitialised", "one_shot", "masks")
RandomScope = Literal["leaf", "global"]


class Branch(NamedTuple):
    """A start that is not yet trained.

    Attributes:
      network: parameters with pruned entries zero, and statistics.
      masks: what to train it under.
      stretch: the steps and rates of the level that it branches off.
    """

    network: Network
    masks: PyTree[Bool[Array, "..."]]
    stretch: Stretch

    def run(
        self,
        train: Train,
        *,
        folder: str | os.PathLike | None = None,
        save_every: int | None = None,
    ) -> Network:
        """Train it as the level was.

        Args:
          train: the training function.
          folder: where it is saved, of its own. A run that was killed goes on there, and ends bit for bit as it would.
          save_every: save also after so many steps.

        Raises:
          ValueError: ``save_every`` is below 1.
          LevelError: the folder is of another branch.
        """
        if save_every is not None and save_every < 1:
            raise ValueError(f"save_every={save_every} must be at least 1.")
        files = None
        if folder is not None:
            steps, leaves = self.stretch.steps, jax.tree.leaves((self.network, self.masks))
            told = {
                "steps": [steps.start, steps.stop],
                "learning_rate": digest(self.stretch.rates),
                "start and masks": [digest(np.asarray(raw(x))) for x in leaves],
            }
            files = LevelFiles(folder, told)
        run = LevelTraining(train, files, save_every)
        return run.level(0, self.network, self.masks, self.stretch)[0]


def branch(
    levels: Levels,
    round: int,
    kind: Kind = "ticket",
    *,
    key: Key[Array, ""] | None = None,
    params: PyTree = None,
    masks: PyTree = None,
    opt_state: PyTree = None,
    scope: RandomScope = "leaf",
) -> Branch:
    """Start from a level, with one thing changed.

    Args:
      levels: from `imp`.
      round: which of them; 1 or later.
      kind: ``"ticket"`` changes nothing; ``"random_mask"`` has as many weights at random places; ``"shuffled_mask"``
        permutes the output channels of every leaf's mask, so that channels keep their numbers of weights;
        ``"reinitialised"`` has the same masks on other first weights; ``"one_shot"`` removes from the trained dense
        network at once as much as all rounds did; ``"masks"`` trains masks of yours, such as those of `refill`.
      key: for random and shuffled masks.
      params: the other first weights.
      masks: the other masks.
      opt_state: the optimizer's state to start from, where the training function needs one.
      scope: whether random masks have the level's count in every ``"leaf"`` or only in all (``"global"``).

    Returns:
      `Branch`; its weights are those of the rewinding point, or, in a mode that keeps the weights, those of the end
      of the dense training.

    Raises:
      ValueError: no such round, or something that the kind needs is missing, or does not fit.

    Example:
      >>> import jax, numpy as np, jax.numpy as jnp
      >>> import wormjax as wj
      >>> train = lambda network, masks, steps, rates: network
      >>> first = {"kernel": jnp.arange(1.0, 11.0).reshape(1, 10)}
      >>> levels = wj.lottery.imp(train, first, steps=4, learning_rate=0.1, rounds=1)
      >>> start = wj.lottery.branch(levels, 1, "random_mask", key=jax.random.key(0))
      >>> int(start.masks["kernel"].sum()), len(start.stretch.steps)
      (8, 4)
    """
    check_choice("kind", kind, _KINDS)
    if not 1 <= round < len(levels):
        raise ValueError(f"There is no pruned round {round}; the run has 1 to {len(levels) - 1}.")
    needed = {
        "random_mask": ("key", key),
        "shuffled_mask": ("key", key),
        "reinitialised": ("params", params),
        "masks": ("masks", masks),
    }
    if kind in needed and needed[kind][1] is None:
        raise ValueError(f"kind={kind!r} needs {needed[kind][0]}=.")
    level = levels[round]
    start = levels.rewound if levels.mode in ("init", "weight_rewind") else levels[0].trained
    chosen = level.masks
    if kind == "masks":
        chosen = masks
    elif key is not None and kind == "random_mask":
        chosen = random_like(key, chosen) if scope == "leaf" else _random_in_all(key, chosen)
    elif key is not None and kind == "shuffled_mask":
        chosen = shuffled_channels(key, chosen)
    elif kind == "one_shot":
        chosen = keep_largest(levels[0].trained.params, levels[0].masks, [sum(level.kept.values())])
    elif kind == "reinitialised":
        start = levels.initial._replace(params=params)
    network = Network(apply_masks(start.params, chosen), start.state, opt_state)
    return Branch(network, chosen, level.stretch)


def shuffled_channels(
    key: Key[Array, ""], masks: PyTree[Bool[Array, "..."]]
) -> PyTree[Bool[Array, "..."]]:
    """Permute the output channels (the last axis) of every mask: what each channel keeps, another channel gets."""
    # an order of each leaf's channels from NumPy: jax.random compiles a sort for every width
    words = [int(word) for word in np.asarray(jax.random.key_data(key)).ravel()]
    leaves = []
    for k, mask in enumerate(ranked(masks)):
        order = np.random.default_rng([*words, k]).permutation(mask.shape[-1])
        leaves.append(jnp.asarray(np.asarray(mask)[..., order]))
    return place(leaves, masks)


@jax.jit
def _random_in_all(key: Key[Array, ""], masks: PyTree) -> PyTree:
    """As many entries at random, wherever they fall."""
    leaves = ranked(masks)
    count = sum((jnp.sum(m, dtype=jnp.int32) for m in leaves), jnp.int32(0))
    order = [
        jax.random.uniform(jax.random.fold_in(key, k), m.shape, jnp.float32)
        for k, m in enumerate(leaves)
    ]
    return place(largest(order, count), masks)
