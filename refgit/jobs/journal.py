r"""The files of a job's rows: a kill loses none of them, and a resumed job repeats none.

A job that writes OUT has up to three files:

- OUT.job says in one line of JSON what the job is: its inputs, its model, its options. It stays, so
  that one can see later where OUT came from. It also carries the lock of the running process.
- OUT.partial takes the rows, a line of JSON each, in the order of the images. It is there while
  the job is unfinished.
- OUT is created once all rows are there, by renaming OUT.partial, or for Parquet by writing
  OUT.writing and renaming that.

Invariants, whenever the process is killed:

1. The first k lines of OUT.partial are the rows 0 .. k - 1. What follows is at most a part of
   row k, without its line break; it is cut off on resuming.
2. Rows are only ever appended, by the one process that holds the lock on OUT.job; the system gives
   the lock back when that process ends, however it ends.
3. A file called OUT is the whole result or was there before the job, which then does not start.
4. OUT.job is written before the first row, and a job goes on only if it is the same.

A kill loses no row that was written. A power failure loses at most those since the last fsync,
which is called after each batch that ends `SYNC` seconds or more after the call before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from refgit.errors import JobError, reason
from refgit.jobs.parquet import failures_in, require_pyarrow, write_table
from refgit.version import __version__

Row: TypeAlias = dict[str, Any]
SYNC = 2.0  # seconds between two calls of fsync
_LINES, _TABLE = ".jsonl", ".parquet"
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)  # Windows would change line ends
_MARK = b'{"refgit_job": 1, '
_SHOWN = {
    "model": "--model", "model_sha256": "the files of the model", "dtype": "--dtype",
    "backend": "--backend", "max_length": "--max-length", "inputs": "the inputs",
    "column": "--column", "directory": "the working directory", "version": "refgit's version",
}  # fmt: skip


def row_of(index: int, image: str | None, found: str | Exception) -> Row:
    """One row: an image with its caption, or with why it has none."""
    error = reason(found) if isinstance(found, Exception) else None
    caption = found if error is None else None
    return {"index": index, "image": image, "caption": caption, "error": error}


def check_out(out: str) -> None:
    """Refuse a file that a job cannot write, before a model is loaded.

    Raises
    ------
    JobError
        It ends in neither .jsonl nor .parquet, is a directory, or was not made by a job.
    OSError
        Its directory does not exist.
    ImportError
        It is a Parquet file, and pyarrow is not installed.
    """
    if not out.endswith((_LINES, _TABLE)):
        raise JobError(
            f"--out is {out}; expected a name that ends in {_LINES} (a line of JSON for each "
            f"image) or {_TABLE}."
        )
    if out.endswith(_TABLE):
        require_pyarrow()
    if os.path.isdir(out):
        raise JobError(f"{out} is a directory; expected the name of a file to write.")
    os.stat(os.path.dirname(out) or ".")
    if os.path.exists(out) and not os.path.exists(out + ".job"):
        raise JobError(
            f"{out} exists and no job of refgit made it ({out}.job is missing). Move it away, or "
            "choose another name."
        )


class Journal:
    """The rows of one job; the module's docstring says what holds.

    Parameters
    ----------
    out : str
        The file that is to hold all rows in the end.
    job : dict
        What the job is; the entry "rows" is how many there will be.
    restart : bool
        Delete the rows of an earlier job of this name.

    Attributes
    ----------
    rows, failures : int
        How many rows there are, and how many of them have no caption.
    complete : bool
        Whether `out` is there, with all of them.

    Raises
    ------
    JobError
        Another process works on it; another job has begun it; or a file is in the way.
    OSError
        A file cannot be written.
    """

    def __init__(self, out: str, job: dict[str, Any], *, restart: bool = False) -> None:
        check_out(out)
        self.out, self.job = out, job
        self.partial = out + ".partial"
        self.rows = self.failures = 0
        self.complete = False
        self._written = self._synced = 0  # bytes
        self._time = time.monotonic()
        self._file: int | None = None
        self._job_file = os.open(out + ".job", _OPEN, 0o666)
        try:
            self._begin(restart)
        except BaseException:
            self.close()
            raise

    # ---- opening

    def _begin(self, restart: bool) -> None:
        try:
            _lock(self._job_file)
        except OSError as error:
            raise JobError(
                f"{self.out} is being written by another process of refgit; wait for it, end it, "
                "or choose another name."
            ) from error
        known = self._stored_job()
        there = [path for path in (self.out, self.partial) if os.path.exists(path)]
        if known is None and there:
            raise JobError(
                f"{there[0]} exists, and {self.out}.job does not say which job made it. Move it "
                "away, or choose another name."
            )
        if known is not None and restart:
            for path in there:
                os.unlink(path)
        elif known is not None:
            self._refuse_other(known)
        if known is None or restart:
            self._write_job()
        if os.path.exists(self.out):
            self._check_complete()
            return
        self._file = os.open(self.partial, _OPEN | os.O_APPEND, 0o666)
        self._resume()
        _sync_directory(self.out)

    def _stored_job(self) -> dict[str, Any] | None:
        """What OUT.job says; None where it is new, or was cut short before the first row."""
        text = Path(self.out + ".job").read_bytes()
        if not text.endswith(b"\n") and (_MARK.startswith(text) or text.startswith(_MARK)):
            return None
        try:
            if text.startswith(_MARK):
                return dict(json.loads(text))
        except ValueError:
            pass
        raise JobError(f"{self.out}.job exists and no job of refgit made it; move it away.")

    def _refuse_other(self, known: dict[str, Any]) -> None:
        mine = json.loads(self._text())
        told = ("model", "rows")  # by model_sha256 and by inputs
        changed = [key for key in mine if key not in told and known.get(key) != mine[key]]
        if not changed:
            return
        words = [_difference(key, known, mine) for key in changed]
        raise JobError(
            f"{self.out} was begun by another job: {'; '.join(words)}. Run the command as it was "
            "then to go on, choose another name, or add --restart to throw its rows away."
        )

    def _text(self) -> str:
        return json.dumps({"refgit_job": 1, "version": __version__, **self.job}) + "\n"

    def _write_job(self) -> None:
        os.ftruncate(self._job_file, 0)
        os.lseek(self._job_file, 0, os.SEEK_SET)
        _write_all(self._job_file, self._text().encode())
        os.fsync(self._job_file)

    def _check_complete(self) -> None:
        """Count the rows of OUT, and refuse it if it is not what this job wrote."""
        failures: int | None
        if self.out.endswith(_TABLE):
            failures = failures_in(self.out, self.job["rows"], self._text())
        else:
            rows, failures, size = _count(self.out)
            if rows != self.job["rows"] or size != os.path.getsize(self.out):
                failures = None
        if failures is None:
            raise JobError(
                f"{self.out} exists and is not the result of this job. Move it away and run the "
                "command again; rows that it has written elsewhere are kept."
            )
        Path(self.partial).unlink(missing_ok=True)  # had the kill come before this
        self.rows, self.failures, self.complete = self.job["rows"], failures, True

    def _resume(self) -> None:
        """Count the rows of an earlier process, and cut off an unfinished last one."""
        assert self._file is not None
        self.rows, self.failures, self._written = _count(self.partial)
        if self.rows > self.job["rows"]:
            raise JobError(
                f"{self.partial} has {self.rows} rows; the job has {self.job['rows']} images. "
                "Add --restart to begin anew."
            )
        os.ftruncate(self._file, self._written)

    # ---- writing

    def append(self, rows: Iterable[Row]) -> None:
        """Write the next rows.

        Raises
        ------
        JobError
            They cannot be written; those before them are kept.
        """
        assert self._file is not None
        rows = list(rows)
        assert [row["index"] - self.rows for row in rows] == list(range(len(rows)))
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        try:
            _write_all(self._file, data)
            self._written += len(data)
            self.rows += len(rows)
            self.failures += sum(row["error"] is not None for row in rows)
            if time.monotonic() - self._time > SYNC:
                self.sync()
        except OSError as error:
            raise self._full(self.partial, error) from error

    def sync(self) -> None:
        """Flush what was written to the disk."""
        if self._file is not None and self._synced < self._written:
            os.fsync(self._file)
            self._synced, self._time = self._written, time.monotonic()

    def finish(self) -> None:
        """Turn the rows into OUT, once all are there.

        Raises
        ------
        JobError
            It cannot be written, or something has come in the way; the rows are kept.
        """
        assert self._file is not None
        assert self.rows == self.job["rows"]
        if os.path.exists(self.out):
            raise JobError(
                f"{self.out} has been made by somebody else in the meantime; all rows are in "
                f"{self.partial}. Move {self.out} away and run the command again."
            )
        try:
            self.sync()
            os.close(self._file)  # Windows renames and deletes no file that is open
            self._file = None
            if self.out.endswith(_TABLE):
                self._write_table()
                os.unlink(self.partial)
            else:
                os.replace(self.partial, self.out)
            _sync_directory(self.out)
        except OSError as error:
            raise self._full(self.out, error) from error
        self.complete = True

    def _write_table(self) -> None:
        writing = self.out + ".writing"
        with open(self.partial, "rb") as stream:
            write_table(writing, (json.loads(line) for line in stream), self._text())
        with open(writing, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(writing, self.out)

    def _full(self, path: str, error: OSError) -> JobError:
        return JobError(
            f"{path} cannot be written: {error.strerror or error}. {self.rows} of "
            f"{self.job['rows']} rows are kept; when that is mended, the same command goes on "
            "from there."
        )

    def close(self) -> None:
        """Close the files and release the lock."""
        for file in (self._file, self._job_file):
            if file is not None:
                os.close(file)
        self._file = None


def _difference(key: str, known: dict[str, Any], mine: dict[str, Any]) -> str:
    name = _SHOWN.get(key, key)
    if key == "inputs":
        return f"its inputs were {known.get('rows')} images and are now {mine['rows']}" + (
            " others" if known.get("rows") == mine["rows"] else ""
        )
    if key == "model_sha256":
        was, now = known.get("model"), mine["model"]
        return f"its model was {was} and is now {now}" if was != now else f"{name} have changed"
    return f"{name} was {known.get(key)} and is now {mine[key]}"


def _count(path: str) -> tuple[int, int, int]:
    """Count rows, rows without a caption, and bytes; an unfinished last line is left out."""
    rows = failures = size = 0
    with open(path, "rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                failed = row["error"] is not None
                valid = row["index"] == rows and (row["caption"] is None) == failed
            except (ValueError, KeyError, TypeError):
                valid = False
            if not valid:
                raise JobError(
                    f"{path}: line {rows + 1} is not row {rows} of a job; something else has "
                    "written to it. Restore it, or add --restart to begin anew."
                )
            rows, failures, size = rows + 1, failures + failed, size + len(line)
    return rows, failures, size


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _lock(file: int) -> None:
    """Lock an open file against other processes, without waiting."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 30, os.SEEK_SET)  # a byte that nobody reads
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_directory(out: str) -> None:
    """Flush the directory's entries to the disk, where the system can."""
    if sys.platform == "win32":
        return
    folder = os.open(os.path.dirname(out) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
