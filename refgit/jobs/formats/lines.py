"""JSON lines: a row as it is, on each line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from refgit.jobs.formats.base import Format
from refgit.jobs.journal.disk import write_whole
from refgit.jobs.rows import OWN, Row, line_of


class LinesFormat(Format):
    """A line of JSON for each row."""

    name = "jsonl"

    def read(self) -> Iterator[Row]:
        """Read the rows back."""
        return rows_in(self.out)

    def write(self, path: str, rows: Iterable[Row], fields: Sequence[str], job: str) -> None:
        """Write rows to a file."""
        write_whole(path, map(line_of, rows))


def rows_in(path: str) -> Iterator[Row]:
    """Read rows from lines of JSON.

    Raises
    ------
    ValueError
        A line is not a row.
    """
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield checked(object_in(line, number), f"line {number}")


def object_in(line: bytes, number: int) -> Row:
    """Read a line as a JSON object.

    Raises
    ------
    ValueError
        It is none.
    """
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"line {number} is not a JSON object.")
    return found


def checked(row: Row, where: str) -> Row:
    """Return a row that has a caption or an error, and a name.

    Raises
    ------
    ValueError
        It has not.
    """
    image, caption, error = (row.get(name) for name in ("image", "caption", "error"))
    texts = isinstance(image, str) and isinstance(caption if error is None else error, str)
    if not texts or (caption is not None and error is not None):
        raise ValueError(
            f"{where} is not a row; expected image, and either caption or error, as texts."
        )
    return {"index": 0, **{name: row.get(name) for name in OWN if name != "index"},
            **{name: value for name, value in row.items() if name not in OWN}}  # fmt: skip
