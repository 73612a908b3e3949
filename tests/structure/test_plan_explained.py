"""What a plan says of itself: counts against native counts, losses, what only the replay computes, HTML."""

import html.parser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from experiments.report import Column, Table
from wormjax.structure import find_groups, plan, shrink

TOKENS, WIDTH, HEADS, DEPTH, HIDDEN = 7, 24, 3, 8, 40


def attention(p, x, scale):
    """Heads over tokens, with the queries scaled by what the depth says."""
    q, k, v = (jnp.einsum("td,dhe->the", x, p[name]) for name in ("q", "k", "v"))
    weights = jax.nn.softmax(jnp.einsum("qhe,khe->hqk", q, k) * scale, axis=-1)
    return jnp.einsum("hqk,khe,hed->qd", weights, v, p["o"])


def block(p, x, norm, scale):
    x = x @ p["embed"]
    x = x + attention(p, norm(x, p["gain"]), scale)
    return jnp.tanh(norm(x, p["gain"]) @ p["up"]) @ p["down"]


def layer_norm(x, gain):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    var = jnp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-6) * gain


def start():
    rng = np.random.default_rng(0)
    shapes = {
        "embed": (5, WIDTH),
        "gain": (1, WIDTH),
        "q": (WIDTH, HEADS, DEPTH),
        "k": (WIDTH, HEADS, DEPTH),
        "v": (WIDTH, HEADS, DEPTH),
        "o": (HEADS, DEPTH, WIDTH),
        "up": (WIDTH, HIDDEN),
        "down": (HIDDEN, 4),
    }
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


PARAMS = start()
INPUT = jnp.ones((TOKENS, 5))


def plan_of(norm=layer_norm, scale=1.0, keep=0.5):
    groups = find_groups(lambda p, x: block(p, x, norm, scale), PARAMS, INPUT)
    made = plan(groups, wj.scores.magnitude(PARAMS), keep=keep, scope="group")
    names = {
        name: next(g.name for g in groups if (path, axis) in [(s.path, s.axis) for s in g.slices])
        for name, (path, axis) in {
            "stream": ("embed", 1),
            "heads": ("q", 1),
            "queries": ("q", 2),
            "values": ("v", 2),
            "hidden": ("up", 1),
        }.items()
    }
    assert len(set(names.values())) == 5 == len(groups)
    return made, names


def test_eb_d10_counts_are_those_of_the_shrunk_network():
    """MACs against a count of the shrunk network's own trace."""
    made, _ = plan_of()
    ticket = shrink(made, PARAMS)
    assert made.parameters[0] == sum(x.size for x in PARAMS.values())
    assert made.parameters[1] == sum(x.size for x in ticket.params.values())
    assert made.macs[0] == wj.evaluation.macs(made.groups.apply, PARAMS, INPUT)
    assert made.macs[1] == wj.evaluation.macs(ticket.apply, ticket.params, INPUT)
    assert made.macs[1] < 0.5 * made.macs[0]


def convolutions(p, x):
    """A strided, a transposed, a grouped and a pointwise convolution, and a scan of dot products."""

    def conv(x, kernel, strides, groups=1, dilation=(1, 1), padding="SAME"):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            lhs_dilation=dilation,
            feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    x = jnp.tanh(conv(x, p["a"], (2, 2)))
    x = jnp.tanh(conv(x, p["b"], (1, 1), dilation=(2, 2), padding=((1, 2), (1, 2))))
    x = jnp.tanh(conv(x, p["c"], (1, 1), groups=8))
    x = jnp.mean(x, axis=(1, 2)) @ p["d"]
    x, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["layers"])
    return x @ p["e"]


def test_counts_of_convolutions_and_loops():
    shapes = {
        "a": (3, 3, 3, 6),
        "b": (3, 3, 6, 8),
        "c": (3, 3, 1, 8),
        "d": (8, 10),
        "layers": (4, 10, 10),
        "e": (10, 2),
    }
    params = {k: jnp.ones(s) for k, s in shapes.items()}
    image = jnp.ones((2, 9, 9, 3))
    groups = find_groups(convolutions, params, image)
    assert len(groups) == 3
    made = plan(groups, wj.scores.magnitude(params), keep=0.5, scope="group")
    ticket = shrink(made, params)
    assert made.macs[0] == wj.evaluation.macs(convolutions, params, image)
    assert made.macs[1] == wj.evaluation.macs(ticket.apply, ticket.params, image)


def test_rows_of_single_groups():
    made, names = plan_of()
    rows = {row.group: row for row in made.table()}
    hidden = rows[names["hidden"]]
    assert hidden.units == (HIDDEN, HIDDEN // 2)
    # up and down; the stream loses half of its units, too
    assert hidden.parameters == (WIDTH * HIDDEN + HIDDEN * 4, (WIDTH // 2 + 4) * (HIDDEN // 2))
    assert hidden.macs == tuple(TOKENS * n for n in hidden.parameters)
    total = rows["total"]
    assert (total.parameters, total.macs) == (made.parameters, made.macs)
    assert total.units == (sum(g.size for g in made.groups), sum(made.widths.values()))


def rms_norm(x, gain):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * gain


def no_norm(x, gain):
    return x * gain


@pytest.mark.parametrize("norm", [layer_norm, rms_norm, no_norm])
@pytest.mark.parametrize("scale", [1.0, 1 / np.sqrt(DEPTH), 0.3])
def test_replay_only_where_the_program_uses_the_width(norm, scale):
    made, names = plan_of(norm, scale)
    expected = {names["stream"]} if norm is not no_norm else set()
    if scale == 1 / np.sqrt(DEPTH):
        expected.add(names["queries"])
    assert made.replay_only.keys() == expected
    rows = {row.group: row for row in made.table()}
    for name in names.values():
        assert rows[name].native == ("replay only" if name in expected else "yes")
    assert rows["total"].native == ("replay only" if expected else "yes")
    if norm is not no_norm:
        assert "reduce_sum test_plan_explained.py:" in made.replay_only[names["stream"]]
    if names["queries"] in expected:
        assert "scales by 0.3536, which may come from its size" in rows[names["queries"]].why


@pytest.mark.parametrize("how", ["root of a traced number", "divided", "inside jit"])
def test_a_size_is_recognised_however_it_is_written(how):
    def scaled(p, x):
        q, k = x @ p["q"], x @ p["k"]
        if how == "divided":
            scores = q @ k.T / np.sqrt(16)
        elif how == "inside jit":
            scores = jax.jit(lambda a, b: a @ b.T * 0.25)(q, k)
        else:
            scores = q / jnp.sqrt(jnp.float32(16)) @ k.T
        return scores @ x

    params = {"q": jnp.ones((5, 16)), "k": jnp.ones((5, 16))}
    groups = find_groups(scaled, params, jnp.ones((9, 5)))
    made = plan(groups, wj.scores.magnitude(params), keep=0.5)
    assert list(made.replay_only) == ["k:1"]


def test_native_execution_is_as_promised():
    """Groups marked native give the same on narrow arrays; those marked replay only do not."""
    for norm, scale in ((no_norm, 1.0), (layer_norm, 1.0)):
        made, _ = plan_of(norm, scale)
        ticket = shrink(made, PARAMS)
        replayed = ticket.apply(ticket.params, INPUT)
        native = block(ticket.params, INPUT, norm, scale)
        same = bool(np.allclose(replayed, native, rtol=1e-4))
        assert same == (not made.replay_only)


def test_losses_are_told_relative_to_the_masks():
    """tanh(0) is 0, so a masked unit is silent without its bias; with a live bias it sends a constant."""

    def apply(p, x):
        return jnp.tanh(x @ p["a"] + p["bias"]) @ p["b"] + p["last"]

    params = {
        "a": jnp.ones((2, 4)),
        "bias": jnp.ones((1, 4)),
        "b": jnp.ones((4, 3)),
        "last": jnp.ones((1, 3)),
    }
    groups = find_groups(apply, params, jnp.ones((5, 2)))
    gone = jnp.array([[True, False, True, False]])
    nothing = jax.tree.map(lambda _: jnp.array(True), params)
    masks = {
        "exact": {**nothing, "a": gone, "bias": gone},
        "folded": {**nothing, "a": gone},
        "approximate": {**nothing, "bias": gone},
    }
    for kind, given in masks.items():
        made = plan(groups, masks=given)
        assert [row.loss for row in made.table()] == [kind, kind]
        assert kind in made.explain()
    by_scores = plan(groups, wj.scores.magnitude(params), keep=0.5)
    assert by_scores.table()[0].loss == "approximate"
    assert "live units go into dot_general test_plan_explained.py:" in by_scores.table()[0].why


def test_masked_entries_that_stay_are_told():
    params = {"a": jnp.ones((2, 4)), "b": jnp.ones((4, 3))}
    groups = find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, jnp.ones((5, 2)))
    mask = jnp.array([[True, False, True, False], [True, False, True, True]])
    made = plan(groups, masks={"a": mask, "b": jnp.array(True)})
    told = "of 3 masked entries 2 go; 1 stay, as they are in the parameters"
    assert f"{told}: shrink wj.apply_masks(params, masks) to have them zero" in made.explain()
    whole = plan(groups, masks={"a": mask[:1], "b": mask[0][:, None]})
    assert "0 stay, as they are in the parameters" in whole.explain()
    assert "to have them zero" not in whole.explain()


def test_groups_plans_and_tickets_print_in_a_line():
    params = {"a": jnp.ones((2, 4)), "b": jnp.ones((4, 3))}
    groups = find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, jnp.ones((5, 2)))
    made = plan(groups, wj.scores.magnitude(params), keep=0.5)
    assert repr(groups) == "Groups(1 groups of 4 units; 2 axes stay whole)"
    assert repr(made) == "Plan(2 of 4 units in 1 groups stay)"
    assert repr(wj.shrink(made, params)) == "Ticket(10 parameters in 2 arrays)"


def test_the_text():
    made, names = plan_of()
    lines = made.explain().splitlines()
    assert lines[0].split() == ["group", "units", "parameters", "MACs", "loss", "native", "why"]
    [line] = [line for line in lines if line.startswith(names["hidden"])]
    assert "40 -> 20 (50.0%)" in line
    assert lines[6].startswith("total")
    whole = plan(made.groups, wj.scores.magnitude(PARAMS), keep=1).explain().splitlines()
    assert whole[1].split()[-1] == "whole"


class _Cells(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_the_html_holds_the_same_cells():
    made, _ = plan_of()
    cells = _Cells()
    cells.feed(made.to_html())
    assert not cells.open
    assert cells.rows[1:] == [list(row.cells()) for row in made.table()]


def test_a_report_renders_the_rows():
    made, _ = plan_of()
    rows = made.table()
    table = Table("Plan", tuple(map(Column, rows[0]._fields)), tuple(r.cells() for r in rows))
    assert "total" in table.markdown()
    assert table.html().count("<tr>") == len(rows) + 1


def test_a_constant_of_a_dense_network_is_folded_too():
    """A learned vector that does not depend on the input sends constants, masked or not."""

    def apply(p, x):
        return x @ p["w"] + (p["q"] @ p["v"] + p["b"])

    params = {
        "w": jnp.ones((3, 2)),
        "q": jnp.arange(1.0, 5)[None],
        "v": jnp.ones((4, 2)),
        "b": jnp.zeros((1, 2)),
    }
    groups = find_groups(apply, params, jnp.ones((5, 3)))
    made = plan(groups, wj.scores.magnitude(params), keep=0.5)
    assert made.losses["q:1"].kind == "folded"
    ticket = shrink(made, params)
    x = jnp.ones((5, 3))
    np.testing.assert_allclose(ticket.apply(ticket.params, x), apply(params, x))
