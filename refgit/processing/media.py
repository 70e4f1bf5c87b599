"""Which files are images and videos, by their names."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from refgit.errors import MediaFileError

# By name, since only PyAV, an extra, could look inside.
_VIDEOS = (
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip


def is_video(name: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that it is a video."""
    return Path(name).suffix.lower() in _VIDEOS


def suffixes(*, videos: bool) -> set[str]:
    """How the names of image files end, such as .png, and with `videos` those of videos too."""
    formats = Image.registered_extensions()  # {".png": "PNG", ...}, with formats only written
    images = {suffix for suffix, name in formats.items() if name in Image.OPEN}
    return images | set(_VIDEOS) if videos else images


def find_media(directory: str, *, videos: bool, recursive: bool = False) -> list[str]:
    """Find the image files of a directory.

    Parameters
    ----------
    directory : str
    videos : bool
        Whether videos count too.
    recursive : bool
        Whether directories within it are searched.

    Returns
    -------
    list of str
        Paths that begin with `directory`, sorted by name, those in inner directories last.

    Raises
    ------
    MediaFileError
        There are none.
    OSError
        A directory cannot be read.
    """
    wanted = suffixes(videos=videos)
    found: list[str] = []
    for folder, inner, files in os.walk(directory, onerror=_raise):
        inner[:] = sorted(inner) if recursive else []
        paths = (os.path.join(folder, file) for file in sorted(files))
        found += [p for p in paths if Path(p).suffix.lower() in wanted and os.path.isfile(p)]
    if not found:
        raise MediaFileError(
            f"{directory} holds no image files; expected some whose names end in .png, .jpg or "
            "another such suffix."
        )
    return found


def _raise(error: OSError) -> None:
    raise error
