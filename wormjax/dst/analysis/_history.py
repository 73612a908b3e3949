"""What becomes of connections over many mask updates: explored, regrown, grown old."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Int, PyTree

from wormjax._counts import check_total
from wormjax._masks import check_masks
from wormjax._selection import ranked, ranked_names


@no_type_check  # JAX rebuilds it with specs, axes and None in place of arrays
@functools.partial(
    register_dataclass,
    data_fields=["masks", "fired", "dropped", "ages", "grown", "regrown"],
    meta_fields=[],
)
@dataclass(frozen=True)
class MaskHistory:
    """A record of masks that is carried through training, jittable; begin with `start_history`.

    Leaves that are never pruned are rank-0 in all trees.

    Attributes:
      masks: the newest masks.
      fired: bool: was kept by one of the masks so far.
      dropped: bool: was kept once, and by a later mask not.
      ages: int32: updates that the entry has survived since it was last grown; 0 where it is pruned.
      grown: int32, entries that the last update grew.
      regrown: int32, those of them that had been dropped before.
    """

    masks: PyTree
    fired: PyTree
    dropped: PyTree
    ages: PyTree
    grown: Int[Array, ""]
    regrown: Int[Array, ""]


def start_history(masks: PyTree) -> MaskHistory:
    """Return the history that knows the initial masks only.

    Args:
      masks: mask tree.

    Example:
      >>> import jax.numpy as jnp
      >>> history = start_history({"w": jnp.array([True, False, False, False])})
      >>> history = advance_history(history, {"w": jnp.array([False, True, False, False])})
      >>> history = advance_history(history, {"w": jnp.array([True, False, False, False])})
      >>> float(exploration(history).total), int(history.regrown)
      (0.5, 1)
    """
    check_total([m.size for m in ranked(masks)])
    none = jax.tree.map(jnp.zeros_like, masks)
    ages = jax.tree.map(lambda m: jnp.zeros(m.shape, jnp.int32), masks)
    zero = jnp.zeros((), jnp.int32)
    return MaskHistory(masks, masks, none, ages, zero, zero)


def advance_history(history: MaskHistory, masks: PyTree) -> MaskHistory:
    """Return the history after a mask update.

    Only masks before and after are seen: an entry that one update drops and grows again counts as kept.

    Args:
      history: what was known before.
      masks: the masks after the update.

    Returns:
      The new history.

    Raises:
      ValueError: the masks have another structure or other shapes.
    """
    check_masks(history.masks, masks)
    return _advance(history, masks)


class Exploration(NamedTuple):
    """In-time over-parameterisation rate R_s, of everything and by path of the leaves; float32."""

    total: Float[Array, ""]
    leaves: dict[str, Float[Array, ""]]


def exploration(history: MaskHistory) -> Exploration:
    r"""Return the share of the prunable entries that were ever active.

    .. math:: R_s = \frac{|\bigcup_{\tau \le t} \mathrm{active}(\tau)|}{N}

    At the start it is the density, static training stays there, and it never falls.

    Args:
      history: what is known.

    Returns:
      `Exploration`.

    Raises:
      ValueError: no leaf is prunable.

    References:
      Liu et al., `Do We Actually Need Dense Over-Parameterization? In-Time Over-Parameterization in Sparse Training
      <https://arxiv.org/abs/2102.02887>`_, 2021
    """
    leaves = ranked(history.fired)
    if not leaves:
        raise ValueError("The masks have no prunable leaf (all are rank-0): nothing is explored.")
    total, shares = _shares(leaves)
    return Exploration(total, dict(zip(ranked_names(history.fired), shares, strict=True)))


def regrown_rate(history: MaskHistory) -> Float[Array, ""]:
    """Return the share of what the last update grew that had been dropped before; NaN where it grew nothing."""
    ratio = history.regrown.astype(jnp.float32) / jnp.maximum(history.grown, 1).astype(jnp.float32)
    return jnp.where(history.grown > 0, ratio, jnp.float32(jnp.nan))


def age_counts(history: MaskHistory, edges: Sequence[int]) -> Int[np.ndarray, " bins"]:
    """Count the kept entries by age, on the host.

    Args:
      history: what is known.
      edges: rising ages that begin a bin; the last bin has no end. ``(0, 1, 5)`` counts ages 0, 1 to 4, and 5
        and more.

    Returns:
      int64, one count a bin.

    Raises:
      ValueError: the edges do not rise from 0.

    Example:
      >>> import jax.numpy as jnp
      >>> age_counts(start_history({"w": jnp.array([True, True, False])}), (0, 1))
      array([2, 0])
    """
    if not edges or edges[0] != 0 or any(a >= b for a, b in itertools.pairwise(edges)):
        raise ValueError(f"edges must rise from 0, such as (0, 1, 5), got {tuple(edges)}.")
    kept, ages = jax.device_get((ranked(history.masks), ranked(history.ages)))
    counts = np.zeros(len(edges), np.int64)
    for m, a in zip(kept, ages, strict=True):
        counts += np.histogram(a[m], [*edges, np.inf])[0]
    return counts


@jax.jit
def _shares(fired: list[Array]) -> tuple[Array, list[Array]]:
    counts = [jnp.sum(m, dtype=jnp.int32) for m in fired]
    shares = [c.astype(jnp.float32) / m.size for c, m in zip(counts, fired, strict=True)]
    return sum(counts[1:], counts[0]).astype(jnp.float32) / sum(m.size for m in fired), shares


@jax.jit
def _advance(history: MaskHistory, masks: PyTree) -> MaskHistory:
    before = history.masks

    def of_ranked(rule, *trees):
        return jax.tree.map(lambda m, *xs: rule(m, *xs) if m.ndim else xs[-1], masks, *trees)

    grown = [m & ~b for m, b in zip(ranked(masks), ranked(before), strict=True)]
    again = [g & d for g, d in zip(grown, ranked(history.dropped), strict=True)]
    return MaskHistory(
        masks,
        of_ranked(lambda m, f: m | f, history.fired),
        of_ranked(lambda m, b, d: d | (b & ~m), before, history.dropped),
        of_ranked(lambda m, b, a: jnp.where(m & b, a + 1, 0), before, history.ages),
        _total(grown),
        _total(again),
    )


def _total(masks: list[Array]) -> Int[Array, ""]:
    return sum((jnp.sum(m, dtype=jnp.int32) for m in masks), jnp.zeros((), jnp.int32))
