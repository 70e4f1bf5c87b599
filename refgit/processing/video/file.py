"""Reading a video file: some of its frames, in RGB.

`VideoMAEImageProcessor` prepares them. Decoding needs PyAV, the extra `video`; choosing frames does
not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refgit.processing.video.animation import Animation, is_animation
from refgit.processing.video.decoding.film import Film
from refgit.processing.video.opening import Origin, VideoSource, origin_of
from refgit.processing.video.sampling import Random, Sampling
from refgit.processing.video.timeline import Choice


def read_video(
    source: VideoSource,
    frames: int | Sequence[int],
    sampling: Sampling = "even",
    rng: Random = None,
    frame_sample_rate: int = 4,
    *,
    start: float = 0.0,
    end: float | None = None,
    background: str = "white",
) -> list[NDArray[np.uint8]]:
    """Read some frames of a video.

    The packets of the video are read first, which says when each frame is shown; then only what the
    chosen frames need is decoded. They are those that decoding everything gives, turned as the
    file's display matrix says, with square pixels, and without frames that an edit list hides: the
    bytes of ``ffmpeg -i FILE -f rawvideo -pix_fmt rgb24``. Fields of interlaced frames stay woven,
    and HDR is not tone-mapped. Of several tracks it is the default one, or the one with the most
    pixels; never a cover picture.

    Animated GIF, WebP, PNG and AVIF are videos too; Pillow reads them.

    Parameters
    ----------
    source : str, path, bytes, or binary file
        A file or its content. A stream is read into memory.
    frames : int or sequence of int
        How many frames, chosen by `sampling`; or which ones, counted from 0 at `start`.
    sampling, rng, frame_sample_rate
        As for `sample_frame_indices`.
    start, end : float, float or None
        Seconds from the first frame between which frames are taken, `end` not included; None: to
        the last frame.
    background : str
        The colour behind transparent frames of animations, as for `load_image`.

    Returns
    -------
    list of uint8 arrays (H, W, 3)
        The frames in RGB, as `VideoMAEImageProcessor` takes them.

    Raises
    ------
    ImportError
        If PyAV is not installed, and it is not an animation; the message says how to install it.
    VideoFileError
        If the file is missing, a directory, empty, not a video, damaged, cut short, or too short.
    ValueError
        If an option has no meaning.
    """
    choice = Choice(frames, sampling, rng, frame_sample_rate, start, end)  # refuses wrong options
    return film_of(origin_of(source), background).read(choice)


def film_of(origin: Origin, background: str = "white") -> Film | Animation:
    """Open a video, or an animation, to read frames of it several times.

    Raises
    ------
    ImportError, VideoFileError
        As `read_video`.
    """
    return Animation(origin, background) if is_animation(origin) else Film(origin)
