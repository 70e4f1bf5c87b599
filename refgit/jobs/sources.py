"""What is to be captioned: images by path, or in a column of Parquet files, in a fixed order.

The inputs of the command become parts, each of which knows how many images it has, gives them one
after another from any of them on, and says in a few words which images they are. Directories and
lists are read once, at the start; images and Parquet rows only when their turn comes.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from refgit.errors import JobError, MediaFileError
from refgit.jobs.lists import LIST, Neighbours, paths_in
from refgit.jobs.parquet import Table
from refgit.processing.media import MediaFiles, find_media
from refgit.processing.selection import Selection

STDIN, TABLE = "-", ".parquet"
_EVERYTHING = Selection()
_NO_STDIN = (
    "- is among the inputs; a job may have to read them again after a kill, which standard input "
    "does not allow. Write it to a file, or leave --out away."
)


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


@dataclass
class Broken:
    """An input that cannot be read, where that is said in its turn.

    Parameters
    ----------
    name : str
    error : Exception
        What is wrong with it.
    """

    name: str
    error: Exception
    relative = False

    def __len__(self) -> int:
        return 1

    def contents(self, start: int) -> Iterator[tuple[str, str | bytes | Exception]]:
        """Its name and what is wrong with it."""
        return iter([(self.name, self.error)][start:])

    def identity(self) -> dict[str, Any]:
        """Its name; jobs refuse such an input."""
        return {"broken": self.name}


def parts_of(
    inputs: Sequence[str],
    *,
    recursive: bool,
    column: str,
    videos: bool,
    selection: Selection = _EVERYTHING,
    left_out: Counter[str] | None = None,
    tolerant: bool = False,
) -> list[Part]:
    """Turn inputs into parts.

    Parameters
    ----------
    inputs : sequence of str
        Directories; lists, which end in .txt and have a path on each line; tables, which end in
        .parquet; everything else is an image. A .txt or .caption beside an image of its name is
        that image's caption, and left out.
    recursive : bool
        Whether directories within directories count.
    column : str
        Of the tables, the one with the images.
    videos : bool
        Whether the videos in directories count.
    selection : Selection
        Which files of directories count, and which of any are left out.
    left_out : Counter of str, optional
        Here the files that are none of these are counted, by suffix.
    tolerant : bool
        Put what is wrong with an input in its place, and take standard input; for captions that
        are not written to a file.

    Returns
    -------
    list of Part
        In the order of the inputs. What is named twice comes twice.

    Raises
    ------
    JobError
        An input is standard input, an empty list, a directory without images, or a table without
        that column; or `selection` leaves nothing.
    OSError
        An input cannot be read.
    ImportError
        There is a table, and pyarrow is not installed.
    """
    look = partial(_found_in, recursive=recursive, videos=videos, selection=selection)
    left_out = Counter() if left_out is None else left_out
    parts: list[Part] = []
    neighbours = Neighbours()
    for name in inputs:
        if neighbours.is_result(name):
            left_out[Path(name).suffix.lower()] += 1
            continue
        try:
            if name == STDIN and not tolerant:
                raise JobError(_NO_STDIN)
            part = _part_of(name, column, selection, look, left_out)
        except (JobError, MediaFileError, OSError, ImportError) as error:
            if not tolerant:
                raise
            known = isinstance(error, JobError)
            part = Broken(name, MediaFileError(str(error)) if known else error)
        if parts and isinstance(parts[-1], Paths) and isinstance(part, Paths):
            parts[-1].names += part.names
        else:
            parts.append(part)
    if inputs and not any(isinstance(part, Table) or len(part) for part in parts):
        raise JobError(_nothing_left(inputs))
    return parts


def _part_of(
    name: str,
    column: str,
    selection: Selection,
    look: Callable[[str], MediaFiles],
    left_out: Counter[str],
) -> Part:
    if os.path.isdir(name):
        media = look(name)
        left_out.update(media.left_out)
        return Paths(media.paths)
    suffix = Path(name).suffix.lower()
    if suffix == TABLE:
        return Table(name, column)
    names = paths_in(name) if suffix == LIST else [name]
    return Paths([name for name in names if not selection.leaves_out(name)])


def _found_in(directory: str, *, recursive: bool, videos: bool, selection: Selection) -> MediaFiles:
    try:
        return find_media(directory, videos=videos, recursive=recursive, selection=selection)
    except MediaFileError as error:
        where = "Nor do those within it." if recursive else "For those within it add --recursive."
        if any(Path(file).suffix.lower() == TABLE for file in os.listdir(directory)):
            where = f"Its tables are named one by one, as in {os.path.join(directory, '*.parquet')}"
        raise JobError(f"{error} {where}") from error


def _nothing_left(inputs: Sequence[str]) -> str:
    """Say why no images are left: captions beside images were named, or --exclude fits all."""
    name = next((x for x in inputs if Neighbours().is_result(x)), None)
    if name is None:
        return "--exclude leaves no images; expected some that it does not fit."
    if not Neighbours().is_caption(name):
        return f"{name} is what a job has written; expected images, directories or lists."
    return (
        f"{name} lies beside an image of its name, so it is taken for the caption of that, not for "
        "a list. Name images or directories; give a list another name."
    )


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
