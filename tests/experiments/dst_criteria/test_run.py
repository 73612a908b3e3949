"""A tiny run of the comparison of criteria: its files, its records, resuming, and refusals."""

import numpy as np
import pytest

from experiments.dst_criteria.__main__ import main
from experiments.dst_criteria._config import PRESETS, Arm, DstConfig
from experiments.dst_criteria._measures import History, measure, ranks
from tests.experiments import runs

TINY = (
    *("--seeds", "2", "--limit", "96", "--epochs", "3", "--batch_size", "32", "--every", "3"),
    *("--criteria", "magnitude", "random", "--growths", "gradient", "--densities", "0.1", "0.2"),
    *("--checkpoint_seconds", "0"),
)

call = runs.caller(main, *TINY)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return runs.succeeded(call(tmp_path_factory.mktemp("runs") / "dst"))


@pytest.fixture(scope="module")
def records(run):
    return run.records


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
    figures = {p.stem for p in (path / "figures").iterdir()}
    assert figures == {"accuracy_against_density", "jaccard", "critical_difference"}
    assert "magnitude, gradient growth" in run.out
    page = (path / "report.html").read_text()
    assert "masks simulate" in page.lower()


def test_every_arm_has_its_density_and_trains_to_the_end(records):
    config = DstConfig(
        seeds=2, criteria=("magnitude", "random"), growths=("gradient",), densities=(0.1, 0.2)
    )
    results = {(r["arm"], r["seed"]): r for r in records if r["kind"] == "result"}
    assert set(results) == {(arm.name, s) for arm in config.arms for s in (0, 1)}
    for (arm, _), result in results.items():
        if arm != "dense":
            density = arm.rsplit("-", 1)[1]
            assert result["size"] == 64 * 300 + 300 * 100 + 100 * 10
            assert result["kept"] == round(float(density) * result["size"])
    epochs = [r for r in records if r["kind"] == "epoch"]
    assert len(epochs) == 3 * len(results)
    assert all(np.isfinite(r["train_loss"]) for r in epochs)


def test_static_masks_stay_and_others_move(records):
    for r in records:
        if r["kind"] == "result" and r["arm"].startswith("static"):
            assert r["overlap"] == 1.0
        elif r["kind"] == "result" and r["arm"] != "dense":
            assert r["chance"] < r["overlap"] < 1.0
    explored = {}
    for r in records:
        if r["kind"] == "epoch" and r["explored"] is not None:
            explored.setdefault((r["arm"], r["seed"]), []).append(r["explored"])
    for (arm, _), values in explored.items():
        assert values == sorted(values)
        density = float(arm.rsplit("-", 1)[1])
        if arm.startswith("static"):
            assert values[-1] == pytest.approx(density, abs=1e-4)
        else:
            assert values[-1] > 1.05 * density


def test_arms_of_a_seed_share_their_first_weights(run, records):
    similar = [r for r in records if r["kind"] == "similarity"]
    assert {(r["when"], r["seed"]) for r in similar} == {
        (w, s) for w in ("before training", "after training") for s in (0, 1)
    }
    for r in similar:
        matrix = np.array(r["jaccard"])
        assert (np.diag(matrix) == 1.0).all()
        # random against magnitude is chance: 1/3 at p = 1/2
        assert abs(matrix[0, 1] - 1 / 3) < 0.05
    summary = run.summary
    # static, magnitude and random with gradient growth, dense: whatever the density and the seed
    assert summary["timing"]["training programs compiled in this start"] == 4


def test_the_epoch_is_chosen_on_validation_unless_told(records):
    config = DstConfig(
        seeds=2, criteria=("magnitude", "random"), growths=("gradient",), densities=(0.1, 0.2)
    )
    history = History(records)
    arm = Arm("random", "gradient", 0.1)
    mine = [r for r in records if (r["kind"], r["arm"], r["seed"]) == ("epoch", arm.name, 0)]
    first = max(mine, key=lambda r: r["validation_accuracy"])
    assert history.measured(arm, 0, False)["accuracy"] == first["test_accuracy"]
    assert history.measured(arm, 0, True)["accuracy"] == max(r["test_accuracy"] for r in mine)
    found = ranks(measure(history, config), config)
    assert found.blocks == 4
    assert set(found.names) == {"magnitude", "random"}


@pytest.mark.slow
def test_a_run_that_was_cut_goes_on_to_the_same_bits(run, records, tmp_path):
    ends = [n for n, r in enumerate(records, 1) if r["kind"] == "result"]
    cut = runs.cut(run, ends[-2], tmp_path / "cut")  # the last training is lost
    again = runs.succeeded(call(cut, "--resume"))
    assert again.untimed("seconds") == run.untimed("seconds")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--densities", "0.1", "1.5"), "densities contain 1.5"),
        (("--controls", "dense"), "controls must contain 'static'"),
        (("--similarity_density", "0.3"), "similarity_density is 0.3"),
        (("--every", "10000"), "the update period is longer"),
        (("--batch_size", "1000"), "larger than the training split"),
        (("--model", "lenet3000"), "no model named 'lenet3000'"),
    ],
)
def test_wrong_calls_get_their_sentence(tmp_path, flags, sentence):
    runs.check_refused(call(tmp_path / "new", *flags), sentence)


def test_the_presets_are_the_papers_grids():
    for name, config in PRESETS.items():
        moving = [a for a in config.arms if a.criterion]
        if name == "digits":
            assert len(moving) * config.seeds == 6 * 2 * 3 * 3
        elif not name.endswith(("_period", "_global", "_gamma", "_sensitivity", "_batch")):
            assert len(moving) * config.seeds == 550  # 11 densities, 5 criteria, 2 growths, 5 seeds
        assert not config.legacy_selection
        assert len({arm.name for arm in config.arms}) == len(config.arms)
