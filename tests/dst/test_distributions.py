"""Counts of the distributions: the vectors of the specification, and an oracle in float64."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from tests.dst.networks import (
    CNN,
    HIGGS,
    LENET,
    MLP,
    VGG16,
    all_of,
    counts_of,
    resnet56,
    tree_of,
)
from wormjax.dst import distributions as dist
from wormjax.dst.distributions._layers import check_rounding


def _oracle(shapes, density, kappa=1.0, custom=None, floor=False):
    """ERK as the specification states it, in float64: densities and epsilon."""
    sizes = [np.prod(s) for s in shapes]
    raw = [(np.sum(s) / np.prod(s)) ** kappa for s in shapes]
    custom = custom or {}
    dense = set()
    while True:
        rhs = div = 0.0
        for i, n in enumerate(sizes):
            zeros = np.floor((1 - density) * n + 1e-9) if floor else (1 - density) * n
            if i in dense:
                rhs -= zeros
            elif i not in custom:
                rhs += n - zeros
                div += raw[i] * n
        left = [raw[i] for i in range(len(sizes)) if i not in dense and i not in custom]
        if not left:
            return [1.0] * len(sizes), 0.0
        epsilon = rhs / div
        if max(left) * epsilon <= 1 + 1e-12:
            break
        dense |= {i for i, r in enumerate(raw) if r == max(left) and i not in custom}
    found = [1.0 if i in dense else custom.get(i, epsilon * raw[i]) for i in range(len(sizes))]
    return found, epsilon


VECTORS = [
    (MLP, "0.05", 31.718182, {0: 0.0413, 1: 0.092924, 2: 1}),
    (MLP, "0.1", 64.345455, {0: 0.083783, 1: 0.188512, 2: 1}),
    (MLP, "0.2", 129.6, {0: 0.16875, 1: 0.379688, 2: 1}),
    (CNN, "0.05", 10.0739, {0: 0.478044, 1: 0.055747, 2: 0.027054, 3: 1}),
    (CNN, "0.1", 24.288, {0: 1, 1: 0.134406, 2: 0.065227, 3: 1}),
    (CNN, "0.2", 55.722667, {0: 1, 1: 0.308361, 2: 0.149646, 3: 1}),
    (LENET, "0.05", 11.711552, {0: 0.726116, 1: 0.037477, 2: 0.038063, 3: 1}),
    (LENET, "0.1", 27.210145, {0: 1, 1: 0.087072, 2: 0.088433, 3: 1}),
    (LENET, "0.2", 58.405797, {0: 1, 1: 0.186899, 2: 0.189819, 3: 1}),
    (HIGGS, "0.05", 4.218182, {0: 0.192235, 1: 0.032955, 2: 1}),
    (HIGGS, "0.1", 8.759596, {0: 0.3992, 1: 0.068434, 2: 1}),
    (HIGGS, "0.2", 17.842424, {0: 0.813131, 1: 0.139394, 2: 1}),
    # stem, 3x3 of stage 1; stage 2: first, second, shortcut; stage 3: first, second, shortcut; fc
    (
        resnet56(10),
        "0.1",
        18.9665,
        {
            0: 1,
            1: 0.312816,
            18: 0.312816,
            19: 0.222264,
            20: 0.14406,
            21: 1,
            37: 0.14406,
            38: 0.104958,
            39: 0.068943,
            40: 0.907577,
            56: 0.068943,
            57: 1,
        },
    ),
    (
        resnet56(100),
        "0.1",
        18.551947,
        {
            0: 1,
            1: 0.305978,
            19: 0.217406,
            20: 0.140911,
            21: 1,
            38: 0.102664,
            39: 0.067436,
            40: 0.88774,
            57: 0.475394,
        },
    ),
    (
        VGG16,
        "0.1",
        179.158912,
        {
            0: 1,
            1: 0.65124,
            2: 0.48114,
            3: 0.31833,
            4: 0.236925,
            5: 0.157342,
            6: 0.157342,
            7: 0.117551,
            8: 0.078216,
            12: 0.078216,
            13: 1,
        },
    ),
]


@pytest.mark.parametrize(("shapes", "density", "epsilon", "expected"), VECTORS)
def test_erk_has_the_densities_of_the_specification(shapes, density, epsilon, expected):
    tree = tree_of(shapes)
    found = dist.erk_densities(tree, all_of(tree), density)
    values = list(found.densities.values())
    assert abs(float(found.epsilon) - epsilon) < 1e-6
    for place, value in expected.items():
        assert abs(float(values[place]) - value) < 1e-6
    sizes = [int(np.prod(s)) for s in shapes]
    assert sum(v * n for v, n in zip(values, sizes, strict=True)) == Fraction(density) * sum(sizes)


@pytest.mark.parametrize(
    ("shapes", "density", "counts"),
    [
        (MLP, "0.05", (129_918, 48_719, 5_120)),
        (MLP, "0.1", (263_559, 98_835, 5_120)),
        (CNN, "0.1", (864, 2_477, 4_809, 1_280)),
        (LENET, "0.1", (500, 2_177, 35_373, 5_000)),
        (HIGGS, "0.1", (2_453, 4_485, 256)),
    ],
)
def test_largest_remainders_give_the_counts_of_the_specification(shapes, density, counts):
    assert counts_of(dist.erk(), shapes, density) == counts


def test_the_networks_have_the_sizes_of_the_specification():
    nets = [MLP, CNN, LENET, HIGGS, resnet56(10), resnet56(100), VGG16]
    sizes = [sum(int(np.prod(s)) for s in net) for net in nets]
    assert sizes == [3_675_136, 94_304, 430_500, 71_936, 851_504, 857_264, 14_761_664]
    assert (len(resnet56(10)), len(VGG16)) == (58, 14)


shape = st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple)
density_ = st.integers(1, 1000).map(lambda n: Fraction(n, 1000))


@settings(max_examples=150, deadline=None)
@given(st.lists(shape, min_size=1, max_size=6), density_, st.sampled_from(["0.5", "1", "2"]))
def test_erk_agrees_with_the_oracle_and_keeps_the_total(shapes, density, kappa):
    tree = tree_of(shapes)
    sizes = [int(np.prod(s)) for s in shapes]
    found = dist.erk_densities(tree, all_of(tree), density, kappa)
    expected, _ = _oracle(shapes, float(density), float(kappa))
    np.testing.assert_allclose([float(v) for v in found.densities.values()], expected, rtol=1e-6)
    total = round(density * sum(sizes))
    if total < len(shapes):
        with pytest.raises(ValueError, match="at least one"):
            dist.erk(kappa)(tree, all_of(tree), density)
        return
    counts = dist.erk(kappa)(tree, all_of(tree), density)
    assert sum(counts) == total
    assert all(1 <= c <= n for c, n in zip(counts, sizes, strict=True))


@pytest.mark.parametrize("rule", [dist.uniform(), dist.er(), dist.erk(), dist.erk("0.5")])
def test_density_one_is_dense(rule):
    assert counts_of(rule, CNN, 1) == tuple(int(np.prod(s)) for s in CNN)


def test_er_looks_at_the_last_two_axes_only():
    flat = counts_of(dist.er(), [(20, 50), (800, 500), (500, 10)], "0.05")
    raw = [70 / 1000, 1300 / 400_000, 510 / 5000]
    oracle = 0.05 * 406_000 / (70 + 1300 + 510)
    assert oracle * max(raw) > 1  # the last layer becomes dense
    epsilon = (0.05 * 406_000 - 5000 - 0) / (70 + 1300)
    expected = [min(1.0, epsilon * r) for r in raw[:2]]
    if expected[0] == 1.0:
        epsilon = (0.05 * 406_000 - 6000) / 1300
        expected = [1.0, epsilon * raw[1]]
    np.testing.assert_allclose(flat, [1000 * expected[0], 400_000 * expected[1], 5000], atol=1)
    # a kernel of 5x5 taps has the ratio of its widths, so a depthwise one is dense first
    wide = counts_of(dist.er(), [(3, 3, 1, 64), (1, 1, 64, 64)], "0.2")
    assert wide[0] == 576


def test_a_stack_of_layers_counts_as_its_layers():
    stack, single = (12, 64, 64), (64, 64)
    tree = tree_of([stack, (64, 10)])
    told = dist.erk(stacked="^00")(tree, all_of(tree), Fraction(1, 10))
    apart = counts_of(dist.erk(), [single] * 12 + [(64, 10)], "0.1")
    assert abs(told[0] - sum(apart[:12])) <= 1
    assert told[1] == pytest.approx(apart[12], abs=1)
    # not told, the 12 enters sum and product of the shape and the stack keeps less than its share
    assert counts_of(dist.erk(), [stack, (64, 10)], "0.1")[0] < told[0]
    with pytest.raises(ValueError, match="nothing behind an axis of stacked layers"):
        dist.erk(stacked="^00")(tree_of([(5,), (3, 3)]), {"00": True, "01": True}, Fraction(1, 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(shape, min_size=1, max_size=6), st.integers(1, 999))
def test_rigl_and_jaxpruner_round_every_layer_for_itself(shapes, thousandths):
    density = Fraction(thousandths, 1000)
    sizes = [int(np.prod(s)) for s in shapes]
    rigl = counts_of(dist.uniform(rounding="rigl"), shapes, density)
    jaxpruner = counts_of(dist.uniform(rounding="jaxpruner"), shapes, density)
    assert rigl == tuple(max(1, n - ((1000 - thousandths) * n) // 1000) for n in sizes)
    # half to even, in integers
    expected = []
    for n in sizes:
        low, rest = divmod(2 * thousandths * n, 2000)
        up = rest > 1000 or (rest == 1000 and low % 2 == 1)
        expected.append(max(1, low + up))
    assert jaxpruner == tuple(expected)


def test_erk_by_rigls_rounding():
    shapes = [(7, 9), (11, 13), (3, 5)]
    densities, _ = _oracle(shapes, 0.3, floor=True)
    sizes = [63, 143, 15]
    rigl = counts_of(dist.erk(rounding="rigl"), shapes, "0.3")
    expected = [
        n - int(np.floor((1 - d) * n + 1e-9)) for d, n in zip(densities, sizes, strict=True)
    ]
    assert rigl == tuple(expected)
    assert sum(rigl) != round(0.3 * sum(sizes))  # what our own rounding is for
    assert sum(counts_of(dist.erk(), shapes, "0.3")) == 66


def test_custom_densities():
    shapes = [(30, 40), (40, 40), (40, 10)]
    tree = tree_of(shapes)
    counted = dist.erk(custom={"^00": 1})(tree, all_of(tree), Fraction(1, 2))
    assert counted[0] == 1200
    assert sum(counted) == 1600
    apart = dist.erk(custom={"^00": "0.25"}, count_custom=False)(tree, all_of(tree), Fraction(1, 2))
    densities, _ = _oracle(shapes, 0.5, custom={0: 0.25})
    assert apart[0] == 300
    assert sum(apart[1:]) == 1000
    np.testing.assert_allclose(apart, np.multiply(densities, [1200, 1600, 400]), atol=1)
    first = dist.uniform(custom={"^00": 1, "^0": "0.1"})(tree, all_of(tree), Fraction(1, 2))
    assert first == (1200, 160, 40)  # the first rule that fits decides
    with pytest.raises(ValueError, match=r"leave -1,280 entries"):
        dist.erk(custom={"^01": 1})(tree, all_of(tree), Fraction(1, 10))
    with pytest.raises(ValueError, match="matches no leaf"):
        dist.erk(custom={"^stem": 1})(tree, all_of(tree), Fraction(1, 2))
    with pytest.raises(ValueError, match=r"the density of '\^00' must lie in \(0, 1\], got 2"):
        dist.erk(custom={"^00": 2})(tree, all_of(tree), Fraction(1, 2))


def test_uniform_plus_divides_by_what_is_left():
    tree = tree_of([(100,), (2000,), (1000,)])
    rule = dist.uniform_plus(first="^00", last="^02")
    assert rule(tree, all_of(tree), Fraction(15, 100)) == (100, 165, 200)
    assert rule(tree, all_of(tree), Fraction(1, 4)) == (100, 450, 225)
    legacy = dist.uniform_plus(first="^00", last="^02", legacy=True)
    # Fantastic Weights: (465 - 100 - 200) / 3100 of 2000, 58 entries short of the target
    assert legacy(tree, all_of(tree), Fraction(15, 100)) == (100, 106, 200)
    assert legacy(tree, all_of(tree), Fraction(1, 4)) == (100, 500, 250)
    with pytest.raises(ValueError, match="must fit one prunable leaf and fits '00', '01', '02'"):
        dist.uniform_plus(first="^0", last="^02")(tree, all_of(tree), Fraction(1, 2))
    with pytest.raises(ValueError, match="take more than the whole budget of 155 entries"):
        legacy(tree, all_of(tree), Fraction(1, 20))
    with pytest.raises(ValueError, match="leave -145 entries"):
        rule(tree, all_of(tree), Fraction(1, 20))
    none = dist.uniform_plus(first=None, last="^02")
    assert none(tree, all_of(tree), Fraction(1, 2)) == (50, 1000, 500)


@pytest.mark.parametrize("density", [0, 0.0, "-0.1", 1.5])
def test_gn_1_density_zero_and_above_one_get_their_sentence(density):
    tree = tree_of(CNN)
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\], got .* 1 is dense"):
        dist.erk()(tree, all_of(tree), Fraction(str(density)))
    with pytest.raises(ValueError, match="training that ends sparse begins"):
        wj.top_masks({"w": jnp.ones(4)}, density=density)


def test_other_wrong_input_gets_its_sentence():
    tree = tree_of(CNN)
    with pytest.raises(ValueError, match=r"did you mean 'erk'\? Known are uniform, er, erk"):
        dist.named("erkk")
    with pytest.raises(ValueError, match=r"pass wj\.dst\.distributions\.uniform_plus\(first="):
        dist.named("uniform_plus")
    with pytest.raises(ValueError, match="rounding must be one of 'total', 'rigl', 'jaxpruner'"):
        check_rounding("floor")
    with pytest.raises(ValueError, match="No leaf is prunable"):
        dist.erk()(tree, jax.tree.map(lambda _: False, tree), Fraction(1, 2))
    with pytest.raises(ValueError, match=r"'00' has shape .* and no entries"):
        dist.erk()(tree_of([(0, 4)]), {"00": True}, Fraction(1, 2))
    with pytest.raises(ValueError, match=r"density 0\.\d+ keeps|keeps 3 entries for 4"):
        dist.erk()(tree, all_of(tree), Fraction(3, 94_304))
    assert dist.named(dist.NAMED["er"]) is dist.NAMED["er"]


def test_counts_of_large_leaves_are_exact():
    # JP-13: in float32, 0.1 * 30,000,001 is 3,000,000 and 0.1 * 60,000,001 is two entries too many
    for size in (1_048_576, 20_000_003, 30_000_001, 60_000_001):
        tree = {"w": jax.ShapeDtypeStruct((size,), jnp.float32)}
        expected = (2 * size + 10) // 20  # round half up; no half occurs
        assert dist.uniform()(tree, {"w": True}, Fraction(1, 10)) == (expected,)
