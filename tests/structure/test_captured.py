"""A ticket holds what its function closes over; a definition that closes over other values computes with these."""

import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved_tickets import FROZEN

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
from wormjax.structure._captured import Block

net: dict = {}
exec(FROZEN, net)
PARAMS, TOKENS, VALUES, BLANKS = (net[k] for k in ("params", "tokens", "values", "blanks"))
closing_over, normal = net["closing_over"], net["normal"]


def shrunk(apply, params, *inputs):
    groups = find_groups(apply, params, *inputs)
    return shrink(plan(groups, wj.scores.magnitude(params), keep=0.5, scope="group"), params)


@pytest.fixture(scope="module")
def ticket():
    return shrunk(closing_over(*VALUES), PARAMS, TOKENS)


@pytest.fixture(scope="module")
def saved(ticket, tmp_path_factory):
    folder = tmp_path_factory.mktemp("closing") / "ticket"
    with pytest.warns(CapturedWarning, match=r"arrays that shrink.*first of shape .*as state="):
        save_ticket(folder, ticket)
    return folder


def load_quietly(folder, apply, params=PARAMS):
    """With warnings as errors: these arrays are the ticket's."""
    loaded = load_ticket(folder, apply, params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(loaded.apply, loaded.params, TOKENS)
    return loaded


def load(folder, apply, params=PARAMS):
    loaded = load_ticket(folder, apply, params)
    with pytest.warns(
        CapturedWarning, match=r"other values than the ticket.*the ticket's are used"
    ):
        jax.eval_shape(loaded.apply, loaded.params, TOKENS)
    return loaded


def by_numpy(kept, tokens):
    """The masked network, from the values that the ticket was made with."""
    table, mean, std, heat = (np.asarray(x) for x in VALUES)
    width, units = (np.isin(np.arange(n), kept["a"][axis]) for axis, n in enumerate((6, 8)))
    h = np.cumsum(table[np.asarray(tokens)] * heat, axis=0) * width
    a, b = np.asarray(PARAMS["a"]), np.asarray(PARAMS["b"])
    return (np.tanh((h @ a - mean) / std) * units) @ b


@pytest.mark.parametrize("values", [VALUES, BLANKS], ids=["same", "other"])
def test_the_tickets_values_are_used(values, ticket, saved):
    with_own = load_quietly if values is VALUES else load
    found = with_own(saved, closing_over(*values))
    assert found.manifest == ticket.manifest
    for tokens in (TOKENS, jnp.array([2, 8, 0, 1, 1])):  # at another length, too
        got = jax.jit(found.apply)(found.params, tokens)
        np.testing.assert_allclose(got, by_numpy(ticket.apply.indices, tokens), atol=2e-6)


def test_only_what_is_kept_is_on_disk(ticket, saved):
    record = json.loads((saved / "manifest.json").read_text())
    shapes = sorted(x["shape"] for x in record["trees"]["captured"])
    assert shapes == [[], [1, 4], [1, 4], [4, 4], [9, 3]]
    full = sorted(list(c.shape) for c in ticket.manifest.captured)
    assert full == [[], [1, 8], [1, 8], [4, 4], [9, 6]]


def test_a_loaded_ticket_is_shrunk_again_and_exported(saved, tmp_path):
    once = load(saved, closing_over(*BLANKS))
    twice = shrunk(once.apply, once.params, TOKENS)
    assert twice.params["a"].shape == (2, 2)  # of 3 and 4
    with pytest.warns(CapturedWarning):
        save_ticket(tmp_path / "twice", twice)
    found = load(tmp_path / "twice", closing_over(*BLANKS))
    want = by_numpy(twice.manifest.indices, TOKENS)
    np.testing.assert_allclose(found.apply(found.params, TOKENS), want, atol=2e-6)
    exported = found.export(TOKENS, any_batch=False, platforms=("cpu",))
    np.testing.assert_allclose(exported.call(TOKENS), want, atol=2e-6)


def test_another_function_with_the_same_arrays_gets_the_tickets(ticket, saved):
    table, mean, std, heat = (x + 1 for x in BLANKS)
    places = np.arange(3, dtype=np.int32)[None]
    found = load(saved, closing_over(table, mean, std, heat))

    def in_training(params, tokens):
        # in another order, without the mask, and with one array more
        h = (table[tokens] * heat) @ params["a"] - jnp.asarray(mean)
        return jnp.tanh(h / std) @ params["b"] * jnp.asarray(places).astype(jnp.float32)

    got = found.apply.of(in_training)(found.params, TOKENS[:1])
    want = by_numpy(ticket.apply.indices, TOKENS[:1]) * np.arange(3)
    np.testing.assert_allclose(got, want, atol=2e-6)

    def of_all_units(params, tokens):
        return jnp.tanh((table[tokens] * heat) @ params["a"] - mean) @ params["b"] + jnp.sum(std)

    with pytest.raises(
        TicketError, match=r"uses 4 entries on axis 1 .* \(1, 8\) that were removed"
    ):
        found.apply.of(of_all_units)(found.params, TOKENS[:1])

    def of_another_array(params, tokens):
        return in_training(params, tokens) + normal(9, 1, 3)

    with pytest.raises(TicketError, match=r"shape \(1, 3\) .*cannot be told which of the ticket's"):
        found.apply.of(of_another_array)(found.params, TOKENS[:1])


ZERO = jnp.zeros((1, 8))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            (jnp.zeros((8, 6)), *BLANKS[1:]),
            r"array of shape \(8, 6\) .* closed over one of \(9, 6\)",
        ),
        ((BLANKS[0].astype(jnp.bfloat16), *BLANKS[1:]), "bfloat16 where the ticket's"),
        ((*BLANKS[:2], jnp.ones(8), BLANKS[3]), r"shape \(8,\) .* closed over one of \(1, 8\)"),
        ((*BLANKS[:3], 2.0), r"one of \(\) and float32|over 4 arrays"),
        ((BLANKS[0], ZERO, ZERO, BLANKS[3]), "4 arrays, and the ticket's closed over 5.* several"),
    ],
)
def test_a_definition_that_captures_others_is_refused(values, sentence, saved):
    found = load_ticket(saved, closing_over(*values), PARAMS)
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.raises(TicketError, match=sentence),
    ):
        found.apply(found.params, TOKENS)


def test_one_array_at_two_places_cannot_stand_for_two(tmp_path):
    params = {"a": normal(0, 5, 8), "b": normal(1, 8, 3)}

    def adding(first, second):
        inner = jax.jit(lambda h: h + second)
        return lambda params, x: inner(jnp.tanh(x @ params["a"]) @ params["b"] + first)

    x, one, two, blank = normal(2, 4, 5), normal(3, 1, 3), normal(4, 1, 3), jnp.zeros((1, 3))
    made = shrunk(adding(one, two), params, x)
    save_ticket(tmp_path / "t", made)  # no unit lies on them: no warning
    found = load_ticket(tmp_path / "t", adding(blank, blank), params)
    with pytest.raises(
        TicketError, match=r"one array of shape \(1, 3\) where .* two different ones"
    ):
        found.apply(found.params, x)


def test_keys_are_not_saved(tmp_path):
    params = {"a": normal(0, 5, 8), "b": normal(1, 8, 3)}

    def drawing_with(keys):
        def apply(params, x):
            return jnp.tanh(x @ params["a"]) @ params["b"] + jax.random.normal(keys[1], (1, 3))

        return apply

    x, keys = normal(2, 4, 5), jax.random.split(jax.random.key(0))
    made = shrunk(drawing_with(keys), params, x)
    save_ticket(tmp_path / "t", made)
    assert not (tmp_path / "t" / "captured" / "keys").exists()
    same = load_ticket(tmp_path / "t", drawing_with(jnp.array(keys)), params)
    np.testing.assert_array_equal(same.apply(same.params, x), made.apply(made.params, x))
    other = load_ticket(tmp_path / "t", drawing_with(jax.random.split(jax.random.key(1))), params)
    with pytest.raises(TicketError, match=r"PRNG keys of shape \(2,\) that are not the ticket's"):
        other.apply(other.params, x)


def test_large_arrays_are_told_of_and_ordinary_ones_are_not(tmp_path):
    params = {"a": normal(0, 5, 8), "b": normal(1, 8, 3)}

    def apply(params, x, table=normal(3, 9, 5), epsilon=jnp.asarray(1e-5)):
        return jnp.tanh((x * jnp.cos(table[:1]) + epsilon) @ params["a"]) @ params["b"]

    save_ticket(tmp_path / "small", shrunk(apply, params, normal(2, 4, 5)))
    rows = jnp.zeros((53_000, 5))
    made = shrunk(lambda p, x: apply(p, x + rows[:1]), params, normal(2, 4, 5))
    with pytest.warns(CapturedWarning, match=r"over 1,060,184 bytes of arrays, .* have 128"):
        save_ticket(tmp_path / "large", made)


def test_what_removed_entries_held_is_known_where_it_was_one_number():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    array[[0, 2]] = 7
    kept = {0: np.array([1]), 1: np.array([0, 3])}
    block = Block.of(jnp.asarray(array), kept)
    assert (block.array.shape, block.fills) == ((1, 2), {0: 7.0})
    want = np.full((3, 4), np.nan, np.float32)
    want[1, [0, 3]] = array[1, [0, 3]]
    want[[0, 2]] = 7
    np.testing.assert_array_equal(block.whole((3, 4)), want)
    told = Block.of_record(json.loads(json.dumps(block.record())), block.array)
    np.testing.assert_array_equal(told.whole((3, 4)), want)
    places = Block.of(jnp.arange(4), {0: np.array([1])})  # there is no integer that says nothing
    np.testing.assert_array_equal(places.whole((4,)), np.arange(4))


def test_a_mean_across_removed_units_of_a_captured_shift(tmp_path):
    params = {"a": normal(0, 5, 8), "b": normal(1, 8, 3)}

    def shifted(shift):
        def apply(params, x):
            h = x @ params["a"] + shift
            return jnp.tanh(h - jnp.mean(h, axis=1, keepdims=True)) @ params["b"]

        return apply

    x, shift = normal(2, 4, 5), jnp.full((1, 8), 0.75)
    made = shrunk(shifted(shift), params, x)
    with pytest.warns(CapturedWarning):
        save_ticket(tmp_path / "t", made)
    found = load_ticket(tmp_path / "t", shifted(0 * shift), params)
    with pytest.warns(CapturedWarning):
        got = found.apply(found.params, x)
    a = np.where(np.isin(np.arange(8), made.apply.indices["a"][1]), params["a"], 0)
    h = np.asarray(x) @ a + 0.75
    h = np.tanh(h - h.mean(axis=1, keepdims=True))[:, made.apply.indices["a"][1]]
    np.testing.assert_allclose(got, h @ np.asarray(made.params["b"]), atol=2e-6)


def test_captured_arrays_that_were_changed_are_refused(saved, tmp_path):
    folder = tmp_path / "t"
    shutil.copytree(saved, folder)
    file = max((folder / "captured").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TicketError, match=r"its file captured/.* is missing or was changed"):
        load_ticket(folder, closing_over(*VALUES), PARAMS)
    shutil.rmtree(folder / "captured")
    with pytest.raises(TicketError, match=r"its file captured/.* is missing or was changed"):
        load_ticket(folder, closing_over(*VALUES), PARAMS)


def first_block(content):
    rows = content["blocks"].values()
    return next(row for row in rows if row["kept"].get("1", [])[3:])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(blocks={}), "does not hold the captured arrays"),
        (lambda c: c["trees"].pop("captured"), "does not hold the captured arrays"),
        (
            lambda c: first_block(c)["kept"].update({"1": [0, 1, 2, 99]}),
            "does not hold the captured",
        ),
        (
            lambda c: first_block(c)["kept"].update({"1": [3, 2, 1, 0]}),
            "does not hold the captured",
        ),
        (lambda c: first_block(c)["kept"].update({"1": [0, 1]}), "does not hold the captured"),
        (lambda c: first_block(c)["kept"].update({"5": [0]}), "does not hold the captured"),
        (lambda c: first_block(c).pop("fills"), "misses what belongs there"),
        (lambda c: c["manifest"]["captured"][0].__setitem__(2, "0"), "misses what belongs there"),
        (lambda c: c.pop("inputs"), "misses what belongs there"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change, sentence, saved, tmp_path):
    from test_tickets_refused import resealed

    shutil.copytree(saved, tmp_path / "t")
    resealed(tmp_path / "t", change)
    with pytest.raises(TicketError, match=sentence):
        load_ticket(tmp_path / "t", closing_over(*VALUES), PARAMS)
