"""The benchmark of structured tickets runs, small, and returns the rows that it promises."""

import json
import math

import jax
import pytest

from benchmarks import regroup
from experiments.models import abstract, named
from wormjax.evaluation import macs


def _run(tmp_path, *flags):
    few = ("--divide", "16", "--rounds", "2", "--seconds", "0", "--batches", "1")
    rows = regroup.main([*few, *flags, "--json", str(tmp_path / "rows.json")])
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == len(rows)
    assert all(math.isfinite(row.ratio.median) for row in rows)
    return rows


def test_a_layer_is_checked_and_timed_against_the_better_dense_one(tmp_path, capsys):
    limit, blocks, masked = _run(tmp_path, "--layers", "5", "--no-network")
    assert (limit.target, limit.holds) == (1.0, True)
    assert blocks.target is None  # of 32 filters nothing is promised
    assert "dense [im2col" in blocks.name  # of a 2x2 map the library's convolution is no baseline
    assert "executed" in blocks.name
    assert masked.name.endswith("masked")
    assert blocks.name in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_network(tmp_path):
    rows = _run(tmp_path, "--layers", "3")
    names = [row.name.split(",")[-1].strip() for row in rows[-5:]]
    assert names[1:3] == ["dense / masked", "dense / shrunk by refill"]
    assert rows[-1].ratio.median > 1.5


@pytest.mark.slow
def test_k10_layers_have_the_sizes_that_vgg16_has_on_small_images():
    view = abstract(named("vgg16"))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    program = jax.make_jaxpr(lambda p, s, x: view.apply(p, s, x, train=False))(
        view.params, view.state, image
    )
    assert macs(view.apply, view.params, view.state, image) == 313_196_544 + 5120
    text = str(program)
    for inputs, outputs, side, _ in regroup.LAYERS:
        assert f"f32[3,3,{inputs},{outputs}]" in text
        assert f"f32[1,{side},{side},{outputs}]" in text
