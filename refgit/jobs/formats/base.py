"""What a format is: rows to a file, and back, so that the file of a job can grow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

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
    """

    name: str
    once = False

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
