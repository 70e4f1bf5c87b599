"""What a job is to caption: images by path, or in a column of Parquet files, in a fixed order.

The inputs of the command become parts, each of which knows how many images it has, gives them one
after another from any of them on, and says in a few words which images they are. Directories and
lists are read once, at the start; images and Parquet rows only when their turn comes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from refgit.jobs.errors import JobError

LIST, TABLE = ".txt", ".parquet"
# By name, since what is inside is for PyAV to find out, and that is an extra.
_VIDEOS = (
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip


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


class Paths:
    """Images that lie in files of their own.

    Parameters
    ----------
    names : list of str
        Relative ones are meant from the working directory.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names

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
        """Of the names, in order; what the files hold is not looked at."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(os.fsencode(name) + b"\0")
        return {"files": len(self.names), "sha256": digest.hexdigest()}


def parts_of(inputs: Sequence[str], *, recursive: bool, column: str, videos: bool) -> list[Part]:
    """What the inputs of a job stand for.

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
    for name in inputs:
        if name == "-":
            raise JobError(
                "- is among the inputs; a job may have to read them again after a kill, which "
                "standard input does not allow. Write it to a file, or leave --out away."
            )
        if Path(name).suffix.lower() == TABLE and not os.path.isdir(name):
            from refgit.jobs.parquet import Table

            parts.append(Table(name, column))
            continue
        names = _paths(name, recursive=recursive, videos=videos)
        if parts and isinstance(parts[-1], Paths):
            parts[-1].names += names
        else:
            parts.append(Paths(names))
    return parts


def _paths(name: str, *, recursive: bool, videos: bool) -> list[str]:
    if os.path.isdir(name):
        return _found_in(name, recursive=recursive, videos=videos)
    if Path(name).suffix.lower() == LIST:
        return _listed_in(name)
    return [name]


def _listed_in(file: str) -> list[str]:
    """The lines of a list; empty ones are left out."""
    lines = Path(file).read_bytes().splitlines()
    names = [os.fsdecode(line) for line in lines if line.strip()]
    if not names:
        raise JobError(f"{file} names no images; expected a path on each line.")
    return names


def _found_in(directory: str, *, recursive: bool, videos: bool) -> list[str]:
    """Image files of a directory, sorted by name, and what lies in the directories within."""
    wanted = suffixes(videos=videos)
    names: list[str] = []
    for folder, inner, files in os.walk(directory, onerror=_raise):
        inner[:] = sorted(inner) if recursive else []
        paths = (os.path.join(folder, file) for file in sorted(files))
        names += [p for p in paths if Path(p).suffix.lower() in wanted and os.path.isfile(p)]
    if not names:
        where = "Nor do those within it." if recursive else "For those within it add --recursive."
        tables = any(Path(file).suffix.lower() == TABLE for file in os.listdir(directory))
        if tables:
            where = f"Its tables are named one by one, as in {os.path.join(directory, '*.parquet')}"
        raise JobError(
            f"{directory} holds no image files; expected some whose names end in .png, .jpg or "
            f"another such suffix. {where}"
        )
    return names


def _raise(error: OSError) -> None:
    raise error


def suffixes(*, videos: bool) -> set[str]:
    """How the names of image files end, such as .png, and with `videos` those of videos too."""
    from PIL import Image

    formats = Image.registered_extensions()  # {".png": "PNG", ...}, those to write only as well
    images = {suffix for suffix, name in formats.items() if name in Image.OPEN}
    return images | set(_VIDEOS) if videos else images


def is_video(name: str) -> bool:
    """Whether a file's name says that it is a video."""
    return Path(name).suffix.lower() in _VIDEOS


def count(parts: Sequence[Part]) -> int:
    """How many images there are."""
    return sum(len(part) for part in parts)


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
