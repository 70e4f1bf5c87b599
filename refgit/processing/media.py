"""Which files are images and videos: their content says so, and names where to look."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refgit.errors import MediaFileError, first_of
from refgit.processing.image.formats import image_suffixes, is_image, what_is_missing
from refgit.processing.selection import Selection
from refgit.processing.video.formats import HEAD, SUFFIXES, video_format

_APPLE, _NO_SUFFIX, _NO_FILE = "._*", "without a suffix", "broken links or devices"
_MOST = 12  # suffixes in a line
_EVERYTHING = Selection()


def is_video(source: str | os.PathLike[str] | bytes) -> bool:
    """Whether a file, or an encoded image or video as bytes, is a video.

    Its content says so. Its name does where the content is of no kind that is known here, or where
    there is no such file. An animation, such as a GIF, is an image.
    """
    if isinstance(source, bytes):
        return video_format(source[:HEAD]) != ""
    head = head_of(source)
    if video_format(head):
        return True
    return Path(source).suffix.lower() in SUFFIXES and not is_image(head)


def head_of(source: str | os.PathLike[str] | bytes) -> bytes:
    """Read how a file begins; nothing where it is missing, not a file, or cannot be read."""
    if isinstance(source, bytes):
        return source[:HEAD]
    try:
        if not os.path.isfile(source):  # a pipe would wait for a writer
            return b""
        with open(source, "rb") as file:
            return file.read(HEAD)
    except (OSError, ValueError):
        return b""


def suffixes(*, videos: bool) -> set[str]:
    """How the names of image files end, such as .png, and with `videos` those of videos too."""
    images = image_suffixes()
    return images | set(SUFFIXES) if videos else images


@dataclass(frozen=True)
class MediaFiles:
    """The image files of a directory.

    Attributes
    ----------
    paths : list of str
        They begin with the directory's name, and are sorted by name, those in inner directories
        last.
    left_out : Counter of str
        How many other files there are, by suffix; what macOS keeps beside files is "._*".
    """

    paths: list[str]
    left_out: Counter[str]


def find_media(
    directory: str, *, videos: bool, recursive: bool = False, selection: Selection = _EVERYTHING
) -> MediaFiles:
    """Find the image files of a directory.

    Parameters
    ----------
    directory : str
    videos : bool
        Whether videos count too.
    recursive : bool
        Whether directories within it are searched.
    selection : Selection
        Which of the files count.

    Returns
    -------
    MediaFiles

    Raises
    ------
    MediaFileError
        There are none; the message says what there is.
    OSError
        A directory cannot be read.
    """
    wanted = suffixes(videos=videos)
    paths: list[str] = []
    left_out: Counter[str] = Counter()
    for folder, inner, names in os.walk(directory, onerror=_raise):
        here = _within(directory, folder)
        inner[:] = sorted(inner) if recursive else []
        inner[:] = [name for name in inner if not selection.excludes(here + name)]
        for name in sorted(name for name in names if selection.takes(here + name)):
            path, kind = os.path.join(folder, name), _kind_of(name)
            asked = kind != _APPLE and selection.names_suffix_of(here + name)
            if asked or kind in wanted or (kind == _NO_SUFFIX and is_image(head_of(path))):
                kind = "" if os.path.isfile(path) else _NO_FILE
            if kind:
                left_out[kind] += 1
            else:
                paths.append(path)
    if not paths:
        there = f" ({describe_left_out(left_out)})" if left_out else ""
        chosen = "" if selection == _EVERYTHING else " that --glob and --exclude choose"
        raise MediaFileError(
            f"{directory} holds no image files{chosen}{there}; expected some whose names end in "
            ".png, .jpg or another such suffix."
        )
    return MediaFiles(paths, left_out)


def _within(directory: str, folder: str) -> str:
    """What the paths of files in a folder begin with, seen from the directory above it."""
    way = os.path.relpath(folder, directory).replace(os.sep, "/")
    return "" if way == "." else way + "/"


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Say how many files of each suffix were left out, most first, and what would read them.

    Parameters
    ----------
    left_out : mapping of str to int
        See `MediaFiles`.

    Returns
    -------
    str
        Such as "left out: 3 .heic (pip install pillow-heif), 1 .txt"; "" where there are none.
    """
    said = []
    for suffix, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])):
        remedy = "needs a video model" if suffix in SUFFIXES else what_is_missing(suffix)
        said.append(f"{count} {suffix}" + (f" ({remedy})" if remedy else ""))
    return f"left out: {first_of(said, _MOST)}" if said else ""


def _kind_of(name: str) -> str:
    """The suffix by which a file is counted."""
    if name.startswith(_APPLE[:2]):
        return _APPLE
    return Path(name).suffix.lower() or _NO_SUFFIX


def _raise(error: OSError) -> None:
    raise error
