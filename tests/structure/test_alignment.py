"""The table of widths: between measured widths, on disk, and what it makes of a wanted width."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax.structure import find_groups, plan
from wormjax.structure._alignment import Alignment, Speeds, alignment, load_alignment
from wormjax.structure._widths import at_least, by_step, by_time

MEASURED = Speeds(np.array([1, 8, 15, 16, 31, 64]), np.array([0.1, 0.5, 0.4, 0.9, 0.6, 1.0]))


def table(dense=MEASURED):
    sides = {"inner": dense, "outer": dense}
    return Alignment("toy", {"dense": 2e9}, {"dense": sides}, {"command": "by hand"})


@pytest.mark.parametrize(
    ("width", "speed"),
    [
        (16, 0.9),  # as measured
        (15, 0.4),
        (64, 1.0),
        (128, 1.0),  # beyond the last of its alignment
        (24, 0.5),  # a multiple of 8 as the only one there is
        (6, 0.5),  # no multiple of 2 or 4 was measured: as one of 8
        (21, 0.4 + 0.2 * np.log(21 / 15) / np.log(31 / 15)),
        (3, 0.1 + 0.3 * np.log(3) / np.log(15)),
        (0, 0.1),
    ],
)
def test_a_width_that_was_not_measured_is_as_fast_as_others_of_its_alignment(width, speed):
    np.testing.assert_allclose(MEASURED.at(width), speed)
    np.testing.assert_allclose(MEASURED.at(np.array([64, width])), [1.0, speed])


def test_alignments():
    expected = [max(d for d in (1, 2, 4, 8, 16, 32) if n % d == 0) for n in range(1, 200)]
    np.testing.assert_array_equal(alignment(np.arange(1, 200)), expected)


def test_the_model():
    # 16 wide inside at 0.9, 64 wide outside at 1.0
    seconds = table().seconds("dense", 10 * 16 * 64, 16, 64)
    np.testing.assert_allclose(seconds, 10 * 16 * 64 / (2e9 * 0.9 * 1.0))


def test_a_table_survives_the_disk(tmp_path):
    table().write(tmp_path / "toy.json")
    again = load_alignment(tmp_path / "toy.json")
    assert (again.backend, again.rates, again.record) == (
        "toy",
        {"dense": 2e9},
        {"command": "by hand"},
    )
    for side in ("inner", "outer"):
        np.testing.assert_array_equal(again.speeds["dense"][side].widths, MEASURED.widths)
        np.testing.assert_array_equal(again.speeds["dense"][side].speeds, MEASURED.speeds)


def test_the_table_of_the_package():
    found = load_alignment("cpu")
    assert found.backend == "cpu"
    assert set(found.rates) == {"dense", "convolution", "depthwise"}
    for work, sides in found.speeds.items():
        assert found.rates[work] > 1e7
        for speeds in sides.values():
            assert {1, 15, 16, 17, 127, 128, 129, 256} <= set(speeds.widths.tolist())
            assert (speeds.speeds > 0).all()
            np.testing.assert_allclose(speeds.at(128), 1)
    # wider rows keep a core busier
    assert found.speeds["dense"]["outer"].at(4) < 0.5 < found.speeds["dense"]["outer"].at(64)


def test_an_unknown_backend_is_told_how_to_be_measured():
    with pytest.raises(
        ValueError, match=r"no measured table of widths for 'abacus'.*one for cpu.*--write"
    ):
        load_alignment("abacus")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 0}', '{"format": 1, "backend": "cpu", "work": {"dense": {}}}'],
)
def test_a_broken_table_is_refused(tmp_path, text):
    path = tmp_path / "cpu.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"is no table of widths of this version.*Measure it again"
    ):
        load_alignment(path)


def test_stairs_by_step():
    for size in (1, 5, 8, 13):
        for step in (1, 3, 8, 20):
            stairs = by_step(size, step)
            for wanted in range(size + 1):
                fits = [w for w in range(size + 1) if w >= wanted and (w % step == 0 or w == size)]
                assert stairs[wanted] == min(fits)


def test_stairs_by_time():
    rng = np.random.default_rng(0)
    for _ in range(50):
        times = rng.random(12) * np.arange(12)
        stairs = by_time(times)
        for wanted in range(12):
            least = times[wanted:].min()
            assert stairs[wanted] == wanted + np.flatnonzero(times[wanted:] <= 1.05 * least)[0]
        np.testing.assert_array_equal(stairs[stairs], stairs)
        assert (np.diff(stairs) >= 0).all()


def test_a_minimum_lifts_the_lowest_stairs():
    np.testing.assert_array_equal(at_least(by_step(6, 4), 2), [4, 4, 4, 4, 4, 6, 6])
    np.testing.assert_array_equal(at_least(by_step(3, 1), 9), [3, 3, 3, 3])


def apply(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


def groups_of(size=32):
    params = {"a": jnp.ones((16, size)), "b": jnp.ones((size, 16))}
    scores = jax.tree.map(jnp.zeros_like, params) | {"a": jnp.arange(16.0 * size).reshape(16, size)}
    return find_groups(apply, params, jnp.ones((8, 16))), scores


def steep():
    """Multiples of 8 run at full speed, all other widths at a quarter of it."""
    widths = np.arange(1, 65)
    return table(Speeds(widths, np.where(widths % 8 == 0, 1.0, 0.25)))


def test_auto_takes_the_cheapest_width_at_or_above():
    groups, scores = groups_of()
    for keep, width in (("0.9", 32), ("0.75", 24), ("0.7", 24), ("0.26", 16), ("0.2", 8)):
        made = plan(groups, scores, keep=keep, round_to="auto", alignment=steep())
        assert made.widths == {"a:1": width}, keep


def test_auto_rounds_masks_and_meets_budgets_too():
    groups, scores = groups_of()
    masks = {"a": jnp.arange(32)[None] < 5, "b": jnp.array(True)}
    assert plan(groups, masks=masks, round_to="auto", alignment=steep()).widths == {"a:1": 8}
    made = plan(groups, scores, params="0.6", round_to="auto", alignment=steep())
    assert made.widths == {"a:1": 16}


def test_auto_on_a_small_group_may_keep_everything():
    groups, scores = groups_of(7)
    # 7 wide in both: any narrower one is as slow for each unit
    made = plan(groups, scores, keep="0.5", round_to="auto", alignment=steep())
    assert made.widths == {"a:1": 4}
    slower = table(Speeds(np.arange(1, 8), np.array([0.1] * 6 + [1.0])))
    made = plan(groups, scores, keep="0.5", round_to="auto", alignment=slower)
    assert made.widths == {"a:1": 7}


def test_the_present_backend_is_the_default():
    groups, scores = groups_of()
    assert jax.default_backend() == "cpu"
    ours = plan(groups, scores, keep="0.5", round_to="auto")
    explicit = plan(groups, scores, keep="0.5", round_to="auto", alignment=load_alignment("cpu"))
    assert ours.widths == explicit.widths
    assert wj.density(ours.masks, groups.shapes) >= 0.5
    assert json.loads(json.dumps(ours.widths)) == ours.widths
