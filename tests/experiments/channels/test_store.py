"""Where a unit stands, there and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments._cli import RunConfig
from experiments._folder import RunFolder
from experiments.channels import UnitStore
from experiments.training import CheckpointError, MetricsLog


def test_arrays_fields_and_records_come_back(tmp_path):
    folder = RunFolder.open("worm", RunConfig(preset="digits", out=tmp_path / "run"), [])
    store = UnitStore(folder, "a", [3, 4], 1e9, ["search", "retrain"])
    like = {"w": jnp.zeros(2)}
    assert store.restore("search", like) is None
    assert not store.due
    fields = {"losses": (0.5, float("nan")), "emerged_at": (4, None), "seconds": 1.5}
    with MetricsLog(folder.metrics) as log:
        log.write({"kind": "epoch"})
        store.save("search", {"w": jnp.ones(2)}, fields, log)
    tree, back, records = store.restore("search", like)
    np.testing.assert_array_equal(tree["w"], [1, 1])
    assert (back.pop("losses")[0], records) == (0.5, 1)
    assert back == {"emerged_at": (4, None), "seconds": 1.5}
    assert store.restore("retrain", like) is None
    assert UnitStore(folder, "a", [3, 4], 0, ["search"]).due
    with pytest.raises(CheckpointError, match="belongs to another run"):
        UnitStore(folder, "a", [3], 0, ["search"]).restore("search", like)
