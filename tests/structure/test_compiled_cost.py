"""What a shrunk network costs when compiled: as much as the same narrow network built from scratch."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from any_width import NETWORKS

import wormjax as wj
from wormjax.structure import find_groups, plan, shrink

# what a network would have to do more if it took its slices while it runs
MOVES = ("gather", "scatter", "transpose", "convert", "sort", "dynamic-slice")
# scanned norms store for the backward pass what their removed entries hold, one number a row
SLICES_OF_SCANS = {"transformer": 4}
HEAVY = ("dot", "convolution", "custom-call", "while")


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def cost(apply, params, state, inputs, *, differentiate):
    """Floating-point operations, and how often each operation occurs, in the program compiled for CPU."""
    rest = inputs if state is None else (state, *inputs)

    def value(params, *rest):
        return apply(params, *rest) if state is None else apply(params, *rest)[0]

    def loss(params, *rest):
        return jnp.sum(value(params, *rest) ** 2)

    function = jax.value_and_grad(loss) if differentiate else value
    compiled = jax.jit(function).lower(params, *rest).compile()
    lines = re.findall(r"^\s*(?:ROOT )?%?\S+ = [^=]*? ([a-z][a-z-]*)\(", compiled.as_text(), re.M)
    return compiled.cost_analysis()["flops"], Counter(lines)


def drawn(tree):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), tree)


@pytest.mark.parametrize("differentiate", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize(
    "name",
    [
        n if n in ("resnet", "transformer") else pytest.param(n, marks=pytest.mark.slow)
        for n in NETWORKS
    ],
)
def test_a_shrunk_network_costs_what_the_narrow_one_costs(name, differentiate):
    make, widths = NETWORKS[name]
    whole = make(*widths)
    groups = find_groups(whole.apply, whole.params, *whole.inputs, state=whole.state)
    assert tuple(group.size for group in groups) == widths
    params = drawn(whole.params)
    planned = plan(groups, wj.scores.magnitude(params), keep=0.5, scope="group")
    ticket = shrink(planned, params, None if whole.state is None else drawn(whole.state))
    narrow = make(*planned.widths.values())
    assert jax.tree.map(jnp.shape, ticket.params) == jax.tree.map(jnp.shape, narrow.params)

    flops, operations = cost(
        ticket.apply, narrow.params, narrow.state, narrow.inputs, differentiate=differentiate
    )
    from_scratch, expected = cost(*narrow, differentiate=differentiate)
    assert flops == pytest.approx(from_scratch, rel=0.01)
    for operation in (*HEAVY, *MOVES):
        more = SLICES_OF_SCANS.get(name, 0) if operation == "dynamic-slice" and differentiate else 0
        assert operations[operation] <= expected[operation] + more, operation


def test_what_is_counted():
    # a network that is masked, or that takes its slices while it runs, is told apart
    make, widths = NETWORKS["vgg"]
    whole, half = make(*widths), make(*(n // 2 for n in widths))

    def slicing(params, state, x):
        def slices(like, leaf):
            kept = [np.arange(0, n, n // m) for m, n in zip(like.shape, leaf.shape, strict=True)]
            return leaf[
                jnp.ix_(*(jnp.asarray(k[:m]) for k, m in zip(kept, like.shape, strict=True)))
            ]

        return half.apply(*jax.tree.map(slices, (half.params, half.state), (params, state)), x)

    flops, operations = cost(*half, differentiate=False)
    masked, _ = cost(*whole, differentiate=False)
    assert masked > 2 * flops
    _, sliced = cost(slicing, whole.params, whole.state, whole.inputs, differentiate=False)
    assert operations["convolution"] == sliced["convolution"] == 4
    assert operations["gather"] == 0
    assert sliced["gather"] >= len(jax.tree.leaves(half.params))
