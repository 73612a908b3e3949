"""The two drivers tell the same story: an epoch a loop and seed by seed, or a scan and seeds by vmap."""

import pytest

pytestmark = pytest.mark.slow  # the drivers have their own tests; this is the whole job by scans


def key(record):
    return tuple(record.get(name) for name in ("kind", "arm", "seed", "phase", "epoch"))


def test_loop_and_scan_give_the_same_records(seven, scanned):
    assert (scanned.code, scanned.err) == (0, "")
    loop = {key(r): r for r in seven.records if r["arm"] in ("dense", "standard", "worm")}
    scan = {key(r): r for r in scanned.records}
    assert len(scan) == len(scanned.records)
    assert scan.keys() == loop.keys()  # a seed that is through leaves no more records
    for name, record in scan.items():
        other = loop[name]
        if record["kind"] == "speed":
            assert record["losses"].keys() == other["losses"].keys()
            continue
        if record["kind"] == "result":
            assert (record["outcome"], record["emerged_at"]) == (
                other["outcome"],
                other["emerged_at"],
            )
            assert (record["cohort"], other["cohort"]) == (2, 1)
            continue
        for accuracy in ("validation_accuracy", "test_accuracy"):
            assert record[accuracy] == pytest.approx(other[accuracy], abs=2 / 64)
        if record["train_loss"] is None:
            assert other["train_loss"] is None
        else:
            assert record["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        if record["phase"] == "search":
            assert record["emerged"] == other["emerged"]
            assert record["factor"] == pytest.approx(other["factor"], abs=4 / 128)
            differing = int(record["mask"], 16) ^ int(other["mask"], 16)
            assert differing.bit_count() <= 4  # two near-ties may go the other way


def test_seeds_that_emerge_at_different_epochs_retrain_side_by_side(scanned):
    emerged = [scanned.result("standard", seed)["emerged_at"] for seed in (0, 1)]
    assert emerged[0] != emerged[1]
    for seed, at in enumerate(emerged):
        retrained = scanned.epochs("standard", seed, "retrain")
        assert [r["epoch"] for r in retrained] == list(range(at, 6))
    weights = [scanned.result("standard", seed)["weights"] for seed in (0, 1)]
    assert None not in weights
    assert weights[0] != weights[1]
