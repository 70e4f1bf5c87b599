"""Videos that are several images' worth of captions, and files that are one video."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from refgit.jobs.sources import Part, Paths
from refgit.pipeline.videos import is_film
from refgit.processing.video.opening import origin_of
from refgit.processing.video.parts import FrameFiles, VideoPart, parts_of_video


@dataclass(frozen=True)
class VideoInputs:
    """How videos are divided and put together.

    Attributes
    ----------
    frames : int or None
        How many frames of a video the model takes; None: no videos.
    frames_from : sequence of str
        Directories and lists of pictures that are each a video's frames.
    segments : float or None
        Seconds of a part of a video; None: videos stay whole.
    start, end : float, float or None
        Seconds between which videos are divided.
    """

    frames: int | None
    frames_from: Sequence[str] = ()
    segments: float | None = None
    start: float = 0.0
    end: float | None = None


@dataclass
class Videos:
    """Parts of videos, or frames in files.

    Parameters
    ----------
    named : list of (str, source)
        What a row calls each, and what `Captioner.read` takes.
    files : list of str
        The files and directories in which they are.
    """

    named: list[tuple[str, Any]]
    files: list[str]

    def __len__(self) -> int:
        return len(self.named)

    @property
    def relative(self) -> bool:
        """Whether the working directory matters."""
        return not all(map(os.path.isabs, self.files))

    def contents(self, start: int) -> Iterator[tuple[str, Any]]:
        """Name and source of each."""
        return iter(self.named[start:])

    def identity(self) -> dict[str, Any]:
        """Hash the names, in order."""
        digest = hashlib.sha256()
        for name, _ in self.named:
            digest.update(os.fsencode(name) + b"\0")
        return {"videos": len(self.named), "sha256": digest.hexdigest()}


def with_videos(
    parts: Sequence[Part],
    inputs: VideoInputs,
    opened: Callable[[str], Any] = lambda name: name,
) -> list[Part]:
    """Divide the videos among the parts of a job, and add those whose frames are files.

    Parameters
    ----------
    parts : sequence of Part
    inputs : VideoInputs
    opened : callable
        What is to be read for a name.

    Returns
    -------
    list of Part
        A part of a video is called FILE#START-END, in seconds.
    """
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Paths) and inputs.segments is not None and inputs.frames is not None:
            found += _divided(part, inputs, opened)
        else:
            found.append(part)
    if inputs.frames_from:
        places = list(inputs.frames_from)
        found.append(Videos([(place, FrameFiles(place)) for place in places], places))
    return found


def _divided(paths: Paths, inputs: VideoInputs, opened: Callable[[str], Any]) -> Iterator[Part]:
    """Yield the paths between videos, and the videos' parts."""
    whole: list[str] = []
    for name in paths.names:
        named = _parts(name, inputs, opened)
        if named is None:
            whole.append(name)
            continue
        if whole:
            yield Paths(whole)
        yield Videos(named, [name])
        whole = []
    if whole:
        yield Paths(whole)


def _parts(
    name: str, inputs: VideoInputs, opened: Callable[[str], Any]
) -> list[tuple[str, Any]] | None:
    """Divide a video; None where it is an image."""
    source: Any = name
    try:
        source = opened(name)
        if is_film(source, inputs.frames):
            seconds = inputs.segments or 0.0
            parts = parts_of_video(origin_of(source), seconds, inputs.start, inputs.end)
            return [(str(part), part) for part in parts]
    except (ValueError, ImportError, OSError) as error:
        return [(name, error)]
    return None if source == name else [(name, source)]


def times_of(source: Any) -> dict[str, float]:
    """Return start and end of a part of a video, for JSON; nothing for other sources."""
    if not isinstance(source, VideoPart):
        return {}
    return {"start": round(source.start, 3), "end": round(source.end, 3)}
