"""W-D6: the reference's drivers call what is not there. Each of ours runs from end to end."""

import pytest


@pytest.mark.parametrize("driver", ["loop", pytest.param("scan", marks=pytest.mark.slow)])
def test_w_d6_the_driver_runs_from_search_to_recovery(request, driver):
    run = request.getfixturevalue({"loop": "seven", "scan": "scanned"}[driver])
    assert (run.code, run.err) == (0, "")
    assert run.summary["failures"] == {}
    phases = {(r["arm"], r["phase"]) for r in run.records if r["kind"] == "epoch"}
    assert {("worm", "search"), ("worm", "retrain"), ("standard", "search")} <= phases
    assert all(run.result("worm", seed) for seed in (0, 1))
