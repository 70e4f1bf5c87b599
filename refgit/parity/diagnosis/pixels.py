"""Pixels that differ: which step of the preprocessing is another.

The preprocessing is taken apart in three: how the file is read; the geometry (resize and crop),
which ends with values from 0 to 255; and the values (rescale, normalise, order of colours). Each
part has its list of likely mistakes; all combinations are tried, and those with the fewest mistakes
that give the other's pixels come first. Differences are measured in *levels*: one step of a byte in
the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.parity.diagnosis.pixel_readings import Picture, pictures_of
from refgit.parity.diagnosis.pixel_steps import Way, geometries_of, values_of
from refgit.parity.diagnosis.result import Cause, Diagnosis, Finding
from refgit.processing.reading import Reading

NAME = "input.pixel_values"
EXACT = 0.02  # levels: float32 arithmetic in another order
NEAR_RMS, NEAR_MAX = 0.6, 3.0  # levels: another rounding inside a resize


def diagnose_pixels(
    image: Any, processor: Any, other_pixels: Any, reading: Reading | None = None
) -> Diagnosis:
    """Find which step of the preprocessing is wrong in another implementation.

    Parameters
    ----------
    image : PIL image, array (H, W, 3) of bytes, or path of a picture
        What both read.
    processor : CLIPImageProcessor or GitProcessor
        The right preprocessing.
    other_pixels : array (1, 3, h, w), (3, h, w), or with the channels last
        What the other implementation makes of it.
    reading : Reading, optional
        How a path is read: of a trace, `refgit.parity.provenance.recorded_reading`. By default as
        the commands read files.

    Returns
    -------
    Diagnosis
        One finding about ``input.pixel_values``, or none. `multiples` and `residual` are in
        levels, steps of a byte, not in multiples of a noise floor.

    Raises
    ------
    ValueError
        `other_pixels` has another rank.
    """
    processor = getattr(processor, "image_processor", processor)
    pictures = [Picture("", "", image, 0)]
    if isinstance(image, (str, Path)):
        pictures = list(pictures_of(image, reading or Reading()))
        image = pictures[0].pixels
    elif not isinstance(image, np.ndarray):
        pictures = [Picture("", "", np.asarray(image.convert("RGB")), 0)]
    found = np.asarray(other_pixels, np.float64)
    found = found[0] if found.ndim == 4 and found.shape[0] == 1 else found
    if found.ndim != 3:
        raise ValueError(
            f"other_pixels has shape {np.shape(other_pixels)}; expected one picture, (3, h, w) or "
            "(1, 3, h, w)."
        )
    right = processor(image, return_tensors="np")["pixel_values"][0].astype(np.float64)
    level = _level(processor)
    error, note = math.inf, f"its shape is {found.shape}; expected {right.shape}"
    if found.shape == right.shape:
        error, note = _levels(right - found, level)[1], ""
    if error <= EXACT:
        return Diagnosis([], checked=1)
    all_causes = (c for p in pictures for c in _causes(p, processor, found, level))
    causes = sorted(all_causes, key=lambda c: (c.rank, c.residual))
    return Diagnosis([Finding(NAME, error, causes, [], note)], checked=1)


def _level(processor: Any) -> Array:
    """One step of a byte in pixel values, by channel: (3, 1, 1)."""
    std = np.broadcast_to(np.asarray(processor.image_std, np.float64), (3,))
    step = processor.rescale_factor if processor.do_rescale else 1.0
    return (step / (std if processor.do_normalize else np.ones(3)))[:, None, None]


def _levels(error: Array, level: Array) -> tuple[float, float]:
    """Root mean square and largest of an error (3, h, w), in levels."""
    if error.shape[0] != 3:
        level = level.reshape(1, 1, 3)
    x = np.abs(error / level)
    return float(np.sqrt(np.mean(x * x))), float(np.max(x))


def _causes(picture: Picture, processor: Any, found: Array, level: Array) -> Iterator[Cause]:
    ways = list(values_of(processor))
    for geometry in geometries_of(processor):
        try:
            bytes_ = np.asarray(geometry.make(picture.pixels), np.float32)
        except ValueError:
            continue
        for values in ways:
            cost = picture.cost + geometry.cost + values.cost
            pixels = values.make(bytes_).astype(np.float64)
            if cost == 0 or pixels.shape != found.shape:
                continue
            scale = level * max(1e-12, _scale(values, level))
            rms, largest = _levels(pixels - found, scale)
            exact = largest <= EXACT
            if exact or (geometry.near and rms <= NEAR_RMS and largest <= NEAR_MAX):
                parts = (picture, geometry, values)
                text = " and ".join(part.text for part in parts if part.text)
                name = " + ".join(part.name for part in parts if part.name)
                yield Cause(text, name, largest, NAME, cost + (0 if exact else 1))


def _scale(values: Way, level: Array) -> float:
    """How large a level is after these values, against the right ones."""
    ramp = np.zeros((1, 2, 3), np.float32)
    ramp[0, 1] = 1.0
    made = values.make(ramp).astype(np.float64)
    axis = -1 if made.shape[0] == 3 else 1
    step = np.abs(np.take(made, 1, axis) - np.take(made, 0, axis)).mean()
    return float(step / level.mean())
