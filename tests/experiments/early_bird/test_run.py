"""A whole run: what it writes, and whether its records agree with each other."""

import itertools
import json

import numpy as np
import pytest

from experiments.early_bird._trials import METHODS

SEEDS, EPOCHS, WIDTHS = (0, 1), 4, (64, 64)  # channels of digits_mlp
ARMS = [*(f"{method}-0.3" for method in METHODS), "draw1-0.3", "draw2-0.3"]
EVERY = pytest.mark.parametrize("arm", ARMS)


def bits(text):
    """A recorded mask, unpacked by hand: most significant bit first."""
    digits = "".join(f"{int(digit, 16):04b}" for digit in text)
    return np.array([bit == "1" for bit in digits[: sum(WIDTHS)]])


def test_the_files_of_a_run(tiny):
    assert (tiny.code, tiny.err) == (0, "")
    written = {p.name for p in tiny.path.iterdir()}
    files = {"config.json", "metrics.jsonl", "summary.json", "report.html"}
    assert written == {*files, "figures", "checkpoints"}
    names = ("draws", "mask_distance", "distances", "kept_widths_0.3", "accuracy_0.3")
    assert {p.name for p in (tiny.path / "figures").iterdir()} == {f"{n}.png" for n in names}
    page = (tiny.path / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<img") == len(names)
    config = json.loads((tiny.path / "config.json").read_text())["config"]
    assert (config["seeds"], config["methods"]) == (2, list(METHODS))
    assert str(tiny.path / "report.html") in tiny.out
    assert [r["arm"] for r in tiny.summary["arms"]] == ["dense", *ARMS]


@EVERY
def test_eb_d12_retraining_goes_on_at_the_epoch_of_the_draw(tiny, arm):
    """Draw at e, train epochs e..total - 1: dense and pruned epochs sum to the total."""
    joins = arm.startswith(("inherit", "reinit_at_neb", "random_ticket", "draw"))
    for seed in SEEDS:
        result, records = tiny.result(arm, seed), tiny.epochs(arm, seed)
        start = result["drawn_at"] if joins else 0
        assert result["start"] == start
        assert [r["epoch"] for r in records] == list(range(start, EPOCHS + 1))
        assert records[0]["train_loss"] is None
        assert all(np.isfinite(r["train_loss"]) for r in records[1:])
        if joins:
            assert result["drawn_at"] + len(records[1:]) == EPOCHS


def test_the_ticket_is_drawn_where_the_masks_say_so(tiny):
    for seed in SEEDS:
        records = tiny.epochs("dense", seed)
        assert [r["epoch"] for r in records] == list(range(EPOCHS + 1))  # it runs through
        masks = [bits(r["mask"][0]) for r in records]
        assert records[0]["degenerate"] is True  # all scales start equal
        moved = [int((a != b).sum()) for a, b in itertools.pairwise(masks)]
        close = [e for e, n in enumerate(moved, 1) if n <= 0.3 * 128]
        assert tiny.result("dense", seed)["emerged_at"] == close[:1]
        assert tiny.result("inherit-0.3", seed)["drawn_at"] == close[0]
        for mask, record in zip(masks, records, strict=True):
            assert [mask[:64].sum(), mask[64:].sum()] == record["kept"][0]
            assert mask.sum() == 128 - 38  # floor(0.3 * 128) are pruned


@EVERY
def test_every_arm_has_the_channels_of_its_rule(tiny, arm):
    for seed in SEEDS:
        result = tiny.result(arm, seed)
        mask = bits(result["mask"])
        assert result["kept"] == [mask[:64].sum(), mask[64:].sum()]
        assert (mask.sum(), result["spared_layers"]) == (90, 0)
        ticket = bits(tiny.epochs("dense", seed)[result["drawn_at"]]["mask"][0])
        if arm.startswith("random"):
            assert result["kept"] == tiny.result("inherit-0.3", seed)["kept"]
            assert (mask != ticket).any()
        elif not arm.startswith("snip"):
            np.testing.assert_array_equal(mask, ticket)
        at = {"one_shot": EPOCHS, "network_slimming": EPOCHS, "snip": 0, "draw1": 1, "draw2": 2}
        assert result["drawn_at"] == at.get(arm.split("-")[0], result["drawn_at"])


@EVERY
def test_eb_d8_layers_and_size_are_both_on_record(tiny, arm):
    """The reference overwrites the kept counts with parameters and FLOPs."""
    for seed in SEEDS:
        result = tiny.result(arm, seed)
        first, second = result["kept"]
        assert result["parameters"] == 66 * first + first * second + 12 * second + 10
        assert result["macs"] == 64 * first + first * second + 10 * second
        assert result["share"] == result["macs"] / (64 * 64 + 64 * 64 + 640)
        assert tiny.measured(arm, "parameters")["seeds"][seed] == result["parameters"]


@EVERY
def test_measurements_are_those_of_the_records(tiny, arm):
    for seed in SEEDS:
        result, records = tiny.result(arm, seed), tiny.epochs(arm, seed)
        assert tiny.measured(arm, "accuracy_final")["seeds"][seed] == records[-1]["test_accuracy"]
        share = result["share"] * (EPOCHS - result["start"]) / EPOCHS + result["drawn_at"] / EPOCHS
        assert tiny.measured(arm, "training_share")["seeds"][seed] == pytest.approx(share)
        flops = 2 * 3 * (64 * 64 + 64 * 64 + 640) * 640 * EPOCHS
        assert tiny.measured(arm, "training_flops")["seeds"][seed] == pytest.approx(share * flops)
        ticket = set(np.flatnonzero(bits(result["mask"])))
        final = set(np.flatnonzero(bits(tiny.epochs("dense", seed)[-1]["mask"][0])))
        want = len(ticket & final) / len(ticket | final)
        assert tiny.measured(arm, "jaccard")["seeds"][seed] == pytest.approx(want)


def test_eb_d1_o_p2_inherited_weights_go_on_where_they_were_and_others_do_not(tiny):
    """The reference's retraining is a random network that starts at N_EB."""
    for seed in SEEDS:
        at = tiny.result("inherit-0.3", seed)["drawn_at"]
        losses = {m: tiny.epochs(f"{m}-0.3", seed)[1]["train_loss"] for m in METHODS}
        assert losses["inherit"] < 0.5 * np.log(10)
        assert losses["inherit"] < losses["reinit_at_neb"]
        assert losses["network_slimming"] < losses["one_shot"]
        first = tiny.epochs("dense", seed)[1]["train_loss"]
        assert losses["reinit"] > 0.7 * first
        same = [e for e in (1, 2) if e == at]
        for e in same:  # a draw at the ticket's epoch is the ticket, to the bit
            name = f"draw{e}-0.3"
            assert tiny.result(name, seed)["weights"] == tiny.result("inherit-0.3", seed)["weights"]
    drawn = [tiny.result("inherit-0.3", seed)["drawn_at"] for seed in SEEDS]
    assert set(drawn) & {1, 2}


def test_the_curve_is_in_the_summary(tiny):
    [curve] = tiny.summary["curves"]
    assert (curve["prune_ratio"], curve["draw_epochs"]) == (0.3, [1, 2])
    assert curve["emerged_at"] == [tiny.result("dense", s)["emerged_at"][0] for s in SEEDS]
    want = [
        [tiny.measured(f"draw{e}-0.3", "accuracy_final")["seeds"][s] for e in (1, 2)] for s in SEEDS
    ]
    assert curve["test_accuracy"] == want
