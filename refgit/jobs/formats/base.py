"""What a format is: rows to a file, and back, so that the file of a job can grow."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from refgit.jobs.rows import Row


class Format(ABC):
    """How the rows of a job are written to a file.

    Parameters
    ----------
    out : str
        The file.

    Attributes
    ----------
    name : str
        What --format calls it.
    failures_apart : str or None
        Where rows without a caption go; None where they are in the file with the others.
    once : bool
        Whether an image that is named twice has one row.
    existing : str
        What to do where a file of an image is in the way; see `formats.sidecar`.
    """

    name: str
    once = False
    existing = "overwrite"

    def __init__(self, out: str) -> None:
        self.out = out
        self.failures_apart: str | None = None

    def named(self, image: str) -> str:
        """What the file calls an image, from its path as it was given."""
        return image

    def refuse(self, images: Iterable[str]) -> None:  # noqa: B027  # most refuse none
        """Refuse images that the file cannot name.

        Raises
        ------
        JobError
            There is one.
        """

    def own_files(self, images: Iterable[str]) -> Iterator[str]:
        """The files that a job writes, whether they are there or not."""
        yield from (self.out, f"{self.out}.job", f"{self.out}.partial", f"{self.out}.writing")
        if self.failures_apart is not None:
            yield self.failures_apart

    # ---- files beside the images

    def in_the_way(self, image: str) -> str | None:
        """The file that is where one of this image would be, and no row has made."""
        return None

    def settle(self, row: Row) -> None:  # noqa: B027
        """Make up for what a kill may have cut short after a row was stored."""

    def thrown_away(self, row: Row) -> str | None:
        """The file that a row has made besides, as long as it holds nothing else."""
        return None

    def throw_away(self, row: Row) -> None:
        """Delete what a row has made besides."""
        path = self.thrown_away(row)
        if path is not None:
            os.unlink(path)

    def prepare(self, row: Row) -> tuple[Row, dict[str, Any]]:
        """The row to be stored, and what is to be stored with it, before `put`."""
        return row, {}

    def put(self, row: Row) -> None:  # noqa: B027
        """Write what a row makes besides, once it is stored."""

    # ---- the file

    @abstractmethod
    def read(self) -> Iterator[Row]:
        """Read the rows back.

        Raises
        ------
        ValueError
            It is not such a file.
        """

    @abstractmethod
    def write(self, path: str, rows: Iterable[Row], fields: Sequence[str], job: str) -> None:
        """Write rows to a file, and to the disk.

        Parameters
        ----------
        path : str
        rows : iterable of dict
        fields : sequence of str
            What rows may have besides `refgit.jobs.rows.OWN`.
        job : str
            What the job is, for files that have room for it.
        """
