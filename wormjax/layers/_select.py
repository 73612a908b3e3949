"""Which blocks go: the least important ones, as many as asked for, and never a whole stage."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import no_type_check

from wormjax._counts import as_fraction
from wormjax.layers._candidates import Candidates


@no_type_check  # a number of another kind is told in words
def select(
    found: Candidates,
    scores: Mapping[str, float],
    p: int | None = None,
    *,
    fraction: float | str | Fraction | None = None,
    min_blocks_per_stage: int = 1,
) -> list[str]:
    """Choose the least important blocks, in one global ranking.

    A block is passed over when its stage would be left with fewer than ``min_blocks_per_stage``, those that cannot go
    counted. Ties go by the blocks' order.

    Args:
      found: from `candidates`.
      scores: for each candidate its score, such as those of `score`; the lowest go first.
      p: how many blocks to remove. (The papers call it the density.)
      fraction: instead of ``p``, which part of the candidates to remove, rounded to the nearest number.
      min_blocks_per_stage: 1 keeps a block in every stage; 2 is what the code of the author's other papers does.

    Returns:
      Names, in the order in which they go.

    Raises:
      ValueError: so many cannot go; a score is missing or NaN; not exactly one of ``p`` and ``fraction``.
      TypeError: ``p`` is not an int: 1 is one block and 1.0 would be all of them.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import layers
      >>> params = {"a": jnp.ones((1, 1)), "b": jnp.ones((1, 1)), "c": jnp.ones((1, 1))}
      >>> def apply(params, x):
      ...     for name in params:
      ...         x = x + jnp.tanh(x @ params[name])
      ...     return x
      >>> found = layers.candidates(apply, params, jnp.ones((1, 1)))
      >>> layers.select(found, {"a": 3.0, "b": 1.0, "c": 2.0}, 2)
      ['b', 'c']
    """
    if (p is None) == (fraction is None):
        raise ValueError("select takes exactly one of p= and fraction=.")
    if p is not None and (isinstance(p, bool) or not isinstance(p, int)):
        raise TypeError(
            f"p={p!r} is a {type(p).__name__}, and the number of blocks is an int. For a part of all candidates pass "
            "fraction=."
        )
    if min_blocks_per_stage < 0:
        raise ValueError(f"min_blocks_per_stage={min_blocks_per_stage} must not be negative.")
    wanted = p if p is not None else _rounded(fraction, len(found))
    if wanted < 0:
        raise ValueError(f"p={wanted} must not be negative.")
    for name in found.names:
        if name not in scores or math.isnan(scores[name]):
            raise ValueError(f"The scores hold no number for the candidate {name!r}.")
    left = found.blocks()
    chosen: list[str] = []
    order = sorted(enumerate(found), key=lambda pair: (scores[pair[1].name], pair[0]))
    for _, candidate in order:
        if len(chosen) < wanted and left[candidate.stage] > min_blocks_per_stage:
            left[candidate.stage] -= 1
            chosen.append(candidate.name)
    if len(chosen) < wanted:
        raise ValueError(
            f"{wanted} blocks cannot be removed: of {len(found)} candidates {len(chosen)} can go when every stage "
            f"keeps {min_blocks_per_stage}. Ask for fewer, or lower min_blocks_per_stage."
        )
    return chosen


def _rounded(fraction: float | str | Fraction | None, count: int) -> int:
    ratio = as_fraction("fraction", fraction)
    if not 0 <= ratio <= 1:
        raise ValueError(f"fraction must lie in [0, 1], got {fraction}.")
    return math.floor(ratio * count + Fraction(1, 2))
