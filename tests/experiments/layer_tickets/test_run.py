"""A tiny run of the study: its files, its records, resuming, and refusals."""

import sys

import pytest

from experiments.layer_tickets.__main__ import main
from tests.experiments import runs

TINY = (
    *("--seeds", "2", "--limit", "128", "--epochs", "2", "--removed", "1", "--criteria", "snip"),
    *("--filters", "1", "--stage_blocks", "3", "--stage_widths", "4", "--robust_images", "20"),
    *("--checkpoint_seconds", "0", "--score_per_class", "2"),
)

call = runs.caller(main, *TINY)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return runs.succeeded(call(tmp_path_factory.mktemp("runs") / "layers"))


@pytest.fixture(scope="module")
def records(run):
    return run.records


@pytest.mark.slow
def test_the_files_of_a_run(run):
    path = run.path
    names = {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "figures",
        "checkpoints",
    }
    assert {p.name for p in path.iterdir()} == names
    assert "Blocks removed at initialisation" in run.out
    page = (path / "report.html").read_text()
    assert "assumed and not measured" in page
    summary = run.summary
    assert summary["emission_constants"] == {
        "power_kw": 0.1,
        "kg_per_kwh": 0.4,
        "source": "assumed",
    }
    assert summary["aggregate"] == "sum"
    assert set(summary["winning"]) == {"snip-1", "filters-1"}


@pytest.mark.slow
def test_a_ticket_has_a_block_less_and_the_control_as_many_filters(records):
    results = {(r["arm"], r["seed"]): r for r in records if r["kind"] == "result"}
    for seed in (0, 1):
        dense, ticket, control = (results[arm, seed] for arm in ("dense", "snip-1", "filters-1"))
        assert dense["macs"] - ticket["macs"] == 2 * 64 * 9 * 4 * 4
        assert ticket["filters"] == control["filters"] == dense["filters"] - 8
        assert len(ticket["removed"]) == 1
        assert sum(ticket["per_stage"]["sum"].values()) == 1
        assert dense["cka"] == 1.0
        assert 0 <= ticket["cka"] <= 1
        assert len(ticket["corruptions"]) == 18  # of grey images, at one severity
        assert ticket["pgd"] <= ticket["clean"]


@pytest.mark.slow
def test_trained_criteria_are_rewound(tmp_path):
    kinds = ("hrank", "expect_abs", "pls_vip", "kl", "cka", "random")
    flags = ("--criteria", "--filters", "--seeds", "1", "--trained", *kinds, "--rewind_to", "1")
    run = runs.succeeded(call(tmp_path / "rewound", *flags))
    assert "Blocks removed after training, rewound to an epoch, p = 1" in run.out
    assert "Tickets of the trained network" in (run.path / "report.html").read_text()
    epochs = {}
    for r in run.records:
        if r["kind"] == "epoch":
            epochs.setdefault(r["arm"], []).append(r["epoch"])
    assert epochs == {"dense": [1, 2]} | {f"{kind}-1-from1": [2] for kind in kinds}
    results = {r["arm"]: r for r in run.records if r["kind"] == "result"}
    assert all(len(results[f"{kind}-1-from1"]["removed"]) == 1 for kind in kinds)


@pytest.mark.slow
def test_a_run_that_was_cut_goes_on_to_the_same_bits(run, records, tmp_path):
    ends = [n for n, r in enumerate(records, 1) if r["kind"] == "result"]
    features = [f"checkpoints/features-{seed}.npy" for seed in (0, 1)]
    cut = runs.cut(run, ends[-2], tmp_path / "cut", *features)
    again = runs.succeeded(call(cut, "--resume"))
    assert again.untimed("seconds") == run.untimed("seconds")


def test_energy_without_codecarbon_is_a_wrong_call(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    run = call(tmp_path / "new", "--measure_energy")
    runs.check_refused(run, "leave out --measure_energy")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--removed", "1", "9"), "9 blocks cannot be removed: of 3 candidates 2 can go"),
        (("--model", "lenet300"), "is no ResNet of experiments.models"),
        (("--batch_size", "1000"), "larger than the training split"),
    ],
)
def test_wrong_calls_get_their_sentence(tmp_path, flags, sentence):
    runs.check_refused(call(tmp_path / "new", *flags), sentence)
