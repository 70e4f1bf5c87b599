"""docs/differences.md: each row leads to a section that shows its figure, and each can be run.

What its sections quote of transformers is run in tests/live/test_differences_live.py.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import pytest

from helpers.backends import ROOT
from helpers.differences_page import PAGE, QUOTES, names, sections, table


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What the Python blocks of each section print; those above the first section come first."""
    space: dict[str, Any] = {}
    start = PAGE.index("```python")
    exec(PAGE[start:].split("```")[1].split("\n", 1)[1], space)
    found = {}
    for section in sections():
        out = io.StringIO()
        with contextlib.chdir(ROOT), contextlib.redirect_stdout(out):
            for block in section.blocks:
                exec(block, space)
        found[section.anchor] = out.getvalue()
    return found


def test_every_row_of_the_table_leads_to_a_section_and_every_section_has_a_row() -> None:
    assert [anchor for _, anchor in table()] == [section.anchor for section in sections()]
    assert len(table()) == 30


def test_every_section_can_be_run_with_refgit_alone(printed: dict[str, str]) -> None:
    assert [anchor for anchor, text in printed.items() if not text.strip()] == []


def test_the_effects_of_the_table_are_what_the_sections_print(printed: dict[str, str]) -> None:
    texts = {section.anchor: section.quoted for section in sections()}
    for effect, anchor in table():
        for figure in re.findall(r"`([^`]+)`", effect):
            shown = texts[anchor] + printed[anchor]
            assert re.search(rf"(?<![\w.]){re.escape(figure)}(?![\w.]*\d)", shown), (anchor, figure)


def test_the_page_quotes_every_demonstration_there_is_and_no_other() -> None:
    assert set(QUOTES) == names()
    assert all(QUOTES.values())
