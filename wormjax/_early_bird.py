"""The Early-Bird detector: has the mask that the scores imply stopped moving?"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PyTree

from wormjax._bit_planes import bit, low_bits, plane_dtype, store_ticket, ticket_bit
from wormjax._counts import as_fraction, check_total, floor_count, ratio_in_unit_interval
from wormjax._early_bird_state import EarlyBirdState
from wormjax._paths import leaf_names
from wormjax._protective import LARGEST_DENOMINATOR, protective
from wormjax._selection import (
    check_choice,
    check_scores,
    ordered_keys,
    place,
    ranked,
    ranked_names,
    select,
)

Score = Callable[[PyTree], PyTree]
Ratio = float | str | Fraction
Compare = Literal["newest_vs_all", "consecutive"]
MaskRule = Literal["exact", "reference", "protective"]


class EarlyBird(NamedTuple):
    """A pair of pure functions: ``init(params) -> state`` and ``update(params, state) -> state``."""

    init: Callable[[PyTree], EarlyBirdState]
    update: Callable[[PyTree, EarlyBirdState], EarlyBirdState]


def early_bird(
    score: Score,
    prune_ratio: Ratio | Sequence[Ratio] = 0.5,
    window: int = 5,
    epsilon: Ratio = 0.1,
    *,
    compare: Compare = "newest_vs_all",
    strict: bool = False,
    mask_rule: MaskRule = "exact",
    cap: int | None = None,
) -> EarlyBird:
    r"""Detector of Early-Bird tickets.

    At every update the masks that ``score`` implies at ``prune_ratio`` enter a window of ``window`` masks.
    The ticket emerges when the window is full and the newest mask lies within ``epsilon`` of each older
    one:

    .. math:: \max_{1 \le j < w} d(m_t, m_{t-j}) \le \varepsilon

    Args:
      score: ``score(params) -> scores``, for example `wormjax.scores.norm_scale`.
      prune_ratio: fraction of the score entries to prune (the papers' p), or a sequence of fractions that
        are watched side by side; a sequence puts an axis in front of everything in the state.
      window: masks compared (the papers' l), 2 to 31.
      epsilon: largest accepted mask distance, compared as an exact integer count.
      compare: ``"newest_vs_all"``, or ``"consecutive"`` pairs of the window (Early-Bird GCNs).
      strict: accept distances below epsilon only (the text of the papers; their code accepts equality).
      mask_rule: ``"exact"`` prunes exactly floor(p N) entries, ties by index; ``"reference"`` keeps what
        exceeds the value at sorted position ``int(N * p)``, as the papers' code does, and so prunes one
        more, and all of a tie. ``"protective"`` first protects what exceeds the value at nine tenths of every
        leaf's sorted scores, and applies the reference's rule to all others together, of which ``prune_ratio`` is
        then the fraction. (The papers' code applies its index to all entries, which prunes more, and at
        ratios near 0.9 lies beyond the pool.)
      cap: detections after which the state says ``no_ticket``.

    Returns:
      `EarlyBird` (init, update), both compiled; see `EarlyBirdState` for what the state tells.

    Raises:
      ValueError: a ratio outside (0, 1), a window or epsilon out of range, or, at ``init``, a score tree
        without prunable leaves.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> detector = wj.early_bird(wj.scores.norm_scale, prune_ratio=0.5, window=2)
      >>> params = {"bn": {"scale": jnp.array([0.1, 0.7, 0.4, 0.9]), "bias": jnp.zeros(4)}}
      >>> state = detector.init(params)
      >>> for _ in range(2):
      ...     state = detector.update(params, state)
      >>> bool(state.emerged), int(state.emerged_at)
      (True, 1)
      >>> print(state.masks["bn"]["scale"])
      [False  True False  True]

    Note:
      The first mask of a network whose scales all start equal is degenerate. It fills a place in the
      window, as in the papers' code, but no ticket is drawn on a degenerate mask.

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """
    detection = Detection.of(score, prune_ratio, window, epsilon, compare, strict, mask_rule, cap)
    return EarlyBird(detection.init, functools.partial(update_jit, detection))


@dataclasses.dataclass(frozen=True)
class Detection:
    """The settings of a detector; hashable, so that equal detectors share one compiled program."""

    score: Score
    ratios: tuple[Fraction, ...]
    stacked: bool
    window: int
    epsilon: Fraction
    compare: Compare
    strict: bool
    mask_rule: MaskRule
    cap: int | None

    @classmethod
    def of(
        cls,
        score: Score,
        prune_ratio: Ratio | Sequence[Ratio],
        window: int,
        epsilon: Ratio,
        compare: Compare,
        strict: bool,
        mask_rule: MaskRule,
        cap: int | None,
    ) -> "Detection":
        """Check the settings; each error says what to do."""
        if not callable(score):
            raise TypeError(
                f"score must be a function params -> scores, got {type(score).__name__}. Under "
                "optax.inject_hyperparams, name 'score' in static_args."
            )
        stacked = isinstance(prune_ratio, Sequence) and not isinstance(prune_ratio, str)
        watched: Sequence = prune_ratio if stacked else [prune_ratio]  # type: ignore[assignment]
        ratios = tuple(ratio_in_unit_interval("prune_ratio", p) for p in watched)
        if not ratios:
            raise ValueError(
                "prune_ratio is an empty sequence; give at least one fraction to prune."
            )
        if isinstance(window, jax.Array):
            as_fraction("window", window)
        if not isinstance(window, int) or not 2 <= window <= 31:
            raise ValueError(f"window must be an integer from 2 to 31 masks, got {window!r}.")
        distance = as_fraction("epsilon", epsilon)
        if not 0 <= distance < 1:
            raise ValueError(
                f"epsilon must lie in [0, 1), got {epsilon}. It is a fraction of mask entries."
            )
        check_choice("compare", compare, ("newest_vs_all", "consecutive"))
        check_choice("mask_rule", mask_rule, ("exact", "reference", "protective"))
        if mask_rule == "protective":
            for p in ratios:
                if p.denominator > LARGEST_DENOMINATOR:
                    raise ValueError(
                        f"prune_ratio is {p}, and mask_rule='protective' takes fractions with a denominator up to "
                        f"{LARGEST_DENOMINATOR}, such as decimals of four digits. Round it."
                    )
        if isinstance(cap, jax.Array):
            as_fraction("cap", cap)
        if cap is not None and cap < window:
            raise ValueError(
                f"cap={cap} detections end before the window of {window} masks is full."
            )
        return cls(score, ratios, stacked, window, distance, compare, strict, mask_rule, cap)

    def init(self, params: PyTree) -> EarlyBirdState:
        """Return the state before any detection. Reads shapes, and scores outside jit to check them."""
        scores = jax.eval_shape(self.score, params)
        names, leaves = ranked_names(scores), ranked(scores)
        sizes = tuple(x.size for x in leaves)
        check_total(sizes, times=self.window - 1)
        if not sum(sizes) and not _is_part(params):
            raise ValueError(
                f"The score gives no prunable leaf among {leaf_names(params)[:5]}; pass a score whose "
                "`prunable` rule matches some."
            )
        planes = jax.tree.map(
            # a window of ones: nothing counts as pruned throughout before the window is full
            lambda x, p: _full(
                self._leading, x, p, (1 << self.window) - 1, plane_dtype(self.window)
            ),
            scores,
            params,
        )
        worst = jnp.broadcast_to(
            jnp.array(sizes, jnp.int32), (*self._leading, self.window - 1, len(sizes))
        )
        return EarlyBirdState(
            planes=planes,
            disagreements=worst,
            checks=jnp.zeros((), jnp.int32),
            emerged=jnp.zeros(self._leading, bool),
            emerged_at=jnp.full(self._leading, -1, jnp.int32),
            degenerate=jnp.zeros((), bool),
            nonfinite=jnp.zeros(len(sizes), bool),
            window=self.window,
            cap=self.cap,
            sizes=sizes,
            names=tuple(names),
        )

    def update(self, params: PyTree, state: EarlyBirdState) -> EarlyBirdState:
        """Score, push the masks, compare."""
        if not state.sizes:
            return dataclasses.replace(state, checks=state.checks + 1)
        scores = self.score(params)
        self._check_fits(scores, state)
        check_scores(scores)
        leaves = ranked(scores)
        masks = [ranked(self._masks(scores, ratio)) for ratio in self.ratios]
        newest = [jnp.stack(ms) if self.stacked else ms[0] for ms in zip(*masks, strict=True)]
        planes = [p for p in jax.tree.leaves(state.planes) if p.ndim]
        planes = [
            ((p << 1) & low_bits(p, self.window)) | m.astype(p.dtype) | (p & ticket_bit(p))
            for p, m in zip(planes, newest, strict=True)
        ]

        checks = state.checks + 1
        full = checks >= self.window
        counts = self._told(planes, state.sizes, full)
        degenerate = _all_equal(leaves)
        nonfinite = state.nonfinite | jnp.stack([~jnp.all(jnp.isfinite(x)) for x in leaves])
        settled = jnp.all(jnp.sum(counts, axis=-1) <= self._allowed(sum(state.sizes)), axis=-1)
        draw = ~state.emerged & settled & full & ~degenerate & ~jnp.any(nonfinite)
        planes = [store_ticket(p, draw) for p in planes]

        of_ranked = iter(planes)
        all_planes = [next(of_ranked) if p.ndim else p for p in jax.tree.leaves(state.planes)]
        return dataclasses.replace(
            state,
            planes=jax.tree.unflatten(jax.tree.structure(state.planes), all_planes),
            disagreements=counts,
            checks=checks,
            emerged=state.emerged | draw,
            emerged_at=jnp.where(draw, state.checks, state.emerged_at),
            degenerate=degenerate,
            nonfinite=nonfinite,
        )

    def on_fewer(self, state: EarlyBirdState, planes: PyTree[Array]) -> EarlyBirdState:
        """Return the state in which the window's masks are restricted to the entries of ``planes``.

        Args:
          state: of this detection.
          planes: its bit planes with some entries removed.
        """
        left = [p for p in jax.tree.leaves(planes) if p.ndim]
        sizes = tuple(math.prod(p.shape[len(self._leading) :]) for p in left)
        if not left:
            return dataclasses.replace(state, planes=planes)
        counts = self._told(left, sizes, state.checks >= self.window)
        return dataclasses.replace(state, planes=planes, sizes=sizes, disagreements=counts)

    @property
    def _leading(self) -> tuple[int, ...]:
        return (len(self.ratios),) if self.stacked else ()

    def _told(self, planes: Sequence[Array], sizes: Sequence[int], full: Array) -> Array:
        """What the state says of the compared masks: all entries differ until the window is full."""
        counts = self._disagreements(planes)
        worst = jnp.array(sizes, jnp.int32).reshape((1,) * (counts.ndim - 1) + (-1,))
        return jnp.where(full, counts, worst)

    def _masks(self, scores: PyTree, ratio: Fraction) -> PyTree:
        total = sum(x.size for x in ranked(scores))
        if self.mask_rule == "reference":
            # the papers' code truncates a float product (int(100 * 0.29) is 28) and keeps what is above
            return select(scores, (total - int(total * float(ratio)),), "global", "strict")
        if self.mask_rule == "protective":
            return place(protective(ranked(scores), ratio), scores)
        return select(scores, (total - floor_count(ratio, total),), "global", "index")

    def _disagreements(self, planes: Sequence[Array]) -> Int[Array, "..."]:
        """Entries that differ, by compared pair (oldest first) and leaf."""
        pairs = [
            (0 if self.compare == "newest_vs_all" else j - 1, j)
            for j in range(self.window - 1, 0, -1)
        ]

        def count(plane, new, old):
            entries = tuple(range(1 if self.stacked else 0, plane.ndim))
            return jnp.sum(bit(plane, new) != bit(plane, old), axis=entries, dtype=jnp.int32)

        return jnp.stack(
            [jnp.stack([count(p, *pair) for p in planes], axis=-1) for pair in pairs], axis=-2
        )

    def _allowed(self, total: int) -> int:
        """The largest number of differing entries that the stop rule accepts."""
        bound = self.epsilon * total
        return math.ceil(bound) - 1 if self.strict else math.floor(bound)

    def _check_fits(self, scores: PyTree, state: EarlyBirdState) -> None:
        names, sizes = tuple(ranked_names(scores)), tuple(x.size for x in ranked(scores))
        if (names, sizes) != (state.names, state.sizes):
            raise ValueError(
                f"The scores cover {_briefly(names)} with {sum(sizes)} entries, but the detector was "
                f"initialised on {_briefly(state.names)} with {sum(state.sizes)}. Initialise a new state "
                "for these parameters."
            )


@functools.partial(jax.jit, static_argnums=0)
def update_jit(detection: Detection, params: PyTree, state: EarlyBirdState) -> EarlyBirdState:
    """Update under jit; equal detections share the compiled program."""
    return detection.update(params, state)


def _is_part(params: PyTree) -> bool:
    """Whether this is an empty tree or a part of one, as multi_transform and masked show it."""
    nodes = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
    return not nodes or any(isinstance(x, optax.MaskedNode) for x in nodes)


def _full(leading: tuple[int, ...], score: Any, param: Any, value: int, dtype: Any) -> Array:
    if score.ndim and not leading and score.shape == jnp.shape(param):
        # sharded as its parameter from the start
        return jnp.full_like(param, value, dtype)
    return jnp.full((*leading, *score.shape) if score.ndim else (), value, dtype)


def _all_equal(leaves: Sequence[Array]) -> Bool[Array, ""]:
    bits = 64 if any(x.dtype == jnp.float64 for x in leaves) else 32
    # as integers, since a backend that flushes subnormals sees them all as zero
    keys = [ordered_keys(x, bits) for x in leaves if x.size]
    low, high = jnp.stack([jnp.min(k) for k in keys]), jnp.stack([jnp.max(k) for k in keys])
    return jnp.min(low) == jnp.max(high)


def _briefly(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (" ..." if len(names) > 3 else "")
