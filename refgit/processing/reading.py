"""How image and video files become pictures: what `Captioner` and the commands may choose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """How files are read; arrays and PIL images are taken as they are.

    Attributes
    ----------
    exif_transpose : bool
        Turn images as their EXIF orientation says.
    background : str
        The colour behind transparent images, as Pillow names colours.
    max_pixels : int or None
        The most pixels an image may have; by default Pillow's limit against decompression bombs.
    truncated : bool
        Take a JPEG whose last bytes are missing.
    frames : str or tuple of int
        Which frames of a video: "even", "document", or their numbers from 0.
    start, end : float or None
        Seconds of a video between which frames are taken.
    """

    exif_transpose: bool = True
    background: str = "white"
    max_pixels: int | None = None
    truncated: bool = False
    frames: str | tuple[int, ...] = "even"
    start: float = 0.0
    end: float | None = None
