"""OUT.job: what the job is, stored, locked, and compared with what is asked for now."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from refgit.errors import JobError
from refgit.jobs.journal.disk import OPEN, lock, write_all
from refgit.version import __version__

VERSION = 2
_BEGIN = b'{"refgit_job": '
_SHOWN = {
    "model": "--model", "model_sha256": "the files of the model", "dtype": "--dtype",
    "backend": "--backend", "max_length": "--max-length", "column": "--column",
    "directory": "the working directory", "format": "--format", "sidecar": "--sidecar",
    "reading": "how files are read", "decoding": "how captions are written",
    "text": "what becomes of captions", "known_by": "what images are known by",
}  # fmt: skip
_TOLD = ("refgit_job", "version", "model", "rows", "inputs")  # told by others, or free to change


class JobFile:
    """The file OUT.job, open.

    Parameters
    ----------
    out : str
        The job's file.
    job : dict
        What the job is now. Its entry "defaults" has the values of options that an older journal
        does not name.
    by_position : bool
        Whether images are known by their position, so that inputs may only be added at the end.

    Attributes
    ----------
    known : dict or None
        What the file says; None where it is new, or was cut short before the first row.
    text : str
        What it is to say, a line.
    """

    def __init__(self, out: str, job: dict[str, Any], *, by_position: bool) -> None:
        self.out, self.path, self._by_position = out, out + ".job", by_position
        self._defaults = job.get("defaults", {})
        own = {name: value for name, value in job.items() if name != "defaults"}
        self.text = json.dumps({"refgit_job": VERSION, "version": __version__, **own}) + "\n"
        self._mine: dict[str, Any] = json.loads(self.text)
        self.known: dict[str, Any] | None = None
        self._file: int | None = os.open(self.path, OPEN, 0o666)

    def lock(self) -> None:
        """Lock it, and read what it says.

        Raises
        ------
        JobError
            Another process holds it, or no job made it.
        """
        assert self._file is not None
        try:
            lock(self._file)
        except OSError as error:
            raise JobError(
                f"{self.out} is being written by another process of refgit; wait for it, end it, "
                "or choose another name."
            ) from error
        self.known = self._read()

    def _read(self) -> dict[str, Any] | None:
        text = Path(self.path).read_bytes()
        whole = [line for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
        self._size = sum(map(len, whole))
        if not whole and (_BEGIN.startswith(text) or text.startswith(_BEGIN)):
            return None
        try:
            if whole and whole[-1].startswith(_BEGIN):
                found = dict(json.loads(whole[-1]))
                if found["refgit_job"] <= VERSION:
                    return _of_this_version(found)
                raise JobError(
                    f"{self.path} was written by refgit {found['version']}, which is newer than "
                    f"this one, {__version__}. Update refgit, or choose another name."
                )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, JobError):
                raise
        raise JobError(f"{self.path} exists and no job of refgit made it; move it away.")

    def refuse_other(self) -> None:
        """Refuse to go on with another model, other options, or tables that have changed.

        Raises
        ------
        JobError
            What the file says differs.
        """
        assert self.known is not None
        known = {**self._defaults, **self.known}
        words = [
            _difference(name, known, self._mine)
            for name, value in self._mine.items()
            if name not in _TOLD and _filled(known.get(name), self._defaults.get(name)) != value
        ]
        if self._by_position and not _begins_with(self._mine["inputs"], known.get("inputs", [])):
            words.append(_inputs(known, self._mine))
        if words:
            raise JobError(
                f"{self.out} was begun by another job: {'; '.join(words)}. Run the command as it "
                "was then to go on, choose another name, or add --restart to throw its rows away."
            )

    def write(self) -> None:
        """Store what the job is, behind what the file says already, where that differs."""
        assert self._file is not None
        if self.known == self._mine:
            return
        if self.known is None:
            self._size = 0
        os.ftruncate(self._file, self._size)
        os.lseek(self._file, self._size, os.SEEK_SET)
        write_all(self._file, self.text.encode())
        os.fsync(self._file)

    def close(self) -> None:
        """Close it, which releases the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _of_this_version(found: dict[str, Any]) -> dict[str, Any]:
    """What a journal of version 1 says, in the words of this one."""
    if found["refgit_job"] == 1:
        tables = any("rows" in part for part in found["inputs"])
        found["known_by"] = "position" if tables else "name"
    return found


def _filled(known: Any, default: Any) -> Any:
    """What is known, with defaults for options that the journal is too old to name."""
    both = isinstance(known, dict) and isinstance(default, dict)
    return {**default, **known} if both else known


def _begins_with(mine: list[Any], known: list[Any]) -> bool:
    return mine[: len(known)] == known


def _inputs(known: dict[str, Any], mine: dict[str, Any]) -> str:
    others = " others" if known.get("rows") == mine["rows"] else ""
    return (
        f"its inputs were {known.get('rows')} images and are now {mine['rows']}{others}; those of "
        "tables may be added to at the end only"
    )


def _difference(name: str, known: dict[str, Any], mine: dict[str, Any]) -> str:
    shown = _SHOWN.get(name, name)
    was, now = known.get(name), mine[name]
    if name == "model_sha256":
        was, now = known.get("model"), mine["model"]
        return f"its model was {was} and is now {now}" if was != now else f"{shown} have changed"
    if isinstance(was, dict) and isinstance(now, dict):
        changed = [key for key in {**was, **now} if was.get(key) != now.get(key)]
        return f"{shown} has changed: " + ", ".join(
            f"{key} was {_said(was.get(key))} and is now {_said(now.get(key))}" for key in changed
        )
    if name == "directory" and None in (was, now):
        told = "only some of" if was is None else "none of"
        return f"{told} its inputs are relative to {shown} now, {was or now}"
    return f"{shown} was {was} and is now {now}"


def _said(value: Any) -> str:
    return "not given" if value is None else repr(value) if isinstance(value, str) else str(value)
