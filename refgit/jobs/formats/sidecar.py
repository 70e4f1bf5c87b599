"""Sidecars: a text beside each image, with its name and another suffix, as training scripts read.

The rows themselves are lines of JSON in a file of their own, which also says why an image has no
text. A text is written after its row, so a kill can leave a row without its text, which is made up
for when the job goes on. To tell then whether a text that is there is the one from before, the row
has its checksum (`ledger`, "before").
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from refgit.errors import JobError
from refgit.jobs.formats.lines import LinesFormat
from refgit.jobs.journal.disk import write_whole
from refgit.jobs.rows import PRIVATE, Row, row_of

EXISTING = ("error", "skip", "overwrite", "append", "prepend")
_PART = re.compile(r"(.+)\.\w+(#[\d.]+-[\d.]+)", re.DOTALL)
_BETWEEN = ", "  # a text from before, and a caption


class SidecarFormat(LinesFormat):
    """A text for each image.

    Parameters
    ----------
    out : str
        The file of the rows.
    suffix : str
        Of the texts, such as .txt.
    existing : str
        What to do where a text is there that the job did not write: one of `EXISTING`.
    mirror : (str, str), optional
        A directory with the images, and the one for the texts, which has the same folders; by
        default each text lies beside its image.
    """

    name = "sidecar"
    once = True

    def __init__(
        self, out: str, suffix: str, existing: str, mirror: tuple[str, str] | None = None
    ) -> None:
        super().__init__(out)
        self.suffix, self.existing, self._mirror = suffix, existing, mirror
        self._owners: dict[str, str] = {}  # the image that each text is of

    def beside(self, image: str) -> str:
        """Where the text of an image is."""
        part = _PART.fullmatch(image)  # of a video
        stem = part[1] + part[2] if part else os.path.splitext(image)[0]
        path = stem + self.suffix
        if self._mirror is None:
            return path
        above, target = self._mirror
        return os.path.join(target, os.path.relpath(path, above))

    def own_files(self, images: Iterable[str]) -> Iterator[str]:
        """The files that a job writes; texts from before, too, belong to their images."""
        yield from super().own_files(images)
        yield from map(self.beside, images)

    # ---- what is there

    def in_the_way(self, image: str) -> str | None:
        """The text of an image, where one is there that no row of the job has written."""
        path = self.beside(image)
        return path if path not in self._owners and os.path.lexists(path) else None

    def settle(self, row: Row) -> None:
        """Take note of a row that is known; its text is written where that was cut short."""
        if row["caption"] is not None:
            self._owners.setdefault(self.beside(row["image"]), row["image"])
            self.put(row)

    def thrown_away(self, row: Row) -> str | None:
        """The text of a row, unless it holds anything else."""
        path = self.beside(row["image"])
        own = row["caption"] is not None and _content(path) == _text(row["caption"])
        return path if own else None

    # ---- writing

    def prepare(self, row: Row) -> tuple[Row, dict[str, Any]]:
        """What is to be stored of a row before its text is written.

        Returns
        -------
        row : dict
            With an error where the text has no place.
        private : dict
            What was there before.
        """
        if row["caption"] is None:
            return row, {}
        image, path = row["image"], self.beside(row["image"])
        owner = self._owners.setdefault(path, image)
        before = _content(path)
        taken = f"{path} is the text of {owner}" if owner != image else ""
        taken = taken or (f"{path} is a directory" if os.path.isdir(path) else "")
        if before is not None and not taken and self.existing in ("error", "skip"):
            taken = f"{path} has been made by somebody else in the meantime"
            del self._owners[path]
        if taken:
            why = f"{image}: {taken}; expected a name of its own. Rename one of them."
            return row_of(row["index"], image, JobError(why)), {}
        if before is None:
            return row, {}
        return row, {"before": hashlib.sha256(before).hexdigest(), "how": self.existing}

    def put(self, row: Row) -> None:
        """Write the text of a row, unless it is there.

        Raises
        ------
        OSError
            It cannot be written.
        """
        caption, private = row["caption"], row.get(PRIVATE, {})
        if caption is None:
            return
        path = self.beside(row["image"])
        now = _content(path)
        if now and hashlib.sha256(now).hexdigest() != private.get("before"):
            return  # it has been written, or somebody has changed it
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        folder, name = os.path.split(path)
        writing = os.path.join(folder, f".{name}.writing")
        # What replaces a text from before goes to the disk at once; the others are in the rows.
        write_whole(writing, [_joined(now, caption, private.get("how"))], sync=bool(now))
        os.replace(writing, path)


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError):
        return None


def _text(caption: str) -> bytes:
    return caption.encode("utf-8", "backslashreplace") + b"\n"


def _joined(now: bytes | None, caption: str, how: str | None) -> bytes:
    there = (now or b"").rstrip(b" \t\r\n,")
    if not there or how not in ("append", "prepend"):
        return _text(caption)
    between = _BETWEEN.encode()
    if how == "append":
        return there + between + _text(caption)
    return _text(caption)[:-1] + between + there.lstrip() + b"\n"
