"""The four steps from a picture to `pixel_values`: resize, centre crop, rescale, normalize.

Each step is a pure function of one (H, W, C) array. Together they are the CLIP preprocessing that
GIT uses (GIT paper, section 3; CLIP paper, section 2.5), with the rounding of transformers 4.56.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A strip of 1 x 6000 pixels, its short side brought to 224, would need hundreds of megabytes.
MAX_RESIZED_PIXELS = 2**28


def shortest_edge_size(height: int, width: int, shortest_edge: int) -> tuple[int, int]:
    """Compute the size that brings the short side to a given length and keeps the aspect ratio.

    long' = floor(shortest_edge * long / short), short' = shortest_edge

    Parameters
    ----------
    height, width : int
        The present size.
    shortest_edge : int
        The wanted length of the short side.

    Returns
    -------
    tuple of int
        New height and width.
    """
    longer = int(shortest_edge * max(height, width) / min(height, width))
    return (longer, shortest_edge) if width <= height else (shortest_edge, longer)


def size_for(height: int, width: int, size: Mapping[str, int]) -> tuple[int, int]:
    """Return the height and width that a setting gives a picture of a height and width.

    {"shortest_edge": n} keeps the aspect ratio, {"height": h, "width": w} does not.
    """
    if "shortest_edge" in size:
        return shortest_edge_size(height, width, size["shortest_edge"])
    return size["height"], size["width"]


def min_max_size(height: int, width: int, shortest_edge: int, longest: int) -> tuple[int, int]:
    """Compute the size for a whole picture: the aspect ratio kept, both sides within limits.

    With s = min(height, width), l = max(height, width):

    short' = shortest_edge                 if shortest_edge * l / s <= longest
    short' = round(longest * s / l)        else, half to even, and at least 1
    long'  = floor(short' * l / s)

    So the rounding is in the short side, and the long one follows: it may end below `longest`, or,
    where the short side was rounded up, above it, by at most l / (2 s) pixels.

    Parameters
    ----------
    height, width : int
        The present size.
    shortest_edge : int
        The wanted length of the short side.
    longest : int
        The limit for the long side.

    Returns
    -------
    tuple of int
        New height and width.

    Notes
    -----
    Source: github.com/microsoft/GenerativeImage2Text, `inference.py`, `MinMaxResizeForTest`. Where
    short' would be 0 (l more than twice `longest` times s) that one fails; here such a strip
    becomes 1 pixel wide and `longest` pixels long.
    """
    short, long = min(height, width), max(height, width)
    if long / short * shortest_edge > longest:
        shortest_edge = round(longest * short / long)
        if shortest_edge == 0:
            return (longest, 1) if width <= height else (1, longest)
    return shortest_edge_size(height, width, shortest_edge)


def resize(image: NDArray[Any], height: int, width: int, resample: int) -> NDArray[Any]:
    """Resize with Pillow, which filters 8-bit pixels.

    Values that are not bytes already are turned into bytes first. Whole numbers from 0 to 255 are
    taken as they are; fractions from 0 to 1 are multiplied by 255, truncated, and divided by 255
    again afterwards. So a float image loses what a byte cannot hold: that is how transformers does
    it, and pixels must agree.

    Parameters
    ----------
    image : array (H, W, C) of any real dtype
        The picture, C 1 or 3.
    height, width : int
        The new size.
    resample : int
        A `PIL.Image.Resampling` value; CLIP uses 3, bicubic.

    Returns
    -------
    array (height, width, C)
        uint8, or float32 in [0, 1] if the input held fractions.

    Raises
    ------
    ValueError
        If values are neither whole numbers from 0 to 255 nor fractions from 0 to 1, or if the
        result would have more than `MAX_RESIZED_PIXELS` pixels.

    Notes
    -----
    Source: transformers 4.56.2, `image_transforms.resize`.
    """
    if height * width > MAX_RESIZED_PIXELS:
        raise ValueError(
            f"Resizing an image of {image.shape[0]} x {image.shape[1]} pixels gives "
            f"{height} x {width}, over the limit of {MAX_RESIZED_PIXELS} pixels; "
            "crop the image to a less extreme aspect ratio first."
        )
    fractions = _holds_fractions(image)
    if fractions:
        image = rescale(image, 255)  # [0, 1] -> [0, 255]
    grey = image.shape[2] == 1
    data = image[:, :, 0] if grey else image  # Pillow has no axis for one channel
    picture = Image.fromarray(np.ascontiguousarray(data.astype(np.uint8)))
    resized = np.array(picture.resize((width, height), resample=Image.Resampling(resample)))
    resized = resized[:, :, None] if grey else resized
    return rescale(resized, 1 / 255) if fractions else resized


def _holds_fractions(image: NDArray[Any]) -> bool:
    """Tell fractions in [0, 1] (True) from whole numbers in [0, 255] (False)."""
    if image.dtype == np.uint8:
        return False
    low, high = image.min(), image.max()
    if low >= 0 and high <= 255:
        # allclose, not equality: 200.001 counts as the whole number 200, as in transformers.
        if np.allclose(image, image.astype(np.int64)):
            return False
        if high <= 1:
            return True
    raise ValueError(
        f"An image array has values from {low} to {high}; to be resized it must hold whole numbers "
        "from 0 to 255 or fractions from 0 to 1. Bring it to one of these ranges, or pass "
        "do_resize=False."
    )


def center_crop(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Cut out the middle; where the picture is smaller than the cut, surround it with zeros.

    Per axis, with extent n and crop c:
    n >= c: keep [s, s + c), s = floor((n - c) / 2);
    n < c: put ceil((c - n) / 2) zeros before, the rest after.

    Parameters
    ----------
    image : array (H, W, C)
        The picture.
    height, width : int
        The crop.

    Returns
    -------
    array (height, width, C), same dtype
        The crop.
    """
    rows = _crop_or_pad(image.shape[0], height)
    columns = _crop_or_pad(image.shape[1], width)
    kept = image[rows[0], columns[0]]
    return np.pad(kept, (rows[1], columns[1], (0, 0)))  # (H, W, C) -> (height, width, C)


def _crop_or_pad(extent: int, crop: int) -> tuple[slice, tuple[int, int]]:
    """Return which part of an axis is kept, and how many zeros go before and after it."""
    if extent >= crop:
        start = (extent - crop) // 2
        return slice(start, start + crop), (0, 0)
    missing = crop - extent
    before = (missing + 1) // 2
    return slice(None), (before, missing - before)


def rescale(image: NDArray[Any], factor: float) -> NDArray[np.float32]:
    """Multiply by a factor: y = x * factor, in float64, then rounded to float32.

    Parameters
    ----------
    image : array of any shape and real dtype
        The picture.
    factor : float
        Usually 1/255, which brings bytes to [0, 1].

    Returns
    -------
    float32 array of the same shape
        The product.
    """
    return (image.astype(np.float64) * factor).astype(np.float32)


def normalize(
    image: NDArray[Any], mean: Sequence[float] | float, std: Sequence[float] | float
) -> NDArray[Any]:
    """Centre and scale each colour channel: y = (x - mean) / std.

    Parameters
    ----------
    image : array (H, W, C)
        The picture; integers are computed in float32, floats in their own precision.
    mean, std : float or C floats
        Statistics of the training images, in the image's units.

    Returns
    -------
    floating array (H, W, C)
        The normalized picture.
    """
    if not np.issubdtype(image.dtype, np.floating):
        image = image.astype(np.float32)
    centred: NDArray[Any] = image - np.asarray(mean, image.dtype)
    centred /= np.asarray(std, image.dtype)
    return centred
