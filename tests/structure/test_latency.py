"""Planning by time: the model against sums by hand, the trade against a brute-force greedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.structure import find_groups, plan
from wormjax.structure._alignment import Alignment, Speeds
from wormjax.structure._costs import contractions
from wormjax.structure._latency import Latency

BATCH, INPUTS, OUTPUTS = 64, 8, 8
SIZES = {"a": 16, "b": 12}
RATE = 1e9
INNER = Speeds(np.arange(1, 33), 1 - 0.5 / np.arange(1, 33))
OUTER = Speeds(np.arange(1, 33), np.where(np.arange(1, 33) % 4 == 0, 1.0, 0.6))
TABLE = Alignment("toy", {"dense": RATE}, {"dense": {"inner": INNER, "outer": OUTER}}, {})


def apply(params, x):
    x = jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"])
    x = jnp.tanh(x @ params["b"]["kernel"] + params["b"]["bias"])
    return x @ params["out"]


PARAMS = {
    "a": {"kernel": jnp.ones((INPUTS, 16)), "bias": jnp.ones((1, 16))},
    "b": {"kernel": jnp.ones((16, 12)), "bias": jnp.ones((1, 12))},
    "out": jnp.ones((12, OUTPUTS)),
}
GROUPS = find_groups(apply, PARAMS, jnp.ones((BATCH, INPUTS)))


def seconds(a, b):
    """The model by hand."""
    total = 0.0
    for inner, outer in ((INPUTS, a), (a, b), (b, OUTPUTS)):
        speed = INNER.speeds[inner - 1] * OUTER.speeds[outer - 1]
        total += BATCH * inner * outer / (RATE * speed)
    return total


def atoms():
    return {"a": GROUPS["a/bias:1"].atom, "b": GROUPS["b/bias:1"].atom}


def test_total_is_the_sum_over_contractions():
    model, atom = Latency(GROUPS, contractions(GROUPS.traced), TABLE), atoms()
    for a, b in ((16, 12), (15, 12), (16, 7), (3, 4)):
        np.testing.assert_allclose(model.total({atom["a"]: a, atom["b"]: b}), seconds(a, b))
    np.testing.assert_allclose(model.total({}), seconds(16, 12))


def test_a_group_costs_what_it_takes_part_in():
    model, atom = Latency(GROUPS, contractions(GROUPS.traced), TABLE), atoms()
    widths = np.array([16, 15, 4])
    found = model.of_group(GROUPS["b/bias:1"], widths, {atom["a"]: 8})
    first = BATCH * INPUTS * 8 / (RATE * INNER.speeds[INPUTS - 1])  # a's own product is not b's
    np.testing.assert_allclose(found, [seconds(8, w) - first for w in widths])


def scores(seed):
    rng = np.random.default_rng(seed)
    made = jax.tree.map(lambda _: jnp.zeros(()), PARAMS)
    for name, size in SIZES.items():
        made[name]["bias"] = jnp.asarray(rng.random((1, size)), jnp.float32)
    return made


def by_hand(given, ratio, minimum=1, step=1):
    """At every step try every narrower width of both groups."""
    widths, sizes = dict(SIZES), dict(SIZES)
    rows = {n: np.sort(np.asarray(given[n]["bias"], np.float64)[0]) for n in sizes}

    def allowed(name):
        least = min(-(-minimum // step) * step, sizes[name])
        return [w for w in range(least, widths[name]) if w % step == 0 or w == sizes[name]]

    while seconds(**widths) > ratio * seconds(**sizes):
        best = None
        for name in sizes:
            for width in allowed(name):
                saved = seconds(**widths) - seconds(**(widths | {name: width}))
                lost = rows[name][sizes[name] - widths[name] : sizes[name] - width].sum()
                if saved > 1e-15 and (best is None or lost / saved < best[0] * (1 - 1e-9)):
                    best = (lost / saved, name, width)
        assert best is not None
        widths[best[1]] = best[2]
    return widths


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [0.8, 0.5, 0.3])
@pytest.mark.parametrize(("minimum", "step"), [(1, 1), (2, 3)])
def test_latency_trades_as_the_brute_force_does(seed, ratio, minimum, step):
    given = scores(seed)
    made = plan(GROUPS, given, latency=ratio, minimum=minimum, round_to=step, alignment=TABLE)
    expected = by_hand(given, ratio, minimum, step)
    assert made.widths == {f"{name}/bias:1": width for name, width in expected.items()}
    assert seconds(**expected) <= ratio * seconds(**SIZES)


def test_a_width_that_costs_more_is_passed_over():
    made = plan(GROUPS, scores(0), latency=0.95, alignment=TABLE)
    # 15 units would take longer than 16: what goes first is a block of four
    assert all(width % 4 == 0 for width in made.widths.values())
    assert sum(made.widths.values()) == sum(SIZES.values()) - 4


def test_units_that_go_are_the_worst():
    given = scores(1)
    made = plan(GROUPS, given, latency=0.5, alignment=TABLE)
    for name in SIZES:
        row, kept = np.asarray(given[name]["bias"])[0], made.kept[f"{name}/bias:1"]
        assert 0 < kept.sum() <= len(row)
        assert row[kept].min() > max(row[~kept], default=0)


def test_time_that_no_width_saves_is_refused():
    with pytest.raises(ValueError, match=r"latency=0.01 cannot be met: \d+.\d% remain"):
        plan(GROUPS, scores(0), latency=0.01, alignment=TABLE)
    with pytest.raises(ValueError, match="needs scores"):
        plan(GROUPS, latency=0.5, alignment=TABLE)


def test_heads_and_joined_axes_are_as_wide_as_what_they_make():
    """A group that is a factor, or a piece, of an axis changes the width of the whole axis."""

    def heads(p, x):
        q = (x @ p["q"]).reshape(x.shape[0], 2, 4)
        y = jnp.concatenate([jnp.tanh(q).reshape(x.shape[0], 8), jnp.tanh(x @ p["c"])], axis=1)
        return y @ p["out"]

    params = {"q": jnp.ones((8, 8)), "c": jnp.ones((8, 6)), "out": jnp.ones((14, 4))}
    groups = find_groups(heads, params, jnp.ones((BATCH, 8)))
    sizes = {g.size: g for g in groups}
    assert sorted(sizes) == [2, 4, 6]
    model = Latency(groups, contractions(groups.traced), TABLE)

    def dense(inner, outer):
        speed = INNER.speeds[inner - 1] * OUTER.speeds[outer - 1]
        return BATCH * inner * outer / (RATE * speed)

    found = model.of_group(sizes[2], np.array([2, 1]), {sizes[6].atom: 3})
    np.testing.assert_allclose(found, [dense(8, 8) + dense(11, 4), dense(8, 4) + dense(7, 4)])
