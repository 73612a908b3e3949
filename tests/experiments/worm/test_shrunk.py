"""A shrunk network trains as the masked one does, whatever stays masked in it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.models import abstract, narrowed
from experiments.training import stack_seeds, take_seed
from experiments.worm._config import WormConfig
from experiments.worm._retrain import begin_retrain, begin_shrunk, retrain
from experiments.worm._search import begin_search, search
from experiments.worm._setup import Setup
from experiments.worm._shrunk import shrink_ticket
from wormjax._opt_state import find_states
from wormjax._paths import leaf_names

CONFIG = WormConfig(
    limit=64,
    epochs=4,
    search_cap=3,
    window=2,
    learning_rate=0.1,
    weight_decay=1e-3,
    l1=1e-4,
    seeds=1,
)
# layer by layer the share of channels that the ticket keeps; a residual stream keeps what any layer does
RATIOS = {
    "digits": (0.2, 0.5, 0.3, 0.9),
    "digits_resnet": (0.5, 0.3, 0.5, 0.4, 0.5, 0.6, 0.2, 0.5, 0.2),
}


@functools.cache
def setup_of(model, **changes):
    return Setup(dataclasses.replace(CONFIG, model=model, **changes))


def drawn(setup, arm="standard"):
    """A search that has ended after an epoch with a ticket of our own."""
    cap = {"stop": False, "epochs": 1, "log": lambda record: None, "after_epoch": lambda now: None}
    found = search(setup, arm, [0], begin_search(setup.start_search(arm, [0])), **cap)
    rng = np.random.default_rng(0)
    ratios = RATIOS.get(setup.config.model, (0.5,) * len(setup.widths))
    flat = [rng.permutation(n) < round(r * n) for n, r in zip(setup.widths, ratios, strict=True)]
    masks = stack_seeds([setup.mask_tree(np.concatenate(flat))])
    ticket = dataclasses.replace(found.ticket, masks=masks)
    return found._replace(ticket=ticket, emerged_at=(1,), ended=True)


def trained(setup, start):
    """Run a retraining to its end; its state, of the one seed, and the records."""
    records = []
    end = retrain(setup, "standard", [0], start, log=records.append, after_epoch=lambda now: None)
    return take_seed(end.state, 0), records


def cut(tree, indices):
    leaves = []
    for name, leaf in zip(leaf_names(tree), jax.tree.leaves(tree), strict=True):
        leaf = np.asarray(leaf)
        for axis, kept in indices.get(name, {}).items():
            leaf = np.take(leaf, kept, axis=axis)
        leaves.append(leaf)
    return leaves


def same(masked, shrunk, small):
    """Every kept entry of weights and momentum agrees; the masked ones are zero, in both."""
    traces = [find_states(s.opt_state, optax.TraceState)[0].trace for s in (masked, shrunk)]
    for full, narrow in ((masked.params, shrunk.params), tuple(traces)):
        for want, got in zip(cut(full, small.plan.indices), jax.tree.leaves(narrow), strict=True):
            scale = max(float(np.abs(want).max()), 1e-3)
            np.testing.assert_allclose(got, want, atol=2e-4 * scale, rtol=0)


@pytest.mark.parametrize(
    "model",
    ["digits_mlp", *(pytest.param(m, marks=pytest.mark.slow) for m in RATIOS)],
)
def test_shrunk_training_is_masked_training(model):
    setup = setup_of(model)
    found = drawn(setup)
    small = shrink_ticket(setup, "standard", found, 0)
    masked, told = trained(setup, begin_retrain(setup, found, [0]))
    shrunk, told_again = trained(setup, begin_shrunk(setup, found, [0], small))
    same(masked, shrunk, small)
    assert [r["epoch"] for r in told] == [r["epoch"] for r in told_again] == [1, 2, 3, 4]
    for one, other in zip(told, told_again, strict=True):
        assert other["validation_accuracy"] == pytest.approx(one["validation_accuracy"], abs=2 / 64)
    for one, other in zip(told[1:], told_again[1:], strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    sizes = [sum(x.size for x in jax.tree.leaves(s.params)) for s in (masked, shrunk)]
    assert tuple(sizes) == small.plan.parameters
    assert sizes[1] < 0.6 * sizes[0]
    assert (masked.step, shrunk.step) == (4 * setup.steps, 4 * setup.steps)


def test_a_vgg_keeps_nothing_that_is_masked():
    small = shrink_ticket(setup_of("digits"), "standard", drawn(setup_of("digits")), 0)
    assert small.masks is None
    assert list(small.plan.widths.values()) == [29, 3, 8, 10]
    assert {v.kind for v in small.plan.losses.values()} == {"exact"}


@pytest.mark.slow
def test_eb_d9_a_stream_keeps_masked_channels_where_another_layer_needs_them():
    setup = setup_of("digits_resnet")
    found = drawn(setup)
    small = shrink_ticket(setup, "standard", found, 0)
    trees = (small.masks, small.ticket.params)
    left, values = (dict(zip(leaf_names(t), jax.tree.leaves(t), strict=True)) for t in trees)
    still = {name for name, mask in left.items() if mask.ndim and not mask.all()}
    assert still  # in what the layers of a stream make
    assert all("/convs/0/" not in name for name in still)
    for name in still:
        assert left[name].shape == values[name].shape
        assert not np.asarray(values[name])[~np.asarray(left[name])].any()


@pytest.mark.slow
def test_a_residual_network_is_built_narrow_and_is_the_same():
    """What the speed table calls built narrow: blocks with widths of their own."""
    setup = setup_of("digits_resnet")
    small = shrink_ticket(setup, "standard", drawn(setup), 0)
    config = narrowed(setup.model, small.ticket.widths)
    assert len(set(config.inner_widths)) > 1
    arguments = small.ticket.params, small.ticket.state, setup.prepare(setup.train[0][:5])
    want, got = jax.jit(lambda *a: (small.apply(*a)[0], abstract(config).apply(*a)[0]))(*arguments)
    np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.abs(want).max()))


def test_o_p1_the_same_logits_in_training_and_in_evaluation():
    setup = setup_of("digits")
    small = shrink_ticket(setup, "standard", drawn(setup), 0)
    images = setup.prepare(setup.train[0][:5])
    for train in (False, True):
        want, stats = setup.full.apply(small.pruned, small.drawn.stats, images, train=train)
        got, small_stats = small.apply(small.ticket.params, small.ticket.state, images, train=train)
        np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.abs(want).max()))
        assert jax.tree.structure(stats) == jax.tree.structure(small_stats)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["standard", "worm_last"])
def test_a_carried_optimizer_goes_on_with_the_momentum_of_what_is_left(arm):
    """Masked training that is given the search's momentum, zero where it is pruned, says the same."""
    setup = setup_of("digits_mlp", retrain="shrunk", shrunk_optimizer="carried")
    found = drawn(setup, arm)
    small = shrink_ticket(setup, arm, found, 0)
    [trace] = find_states(found.state.opt_state, optax.TraceState)
    by_hand = jax.tree.map(
        lambda moment, mask: jnp.where(mask, moment, 0.0), trace.trace, found.ticket.masks
    )
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(by_hand)) > 1e-3
    begun = begin_retrain(setup, found, [0])
    opt_state = jax.tree.map(
        lambda node: node._replace(trace=by_hand) if isinstance(node, optax.TraceState) else node,
        begun.state.opt_state,
        is_leaf=lambda node: isinstance(node, optax.TraceState),
    )
    begun = begun._replace(state=dataclasses.replace(begun.state, opt_state=opt_state))
    masked, _ = trained(setup, begun)
    shrunk, _ = trained(setup, begin_shrunk(setup, found, [0], small))
    same(masked, shrunk, small)
    fresh, _ = trained(setup, begin_retrain(setup, found, [0]))
    assert not np.allclose(
        fresh.params["head"]["kernel"], masked.params["head"]["kernel"], atol=1e-4
    )


def test_a_mask_tree_is_what_its_flat_mask_says():
    setup = setup_of("digits_mlp")
    flat = np.arange(128) % 3 == 0
    masks = setup.mask_tree(flat)
    for layer, part in enumerate(np.split(flat, 2)):
        np.testing.assert_array_equal(masks["layers"][layer]["norm"]["scale"], part)
        np.testing.assert_array_equal(masks["layers"][layer]["norm"]["bias"], part)
    assert sum(mask.size for mask in jax.tree.leaves(masks) if mask.ndim) == 256


def test_seeds_retrain_one_by_one_where_no_two_networks_have_the_same_shapes():
    settings = {"seeds": 3, "driver": "scan", "limit": 32}
    assert setup_of("digits_mlp", **settings).cohorts == [[0, 1, 2]]
    assert setup_of("digits_mlp", retrain="shrunk", **settings).cohorts == [[0], [1], [2]]
