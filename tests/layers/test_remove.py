"""Removal against the original network whose branch gives zero because its parameters do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from zoo import CASES

import wormjax as wj
from experiments.models import abstract, named
from wormjax import layers
from wormjax.evaluation import macs, parameters


def without(params, path):
    """The parameters with everything under a path zero."""

    def leaf(keys, x):
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        return np.zeros(x.shape, x.dtype) if name.startswith(path) else x

    return jax.tree_util.tree_map_with_path(leaf, params)


def zeroed_row(params, key, row):
    def leaf(x):
        x = np.array(x)
        x[row] = 0.0
        return x

    return {**params, key: jax.tree.map(leaf, params[key])}


def same(a, b, tolerance=1e-6):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def as_users_write():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_values_and_gradients_are_those_of_the_zeroed_branch(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    ticket = layers.remove(found, ["blocks/1", "blocks/2"], params)
    zeroed = without(without(params, "blocks/1"), "blocks/2")

    def loss(f, p):
        return jnp.sum(jnp.sin(f(p, x)))

    got = jax.jit(jax.value_and_grad(functools.partial(loss, ticket.apply)))(ticket.params)
    want = jax.jit(jax.value_and_grad(functools.partial(loss, apply)))(zeroed)
    same(got[0], want[0])
    same(got[1]["head"], want[1]["head"])
    for k in (0, 3):
        same(got[1]["blocks"][k], want[1]["blocks"][k])
    assert {x.size for k in (1, 2) for x in jax.tree.leaves(ticket.params["blocks"][k])} == {0}
    assert parameters(ticket.params) == parameters(params) - sum(
        found[n].parameters for n in ticket.manifest.layers
    )
    gone = sum(found[n].macs for n in ticket.manifest.layers)
    assert (
        macs(apply, params, x) - macs(ticket.apply, ticket.params, x) == gone == 2 * 4 * 2 * 3 * 5
    )


def test_a_switch_is_a_factor_on_the_branch(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    network = jax.jit(layers.switched(found))
    half = {**params, "blocks": list(params["blocks"])}
    half["blocks"][2] = {**half["blocks"][2], "down": 0.5 * np.asarray(half["blocks"][2]["down"])}
    same(network(np.float32([1, 1, 0.5, 1]), params, x), jax.jit(apply)(half, x))
    same(
        network(np.float32([0, 1, 1, 1]), params, x),
        jax.jit(apply)(without(params, "blocks/0"), x),
    )
    with pytest.raises(ValueError, match=r"takes 4 factors, one a candidate, and got shape \(3,\)"):
        layers.switched(found)(jnp.ones(3), params, x)
    with pytest.raises(ValueError, match=r"Find them on inputs of the shape that is used"):
        layers.switched(found)(jnp.ones(4), params, x[:2])


def test_removing_nothing_changes_no_bit(chain):
    apply, params, x = chain
    ticket = layers.remove(layers.candidates(apply, params, x), [], params)
    np.testing.assert_array_equal(
        jax.jit(ticket.apply)(ticket.params, x), jax.jit(apply)(params, x)
    )


@pytest.mark.parametrize(
    ("name", "removed", "zeroed"),
    [
        pytest.param("preresnet", ["blocks/1"], ["blocks/1/conv3"], marks=pytest.mark.slow),
        pytest.param("vit", ["blocks/0/up"], ["blocks/0/down"], marks=pytest.mark.slow),
        pytest.param(
            "resnet18",
            ["blocks/0", "blocks/5"],
            ["blocks/0/bn2", "blocks/5/bn2"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "resnet50", ["Bottleneck_1"], ["Bottleneck_1/BatchNorm_2"], marks=pytest.mark.slow
        ),
        pytest.param(
            "mlp_mixer", ["blocks/1/norm2"], ["blocks/1/hidden_mixer"], marks=pytest.mark.slow
        ),
        pytest.param("bert", ["layer1/key"], ["layer1/out"], marks=pytest.mark.slow),
    ],
)
def test_networks_as_their_users_write_them(name, removed, zeroed):
    example = CASES[name]()
    found = layers.candidates(example.apply, example.params, *example.inputs, state=example.state)
    ticket = layers.remove(found, removed, example.params, state=example.state)
    params = functools.reduce(without, zeroed, example.params)
    if example.state is None:
        got = jax.jit(ticket.apply)(ticket.params, *example.inputs)
        want = jax.jit(example.apply)(params, *example.inputs)
    else:
        got, _ = jax.jit(ticket.apply)(ticket.params, ticket.state, *example.inputs)
        want, _ = jax.jit(example.apply)(params, example.state, *example.inputs)
    same(got, want, 1e-5)


def test_steps_of_a_scan_go_with_their_rows(scanned):
    apply, params, x = scanned
    found = layers.candidates(apply, params, x)
    assert found.names == [f"blocks[{k}]" for k in range(4)]
    ticket = layers.remove(found, ["blocks[1]", "blocks[2]"], params)
    assert ticket.params["blocks"]["up"].shape == (2, 3, 5)
    np.testing.assert_array_equal(
        ticket.params["blocks"]["up"], np.asarray(params["blocks"]["up"])[[0, 3]]
    )
    want = jax.jit(apply)(zeroed_row(zeroed_row(params, "blocks", 1), "blocks", 2), x)
    same(jax.jit(ticket.apply)(ticket.params, x), want)
    network = jax.jit(layers.switched(found))
    same(network(np.float32([1, 0, 0, 1]), params, x), want)
    _, views = jax.jit(layers.streams(found))(params, x)
    same(np.asarray(views[3]) @ np.asarray(params["head"]), jax.jit(apply)(params, x), 1e-5)


def test_statistics_of_a_removed_block_go_and_others_are_updated(chain):
    _, params, x = chain
    state = [np.full((3,), float(k), np.float32) for k in range(4)]

    def apply(params, state, x):
        new = []
        for p, mean in zip(params["blocks"], state, strict=True):
            y = jnp.tanh(x @ p["up"] + p["bias"]) @ p["down"]
            x = x + (y - mean) * p["down"][0]
            new.append(0.9 * mean + 0.1 * y.mean(0))
        return x, new

    found = layers.candidates(apply, params, x, state=state)
    ticket = layers.remove(found, ["blocks/1"], params, state=state)
    assert [s.shape for s in ticket.state] == [(3,), (0,), (3,), (3,)]
    out, new = jax.jit(ticket.apply)(ticket.params, ticket.state, x)
    want, all_new = jax.jit(apply)(without(params, "blocks/1"), state, x)
    same(out, want)
    assert new[1].shape == (0,)
    same([new[k] for k in (0, 2, 3)], [all_new[k] for k in (0, 2, 3)])


@pytest.mark.slow
def test_statistics_in_training_mode():
    view = abstract(named("digits_resnet"))
    rng = np.random.default_rng(0)
    draw = lambda s: jnp.asarray(rng.uniform(0.5, 1.5, s.shape), s.dtype)  # noqa: E731
    params, state = jax.tree.map(draw, (view.params, view.state))
    x = draw(jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32))
    found = layers.candidates(view.apply, params, x, state=state)
    ticket = layers.remove(found, ["layers/1/convs"], params, state=state)
    assert {s.size for s in jax.tree.leaves(ticket.state["layers"][1])} == {0}
    train = functools.partial(view.apply, train=True)
    _, new = jax.jit(ticket.apply.of(train))(ticket.params, ticket.state, x)
    last = {"norm": jax.tree.map(jnp.zeros_like, params["layers"][1]["convs"][1]["norm"])}
    params["layers"][1]["convs"][1] |= last  # the block's last normalisation gives zero
    _, want = jax.jit(train)(params, state, x)
    same(new["layers"][2], want["layers"][2], 1e-5)
    same(new["layers"][0], want["layers"][0], 1e-5)
    assert {s.size for s in jax.tree.leaves(new["layers"][1])} == {0}


def test_optimizer_and_copies_are_cut_and_training_goes_on(chain):
    apply, params, x = chain
    tx = optax.adam(0.1)
    loss = lambda f, p: jnp.mean(f(p, x) ** 2)  # noqa: E731

    @functools.partial(jax.jit, static_argnums=0)
    def step(f, p, s):
        updates, s = tx.update(jax.grad(functools.partial(loss, f))(p), s, p)
        return optax.apply_updates(p, updates), s

    opt_state = jax.tree.map(
        lambda s: np.full(s.shape, 0.5 if s.shape else 1, s.dtype), jax.eval_shape(tx.init, params)
    )
    found = layers.candidates(apply, params, x)
    ticket = layers.remove(
        found, ["blocks/2"], params, opt_state=opt_state, tx=tx, like_params=(params,)
    )
    same(ticket.like_params[0], ticket.params)
    mu = ticket.opt_state[0].mu
    assert mu["blocks"][2]["up"].shape == (0, 5)
    same(mu["blocks"][1], opt_state[0].mu["blocks"][1])
    after, _ = step(ticket.apply, ticket.params, ticket.opt_state)
    zeroed = without(params, "blocks/2")
    want, _ = step(apply, zeroed, opt_state)
    same(after["blocks"][3], want["blocks"][3], 1e-5)
    fresh = layers.remove(found, ["blocks/2"], params, opt_state="reset", tx=tx)
    assert int(fresh.opt_state[0].count) == 0


@pytest.mark.parametrize("kind", ["chain", pytest.param("scanned", marks=pytest.mark.slow)])
def test_saved_and_loaded_like_any_ticket(kind, tmp_path, request):
    apply, params, x = request.getfixturevalue(kind)
    found = layers.candidates(apply, params, x)
    tx = optax.sgd(0.1, momentum=0.9)
    ticket = layers.remove(found, found.names[1:3], params, opt_state="reset", tx=tx)
    wj.save_ticket(tmp_path / "ticket", ticket)
    loaded = wj.load_ticket(tmp_path / "ticket", apply, params, tx=tx)
    assert loaded.manifest.layers == tuple(found.names[1:3])
    np.testing.assert_array_equal(
        jax.jit(loaded.apply)(loaded.params, x), jax.jit(ticket.apply)(ticket.params, x)
    )
    with pytest.raises(
        wj.structure.TicketError, match=r"Only the ticket's network has a parameter"
    ):
        wj.load_ticket(tmp_path / "ticket", apply, {"head": params["head"]})


@pytest.mark.parametrize("saved", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_channels_can_go_after_layers_and_layers_after_channels(chain, tmp_path, saved):
    apply, params, x = chain

    def narrowed(apply, params):
        groups = wj.find_groups(apply, params, x)
        scores = jax.tree.map(np.abs, jax.device_get(params))
        only = wj.prunable(params, include=["blocks/3"])
        scores = jax.tree.map(lambda s, o: s if o else np.float32(np.inf), scores, only)
        return wj.shrink(wj.plan(groups, scores, keep=0.6), params)

    first = layers.remove(layers.candidates(apply, params, x), ["blocks/1"], params)
    both = narrowed(first.apply, first.params)
    cut = narrowed(apply, params)
    again = layers.remove(layers.candidates(cut.apply, cut.params, x), ["blocks/1"], cut.params)
    want = jax.jit(cut.apply)(without(cut.params, "blocks/1"), x)
    for ticket in (both, again):
        assert ticket.params["blocks"][1]["up"].size == 0
        assert ticket.params["blocks"][3]["up"].shape == (3, 3)
        same(jax.jit(ticket.apply)(ticket.params, x), want)
        if saved:
            path = tmp_path / str(len(list(tmp_path.iterdir())))
            wj.save_ticket(path, ticket)
            loaded = wj.load_ticket(path, apply, params)
            same(jax.jit(loaded.apply)(loaded.params, x), want)


def test_a_second_removal_is_recorded_beside_the_first(scanned, tmp_path):
    apply, params, x = scanned
    first = layers.remove(layers.candidates(apply, params, x), ["blocks[1]"], params)
    found = layers.candidates(first.apply, first.params, x)
    assert len(found) == 3
    second = layers.remove(found, ["blocks[1]"], first.params)  # that was the third
    want = jax.jit(apply)(zeroed_row(zeroed_row(params, "blocks", 1), "blocks", 2), x)
    same(jax.jit(second.apply)(second.params, x), want)
    assert second.manifest.kept["blocks/up"] == {0: (0, 3)}
    wj.save_ticket(tmp_path / "t", second)
    loaded = wj.load_ticket(tmp_path / "t", apply, params)
    same(jax.jit(loaded.apply)(loaded.params, x), want)


def test_wrong_calls_are_sentences(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    with pytest.raises(ValueError, match=r"no candidate 'blocks/7'; there are \['blocks/0'"):
        layers.remove(found, ["blocks/7"], params)
    with pytest.raises(ValueError, match=r"got a candidate twice"):
        layers.remove(found, ["blocks/0", "blocks/0"], params)
    with pytest.raises(ValueError, match=r"found without a state; pass none"):
        layers.remove(found, ["blocks/0"], params, state={})
    with pytest.raises(ValueError, match=r"params 'head' has shape \(3, 9\), and \(3, 2\)"):
        layers.remove(found, ["blocks/0"], {**params, "head": jnp.ones((3, 9))})
    with pytest.raises(ValueError, match=r"opt_state= together with the tx="):
        layers.remove(found, ["blocks/0"], params, tx=optax.sgd(0.1))
    ticket = layers.remove(found, ["blocks/0"], params)
    with pytest.raises(
        ValueError, match=r"'blocks/0/bias' has shape \(5,\), and \(0,\) without the removed"
    ):
        ticket.apply(params, x)
