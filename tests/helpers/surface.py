"""docs/surface.md taken apart: its tables, their rows, and the tests that they name."""

from __future__ import annotations

import re
from typing import NamedTuple

from helpers.backends import ROOT

PAGE = ROOT / "docs" / "surface.md"


class Row(NamedTuple):
    """One line of a table: the class it belongs to, the table's title, and its three cells."""

    section: str
    table: str
    name: str
    meaning: str
    proofs: tuple[str, ...]


def read_rows() -> list[Row]:
    rows, section, table = [], "", ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section, table = line[3:], ""
        elif line.startswith("### "):
            table = line[4:]
        elif line.startswith("|") and not line.startswith(("| name |", "|---")):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 3, line
            name, meaning, proofs = cells
            assert re.fullmatch("`[^`]+`", name), line
            rows.append(
                Row(section, table, name[1:-1], meaning, tuple(re.findall("`([^`]+)`", proofs)))
            )
    return rows


ROWS = read_rows()


def names(section: str, table: str) -> set[str]:
    """The names in one table of one class."""
    return {row.name for row in ROWS if (row.section, row.table) == (section, table)}
