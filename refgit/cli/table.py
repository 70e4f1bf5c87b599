"""A table: drawn by rich on a terminal, plain aligned text everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from refgit.cli.output import one_line, put
from refgit.cli.terminal import rich_console


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, and an empty line below it.

    Columns in which every cell is a number, with or without a unit, are right-aligned.

    Parameters
    ----------
    title : str
        Above the table; empty for none.
    header : sequence of str
        A cell a column.
    rows : sequence of sequences of str
        As many cells each.
    """
    lines = [[one_line(cell) for cell in row] for row in rows]
    right = [all(_is_number(row[i]) for row in lines) for i in range(len(header))]
    console = rich_console(sys.stdout)
    if console is not None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
        for name, flush_right in zip(header, right, strict=True):
            table.add_column(Text(name), justify="right" if flush_right else "left")
        for row in lines:
            table.add_row(*map(Text, row))
        with console.capture() as drawn:
            console.print(table)
        put(drawn.get(), end="")
        return
    if title:
        put(title)
    for line in aligned([header, *lines], right):
        put(("  " if title else "") + line)
    put()


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Return each row as a line of columns, which are flush right where `right` says so."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if flush_right else cell.ljust(width)
            for cell, width, flush_right in zip(row, widths, right, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, with or without a unit; an empty cell counts as one."""
    return cell[:1].isdigit() or cell in ("", "-")
