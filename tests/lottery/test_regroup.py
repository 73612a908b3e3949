"""Regroup of matrices and of networks: laws of the blocks, the reference's defects, and what is written to disk."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from wormjax.lottery import (
    REGROUP_REFERENCE,
    BlockList,
    BlockListError,
    RegroupSettings,
    executed_macs,
    imp,
    partition,
    prune_step,
    regroup,
    regroup_matrix,
)
from wormjax.lottery._blocks import Block
from wormjax.lottery._regroup_matrix import _split


def weakly_structured(rows, columns, density, seed=0):
    """A mask whose rows are of eight hidden kinds, each with columns that it prefers."""
    rng = np.random.default_rng(seed)
    kind, preference = rng.integers(0, 8, rows), rng.normal(size=(8, columns))
    score = (
        preference[kind] + 0.3 * rng.normal(size=(rows, 1)) + 0.5 * rng.normal(size=(1, columns))
    )
    score += rng.gumbel(size=(rows, columns))
    return (score >= np.quantile(score, 1 - density)).astype(np.int8)


def _density(found, shape):
    return sum(len(b.rows) * len(b.columns) for b in found.blocks) / (shape[0] * shape[1])


BY_ELEMENT = RegroupSettings(granularity="element", rule="clean_offset", parts=8)
STALE = dataclasses.replace(REGROUP_REFERENCE, rule="reference_stale", partitioner="jaccard")


@functools.cache
def _clean(rows, density):
    mask = weakly_structured(rows, 9 * rows, density)
    return mask, regroup_matrix(mask, BY_ELEMENT)


def _cases(*bands):
    """The specification's bands; the smallest matrix always."""
    densities = ((256, 0.35), (512, 0.1), (512, 0.03))
    first, *rest = [(*case, band) for case, band in zip(densities, bands, strict=True)]
    slow = [pytest.param(*case, marks=pytest.mark.slow) for case in rest]
    return pytest.mark.parametrize(("rows", "density", "after"), [first, *slow])


@_cases(0.37, 0.16, 0.057)
def test_densities_of_synthetic_masks_under_the_clean_rule(rows, density, after):
    mask, found = _clean(rows, density)
    assert len(found.blocks) == 8
    assert abs(_density(found, mask.shape) - after) < 0.03
    assert found.dropped == 0


@_cases(0.72, 0.27, 0.098)
def test_g2_stale_counters_make_blocks_nearly_twice_as_wide(rows, density, after):
    mask, found = _clean(rows, density)
    stale = _density(regroup_matrix(mask, STALE), mask.shape)
    assert abs(stale - after) < 0.03
    assert stale > 1.25 * _density(found, mask.shape)


def test_g2_a_dense_mask_has_blocks_under_the_clean_rule_only():
    mask = weakly_structured(128, 128, 0.8)
    assert len(regroup_matrix(mask, BY_ELEMENT).blocks) == 8
    found = regroup_matrix(mask, dataclasses.replace(STALE, min_rows=1))
    assert (found.form, found.blocks) == ("unstructured", ())


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6), st.sampled_from(["clean", "clean_offset", "reference_stale", "top_t2"])
)
def test_laws_of_blocks(seed, rule):
    """Row-disjoint, every non-empty row in one block unless dropping was asked for, the same seed the same blocks."""
    rng = np.random.default_rng(seed)
    counts = (rng.random((rng.integers(1, 40), rng.integers(1, 30))) < rng.random()).astype(int)
    if not counts.any():
        return
    how = RegroupSettings(rule=rule, parts=int(rng.integers(1, 5)), t2=2)
    found = regroup_matrix(counts, how, seed=seed)
    rows = np.concatenate([b.rows for b in found.blocks])
    np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(counts.any(axis=1)))
    assert found.empty == int((~counts.any(axis=1)).sum())
    again = regroup_matrix(counts, how, seed=seed)
    for a, b in zip(found.blocks, again.blocks, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_parts_of_a_layer():
    assert [RegroupSettings().parts_of(c) for c in (16, 32, 64, 128, 256, 512)] == [
        1,
        1,
        2,
        4,
        8,
        8,
    ]


def test_g4_small_groups_vanish_only_when_asked_to():
    counts = np.zeros((40, 16), int)
    counts[:32, :8], counts[32:, 8:] = 1, 1
    how = RegroupSettings(parts=5, min_rows=9)  # groups of eight rows
    found = regroup_matrix(counts, how)
    assert (found.form, found.dropped) == ("whole_block", 0)
    found = regroup_matrix(counts, RegroupSettings(rule="top_t2", t2=2, min_columns=9, parts=5))
    assert found.form == "whole_block"
    uneven = np.ones((7, 5), int)  # groups of four rows and of three
    kept = regroup_matrix(uneven, RegroupSettings(parts=2, min_rows=4))
    assert (kept.fallback, kept.dropped, len(kept.blocks)) == (1, 0, 2)
    lost = regroup_matrix(uneven, RegroupSettings(parts=2, min_rows=4, drop_groups=True))
    assert (lost.fallback, lost.dropped, len(lost.blocks)) == (0, 3, 1)


def test_g5_top_t2_honours_all_four_parameters():
    counts = np.ones((12, 6), int)
    assert len(regroup_matrix(counts, RegroupSettings(rule="top_t2", t2=4, parts=3)).blocks) == 3
    for changed in ({"t2": 5}, {"min_rows": 5}, {"min_columns": 7}):
        how = {"rule": "top_t2", "t2": 4, "parts": 3, "no_block": "dense"} | changed
        assert regroup_matrix(counts, RegroupSettings(**how)).form == "dense"


@pytest.mark.parametrize(("rows", "cut"), [(36, [32, 4]), (64, [64]), (20, [20])])
def test_the_references_row_split(rows, cut):
    made = _split(Block(np.arange(rows), np.arange(3)), 32)
    assert [len(b.rows) for b in made] == cut


def test_partitions_are_balanced_and_find_hidden_kinds():
    kinds = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 8))
    matrix = np.kron(np.eye(4, dtype=int), np.ones((1, 6), int))[kinds]
    for rows in partition(matrix, 4):
        assert len(set(kinds[rows])) == 1
        assert len(rows) == 8
    mixed = partition(matrix, 4, "random", seed=1)
    assert sorted(len(rows) for rows in mixed) == [8] * 4
    assert any(len(set(kinds[rows])) > 1 for rows in mixed)
    assert [len(rows) for rows in partition(matrix[:3], 8)] == [1, 1, 1]


def test_mtkahypar_finds_hidden_kinds():
    pytest.importorskip("mtkahypar", reason="an extra: pip install mtkahypar")
    kinds = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 16))
    matrix = np.kron(np.eye(4, dtype=int), np.ones((1, 6), int))[kinds]
    found = partition(matrix, 4, "mtkahypar", seed=3)
    assert all(len(set(kinds[rows])) == 1 for rows in found)
    again = partition(matrix, 4, "mtkahypar", seed=3)
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_mtkahypar_the_message_names_the_remedy(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mtkahypar", None)
    with pytest.raises(ImportError, match="pip install mtkahypar"):
        partition(np.ones((4, 4), int), 2, "mtkahypar")


@pytest.mark.parametrize("granularity", ["input_channel", "element"])
def test_g1_training_masks_are_those_of_the_block_list(chained, granularity, tmp_path):
    how = RegroupSettings(granularity=granularity, parts=2)
    found = regroup(chained.groups, chained.masks("abc", 0.3), settings=how)
    found.blocks.save(tmp_path / "blocks.npz")
    read = BlockList.load(tmp_path / "blocks.npz")
    assert read.made_by["seed"] == 0
    for name in "abc":
        kernel = chained.params[name]["kernel"]
        mask = np.broadcast_to(found.masks[name]["kernel"], kernel.shape)
        o, kh, kw = (kernel.shape[a] for a in (3, 0, 1))
        rebuilt = read[f"{name}/kernel"].mask()
        if granularity == "input_channel":
            rebuilt = np.repeat(rebuilt, kh * kw, axis=1)
        np.testing.assert_array_equal(mask.transpose(3, 2, 0, 1).reshape(o, -1), rebuilt)
    rows = {r.path: r for r in found.rows}
    assert (
        rows["b/kernel"].executed
        == rows["b/kernel"].after
        == pytest.approx(np.broadcast_to(found.masks["b"]["kernel"], (3, 3, 8, 12)).mean())
    )
    assert "executed density" in found.explain()


def test_g6_nothing_is_left_behind(chained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    regroup(chained.groups, chained.masks("abc"))
    assert list(tmp_path.iterdir()) == []


def test_g7_columns_go_by_counts_unless_magnitudes_are_given(chained):
    masks = chained.masks("c", 0.5)
    last = int(np.argmin(np.asarray(masks["c"]["kernel"]).sum(axis=(0, 1, 3))))
    weights = jax.tree.map(np.zeros_like, chained.params)
    weights["c"]["kernel"][0, 0, last] = 1.0  # only one input channel weighs anything
    how = RegroupSettings(parts=1, rule="clean", t1=0.5)
    plain = regroup(chained.groups, masks, settings=how)
    heavy = regroup(chained.groups, masks, settings=how, magnitudes=weights)
    assert last in heavy.blocks["c/kernel"].blocks[0].columns
    assert last not in plain.blocks["c/kernel"].blocks[0].columns
    assert plain.blocks.made_by["by_magnitude"] is False


def test_g8_depthwise_layers_are_left_out_and_pointwise_ones_are_not(streamed):
    found = regroup(streamed.groups, streamed.masks("de", 0.5))
    rows = {r.path: r for r in found.rows}
    assert (rows["e/kernel"].form, rows["e/kernel"].executed) == ("dense", 1.0)
    assert "depthwise" in rows["e/kernel"].note
    assert bool(np.all(found.masks["e"]["kernel"]))  # what runs dense is counted dense
    assert rows["d/kernel"].form == "blocks"


def test_g3_a_layer_without_blocks_runs_dense_and_says_so(chained):
    masks = chained.masks("abc", 0.3)
    found = regroup(chained.groups, masks, settings=dataclasses.replace(STALE))
    assert {r.form for r in found.rows} == {"unstructured"}  # no layer has groups of 17 rows
    assert found.executed_density == 1.0
    assert found.macs[0] == found.macs[1]
    assert found.nominal_density < 0.35
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), found.masks, masks
    )
    with pytest.raises(ValueError, match="no blocks"):
        found.blocks["a/kernel"].mask()


def test_group_aware_pruning_is_regrouping_inside_the_loop():
    rng = np.random.default_rng(0)
    params = {k: rng.normal(size=s).astype(np.float32) for k, s in (("a", (8, 6)), ("b", (6, 2)))}
    groups = wj.find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, np.ones((1, 8)))
    how, prunable = RegroupSettings(parts=2), {"a": True, "b": False}

    def grouped(masks):
        return regroup(groups, masks, settings=how).masks

    levels = imp(lambda network, *_: network, params, steps=2, learning_rate=0.1, rounds=2, rate=0.5,
                 rewind="1it", prunable=prunable, restructure=lambda masks, _: grouped(masks))  # fmt: skip
    for before, level in zip(levels, levels.levels[1:], strict=False):
        # the round prunes what the blocks of the round before keep
        expected = grouped(prune_step(before.trained.params, before.masks, rate=0.5))
        np.testing.assert_array_equal(np.asarray(level.masks["a"]), np.asarray(expected["a"]))
    assert not np.asarray(levels[1].masks["a"]).all()


@pytest.mark.slow
def test_b2_executed_multiplications_of_vgg16():
    from experiments.models import abstract, named

    view = abstract(named("vgg16"))
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    groups = wj.find_groups(view.apply, view.params, x, state=view.state)
    names = [n for n in groups.traced.names if n.endswith("conv/kernel")]
    assert len(names) == 13
    densities = [1.0, 1.0, 1.0, 1.0, 0.796, 0.679, 0.603, 0.430, 0.203, 0.118, 0.074, 0.069, 0.089]
    head = 512 * 10
    macs = executed_macs(groups, dict(zip(names, densities, strict=True)))
    assert macs[0] - head == 313_196_544
    assert macs[1] - head == pytest.approx(0.18198e9, rel=1e-3)
    sizes = {
        n: int(np.prod(s.shape))
        for n, s in zip(groups.traced.names, jax.tree.leaves(view.params), strict=True)
    }
    kept = sum(sizes[n] * d for n, d in zip(names, densities, strict=True))
    assert kept / sum(sizes[n] for n in names) == pytest.approx(0.2082, abs=2e-4)


def test_wrong_input(chained, tmp_path):
    masks = chained.masks("b")
    with pytest.raises(ValueError, match="'b/kernel' keeps nothing"):
        regroup(chained.groups, chained.masks("b", density=0.0))
    masks["b"]["kernel"] = jnp.ones((3, 3, 8, 13), bool)
    with pytest.raises(ValueError, match="has shape"):
        regroup(chained.groups, masks)
    with pytest.raises(ValueError, match="nothing to regroup"):
        regroup(chained.groups, chained.masks(""))
    for changed, told in (
        ({"min_rows": 0}, "min_rows=0"), ({"parts": 0}, "parts=0"), ({"t1": 0.0}, "t1 must be positive"),
        ({"rule": "top_t2"}, "needs t2="),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            RegroupSettings(**changed)
    with pytest.raises(ValueError, match="empty layer has no blocks"):
        regroup_matrix(np.zeros((2, 2), int))
    (tmp_path / "broken.npz").write_bytes(b"no list")
    with pytest.raises(BlockListError, match="no list of blocks"):
        BlockList.load(tmp_path / "broken.npz")


def test_blocks_that_share_rows_are_refused(chained, tmp_path):
    found = regroup(chained.groups, chained.masks("b"), settings=RegroupSettings(parts=2))
    layer = found.blocks["b/kernel"]
    for blocks, told in (
        ((layer.blocks[0], layer.blocks[0]), "share rows"),
        ((Block(np.array([0]), np.array([8])),), "column outside the 8"),
    ):
        bad = BlockList({"b/kernel": dataclasses.replace(layer, blocks=blocks)}, {})
        bad.save(tmp_path / "bad.npz")
        with pytest.raises(BlockListError, match=told):
            BlockList.load(tmp_path / "bad.npz")
