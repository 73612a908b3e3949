"""The table of a ticket against counts by hand."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from wormjax._packing import packed_bits

PARAMS = {
    "bias": jax.ShapeDtypeStruct((5,), jnp.float32),
    "first": jax.ShapeDtypeStruct((4, 6), jnp.float32),
    "scale": jax.ShapeDtypeStruct((6,), jnp.float32),
    "second": jax.ShapeDtypeStruct((6, 5), jnp.bfloat16),
    "shift": jax.ShapeDtypeStruct((), jnp.float32),
}


def tree(first, scale, second):
    true = np.array(True)
    return {"bias": true, "first": first, "scale": scale, "second": second, "shift": true}


CHANNELS = np.array([1, 0, 1, 1, 0, 0], bool)
MASKS = tree(CHANNELS[None], CHANNELS, np.arange(30).reshape(6, 5) % 3 == 0)


def apply(params, x):
    hidden = (x @ params["first"]) * params["scale"][None]
    return hidden @ params["second"].astype(jnp.float32) + params["bias"][None]


def test_every_leaf_and_the_totals():
    summary = wj.summarize(PARAMS, MASKS, apply, jax.ShapeDtypeStruct((7, 4), jnp.float32))
    assert [tuple(row) for row in summary.leaves] == [
        ("bias", (5,), "whole", 5, 5, 0, 0, 0),
        ("first", (4, 6), "channel", 12, 24, 8, 7 * 24, 7 * 12),
        ("scale", (6,), "channel", 3, 6, 8, 0, 0),
        ("second", (6, 5), "entry", 10, 30, 40, 7 * 30, 7 * 10),
        ("shift", (), "whole", 1, 1, 0, 0, 0),
    ]
    assert tuple(summary.prunable) == ("prunable", None, "", 25, 60, 56, 7 * 54, 7 * 22)
    assert tuple(summary.total) == ("total", None, "", 31, 66, 56, 7 * 54, 7 * 22)


def test_it_says_what_the_other_functions_say():
    params = jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), PARAMS)
    summary = wj.summarize(params, MASKS)
    kept, total = wj.count_kept(jax.tree.map(jnp.asarray, MASKS), params)
    assert (int(kept), total) == (summary.prunable.kept, summary.prunable.size)
    packed = wj.pack(jax.tree.map(jnp.asarray, MASKS))
    stored = [x.bits.nbytes for x in packed.values() if isinstance(x, wj.PackedMask)]
    assert 8 * sum(stored) == summary.total.bits


def test_the_text():
    text = str(wj.summarize(PARAMS, MASKS)).split("\n")
    assert text[:4] == [
        "leaf      shape   mask     kept  of  density  bits",
        "bias      5       whole       5   5   100.0%     0",
        "first     4x6     channel    12  24    50.0%     8",
        "scale     6       channel     3   6    50.0%     8",
    ]
    assert text[5:7] == [
        "shift     scalar  whole       1   1   100.0%     0",
        "prunable                     25  60    41.7%    56",
    ]
    assert text[-1].startswith("Masks save no time by themselves")


def test_records_and_html():
    summary = wj.summarize(PARAMS, MASKS)
    records = json.loads(json.dumps(summary.records()))
    assert [r["leaf"] for r in records] == [*PARAMS, "prunable", "total"]
    assert records[3]["density"] == 10 / 30
    assert records[3]["macs"] is None
    html = summary.to_html()
    assert html.count("<tr>") == 1 + 7
    assert "effective" not in html


def test_nothing_prunable_and_empty_leaves():
    params = {"empty": np.zeros((0, 3)), "w": np.zeros(2)}
    summary = wj.summarize(params, {"empty": np.zeros((0, 3), bool), "w": np.array(True)})
    assert tuple(summary.leaves[0])[2:6] == ("entry", 0, 0, 0)
    assert math.isnan(summary.prunable.density)
    assert str(summary).split("\n")[3].split() == ["prunable", "0", "0", "-", "0"]


def test_products_that_no_leaf_takes_part_in_are_in_the_total():
    def attend(params, x):
        return (x @ params["w"]) @ x.T

    x, w = np.zeros((3, 2), np.float32), np.zeros((2, 2), np.float32)
    masks = {"w": np.eye(2, dtype=bool)}
    summary = wj.summarize({"w": w}, masks, attend, x)
    assert (summary.leaves[0].macs, summary.leaves[0].effective_macs) == (12, 6)
    assert (summary.prunable.macs, summary.prunable.effective_macs) == (12, 6)
    assert (summary.total.macs, summary.total.effective_macs) == (12 + 18, 6 + 18)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=4).map(tuple))
def test_bits_are_those_of_the_packed_mask(sizes):
    mask = np.zeros(sizes, bool)
    packed = jax.eval_shape(wj.pack, mask)
    assert packed_bits(mask) == 8 * math.prod(packed.bits.shape)


@pytest.mark.parametrize(
    ("masks", "sentence"),
    [
        ({**MASKS, "scale": np.ones(5, bool)}, r"The mask at 'scale' has shape \(5,\)"),
        ({**MASKS, "scale": np.ones(6)}, "The mask at 'scale' holds float64, not bool"),
        ({k: v for k, v in MASKS.items() if k != "scale"}, "leaf 'scale' is missing"),
    ],
)
def test_masks_that_do_not_fit_are_named(masks, sentence):
    with pytest.raises(ValueError, match=sentence):
        wj.summarize(PARAMS, masks)


def test_inputs_without_a_function_are_an_error():
    with pytest.raises(ValueError, match="give apply before them"):
        wj.summarize(PARAMS, MASKS, None, np.zeros(3))
