import pytest

from benchmarks._rows import HEAD, Row, duration, number
from benchmarks._timing import Samples


def timed(ratios, target=None, at_least=False):
    samples = Samples({"a": list(ratios), "b": [1.0] * len(ratios)})
    return Row.timed("a / b", samples, "a", "b", target, at_least)


STEADY, NOISY = [1.0] * 8, [0.5, 0.6, 0.7, 0.9, 1.1, 1.3, 1.4, 1.5]


@pytest.mark.parametrize(
    ("ratios", "target", "at_least", "holds", "verdict"),
    [
        (STEADY, 1.1, False, True, "yes"),
        (STEADY, 0.9, False, False, "no"),
        (STEADY, 0.9, True, True, "yes"),
        (STEADY, 1.1, True, False, "no"),
        (NOISY, 1.2, False, True, "yes?"),
        (NOISY, 0.8, False, False, "no?"),
        (NOISY, 0.8, True, True, "yes?"),
        (NOISY, 1.2, True, False, "no?"),
        (NOISY, 9.0, False, True, "yes"),
        (NOISY, None, False, None, ""),
    ],
)
def test_verdicts(ratios, target, at_least, holds, verdict):
    row = timed(ratios, target, at_least)
    assert (row.holds, row.verdict, row.cells()[-1]) == (holds, verdict, verdict)


def test_a_timed_ratio_at_its_target_is_not_decided():
    assert timed(STEADY, 1.0).verdict == "yes?"


def test_a_counted_ratio_is_exact():
    assert Row.counted("bytes", 3.0, 2.0, target=1.5).verdict == "yes"
    assert Row.counted("bytes", 3.0, 2.0, target=1.4).verdict == "no"
    cells = dict(zip(HEAD, Row.counted("bytes", 3.0, 2.0, target=1.4).cells(), strict=True))
    shown = {head: cell for head, cell in cells.items() if cell}
    assert shown == {"ratio": "bytes", "median": "1.500", "target": "<= 1.400", "holds": "no"}


def test_the_cells_of_a_timed_ratio():
    assert timed([0.5, 2.0, 20.0], 3.0, at_least=True).cells() == (
        *("a / b", "2.000", "0.500-20", "0.500-20", "3", "2.00 s / 1.00 s", ">= 3.000", "no?"),
    )


def test_numbers_and_durations_are_short():
    assert [number(x) for x in (1.0061, 0.25, 123.4, 0.00355, 20)] == [
        *("1.006", "0.250", "123", "0.00355", "20"),
    ]
    assert [duration(x) for x in (6.714, 0.0574, 0.000353)] == ["6.71 s", "57.4 ms", "0.353 ms"]
