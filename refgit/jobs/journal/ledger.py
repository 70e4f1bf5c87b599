r"""The rows so far: lines of JSON that are only ever appended, in a file beside the result.

A line is a row as the result will have it, and under "_" what only the job itself needs:

- again: how many images of this name come before it;
- tried: that this failure is of a second try (--retry-failed), so that there is no third;
- before, how: of a text beside an image, what was there before, and how the caption is joined to
  it; see `formats/sidecar.py`.

Of two lines with the same key the later one counts. Whenever the process is killed, the file is
whole lines and at most a part of one, without its line break, which is cut off on opening.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence

from refgit.errors import JobError
from refgit.jobs.journal.disk import OPEN, write_all
from refgit.jobs.rows import OWN, PRIVATE, Row, line_of
from refgit.jobs.wanted import Key

SYNC = 2.0  # seconds between two calls of fsync


class Ledger:
    """The rows of a job that is not finished.

    Parameters
    ----------
    path : str
        Made where it does not exist.
    key_of : callable
        The key of a line.

    Attributes
    ----------
    failed : dict of Key to bool
        The rows without a caption, and whether they were tried twice.
    fields : dict of str to None
        The names of what rows have besides `OWN`, in the order of their first occurrence.

    Raises
    ------
    JobError
        A line is not a row.
    OSError
        It cannot be read or written.
    """

    def __init__(self, path: str, key_of: Callable[[Row], Key]) -> None:
        self.path, self._key_of = path, key_of
        self.failed: dict[Key, bool] = {}
        self.fields: dict[str, None] = {}
        self._places: dict[Key, int] = {}  # where the line begins
        self._written = self._synced = 0  # bytes
        self._time = time.monotonic()
        self._file: int | None = os.open(path, OPEN | os.O_APPEND, 0o666)
        try:
            self._resume(self._file)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def _resume(self, file: int) -> None:
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                row = _row_in(line)
                if row is None:
                    raise JobError(
                        f"{self.path}: line {number} is not a row of a job; something else has "
                        "written to it. Restore it, or add --restart to begin anew."
                    )
                self._note(row, self._written)
                self._written += len(line)
        os.ftruncate(file, self._written)

    def _note(self, row: Row, place: int) -> None:
        key = self._key_of(row)
        self._places[key] = place
        self.failed.pop(key, None)
        if row["error"] is not None:
            self.failed[key] = row.get(PRIVATE, {}).get("tried", False)
        self.fields |= dict.fromkeys(name for name in row if name not in (*OWN, PRIVATE))

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows behind the others, and to the disk where that was some time ago.

        Raises
        ------
        OSError
            They cannot be written; those before them are kept.
        """
        assert self._file is not None
        lines = [line_of(row) for row in rows]
        write_all(self._file, b"".join(lines))
        for row, line in zip(rows, lines, strict=True):
            self._note(row, self._written)
            self._written += len(line)
        if time.monotonic() - self._time > SYNC:
            self.sync()

    def sync(self) -> None:
        """Flush what was written to the disk."""
        if self._file is not None and self._synced < self._written:
            os.fsync(self._file)
            self._synced, self._time = self._written, time.monotonic()

    def rows(self, keys: Iterator[Key] | Sequence[Key]) -> Iterator[Row]:
        """Read the rows of some keys."""
        with open(self.path, "rb") as file:
            for key in keys:
                file.seek(self._places[key])
                yield json.loads(file.readline())

    def close(self) -> None:
        """Close the file; Windows renames and deletes none that is open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _row_in(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
        failed = row["error"] is not None
        valid = (row["caption"] is None) == failed and isinstance(row["image"], str)
        return row if valid and isinstance(row["index"], int) else None
    except (ValueError, KeyError, TypeError):
        return None
