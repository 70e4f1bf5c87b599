"""What a job is to caption: images by path, or in a column of Parquet files, in a fixed order.

The inputs of the command become parts, each of which knows how many images it has, gives them one
after another from any of them on, and says in a few words which images they are. Directories and
lists are read once, at the start; images and Parquet rows only when their turn comes.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from refgit.errors import JobError, MediaFileError
from refgit.jobs.parquet import Table
from refgit.processing.media import MediaFiles, find_media

LIST, TABLE = ".txt", ".parquet"


@dataclass(frozen=True)
class Item:
    """One image of a job.

    Attributes
    ----------
    index : int
        Which one, from 0, over all inputs.
    name : str
        What its row calls it: the path as it was given, or FILE.parquet#ROW.
    content : str, bytes or Exception
        The path, the encoded image, or why there is neither.
    """

    index: int
    name: str
    content: str | bytes | Exception


class Part(Protocol):
    """Images of one kind of input."""

    def __len__(self) -> int: ...

    def contents(self, start: int) -> Iterator[tuple[str, str | bytes | Exception]]:
        """Name and content of each image, from the one numbered `start` on."""

    def identity(self) -> dict[str, Any]:
        """Say which images these are, so that a job is not resumed with others."""

    @property
    def relative(self) -> bool:
        """Whether the working directory matters."""


@dataclass
class Paths:
    """Images in files.

    Parameters
    ----------
    names : list of str
        Relative ones start from the working directory.
    """

    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def relative(self) -> bool:
        """Whether the working directory matters."""
        return not all(map(os.path.isabs, self.names))

    def contents(self, start: int) -> Iterator[tuple[str, str | bytes | Exception]]:
        """Name and content are the same: the path."""
        return ((name, name) for name in self.names[start:])

    def identity(self) -> dict[str, Any]:
        """Hash the names, in order; the files' content is not read."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(os.fsencode(name) + b"\0")
        return {"files": len(self.names), "sha256": digest.hexdigest()}


def parts_of(
    inputs: Sequence[str],
    *,
    recursive: bool,
    column: str,
    videos: bool,
    left_out: Counter[str] | None = None,
) -> list[Part]:
    """Turn the inputs of a job into parts.

    Parameters
    ----------
    inputs : sequence of str
        Directories; lists, which end in .txt and have a path on each line; tables, which end in
        .parquet; everything else is an image.
    recursive : bool
        Whether directories within directories count.
    column : str
        Of the tables, the one with the images.
    videos : bool
        Whether the videos in directories count.
    left_out : Counter of str, optional
        Here the files of directories that are neither are counted, by suffix.

    Returns
    -------
    list of Part
        In the order of the inputs. What is named twice comes twice.

    Raises
    ------
    JobError
        An input is standard input, an empty list, a directory without images, or a table without
        that column.
    OSError
        An input cannot be read.
    ImportError
        There is a table, and pyarrow is not installed.
    """
    parts: list[Part] = []
    left_out = Counter() if left_out is None else left_out
    for name in inputs:
        if name == "-":
            raise JobError(
                "- is among the inputs; a job may have to read them again after a kill, which "
                "standard input does not allow. Write it to a file, or leave --out away."
            )
        if Path(name).suffix.lower() == TABLE and not os.path.isdir(name):
            parts.append(Table(name, column))
            continue
        names = [name]
        if os.path.isdir(name):
            media = _found_in(name, recursive=recursive, videos=videos)
            names = media.paths
            left_out.update(media.left_out)
        elif Path(name).suffix.lower() == LIST:
            names = _listed_in(name)
        if parts and isinstance(parts[-1], Paths):
            parts[-1].names += names
        else:
            parts.append(Paths(names))
    return parts


def _listed_in(file: str) -> list[str]:
    lines = Path(file).read_bytes().splitlines()
    names = [os.fsdecode(line) for line in lines if line.strip()]
    if not names:
        raise JobError(f"{file} names no images; expected a path on each line.")
    return names


def _found_in(directory: str, *, recursive: bool, videos: bool) -> MediaFiles:
    try:
        return find_media(directory, videos=videos, recursive=recursive)
    except MediaFileError as error:
        where = "Nor do those within it." if recursive else "For those within it add --recursive."
        if any(Path(file).suffix.lower() == TABLE for file in os.listdir(directory)):
            where = f"Its tables are named one by one, as in {os.path.join(directory, '*.parquet')}"
        raise JobError(f"{error} {where}") from error


def items(parts: Sequence[Part], start: int = 0) -> Iterator[Item]:
    """The images from the one numbered `start` on.

    Parameters
    ----------
    parts : sequence of Part
    start : int

    Yields
    ------
    Item
    """
    first = 0
    for part in parts:
        skip = max(start - first, 0)
        if skip < len(part):
            for i, (name, content) in enumerate(part.contents(skip), first + skip):
                yield Item(i, name, content)
        first += len(part)
