import json

import pytest

from experiments.report import Censored, Metric, comparison, comparison_records

ARMS = {
    "dense": {"accuracy": [0.97, 0.98, 0.99]},
    "standard": {
        "accuracy": [0.95, 0.96, 0.97],
        "restore": [3, 4, Censored(12)],
        "only": [1, 1, 1],
    },
    "worm": {"accuracy": [0.96, 0.96, 0.99], "restore": [2, 5, 6], "extra": [1.0, 2.0, 3.0]},
}
METRICS = [
    Metric("accuracy", "final accuracy", "%", ".1f", 100.0, note="on the test split."),
    Metric("restore", "epochs to restore", spec=".1f"),
    Metric("extra", "extra", spec=".0f"),
]


def test_each_cell_holds_the_mean_and_the_difference_to_the_reference():
    table = comparison("Arms", ARMS, METRICS, "standard")
    assert [column.title for column in table.columns] == ["", "dense", "standard", "worm"]
    assert table.rows == (
        (
            "final accuracy [%]",
            ("98.0 ± 1.0", "+2.0 [+2.0, +2.0]"),
            ("96.0 ± 1.0", "reference"),
            # differences 1, 0, 2 points: half width 4.3027 / sqrt(3) = 2.484
            ("97.0 ± 1.7", "+1.0 [-1.5, +3.5]"),
        ),
        (
            "epochs to restore",
            None,
            ("3.5 ± 0.7", "1 of 3 > 12", "reference"),
            ("4.3 ± 2.1", "+0.0 (2 of 3 pairs)"),
        ),
        ("extra", None, None, ("2 ± 1",)),
    )
    assert "95% t interval, not corrected for several comparisons" in table.notes[0]
    assert table.notes[-1] == "final accuracy: on the test split."


def test_records_hold_the_same_numbers_unscaled():
    dense, standard, worm = comparison_records(ARMS, "standard")
    assert [record["arm"] for record in (dense, standard, worm)] == ["dense", "standard", "worm"]
    assert worm["metrics"]["accuracy"]["mean"] == pytest.approx(0.97)
    assert worm["metrics"]["accuracy"]["seeds"] == [0.96, 0.96, 0.99]
    difference = worm["metrics"]["accuracy"]["difference"]
    assert difference["mean"] == pytest.approx(0.01)
    assert difference["interval"] == pytest.approx([0.01 - 0.0248414, 0.01 + 0.0248414], abs=1e-6)
    assert standard["metrics"]["restore"]["seeds"] == [3.0, 4.0, {"above": 12}]
    assert "difference" not in standard["metrics"]["accuracy"]
    assert "difference" not in worm["metrics"]["extra"]
    json.dumps([dense, standard, worm], allow_nan=False)


@pytest.mark.parametrize("call", [lambda: comparison("T", ARMS, METRICS, "eb"),
                                  lambda: comparison_records(ARMS, "eb")])  # fmt: skip
def test_an_unknown_reference_is_refused(call):
    with pytest.raises(ValueError, match=r"'eb' is not among the arms dense, standard, worm"):
        call()


def test_arms_with_other_seeds_are_refused():
    arms = {"a": {"x": [1.0, 2.0]}, "b": {"x": [1.0]}}
    with pytest.raises(ValueError, match="the same seeds in the same order"):
        comparison("T", arms, [Metric("x", "x")], "a")
