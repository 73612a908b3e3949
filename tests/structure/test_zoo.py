"""Networks as their users write them: the groups found, and shrunk equals masked, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import CASES

import wormjax as wj
from wormjax.structure import find_groups, plan, shrink

pytestmark = pytest.mark.usefixtures("as_users_have_it")
# every run prunes each network once: one half of them at random, the other half by score
AT_RANDOM = set(sorted(CASES)[::2]) - {"resnet50"}  # too large, and slow in both


def in_every_run(names):
    """All cases, those that are not named marked slow."""
    return [n if n in names else pytest.param(n, marks=pytest.mark.slow) for n in CASES]


@pytest.mark.parametrize("name", CASES)
def test_groups_are_those_of_the_architecture(name):
    example = CASES[name]()
    groups = find_groups(example.apply, example.params, *example.inputs, state=example.state)
    assert len(groups) == example.groups, groups.explain()
    assert not groups.traced.diagnostics


@pytest.mark.parametrize("name", in_every_run(AT_RANDOM))
def test_pruned_at_random_it_equals_the_masked_network(name, check_function):
    example = CASES[name]()
    checked = check_function(example.apply, example.params, *example.inputs, state=example.state)
    assert checked.free >= example.groups


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", CASES)
def test_pruned_at_random_at_every_ratio(name, ratio, check_function):
    example = CASES[name]()
    for seed in range(2):
        checked = check_function(
            example.apply,
            example.params,
            *example.inputs,
            state=example.state,
            seed=seed,
            ratio=ratio,
        )
        assert checked.free >= example.groups


@pytest.mark.parametrize("name", in_every_run(set(CASES) - AT_RANDOM - {"resnet50"}))
def test_pruned_by_score_through_the_public_functions(name):
    example = CASES[name]()
    params, state, inputs = example.params, example.state, example.inputs
    groups = find_groups(example.apply, params, *inputs, state=state)
    planned = plan(groups, wj.scores.magnitude(params), keep=0.6, normalise="mean")
    ticket = shrink(planned, params, state)
    assert sum(x.size for x in jax.tree.leaves(ticket.params)) == planned.parameters[1]
    assert planned.parameters[1] < planned.parameters[0]

    rest = inputs if state is None else (state, *inputs)
    small_rest = inputs if state is None else (ticket.state, *inputs)
    want = jax.jit(example.apply)(wj.apply_masks(params, planned.masks), *rest)
    got = jax.jit(ticket.apply)(ticket.params, *small_rest)
    if state is not None:
        want, got = want[0], got[0]
    scale = float(jnp.abs(want).max())
    np.testing.assert_allclose(got, want, atol=1e-5 * scale, rtol=0)
