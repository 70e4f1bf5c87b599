"""Reading a video file: which frames are read, and their pixels.

`VideoMAEImageProcessor` prepares the frames. Decoding needs PyAV, the extra `video`; choosing
frames does not.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refgit.errors import MediaFileError
from refgit.validation import expect, is_size

Sampling: TypeAlias = Literal["even", "document"]
Random: TypeAlias = "int | np.random.Generator | np.random.RandomState | None"


class VideoFileError(MediaFileError):
    """A video file cannot be used: missing, a directory, not a video, damaged or too short."""


def sample_frame_indices(
    num_frames_in_video: int,
    frames: int,
    sampling: Sampling = "even",
    rng: Random = None,
    frame_sample_rate: int = 4,
) -> NDArray[np.int64]:
    """Choose which frames of a video the model gets.

    With n frames in the video and F wanted:

    "even": the middle of each of F equal parts, i_k = floor((2 k + 1) n / (2 F)), k = 0 .. F - 1;
    a video of fewer than F frames has some of them repeated.

    "document": F frames spread over a clip of c = F * frame_sample_rate frames somewhere in the
    video: its end e is drawn from c <= e < n, its start is e - c, and
    i_k = floor(min(e - c + k c / (F - 1), e - 1)); for F = 1 it is the start.

    Parameters
    ----------
    num_frames_in_video : int
        Frames in the video.
    frames : int
        Frames wanted; the model's `num_image_with_embedding`.
    sampling : "even" or "document"
        The rule.
    rng : int, numpy.random.Generator, numpy.random.RandomState or None
        Where "document" draws from; an int seeds a Generator. `RandomState(45)` draws what the
        document's example draws after `np.random.seed(45)`.
    frame_sample_rate : int
        How far apart the frames of "document" are, about.

    Returns
    -------
    int64 array (frames,)
        Indices from 0, ascending.

    Raises
    ------
    ValueError
        If a number is not positive, the rule is unknown, or the video is too short for "document".

    Notes
    -----
    Source of "document": transformers 4.56.2, docs/source/en/model_doc/git.md, video captioning.
    """
    for name, value in (
        ("num_frames_in_video", num_frames_in_video),
        ("frames", frames),
        ("frame_sample_rate", frame_sample_rate),
    ):
        expect(name, value, is_size(value), "a whole number of at least 1")
    if sampling == "even":
        return (2 * np.arange(frames, dtype=np.int64) + 1) * num_frames_in_video // (2 * frames)
    expect("sampling", sampling, sampling == "document", '"even" or "document"')
    clip = frames * frame_sample_rate
    if num_frames_in_video <= clip:
        raise ValueError(
            f'sampling="document" takes {frames} frames from a clip of {clip}, and the video has '
            f'{num_frames_in_video}; expected more than {clip}. Use sampling="even".'
        )
    if isinstance(rng, np.random.RandomState):
        end = int(rng.randint(clip, num_frames_in_video))
    else:
        end = int(np.random.default_rng(rng).integers(clip, num_frames_in_video))
    spread = np.linspace(end - clip, end, num=frames)
    return np.clip(spread, end - clip, end - 1).astype(np.int64)


def read_video(
    path: str | os.PathLike[str],
    frames: int,
    sampling: Sampling = "even",
    rng: Random = None,
    frame_sample_rate: int = 4,
) -> list[NDArray[np.uint8]]:
    """Decode some frames of a video file.

    The first video stream is read twice: to count its frames, because what files say of that is
    often missing or wrong, and to decode those wanted. Frames are as they are stored: a rotation in
    the metadata is not applied.

    Parameters
    ----------
    path : str or path
        The file.
    frames, sampling, rng, frame_sample_rate
        As for `sample_frame_indices`.

    Returns
    -------
    list of uint8 arrays (H, W, 3)
        The frames in RGB, as `VideoMAEImageProcessor` takes them.

    Raises
    ------
    ImportError
        If PyAV is not installed; the message says how to install it.
    VideoFileError
        If the file is missing, a directory, empty, not a video, damaged, or too short.
    ValueError
        If an option has no meaning.
    """
    sample_frame_indices(2**31, frames, sampling, 0, frame_sample_rate)  # refuses wrong options
    file = Path(path)
    if file.is_dir():
        raise VideoFileError(f"{file} is a directory; expected a video file.")
    if not file.exists():
        raise VideoFileError(f"{file} does not exist; expected a video file.")
    if file.stat().st_size == 0:
        raise VideoFileError(f"{file} is empty (0 bytes); expected a video.")
    av = _import_av(file)
    count = _count_frames(av, file)
    try:
        indices = sample_frame_indices(count, frames, sampling, rng, frame_sample_rate)
    except ValueError as error:
        raise VideoFileError(f"{file}: {error}") from error
    wanted = set(indices.tolist())
    found: dict[int, NDArray[np.uint8]] = {}
    for index, frame in enumerate(_decode(av, file)):
        if index in wanted:
            found[index] = frame.to_ndarray(format="rgb24")
        if len(found) == len(wanted):
            break
    return [found[index] for index in indices.tolist()]


def _import_av(file: Path) -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ImportError(
            f"Reading {file} needs PyAV, which is not installed: pip install 'refgit[video]'."
        ) from error


def _count_frames(av: Any, file: Path) -> int:
    """Count by decoding: what the container says is a claim, and absent from many."""
    count = sum(1 for _ in _decode(av, file))
    if count == 0:
        raise VideoFileError(
            f"{file} has a video stream without frames; expected at least one. Is the file whole?"
        )
    return count


def _decode(av: Any, file: Path) -> Iterator[Any]:
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise VideoFileError(f"{file} has no video stream; expected a video file.")
            container.streams.video[0].thread_type = "AUTO"
            yield from container.decode(video=0)
    except (av.FFmpegError, OSError, EOFError) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoFileError(
            f"{file} cannot be decoded as a video: {cause}. Is the file whole, and a video?"
        ) from error
