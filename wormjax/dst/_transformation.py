"""Sparse training as one optax transformation around any optimizer."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree

from wormjax._counts import as_density, check_total
from wormjax._masks import check_masks, never_pruned
from wormjax._packing import pack
from wormjax._selection import check_choice
from wormjax._truncate import cut_to
from wormjax.dst import _schedules
from wormjax.dst._followers import Treatment
from wormjax.dst._grow_init import GrowInit
from wormjax.dst._initial import (
    Initial,
    bounds_of,
    counted,
    distribution_of,
    draw,
    sharded_like,
    units_at_most,
    units_kept,
)
from wormjax.dst._kernels import kernel_like
from wormjax.dst._normalisation import Norm, Normalisation, Over, Rescale
from wormjax.dst._patterns import Unstructured, unstructured
from wormjax.dst._ramps import Ramp
from wormjax.dst._refresh import widened
from wormjax.dst._settings import Order, PatternRule, Scope, Settings
from wormjax.dst._state import SparseState
from wormjax.dst._step import update as update_one
from wormjax.dst._timing import Timing
from wormjax.dst.criteria import Criterion, criterion_of
from wormjax.dst.distributions import Distribution
from wormjax.dst.distributions._layers import Custom
from wormjax.dst.growth import Growth, growth_of
from wormjax.scores._protocol import Layout, Rule, lay_out

Density = float | int | str | Fraction | Array  # an array is refused with a sentence
Schedule = Callable[..., Array]


def sparse_training(
    inner: optax.GradientTransformation,
    *,
    key: Key[Array, ""] | Array,
    density: Density | None = None,
    distribution: str | Distribution = "erk",
    drop: str | Criterion | Callable = "magnitude",
    grow: str | Growth | Callable | None = "gradient",
    schedule: Schedule | None = None,
    every: int = 100,
    start: int | float = 1,
    stop: int | float | None = 0.75,
    total_steps: int | None = None,
    guard_last: bool = True,
    prunable: Rule = None,
    masks: PyTree | None = None,
    initial: Initial = "random",
    pattern: PatternRule | None = None,
    scope: Scope = "leaf",
    order: Order = "after",
    allow_regrow_dropped: bool = True,
    zero_on_drop: bool = False,
    grow_init: GrowInit | None = None,
    opt_state: Treatment = "reset",
    mask_gradients: bool = True,
    rounding: Literal["ceil", "floor"] = "ceil",
    min_kept: int = 1,
    max_density: Density | Custom | None = None,
    normalize: Over | None = None,
    norm: Norm = "sum",
    rescale: Rescale | None = None,
    accumulate: Literal["mean"] | float | None = None,
    initial_density: Density | None = None,
    ramp: Ramp | None = None,
    ramp_scope: Scope = "leaf",
    straight_through: bool = False,
    track_fired: bool = False,
    packed: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Train a sparse network whose connections move: every so often the least useful go and new ones grow.

    .. math::
        u_i \leftarrow \begin{cases} \text{inner}(g)_i & m_i \\ -\theta_i & \text{otherwise} \end{cases}
        \qquad\text{every } \Delta t \text{ steps:}\quad
        m \leftarrow m \setminus \operatorname{lowest}_{\lceil p_t |m| \rceil}(s)
            \cup \operatorname{highest}_{\lceil p_t |m| \rceil}(a)

    with the score s of the drop criterion over active weights, and the score a of the growth rule over inactive ones.
    Pruned weights are and stay **exactly zero** by `optax.apply_updates` alone. Before the first update they are not:
    ``params = wj.apply_masks(params, wj.masks_of(opt_state, params))`` after ``init`` makes the first forward pass
    sparse too. Masks simulate sparsity: arrays keep their shapes, and a step costs what a dense step does.

    It must be the last transformation that changes updates; scales, clips, decay and averages belong into ``inner``. It
    may be wrapped by `optax.MultiSteps`, `optax.apply_if_finite`, `optax.multi_transform` and `optax.masked`. What
    breaks the zeros is flagged, and `wormjax.check` raises on it.

    Args:
      inner: any optimizer. Extra arguments of ``update`` reach it.
      key: PRNG key of the initial masks and of whatever is random; of equal scores the lower index wins.
      density: fraction of the prunable entries that are kept, in (0, 1]; the final one where ``ramp`` changes it.
      distribution: how many entries each leaf keeps: a name or function of `wormjax.dst.distributions`.
      drop: which active weights go: a name or function of `wormjax.dst.criteria`, or any function of
        `wormjax.dst.Seen`.
      grow: which inactive ones come: of `wormjax.dst.growth`, likewise. None drops only.
      schedule: drop fraction p by step: of `wormjax.dst.schedules`; ``cosine(0.5)`` by default.
      every: steps from one mask update to the next. Steps are optimizer updates, counted from 1: there is no update
        before the first gradient, and under `optax.MultiSteps` micro-batches do not count.
      start: first step that may update masks: a step (int) or a fraction of the training (float).
      stop: last such step, likewise; None is the end of the training.
      total_steps: length of the training in optimizer updates: epochs times batches an epoch. Fractions need it, and
        nothing else tells it.
      guard_last: never update masks at the last step, after which nothing trains.
      prunable: which leaves: a tree of bools as `wormjax.prunable` returns, or a function to one. By default all
        kernels: rank 2 and more, no biases, scales or embeddings, stacked by a scan or not.
      masks: start with these masks instead; ``density`` and ``distribution`` may then be left out.
      initial: start with connections at ``"random"`` places or at the largest ``"magnitude"``. ``"bernoulli"`` draws
        entry by entry, as the codes of ITOP and Fantastic Weights do: counts are then right on average only, and stay
        what they were drawn as (unstructured masks).
      pattern: of `wormjax.dst.patterns`: ``n_of_m``, ``block``, ``channel``, ``fan_in``; or a function of
        (path, leaf) to one. Unstructured by default.
      scope: which weights a criterion compares: those of a ``"leaf"`` or all (``"global"``). Growth gives every leaf
        back what it lost, so that "global" decides where connections move most.
      order: ``"after"``: first the masks, then the optimizer's step, with the same gradient. ``"before"``: first the
        step. ``"skip"``: the mask update takes the step's place (RigL, SET). Under "after" an update can be
        differentiated backwards; the other two compute what is due in loops, which cannot.
      allow_regrow_dropped: connections dropped in an update may grow back in it, with the value they had, as in all
        references. False drops fewer where there are too few other places.
      zero_on_drop: what is dropped and grows back starts like a new connection.
      grow_init: value of new connections, of `wormjax.dst.grow_init`; zero by default.
      opt_state: what becomes of the inner optimizer's state (momentum and all that has a parameter's shape).
        ``"reset"``: it is 0 wherever the mask prunes, so that new connections start from 0. (JaxPruner sets 0 when a
        connection grows, ITOP masks at every step, ``"mask"`` here: for optimizers that treat entries one by one
        it is the same.) ``"mean"``: new connections get the mean of those that stayed. ``"keep"``: nothing.
        Factored moments (Adafactor) stay as they are.
      mask_gradients: show the inner optimizer zero gradients at pruned weights. Growth sees the dense ones.
      rounding: of the number to drop.
      min_kept: of every segment of a pattern (or leaf), at least so many units are not dropped.
      max_density: no leaf keeps a larger part of its entries than this: a number for all leaves, or one by path
        rule, such as ``{"^head/": 0.5}``. What the distribution would give it beyond goes to the other leaves in
        proportion, and so does growth that leaves share.
      normalize: divide scores by their norm over the ``"layer"``, ``"input"``, ``"output"``, ``"channel"`` or
        ``"depth"``, before they are compared.
      norm: ``"sum"``, ``"max"`` or ``"l2"`` of them.
      rescale: after a drop, scale what stayed to the norm of what was, by ``"leaf"``, ``"in"`` or ``"out"``.
      accumulate: show criterion and growth the ``"mean"`` of the gradients since the last mask update, or their
        exponential average with this coefficient, instead of the last mini-batch's.
      initial_density: density at the start where ``ramp`` is given; 1 by default.
      ramp: how the density gets from initial to final: of `wormjax.dst.ramps`. The final counts are exact, and a last
        mask update at ``stop`` reaches them whether or not ``every`` divides it.
      ramp_scope: which weights the ramp's pruning compares, in each leaf or all.
      straight_through: train a dense copy of the parameters with the gradients of the masked ones; masks are its
        largest magnitudes, and ``drop`` and ``grow`` are not asked.
      track_fired: remember which connections were ever active (`SparseState.rate_explored`).
      packed: keep masks at one bit an entry.

    Returns:
      An optax transformation with a `wormjax.dst.SparseState`. Under `jax.vmap` over seeds use `wormjax.seed_axes`,
      which keeps the step counter single, so that masks are updated when it is time only.

    Raises:
      TypeError: a number that decides counts is a JAX array (name it in ``static_args``).
      ValueError: a setting out of range, an unknown name, a pattern that does not fit a leaf, no prunable leaf; an
        update period longer than the training; at ``update``, a criterion without what it needs.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import wormjax as wj
      >>> params = {"kernel": jnp.ones((8, 4)), "bias": jnp.zeros(4)}
      >>> tx = wj.sparse_training(optax.sgd(0.1, momentum=0.9), key=jax.random.key(0), density=0.25,
      ...                         distribution="uniform", every=10, total_steps=100)
      >>> state = tx.init(params)
      >>> updates, state = tx.update(params, state, params)
      >>> params = optax.apply_updates(params, updates)
      >>> int((params["kernel"] != 0).sum())
      8

    References:
      Evci et al., `Rigging the Lottery: Making All Tickets Winners <https://arxiv.org/abs/1911.11134>`_, 2019;
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023;
      Lee et al., `JaxPruner: A Concise Library for Sparsity Research <https://arxiv.org/abs/2304.14082>`_, 2023

    Note:
      The references draw masks entry by entry, update them at the last step, and let the momentum of pruned weights
      build up; the defaults here do not. `wormjax.dst.presets` has their settings.
    """
    kept = None if density is None else as_density("density", density)
    if kept is None and masks is None:
        raise ValueError(
            "Say how sparse: density= (a fraction that is kept), or masks= to start with."
        )
    if not isinstance(key, jax.Array):
        raise TypeError(f"key must be a PRNG key, such as jax.random.key(0), got {key!r}.")
    if schedule is None:
        schedule = _schedules.cosine(0.5)
    if not callable(schedule):
        raise TypeError(
            f"schedule must be a function of (step, begin, end), such as wormjax.dst.schedules.cosine(0.5), got "
            f"{schedule!r}. Under optax.inject_hyperparams, name 'schedule' in static_args."
        )
    if (ramp is None) != (initial_density is None):
        if ramp is None:
            raise ValueError(
                "initial_density goes with ramp=, which says how the density changes, such as "
                "wormjax.dst.ramps.polynomial()."
            )
        initial_density = 1
    for name, value, choices in (
        ("initial", initial, ("random", "magnitude", "bernoulli")),
        ("scope", scope, ("leaf", "global")),
        ("ramp_scope", ramp_scope, ("leaf", "global")),
        ("order", order, ("after", "before", "skip")),
        ("opt_state", opt_state, ("reset", "keep", "mask", "mean")),
        ("rounding", rounding, ("ceil", "floor")),
        ("rescale", rescale, (None, "leaf", "in", "out")),
    ):
        check_choice(name, value, choices)
    _check_accumulate(accumulate)
    if isinstance(min_kept, bool) or not isinstance(min_kept, int) or min_kept < 0:
        raise ValueError(f"min_kept must be a number of units, 0 or more, got {min_kept!r}.")
    criterion, growth = criterion_of(drop), growth_of(grow)
    fired = track_fired or (growth is not None and "fired" in growth.needs)
    settings = Settings(
        drop=criterion,
        grow=growth,
        schedule=schedule,
        timing=Timing.of(every, start, stop, total_steps, guard_last, ramp is not None),
        scope=scope,
        order=order,
        allow_regrow_dropped=allow_regrow_dropped,
        zero_on_drop=zero_on_drop,
        grow_init=grow_init,
        opt_state=opt_state,
        mask_gradients=mask_gradients,
        rounding=rounding,
        min_kept=min_kept,
        normalize=None if normalize is None else Normalisation(normalize, norm),
        rescale=rescale,
        accumulate=accumulate,
        ramp=ramp,
        ramp_scope=ramp_scope,
        straight_through=straight_through,
        track_fired=fired,
        packed=packed,
        pattern=unstructured() if pattern is None else pattern,
    )
    _check_together(settings)
    chosen = distribution_of(distribution) if kept is not None else None
    first = kept if initial_density is None else as_density("initial_density", initial_density)
    optimizer = optax.with_extra_args_support(inner)
    start_masks = masks  # the name is a local of init

    def init(params: PyTree) -> SparseState:
        layout = lay_out(params, prunable, kernel_like)
        leaves = [leaf.value for leaf in layout.ranked]
        if not leaves and layout.leaves and not layout.is_part:
            raise ValueError(
                f"No leaf of {[leaf.name for leaf in layout.leaves[:5]]} is a kernel to prune (rank 2 or more, not a "
                "bias, a scale or an embedding). Say which with prunable=wormjax.prunable(params, include=...)."
            )
        patterns = [settings.pattern_of(leaf.name, leaf.value) for leaf in layout.ranked]
        for leaf, p in zip(layout.ranked, patterns, strict=True):
            check_total([leaf.value.size])
            p.check(leaf.name, leaf.value.shape)
            _check_drawn(initial, leaf.name, p)
            _check_segments(settings, leaf.name, p.layout(leaf.value.shape)[0])
        bounds = bounds_of(max_density, layout)
        if start_masks is None:
            assert chosen is not None
            assert first is not None
            counts = _static_counts(chosen, layout, patterns, first, bounds)
            drawn = draw(
                "magnitude" if straight_through else initial, key, patterns, leaves, counts
            )
            if initial == "bernoulli" and drawn:
                counts = jnp.stack([jnp.sum(m, dtype=jnp.int32) for m in drawn])
        else:
            drawn, counts = _given(start_masks, params, layout, patterns)
        targets = None
        if ramp is not None and kept is not None:
            assert chosen is not None
            targets = jnp.stack([counts, _static_counts(chosen, layout, patterns, kept, bounds)])
        most = units_at_most(bounds, layout, patterns, counts) if bounds else None
        shared = growth is not None and growth.shares is not None
        wide = [widened(jnp.zeros_like(x)) for x in leaves]
        tree = layout.params(
            {leaf.index: never_pruned() for leaf in layout.leaves}
            | {leaf.index: m for leaf, m in zip(layout.ranked, drawn, strict=True)}
        )
        return SparseState(
            masks=pack(tree) if packed else tree,
            counts=counts,
            targets=targets,
            most=most if shared else None,
            count=jnp.zeros((), jnp.int32),
            since=jnp.zeros((), jnp.int32),
            key=key,
            inner=optimizer.init(params),
            leaked=jnp.zeros((), bool),
            nonfinite=jnp.zeros(len(leaves), bool),
            running=wide if criterion.running is not None else None,
            gradients=wide if accumulate is not None else None,
            fired=drawn if fired else None,
            latent=[jnp.array(x) for x in leaves] if straight_through else None,
            patterns=tuple(patterns),
        )

    def update(updates: PyTree, state: SparseState, params: Any = None, **extra: Any) -> Any:
        return update_one(settings, optimizer, updates, state, params, extra)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_accumulate(value: Any) -> None:
    if value is None or value == "mean":
        return
    if isinstance(value, bool) or not isinstance(value, float) or not 0 < value < 1:
        raise ValueError(
            f"accumulate must be None, 'mean' or the coefficient of an average in (0, 1), got {value!r}."
        )


def _check_together(settings: Settings) -> None:
    """Raise where two settings do not go together."""
    if settings.straight_through and (settings.order == "skip" or settings.changes_values):
        raise ValueError(
            "straight_through trains a dense copy of the parameters, of which the masks show a part: it does not go "
            "together with order='skip', zero_on_drop, grow_init or rescale."
        )
    grow = settings.grow
    if grow is not None and grow.by_neuron and not isinstance(settings.pattern, Unstructured):
        raise ValueError(
            f"grow={grow.name!r} gives quotas to outputs, and works on unstructured masks only. Use "
            "'momentum' with this pattern."
        )


def _check_segments(settings: Settings, name: str, segments: int) -> None:
    """Raise where a leaf of several segments meets a rule that counts over whole leaves."""
    if segments == 1:
        return
    against = {
        f"drop={settings.drop.name!r}": not settings.drop.segmented,
        "scope='global'": settings.scope == "global",
        "ramp_scope='global'": settings.ramp is not None and settings.ramp_scope == "global",
        "a redistribution": settings.grow is not None and settings.grow.shares is not None,
    }
    for what, unfit in against.items():
        if unfit:
            raise ValueError(
                f"The pattern of {name!r} keeps the same number in each of {segments} segments, and {what} compares "
                "more than a segment. Use another criterion or scope, or an unstructured, block or channel pattern."
            )


def _check_drawn(initial: Initial, name: str, pattern: Any) -> None:
    if initial == "bernoulli" and not isinstance(pattern, Unstructured):
        raise ValueError(
            f"initial='bernoulli' draws entry by entry, and the pattern {pattern} of {name!r} does not allow it. Use "
            "'random'."
        )


def _static_counts(
    distribution: Distribution, layout: Layout, patterns: list, density: Fraction, most: dict
) -> Array:
    kept = units_kept(distribution, layout, patterns, density, most) if patterns else ()
    return jnp.array(kept, jnp.int32)


def _given(
    masks: PyTree, params: PyTree, layout: Layout, patterns: list
) -> tuple[list[Array], Array]:
    """The masks to start with, of the prunable leaves' full shapes, and what they keep."""
    own = cut_to(params, masks)
    check_masks(params, own)
    by_index = dict(zip((leaf.index for leaf in layout.leaves), jax.tree.leaves(own), strict=True))
    drawn = [
        sharded_like(
            jnp.broadcast_to(jnp.asarray(by_index[leaf.index]), leaf.value.shape)
            if by_index[leaf.index].ndim
            else jnp.ones(leaf.value.shape, bool),
            leaf.value,
        )
        for leaf in layout.ranked
    ]
    counts = [
        counted(m, p, leaf.name) for m, p, leaf in zip(drawn, patterns, layout.ranked, strict=True)
    ]
    return drawn, jnp.stack(counts) if counts else jnp.zeros(0, jnp.int32)
