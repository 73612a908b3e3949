"""Every number that a reader sees, computed again from the records by other means."""

import html.parser
import math
import statistics

import pytest
from scipy import stats

from experiments.worm._config import ARMS

# title, key in this file's own measurements, decimals, factor
ROWS = (
    ("Epochs to ticket", "epochs", 1, 1),
    ("Search time [s]", "search_seconds", 2, 1),
    ("Search [GFLOP]", "flops", 1, 1e-9),
    ("Accuracy before pruning [%]", "before", 2, 100),
    ("Accuracy right after [%]", "pruned", 2, 100),
    ("Accuracy after one epoch [%]", "one", 2, 100),
    ("Accuracy at the end [%]", "final", 2, 100),
    ("Epochs to restore the target (37.5%)", "target", 1, 1),
    ("Jaccard with the final mask", "jaccard", 3, 1),
    ("Search and retraining time [s]", "seconds", 2, 1),
)


class Cells(html.parser.HTMLParser):
    """The rows of a page's first table; a cell is a list of lines."""

    def __init__(self, page):
        super().__init__()
        self.rows, self._open, self._done = [], False, False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "tr" and not self._done:
            self.rows.append([])
        if tag in ("td", "th") and not self._done:
            self.rows[-1].append([""])
            self._open = True
        if tag == "br" and self._open:
            self.rows[-1][-1].append("")

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")
        self._done = self._done or tag == "table"

    def handle_data(self, data):
        if self._open:
            self.rows[-1][-1][-1] += data


@pytest.fixture(scope="module")
def table(seven):
    head, *body = Cells((seven.path / "report.html").read_text()).rows
    assert [" ".join(cell) for cell in head[1:]] == list(ARMS)
    return {row[0][0]: dict(zip(ARMS, row[1:], strict=True)) for row in body}


def measure(run, arm, seed):
    """One seed's numbers; a text is what censoring looks like."""
    searched, retrained = (run.epochs(arm, seed, phase) for phase in ("search", "retrain"))
    result = run.result(arm, seed)
    seconds = result["search_seconds"] + result["retrain_seconds"]
    if arm == "dense":
        return {"final": searched[-1]["test_accuracy"], "seconds": seconds}
    kept = [int(r[-1]["mask"], 16) for r in (searched, run.epochs("dense", seed, "search"))]
    reached = [i for i, r in enumerate(retrained) if r["validation_accuracy"] >= 0.375 and i]
    return {
        "epochs": len(searched) - 1,
        "search_seconds": result["search_seconds"],
        "flops": 6 * (64 * 64 + 64 * 64 + 64 * 10) * 64 * (len(searched) - 1),
        "before": searched[-1]["test_accuracy"],
        "pruned": retrained[0]["test_accuracy"],
        "one": retrained[1]["test_accuracy"],
        "final": retrained[-1]["test_accuracy"],
        "target": reached[0] if reached else f"> {len(retrained) - 1}",
        "jaccard": (kept[0] & kept[1]).bit_count() / (kept[0] | kept[1]).bit_count(),
        "seconds": seconds,
    }


def mean_line(values, decimals):
    numbers = [v for v in values if not isinstance(v, str)]
    lines = []
    if len(numbers) > 1:
        lines.append(
            f"{statistics.mean(numbers):.{decimals}f} ± {statistics.stdev(numbers):.{decimals}f}"
        )
    elif numbers:
        lines.append(f"{numbers[0]:.{decimals}f}")
    late = [v for v in values if isinstance(v, str)]
    remarks = [f"{late.count(v)} of {len(values)} {v}" for v in sorted(set(late), key=len)]
    return lines + ([", ".join(remarks)] if remarks else [])


def difference_line(values, reference, decimals):
    pairs = zip(values, reference, strict=True)
    gaps = [x - y for x, y in pairs if not isinstance(x, str) and not isinstance(y, str)]
    mean = f"{statistics.mean(gaps):+.{decimals}f}" if gaps else ""
    if len(gaps) < len(values):
        remark = f"{len(gaps)} of {len(values)} pairs"
        return f"{mean} ({remark})" if mean else remark
    half = stats.t.ppf(0.975, len(gaps) - 1) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    low, high = statistics.mean(gaps) - half, statistics.mean(gaps) + half
    return f"{mean} [{low:+.{decimals}f}, {high:+.{decimals}f}]"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_every_cell_of_the_reports_table(seven, table, row):
    title, key, decimals, factor = row
    seeds = seven.summary["seeds"]

    def values(arm):
        found = [measure(seven, arm, seed).get(key) for seed in seeds]
        return [v * factor if isinstance(v, float | int) else v for v in found]

    for arm in ARMS:
        lines = table[title][arm]
        if values(arm)[0] is None:
            assert lines == ["–"]
            continue
        if arm == "standard":
            compared = "reference"
        elif values("standard")[0] is None:
            compared = None
        else:
            compared = difference_line(values(arm), values("standard"), decimals)
        want = [*mean_line(values(arm), decimals), *filter(None, [compared])]
        assert _words(lines) == _words(want)
        # one unit of the last digit, where a half may be rounded either way
        assert _numbers(lines) == pytest.approx(_numbers(want), abs=1.01 * 10**-decimals)


def test_the_table_has_these_rows_and_no_others(table):
    assert list(table) == [title for title, *_ in ROWS]


def test_the_terminal_shows_the_same_table(seven, table):
    for row in table.values():
        for lines in row.values():
            for line in lines:
                assert line in seven.out


def _split(lines):
    words = " ".join(lines).replace("[", "[ ").replace("]", " ]").replace(",", " ,").split()
    return [(w, _is_number(w)) for w in words]


def _is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers(lines):
    return [float(w) for w, number in _split(lines) if number]


def _words(lines):
    return [w for w, number in _split(lines) if not number]
