"""Parquet files: images that a job reads from a column. Needs pyarrow."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

from refgit.errors import JobError

_ROWS_READ = 32  # at a time: their images are held in memory


def require_pyarrow() -> Any:
    """Return pyarrow.parquet.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need the package pyarrow, which is not installed here: run "
            "pip install pyarrow, or write to a file that ends in .jsonl."
        ) from error
    return pyarrow.parquet


class Table:
    """Images in a column of a Parquet file.

    Parameters
    ----------
    file : str
    column : str
        Its values are encoded images, paths, or pairs of both, {bytes, path}, as the package
        datasets writes them; of a pair the bytes are taken where there are any.

    Raises
    ------
    JobError
        It is not a Parquet file, or has no such column.
    """

    def __init__(self, file: str, column: str) -> None:
        parquet = require_pyarrow()
        self.file, self.column = file, column
        with open(file, "rb"):  # says of a missing file what others say
            pass
        try:
            with parquet.ParquetFile(file) as table:
                schema, metadata = table.schema_arrow, table.metadata
                self._sizes = [
                    metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)
                ]
        except Exception as error:  # pyarrow has many
            raise JobError(
                f"{file} cannot be read as a Parquet file: {_first_line(error)}."
            ) from error
        if column not in schema.names:
            raise JobError(
                f"{file} has no column {column!r}; it has {', '.join(schema.names)}. Name the one "
                "with the images, as in --column picture."
            )
        self._check_type(schema.field(column).type)

    def _check_type(self, kind: Any) -> None:
        import pyarrow as pa

        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        pair = pa.types.is_struct(plain)
        names = {plain.field(i).name for i in range(plain.num_fields)} if pair else set()
        texts = pa.types.is_string(plain) or pa.types.is_large_string(plain)
        data = pa.types.is_binary(plain) or pa.types.is_large_binary(plain)
        self._has_paths = not data
        if not (texts or data or names & {"bytes", "path"}):
            raise JobError(
                f"column {self.column!r} of {self.file} holds {kind}; expected encoded images "
                "(binary), paths (string), or a struct with fields bytes and path."
            )

    def __len__(self) -> int:
        return sum(self._sizes)

    @property
    def relative(self) -> bool:
        """Whether the working directory matters."""
        return self._has_paths or not os.path.isabs(self.file)

    def contents(self, start: int) -> Iterator[tuple[str, str | bytes | Exception]]:
        """Read the column, a few rows at a time, from the group of rows that `start` lies in."""
        groups, first = list(range(len(self._sizes))), 0
        while groups and first + self._sizes[groups[0]] <= start:
            first += self._sizes[groups.pop(0)]
        if not groups:
            return
        with require_pyarrow().ParquetFile(self.file, pre_buffer=False) as table:
            batches = table.iter_batches(_ROWS_READ, row_groups=groups, columns=[self.column])
            values = (value for batch in batches for value in batch.column(0))
            for row, value in enumerate(values, first):
                if row >= start:
                    yield self._content(row, value.as_py())

    def _content(self, row: int, value: Any) -> tuple[str, str | bytes | Exception]:
        name, content = content_of(value)
        error = ValueError(f"{self.file} has no image in row {row}.")
        return name or f"{self.file}#{row}", content or error

    def identity(self) -> dict[str, Any]:
        """Hash the file's size and its footer, which describes each column."""
        with open(self.file, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(size - 8)  # the footer's length, and a mark
            length = int.from_bytes(stream.read(4), "little")
            stream.seek(size - 8 - length)
            digest = hashlib.sha256(stream.read(length))
        digest.update(str(size).encode())
        return {"rows": len(self), "sha256": digest.hexdigest()}


def content_of(value: Any) -> tuple[str | None, str | bytes | None]:
    """Name and content of an image in a column; see `Table`."""
    if isinstance(value, dict):
        return value.get("path") or None, value.get("bytes") or value.get("path") or None
    return (value or None, value or None) if isinstance(value, str) else (None, value or None)


def valid_text(value: Any) -> Any:
    r"""Escape what UTF-8 has no letters for, as in "a\udcff"; file names may hold it."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
