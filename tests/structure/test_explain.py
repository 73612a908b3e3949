"""What `groups.explain()` says: how units lie on the axes of parameters, and why some axes stay whole."""

import jax
import jax.numpy as jnp
import pytest
from zoo import CASES

from wormjax.structure import find_groups

pytestmark = pytest.mark.usefixtures("as_users_have_it")


def explained(name):
    example = CASES[name]()
    found = find_groups(example.apply, example.params, *example.inputs, state=example.state)
    return found.explain().splitlines()


def test_four_gates_cut_from_one_weight_and_a_dynamic_look_up():
    lines = explained("lstm")
    assert "    cell/weight_ih[c + 7*i, i < 4, :]" in lines
    assert "    cell/weight_hh[:, c]" in lines
    [told] = [x for x in lines if x.startswith("    embedding/weight axis 0 (11)")]
    assert "it is looked up by index [gather at _equinox.py:" in told


def test_heads_that_are_blocks_of_a_merged_axis():
    lines = explained("llama")
    # two key-value heads of width 6, and the two query heads that each of them serves
    start = lines.index("    layers/0/key[:, 6*c + i, i < 6]")
    assert lines[start - 1] == "group layers/0/key:1.1   2 units"
    assert "    layers/0/query[:, 12*c + i, i < 12]" in lines[start : start + 4]


def test_pieces_of_a_joined_axis_begin_where_they_begin():
    def apply(p, x):
        return jnp.concatenate([jnp.tanh(x @ p["a"]), jnp.tanh(x @ p["b"])], 1) @ p["out"]

    shapes = {"a": (3, 4), "b": (3, 5), "out": (9, 2)}
    params = {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shapes.items()}
    lines = find_groups(apply, params, jnp.ones((2, 3))).explain().splitlines()
    assert "    out[c, :]" in lines
    assert "    out[4 + c, :]" in lines
    assert "    out axis 1 (2): it is an axis of the model's output" in lines


def test_a_barrier_names_its_primitive_and_line():
    def apply(p, x):
        return jnp.linalg.qr(x @ p["a"])[0] @ p["out"] + jnp.tanh(x @ p["b"]) @ p["out2"]

    shapes = {"a": (3, 4), "b": (3, 5), "out": (4, 2), "out2": (5, 2)}
    params = {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shapes.items()}
    groups = find_groups(apply, params, jnp.ones((6, 3)))
    assert [g.size for g in groups] == [5]
    assert any("no rule says what this primitive does" in str(d) for d in groups.traced.diagnostics)
    assert any("test_explain.py" in str(d) for d in groups.traced.diagnostics)
