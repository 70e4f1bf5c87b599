"""A source, which is whatever an image or video comes as, becomes pixel values."""

from __future__ import annotations

import io
import os
import stat
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refgit.errors import SeveralImagesError
from refgit.pipeline.videos import is_film, open_video
from refgit.processing import GitProcessor, load_image
from refgit.processing.reading import Reading
from refgit.processing.video.parts import FrameFiles, VideoPart

Pixels: TypeAlias = NDArray[np.float32]
Source: TypeAlias = Any  # see `Captioner`


def read_source(
    source: Source, processor: GitProcessor, frames: int | None, reading: Reading
) -> Pixels:
    """Decode and prepare one image or video; see `Captioner.read`.

    Parameters
    ----------
    source
        See `Captioner`.
    processor : GitProcessor
    frames : int or None
        How many frames of a video the model reads; None where it reads images.
    reading : Reading
        How files are read.

    Returns
    -------
    float32 array (1, 3, H, W), or (1, F, 3, H, W) where the model reads videos
    """
    opened = open_source(source, frames, reading)
    pixels: Pixels = processor(images=opened, return_tensors="np")["pixel_values"]
    if frames is not None and pixels.ndim == 4:  # a CLIP processor: frames are its batch
        pixels = pixels[None]  # (F, 3, H, W) -> (1, F, 3, H, W)
    if len(pixels) != 1:
        raise SeveralImagesError(
            f"the source is {len(pixels)} images or videos; expected one. Pass several to "
            "captions, a source each."
        )
    return pixels


def open_source(source: Source, frames: int | None, reading: Reading) -> Any:
    """Return a source as the processor takes it: files, bytes and streams are decoded.

    Parameters
    ----------
    source, frames, reading
        See `read_source`.
    """
    if isinstance(source, Exception):
        raise source
    if isinstance(source, bytearray | memoryview):
        source = bytes(source)
    if isinstance(source, str | os.PathLike) and _is_pipe(source):
        with open(source, "rb") as pipe:
            source = _seekable(pipe)
    elif hasattr(source, "read"):
        source = _seekable(source)
    if isinstance(source, VideoPart | FrameFiles) or is_film(source, frames):
        return open_video(source, frames, reading)
    if isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read"):
        return load_image(source, **reading.of_images)
    return source


def _is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether a path names what can be read once, as the shell's <(command) does."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _seekable(stream: Any) -> Any:
    """Return a stream of which the beginning can be read twice."""
    if stream.seekable():
        return stream
    whole = io.BytesIO(stream.read())
    whole.name = getattr(stream, "name", "The image stream")
    return whole
