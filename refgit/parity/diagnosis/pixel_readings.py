"""Ways from a file to a picture: the first is refgit's, the others are what other programs do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from refgit.layers._array_api import Array
from refgit.processing.image.background import ORACLE
from refgit.processing.image.depth import has_wide_pixels
from refgit.processing.image.file import load_image
from refgit.processing.reading import Reading


@dataclass(frozen=True)
class Picture:
    """What a way of reading makes of a file: bytes (H, W, 3), and what is wrong with that way."""

    name: str
    text: str
    pixels: Array
    cost: int = 1


def pictures_of(file: str | Path, reading: Reading) -> Iterator[Picture]:
    """The right picture, and each other one that the file may be taken for.

    Parameters
    ----------
    file : str or Path
    reading : Reading
        The right way.
    """
    right = _pixels(load_image(file, **reading.of_images))
    yield Picture("", "", right, 0)
    seen = [right]
    for name, text, other in _other_readings(reading):
        pixels = _pixels(load_image(file, **other.of_images))
        if not any(np.array_equal(pixels, x) for x in seen):
            seen.append(pixels)
            yield Picture(name, text, pixels)
    if reading.max_pixels is None:  # Pillow's limit holds for what it converts
        yield from _clipped(file, right)


def _other_readings(reading: Reading) -> Iterator[tuple[str, str, Reading]]:
    """Name, sentence and reading of each way but the right one."""
    turned = "is turned as its EXIF says; here it is left as it is stored"
    if reading.exif_transpose:
        turned = "is not turned as its EXIF says"
    other = replace(reading, exif_transpose=not reading.exif_transpose)
    yield "orientation", f"your picture {turned}", other
    wanted = _shown(reading.background)
    for colour in ("black", ORACLE, "white"):
        text = f"transparent parts of your picture are {_shown(colour)}; here they are {wanted}"
        yield f"background {colour}", text, replace(reading, background=colour)


def _shown(colour: str) -> str:
    return "what is stored below them" if colour == ORACLE else colour


def _clipped(file: str | Path, right: Array) -> Iterator[Picture]:
    """A grey picture of 16 or 32 bits as Pillow converts it."""
    with warnings.catch_warnings(), Image.open(file) as image:
        warnings.simplefilter("ignore")
        pixels = _pixels(image) if has_wide_pixels(image) else right
    if not np.array_equal(pixels, right):
        text = "numbers above 255 are clipped to white in your picture; scale them to bytes"
        yield Picture("clipped to bytes", text, pixels)


def _pixels(image: Image.Image) -> Array:
    return np.asarray(image.convert("RGB"))
