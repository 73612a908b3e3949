import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import wormjax as wj
from wormjax._selection import all_finite, select

DEVICES = 8
AXIS_TYPES = [AxisType.Auto, AxisType.Explicit]

# leaves larger than the number of devices, every axis divisible by what may cut it
SHAPES = {"conv": (4, 8, 16), "dense": (16, 24), "scale": (40,)}
LAYOUTS = {
    "every_axis": {"conv": P(None, "y", "x"), "dense": P("x", "y"), "scale": P(("x", "y"))},
    "one_axis": {"conv": P("x"), "dense": P(None, "y"), "scale": P("y")},
    "two_names_on_one_axis": {"conv": P(None, ("y", "x")), "dense": P("x", None), "scale": P()},
    "replicated": {"conv": P(), "dense": P(None, None), "scale": P(None)},
}


@functools.cache
def _mesh(kind: AxisType) -> Any:
    assert jax.device_count() == DEVICES, "tests/conftest.py simulates eight devices"
    return jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind, kind))


@pytest.fixture(params=AXIS_TYPES, ids=lambda kind: kind.name.lower())
def mesh(request):
    return _mesh(request.param)


def _values(seed: int = 0, levels: int = 4) -> dict[str, np.ndarray]:
    """Scores of few levels, so that the threshold runs through a crowd of ties."""
    rng = np.random.default_rng(seed)
    return {k: rng.integers(0, levels, s).astype(np.float32) for k, s in SHAPES.items()}


def _put(values: dict[str, np.ndarray], mesh: Any, layout: str) -> dict[str, jax.Array]:
    specs = LAYOUTS[layout]
    tree = {k: jax.device_put(v, NamedSharding(mesh, specs[k])) for k, v in values.items()}
    never = np.ones((), bool) if values["conv"].dtype == bool else np.full((), np.inf, np.float32)
    return {**tree, "never": jax.device_put(never, NamedSharding(mesh, P()))}


def _oracle(values: dict[str, Any], kept: int, ties: str = "index") -> dict[str, np.ndarray]:
    flat = np.concatenate([values[k].ravel() for k in SHAPES]).astype(np.float64)
    order = np.argsort(-flat, kind="stable")
    mask = np.zeros(flat.size, bool)
    mask[order[:kept]] = True
    if ties == "strict":
        mask = flat > flat[order[kept - 1]]
    cuts = np.cumsum([values[k].size for k in SHAPES])[:-1]
    return {k: m.reshape(SHAPES[k]) for k, m in zip(SHAPES, np.split(mask, cuts), strict=True)}


def _oracle_by_leaf(values: dict[str, Any], counts: tuple[int, ...]) -> dict[str, np.ndarray]:
    masks = {}
    for (name, leaf), kept in zip(values.items(), counts, strict=True):
        order = np.argsort(-leaf.ravel(), kind="stable")
        masks[name] = np.isin(np.arange(leaf.size), order[:kept]).reshape(leaf.shape)
    return masks


TOTAL = sum(int(np.prod(s)) for s in SHAPES.values())

# a collective with its result: "%x = s32[8]{0} all-gather(...)", "(s32[], s32[]) all-reduce(...)"
COLLECTIVE = re.compile(
    r"= (.*?) ((?:ragged-)?all-to-all|all-gather|all-reduce|reduce-scatter|collective-permute|"
    r"collective-broadcast|send|recv)(?:-start)?\("
)


def _moved(compiled: Any) -> dict[str, int]:
    """The most entries of any one array that every kind of collective of a program moves."""
    moved: dict[str, int] = {}
    for line in compiled.as_text().splitlines():
        if found := COLLECTIVE.search(line):
            result, kind = found.groups()
            for dims in re.findall(r"[a-z]\w*\[([\d,]*)\]", result):
                entries = int(np.prod([int(n) for n in dims.split(",") if n]))
                moved[kind] = max(moved.get(kind, 0), entries)
    return moved


def test_the_meter_sees_a_gather_and_a_sum():
    # without this, a change in how XLA prints collectives would make the tests below pass blindly
    x = _put(_values(), _mesh(AxisType.Auto), "every_axis")["scale"]
    assert _moved(jax.jit(jnp.cumsum).lower(x).compile()).get("all-gather") == 40
    assert _moved(jax.jit(jnp.sum).lower(x).compile()) == {"all-reduce": 1}


@pytest.mark.parametrize(
    ("layout", "scope"), [*((name, "global") for name in LAYOUTS), ("every_axis", "leaf")]
)
def test_the_mask_is_that_of_one_device_and_no_leaf_moves(mesh, layout, scope):
    values = _values()
    scores = _put(values, mesh, layout)
    kept = TOTAL * 4 // 10
    counts = (kept,) if scope == "global" else tuple(v.size * 4 // 10 for v in values.values())

    compiled = select.lower(scores, counts, scope, "index").compile()

    masks = compiled(scores)
    expected = _oracle(values, kept) if scope == "global" else _oracle_by_leaf(values, counts)
    for name in SHAPES:
        np.testing.assert_array_equal(masks[name], expected[name])
        assert masks[name].sharding.is_equivalent_to(scores[name].sharding, scores[name].ndim)
    moved = _moved(compiled)
    assert max(moved.values(), default=0) <= DEVICES, moved  # partial counts, one a device
    if layout != "replicated":
        assert moved, "sharded scores must be counted across devices"


@pytest.mark.parametrize("scope", ["global", "leaf"])
@pytest.mark.parametrize("ties", ["index", "strict"])
def test_top_masks_on_eight_devices_are_those_on_one(ties, scope):
    alone = {**{k: jnp.asarray(v) for k, v in _values().items()}, "never": jnp.array(jnp.inf)}
    scores = _put(_values(), _mesh(AxisType.Auto), "every_axis")
    one, eight = (wj.top_masks(s, density=0.4, scope=scope, ties=ties) for s in (alone, scores))
    for name in SHAPES:
        np.testing.assert_array_equal(eight[name], one[name])


@pytest.mark.parametrize("kept", [1, TOTAL // 3, TOTAL - 1])
@pytest.mark.parametrize("ties", ["index", "strict"])
def test_all_counts_and_both_rules(ties, kept):
    scores = _put(_values(seed=kept), _mesh(AxisType.Auto), "every_axis")
    masks = _select_traced(scores, jnp.int32(kept), ties)
    for name, mask in _oracle(_values(seed=kept), kept, ties).items():
        np.testing.assert_array_equal(masks[name], mask)


@functools.partial(jax.jit, static_argnames="ties")
def _select_traced(scores, kept, ties):
    from wormjax._selection import largest, place, ranked

    return place(largest(ranked(scores), kept, ties), scores)


def test_all_equal_scores_are_cut_by_the_index_of_the_whole_tree(mesh):
    scores = _put({k: np.ones(s, np.float32) for k, s in SHAPES.items()}, mesh, "every_axis")
    masks = wj.top_masks(scores, density=0.6)
    flat = np.concatenate([np.ravel(masks[k]) for k in SHAPES])
    np.testing.assert_array_equal(flat, np.arange(TOTAL) < TOTAL * 6 // 10)


def test_half_precision_scores(mesh):
    values = {k: v.astype(jnp.bfloat16) for k, v in _values(levels=50).items()}
    masks = wj.top_masks(_put(values, mesh, "every_axis"), density=0.4)
    for name, mask in _oracle(values, int(0.4 * TOTAL)).items():
        np.testing.assert_array_equal(masks[name], mask)


def test_under_jit_and_a_mesh_in_context(mesh):
    scores = _put(_values(), mesh, "every_axis")
    expected = _oracle(_values(), int(0.4 * TOTAL))
    with jax.set_mesh(mesh):
        masks = jax.jit(lambda s: wj.top_masks(s, density=0.4))(scores)
    for name, mask in expected.items():
        np.testing.assert_array_equal(masks[name], mask)
        assert masks[name].sharding.is_equivalent_to(scores[name].sharding, mask.ndim)


def test_looking_for_nan_moves_one_flag_and_names_the_leaf(mesh):
    values = _values()
    values["dense"][3, 5] = np.nan
    scores = _put(values, mesh, "every_axis")
    assert max(_moved(all_finite.lower(scores["dense"]).compile()).values()) == 1
    with pytest.raises(ValueError, match="score at 'dense' holds NaN or infinity"):
        wj.top_masks(scores, density=0.4)


# packing


def _masks(mesh: Any, layout: str, seed: int = 0) -> dict[str, jax.Array]:
    return _put({k: v < 2 for k, v in _values(seed).items()}, mesh, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packing_moves_nothing_and_keeps_the_cut(mesh, layout):
    masks = _masks(mesh, layout)
    packed = wj.pack(masks)
    back = wj.unpack(packed)
    for name in SHAPES:
        np.testing.assert_array_equal(back[name], masks[name])
        assert back[name].sharding.is_equivalent_to(masks[name].sharding, masks[name].ndim)
        if isinstance(packed[name], wj.PackedMask):
            axis = packed[name].axis
            assert _moved(_pack_leaf.lower(masks[name], axis).compile()) == {}
            assert _moved(_unpack_leaf.lower(packed[name]).compile()) == {}
            shard = packed[name].bits.sharding.shard_shape(packed[name].bits.shape)
            of_mask = list(masks[name].sharding.shard_shape(masks[name].shape))
            of_mask[axis] = -(-of_mask[axis] // 8)
            assert list(shard) == of_mask  # every device packs what it holds
    # cut into pieces of 10 or 5 bits and no other axis to pack: this one stays as it is
    unpacked = {"scale"} if layout in ("every_axis", "one_axis") else set()
    assert {k for k in SHAPES if not isinstance(packed[k], wj.PackedMask)} == unpacked


@functools.partial(jax.jit, static_argnums=1)
def _pack_leaf(mask, axis):
    return wj.pack(mask, axis)


@jax.jit
def _unpack_leaf(packed):
    return wj.unpack(packed)


def test_a_sharded_axis_of_whole_bytes_is_packed_where_it_is(mesh):
    mask = jax.device_put(np.arange(64) % 3 == 0, NamedSharding(mesh, P(("x", "y"))))
    packed = wj.pack([mask])[0]
    assert packed.bits.sharding.shard_shape(packed.bits.shape) == (1,)
    np.testing.assert_array_equal(packed.bits, np.packbits(np.asarray(mask), bitorder="little"))
    assert _moved(_pack_leaf.lower(mask, 0).compile()) == {}


def test_an_axis_that_is_not_cut_is_preferred(mesh):
    mask = jax.device_put(np.ones((64, 3), bool), NamedSharding(mesh, P("x")))
    assert wj.pack([mask])[0].axis == 1  # three bits in a byte, and no device waits for another


def test_a_leaf_cut_everywhere_into_broken_bytes_stays_unpacked(mesh):
    mask = jax.device_put(np.ones((6, 12), bool), NamedSharding(mesh, P("x", "y")))
    packed = wj.pack([mask])
    assert packed[0].dtype == jnp.bool_
    np.testing.assert_array_equal(wj.unpack(packed)[0], mask)


def test_inside_jit_an_explicit_mesh_is_known_and_an_axis_may_be_named():
    masks = _masks(_mesh(AxisType.Explicit), "every_axis")
    assert _moved(jax.jit(wj.pack).lower(masks).compile()) == {}
    masks = _masks(_mesh(AxisType.Auto), "every_axis")
    assert _moved(jax.jit(lambda m: wj.pack(m, 0)).lower({"conv": masks["conv"]}).compile()) == {}


# masks in use


@pytest.mark.parametrize("layout", LAYOUTS)
def test_distance_overlap_and_counts_move_counts_only(mesh, layout):
    a, b = _masks(mesh, layout), _masks(mesh, layout, seed=1)
    host_a, host_b = (np.concatenate([np.ravel(tree[k]) for k in SHAPES]) for tree in (a, b))
    distance = jax.jit(wj.mask_distance)
    overlap = jax.jit(wj.jaccard)
    assert round(float(distance(a, b)) * TOTAL) == (host_a != host_b).sum()
    assert float(overlap(a, b).total) == pytest.approx(
        (host_a & host_b).sum() / (host_a | host_b).sum(), rel=1e-6
    )
    params = _put(_values(), mesh, layout)
    kept, total = wj.count_kept(a, params)
    assert (int(kept), total) == (host_a.sum(), TOTAL)
    for function in (distance, overlap):
        assert max(_moved(function.lower(a, b).compile()).values(), default=1) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_applying_masks_moves_nothing(mesh, layout):
    params, masks = _put(_values(), mesh, layout), _masks(mesh, layout)
    apply = jax.jit(wj.apply_masks)
    pruned = apply(params, masks)
    for name in SHAPES:
        np.testing.assert_array_equal(pruned[name], np.where(masks[name], params[name], 0))
        assert pruned[name].sharding.is_equivalent_to(params[name].sharding, params[name].ndim)
    assert _moved(apply.lower(params, masks).compile()) == {}


def test_a_channel_mask_is_cut_as_its_channels_are(mesh):
    dense = _put(_values(), mesh, "every_axis")["dense"]
    mask = jax.device_put(np.arange(24)[None] % 2 == 0, NamedSharding(mesh, P(None, "y")))
    apply = jax.jit(wj.apply_masks)
    pruned = apply({"w": dense}, {"w": mask})["w"]
    np.testing.assert_array_equal(pruned, np.where(mask, dense, 0))
    assert pruned.sharding.is_equivalent_to(dense.sharding, 2)
    assert _moved(apply.lower({"w": dense}, {"w": mask}).compile()) == {}


def test_random_masks_keep_the_counts_of_sharded_ones(mesh):
    masks = _masks(mesh, "every_axis")
    drawn = jax.jit(wj.random_like)(jax.random.key(0), masks)
    for name in SHAPES:
        assert int(drawn[name].sum()) == int(masks[name].sum())
