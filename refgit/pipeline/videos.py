"""Which sources are videos, and the frames of them that a model is to see."""

from __future__ import annotations

import os
from typing import Any

from refgit.processing import VideoFileError
from refgit.processing.media import head_of, is_video
from refgit.processing.reading import Reading
from refgit.processing.video.animation import is_animation
from refgit.processing.video.file import film_of
from refgit.processing.video.formats import HEAD, may_be_several_pictures
from refgit.processing.video.opening import Origin, origin_of
from refgit.processing.video.parts import FrameFiles, VideoPart, film_of_place


def is_film(source: Any, frames: int | None) -> bool:
    """Whether a source is a video, or for a video model an animation."""
    if hasattr(source, "read"):
        place = source.tell()
        head = source.read(HEAD)
        source.seek(place)
        return is_video(head) or (frames is not None and is_animation(_origin(source)))
    if not isinstance(source, str | os.PathLike | bytes):
        return False
    if is_video(source):
        return True
    if frames is None or not may_be_several_pictures(head_of(source)):
        return False
    return is_animation(origin_of(source))


def _origin(stream: Any) -> Origin:
    place = stream.tell()
    try:
        return origin_of(stream)
    finally:
        stream.seek(place)


def open_video(source: Any, frames: int | None, reading: Reading) -> Any:
    """Return the frames of a video that the model is to see."""
    if frames is None:
        named = isinstance(source, str | os.PathLike | VideoPart | FrameFiles)
        name = source if named else getattr(source, "name", "The data")
        raise VideoFileError(
            f"{name} is a video; this model takes images only (its num_image_with_embedding "
            "is null). Use a video model, such as microsoft/git-base-vatex."
        )
    if isinstance(source, FrameFiles):
        return source.choose(reading.of_videos(frames), **reading.of_images)
    if isinstance(source, VideoPart):
        film = film_of_place(source.origin, reading.background)
        return film.read(reading.of_videos(frames, source.start, source.end))
    return film_of(origin_of(source), reading.background).read(reading.of_videos(frames))
