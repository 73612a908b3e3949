"""How many entries every prunable leaf keeps."""

from collections.abc import Callable
from fractions import Fraction

import jax
from jaxtyping import PyTree

from wormjax._counts import floor_count

Distribution = Callable[[PyTree, PyTree, Fraction], tuple[int, ...]]


def uniform() -> Distribution:
    """Keep the same fraction of every prunable leaf."""

    def counts(params: PyTree, may: PyTree, density: Fraction) -> tuple[int, ...]:
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(may), strict=True)
        return tuple(floor_count(density, x.size) for x, m in pairs if m)

    return counts


NAMED: dict[str, Callable[[], Distribution]] = {"uniform": uniform}
