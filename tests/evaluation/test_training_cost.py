"""The papers' training costs from their forward passes."""

import math
from fractions import Fraction

import pytest

from wormjax.evaluation import detector_flops, draw_and_retrain_flops, energy, training_flops

VGG16, RESNET18 = 627447908, 3637254632  # forward passes, see test_flops.py


def test_o_f3_training_of_the_papers_networks():
    vgg = training_flops(VGG16, images=50_000, epochs=160)
    assert vgg == 15058749792000000  # exact, 15.06 P
    assert round(vgg / 0.05e15, 1) == 301.2
    resnet = training_flops(RESNET18, images=1_281_167, epochs=90)
    assert round(resnet / 1e15, 1) == 1258.2
    assert math.isclose(resnet / 1e15, 1259.13, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("both", "expected", "printed"),
    [("2424.86", 1177.146, 1177.15), ("2168.89", 952.461, 952.46)],
)
def test_o_f4_eleven_epochs_of_search_make_the_papers_rows(both, expected, printed):
    """Network slimming trains the whole network and the pruned one, 90 epochs each."""
    dense = Fraction("1259.13") / 90
    pruned = Fraction(both) / 90 - dense
    cost = draw_and_retrain_flops(dense, pruned, drawn_at=11, epochs=90)
    assert round(float(cost), 3) == expected
    assert round(float(cost), 2) == printed


@pytest.mark.parametrize(("ratio", "expected"), [(0.9258, 1177.12), (0.7225, 952.43)])
def test_with_the_rounded_ratios_the_rows_come_out_to_a_twentieth(ratio, expected):
    dense = 1259.13 / 90
    cost = draw_and_retrain_flops(dense, ratio * dense, drawn_at=11, epochs=90)
    assert abs(cost - expected) < 0.05


def test_a_search_until_the_end_is_dense_training():
    assert draw_and_retrain_flops(7, 3, drawn_at=5, epochs=5) == 35
    assert draw_and_retrain_flops(7, 3, drawn_at=0, epochs=5) == 15


def test_o_f5_the_detector_of_vgg16():
    assert round(detector_flops(4224), 1) == 161074.6
    assert detector_flops(1) == 2


def test_energy_is_linear_and_says_its_constants():
    rates = {"joules_per_flop": 0.25, "joules_per_byte": 8.0}
    assert energy(100, 3, **rates) == 49.0
    with pytest.raises(TypeError, match="joules_per_byte"):
        energy(100, 3, joules_per_flop=0.25)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: training_flops(1, images=-1), r"images is -1\."),
        (lambda: training_flops(math.nan, images=1), r"forward is nan\."),
        (lambda: draw_and_retrain_flops(2, 1, drawn_at=6, epochs=5), "drawn_at=6 of 5 epochs"),
        (lambda: detector_flops(0), "scores=0"),
        (lambda: energy(1, -2, joules_per_flop=1, joules_per_byte=1), r"bytes_moved is -2\."),
    ],
)
def test_impossible_numbers_are_errors(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
