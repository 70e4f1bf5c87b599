"""Precisions: their unit roundoff, rounding to them, and what an implementation computes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refgit.traces.container import Tensor, Trace
from refgit.traces.names import is_input

# Half the distance from 1 to the next number.
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
EPSILON = {precision: 2.0 * unit for precision, unit in UNIT_ROUNDOFF.items()}
PRECISIONS = tuple(UNIT_ROUNDOFF)
HALF = ("float16", "bfloat16")
# NumPy has no such types: float32 without these many of its last bits.
_DROPPED_BITS = {"bfloat16": 16, "tfloat32": 13}
_BLOCK = 16384  # numbers that stay in a processor's cache


def cast(x: Any, precision: str) -> Tensor:
    """Round to the nearest number of a precision, ties to even, and store it so.

    Parameters
    ----------
    x : array
        Integers become int64 and are not rounded.
    precision : str
        "float64", "float32", "float16", "bfloat16" or "tfloat32"; the last two, of 8 and 11
        significant bits, are stored as float32.

    Returns
    -------
    numpy.ndarray
        What is too large for the type becomes infinite.
    """
    array: Tensor = np.asarray(x)
    if array.dtype.kind != "f":
        return array.astype(np.int64, copy=False)
    with np.errstate(over="ignore"):
        if precision not in _DROPPED_BITS:
            return array.astype(precision, copy=False)
        y = np.array(array, np.float32)
    dropped = np.uint32(_DROPPED_BITS[precision])
    half, one = np.uint32((1 << (int(dropped) - 1)) - 1), np.uint32(1)
    bits = y.ravel(order="K").view(np.uint32)  # y itself, which has no gaps
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK]
        finite = np.isfinite(block.view(np.float32))
        up = ((block >> dropped) & one) + half  # half of what is cut off, less where that is even
        np.add(block, up, out=block, where=finite)
        np.bitwise_and(block, ~((one << dropped) - one), out=block, where=finite)
    return y


def rounded(x: Tensor, precision: str) -> Tensor:
    """Round to the nearest number of a precision and keep the dtype.

    Parameters
    ----------
    x, precision
        See `cast`.

    Returns
    -------
    numpy.ndarray
        Of the dtype of `x`.
    """
    return cast(x, precision).astype(x.dtype, copy=False)


def is_exact_in(x: Tensor, precision: str) -> bool:
    """Whether every number of a tensor is one of the precision's."""
    finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x
    return bool((rounded(finite, precision) == finite).all())


def precision_of(other: Trace) -> str:
    """Return what an implementation computes in, by the numbers it puts out.

    Numbers that were computed in float16 remain numbers of float16 when they are stored in a wider
    type. With mixed precision only some tensors are narrow, but all are as inexact, so a third of
    them decides. Tensors of fewer than eight different numbers do not count.
    """
    votes = []
    for name in other:
        x = other[name]
        if x.dtype.kind == "f" and not is_input(name) and x.size >= 8:
            sample = np.asarray(x.reshape(-1)[:: max(1, x.size // 4096)])
            if len(np.unique(sample[np.isfinite(sample)])) >= 8:
                votes.append(_narrowest(sample, other.dtype_of(name)))
    for narrow in ("bfloat16", "float16"):
        if votes.count(narrow) * 3 > len(votes):
            return narrow
    return "float64" if votes.count("float64") * 2 > len(votes) else "float32"


def _narrowest(x: Tensor, stored: str) -> str:
    if stored in HALF:
        return stored
    exact = (p for p in ("bfloat16", "float16", "float32") if is_exact_in(x, p))
    return next(exact, "float64")


def tensor_precision(other: Mapping[str, Any], name: str, known: str | None = None) -> str:
    """Return what one tensor of another implementation is computed in.

    That is what it is stored in, or what the whole implementation is known to compute in where
    that has fewer bits: numbers of half precision are often stored as float32.

    Parameters
    ----------
    other : mapping of str to array
        A `Trace`, whose metadata may say what it was computed in, or any other mapping.
    name : str
    known : str, optional
        What the implementation computes in; by default what the metadata says.
    """
    tell = getattr(other, "dtype_of", None)
    stored = str(tell(name)) if tell is not None else str(np.asarray(other[name]).dtype)
    known = known or (getattr(other, "meta", None) or {}).get("dtype")
    if stored in ("float32", "float64") and known in HALF:
        return str(known)
    return stored if stored in UNIT_ROUNDOFF else "float64"
