"""A tiny run of the comparison of structured tickets: its files, its records, going on, and refusals."""

import numpy as np
import pytest

from experiments.data import check_disjoint, load
from experiments.structured_tickets.__main__ import main
from experiments.structured_tickets._config import PRESETS, TicketConfig
from experiments.structured_tickets._measures import points, winning
from experiments.structured_tickets._setup import Setup
from tests.experiments import runs

TINY = (
    *("--seeds", "1", "--limit", "96", "--epochs", "2", "--batch_size", "32", "--rounds", "2"),
    *("--structured_every", "2", "--model", "digits_mlp", "--timing_batches", "2"),
    *("--methods", "refill", "regroup", "--rewind", "1it"),
)

call = runs.caller(main, *TINY)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return runs.succeeded(call(tmp_path_factory.mktemp("runs") / "tickets"))


@pytest.mark.slow
def test_the_files_and_records_of_a_run(run):
    path = run.path
    assert {p.stem for p in (path / "figures").iterdir()} == {
        "accuracy_against_density",
        "accuracy_against_executed",
        "accuracy_against_latency",
        "masks",
    }
    saved = {p.name for p in (path / "checkpoints").iterdir()}
    assert saved == {"imp-0", "blocks-2.npz", "before-2.npz"}  # of what is over, only what is read
    assert "extreme winning sparsity" in " ".join(run.out.split())
    assert "Executed is what a" in (path / "report.html").read_text()
    records = run.records
    levels = [r for r in records if r["kind"] == "level"]
    total = 64 * 64 + 64 * 64  # the head is not pruned
    assert [r["kept"] for r in levels] == [total, 6554, 5243]
    results = {r["arm"]: r for r in records if r["kind"] == "result"}
    assert set(results) == {"imp", "refill-2", "regroup-2"}
    for arm in ("refill-2", "regroup-2"):
        assert 0 < results[arm]["executed"] <= results[arm]["nominal"] + 1e-9 < 1
        assert results[arm]["latency"]["2"]["ticket"] > 0
        assert results[arm]["macs_share"] < 1
    assert {a["arm"] for a in run.summary["arms"]} == {"dense", "imp", "refill", "regroup"}


@pytest.mark.slow
def test_a_run_that_was_cut_goes_on_to_the_same_numbers(run, tmp_path):
    path, timed = run.path, ("seconds", "latency")
    before = run.untimed(*timed)
    lines = (path / "metrics.jsonl").read_text().splitlines()
    end = next(n for n, r in enumerate(before, 1) if r.get("arm") == "refill-2")
    (path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines[:end]))
    assert runs.succeeded(call(path, "--resume")).untimed(*timed) == before
    record = path / "checkpoints" / "imp-0" / "level_001" / "record.json"
    record.write_text("torn")
    (path / "metrics.jsonl").write_text("")
    damaged = call(path, "--resume")
    assert damaged.code != 0
    assert "level_001 is damaged" in " ".join(damaged.err.split())


def test_the_sparsest_ticket_that_wins():
    config = TicketConfig(seeds=2, tolerance=1.0)

    def record(kind, round, seed, nominal, validation, **more):
        scores = {"validation": validation, "test": 0.5, "executed": 1.0}
        return {"kind": kind, "round": round, "seed": seed, "nominal": nominal, **scores, **more}

    records = [record("level", 0, s, 1.0, 0.9) for s in (0, 1)]
    for round, nominal, accuracies in (
        (2, 0.6, (0.9, 0.88)),
        (4, 0.4, (0.87, 0.9)),
        (6, 0.2, (0.9, 0.9)),
    ):
        seeds = (0,) if round == 6 else (0, 1)  # the last is not over
        records += [
            record(
                "result", round, s, nominal, accuracies[s], method="refill", arm=f"refill-{round}"
            )
            for s in seeds
        ]
    found = points(records, config)
    assert [p.round for p in found["refill"]] == [2, 4]
    best = winning(found, config)["refill"]
    assert (best.point.round, best.margin) == (2, pytest.approx(-1.0))
    strict = winning(found, TicketConfig(seeds=2, tolerance=0.0))["refill"]
    assert strict.point is None
    loose = winning(found, TicketConfig(seeds=2, tolerance=2.0))["refill"]
    assert loose.point.round == 4


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--structured_every", "3"), "there are 2 rounds"),
        (("--tolerance", "-1"), "tolerance is -1"),
        (("--rewind", "1000it"), "at or after the end"),
        (("--batch_size", "1000"), "larger than the training split"),
        (("--timing_batches", "0"), "timing_batches are"),
    ],
)
def test_wrong_calls_get_their_sentence(tmp_path, flags, sentence):
    runs.check_refused(call(tmp_path / "new", *flags), sentence)


def test_the_presets_are_the_papers_recipes():
    for name, config in PRESETS.items():
        rates = [float(config.recipe.schedule(1)(np.int32(e))) for e in (0, 79, 80, 119, 120)]
        if name != "digits":
            assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
            assert (config.epochs, config.rewind, config.rounds) == (160, "8ep", 10)
            assert config.weight_decay == (2e-4 if name == "vgg16" else 1e-4)
            assert config.prune_stem == (name == "vgg16")


@pytest.mark.slow
def test_one_ticket_is_pruned_trained_and_measured(tmp_path):
    flags = ("--epochs", "1", "--rounds", "1", "--structured_every", "1", "--methods", "refill")
    run = runs.succeeded(call(tmp_path / "tickets", *flags, "--limit", "64"))
    [_, refilled] = [r for r in run.records if r["kind"] == "result"]
    assert refilled["nominal"] == pytest.approx(0.8, abs=0.02)
    assert refilled["executed"] < refilled["nominal"]
    assert refilled["macs_share"] < 1
    assert "refill" in run.out


def test_i6_i7_splits_are_disjoint_and_networks_see_normalised_images():
    data = load("digits", split_seed=0, limit=None)
    check_disjoint(data)
    assert len({id(split) for split in (data.train, data.validation, data.test)}) == 3
    setup = Setup(TicketConfig(model="digits_mlp"))
    images = np.asarray(setup.images(64))
    raw = np.asarray(data.validation.images[:64], np.float64)  # floats in [0, 1]
    np.testing.assert_allclose(images, (raw - data.mean) / data.std, rtol=1e-4, atol=1e-4)
