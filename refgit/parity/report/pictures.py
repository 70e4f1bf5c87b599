"""What the report shows of one tensor: statistics, histograms, worst elements, heat map.

Everything is made small before it is stored. An error is a byte on a logarithmic scale:

    0: exactly equal;  1 ... 254: log10(error in noise floors) from -3 in steps of 1/20;
    255: not a finite number

and a heat map's cell is the largest error of the block of elements it covers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.html.page import base64_of
from refgit.traces.container import Tensor
from refgit.traces.names import is_input

SCALE_START, SCALE_STEP = -3.0, 0.05
VALUE_BINS = 40
ERROR_BINS = 25  # one for zero, then half decades from 1e-3 to 1e9


@dataclass(frozen=True)
class Folded:
    """A tensor's errors as a matrix.

    Attributes
    ----------
    error : array (R, C)
        In noise floors; NaN where one of the two is not finite and the other is not the same.
    rows, columns : str
        What the axes are.
    period : int
        Rows of one sequence or image; the next begins after these.
    parts : array (B, H) or None
        Largest error of each head, or of each colour channel.
    part : str
        What these are: "head" or "colour channel".
    """

    error: Tensor
    rows: str
    columns: str
    period: int
    parts: Tensor | None = None
    part: str = ""


def error_of(ours: Tensor, theirs: Tensor, floor: float) -> Tensor:
    """Return |ours - theirs| in noise floors; equal infinities differ by nothing.

    Parameters
    ----------
    ours, theirs : array of one shape
    floor : float
        Positive; infinite where any error is rounding.
    """
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(a - b) / floor
    error[~np.isfinite(a) | ~np.isfinite(b)] = np.nan
    error[same] = 0.0
    return error


def fold(name: str, error: Tensor) -> Folded:
    """Bring errors of any shape to two axes, tokens by channels where there are such.

    Parameters
    ----------
    name : str
        Of the tensor: inputs have other axes.
    error : array
        Of the tensor's shape.

    Returns
    -------
    Folded
        Heads, and the colour channels of pixels, are folded by their largest error.
    """
    if error.ndim > 4:  # (B, F, C, H, W) -> (B F, C, H, W)
        error = error.reshape(-1, *error.shape[-3:])
    if error.ndim == 4:
        rows, columns, part = "query token", "key token", "head"
        if is_input(name):
            rows, columns, part = "pixel row", "pixel column", "colour channel"
        parts = _largest(error, (2, 3))  # (B, H, Q, K) -> (B, H)
        flat = _largest(error, (1,)).reshape(-1, error.shape[-1])
        return Folded(flat, rows, columns, error.shape[2], parts, part)
    if error.ndim == 3:
        return Folded(error.reshape(-1, error.shape[-1]), "token", "channel", error.shape[1])
    if error.ndim == 2:
        columns = "token" if is_input(name) else "channel"
        return Folded(error, "row", columns, max(1, error.shape[0]))
    return Folded(error.reshape(1, -1), "row", "element", 1)


def _largest(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.max(axes) if x.size else np.zeros([n for i, n in enumerate(x.shape) if i not in axes])


# ---- bytes


def codes(error: Tensor) -> Tensor:
    """Errors in noise floors as bytes on the logarithmic scale."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.rint((np.log10(error) - SCALE_START) / SCALE_STEP) + 1
    steps = np.where(np.isfinite(error), np.clip(steps, 1, 254), 255)
    return np.asarray(np.where(error == 0, 0, steps), np.uint8)


def shrunk(x: Tensor, side: int) -> Tensor:
    """Return at most side by side cells, each the largest of its block."""
    for axis, n in enumerate(x.shape):
        if side < n:
            x = np.maximum.reduceat(x, np.arange(side) * n // side, axis=axis)
    return x


# ---- pictures


def heat_map(folded: Folded, side: int) -> dict[str, Any]:
    """Return the heat map: cells (r, c) of (R, C) elements, and the bytes row by row."""
    rows, columns = folded.error.shape
    found: dict[str, Any] = {
        "R": rows, "C": columns, "rows": folded.rows, "columns": folded.columns,
        "period": folded.period, "r": min(rows, side), "c": min(columns, side),
    }  # fmt: skip
    cells = codes(shrunk(folded.error, side)) if folded.error.size else np.zeros(0, np.uint8)
    if cells.any():
        found["d"] = base64_of(cells)
    if folded.parts is not None and folded.parts.size:
        found["part"] = folded.part
        found["parts"] = base64_of(codes(folded.parts.max(0)))
    return found


def patch_grid(folded: Folded, image_tokens: int, per_image: int) -> dict[str, Any] | None:
    """Return the errors of image tokens where their patches are, if these form a square.

    Parameters
    ----------
    folded : Folded
    image_tokens : int
        How many of each sequence's first tokens are an image's.
    per_image : int
        Tokens of one image or frame, the class token perhaps among them.

    Returns
    -------
    dict or None
        Of the image with the largest error, where there are several.
    """
    tokens = folded.error.max(1).reshape(-1, folded.period)[:, :image_tokens]
    if not per_image or tokens.size == 0 or image_tokens % per_image:
        return None
    images = tokens.reshape(-1, per_image)
    side = math.isqrt(per_image)
    with_class = side * side != per_image
    if with_class and side * side != per_image - 1:
        return None
    worst = int(np.argmax(np.nan_to_num(images.max(1), nan=np.inf)))
    grid = codes(images[worst])
    if side < 2 or not grid.any():
        return None
    found: dict[str, Any] = {"side": side, "d": base64_of(grid[with_class:])}
    if with_class:
        found["class"] = int(grid[0])
    if len(images) > 1:
        found["image"] = worst
    return found


def value_histogram(ours: Tensor, theirs: Tensor) -> dict[str, Any] | None:
    """Return both tensors' values in the same bins; a count n is the byte 8 log2(1 + n)."""
    both = [x[np.isfinite(x)].astype(np.float64) for x in (ours, theirs)]
    full = [x for x in both if x.size]
    if not full:
        return None
    low, high = min(x.min() for x in full), max(x.max() for x in full)
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    if not half > 0:
        half = max(abs(middle) / 2, 0.5)
    scaled = [np.clip((x - middle) / half + 1, 0, 2) * (VALUE_BINS / 2) for x in both]
    bins = [np.minimum(x.astype(np.int64), VALUE_BINS - 1) for x in scaled]
    counts = [np.bincount(x, minlength=VALUE_BINS) for x in bins]
    return {
        "low": short(middle - half), "high": short(middle + half),
        "d": [base64_of(_count_codes(n)) for n in counts],
    }  # fmt: skip


def error_histogram(error: Tensor) -> str:
    """Return how often an error lies in each half decade of noise floors, equal elements first."""
    finite = error[np.isfinite(error)]
    positive = finite[finite > 0]
    place = np.clip((np.log10(positive) + 3) * 2, 0, ERROR_BINS - 2).astype(np.int64)
    counts = np.bincount(place + 1, minlength=ERROR_BINS)
    counts[0] = finite.size - positive.size
    return base64_of(_count_codes(counts))


def _count_codes(counts: Tensor) -> Tensor:
    return np.asarray(np.minimum(np.rint(8 * np.log2(1 + counts)), 255), np.uint8)


# ---- numbers


def statistics(x: Tensor) -> list[Any]:
    """Smallest, largest, mean and standard deviation of the finite numbers; how many are not."""
    finite = x[np.isfinite(x)].astype(np.float64)
    bad = int(x.size - finite.size)
    if not finite.size:
        return [None, None, None, None, bad]
    with np.errstate(over="ignore"):
        numbers = (finite.min(), finite.max(), finite.mean(), finite.std())
    return [*(short(n) for n in numbers), bad]


def worst_elements(ours: Tensor, theirs: Tensor, error: Tensor, count: int) -> list[Any]:
    """Return [index, ours, theirs, error in floors] of the elements with the largest errors."""
    flat = np.nan_to_num(error.ravel(), nan=np.inf)
    count = min(count, flat.size)
    if not count:
        return []
    some = np.argpartition(flat, flat.size - count)[flat.size - count :]
    order = some[np.lexsort((some, -flat[some]))]
    return [
        [
            [int(i) for i in np.unravel_index(place, ours.shape)],
            exact(ours.ravel()[place]),
            exact(theirs.ravel()[place]),
            short(flat[place]),
        ]
        for place in order
        if flat[place] > 0
    ]


def short(x: Any, digits: int = 4) -> Any:
    """So many digits; what is not finite as a word, since JSON has no such number."""
    rounded = float(f"{float(x):.{digits}g}")
    return rounded if math.isfinite(rounded) else str(rounded)


def exact(x: Any) -> Any:
    """As many digits as a float32 has."""
    return int(x) if np.asarray(x).dtype.kind in "iub" else short(x, 9)
