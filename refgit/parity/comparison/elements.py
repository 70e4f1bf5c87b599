"""Comparing one tensor with its counterpart, element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refgit.parity.comparison.row import Row
from refgit.parity.matching.result import Match, Misfit
from refgit.parity.numerics.floor import Floor, root_mean_square
from refgit.parity.numerics.precision import rounded
from refgit.traces.container import Tensor, Trace

# What masks put in the place of scores, or add to them.
_MASKED = -1e4


def misfit_row(other: Trace, misfit: Misfit) -> Row:
    """Return the row of a tensor whose shape is wrong."""
    return Row(
        misfit.ours,
        misfit.theirs,
        misfit.how,
        "",
        misfit.expected,
        misfit.shape,
        other.dtype_of(misfit.theirs),
        note=f"shape {misfit.shape}, expected {misfit.expected}",
    )


def match_row(
    ours: Tensor,
    other: Trace,
    found: Match,
    floor: Floor,
    precision: str,
    multiple: float,
    hidden: Tensor | None = None,
) -> Row:
    """Compare one tensor with its counterpart.

    Parameters
    ----------
    ours : array
    other : Trace
    found : Match
        Which of theirs, and its layout.
    floor : Floor
    precision : str
    multiple : float
    hidden : array of bool, optional
        Of scores: where the mask hides them.

    Returns
    -------
    Row
    """
    theirs = other[found.theirs]
    a, b = found.layout.to_ours(theirs), found.layout.part_of(ours)
    notes = [] if found.certain else ["its layout is a guess: the values favour none"]
    if found.ours.endswith(".scores"):
        a, masked = without_mask(a, b, None if hidden is None else found.layout.part_of(hidden))
        notes += [f"{masked} masked elements left out"] if masked else []
    return Row(
        found.ours,
        found.theirs,
        found.how,
        found.layout.text,
        b.shape,
        theirs.shape,
        other.dtype_of(found.theirs),
        note="; ".join(notes),
        whole_shape=ours.shape if found.layout.part is not None else (),
        **_numbers(a, b, floor, precision, multiple, exact=ours.dtype.kind != "f"),
    )


def without_mask(a: Tensor, b: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, int]:
    """Replace masked scores by the reference's, so that only the others are compared.

    Where `hidden` does not say what the mask hides, that is never a whole row of scores.

    Returns
    -------
    (array, int)
        And how many were replaced.
    """
    masked = (a <= _MASKED) & (b > _MASKED)  # minus infinity included
    masked &= ~masked.all(axis=-1, keepdims=True) if hidden is None else hidden
    count = int(masked.sum())
    return (np.where(masked, b, a), count) if count else (a, 0)


def _numbers(
    a: Tensor, b: Tensor, floor: Floor, precision: str, multiple: float, *, exact: bool
) -> dict[str, Any]:
    a, b = np.atleast_1d(a).astype(np.float64), np.atleast_1d(b).astype(np.float64)
    bad = ~np.isfinite(a) & ~((a == b) | (np.isnan(a) & np.isnan(b)))
    both = np.isfinite(a) & np.isfinite(b)
    with np.errstate(all="ignore"):
        difference = np.where(both, np.abs(a - b), 0.0)
    max_abs, rms = float(difference.max(initial=0.0)), root_mean_square(difference)
    least = 0.0 if exact else floor.max
    error = (math.inf if max_abs else 0.0) if exact else floor.ratio(max_abs, rms)
    place = int(np.argmax(difference)) if difference.size else 0
    if bad.any():
        error, place = math.inf, int(np.argmax(bad))
    above = both & (np.abs(b) > least)
    relative = difference[above] / np.abs(b[above])
    return {
        "max_abs": max_abs,
        "max_rel": float(relative.max(initial=0.0)),
        "rms": rms,
        "cosine": _cosine(np.where(both, a, 0.0), np.where(both, b, 0.0)),
        "ulp": _ulp(a[both], b[both], precision, exact=exact),
        "mismatching": float(np.mean((difference > multiple * least) | bad)) if b.size else 0.0,
        "worst": tuple(int(i) for i in np.unravel_index(place, b.shape)) if b.size else (),
        "floor": least,
        "error": error,
        "ok": error <= multiple,
        "nan": int(bad.sum()),
    }


def _cosine(a: Tensor, b: Tensor) -> float:
    # scaled first: squares of float64's largest numbers overflow
    a, b = (x / max(float(np.abs(x).max(initial=0.0)), 1e-300) for x in (a.ravel(), b.ravel()))
    length = float(np.sqrt((a @ a) * (b @ b)))
    if length == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return min(1.0, max(-1.0, float(a @ b) / length))


def _ulp(a: Tensor, b: Tensor, precision: str, *, exact: bool) -> int:
    """Largest distance in representable numbers between the two, zeros being one number."""
    if not a.size:
        return 0
    if exact:
        return int(np.abs(a - b).max())
    narrow = precision == "bfloat16"  # a float32 whose lower half is empty
    real = np.dtype("float32" if narrow else precision)
    whole = np.dtype(f"int{8 * real.itemsize}")

    def rank(x: Tensor) -> Tensor:
        with np.errstate(over="ignore"):
            bits = (rounded(x, precision) if narrow else x).astype(real).view(whole)
        ordered = bits.astype(np.int64)
        ordered = np.where(bits < 0, np.iinfo(whole).min - ordered, ordered)  # count downwards
        ranked: Tensor = ordered >> 16 if narrow else ordered
        return ranked

    one, two = rank(a), rank(b)
    # the difference of two int64 may need one bit more
    return int((np.maximum(one, two) - np.minimum(one, two)).view(np.uint64).max())
