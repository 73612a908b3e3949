"""A ticket comes back as it went in, here and in another process."""

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved_tickets import (
    DEFINITION,
    FROZEN,
    X,
    assert_identical,
    load,
    made_ticket,
    net,
    trees,
)

import wormjax as wj
from wormjax.structure import (
    CapturedWarning,
    TicketError,
    find_groups,
    load_ticket,
    plan,
    save_ticket,
    shrink,
)


@pytest.fixture
def ticket():
    return made_ticket()


@pytest.fixture
def saved(ticket, tmp_path):
    save_ticket(tmp_path / "ticket", ticket)
    return tmp_path / "ticket"


def test_everything_comes_back_bit_for_bit(ticket, saved):
    found = load(saved)
    assert_identical(trees(found), trees(ticket))
    assert found.manifest == ticket.manifest
    assert found.widths == jax.tree.map(jnp.shape, dict(flat(ticket.params)))
    assert found.like_params[1]["b"].dtype == jnp.bfloat16
    got, got_state = found.apply(found.params, found.state, X[:3])
    want, want_state = ticket.apply(ticket.params, ticket.state, X[:3])
    np.testing.assert_array_equal(got, want)
    assert_identical(got_state, want_state)


def flat(tree, prefix=""):
    for key, value in tree.items():
        yield from (
            flat(value, f"{prefix}{key}/") if isinstance(value, dict) else [(prefix + key, value)]
        )


def test_the_optimizer_state_is_read_only_when_asked_for(saved):
    shutil.rmtree(saved / "opt_state")
    assert load(saved, tx=None).opt_state is None
    with pytest.raises(TicketError, match=r"its file opt_state/.* is missing or was changed"):
        load(saved)


def test_another_process_with_other_devices_restores_it(ticket, tmp_path):
    mesh = jax.make_mesh((2,), ("x",), devices=jax.devices()[:2])
    spread = jax.sharding.NamedSharding(mesh, jax.P(None, "x"))
    kernel = jax.device_put(ticket.params["a"]["w"], spread)
    assert len(kernel.sharding.device_set) == 2
    params = {**ticket.params, "a": {**ticket.params["a"], "w": kernel}}
    save_ticket(tmp_path / "ticket", dataclasses.replace(ticket, params=params))
    frozen: dict = {}
    exec(FROZEN, frozen)
    apply = frozen["closing_over"](*frozen["values"])
    groups = find_groups(apply, frozen["params"], frozen["tokens"])
    planned = plan(groups, wj.scores.magnitude(frozen["params"]), keep=0.5, scope="group")
    closing = shrink(planned, frozen["params"])
    with pytest.warns(CapturedWarning):
        save_ticket(tmp_path / "closing", closing)
    script = f"""
import jax
jax.config.update("jax_num_cpu_devices", 3)
{DEFINITION}
from wormjax.structure import load_ticket
ticket = load_ticket({str(tmp_path / "ticket")!r}, apply, params(), state(), tx=tx)
assert len(jax.devices()) == 3
y, _ = ticket.apply(ticket.params, ticket.state, x)
print(np.asarray(y).tobytes().hex(), ticket.widths["b"], ticket.opt_state[0][0].mu["b"].dtype)
{FROZEN}
ticket = load_ticket({str(tmp_path / "closing")!r}, closing_over(*blanks), params)
print(np.asarray(ticket.apply(ticket.params, tokens)).tobytes().hex())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "CapturedWarning" in ran.stderr
    told, from_frozen = ran.stdout.split("\n", 1)
    output, *rest = told.split(" ", 1)
    want, _ = ticket.apply(ticket.params, ticket.state, X)
    got = np.frombuffer(bytes.fromhex(output), np.float32).reshape(want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    assert rest == [f"{ticket.params['b'].shape} bfloat16"]
    want = closing.apply(closing.params, frozen["tokens"])
    got = np.frombuffer(bytes.fromhex(from_frozen), np.float32).reshape(want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_a_loaded_ticket_is_shrunk_again_and_speaks_of_the_first_network(ticket, saved, tmp_path):
    once = load(saved)
    groups = find_groups(once.apply, once.params, X, state=once.state)
    planned = plan(groups, wj.scores.magnitude(once.params), keep=0.5)
    twice = shrink(planned, once.params, once.state)
    save_ticket(tmp_path / "twice", twice)
    found = load(tmp_path / "twice", tx=None)
    assert_identical(trees(found), trees(twice))
    assert found.manifest.shapes == ticket.manifest.shapes
    indices = found.manifest.indices
    np.testing.assert_array_equal(
        found.params["b"],
        np.asarray(net["params"]()["b"])[np.ix_(indices["b"][0], indices["b"][1])],
    )
    got = found.apply(found.params, found.state, X)[0]
    want = twice.apply(twice.params, twice.state, X)[0]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_odd_dtypes_and_empty_leaves(tmp_path):
    params = {"a": net["normal"](0, 5, 8).astype(jnp.bfloat16), "b": jnp.ones((8, 3), jnp.bfloat16)}
    state = {
        "flag": jnp.array([True, False]),
        "small": jnp.arange(3, dtype=jnp.int8),
        "eighth": jnp.ones(4, jnp.float8_e4m3fn),
        "none": jnp.zeros((0, 3)),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
        "old": jax.random.PRNGKey(1),
        "host": np.arange(2, dtype=np.int32),
        "nan": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45]),
    }

    def apply(params, state, x):
        return jnp.tanh(x @ params["a"]) @ params["b"], state

    x = X.astype(jnp.bfloat16)
    groups = find_groups(apply, params, x, state=state)
    made = shrink(plan(groups, wj.scores.magnitude(params), keep=0.5), params, state)
    save_ticket(tmp_path / "t", made)
    found = load_ticket(tmp_path / "t", apply, params, state)
    assert_identical(trees(found), trees(made))
    assert jax.random.key_impl(found.state["keys"]) == jax.random.key_impl(state["keys"])


def test_nothing_is_pickled_and_nobody_talks(ticket, tmp_path, caplog, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_ticket(tmp_path / "t", ticket)
        load(tmp_path / "t")
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    for path in tmp_path.rglob("*"):
        assert path.suffix not in (".pkl", ".pickle")
        assert path.is_dir() or not path.read_bytes().startswith(b"\x80\x04")


def test_the_manifest_says_what_there_is(ticket, saved):
    record = json.loads((saved / "manifest.json").read_text())
    assert record["manifest"]["kept"]["a/b"]["1"] == ticket.manifest.indices["a/b"][1].tolist()
    assert record["manifest"]["versions"]["jax"] == jax.__version__
    assert record["trees"]["like_params_1"][0]["dtype"] == "bfloat16"
    assert all(len(digest) == 64 for digest in record["files"].values())
