"""The pruning set: balanced, fixed, saved, and refused where a class is missing."""

import numpy as np
import pytest

from wormjax import foresight

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 20))


def test_as_many_of_every_class_in_turn():
    chosen = foresight.pruning_set(LABELS, classes=5, seed=3, per_class=4)
    assert LABELS[chosen.rows].tolist() == [0, 1, 2, 3, 4] * 4
    assert len(set(chosen.rows.tolist())) == 20  # samples read = per_class x classes (defect 2)
    again = foresight.pruning_set(LABELS, classes=5, seed=3, per_class=4)
    other = foresight.pruning_set(LABELS, classes=5, seed=4, per_class=4)
    assert chosen.rows.tolist() == again.rows.tolist() != other.rows.tolist()


def test_the_first_of_each_class_and_without_regard_to_class():
    first = foresight.pruning_set(LABELS, classes=5, seed=0, per_class=2, subset="first_balanced")
    assert set(first.rows.tolist()) == {
        r for c in range(5) for r in np.flatnonzero(c == LABELS)[:2]
    }
    free = foresight.pruning_set(LABELS, classes=5, seed=0, per_class=2, subset="random")
    assert len(set(free.rows.tolist())) == 10


def test_saved_and_read_again(tmp_path):
    chosen = foresight.pruning_set(LABELS, classes=5, seed=3)
    foresight.save_pruning_set(tmp_path / "set.json", chosen)
    read = foresight.load_pruning_set(tmp_path / "set.json", LABELS)
    assert read.rows.tolist() == chosen.rows.tolist()
    assert read[1:] == chosen[1:]
    with pytest.raises(ValueError, match="another training set"):
        foresight.load_pruning_set(tmp_path / "set.json", LABELS[::-1])
    (tmp_path / "set.json").write_text("{}")
    with pytest.raises(ValueError, match="no pruning set"):
        foresight.load_pruning_set(tmp_path / "set.json", LABELS)


@pytest.mark.parametrize(
    ("labels", "settings", "sentence"),
    [
        (LABELS, {"classes": 6}, "Class 5 has 0 examples"),
        (LABELS, {"classes": 5, "per_class": 21}, "Class 0 has 20 examples"),
        (LABELS, {"classes": 4}, "labels run from 0 to 4"),
        (LABELS, {"classes": 5, "per_class": 0}, "an empty pruning set"),
        (LABELS * 0.5, {"classes": 5}, "labels are float64"),
        (LABELS[:3], {"classes": 5, "subset": "random"}, "has 3 examples, and 50 are wanted"),
    ],
)
def test_refusals(labels, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        foresight.pruning_set(labels, seed=0, **settings)
