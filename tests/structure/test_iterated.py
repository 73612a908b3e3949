"""Laws of tickets: shrunk again, in other batches, differentiated, mapped, sharded, in another precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from zoo import CASES

import wormjax as wj
from wormjax._paths import leaf_names
from wormjax.structure import find_groups, plan, shrink

RESNET18 = pytest.param("resnet18", marks=pytest.mark.slow)
BERT = pytest.param("bert", marks=pytest.mark.slow)
# convolutions and sequences, with a state and without
NETWORKS = [RESNET18, "shufflenet", BERT, "gpt"]


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def made(name):
    """A network, its groups, and its ticket of half the units of each group."""
    example = CASES[name]()
    groups = find_groups(example.apply, example.params, *example.inputs, state=example.state)
    planned = plan(groups, wj.scores.magnitude(example.params), keep=0.5, scope="group")
    return example, groups, planned, shrink(planned, example.params, example.state)


def output(apply, params, state, *inputs):
    """The output without the state."""
    if state is None:
        return jax.jit(apply)(params, *inputs)
    return jax.jit(apply)(params, state, *inputs)[0]


def assert_close(got, want, tolerance=1e-5):
    def check(x, y):
        assert x.dtype == y.dtype
        scale = max(float(jnp.abs(y).max()), 1e-6)
        np.testing.assert_allclose(x, y, atol=tolerance * scale, rtol=0)

    jax.tree.map(check, got, want)


def random_masks(groups, kept, seed):
    """Masks on the parameters that lie on each group, whole units at a time."""
    rng = np.random.default_rng(seed)
    units = {}
    for group in groups:
        gone = rng.choice(group.size, int((1 - kept) * group.size), replace=False)
        units[group.name] = ~np.isin(np.arange(group.size), gone)
    return wj.Plan(groups, units).masks


@pytest.mark.parametrize("name", NETWORKS)
def test_keeping_everything_changes_nothing(name):
    example, groups, _, _ = made(name)
    ticket = shrink(
        plan(groups, wj.scores.magnitude(example.params), keep=1.0), example.params, example.state
    )
    jax.tree.map(np.testing.assert_array_equal, ticket.params, example.params)
    assert ticket.manifest.kept == {}
    got = output(ticket.apply, ticket.params, ticket.state, *example.inputs)
    np.testing.assert_array_equal(
        got, output(example.apply, example.params, example.state, *example.inputs)
    )


@pytest.mark.parametrize(
    "name", [RESNET18, pytest.param("shufflenet", marks=pytest.mark.slow), BERT, "gpt"]
)
def test_two_shrinks_are_one(name):
    example, groups, _, _ = made(name)
    tx = optax.sgd(0.1, momentum=0.9)
    opt_state = jax.tree.map(lambda x: x + 1, tx.init(example.params))
    first_masks = random_masks(groups, 0.7, seed=0)
    first = shrink(
        plan(groups, masks=first_masks), example.params, example.state, opt_state, tx, verify=True
    )
    again = find_groups(first.apply, first.params, *example.inputs, state=first.state)
    assert {g.name: g.size for g in again} == {
        name: width for name, width in plan(groups, masks=first_masks).widths.items() if width > 1
    }
    second_plan = plan(again, masks=random_masks(again, 0.6, seed=1))
    second = shrink(second_plan, first.params, first.state, first.opt_state, tx)

    # the manifest speaks of the original: removing at once what it lacks must give the same arrays
    union = jax.tree.map(lambda x: np.ones(x.shape, bool), example.params)
    for name, mask in zip(leaf_names(union), jax.tree.leaves(union), strict=True):
        for axis, indices in second.manifest.kept.get(name, {}).items():
            np.moveaxis(mask, axis, 0)[np.setdiff1d(np.arange(mask.shape[axis]), indices)] = False
    union = jax.tree.map(jnp.asarray, union)
    once = shrink(plan(groups, masks=union), example.params, example.state, opt_state, tx)
    assert once.manifest == second.manifest
    assert once.widths == second.widths
    assert sum(map(np.prod, once.widths.values())) < sum(map(np.prod, first.widths.values()))
    trees = [(t.params, t.state, t.opt_state) for t in (once, second)]
    jax.tree.map(np.testing.assert_array_equal, *trees)
    want = output(once.apply, once.params, once.state, *example.inputs)
    assert_close(output(second.apply, second.params, second.state, *example.inputs), want)
    masked = output(
        example.apply, wj.apply_masks(example.params, union), example.state, *example.inputs
    )
    assert_close(want, masked)


@pytest.mark.parametrize("name", NETWORKS)
def test_other_batches(name):
    example, _, planned, ticket = made(name)
    masked = wj.apply_masks(example.params, planned.masks)
    for batch in (1, 5):
        inputs = jax.tree.map(
            lambda x, n=batch: jnp.resize(x[::-1], (n, *x.shape[1:])), example.inputs
        )
        got = output(ticket.apply, ticket.params, ticket.state, *inputs)
        assert_close(got, output(example.apply, masked, example.state, *inputs))
    alone = jax.vmap(
        lambda *x: output(ticket.apply, ticket.params, ticket.state, *(a[None] for a in x))[0]
    )
    assert_close(alone(*inputs), got)


def dense(params, x):
    for name in "ab":
        x = jax.nn.gelu(jax.nn.relu(x @ params[name]) - 0.1 * x.sum(-1, keepdims=True))
    return x @ params["out"]


def dense_ticket(width=16, outputs=4):
    rng = np.random.default_rng(0)
    shapes = {"a": (8, width), "b": (width, width), "out": (width, outputs)}
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    x = jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)
    planned = plan(
        find_groups(dense, params, x), wj.scores.magnitude(params), keep=0.5, scope="group"
    )
    return params, planned, shrink(planned, params), x


def cut(planned, tree):
    """By NumPy, what a plan keeps of a tree like the parameters."""
    kept = planned.indices
    return {
        name: leaf[np.ix_(*(kept[name].get(k, np.arange(n)) for k, n in enumerate(leaf.shape)))]
        for name, leaf in tree.items()
    }


def test_second_derivatives():
    params, planned, ticket, x = dense_ticket()
    masked = wj.apply_masks(params, planned.masks)

    def product(apply, params):
        """Of the Hessian with the parameters."""
        gradient = jax.grad(lambda p: jnp.sum(apply(p, x) ** 2))
        return jax.jit(lambda p: jax.jvp(gradient, (p,), (p,)))(params)

    for got, want in zip(product(ticket.apply, ticket.params), product(dense, masked), strict=True):
        assert_close(got, cut(planned, want))


def test_mapped_over_tickets_of_one_plan():
    _, _, ticket, x = dense_ticket()
    others = [jax.tree.map(lambda p, k=k: p * (1 + k), ticket.params) for k in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *others)
    together = jax.jit(jax.vmap(ticket.apply, in_axes=(0, None)))(stacked, x)
    for row, own in zip(together, others, strict=True):
        assert_close(row, jax.jit(ticket.apply)(own, x))


@pytest.mark.parametrize(
    "specs",
    [
        {"a": P(), "b": P(), "out": P()},
        {"a": P(None, "model"), "b": P("model", None), "out": P()},
        {"a": P(None, "model"), "b": P(None, "model"), "out": P("model", None)},
    ],
    ids=["replicated", "rows and columns", "columns"],
)
def test_sharded(specs):
    _, _, ticket, x = dense_ticket()
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    place = functools.partial(NamedSharding, mesh)
    params = {
        name: jax.device_put(ticket.params[name], place(spec)) for name, spec in specs.items()
    }
    split = jax.device_put(x, place(P("data", None)))

    def loss(params, x):
        y = ticket.apply(params, x)
        return jnp.sum(y**2), y

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, got), grads = step(params, split)
    (_, want), whole = step(ticket.params, x)
    assert_close((got, grads), (want, whole))
    assert got.sharding.is_equivalent_to(place(P("data", None)), got.ndim)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves((got, grads))} == {8}


def test_a_sharded_network_leaves_a_sharded_ticket():
    params, planned, ticket, _ = dense_ticket()
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(params, NamedSharding(mesh, P(None, None)))
    of_spread = shrink(planned, spread)
    jax.tree.map(np.testing.assert_array_equal, of_spread.params, ticket.params)
    assert {len(x.sharding.device_set) for x in jax.tree.leaves(of_spread.params)} == {2}


@pytest.mark.parametrize("name", [RESNET18, BERT, "shufflenet"])
def test_in_bfloat16_with_groups_found_in_float32(name):
    example, _, planned, ticket = made(name)

    def half(tree):
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x, tree)

    rest = half((example.state, *example.inputs)), half((ticket.state, *example.inputs))
    masked = half(wj.apply_masks(example.params, planned.masks))
    want = output(example.apply, masked, *rest[0])
    got = output(ticket.apply, half(ticket.params), *rest[1])
    assert want.dtype == jnp.bfloat16
    assert_close(got.astype(jnp.float32), want.astype(jnp.float32), tolerance=2e-2)
