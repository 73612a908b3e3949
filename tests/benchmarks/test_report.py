import json

import pytest

from benchmarks._report import Report, parser
from benchmarks._rows import Row
from benchmarks._timing import Samples


@pytest.fixture
def report():
    made = Report("benchmarks.made_up", ["--rounds", "3"])
    samples = Samples({"ours": [2.0, 3.0, 4.0], "theirs": [1.0, 1.0, 1.0]})
    made.add(Row.timed("ours / theirs", samples, "ours", "theirs", target=5.0))
    made.add(Row.counted("bytes", 1.0, 4.0))
    made.note("compile", 0.25)
    made.note("memory", "12 bytes")
    return made


def test_the_file_holds_rows_and_where_they_come_from(report, tmp_path):
    path = tmp_path / "made_up.json"
    rows = report.finish(path)
    record = json.loads(path.read_text())
    assert record["command"] == "python -m benchmarks.made_up --rounds 3"
    assert record["benchmark"] == "benchmarks.made_up"
    assert {"python", "jax", "numpy"} <= set(record["versions"])
    assert record["hardware"]["backend"] == "cpu"
    assert len(record["load_average_before_and_after"]) == 2
    assert record["notes"] == {"compile": 0.25, "memory": "12 bytes"}
    assert [row["name"] for row in record["rows"]] == [row.name for row in rows]
    assert record["rows"][0] == {
        "name": "ours / theirs",
        "ratio": {"median": 3.0, "low": 2.0, "high": 4.0, "interval": [2.0, 4.0], "rounds": 3},
        "target": 5.0,
        "at_least": False,
        "seconds": [3.0, 1.0],
        "holds": True,
        "decided": True,
    }
    assert record["rows"][1]["ratio"]["median"] == 0.25
    assert (record["rows"][1]["holds"], record["rows"][1]["seconds"]) == (None, None)


def test_a_number_that_is_none_does_not_reach_the_file(report, tmp_path):
    report.note("compile", float("nan"))
    with pytest.raises(ValueError, match="JSON compliant"):
        report.finish(tmp_path / "made_up.json")
    assert not (tmp_path / "made_up.json").exists()


def test_a_row_is_said_when_it_is_there(report, capsys):
    capsys.readouterr()
    [first, *_] = report.rows
    report.add(first)
    assert capsys.readouterr() == ("", "ours / theirs 3.000 yes\n")


def test_the_table_is_printed_in_columns(report, capsys):
    report.finish(None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "python -m benchmarks.made_up --rounds 3"
    head = next(i for i, line in enumerate(lines) if line.startswith("ratio"))
    assert lines[head + 1].split("  ")[0] == "ours / theirs"
    assert lines[head + 1].index("3.000") == lines[head + 2].index("0.250")
    assert lines[head + 1].endswith("yes")
    assert lines[head + 3 :] == ["", "compile: 250 ms", "memory: 12 bytes"]


def test_the_file_does_not_tell_where_it_lies(tmp_path):
    path = tmp_path / "made_up.json"
    Report("benchmarks.made_up", ["--json", str(path)]).finish(path)
    assert str(tmp_path) not in path.read_text()


def test_the_flags_of_every_benchmark(tmp_path):
    args = parser("Doc.", rounds=7, seconds=2.5).parse_args([])
    assert (args.rounds, args.seconds, args.json) == (7, 2.5, None)
    args = parser("Doc.", 7, 2.5).parse_args(["--rounds", "3", "--json", str(tmp_path / "x")])
    assert (args.rounds, args.json) == (3, tmp_path / "x")
    assert vars(parser("Nothing is timed.").parse_args([])) == {"json": None}
