"""Config, measurements, tables and pictures of the study, from records written here."""

import dataclasses

import pytest

from experiments.layer_tickets._config import DENSE, PRESETS, Arm, LayerConfig
from experiments.layer_tickets._measures import History, flops_saved, measure, winning
from experiments.layer_tickets._page import (
    cost_table,
    result_tables,
    results_table,
    stages_table,
)
from experiments.layer_tickets._pictures import pictures
from experiments.report import figure_svg

CONFIG = LayerConfig(
    seeds=2,
    criteria=("grasp", "random"),
    removed=(1, 2),
    filters=(1,),
    power_kw=0.1,
    kg_per_kwh=0.4,
)


def records(config):
    found = []
    for arm in config.arms:
        for seed in config.seed_numbers:
            by_epoch = [(0.5, 0.55), (0.9, 0.80 - 0.01 * arm.p + 0.02 * seed), (0.9, 0.99)]
            for epoch, (validation, test) in enumerate(by_epoch, 1):
                found.append(
                    {"kind": "epoch", "arm": arm.name, "seed": seed, "epoch": epoch}
                    | {"validation_accuracy": validation, "test_accuracy": test}
                )
            found.append(
                {"kind": "result", "arm": arm.name, "seed": seed, "seconds": 10.0 - 2 * arm.p}
                | {"macs": 1000 - 100 * arm.p, "parameters": 50, "filters": 40, "memory": 9}
                | {"measured_memory": 12, "calibration_error": 0.1, "cka": 0.9}
                | {"corrupted": 0.6, "fgsm": 0.3, "pgd": 0.2, "removed": [], "aggregate": "sum"}
                | {
                    "per_stage": {"sum": {"0": arm.p, "1": 0}, "mean": {"0": 0, "1": arm.p}}
                    if arm.kind == "grasp"
                    else None
                }
            )
    return found


@pytest.fixture(scope="module")
def measured():
    return measure(History(records(CONFIG)), CONFIG)


def test_the_epoch_is_the_best_of_validation_and_the_first_of_several(measured):
    assert measured[Arm("grasp", 1)]["accuracy"] == pytest.approx([0.79, 0.81])
    assert measured[Arm("grasp", 1)]["accuracy_last"] == [0.99, 0.99]


def test_time_emissions_and_operations_are_against_dense(measured):
    values = measured[Arm("grasp", 2)]
    assert values["speedup"] == pytest.approx([10 / 6] * 2)
    assert values["kg"] == pytest.approx([6 / 3600 * 0.1 * 0.4] * 2)
    assert values["kg_saved"] == pytest.approx([40.0] * 2)
    assert flops_saved(measured, Arm("random", 2)) == pytest.approx(20.0)
    masked = dataclasses.replace(CONFIG, filter_control="masked")
    behind = measure(History(records(masked)), masked)[Arm("filters", 1)]
    assert "seconds" not in behind  # the whole network was trained
    assert behind["macs"] == [900, 900]


def test_measured_energy_stands_beside_the_modelled(measured):
    assert measured[Arm("grasp", 2)]["modelled_kwh"] == pytest.approx([6 / 3600 * 0.1] * 2)
    assert "measured_kwh" not in measured[DENSE]
    metered = [
        r | {"energy": {"kwh": 0.5 * r["seconds"]}, "energy_meter": "codecarbon 3.3.2"}
        if r["kind"] == "result"
        else r
        for r in records(CONFIG)
    ]
    history = History(metered)
    values = measure(history, CONFIG)[Arm("grasp", 2)]
    assert history.meters == ["codecarbon 3.3.2"]
    assert values["measured_kwh"] == [3.0, 3.0]
    assert values["measured_kg"] == pytest.approx([1.2, 1.2])
    assert values["measured_kg_saved"] == pytest.approx([40.0, 40.0])
    assert "Energy of training, measured" in cost_table(measure(history, CONFIG), CONFIG).text()


def test_winning_needs_seeds(measured):
    assert winning(measured, Arm("grasp", 1), CONFIG).wins is False
    assert winning(measured, Arm("grasp", 1), dataclasses.replace(CONFIG, xi=0.011)).wins is True
    alone = dataclasses.replace(CONFIG, seeds=1)
    one = measure(History(records(alone)), alone)
    assert winning(one, Arm("grasp", 1), alone) is None
    assert "nothing is called winning" in results_table(one, alone).text()
    forced = dataclasses.replace(alone, force_single_seed=True)
    assert winning(one, Arm("grasp", 1), forced).seeds == 1


def test_tables_and_pictures(measured):
    text = results_table(measured, CONFIG).text()
    assert "MACs saved" in text
    assert "10.00 %" in text
    assert "loses" in text
    assert "Under corruptions" in cost_table(measured, CONFIG).text()
    stages = stages_table(History(records(CONFIG)), CONFIG).text()
    assert "0: 6, 1: 0" in stages  # by the sum, over p = 1, 2 and two seeds
    assert "0: 0, 1: 6" in stages
    made = pictures(measured, CONFIG)
    assert set(made) == {"accuracy_by_blocks", "robustness", "speedup"}
    assert all("<svg" in figure_svg(figure) for figure in made.values())


def test_presets_are_the_papers_rows():
    assert PRESETS["resnet32"].removed == (1, 2, 3, 4, 5)
    assert PRESETS["resnet56"].removed == (1, 2, 3, 4, 5, 12)
    for name, config in PRESETS.items():
        assert config.seeds == 3, name
        assert config.arms[0] == DENSE
        assert set(config.criteria) == (set() if config.trained else {"grasp", "snip", "random"})
        assert len({arm.name for arm in config.arms}) == len(config.arms)


def test_the_preset_of_trained_criteria_is_the_papers_table():
    config = PRESETS["resnet32_trained"]
    kinds = ("hrank", "expect_abs", "pls_vip", "kl", "cka", "random")
    expected = [Arm(kind, 1, i) for kind in kinds for i in (0, 25, 50, 75)]
    assert config.arms == [DENSE, *expected]
    assert config.kept_epochs == {0, 25, 50, 75, 200}
    assert config.arms[2].name == "hrank-1-from25"
    assert PRESETS["resnet32"].kept_epochs == set()


def test_rewound_tickets_have_their_table_and_no_time():
    config = dataclasses.replace(CONFIG, trained=("kl", "random"), rewind_to=(0, 25), epochs=30)
    measured = measure(History(records(config)), config)
    first, *by_p = result_tables(measured, config)
    assert first.title == "Blocks removed at initialisation"
    assert first.rows == results_table(measured, config).rows
    assert [row[0] for row in first.rows] == ["grasp", "random", "filters", "MACs saved"]
    assert [t.title[-5:] for t in by_p] == ["p = 1", "p = 2"]
    assert [row[0] for row in by_p[0].rows] == ["kl", "random"]
    assert [c.title for c in by_p[0].columns[1:]] == ["epoch 0", "epoch 25"]
    assert "80.00" in by_p[0].text()
    assert "seconds" not in measured[Arm("kl", 1, 25)]
    alone = dataclasses.replace(config, criteria=(), filters=())
    one = measure(History(records(alone)), alone)
    assert len(result_tables(one, alone)) == 2
    made = pictures(one, alone)
    by_epoch = {"accuracy_by_rewind_epoch_1", "accuracy_by_rewind_epoch_2"}
    assert set(made) == {"robustness", *by_epoch}
    [axes] = made["accuracy_by_rewind_epoch_1"].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"kl", "random", "dense"}
    assert list(lines["kl"].get_xdata()) == [0, 25]
    assert list(lines["kl"].get_ydata()) == pytest.approx([0.8, 0.8])
    [legend] = made["robustness"].legends
    assert [t.get_text() for t in legend.get_texts()] == ["dense", "kl from 25", "random from 25"]
    assert set(pictures(measured, config)) > by_epoch
    assert "Under corruptions" in cost_table(one, alone).text()
    assert stages_table(History(records(alone)), alone) is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trained": ("kl",), "rewind_to": (200,)}, "Each lies in 0, ..., 199"),
        ({"trained": ("kl", "kl")}, "trained are"),
        ({"trained": ("kl",), "criteria": ()}, "Name one, or no filters"),
        ({"removed": (0, 1)}, "Remove at least one block"),
        ({"criteria": ()}, "Name at least one"),
        ({"filters": (3,)}, "Match what is removed"),
        ({"severities": (6,)}, "Each lies in 1, ..., 5"),
        ({"power_kw": 0.1, "kg_per_kwh": None}, "Give both, or neither"),
        ({"xi": -0.1}, "must not be negative"),
    ],
)
def test_wrong_settings_are_sentences(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(CONFIG, **changes)
