"""The two algorithms of layer tickets: at initialisation, and after training with rewinding."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaxtyping import Array, PyTree

from wormjax.layers._candidates import Candidates, candidates
from wormjax.layers._remove import remove
from wormjax.layers._select import select
from wormjax.structure._opt_state_slicing import Optimizer
from wormjax.structure._ticket import Ticket

# (candidates, params, state) -> for each candidate its score
Criterion = Callable[[Candidates, PyTree, PyTree | None], Mapping[str, float]]


class Training(NamedTuple):
    """A network in training.

    Attributes:
      params: the parameters.
      state: batch statistics, or None.
      opt_state: the optimizer's state, or None.
    """

    params: PyTree
    state: PyTree | None = None
    opt_state: PyTree | None = None


class Rewound(NamedTuple):
    """A ticket that was drawn after training.

    Attributes:
      ticket: what is left of the network of the rewind epoch.
      removed: names of the blocks that are gone, the least important first.
      scores: what they were chosen by.
      start: the epoch from which to train, with the schedule of that epoch (`rewound_schedule`).
      trained: the dense network at the end of its training.
    """

    ticket: Ticket
    removed: list[str]
    scores: Mapping[str, float]
    start: int
    trained: Training


def at_initialisation(
    found: Candidates,
    criterion: Criterion,
    params: PyTree,
    state: PyTree | None = None,
    *,
    p: int,
    min_blocks_per_stage: int = 1,
    iterative: bool = False,
) -> Ticket:
    """Draw a ticket before training: score the blocks, remove the p least important, keep the others' weights.

    Args:
      found: from `candidates`.
      criterion: function of (candidates, params, state) to one score a candidate, such as
        ``lambda found, params, state: layers.score(found, scores.snip(params, batch, loss=loss))``.
      params: the initial parameters.
      state: the state, where there is one.
      p: how many blocks to remove.
      min_blocks_per_stage: see `select`.
      iterative: score what is left again after every removal. The paper removes all at once, and names that a
        limitation; this is an extension of ours.

    Returns:
      The ticket, to be trained like any network; ``ticket.manifest.layers`` says what is gone.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import layers, scores
      >>> params = {"a": jnp.full((1, 1), 2.0), "b": jnp.full((1, 1), -3.0), "c": jnp.ones((1, 1))}
      >>> def apply(params, x):
      ...     for name in params:
      ...         x = x + jnp.tanh(x @ params[name])
      ...     return x
      >>> found = layers.candidates(apply, params, jnp.ones((1, 1)))
      >>> magnitude = lambda found, params, state: layers.score(found, scores.magnitude(params))
      >>> layers.at_initialisation(found, magnitude, params, p=2).manifest.layers
      ('c', 'a')

    References:
      Jordao et al., `When Layers Play the Lottery, all Tickets Win at Initialization
      <https://arxiv.org/abs/2301.10835>`_, 2023
    """
    if not iterative:
        names = select(
            found, criterion(found, params, state), p, min_blocks_per_stage=min_blocks_per_stage
        )
        return remove(found, names, params, state)
    ticket = remove(found, [], params, state)
    for _ in range(p):
        left = candidates(
            ticket.apply,
            ticket.params,
            *found.inputs,
            state=ticket.state,
            rule=found.rule,
            level=found.level,
        )
        scores = criterion(left, ticket.params, ticket.state)
        [name] = select(left, scores, 1, min_blocks_per_stage=min_blocks_per_stage)
        ticket = remove(left, [name], ticket.params, ticket.state)
    return ticket


def after_training(
    found: Candidates,
    train: Callable[[Training, int, int], Training],
    criterion: Criterion,
    initial: Training,
    *,
    p: int,
    epochs: int,
    rewind_to: int = 0,
    tx: Optimizer | None = None,
    rewind_opt_state: bool = False,
    fresh: Training | None = None,
    min_blocks_per_stage: int = 1,
) -> Rewound:
    """Draw a ticket after training, and set what is left back to an early epoch.

    The dense network is trained to the end, its blocks are scored there, and the p least important are removed from
    the network as it was at epoch ``rewind_to``, with the batch statistics of that epoch. The ticket is then trained
    for the other ``epochs - rewind_to`` epochs with the learning rates of those epochs, `rewound_schedule`.

    Args:
      found: from `candidates`.
      train: ``train(training, start, stop)`` trains epochs start, ..., stop - 1 and returns what comes out.
      criterion: function of (candidates, params, state) of the trained network to one score a candidate.
      initial: the network before training.
      p: how many blocks to remove.
      epochs: of the dense training.
      rewind_to: epoch i; 0 is initialisation.
      tx: the optimizer, where the ticket shall have a state of it.
      rewind_opt_state: go on with the optimizer's state of epoch i. By default momentum starts at zero; the paper does
        not say.
      fresh: instead of rewinding, set what is left to these initial values: random re-initialisation.
      min_blocks_per_stage: see `select`.

    Returns:
      `Rewound`.

    Raises:
      ValueError: the rewind epoch is not one of the training's; so many blocks cannot go.

    References:
      Jordao et al., `When Layers Play the Lottery, all Tickets Win at Initialization
      <https://arxiv.org/abs/2301.10835>`_, 2023; Renda et al., `Comparing Rewinding and Fine-tuning in Neural Network
      Pruning <https://arxiv.org/abs/2003.02389>`_, 2020
    """
    if not 0 <= rewind_to < epochs:
        raise ValueError(
            f"rewind_to={rewind_to} is no epoch of {epochs}: it lies in 0, ..., {epochs - 1}."
        )
    if rewind_opt_state and (tx is None or fresh is not None):
        raise ValueError(
            "rewind_opt_state=True goes on with the optimizer's state of the rewind epoch: pass tx=, and no fresh=."
        )
    early = train(initial, 0, rewind_to) if rewind_to else initial
    trained = train(early, rewind_to, epochs)
    scores = criterion(found, trained.params, trained.state)
    names = select(found, scores, p, min_blocks_per_stage=min_blocks_per_stage)
    source = early if fresh is None else fresh
    opt_state = source.opt_state if rewind_opt_state else None if tx is None else "reset"
    ticket = remove(found, names, source.params, source.state, opt_state, tx)
    return Rewound(ticket, names, scores, rewind_to, trained)


def rewound_schedule(
    schedule: Callable[[Array | int], Array | float], start: int
) -> Callable[[Array | int], Array | float]:
    r"""Return a learning rate that goes on from a later step.

    .. math:: \eta'(t) = \eta(t + t_0)

    Args:
      schedule: of the dense training, by optimizer updates.
      start: how many updates the dense training had made at the rewind epoch.

    Returns:
      The schedule for an optimizer whose count begins at 0.

    Example:
      >>> import optax
      >>> from wormjax import layers
      >>> schedule = layers.rewound_schedule(optax.piecewise_constant_schedule(0.1, {3: 0.5}), 2)
      >>> [round(float(schedule(t)), 3) for t in range(3)]
      [0.1, 0.05, 0.05]
    """
    if start < 0:
        raise ValueError(f"start={start} must not be negative: it is a number of updates.")
    return lambda count: schedule(count + start)
