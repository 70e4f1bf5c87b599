"""How image and video files become pictures: what `Captioner` and the commands may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refgit.processing.image.background import colour_of
from refgit.processing.video.sampling import SAMPLINGS, Sampling
from refgit.processing.video.timeline import Choice
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
        Which frames of a video, and of an animation for a video model: "even" or "document", by
        the rules of `sample_frame_indices`, the latter with the seed 0; or their numbers from 0.
    start, end : float, float or None
        Seconds from a video's first frame between which frames are taken; None: to its end.
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
        named = isinstance(self.frames, str) and self.frames in SAMPLINGS
        numbered = isinstance(self.frames, tuple)
        require(self, "frames", named or numbered, '"even", "document", or numbers of frames')
        self.of_videos(1)  # refuses the rest

    def of_videos(self, count: int, start: float | None = None, end: float | None = None) -> Choice:
        """Return which frames of a video a model gets.

        Parameters
        ----------
        count : int
            How many it takes.
        start, end : float, optional
            Times of a part of the video, which count instead of the ones here.
        """
        if start is None:
            start, end = self.start, self.end
        if isinstance(self.frames, tuple):
            return Choice(self.frames, start=start, end=end)
        sampling: Sampling = "even" if self.frames == "even" else "document"
        return Choice(count, sampling, rng=0, start=start, end=end)

    @property
    def of_images(self) -> dict[str, Any]:
        """The keyword arguments of `refgit.processing.load_image`."""
        return {
            "exif_transpose": self.exif_transpose,
            "background": self.background,
            "max_pixels": self.max_pixels,
            "truncated": self.truncated,
        }
