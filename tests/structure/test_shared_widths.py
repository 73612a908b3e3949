"""Tickets of several seeds at shared widths: padding changes nothing, and one program trains them all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from zoo import CASES

import wormjax as wj
from wormjax.structure import find_groups, plan, shared_widths, shrink, stack_tickets
from wormjax.structure._shared_widths import padded

SEEDS, INPUTS, OUTPUTS = 3, 5, 3


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def start(seed):
    rng = np.random.default_rng(seed)
    shapes = {
        "a": (INPUTS, 8),
        "a_scale": (8,),
        "b": (8, 6),
        "b_scale": (6,),
        "c": (6, OUTPUTS),
    }
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}


def network(norm):
    """Two hidden layers behind a norm."""

    def apply(params, x):
        for name in "ab":
            x = jax.nn.relu(norm(x @ params[name]) * params[f"{name}_scale"])
        return x @ params["c"]

    return apply


def batch_norm(x):
    return (x - x.mean(0)) * jax.lax.rsqrt(x.var(0) + 1e-3)


def layer_norm(x):
    return (x - x.mean(1, keepdims=True)) * jax.lax.rsqrt(x.var(1, keepdims=True) + 1e-3)


X, Y = start(9)["a"].T @ start(9)["a"], start(9)["c"][:OUTPUTS].repeat(3, 0)[:8]  # (8, 8), (8, 3)
X = X[:, :INPUTS]


def kept(seed):
    """Every seed keeps other units, and another number of them."""
    rng, counts = np.random.default_rng(seed), {"a:1": 3 + seed, "b:1": 4 - seed}
    sizes = {"a:1": 8, "b:1": 6}
    return {
        name: np.isin(np.arange(n), rng.choice(n, counts[name], replace=False))
        for name, n in sizes.items()
    }


def plans_of(apply):
    groups = find_groups(apply, start(0), X)
    assert [g.name for g in groups] == ["a:1", "b:1"]
    return [wj.Plan(groups, kept(seed)) for seed in range(SEEDS)]


def test_shared_widths_are_the_largest():
    assert shared_widths(plans_of(network(batch_norm))) == {"a:1": 5, "b:1": 4}


def test_a_padded_ticket_computes_what_it_does_without_padding():
    apply, tx = network(batch_norm), optax.adam(0.1)
    plans = plans_of(apply)
    for seed, planned in list(enumerate(plans))[::2]:
        params = start(seed)
        full = jax.tree.map(lambda x: x + 1, tx.init(params))
        ones = jax.tree.map(jnp.ones_like, params)
        wide = shrink(
            planned, params, None, full, tx, (ones,), verify=True, pad_to=shared_widths(plans)
        )
        own = shrink(planned, params, None, full, tx)
        assert wide.params["b"].shape == (5, 4)
        np.testing.assert_allclose(wide.apply(wide.params, X), own.apply(own.params, X), rtol=1e-5)
        # by NumPy: zero wherever the plan removes, the kept entries in their order
        rows, columns = (padded(planned, shared_widths(plans)).kept[g] for g in ("a:1", "b:1"))
        live = np.outer(planned.kept["a:1"], planned.kept["b:1"])[np.ix_(rows, columns)]
        np.testing.assert_array_equal(wide.like_params[0]["b"], live)
        values = np.asarray(params["b"])[np.ix_(rows, columns)]
        np.testing.assert_array_equal(wide.params["b"], np.where(live, values, 0))
        np.testing.assert_array_equal(wide.opt_state[0].mu["b"], live)
        assert [len(i) for i in wide.manifest.kept["b"].values()] == [5, 4]


def test_constants_of_removed_units_are_carried_beside_padding():
    def apply(params, x):
        hidden = jax.nn.relu(x @ params["a"] * params["a_scale"] + params["shift"])
        return hidden @ params["d"] + params["bias"]

    params = {**{name: start(0)[name] for name in ("a", "a_scale")}, "d": start(1)["a"].T}
    params |= {"shift": jnp.linspace(-1, 2, 8), "bias": jnp.zeros(INPUTS)}
    masks = jax.tree.map(lambda _: jnp.ones((), bool), params)
    masks["a_scale"] = jnp.asarray(kept(0)["a:1"])  # what is left of the others is relu(shift)
    groups = find_groups(apply, params, X)
    [group] = groups
    ticket = shrink(plan(groups, masks=masks), params, verify=True, pad_to={group.name: 7})
    assert ticket.params["a"].shape == (INPUTS, 7)
    assert float(jnp.abs(ticket.params["bias"]).max()) > 0.1
    want = apply(wj.apply_masks(params, masks), X)
    np.testing.assert_allclose(ticket.apply(ticket.params, X), want, rtol=1e-4, atol=1e-5)


def fit(apply, params, opt_state, tx, hold=None, steps=2):
    def loss(params):
        return jnp.mean((apply(params, X) - Y) ** 2)

    for _ in range(steps):
        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        params = optax.apply_updates(params, updates)
        if hold is not None:
            params = jax.tree.map(jnp.multiply, params, hold)
    return params


@pytest.mark.parametrize("norm", [pytest.param(batch_norm, marks=pytest.mark.slow), layer_norm])
def test_trained_together_as_each_would_be_alone(norm):
    # the norm over the layer's width is the one that needs masks to hold the padding at zero
    apply, tx = network(norm), optax.adam(0.03)
    plans = plans_of(apply)
    tickets, alone = [], []
    for seed, planned in enumerate(plans):
        params = start(seed)
        ones = jax.tree.map(jnp.ones_like, params)
        given = {"opt_state": tx.init(params), "tx": tx, "like_params": (ones,)}
        tickets.append(shrink(planned, params, pad_to=shared_widths(plans), **given))
        own = shrink(planned, params, **given)
        alone.append(jax.jit(functools.partial(fit, own.apply, tx=tx))(own.params, own.opt_state))
    seeds = stack_tickets(tickets)
    masks = seeds.like_params[0] if norm is layer_norm else None
    together = jax.jit(jax.vmap(lambda p, s, hold: fit(seeds.apply, p, s, tx, hold)))(
        seeds.params, seeds.opt_state, masks
    )
    for k, own in enumerate(alone):
        for name, leaf in together.items():
            live = np.asarray(seeds.like_params[0][name][k], bool)
            np.testing.assert_array_equal(leaf[k][~live], 0)
            np.testing.assert_allclose(leaf[k][live], own[name].ravel(), rtol=2e-4, atol=1e-5)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), together, seeds.params)
    assert min(moved.values()) > 1e-3


@pytest.mark.parametrize("name", ["shufflenet", pytest.param("gpt", marks=pytest.mark.slow)])
def test_networks_of_the_zoo_stack(name):
    example = CASES[name]()
    params, state, inputs = example.params, example.state, example.inputs
    groups = find_groups(example.apply, params, *inputs, state=state)
    plans = [plan(groups, wj.scores.random(params, jax.random.key(k)), keep=0.5) for k in range(2)]
    tickets = [shrink(p, params, state, pad_to=shared_widths(plans)) for p in plans]
    assert tickets[0].manifest.kept != tickets[1].manifest.kept
    seeds = stack_tickets(tickets)
    stacked = (seeds.params,) if state is None else (seeds.params, seeds.state)
    axes = (*(0 for _ in stacked), *(None for _ in inputs))
    together = jax.jit(jax.vmap(seeds.apply, in_axes=axes))(*stacked, *inputs)
    for k, planned in enumerate(plans):
        rest = inputs if state is None else (state, *inputs)
        want = jax.jit(example.apply)(wj.apply_masks(params, planned.masks), *rest)
        got, want = (r if state is None else r[0] for r in (together, want))
        np.testing.assert_allclose(got[k], want, atol=1e-5 * float(jnp.abs(want).max()), rtol=0)


def test_a_program_that_depends_on_which_units_are_kept_is_refused():
    def positional(params, x):
        return jax.nn.relu(x @ params["a"] * jnp.arange(8.0)) @ params["b"]

    params = {"a": start(0)["a"], "b": start(0)["b"]}
    groups = find_groups(positional, params, X)
    plans = [wj.Plan(groups, {"a:1": kept(seed)["a:1"]}) for seed in range(2)]
    tickets = [shrink(p, params, pad_to=shared_widths(plans)) for p in plans]
    with pytest.raises(ValueError, match=r"Tickets 0 and 1 .* different programs.*exclude="):
        stack_tickets(tickets)
    assert stack_tickets([tickets[0], tickets[0]]).params["a"].shape == (2, INPUTS, 4)


def test_what_does_not_stack_is_refused():
    apply = network(batch_norm)
    plans = plans_of(apply)
    tickets = [shrink(p, start(0)) for p in plans]
    with pytest.raises(
        ValueError, match=r"'a' has shape \(5, 3\) in ticket 0 and \(5, 4\) in ticket 1"
    ):
        stack_tickets(tickets)
    with_state = shrink(plans[0], start(0), opt_state="reset", tx=optax.adam(0.1))
    with pytest.raises(ValueError, match="differ in what they hold besides parameters"):
        stack_tickets([tickets[0], with_state])
    with pytest.raises(ValueError, match="at least one ticket"):
        stack_tickets([])


def test_widths_that_do_not_fit_are_refused():
    plans = plans_of(network(batch_norm))
    for width in (2, 9):
        with pytest.raises(
            ValueError, match=rf"pad_to={width} for group 'a:1', of whose 8 .* keeps 3"
        ):
            shrink(plans[0], start(0), pad_to={"a:1": width})
    with pytest.raises(ValueError, match="pad_to names a group 'd:0'"):
        shrink(plans[0], start(0), pad_to={"d:0": 4})
    with pytest.raises(ValueError, match="at least one plan"):
        shared_widths([])
    other = find_groups(lambda p, x: x @ p["a"] @ p["b"], {k: start(0)[k] for k in "ab"}, X)
    with pytest.raises(ValueError, match="Plans 0 and 1 are of different networks: group 'b:1'"):
        shared_widths([plans[0], wj.Plan(other, {"a:1": np.ones(8, bool)})])
