"""Training one level in stretches, so that a run that was killed goes on in the middle of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax._masks import apply_masks, check_same_structure
from wormjax.lottery._level_files import LevelError, LevelFiles
from wormjax.lottery._network import Network, Stretch, Train

_REWOUND = "rewound"


@dataclasses.dataclass(frozen=True)
class LevelTraining:
    """Trains levels, and saves them where there is a folder.

    Attributes:
      train: the training function.
      files: where the levels are; None to save nothing.
      save_every: save also after so many steps in the middle of a level.
    """

    train: Train
    files: LevelFiles | None = None
    save_every: int | None = None

    def level(
        self,
        number: int,
        start: Network,
        masks: PyTree,
        stretch: Stretch,
        back: int | None = None,
        evaluate: Callable[[Network, PyTree], Mapping[str, Any]] | None = None,
    ) -> tuple[Network, Network | None, dict[str, Any]]:
        """Train a level, or what is left of it.

        Args:
          number: its round.
          start: the network that it begins with, pruned.
          masks: what it is trained under.
          stretch: its steps and rates.
          back: the step of the rewinding point, where it is in this level.
          evaluate: as for `wormjax.lottery.imp`.

        Returns:
          The network at the end, that at the rewinding point where asked, and what was measured.

        Raises:
          LevelError: the level on the disk is another one.
        """
        name = f"level_{number:03d}"
        if self.files is not None and self.files.has(name):
            point = None if back is None else self.files.load(_REWOUND, start)[0]
            (trained, stored), told = self.files.load(name, (start, masks))
            same = jax.tree.map(
                lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), stored, masks
            )
            if not all(jax.tree.leaves(same)):
                raise LevelError(
                    f"{self.files.folder / name} was trained under other masks than those that the level before gives "
                    "now. Continue with the versions and the restructure= that the run was begun with."
                )
            return trained, point, told["measured"]
        network, done, point = start, 0, None
        if self.files is not None:
            if back is not None and self.files.has(_REWOUND):
                point, _ = self.files.load(_REWOUND, start)
                network, done = point, back
            for partial in self.files.partial(number)[-1:]:
                found, told = self.files.load(partial, start)
                if told["done"] > done:  # it may be from before the rewinding point
                    network, done = found, told["done"]
        length = len(stretch.steps)
        if back == done and point is None:  # step 0
            point = self._at_rewinding_point(network)
        while done < length:
            stop = self._next_stop(done, length, back)
            network = self._train(network, masks, stretch, done, stop)
            done = stop
            if done == back:
                point = self._at_rewinding_point(network)
            elif self.files is not None and done < length:
                self._save_partial(number, done, network)
        measured = dict(evaluate(network, masks)) if evaluate is not None else {}
        if self.files is not None:
            self.files.save(name, (network, masks), {"measured": measured})
            for partial in self.files.partial(number):
                self.files.remove(partial)
        return network, point, measured

    def _next_stop(self, done: int, length: int, back: int | None) -> int:
        """Where to look up next: the same places whether or not a run was interrupted."""
        stops = [length]
        if self.files is not None and self.save_every is not None:
            stops.append((done // self.save_every + 1) * self.save_every)
        if back is not None and back > done:
            stops.append(back)
        return min(stops)

    def _train(
        self, network: Network, masks: PyTree, stretch: Stretch, done: int, stop: int
    ) -> Network:
        steps, rates = stretch.steps[done:stop], stretch.rates[done:stop]
        found = self.train(network, masks, steps, rates)
        check_same_structure(network, found, "the network given to train", "what train returned")
        # a trainer that masks inside its loss may leave something behind at pruned places
        return found._replace(params=apply_masks(found.params, masks))

    def _at_rewinding_point(self, network: Network) -> Network:
        if self.files is not None and not self.files.has(_REWOUND):
            self.files.save(_REWOUND, network, {})
        return network

    def _save_partial(self, number: int, done: int, network: Network) -> None:
        assert self.files is not None
        old = self.files.partial(number)
        self.files.save(f"partial_{number:03d}_{done:09d}", network, {"done": done})
        for name in old:
            self.files.remove(name)
