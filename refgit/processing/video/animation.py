"""An animated picture as a video: GIF, WebP, PNG or AVIF, which Pillow decodes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refgit.processing.image.background import colour_of, on_background
from refgit.processing.video.formats import HEAD, may_be_several_pictures
from refgit.processing.video.opening import Origin, VideoFileError
from refgit.processing.video.timeline import Choice, Timeline
from refgit.processing.video.wholeness import missing_bytes

_NO_TIME = 0.1  # seconds that browsers show a frame for which the file says 0


class Animation:
    """An animated picture, of which several choices of frames can be read.

    Parameters
    ----------
    origin : Origin
    background : str
        The colour behind transparent frames; see `Reading`.
    """

    def __init__(self, origin: Origin, background: str = "white") -> None:
        self.origin, self.name = origin, origin.name
        self.background = colour_of(background)

    def read(self, choice: Choice) -> list[NDArray[np.uint8]]:
        """Decode some frames.

        Raises
        ------
        VideoFileError
            There are not enough frames, or the file is damaged.
        """
        self._refuse_what_is_cut()
        numbers = choice.numbers(self.timeline, self.name)
        found = {}
        with self._opened() as image:
            for number in sorted(set(numbers)):  # frames are made from those before them
                image.seek(number)
                colour = self.background
                rgb = image.convert("RGB") if colour is None else on_background(image, colour)
                found[number] = np.asarray(rgb)
        return [found[number] for number in numbers]

    @cached_property
    def timeline(self) -> Timeline:
        """When the frames are shown."""
        lengths = []
        with self._opened() as image:
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                image.load()
                lengths.append(float(image.info.get("duration", 0)) / 1000 or _NO_TIME)
        ends = np.cumsum(lengths)
        return Timeline(np.concatenate([[0.0], ends[:-1]]), float(ends[-1]))

    def _refuse_what_is_cut(self) -> None:
        with self.origin.stream() as file:
            if not missing_bytes(file, self.origin.size):
                return
        count = 0
        try:
            with self._opened() as image:
                while True:
                    image.seek(count)
                    image.load()
                    count += 1
        except VideoFileError:
            pass
        raise VideoFileError(
            f"{self.name} is cut short: its end is missing, and the first {count} frames of it "
            "can be read. Copy it again."
        )

    @contextmanager
    def _opened(self) -> Iterator[Image.Image]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with self.origin.stream() as stream, Image.open(stream) as image:
                    yield image
        except VideoFileError:
            raise
        except Exception as error:  # decoders raise whatever they like: see `load_image`
            cause = str(error) or type(error).__name__
            raise VideoFileError(
                f"{self.name} cannot be decoded as an animation: {cause}. Is the file whole?"
            ) from error


def is_animation(origin: Origin) -> bool:
    """Whether a file is a picture of several frames."""
    with origin.stream() as stream:
        if not may_be_several_pictures(stream.read(HEAD)):
            return False
    try:
        with origin.stream() as stream, Image.open(stream) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # whoever reads it says what is wrong
        return False
