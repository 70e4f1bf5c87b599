"""Pictures with more than a byte a channel: which of their numbers is white.

Pillow keeps them as they are and clips them to 0 .. 255 on the way to RGB, so that nearly all of a
16-bit picture comes out white.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_WHITES = {"I": (255, 65535), "F": (1, 255, 65535)}  # by Pillow's mode
_DARK = 16  # a picture with nothing above this part of white would be black to the eye
_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose widest integers have 16 bits, in mode "I" too


def has_wide_pixels(image: Image.Image) -> bool:
    """Whether the picture has integers of 16 or 32 bits, or floats."""
    return image.mode in _WHITES or image.mode.startswith("I;16")


def to_bytes(image: Image.Image, form: str | None = None) -> Image.Image:
    """Scale a grey picture of 16 or 32 bits to bytes.

    Of 16 bits, 65535 is white. Of 32 bits white is the least of 1 (floats only), 255 and 65535 that
    no pixel exceeds; where there are negative numbers or larger ones, or none above a sixteenth of
    white, the least number is black and the largest white. NaN is black.

    Parameters
    ----------
    image : PIL.Image.Image
        Of mode I;16, I;16B, I or F.
    form : str, optional
        Pillow's name of the file's format; PNG and PPM have no integers of 32 bits.

    Returns
    -------
    PIL.Image.Image
        Of mode L.
    """
    pixels = np.asarray(image)  # (H, W)
    if image.mode.startswith("I;16") or (image.mode == "I" and form in _SIXTEEN_BITS):
        return Image.fromarray(_byte_of_16_bits()[np.clip(pixels, 0, 65535)])
    values = pixels.astype(np.float64)
    black, white = _range(values, _WHITES[image.mode])
    share = (np.clip(values, black, white) - black) / (white - black or 1.0)
    return Image.fromarray(np.rint(np.nan_to_num(share) * 255).astype(np.uint8))


@cache
def _byte_of_16_bits() -> NDArray[np.uint8]:
    """(65536,): the nearest byte, where 65535 / 257 = 255."""
    return ((np.arange(65536) + 128) // 257).astype(np.uint8)


def _range(values: NDArray[Any], whites: tuple[int, ...]) -> tuple[float, float]:
    """Which numbers are black and white."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    for white in whites:
        if low >= 0 and white / _DARK < high <= white:
            return 0.0, float(white)
    return low, high
