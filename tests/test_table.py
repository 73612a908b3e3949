"""Tables of text."""

from wormjax._table import as_html, as_text

HEAD, ROWS = ("leaf", "kept", "why"), [("w", "1,234", "a < b"), ("longer", "5", "")]


def test_text_stands_left_and_numbers_right():
    assert as_text(HEAD, ROWS, {1}, ["A note."]).split("\n") == [
        "leaf     kept  why",
        "w       1,234  a < b",
        "longer      5",
        "A note.",
    ]


def test_html_is_escaped_and_marks_numbers():
    html = as_html("<Title>", HEAD, ROWS, {1}, ["x & y"])
    assert "<caption>&lt;Title&gt;</caption>" in html
    assert '<th scope="row">w</th><td class="number">1,234</td><td>a &lt; b</td>' in html
    assert html.endswith('<p class="note">x &amp; y</p>')
    assert html.count("<tr>") == 3
