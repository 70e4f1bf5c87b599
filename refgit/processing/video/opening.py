"""Opening a video: the decoder library, the source of bytes, and the track that is meant."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

from refgit.errors import MediaFileError
from refgit.processing.video.formats import HEAD, SUFFIXES, video_format

_DEMUXERS = {
    "MP4": "mov",
    "QuickTime": "mov",
    "Matroska or WebM": "matroska",
    "AVI": "avi",
    "MPEG-TS": "mpegts",
    "MPEG": "mpeg",
    "FLV": "flv",
    "Windows Media": "asf",
    "Ogg": "ogg",
}
VideoSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]"


class VideoFileError(MediaFileError):
    """A video file cannot be used: missing, a directory, not a video, damaged or too short."""


@dataclass(frozen=True)
class Origin:
    """Where a video's bytes are, to be opened as often as needed.

    Attributes
    ----------
    name : str
        What errors call it.
    place : Path or bytes
    """

    name: str
    place: Path | bytes = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self.place) if isinstance(self.place, bytes) else self.place.stat().st_size

    def stream(self) -> IO[bytes]:
        """Open the bytes themselves."""
        if isinstance(self.place, bytes):
            return io.BytesIO(self.place)
        return self.place.open("rb")


def origin_of(source: VideoSource) -> Origin:
    """Find out where a video's bytes are; a stream is read to its end.

    Raises
    ------
    VideoFileError
        It is missing, a directory, empty, or neither a path nor bytes nor a binary file.
    """
    if isinstance(source, (str, os.PathLike)):
        file = Path(source)
        if file.is_dir():
            raise VideoFileError(f"{file} is a directory; expected a video file.")
        if not file.exists():
            raise VideoFileError(f"{file} does not exist; expected a video file.")
        if not file.is_file():  # a pipe or a device: it can be read once
            return _in_memory(str(file), file.read_bytes())
        origin = Origin(str(file), file)
        if origin.size == 0:
            raise VideoFileError(f"{file} is empty (0 bytes); expected a video.")
        return origin
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _in_memory(f"The video data ({len(source)} bytes)", bytes(source))
    if hasattr(source, "read"):
        return _in_memory(str(getattr(source, "name", "The video stream")), source.read())
    raise VideoFileError(
        f"A video is a path, bytes or a binary file; found {type(source).__name__}."
    )


def _in_memory(name: str, data: bytes) -> Origin:
    if not data:
        raise VideoFileError(f"{name} is empty (0 bytes); expected a video.")
    return Origin(name, data)


def import_av(name: str) -> Any:
    """Import PyAV, which decodes.

    Raises
    ------
    ImportError
        It is not installed; the message names the file and the package.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ImportError(
            f"Reading {name} needs PyAV, which is not installed: pip install av."
        ) from error


@contextmanager
def opened(origin: Origin) -> Iterator[Any]:
    """Open a video with PyAV.

    Raises
    ------
    VideoFileError
        What is opened, or what is done meanwhile, fails in FFmpeg's libraries.
    """
    av = import_av(origin.name)
    # "file:" keeps FFmpeg from taking a name with a colon for an address.
    place = io.BytesIO(origin.place) if isinstance(origin.place, bytes) else f"file:{origin.place}"
    try:
        with av.open(place, format=_demuxer(origin)) as container:
            yield container
    except (av.FFmpegError, OSError, EOFError) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoFileError(
            f"{origin.name} cannot be decoded as a video: {cause}. Is the file whole, and a video?"
        ) from error


def _demuxer(origin: Origin) -> str | None:
    """Name what reads a file whose own name would mislead FFmpeg, such as a video called .png."""
    if isinstance(origin.place, bytes) or origin.place.suffix.lower() in SUFFIXES:
        return None
    with origin.stream() as stream:
        head = stream.read(HEAD)
    return None if head[:4] == b"\0\0\1\xb3" else _DEMUXERS.get(video_format(head))


def track_of(container: Any, name: str) -> Any:
    """Choose the track that a player would show.

    Cover pictures are never chosen, nor the still of an animated AVIF beside its film. Among the
    others, the one marked as the default comes first, then the one with the most pixels.

    Raises
    ------
    VideoFileError
        There is no track with moving pictures.
    """
    pictures = ("attached_pic", "timed_thumbnails", "still_image")
    tracks = [
        track
        for track in container.streams.video
        if not any(flag in _disposition(track) for flag in pictures)
    ]
    if not tracks:
        what = "no video stream" if not container.streams.video else "a cover picture only"
        raise VideoFileError(f"{name} has {what}; expected a video file.")
    moving = [track for track in tracks if track.frames != 1] or tracks

    def rank(track: Any) -> tuple[bool, int, int]:
        size = (track.width or 0) * (track.height or 0)
        return "default" in _disposition(track), size, -track.index

    return max(moving, key=rank)


def _disposition(track: Any) -> set[str]:
    marks = track.disposition
    return {flag.name for flag in type(marks) if flag and flag in marks}
