"""The units of the comparison: iterative pruning of a seed, and one structured ticket of it."""

import shutil
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments.structured_tickets._methods import Structured, contenders, structure
from experiments.structured_tickets._setup import Setup
from experiments.training import MetricsLog
from wormjax.lottery import BlockList, Levels, Network, Regrouped, branch, execution_report, imp


class Tickets:
    """Iterative pruning of every seed; its levels are on the disk, and a killed run goes on in the middle of one.

    Args:
      setup: data, model and programs.
      folder: of the run.
      progress: shows rounds.
    """

    def __init__(self, setup: Setup, folder: RunFolder, progress: Progress):
        self._setup, self._folder, self._progress = setup, folder, progress
        self._known: tuple[int, Levels] | None = None

    def levels(self, seed: int) -> Levels:
        """Return all rounds of a seed, trained or read back; those of the last one asked for are kept."""
        if self._known is None or self._known[0] != seed:
            self._known = seed, self._run(seed)
        return self._known[1]

    def _run(self, seed: int) -> Levels:
        setup, config = self._setup, self._setup.config
        params, stats = setup.initial(seed)
        with self._progress.phase(
            "imp", "prune", seed=seed, total=config.rounds + 1, unit="trainings"
        ) as phase:
            begun = time.perf_counter()

            def evaluate(network: Network, masks: PyTree) -> dict[str, Any]:
                nonlocal begun
                found = setup.held_out(network)
                if not all(np.isfinite(x).all() for x in jax.tree.leaves(network.params)):
                    raise ValueError("A weight is not finite. Lower learning_rate.")
                took, begun = time.perf_counter() - begun, time.perf_counter()
                phase.advance(accuracy=found["validation"])
                return found | {"seconds": took}

            return imp(
                setup.trainer.of(jax.random.key(seed)),
                params,
                steps=setup.total_steps,
                learning_rate=setup.rates,
                rounds=config.rounds,
                rate=config.rate,
                rewind=config.rewind,
                schedule_from=config.schedule_from,
                steps_per_epoch=setup.steps_per_epoch,
                prunable=setup.prunable,
                state=stats,
                init_optimizer=setup.init_optimizer,
                evaluate=evaluate,
                folder=self._folder.checkpoints / f"imp-{seed}",
                save_every=config.save_epochs * setup.steps_per_epoch,
            )

    def record(self, seed: int, log: MetricsLog) -> None:
        """Log every round of iterative pruning, and that it is over."""
        for level in self.levels(seed):
            log.write(
                {
                    "kind": "level",
                    "arm": "imp",
                    "seed": seed,
                    "round": level.round,
                    "nominal": level.density,
                    "executed": 1.0,
                    "kept": sum(level.kept.values()),
                    **level.measured,
                }
            )
        log.write({"kind": "result", "arm": "imp", "seed": seed})
        log.sync()


def run_method(
    setup: Setup,
    folder: RunFolder,
    progress: Progress,
    tickets: Tickets,
    method: str,
    round: int,
    seed: int,
    log: MetricsLog,
) -> None:
    """Make a round structured, train it from the rewinding point, measure it, and log the result.

    The training is saved as often as iterative pruning is, until its result is logged.
    """
    levels = tickets.levels(seed)
    ticket = structure(setup, levels, method, round, seed)
    saved = folder.checkpoints / f"{method}-{round}-{seed}"
    with progress.phase(
        f"{method}-{round}", "train", seed=seed, total=1, unit="trainings"
    ) as phase:
        begin = time.perf_counter()
        start = branch(
            levels,
            round,
            "masks",
            masks=_whole(ticket.masks, levels.initial.params),
            opt_state=setup.init_optimizer(levels.rewound.params),
        )
        trained = start.run(
            setup.trainer.of(jax.random.key(seed)),
            folder=saved if folder.writes else None,
            save_every=setup.config.save_epochs * setup.steps_per_epoch,
        )
        found = setup.held_out(trained)
        phase.advance(accuracy=found["validation"])
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(trained.params)):
        raise ValueError("A weight is not finite. Lower learning_rate.")
    record = {
        "kind": "result",
        "arm": f"{method}-{round}",
        "seed": seed,
        "method": method,
        "round": round,
        "nominal": ticket.nominal,
        "executed": ticket.executed,
        "seconds": time.perf_counter() - begin,
        **found,
    }
    if seed == setup.config.first_seed:
        record |= _measured(setup, ticket, trained)
        if isinstance(ticket.made, Regrouped) and folder.writes:
            blocks = ticket.made.blocks
            blocks.save(folder.checkpoints / f"blocks-{round}.npz")
            names = setup.groups.traced.names
            masks = dict(zip(names, jax.tree.leaves(levels[round].masks), strict=True))
            before = {name: _channel_shares(masks[name]) for name in blocks}
            np.savez(folder.checkpoints / f"before-{round}.npz", **before)  # type: ignore[arg-type]
    log.write(record)
    log.sync()
    if folder.writes:
        shutil.rmtree(saved)


def _whole(masks: PyTree, params: PyTree) -> PyTree:
    """Masks of the parameters' shapes, so that one program trains all tickets."""
    return jax.tree.map(
        lambda m, p: jnp.asarray(np.broadcast_to(np.asarray(m), p.shape)), masks, params
    )


def blocks_of(folder: RunFolder, round: int) -> BlockList | None:
    """Return the first seed's blocks of a round, where they were made."""
    path = folder.checkpoints / f"blocks-{round}.npz"
    return BlockList.load(path) if path.exists() else None


def before_of(folder: RunFolder, round: int) -> dict[str, np.ndarray]:
    """Return for each of these layers the fraction of weights that the mask before kept, by channels."""
    with np.load(folder.checkpoints / f"before-{round}.npz", allow_pickle=False) as file:
        return dict(file)


def _channel_shares(mask: jax.Array) -> np.ndarray:
    """Fractions (output channel, input channel) of a kernel's mask, whose channels are its last axes."""
    return np.asarray(mask).mean(axis=tuple(range(mask.ndim - 2))).T


def _measured(setup: Setup, ticket: Structured, trained: Network) -> dict[str, Any]:
    """What the small network costs, after it was found equal to the masked one."""
    networks, times = contenders(setup, ticket, trained), {}
    for batch in setup.config.timing_batches:
        dense, small = execution_report(networks, setup.images(batch), tolerance=1e-3)
        times[str(batch)] = {"dense": dense.median, "ticket": small.median, "speedup": small.ratio}
        if batch == setup.config.timing_batches[0]:
            share = small.macs / dense.macs
            sizes = {"parameters": small.parameters, "macs_share": share}
    return {"latency": times, **sizes}
