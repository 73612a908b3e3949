"""A tiny run of the comparison of foresight methods: its files, its records, resuming, and refusals."""

import json
import shutil

import numpy as np
import pytest

from experiments.foresight.__main__ import main
from experiments.foresight._config import PRESETS, ForesightConfig
from experiments.foresight._measures import History
from experiments.foresight._setup import Setup
from tests.experiments import runs

TINY = (
    *("--seeds", "2", "--limit", "96", "--epochs", "2", "--batch_size", "32", "--per_class", "2"),
    *("--methods", "random", "magnitude", "--densities", "0.3", "0.1", "--milestones", "1"),
    *("--spectrum_density", "0.1", "--checkpoint_seconds", "0"),
)

call = runs.caller(main, *TINY)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    def save(figure, path):  # drawn once, for the page: tests of experiments.report save pictures
        path.parent.mkdir(exist_ok=True)
        path.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments._report_page.save_figure", save)
        return runs.succeeded(call(tmp_path_factory.mktemp("runs") / "foresight"))


def test_the_files_of_a_run(run):
    path = run.path
    assert {p.name for p in path.iterdir()} == {
        *("config.json", "metrics.jsonl", "summary.json", "report.html", "figures"),
        *("checkpoints", "pruning_set.json"),
    }
    figures = {p.stem for p in (path / "figures").iterdir()}
    assert figures == {"accuracy_against_density", "layer_densities", "ntk_spectrum"}
    assert "sparsity 90.00%" in run.out
    assert "masks simulate" in (path / "report.html").read_text().lower()
    chosen = json.loads((path / "pruning_set.json").read_text())
    assert len(set(chosen["rows"])) == 20


def test_every_arm_has_its_count_and_its_layers(run):
    records = run.records
    results = {(r["arm"], r["seed"]): r for r in records if r["kind"] == "result"}
    assert len(results) == 5 * 2
    size = 64 * 300 + 300 * 100 + 100 * 10
    for (arm, seed), result in results.items():
        kept = {"dense": size, "0.3": 15060, "0.1": 5020}[arm.rsplit("-", 1)[-1]]
        assert (result["kept"], result["size"]) == (kept, size)
        assert result["effective"] <= result["kept"]
        assert not result["collapsed"]
        assert ("spectrum" in result) == (seed == 0 and not arm.endswith("0.3"))
    assert results[("dense", 0)]["weights"] != results[("dense", 1)]["weights"]
    summary = run.summary
    assert summary["timing"]["training programs compiled in this start"] == 1


def test_the_epoch_is_chosen_on_validation(run):  # defect 11: the last epoch, on test images
    records = run.records
    history = History(records)
    mine = [r for r in records if (r["kind"], r["arm"], r["seed"]) == ("epoch", "random-0.1", 0)]
    best = max(mine, key=lambda r: r["validation_accuracy"])
    [arm] = [a for a in PRESETS["digits"].arms if a.name == "random-0.1"]
    assert history.measured(arm, 0)["accuracy"] == best["test_accuracy"]


def test_pruning_and_test_images_are_disjoint_and_of_one_size():  # defect 12
    setup = Setup(ForesightConfig(limit=96, per_class=2))
    parts = [images for images, _ in setup.feed.parts.values()]
    assert {images.shape[1:] for images in parts} == {(8, 8, 1)}
    train, *held = ({image.tobytes() for image in np.asarray(part)} for part in parts)
    pruned = {image.tobytes() for image in np.asarray(parts[0])[setup.chosen.rows]}
    assert len(pruned) == 20
    assert pruned <= train
    assert not any(pruned & images for images in held)


@pytest.mark.slow
def test_a_run_that_was_cut_goes_on_to_the_same_bits(run, tmp_path):
    ends = [n for n, r in enumerate(run.records, 1) if r["kind"] == "result"]
    cut = runs.cut(run, ends[-3], tmp_path / "cut", "pruning_set.json")
    again = runs.succeeded(call(cut, "--resume"))
    timed = ("seconds", "prune_seconds")
    assert again.untimed(*timed) == run.untimed(*timed)


@pytest.mark.slow
def test_a_first_training_that_was_cut_goes_on_to_the_same_bits(tmp_path):
    path = tmp_path / "run"
    flags = ("--pretrain_data", "digits", "--pretrain_epochs", "2", "--pretrain_milestones", "1")
    flags += ("--seeds", "1", "--methods", "random", "--densities", "0.1")
    run = runs.succeeded(call(path, *flags))
    whole = {r["arm"]: r["weights"] for r in run.records if r["kind"] == "result"}
    # what a kill in its second epoch would have left
    (path / "metrics.jsonl").write_text("")
    for store in (path / "checkpoints").iterdir():
        for saved in sorted(store.iterdir())[-1:] if "pretrained" in store.name else [store]:
            shutil.rmtree(saved)
    [_] = (path / "checkpoints" / "pretrained-0").iterdir()
    again = runs.succeeded(call(path, *flags, "--resume"))
    assert {r["arm"]: r["weights"] for r in again.records if r["kind"] == "result"} == whole


@pytest.mark.slow
@pytest.mark.parametrize("ablation", ["shuffled", "reinitialised", "inverted", "dense_head"])
def test_ablations_run(tmp_path, ablation):
    flags = ("--ablation", ablation, "--seeds", "1", "--densities", "0.1")
    run = runs.succeeded(call(tmp_path / "run", *flags))
    results = [r for r in run.records if r["kind"] == "result"]
    for r in results:
        if ablation == "dense_head":
            assert r["layers"]["head/kernel"] == 1.0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--densities", "0.1", "1.5"), "densities contain 1.5"),
        (("--methods", "magnitude"), "methods must contain 'random'"),
        (("--spectrum_density", "0.25"), "spectrum_density is 0.25"),
        (("--per_class", "1000"), "Class 0 has"),
        (("--pretrain_data", "fashion_mnist"), "Give both, or neither"),
        # defect 12: an unknown source of weights
        (("--pretrain_data", "mnist", "--pretrain_epochs", "1"), "unknown data set 'mnist'"),
        (("--prune_sed", "1"), "prune_sed"),
        (("--batch_size", "1000"), "larger than the training split"),
        (("--model", "lenet3000"), "no model named 'lenet3000'"),
    ],
)
def test_wrong_calls_get_their_sentence(tmp_path, flags, sentence):
    runs.check_refused(call(tmp_path / "new", *flags), sentence)


def test_the_presets_are_the_papers_grids():  # defect 1: every shipped config validates
    for name, config in PRESETS.items():
        assert len({arm.name for arm in config.arms}) == len(config.arms)
        if name in ("resnet20", "vgg16"):
            sparsities = [f"{1 - d:.2%}" for d in config.densities]
            assert sparsities == [
                *("36.00%", "59.04%", "73.79%", "83.22%", "89.26%", "93.13%", "95.60%", "97.19%"),
                "98.20%",
            ]
            assert (config.epochs, config.batch_size, config.augment) == (160, 128, True)
    assert len(PRESETS["digits"].arms) == 1 + 10 * 5
