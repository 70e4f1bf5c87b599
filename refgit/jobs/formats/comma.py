"""CSV: a row as it is, separated by commas; an empty error means none, and lists are JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from refgit.jobs.formats.base import Format
from refgit.jobs.formats.lines import checked
from refgit.jobs.journal.disk import write_whole
from refgit.jobs.parquet import valid_text
from refgit.jobs.rows import LISTS, NUMBERS, OWN, Row


class CommaFormat(Format):
    """Comma-separated values, with a line of names above them, in UTF-8."""

    name = "csv"

    def named(self, image: str) -> str:
        """The name without what UTF-8 has no letters for."""
        return str(valid_text(image))

    def read(self) -> Iterator[Row]:
        """Read the rows back."""
        with open(self.out, newline="", encoding="utf-8-sig") as stream:
            lines = csv.DictReader(stream, strict=True)
            if not set(OWN) <= set(lines.fieldnames or ()):
                raise ValueError(f"its first line does not name the columns {', '.join(OWN)}.")
            try:
                for line in lines:
                    yield checked(_row(line), f"line {lines.line_num}")
            except csv.Error as error:
                raise ValueError(f"line {lines.line_num}: {error}.") from error

    def write(self, path: str, rows: Iterable[Row], fields: Sequence[str], job: str) -> None:
        """Write rows to a file."""
        write_whole(path, _lines(rows, [*OWN, *fields]))


def _row(line: dict[str, Any]) -> Row:
    if None in line or None in line.values():
        raise ValueError("a line has more or fewer values than there are columns.")
    row: Row = {name: _value(name, text) for name, text in line.items() if text}
    return {
        "image": "",
        "error": None,
        **row,
        "caption": None if line["error"] else line["caption"],
    }


def _value(name: str, text: str) -> Any:
    return float(text) if name in NUMBERS else json.loads(text) if name in LISTS else text


def _written(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _lines(rows: Iterable[Row], names: Sequence[str]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # with "\n" alone it would not quote "\r"
    writer.writerow(names)
    for row in rows:
        yield _taken(text)
        writer.writerow([valid_text(_written(row.get(name))) for name in names])
    yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
    found = text.getvalue().removesuffix("\r\n").encode() + b"\n"
    text.seek(0)
    text.truncate()
    return found
