"""The published counts of the paper's two networks, by tracing: nothing is computed here."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import abstract, named
from wormjax import layers
from wormjax.evaluation import layer_memory, macs, parameters
from wormjax.structure._without import Removed, removal_of

IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


@pytest.fixture(scope="module")
def network(keras_resnet):
    @functools.cache
    def of(blocks, rule="identity"):
        net = keras_resnet(blocks)
        return net, layers.candidates(net.apply, net.params, IMAGE, rule=rule)

    return of


def filters(params):
    """Output channels of all convolutions that are left; a removed kernel has no entries."""
    kernels = [x.shape for x in jax.tree.leaves(params) if len(x.shape) == 4]
    return sum(shape[-1] for shape in kernels if shape[0])


WHOLE = {5: 69_124_736, 9: 125_747_840}  # MACs of ResNet-32 and ResNet-56


@pytest.mark.parametrize(
    ("blocks", "identity", "sibling"),
    [
        pytest.param(5, 13, 12, id="resnet32"),
        pytest.param(9, 25, 24, id="resnet56", marks=pytest.mark.slow),
    ],
)
def test_candidates_and_macs_of_a_block(network, blocks, identity, sibling):
    net, found = network(blocks)
    assert macs(net.apply, net.params, IMAGE) == WHOLE[blocks]
    assert len(found) == identity
    assert {c.macs for c in found} == {4_718_592}
    assert found.fixed == {1: 1, 2: 1}
    assert len(network(blocks, "sibling")[1]) == sibling


@pytest.mark.slow
def test_the_networks_of_the_experiment_have_the_same_counts():
    view = abstract(named("resnet32", shortcut="B"))  # its projections are normalised
    found = layers.candidates(view.apply, view.params, IMAGE, state=view.state)
    assert macs(view.apply, view.params, view.state, IMAGE) == WHOLE[5]
    assert [c.macs for c in found] == [4_718_592] * 13
    assert filters(view.params) == 1_232


PERCENT = {
    5: {1: "6.826", 2: "13.652", 3: "20.479", 4: "27.305", 5: "34.131"},
    9: {1: "3.752", 3: "11.257", 4: "15.010", 5: "18.762", 12: "45.029"},
}


@pytest.mark.parametrize("blocks", PERCENT)
def test_flops_reduction_of_p_blocks(network, keras_resnet, blocks):
    net = keras_resnet(blocks)
    whole = macs(net.apply, net.params, IMAGE)
    one = network(5)[1].candidates[0].macs  # every block of both networks has as many
    for p, percent in PERCENT[blocks].items():
        assert abs(Fraction(100 * p * one, whole) - Fraction(percent)) <= Fraction(1, 2000)


def test_the_published_row_of_four_blocks_is_five(network):
    # table 4 of the paper says p = 4 beside 34.13 %
    one = Fraction(100 * network(5)[1].candidates[0].macs, WHOLE[5])
    assert abs(5 * one - Fraction("34.13")) < Fraction(5, 100)
    assert abs(4 * one - Fraction("34.13")) > 6


def test_most_blocks_that_can_go(network):
    scores = dict.fromkeys(network(5)[1].names, 0.0)
    identity, sibling = network(5)[1], network(5, "sibling")[1]
    assert len(layers.select(identity, scores, 12)) == 12
    with pytest.raises(ValueError, match="13 blocks cannot be removed: of 13 candidates 12 can go"):
        layers.select(identity, scores, 13)
    assert len(layers.select(sibling, scores, 9, min_blocks_per_stage=2)) == 9
    with pytest.raises(ValueError, match="10 blocks cannot be removed: of 12 candidates 9 can"):
        layers.select(sibling, scores, 10, min_blocks_per_stage=2)


@pytest.mark.slow
def test_most_blocks_that_can_go_of_the_large_network(network):
    large = network(9)
    none = dict.fromkeys(large[1].names, 0.0)
    assert len(layers.select(large[1], none, 24)) == 24
    assert len(layers.select(network(9, "sibling")[1], none, 21, min_blocks_per_stage=2)) == 21


@pytest.mark.parametrize(("p", "left"), [(1, 1_200), (2, 1_168)])
def test_filters_that_are_left(network, p, left):
    net, found = network(5)
    assert filters(net.params) == 1_232
    params, _ = shapes_without(found, found.names[:p])  # both lie in the first stage
    assert filters(params) == left
    assert parameters(params) == parameters(net.params) - p * 4_768


def shapes_without(found, names):
    removal = removal_of(found.program, found.residual, names)
    removed = Removed.of(found.program, removal, names)
    return removed.shapes(found.shapes, found.state_shapes)


def test_macs_of_the_rebuilt_network_are_the_difference(keras_resnet):
    net = keras_resnet(2, widths=(4,))
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    found = layers.candidates(net.apply, net.params, x)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), net.params)
    ticket = layers.remove(found, [found.names[0]], zeros)
    gone = macs(net.apply, net.params, x) - macs(ticket.apply, ticket.params, x)
    assert gone == found.candidates[0].macs == 2 * 8 * 8 * 9 * 4 * 4


@pytest.mark.parametrize(
    ("blocks", "params", "outputs", "memory"),
    [
        (5, 470_218, 1_068_170, 6_153_552),
        pytest.param(9, 861_770, 1_870_986, 10_931_024, marks=pytest.mark.slow),
    ],
)
def test_parameters_and_memory_as_keras_counts_them(network, blocks, params, outputs, memory):
    net, found = network(blocks)
    seen = jax.eval_shape(net.layers, net.params, IMAGE)[:-1]
    assert parameters(net.params) == params
    assert parameters(seen) == outputs  # the input is among them
    assert layer_memory(seen, net.params) == memory
    assert {c.parameters for c in found} == {4_768, 18_752, 74_368}
