"""The README's support table is the one that these tests stand for."""

from pathlib import Path

import pytest
from support import table

pytestmark = pytest.mark.usefixtures("as_users_have_it")


def test_the_readme_has_the_table():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    assert table() in readme
