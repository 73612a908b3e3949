"""A whole run: what it writes, and whether its records agree with each other."""

import json
import statistics

import numpy as np
import pytest

from experiments.worm._config import ARMS

SEEDS = (0, 1)
WIDTHS = (64, 64)  # channels of digits_mlp
EPOCHS, CAP, EPSILON = 5, 4, 0.1
SEARCHING = [arm for arm in ARMS if arm != "dense"]
EVERY = pytest.mark.parametrize("arm", ARMS)
EVERY_SEARCH = pytest.mark.parametrize("arm", SEARCHING)


def bits(record):
    """The record's mask, unpacked by hand: most significant bit first."""
    text = "".join(f"{int(digit, 16):04b}" for digit in record["mask"])
    return np.array([bit == "1" for bit in text[: sum(WIDTHS)]])


def test_the_files_of_a_run(seven):
    assert (seven.code, seven.err) == (0, "")
    names = {p.name for p in seven.path.iterdir()}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "figures",
        "checkpoints",
    }
    figures = {p.name: p.read_bytes()[:8] for p in (seven.path / "figures").iterdir()}
    assert set(figures) == {
        f"{n}.png" for n in ("mask_distance", "distances", "kept_widths", "accuracy")
    }
    assert set(figures.values()) == {b"\x89PNG\r\n\x1a\n"}
    config = json.loads((seven.path / "config.json").read_text())["config"]
    assert (config["seeds"], config["first_seed"], config["arms"]) == (2, 0, list(ARMS))
    assert str(seven.path / "report.html") in seven.out


@EVERY
def test_wd3_every_arm_trains_to_the_end(seven, arm):
    for seed in SEEDS:
        searched, retrained = (seven.epochs(arm, seed, phase) for phase in ("search", "retrain"))
        result = seven.result(arm, seed)
        at = result["emerged_at"]
        if arm == "dense":
            assert (result["outcome"], at, retrained) == ("trained", None, [])
            at = EPOCHS
        else:
            assert result["outcome"] == "ticket"
            assert 1 <= at <= CAP
            assert [r["epoch"] for r in retrained] == list(range(at, EPOCHS + 1))  # EB-D12
            assert all(np.isfinite(r["train_loss"]) for r in retrained[1:])
        assert [r["epoch"] for r in searched] == list(range(at + 1))
        assert searched[0]["train_loss"] is None
        assert all(np.isfinite(r["train_loss"]) for r in searched[1:])


@EVERY
def test_the_detector_says_what_its_masks_say(seven, arm):
    """Distances, counts and decisions again, from the recorded masks alone."""
    for seed in SEEDS:
        records = seven.epochs(arm, seed, "search")
        masks = [bits(r) for r in records]
        degenerate = [r["degenerate"] for r in records]
        assert degenerate == [True] + [False] * (len(records) - 1)  # all scales start equal
        emerged = False
        for epoch, record in enumerate(records):
            assert record["kept"] == [int(masks[epoch][:64].sum()), int(masks[epoch][64:].sum())]
            assert sum(record["kept"]) == sum(WIDTHS) - 64  # floor(0.5 * 128) are pruned
            moved = int((masks[epoch] != masks[epoch - 1]).sum()) if epoch else sum(WIDTHS)
            assert record["largest_distance"] == pytest.approx(moved / 128)
            assert record["mean_distance"] == pytest.approx(moved / 128)  # a window of two
            emerged |= epoch > 0 and moved <= EPSILON * 128
            assert record["emerged"] is bool(emerged)
        if arm != "dense":
            assert seven.result(arm, seed)["emerged_at"] == len(records) - 1
            assert emerged


def test_truncation_follows_each_arms_rule(seven):
    for arm in ARMS:
        for seed in SEEDS:
            latched = False
            for record in seven.epochs(arm, seed, "search"):
                mean, usable = record["mean_distance"], not record["degenerate"]
                latched |= usable and mean < 0.15
                want = {
                    "gradclip": 0.1 if usable else 1.0,
                    "greedy": min(mean, 1.0) if usable else 1.0,
                    "worm": 0.003 if latched else 1.0,
                }.get("worm" if arm.startswith("worm") else arm, 1.0)
                assert record["factor"] == pytest.approx(want)
    factors = [r["factor"] for r in seven.records if r.get("arm") == "worm" and "factor" in r]
    assert min(factors) < 0.01  # the rule was put to the test


def test_wd7_seeds_are_recorded_and_paired_arms_share_start_and_data(seven):
    assert {(r["arm"], r["seed"]) for r in seven.records} == {(a, s) for a in ARMS for s in SEEDS}
    assert seven.summary["seeds"] == list(SEEDS)

    def told(record):
        keys = ("mask", "train_loss", "validation_accuracy", "test_accuracy", "factor")
        return [record[key] for key in keys]

    for seed in SEEDS:
        dense = seven.epochs("dense", seed, "search")
        for arm in SEARCHING:
            searched = seven.epochs(arm, seed, "search")
            # to the bit, as long as nothing was truncated: same weights, same batches
            alike = 1 + next((i for i, r in enumerate(searched) if r["factor"] < 1), len(searched))
            for mine, theirs in zip(searched[:alike], dense, strict=False):
                assert told({**mine, "factor": 1.0}) == told({**theirs, "factor": 1.0})
            assert alike >= 2
    first, second = (seven.epochs("dense", seed, "search")[1] for seed in SEEDS)
    assert first["train_loss"] != second["train_loss"]


@EVERY_SEARCH
def test_measurements_are_those_of_the_records(seven, arm):
    for i, seed in enumerate(SEEDS):

        def measured(key, i=i):
            return seven.measured(arm, key)["seeds"][i]

        searched, retrained = (seven.epochs(arm, seed, phase) for phase in ("search", "retrain"))
        assert measured("epochs_to_ticket") == len(searched) - 1
        assert measured("accuracy_before") == searched[-1]["test_accuracy"]
        assert measured("accuracy_pruned") == retrained[0]["test_accuracy"]
        assert measured("accuracy_one_epoch") == retrained[1]["test_accuracy"]
        assert measured("accuracy_final") == retrained[-1]["test_accuracy"]
        # 2 FLOPs a multiply-accumulate, 3 forward passes, 64 images an epoch
        macs = 64 * 64 + 64 * 64 + 64 * 10
        assert measured("search_flops") == 2 * 3 * macs * 64 * (len(searched) - 1)
        reached = [r["epoch"] for r in retrained[1:] if r["validation_accuracy"] >= 0.375]
        after = reached[0] - retrained[0]["epoch"] if reached else {"above": len(retrained) - 1}
        assert measured("epochs_to_target") == after


@EVERY_SEARCH
def test_jaccard_is_with_the_mask_at_the_end_of_untruncated_training(seven, arm):
    for i, seed in enumerate(SEEDS):
        ticket = set(np.flatnonzero(bits(seven.epochs(arm, seed, "search")[-1])))
        final = set(np.flatnonzero(bits(seven.epochs("dense", seed, "search")[EPOCHS])))
        want = len(ticket & final) / len(ticket | final)
        assert seven.measured(arm, "jaccard")["seeds"][i] == pytest.approx(want)
        assert 0 < want < 1


def test_the_summary_holds_mean_deviation_and_every_seed(seven):
    assert [r["arm"] for r in seven.summary["arms"]] == list(ARMS)
    assert seven.summary["failures"] == {}
    standard = next(r["metrics"] for r in seven.summary["arms"] if r["arm"] == "standard")
    checked = 0
    for record in seven.summary["arms"]:
        for key, metric in record["metrics"].items():
            numbers = [v for v in metric["seeds"] if isinstance(v, float | int)]
            assert (len(metric["seeds"]), metric["n"]) == (len(SEEDS), len(numbers))
            if numbers:
                assert metric["mean"] == pytest.approx(statistics.mean(numbers))
            if len(numbers) == 2:
                assert metric["sd"] == pytest.approx(statistics.stdev(numbers))
            if len(numbers) == 2 == standard[key]["n"] and record["arm"] != "standard":
                pairs = zip(numbers, standard[key]["seeds"], strict=True)
                want = statistics.mean(x - y for x, y in pairs)
                assert metric["difference"]["mean"] == pytest.approx(want)
                checked += 1
    assert checked > 40
    assert "accuracy_before" not in seven.summary["arms"][0]["metrics"]  # dense prunes nothing


def test_the_wall_time_is_split(seven):
    """Training and detection of all arms and seeds are what their results say together."""
    timing = seven.summary["timing"]
    spent = {name: timing[f"of these {name}"] for name in ("training", "evaluating", "detecting")}
    assert spent["training"] > 0
    assert spent["evaluating"] > 0
    assert timing["of these compiling"] > 0
    assert sum(spent.values()) <= timing["wall seconds of this start"] + 0.1  # which is rounded
    results = [seven.result(arm, seed) for arm in ARMS for seed in SEEDS]
    told = sum((r["search_seconds"] + r["retrain_seconds"]) / r["cohort"] for r in results)
    assert abs(told - spent["training"] - spent["detecting"]) <= 0.01 + 1e-6
