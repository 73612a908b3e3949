from html.parser import HTMLParser

import pytest
from rich.console import Console

from experiments.report import Censored, Column, Table, paired, summary

TABLE = Table(
    "Tickets | seeds <3>",
    (
        Column("arm"),
        Column("epochs", spec=".1f", note="censored at 12."),
        Column("accuracy", unit="%", spec=".2f"),
        Column("drawn"),
    ),
    (
        ("dense & co", summary([2, 3, Censored(12)]), (97.123, paired([3.0], [2.5])), True),
        ("a<b>|c", Censored(12), None, 1234),
    ),
    notes=("Mean ± sd.",),
)


class Cells(HTMLParser):
    """Text of each cell by row, and every tag in order."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.rows, self.open, self.tags = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
        elif tag == "br":
            self.rows[-1][-1] += "\n"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data


def test_plain_text_shows_every_cell_aligned():
    text = TABLE.text(100)
    lines = text.splitlines()
    assert lines[0] == "Tickets | seeds <3>"
    assert lines[2].split() == ["arm", "epochs", "accuracy", "[%]", "drawn"]
    assert [line.split() for line in lines[4:7]] == [
        ["dense", "&", "co", "2.5", "±", "0.7", "(1", "of", "3", ">", "12)", "97.12", "yes"],
        ["+0.50"],
        ["a<b>|c", ">", "12", "–", "1234"],
    ]
    # numbers end in one column
    assert lines[4].index("97.12") + len("97.12") == lines[5].index("+0.50") + len("+0.50")
    assert lines[-2:] == ["Mean ± sd.", "epochs: censored at 12."]


def test_narrow_text_continues_below_and_repeats_the_row_names():
    text = TABLE.text(40)
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("dense & co") == 2
    for word in ("2.5 ± 0.7 (1 of 3 > 12)", "97.12", "yes", "1234"):
        assert text.count(word) == 1


def test_rich_does_not_read_cells_as_markup(capsys):
    table = Table("T", (Column("a"), Column("b")), (("[bold]x[/bold]", "[-0.2, +0.3]"),))
    Console(width=60).print(table.rich())
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "[-0.2, +0.3]" in out


def test_markdown_escapes_bars_and_angle_brackets():
    lines = TABLE.markdown().splitlines()
    assert lines == [
        "**Tickets \\| seeds &lt;3>**",
        "",
        "| arm | epochs | accuracy [%] | drawn |",
        "|:---|---:|---:|---:|",
        "| dense &amp; co | 2.5 ± 0.7 (1 of 3 > 12) | 97.12<br>+0.50 | yes |",
        "| a&lt;b>\\|c | > 12 | – | 1234 |",
        "",
        "Mean ± sd.",
        "",
        "epochs: censored at 12.",
    ]


def test_html_has_the_same_cells_escaped():
    page = TABLE.html()
    cells = Cells(page)
    assert cells.open == []
    assert cells.rows == [
        ["arm", "epochs", "accuracy [%]", "drawn"],
        ["dense & co", "2.5 ± 0.7 (1 of 3 > 12)", "97.12\n+0.50", "yes"],
        ["a<b>|c", "> 12", "–", "1234"],
    ]
    assert "b" not in cells.tags
    assert '<td class="number">1234</td>' in page
    assert "<caption>Tickets | seeds &lt;3&gt;</caption>" in page


def test_alignment_follows_the_cells_unless_given():
    columns = (Column("a"), Column("text"), Column("number"), Column("forced", align="left"))
    rule = Table("T", columns, (("x", "y", 1.0, 2.0),)).markdown().splitlines()[3]
    assert rule == "|:---|:---|---:|:---|"


def test_numbers_follow_their_columns_format():
    table = Table("T", (Column("a"), Column("b", spec=".1e")), (("x", 123456.0), ("y", 7)))
    assert table.markdown().splitlines()[-2:] == ["| x | 1.2e+05 |", "| y | 7 |"]


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"row 1 of the table 'T' has 1 cells for 2 columns"):
        Table("T", (Column("a"), Column("b")), (("x", 1), ("y",)))
