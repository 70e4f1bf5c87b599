"""The table of `refgit compare`: a tensor on each line, narrow enough for the terminal.

Where stdout is not a terminal nothing is shortened, so that scripts see whole names.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from refgit.cli.output import one_line, put
from refgit.cli.table import aligned
from refgit.cli.terminal import is_terminal
from refgit.parity.comparison.row import Row

_HEADER = ("", "tensor", "x floor", "max abs", "max rel", "rms", "cosine", "ulp", "off", "worst at")
_LEFT = ("", "tensor", "worst at")  # flush left; the rest are numbers
_DROPPED = ("max rel", "ulp", "cosine", "rms", "max abs", "worst at")  # left out in this order
_SHORT = {
    "git.image_encoder.vision_model.encoder.layers.": "image.",
    "git.image_encoder.vision_model.": "vision.",
    "git.encoder.layer.": "text.",
}


def print_table(rows: Sequence[Row]) -> None:
    """Print rows under a header, aligned; below a row its other name, layout and remarks."""
    table = [_HEADER, *(_cells(row) for row in rows)]
    room = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    table, legend = fitted(table, room)
    header, *lines = aligned(table, [name not in _LEFT for name in table[0]])
    put(header)
    for row, line in zip(rows, lines, strict=True):
        put(line)
        remarks = _remarks(row)
        if remarks:
            put(f"     {remarks}")
    for note in legend:
        put(note)


def fitted(
    table: Sequence[tuple[str, ...]], room: int | None
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Shorten a table until it fits: names first, then the less important columns.

    Parameters
    ----------
    table : sequence of tuples of str
        The header and a line for each row, as many cells each.
    room : int or None
        Columns of the terminal; None for any number.

    Returns
    -------
    (list of tuples of str, list of str)
        And lines that say what was shortened; none where the table fits.
    """
    lines, legend = list(table), []
    if room is None or _width(lines) <= room:
        return lines, []
    for start, short in _SHORT.items():
        if any(line[1].startswith(start) for line in lines[1:]):
            legend.append(f"{short} is {start}")
            lines = [(line[0], line[1].replace(start, short, 1), *line[2:]) for line in lines]
    left_out = []
    for name in _DROPPED:
        if _width(lines) > room:
            place = lines[0].index(name)
            lines = [(*line[:place], *line[place + 1 :]) for line in lines]
            left_out.append(name)
    told = [f"({', '.join(legend)})"] if legend else []
    if left_out:
        told.append(f"(left out to fit: {', '.join(left_out)}; a file or a pipe gets them all)")
    return lines, told


def _width(table: Sequence[Sequence[str]]) -> int:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1)


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (row.error, row.max_abs, row.max_rel, row.rms)
    return (
        " " if row.ok else "*",
        f"{one_line(row.name)} {_shape(row.shape)}",
        *(f"{number:.3g}" for number in numbers),
        f"{row.cosine:.7f}",
        str(row.ulp) if row.ulp < 10**9 else f"{row.ulp:.1e}",
        f"{row.mismatching:.1%}",
        f"[{', '.join(map(str, row.worst))}]" if row.error else "",
    )


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _remarks(row: Row) -> str:
    """Their name if it is another, their layout, NaN, and the row's note."""
    shape = f" {_shape(row.other_shape)}" if row.other_shape != row.shape else ""
    renamed = f"is your {one_line(row.matched)}{shape}, by {row.how}"
    remarks = (
        renamed if row.matched != row.name else "",
        row.layout,
        f"{row.nan} NaN or infinite" if row.nan else "",
        row.note,
    )
    return "; ".join(filter(None, remarks))
