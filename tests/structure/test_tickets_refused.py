"""What is wrong with a ticket on disk, or does not fit it, is an error that says so before anything is used."""

import dataclasses
import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from saved_tickets import (
    SHAPES,
    STATE_SHAPES,
    TX,
    X,
    assert_identical,
    load,
    made_ticket,
    net,
    trees,
)

import wormjax as wj
from wormjax.structure import TicketError, find_groups, load_ticket, plan, save_ticket, shrink


@pytest.fixture
def ticket():
    return made_ticket()


@pytest.fixture
def saved(ticket, tmp_path):
    save_ticket(tmp_path / "ticket", ticket)
    return tmp_path / "ticket"


def changed(**changes):
    shapes = {**SHAPES, **changes}
    return {k: v for k, v in shapes.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"params_like": changed(d=SHAPES["b"])}, "Only this network has a parameter 'd'"),
        ({"params_like": changed(c=None)}, "Only the ticket's network has a parameter 'c'"),
        (
            {"params_like": changed(b=jax.ShapeDtypeStruct((8, 7), jnp.float32))},
            r"'b' has shape \(8, 7\); the ticket was cut from one of \(8, 6\)",
        ),
        (
            {"params_like": changed(b=jax.ShapeDtypeStruct((8, 6), jnp.bfloat16))},
            "'b' has dtype bfloat16; the ticket was cut from float32",
        ),
        ({"state_like": None}, "has a state; pass state_like="),
        ({"state_like": {"mean": STATE_SHAPES["mean"]}}, "cut from another state.*missing"),
        (
            {
                "state_like": {
                    **STATE_SHAPES,
                    "mean": jax.ShapeDtypeStruct((1, 8), jnp.bfloat16),
                }
            },
            "cut from another state.*'mean'.*bfloat16",
        ),
        ({"tx": optax.sgd(0.1)}, r"has \d+ arrays in opt_state where 0 are expected"),
        (
            {"tx": optax.chain(optax.adam(0.1), optax.add_noise(0.1, 0.1, 0))},
            r"in opt_state .*mu/a/b' of .* bfloat16, where .*float32",
        ),
        ({"tx": optax.GradientTransformation(None, None)}, "tx.init does not take the ticket's"),
    ],
)
def test_another_definition_is_refused(changes, sentence, saved):
    with pytest.raises(TicketError, match=sentence):
        load(saved, **changes)


def test_a_ticket_without_a_state_takes_none(tmp_path):
    params = {"a": net["normal"](0, 5, 8), "b": net["normal"](1, 8, 3)}

    def apply(params, x):
        return jnp.tanh(x @ params["a"]) @ params["b"]

    made = shrink(
        plan(find_groups(apply, params, X), wj.scores.magnitude(params), keep=0.5), params
    )
    save_ticket(tmp_path / "t", made)
    with pytest.raises(TicketError, match="has no state; pass none"):
        load_ticket(tmp_path / "t", apply, params, STATE_SHAPES)
    with pytest.raises(TicketError, match=r"has 0 arrays in opt_state where \d+ are expected"):
        load_ticket(tmp_path / "t", apply, params, tx=TX)
    assert load_ticket(tmp_path / "t", apply, params).state is None


def test_another_function_of_the_same_parameters_is_refused_when_called(saved):
    def apply(params, state, x):
        h = jnp.tanh(x @ params["a"]["w"] + params["a"]["b"] - state["mean"])
        return h @ (params["b"] @ params["c"] + jnp.tanh(params["b"]) @ params["c"][::-1]), state

    found = load(saved, apply=apply)
    with pytest.raises(ValueError, match=r"is not the function that was pruned|must stay whole"):
        found.apply(found.params, found.state, X)


def test_every_broken_file_is_noticed(ticket, saved):
    """Each file in turn is cut, emptied, taken away, and changed in places drawn at random."""
    rng = np.random.default_rng(0)
    files = sorted(p for p in saved.rglob("*") if p.is_file())
    assert {p.relative_to(saved).parts[0] for p in files} == {
        "manifest.json", "params", "state", "opt_state", "like_params_0", "like_params_1",
    }  # fmt: skip
    for file in files:
        content = file.read_bytes()
        broken = [content[: len(content) // 2], content[:-1], b"", None]
        for place in rng.integers(len(content), size=3):
            flip = bytes([content[place] ^ (1 << rng.integers(8))])
            broken.append(content[:place] + flip + content[place + 1 :])
        for bytes_ in broken:
            file.unlink(missing_ok=True)
            if bytes_ is not None:
                file.write_bytes(bytes_)
            with pytest.raises(TicketError, match=r"is damaged|There is no ticket|has the format"):
                load(saved)
        file.write_bytes(content)
    assert_identical(trees(load(saved)), trees(ticket))


def resealed(path, change):
    """A record that was changed by somebody who knows the seal."""
    record = json.loads((path / "manifest.json").read_text())
    del record["seal"]
    change(record)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    seal = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(record | {"seal": seal}))


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(record):
        for key in keys:
            record = record[key]
        record[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            put("format", 9),
            "has the format 9; this version reads 2.*shrink the original network anew",
        ),
        (put("manifest", "kept", "b", "0", [0, 3, 99, 100]), "not rising indices of an axis of 8"),
        (put("manifest", "kept", "b", "0", [3, 0]), "not rising indices"),
        (put("manifest", "kept", "b", "0", []), "not rising indices"),
        (put("manifest", "kept", "b", "2", [0]), "not rising indices of an axis of 0"),
        (put("manifest", "kept", "z", {"0": [0]}), "of axis 0 of 'z'"),
        (put("manifest", "kept", "b", "0", ["x"]), "not the manifest of a ticket"),
        (put("manifest", "kept", "b", "0", [0, 1]), r"in params 'b' of shape .*where 'b' of \(2,"),
        (put("manifest", "shapes", "b", [8, 7]), "not those of its fingerprint"),
        (put("manifest", "dtypes", {}), "not those of its fingerprint"),
        (put("manifest", 3), "not the manifest of a ticket"),
        (put("trees", "params", []), "has 0 arrays in params where 4 are expected"),
        (put("trees", "params", 0, "dtype", "int32"), "'a/b' of shape .* and dtype int32"),
        (put("trees", "state", 1, "shape", [1, 3]), "holds 'mean' of state as .* its record says"),
        (put("trees", "params", [{}]), "misses what belongs there"),
        (put("files", {}), None),
        (put("files", "params/nowhere", "0"), "its file params/nowhere is missing"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(change, sentence, saved):
    resealed(saved, change)
    if sentence is None:  # nothing is checked, nothing is broken
        load(saved)
        return
    with pytest.raises(TicketError, match=sentence):
        load(saved)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"seal": 1}', "{}"])
def test_what_is_no_record_is_refused(text, saved):
    (saved / "manifest.json").write_text(text)
    with pytest.raises(TicketError, match=r"is damaged: its manifest.json"):
        load(saved)


def test_there_is_no_ticket(tmp_path):
    with pytest.raises(
        TicketError, match=r"There is no ticket at .*nowhere: it has no manifest.json"
    ):
        load(tmp_path / "nowhere")


def test_arrays_of_another_ticket_are_noticed(ticket, saved, tmp_path):
    other = dataclasses.replace(ticket, params=jax.tree.map(jnp.zeros_like, ticket.params))
    save_ticket(tmp_path / "other", other)
    shutil.rmtree(saved / "params")
    shutil.copytree(tmp_path / "other" / "params", saved / "params")
    with pytest.raises(TicketError, match=r"is damaged: its file params/.* missing or was changed"):
        load(saved)


def test_what_is_there_is_never_overwritten(ticket, saved, tmp_path):
    with pytest.raises(TicketError, match=r"There is something at .*Save to another path"):
        save_ticket(saved, ticket)
    (saved / "manifest.json").unlink()
    with pytest.raises(TicketError, match="what an interrupted save leaves"):
        save_ticket(saved, ticket)
    (tmp_path / "empty").mkdir()
    save_ticket(tmp_path / "empty", ticket)
    assert_identical(trees(load(tmp_path / "empty")), trees(ticket))


def test_a_leaf_that_is_no_array_is_refused_before_anything_is_written(ticket, tmp_path):
    with pytest.raises(TypeError, match="The leaf 'mean' of state is a float, not an array"):
        save_ticket(tmp_path / "t", dataclasses.replace(ticket, state={"mean": 0.5}))
    assert not (tmp_path / "t").exists()


def test_two_parameters_of_one_name_are_refused():
    params = {"a/b": net["normal"](0, 5, 8), "a": {"b": net["normal"](1, 8, 3)}}
    groups = find_groups(lambda p, x: jnp.tanh(x @ p["a/b"]) @ p["a"]["b"], params, X)
    planned = plan(groups, wj.scores.magnitude(params), keep=0.5)
    with pytest.raises(ValueError, match="Two parameters are called 'a/b'"):
        shrink(planned, params)
