"""Parquet: a row as it is, in a table of typed columns, compressed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from refgit.jobs.formats.base import Format
from refgit.jobs.formats.lines import checked
from refgit.jobs.parquet import require_pyarrow, valid_text
from refgit.jobs.rows import LISTS, NUMBERS, OWN, Row

_ROWS = 10_000  # at a time
_KEY = b"refgit_job"


class TableFormat(Format):
    """A Parquet file, with what the job is in its metadata. Needs pyarrow."""

    name = "parquet"

    def __init__(self, out: str) -> None:
        super().__init__(out)
        require_pyarrow()

    def named(self, image: str) -> str:
        """The name without what UTF-8 has no letters for."""
        return str(valid_text(image))

    def read(self) -> Iterator[Row]:
        """Read the rows back."""
        import pyarrow as pa

        try:
            with require_pyarrow().ParquetFile(self.out) as table:
                if not set(OWN) <= set(table.schema_arrow.names):
                    raise ValueError(f"it has not the columns {', '.join(OWN)}.")
                strange = set(table.schema_arrow.names) - {*OWN, *NUMBERS, *LISTS}
                if strange:
                    raise ValueError(f"no job writes its column {min(strange)!r}.")
                for batch in table.iter_batches(_ROWS):
                    for row in batch.to_pylist():
                        yield checked(_without_nulls(row), f"row {row['index']}")
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"it is not a whole Parquet file ({type(error).__name__}).") from error

    def write(self, path: str, rows: Iterable[Row], fields: Sequence[str], job: str) -> None:
        """Write rows to a file."""
        import pyarrow as pa

        columns = [("index", pa.int64()), *((name, pa.string()) for name in OWN[1:])]
        kinds = {str: pa.string(), float: pa.float64()}
        columns += [(x, pa.list_(kinds[LISTS[x]]) if x in LISTS else pa.float64()) for x in fields]
        schema = pa.schema(columns, metadata={_KEY: job.encode()})
        left = iter(rows)
        with require_pyarrow().ParquetWriter(path, schema, compression="zstd") as writer:
            while some := list(islice(left, _ROWS)):
                texts = [{name: valid_text(value) for name, value in row.items()} for row in some]
                writer.write_table(pa.Table.from_pylist(texts, schema=schema))
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


def _without_nulls(row: dict[str, Any]) -> Row:
    return {k: v for k, v in row.items() if v is not None or k in OWN}
