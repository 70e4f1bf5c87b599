"""Sources that are not a whole video file: a part of one, or pictures that are its frames."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from refgit.processing.image.file import load_image
from refgit.processing.image.formats import HEAD, image_suffixes, is_image
from refgit.processing.video.animation import Animation
from refgit.processing.video.decoding.film import Film
from refgit.processing.video.file import film_of
from refgit.processing.video.opening import Origin, VideoFileError, origin_of
from refgit.processing.video.timeline import Choice, Timeline


@dataclass(frozen=True)
class VideoPart:
    """A part of a video file.

    Attributes
    ----------
    origin : Origin
    start, end : float
        Seconds from the video's first frame.
    """

    origin: Origin
    start: float
    end: float

    def __str__(self) -> str:
        """Return the file's name with the times, such as clip.mp4#0-10."""
        return f"{self.origin.name}#{seconds_as_text(self.start)}-{seconds_as_text(self.end)}"


@dataclass(frozen=True)
class FrameFiles:
    """Pictures in files that are the frames of a video.

    Attributes
    ----------
    place : str
        A directory, whose images are taken in the order of the numbers in their names; or a list,
        with a path on each line.
    """

    place: str

    def __str__(self) -> str:
        """Return the name of the directory or the list."""
        return self.place

    def choose(self, choice: Choice, **of_images: Any) -> list[Any]:
        """Open some of the pictures.

        Parameters
        ----------
        choice : Choice
            Without times, as pictures have none.
        **of_images
            As for `load_image`.

        Returns
        -------
        list of PIL.Image.Image

        Raises
        ------
        VideoFileError
            There are not enough pictures, or times were given.
        ImageFileError
            A picture cannot be read.
        """
        if choice.start or choice.end is not None:
            raise VideoFileError(
                f"{self.place} holds the frames of a video without their times; start and end are "
                "for video files. Choose frames by their numbers."
            )
        names = self._names()
        numbers = choice.numbers(Timeline.of_count(len(names)), self.place)
        pictures = {number: load_image(names[number], **of_images) for number in set(numbers)}
        return [pictures[number] for number in numbers]

    def _names(self) -> list[str]:
        try:
            names = self._in_directory() if os.path.isdir(self.place) else self._in_list()
        except OSError as error:
            reason = error.strerror or str(error)
            raise VideoFileError(f"{self.place}: {reason}; expected the frames of a video.") from (
                error
            )
        if not names:
            raise VideoFileError(f"{self.place} holds no images; expected the frames of a video.")
        return names

    def _in_directory(self) -> list[str]:
        wanted = image_suffixes()
        with os.scandir(self.place) as entries:
            names = [x.name for x in entries if x.is_file() and not x.name.startswith("._")]
        found = [name for name in names if Path(name).suffix.lower() in wanted]
        return [os.path.join(self.place, name) for name in sorted(found, key=natural)]

    def _in_list(self) -> list[str]:
        with open(self.place, "rb") as file:
            head = file.read(HEAD)
        if is_image(head) or (b"\0" in head and head[:2] not in (b"\xff\xfe", b"\xfe\xff")):
            raise VideoFileError(
                f"{self.place} is neither a directory nor a list; expected one of frames' files."
            )
        return listed(Path(self.place).read_bytes())


def listed(data: bytes) -> list[str]:
    """Return the paths that a list has, one on each line.

    Parameters
    ----------
    data : bytes
        UTF-8 or what the system writes names in, with or without a mark, or UTF-16 with one; lines
        end in LF or CR LF.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        lines = data.decode("utf-16").splitlines()
    else:
        lines = [os.fsdecode(line) for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()]
    return [line for line in lines if line.strip()]


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which names sort as people number files: frame2 before frame10."""
    return [
        (int(piece), "") if piece.isdecimal() else (-1, piece)
        for piece in re.split(r"(\d+)", name)
        if piece
    ] + [(-2, name)]


def seconds_as_text(seconds: float) -> str:
    """Write seconds in as few digits as thousandths need."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def parts_of_video(
    place: str | os.PathLike[str] | Origin,
    seconds: float,
    start: float = 0.0,
    end: float | None = None,
) -> list[VideoPart]:
    """Divide a video into parts of equal length, the last of which is what remains.

    Parameters
    ----------
    place : str, path or Origin
        An origin in memory stays with the parts.
    seconds : float
        Length of a part.
    start, end : float, float or None
        Seconds between which the video is divided.

    Raises
    ------
    ImportError, VideoFileError
        As `read_video`.
    """
    origin = place if isinstance(place, Origin) else origin_of(place)
    timeline = film_of_place(origin).timeline
    timeline.between(start, end, origin.name)
    last = timeline.duration if end is None else min(end, timeline.duration)
    found: list[VideoPart] = []
    while (begin := start + len(found) * seconds) < last - 1e-6 or not found:
        found.append(VideoPart(origin, begin, min(begin + seconds, last)))
    return found


def film_of_place(origin: Origin, background: str = "white") -> Film | Animation:
    """Open a video, or take it as it was opened for another part of it."""
    changed = 0 if isinstance(origin.place, bytes) else origin.place.stat().st_mtime_ns
    return _film(origin, changed, origin.size, background)


@lru_cache(maxsize=4)
def _film(origin: Origin, changed: int, size: int, background: str) -> Film | Animation:
    del changed, size  # they tell a file from what it was before
    return film_of(origin, background)
