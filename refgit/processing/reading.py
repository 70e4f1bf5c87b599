"""How image and video files become pictures: what `Captioner` and the commands may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refgit.processing.image.background import colour_of
from refgit.validation import is_size, require


@dataclass(frozen=True)
class Reading:
    """How files are read; arrays and PIL images are taken as they are.

    Attributes
    ----------
    exif_transpose : bool
        Turn images as their EXIF orientation says.
    background : str
        The colour behind transparent images, as Pillow names colours; "oracle" drops the
        transparency, as transformers does.
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

    def __post_init__(self) -> None:
        colour_of(self.background)
        known = self.max_pixels is None or is_size(self.max_pixels)
        require(self, "max_pixels", known, "a whole number of at least 1, or None")

    @property
    def of_images(self) -> dict[str, Any]:
        """The keyword arguments of `refgit.processing.load_image`."""
        return {
            "exif_transpose": self.exif_transpose,
            "background": self.background,
            "max_pixels": self.max_pixels,
            "truncated": self.truncated,
        }
