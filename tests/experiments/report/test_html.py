import base64
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from experiments.report import (
    Callout,
    Code,
    Column,
    Facts,
    Markup,
    Picture,
    Section,
    Table,
    html_report,
)

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks nesting and collects tags with attributes, text by innermost tag, and addresses."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.addresses = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.text.append((self.open[-1], data))


def figure():
    drawn = Figure(figsize=(2, 2))
    drawn.subplots().plot([0, 1], [0, 1])
    return drawn


@pytest.fixture(scope="module")
def page():
    table = Table("Arms", (Column("arm"), Column("x")), (("<worm>", 1.0),))
    facts = Facts("Config", {"model": {"kind": "vgg", "widths": (16, 32)}, "cap": None, "a<b": "&"})
    picture = Picture(figure(), 'A "line" & more', alt='a "line"')
    return html_report(
        "Tickets <early>",
        [
            Section("Result & table", ["x < y", Callout("arm <worm> failed"), table]),
            Section(
                "Picture",
                [picture, Markup("<ul><li>made <b>elsewhere</b> &amp; escaped</li></ul>")],
            ),
            Section("Run", [Code("python -m experiments.worm --out '<x>'\n--seeds 3"), facts]),
        ],
        subtitle="3 seeds & 2 cores",
    )


def test_the_page_parses_and_is_complete(page):
    parsed = Page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert ("meta", {"charset": "utf-8"}) in parsed.tags
    for tag, text in [
        ("title", "Tickets <early>"),
        ("h1", "Tickets <early>"),
        ("h2", "Result & table"),
        ("p", "x < y"),
        ("p", "arm <worm> failed"),
        ("p", "3 seeds & 2 cores"),
        ("th", "<worm>"),
        ("pre", "python -m experiments.worm --out '<x>'\n--seeds 3"),
        ("figcaption", 'A "line" & more'),
    ]:
        assert (tag, text) in parsed.text
    assert not {"early", "worm", "x"} & {tag for tag, _ in parsed.tags}


def test_markup_stands_as_it_is(page):
    assert "<ul><li>made <b>elsewhere</b> &amp; escaped</li></ul>" in page
    assert ("b", "elsewhere") in Page(page).text


def test_nested_facts_are_written_with_dots(page):
    text = [data for _, data in Page(page).text]
    for name, value in [
        ("model.kind", "vgg"),
        ("model.widths", "16, 32"),
        ("cap", "–"),
        ("a<b", "&"),
    ]:
        assert text[text.index(name) + 1] == value


def test_nothing_outside_the_file_is_needed(page):
    parsed = Page(page)
    ids = {attrs["id"] for _, attrs in parsed.tags if "id" in attrs}
    for address in parsed.addresses:
        assert address.startswith("data:image/svg+xml;base64,") or address.removeprefix("#") in ids
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    assert "url(" not in page
    assert "@import" not in page


def test_the_picture_is_inside_and_is_well_formed(page):
    (image,) = [attrs for tag, attrs in Page(page).tags if tag == "img"]
    assert image["alt"] == 'a "line"'
    svg = base64.b64decode(image["src"].partition(",")[2])
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    shown = [el for el in root.iter() for name in el.attrib if name.endswith("href")]
    assert all(
        value.startswith(("#", "data:"))
        for el in shown
        for name, value in el.attrib.items()
        if name.endswith("href")
    )


def test_sections_are_linked_from_the_top(page):
    links = re.findall(r'<a href="#(s\d)">([^<]*)</a>', page)
    assert links == [("s0", "Result &amp; table"), ("s1", "Picture"), ("s2", "Run")]


def test_the_same_report_gives_the_same_page():
    pages = [html_report("T", [Section("S", [Picture(figure(), "c")])]) for _ in range(2)]
    assert pages[0] == pages[1]


def test_an_unknown_block_names_its_section():
    with pytest.raises(TypeError, match="section 'S' holds a int; a block is a string, Table"):
        html_report("T", [Section("S", [3])])
