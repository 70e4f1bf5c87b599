"""Which frames of a video the model gets: a choice of numbers, without a file or a decoder."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refgit.validation import expect, is_size

Sampling: TypeAlias = Literal["even", "document"]
SAMPLINGS = ("even", "document")
Random: TypeAlias = "int | np.random.Generator | np.random.RandomState | None"


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
