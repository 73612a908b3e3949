"""The report: what is counted, what is refused; no time is asserted."""

import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.lottery import Contender, execution_report, execution_table


def _product(p, x):
    return x @ p


def test_a_row_says_densities_multiplications_and_time():
    wide = Contender(_product, jnp.ones((6, 4)))
    stated = Contender(
        lambda p, s, x: (x @ p, s), jnp.ones((6, 4)), jnp.zeros(1), 0.4, 0.5, "dense", macs=24
    )
    rows = execution_report({"dense": wide, "blocks": stated}, jnp.ones((2, 6)))
    assert [(r.name, r.nominal, r.executed, r.parameters, r.macs) for r in rows] == [
        ("dense", 1.0, 1.0, 24, 48), ("blocks", 0.4, 0.5, 24, 24)
    ]  # fmt: skip
    assert all(0 < r.least <= r.median for r in rows)
    assert rows[0].ratio == 1
    assert "0.500" in execution_table(rows).splitlines()[2]


def test_k9_too_few_rounds_and_unequal_outputs_are_refused():
    one = Contender(_product, jnp.ones((6, 4)))
    with pytest.raises(ValueError, match="take 30 at least"):
        execution_report({"one": one}, jnp.ones((2, 6)), rounds=1)
    other = Contender(_product, np.full((6, 4), 1.1, np.float32), equals="one")
    with pytest.raises(ValueError, match="not the same network"):
        execution_report({"one": one, "other": other}, jnp.ones((2, 6)))
