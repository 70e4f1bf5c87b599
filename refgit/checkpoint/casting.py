"""Weights in another dtype, bfloat16 included, which NumPy does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refgit.checkpoint.safetensors_file import BFLOAT16
from refgit.errors import CheckpointError

Array = np.ndarray[Any, Any]


def cast_weight(x: Array, dtype: str, name: str, source: Path) -> Array:
    """Bring a weight to a dtype, rounding to nearest.

    Parameters
    ----------
    x : floating-point array
    dtype : {"float16", "bfloat16", "float32", "float64"}
    name, source
        For the message: the parameter, and where it comes from.

    Returns
    -------
    array
        bfloat16 as its bits, in a dtype that `save_safetensors` knows.

    Raises
    ------
    CheckpointError
        A number is too large for the dtype.
    """
    with np.errstate(over="ignore"):
        wide = x.astype(np.float32 if dtype == "bfloat16" else dtype, copy=False)
        cast = _bfloat16_bits(wide) if dtype == "bfloat16" else wide
    read = (cast.astype("<u4") << 16).view("<f4") if dtype == "bfloat16" else cast
    if not np.array_equal(np.isfinite(read), np.isfinite(x)):
        raise CheckpointError(
            f"{source}: {name} has numbers as large as {np.abs(x).max():g}, too large for {dtype}; "
            "convert it with --dtype as-is."
        )
    return cast


def _bfloat16_bits(x: Array) -> Array:
    """The upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(x, "<f4").view("<u4")
    last = (bits >> 16) & 1
    rounded = (bits + (np.uint32(0x7FFF) + last)) >> 16
    rounded = np.where(np.isnan(x), np.uint32(0x7FC0), rounded)
    return rounded.astype("<u2").astype(BFLOAT16)
