"""Tickets drawn from the trained network: scored at its end, rewound to an epoch that it kept."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from experiments._folder import RunFolder
from experiments.layer_tickets._config import DENSE, Arm
from experiments.layer_tickets._setup import Drawn, Setup, random_key
from experiments.training import Checkpoints, TrainState, take_seed
from wormjax import layers

_MOST = 256  # images of one batch that is scored


class Rewinding:
    """The dense networks' states that tickets go back to, and the scores of their ends.

    Args:
      setup: data, model and programs.
      folder: of the run.
    """

    def __init__(self, setup: Setup, folder: RunFolder):
        self._setup, self._folder = setup, folder

    def keep(self, seed: int, epoch: int, state: TrainState) -> None:
        """Write the dense network's state after an epoch, where a ticket will ask for it."""
        if epoch in self._setup.config.kept_epochs:
            self._store(seed, epoch).save(state, {"epoch": epoch})

    def draw(self, arm: Arm, seed: int) -> Drawn:
        """Return a ticket of the trained network with the weights of its rewind epoch.

        Raises:
          ValueError: the dense network of this seed has not finished.
        """
        setup, epoch = self._setup, arm.rewind_to
        assert epoch is not None
        view = setup.initial(seed)

        def train(_: layers.Training, start: int, stop: int) -> layers.Training:
            return self._at(seed, stop)  # the dense arm has trained it

        rewound = layers.after_training(
            setup.found,
            train,
            lambda *_: self._scores(arm.kind, seed),
            layers.Training(view.params, view.state),
            p=arm.p,
            epochs=setup.config.epochs,
            rewind_to=epoch,
            min_blocks_per_stage=setup.config.min_blocks_per_stage,
        )
        return setup.smaller(rewound.ticket, rewound.removed, rewound.start)

    def _at(self, seed: int, epoch: int) -> layers.Training:
        dense = self._setup.draw(DENSE, seed)
        found = self._store(seed, epoch).restore(self._setup.start(dense, seed))
        if found is None:
            raise ValueError(
                f"The dense network of seed {seed} kept no state of epoch {epoch}, from which tickets are drawn: its "
                "training failed. Start afresh in another folder."
            )
        state, _ = found
        return layers.Training(take_seed(state.params, 0), take_seed(state.stats, 0))

    def _store(self, seed: int, epoch: int) -> Checkpoints:
        config = self._folder.provenance()["config"]
        fingerprint = {"config": config, "arm": DENSE.name, "seed": seed, "epoch": epoch}
        return Checkpoints(self._folder.checkpoints / f"kept-{seed}-{epoch}", fingerprint, keep=1)

    @functools.lru_cache(maxsize=64)  # noqa: B019  (lives as long as the run)
    def _scores(self, kind: str, seed: int) -> Mapping[str, float]:
        """One score a block, the same for every rewind epoch."""
        trained = self._at(seed, self._setup.config.epochs)
        return trained_scores(self._setup, kind, seed, trained.params, trained.state)


def trained_scores(
    setup: Setup, kind: str, seed: int, params: PyTree, state: PyTree
) -> Mapping[str, float]:
    """Return one score a block of a trained network, from training images of each class drawn by the seed.

    Args:
      setup: data and model.
      kind: one of ``TrainedCriterion``.
      seed: chooses the images, or the blocks where they are drawn at random.
      params: trained parameters.
      state: trained statistics.
    """
    if kind == "random":
        return layers.random(setup.found, random_key(seed))
    images, labels = setup.score_images(seed)
    size = max(n for n in range(1, _MOST + 1) if len(labels) % n == 0)  # batches of one shape
    starts = range(0, len(labels), size)
    batches = [setup.prepare(images[k : k + size]) for k in starts]
    found = layers.candidates(
        setup.view.apply,
        setup.view.params,
        jax.eval_shape(lambda: batches[0]),
        state=setup.view.state,
        rule=setup.config.rule,
    )
    if kind == "pls_vip":
        parts = [labels[k : k + size] for k in starts]
        return layers.pls_vip(found, params, batches, parts, state)
    scored: Any = {
        "hrank": layers.hrank,
        "expect_abs": layers.expect_abs,
        "kl": layers.kl,
        "cka": layers.cka,
    }[kind]
    return scored(found, params, batches, state)
