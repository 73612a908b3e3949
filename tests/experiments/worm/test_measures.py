"""Records in, numbers out: against hand-made cases."""

import numpy as np
import pytest

from experiments.report import Censored
from experiments.worm._config import WormConfig
from experiments.worm._measures import (
    History,
    distance_rows,
    distances,
    flops_curve,
    measure,
)
from experiments.worm._search import mask_from_text, mask_text


@pytest.mark.parametrize("size", [1, 7, 8, 9, 96])
def test_a_mask_survives_its_text(size):
    mask = np.random.default_rng(size).random(size) < 0.5
    text = mask_text(mask)
    assert len(text) == 2 * -(-size // 8)
    np.testing.assert_array_equal(mask_from_text(text, size), mask)


def test_a_masks_text_is_readable_by_hand():
    assert mask_text([True, False, False, False, False, False, False, True, True]) == "8180"


def test_distances_of_every_two_masks():
    masks = [mask_text(m) for m in ([1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 1, 1, 1])]
    want = [[0, 0.4, 1], [0.4, 0, 0.6], [1, 0.6, 0]]
    np.testing.assert_allclose(distances(masks, 5), want)


def epoch(phase, number, **fields):
    plain = {"validation_accuracy": 0.1 * number, "test_accuracy": 0.01 * number}
    head = {"kind": "epoch", "phase": phase, "arm": "standard", "seed": 0, "epoch": number}
    return {**head, **plain, **fields}


def result(emerged, **fields):
    head = {"kind": "result", "arm": "standard", "seed": 0, "emerged_at": emerged, "cohort": 2}
    return {**head, "search_seconds": 3.0, "retrain_seconds": 5.0, **fields}


CONFIG = WormConfig(window=2, search_cap=3, epochs=5, target=0.4)


def one(records, config=CONFIG):
    measured = measure(History(records), config, "standard", [0], epoch_flops=10, size=4)
    return {key: value for key, [value] in measured.items()}


def test_a_ticket_at_epoch_2_reaches_the_target_two_epochs_later():
    records = [
        *(epoch("search", e, mask="c0") for e in range(3)),
        *(epoch("retrain", e) for e in range(2, 6)),
        result(2),
        *({**epoch("search", e, mask="a0"), "arm": "dense"} for e in range(6)),
    ]
    assert one(records) == {
        "epochs_to_ticket": 2,
        "search_seconds": 1.5,  # two seeds shared the clock
        "search_flops": 20,
        "accuracy_before": 0.02,
        "accuracy_pruned": 0.02,
        "accuracy_one_epoch": 0.03,
        "accuracy_final": 0.05,
        "epochs_to_target": 2,
        "jaccard": pytest.approx(1 / 3),  # {0, 1} and {0, 2}
        "total_seconds": 4.0,
    }
    assert one(records[:-1])["jaccard"] is None  # dense training has not ended


def test_a_target_that_is_not_reached_is_censored_at_the_end():
    records = [
        *(epoch("search", e, mask="c0") for e in range(3)),
        *(epoch("retrain", e, validation_accuracy=0.3) for e in range(2, 6)),
        result(2),
    ]
    assert one(records)["epochs_to_target"] == Censored(3)


def test_the_network_right_after_pruning_has_not_restored_anything():
    records = [
        *(epoch("search", e, mask="c0") for e in range(3)),
        *(epoch("retrain", e, validation_accuracy=0.9) for e in range(2, 6)),
        result(2),
    ]
    assert one(records)["epochs_to_target"] == 1


def test_without_a_ticket_nothing_but_the_search_is_measured():
    measured = one([*(epoch("search", e, mask="c0") for e in range(4)), result(None)])
    assert measured["epochs_to_ticket"] == Censored(3)
    assert measured["search_flops"] == 30
    unmeasured = {key for key, value in measured.items() if value is None}
    assert unmeasured == {
        *("accuracy_before", "accuracy_pruned", "accuracy_one_epoch", "accuracy_final"),
        *("epochs_to_target", "jaccard"),
    }


def test_the_curve_goes_on_where_the_search_ended():
    history = History(
        [*(epoch("search", e) for e in range(3)), *(epoch("retrain", e) for e in range(2, 4))]
    )
    flops, accuracies = flops_curve(history, "standard", 0, epoch_flops=10)
    assert flops == [0, 10, 20, 20, 30]
    assert accuracies == pytest.approx([0, 0.1, 0.2, 0.2, 0.3])


def test_rows_of_distances_begin_when_the_window_is_full():
    history = History([epoch("search", e, largest=e / 10) for e in range(4)])
    rows = distance_rows(history, "standard", [0, 1], epochs=5, window=3, key="largest")
    np.testing.assert_allclose(rows, [[np.nan, np.nan, 0.2, 0.3, np.nan], [np.nan] * 5])
