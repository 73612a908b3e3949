"""Growth where the inner optimizer's momentum is largest."""

import dataclasses

import jax.numpy as jnp

from wormjax._selection import check_choice
from wormjax.dst._seen import Seen
from wormjax.dst.growth._protocol import Growth, Shares


def _trace(seen: Seen):
    return jnp.abs(seen.momentum)


def _adam(seen: Seen):
    assert seen.momentum is not None
    assert seen.second_moment is not None
    return jnp.abs(seen.momentum) / (jnp.sqrt(seen.second_moment) + 1e-8)


def momentum() -> Growth:
    """Switch on the inactive entries of the largest momentum (trace or first moment) in the inner optimizer.

    Pass ``mask_gradients=False`` and ``opt_state="keep"``: a momentum that is masked is zero where growth looks.

    Returns:
      The growth rule.

    References:
      Dettmers & Zettlemoyer, `Sparse Networks from Scratch <https://arxiv.org/abs/1907.04840>`_, 2019
    """
    return Growth("momentum", _trace, ("momentum",))


def adam_momentum() -> Growth:
    r"""Switch on the inactive entries of the largest :math:`|m| / (\sqrt{v} + 10^{-8})` of an Adam.

    Returns:
      The growth rule; see `momentum` for what it asks of the masks on gradients and state.
    """
    return Growth("adam_momentum", _adam, ("momentum", "second_moment"))


def momentum_neuron() -> Growth:
    r"""Give every output a share of the growth by its momentum, and grow the largest momentum within it.

    .. math:: q_i = \left\lfloor n \, \frac{\sum_j |M_{ji}|}{\sum_{jk} |M_{jk}|} \right\rfloor

    What rounding and full outputs leave over goes to the largest momentum anywhere in the leaf, so that the number is
    exact. (The reference skips outputs with a quota below 10.)

    Returns:
      The growth rule, for unstructured masks. The output axis is the last, as in Flax.
    """
    return Growth("momentum_neuron", _trace, ("momentum",), by_neuron=True)


def redistribution(growth: Growth, by: Shares = "momentum") -> Growth:
    """Let leaves share what was dropped from all of them, instead of growing what each lost.

    Args:
      growth: where to grow inside a leaf.
      by: a leaf's share is its mean absolute ``"momentum"``, ``"gradient"`` or weight (``"magnitude"``) over active
        entries, or its number of ``"nonzero"`` entries. No leaf is filled beyond 99% of its free places while
        another has room; the total is conserved exactly. (The reference corrects a drifting total afterwards.)

    Returns:
      The growth rule, for patterns of one segment.

    References:
      Dettmers & Zettlemoyer, `Sparse Networks from Scratch <https://arxiv.org/abs/1907.04840>`_, 2019
    """
    check_choice("by", by, ("momentum", "magnitude", "gradient", "nonzero"))
    needs = growth.needs
    if by in ("momentum", "gradient") and by not in needs:
        needs = (*needs, by)
    return dataclasses.replace(growth, needs=needs, shares=by)
