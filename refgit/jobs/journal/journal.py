"""One round of a job: what is to be done, and the result at its end; the package has the rules."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from refgit.errors import JobError
from refgit.jobs.formats.base import Format
from refgit.jobs.formats.lines import LinesFormat, rows_in
from refgit.jobs.journal.disk import sync_directory
from refgit.jobs.journal.jobfile import JobFile
from refgit.jobs.journal.ledger import Ledger
from refgit.jobs.rows import PRIVATE, Row
from refgit.jobs.sources import Item
from refgit.jobs.wanted import Key, Wanted

_ROWS = 1000  # taken over at a time


class Journal:
    """The rows of one job; the module's docstring says what holds.

    Parameters
    ----------
    form : Format
        Of the file that is to hold all rows in the end, with its name.
    job : dict
        What the job is.
    wanted : Wanted
        The images.
    restart : bool
        Delete the rows of an earlier job of this name.
    retry_failed : bool
        Caption once more what has no caption.
    drop_missing : bool
        Leave out the rows of images that are not wanted any more.
    tell : callable
        Is told how many rows `restart` has deleted.

    Attributes
    ----------
    rows, total : int
        How many of the images have a row, and how many there are.
    failures, gone : int
        Rows without a caption; rows of images that are not wanted any more.
    appended, captioned : int
        Rows that `append` was given, and those of them that have a caption.
    left_alone : int
        Images that are not captioned because of what is beside them.
    complete : bool
        Whether the file is there, with all rows.

    Raises
    ------
    JobError
        Another process works on it; another job has begun it; or a file is in the way.
    OSError
        A file cannot be written.
    """

    def __init__(
        self,
        form: Format,
        job: dict[str, Any],
        wanted: Wanted,
        *,
        restart: bool = False,
        retry_failed: bool = False,
        drop_missing: bool = False,
        tell: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.form, self.out, self.partial = form, form.out, form.out + ".partial"
        self.wanted, self._retry, self._drop = wanted, retry_failed, drop_missing
        self.rows = self.failures = self.gone = 0
        self.appended = self.captioned = self.left_alone = 0
        self.complete = False
        self._ledger: Ledger | None = None
        self._handed: deque[tuple[Key, Item]] = deque()  # whose rows are to come, in this order
        self._order = list(wanted.keys())
        self.total = len(self._order)
        self._job_file = JobFile(self.out, job, by_position=wanted.by_position)
        try:
            self._begin(restart, tell)
        except BaseException:
            self.close()
            raise

    # ---- opening

    def _begin(self, restart: bool, tell: Callable[[str], object]) -> None:
        self._job_file.lock()
        apart = self.form.failures_apart
        files = [self.out, self.partial, *([apart] if apart else [])]
        there = [path for path in files if os.path.exists(path)]
        known = self._job_file.known
        if known is None and there:
            raise JobError(
                f"{there[0]} exists, and {self.out}.job does not say which job made it. Move it "
                "away, or choose another name."
            )
        if known is not None and restart:
            self._throw_away(there, tell)
        elif known is not None:
            self._job_file.refuse_other()
        self._job_file.write()
        self._seen = _identity(self.out)
        if os.path.exists(self.partial):
            self._ledger = Ledger(self.partial, self._key_of)
        stored = self._look_at_stored()
        self._leave_existing({key for key, _ in stored} | {*(self._ledger or ())})
        if self._is_complete(stored):
            return
        self._ledger = self._ledger or Ledger(self.partial, self._key_of)
        self._take_over(self._ledger)
        sync_directory(self.out)

    def _look_at_stored(self) -> list[tuple[Key, bool]]:
        """The keys of OUT, and which have failed; what belongs to rows besides is settled."""
        wanted, found = set(self._order), []
        for key, row in self._stored():
            found.append((key, row["error"] is not None))
            if key in wanted and not (self._ledger and key in self._ledger):
                self.form.settle(row)
        if self._ledger:
            for row in self._ledger.rows([key for key in self._ledger if key in wanted]):
                self.form.settle(row)
        return found

    def _leave_existing(self, known: set[Key]) -> None:
        """Leave images alone whose files are there, or refuse to start, as is asked for."""
        if self.form.existing in ("error", "skip"):
            left = self._with_existing(known, set())
            self._order = [key for key in self._order if key not in left]
            self.left_alone, self.total = len(left), len(self._order)

    def _with_existing(self, known: set[Key], free: set[str]) -> set[Key]:
        """Images without a row whose files are there, but for those in `free`; may refuse these."""
        asked = ((key, self.form.in_the_way(str(key))) for key in self._order if key not in known)
        there = {key: path for key, path in asked if path is not None and path not in free}
        if there and self.form.existing == "error":
            first = next(iter(there.values()))
            raise JobError(
                f"texts exist already: {first}{_and_more(len(there) - 1)}; expected none. Add "
                "--existing skip, overwrite, append or prepend."
            )
        return set(there)

    def _throw_away(self, there: list[str], tell: Callable[[str], object]) -> None:
        own = map(self.form.thrown_away, self._known_rows())
        self._with_existing(set(), {path for path in own if path is not None})  # before any is lost
        count = 0
        for row in self._known_rows():
            self.form.throw_away(row)
            count += 1
        for path in there:
            os.unlink(path)
        if count:
            tell(f"--restart: threw away {count} row{'s' if count > 1 else ''} of {self.out}.")
        self._job_file.known = None

    def _known_rows(self) -> Iterator[Row]:
        """The rows of an earlier run, wherever they are."""
        seen: set[Key] = set()
        if os.path.exists(self.partial):
            with Ledger(self.partial, self._key_of) as ledger:
                seen.update(ledger)
                yield from ledger.rows(list(ledger))
        yield from (row for key, row in self._stored() if key not in seen)

    def _key_of(self, row: Row) -> Key:
        return self.wanted.key(row, row.get(PRIVATE, {}).get("again", 0))

    def _stored(self) -> Iterator[tuple[Key, Row]]:
        """The rows of OUT, and of the failures beside it, with their keys."""
        if not os.path.exists(self.out):
            return
        apart, seen = self.form.failures_apart, dict[str, int]()
        try:
            rows = [self.form.read()]
            if apart is not None and os.path.exists(apart):
                rows.append(rows_in(apart))
            for index, row in enumerate(row for some in rows for row in some):
                again = 0
                if not self.wanted.by_position:
                    name = self.form.named(row["image"])
                    again = seen.get(name, 0)
                    seen[name] = again + 1
                private = {PRIVATE: {"again": again}} if again else {}
                row = {**row, "index": index, **private}
                yield self._key_of(row), row
        except ValueError as error:  # also of UTF-8
            raise JobError(
                f"{self.out} exists and is not the result of this job: {error} Move it away and "
                "run the command again; rows that it has written elsewhere are kept."
            ) from error

    def _is_complete(self, stored: list[tuple[Key, bool]]) -> bool:
        """Whether OUT is what this job would write, and nothing is left to do."""
        if self._ledger or not os.path.exists(self.out):
            return False
        self._gone = self._without_wanted(key for key, _ in stored)
        order, failed = [*self._order, *self._gone], {key for key, fails in stored if fails}
        found = [key for key, _ in stored]
        if self.form.failures_apart is not None:
            order.sort(key=failed.__contains__)  # stable: those with captions first
        again = (self._retry and failed - set(self._gone)) or (self._drop and self._gone)
        if found != order or again:
            return False
        if self._ledger is not None:  # a file without a whole row
            self._ledger.close()
            self._ledger = None
            os.unlink(self.partial)
        self.rows, self.failures, self.gone = self.total, len(failed), len(self._gone)
        self.complete = True
        return True

    def _without_wanted(self, keys: Iterable[Key]) -> list[Key]:
        wanted = set(self._order)
        return [key for key in keys if key not in wanted]

    def _take_over(self, ledger: Ledger) -> None:
        """Put the rows of the round before among those of this one."""
        some: list[Row] = []
        try:
            for key, row in self._stored():
                if key not in ledger:
                    some.append(row)
                if len(some) == _ROWS:
                    ledger.append(some)
                    some = []
            ledger.append(some)
        except OSError as error:
            raise self._full(self.partial, error) from error
        self._gone = self._without_wanted(ledger)
        self._count(ledger)

    def _count(self, ledger: Ledger) -> None:
        dropped = set(self._gone) if self._drop else set()
        self.rows = sum(map(self._has, self._order))
        self.gone = len(self._gone) - len(dropped)
        self.failures = len(ledger.failed.keys() - dropped)

    # ---- writing

    def _has(self, key: Key) -> bool:
        assert self._ledger is not None
        again = self._retry and self._ledger.failed.get(key) is False
        return key in self._ledger and not again

    def todo(self) -> Iterator[Item]:
        """The images that have no row yet, in order; `append` takes their rows."""
        order = set(self._order)
        for key, item in self.wanted.items(lambda key: key not in order or self._has(key)):
            self._handed.append((key, item))
            yield item

    def append(self, rows: Iterable[Row]) -> None:
        """Write the next rows, of the images that `todo` gave first.

        Raises
        ------
        JobError
            They cannot be written; those before them are kept.
        """
        assert self._ledger is not None
        lines = [self._line(row) for row in rows]
        try:
            self._ledger.append(lines)
            self.rows += len(lines)
            self.appended += len(lines)
            self.captioned += sum(line["error"] is None for line in lines)
            for line in lines:
                self.form.put(line)
        except OSError as error:
            raise self._full(error.filename or self.partial, error) from error
        self.failures = len(self._ledger.failed)

    def _line(self, row: Row) -> Row:
        assert self._ledger is not None
        key, item = self._handed.popleft()
        assert (row["index"], row["image"]) == (item.index, item.name)
        row, private = self.form.prepare(row)
        if isinstance(key, str) and "\0" in key:
            private["again"] = int(key.rpartition("\0")[2])
        if key in self._ledger:
            private["tried"] = True
        return {**row, PRIVATE: private} if private else row

    def sync(self) -> None:
        """Flush what was written to the disk."""
        if self._ledger is not None:
            self._ledger.sync()

    def finish(self) -> None:
        """Turn the rows into OUT, once all are there.

        Raises
        ------
        JobError
            It cannot be written, or something has come in the way; the rows are kept.
        """
        assert self._ledger is not None
        assert self.rows == self.total
        if _identity(self.out) != self._seen:
            raise JobError(
                f"{self.out} has been made or changed by somebody else in the meantime; all rows "
                f"are in {self.partial}. Move {self.out} away and run the command again."
            )
        try:
            self.sync()
            self._write_failures_apart(self._ledger)
            self._write_out(self._ledger)
            self._ledger.close()
            os.unlink(self.partial)
            sync_directory(self.out)
        except OSError as error:
            raise self._full(self.out, error) from error
        self._count(self._ledger)
        self._ledger = None
        self.complete = True

    def _rows(self, ledger: Ledger, keys: Iterable[Key]) -> Iterator[Row]:
        places = {key: i for i, key in enumerate(keys)}
        for key, row in zip(places, ledger.rows(list(places)), strict=True):
            row.pop(PRIVATE, None)
            yield {**row, "index": places[key]}

    def _write_out(self, ledger: Ledger) -> None:
        order = [*self._order, *(() if self._drop else self._gone)]
        rows = self._rows(ledger, order)
        if self.form.failures_apart is not None:
            rows = (row for row in rows if row["error"] is None)
        writing = self.out + ".writing"
        self.form.write(writing, rows, list(ledger.fields), self._job_file.text)
        os.replace(writing, self.out)

    def _write_failures_apart(self, ledger: Ledger) -> None:
        apart = self.form.failures_apart
        if apart is None:
            return
        order = [*self._order, *(() if self._drop else self._gone)]
        failed = [row for row in self._rows(ledger, order) if row["error"] is not None]
        if failed:
            LinesFormat(apart).write(apart + ".writing", failed, (), "")
            os.replace(apart + ".writing", apart)
        else:
            Path(apart).unlink(missing_ok=True)

    def _full(self, path: str, error: OSError) -> JobError:
        return JobError(
            f"{path} cannot be written: {error.strerror or error}. {self.rows} of {self.total} "
            "rows are kept; when that is mended, the same command goes on from there."
        )

    def close(self) -> None:
        """Close the files and release the lock."""
        if self._ledger is not None:
            self._ledger.close()
        self._job_file.close()


def _and_more(count: int) -> str:
    return f" and {count} more" if count else ""


def _identity(path: str) -> tuple[int, int, int] | None:
    """What changes when a file is made or written."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
