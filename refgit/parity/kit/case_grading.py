"""Grading one case: a port's tensors against the expected ones, in multiples of the tolerance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.traces.container import Tensor

_BRIEF = 50  # characters
PASSED, FAILED, MISSING = "passed", "failed", "missing"


@dataclass(frozen=True)
class TensorGrade:
    """How one tensor of a case came out.

    Attributes
    ----------
    name : str
    multiple : float
        Largest error over the tolerance, which is what rounding may do (`tolerance.py`); up to 1 is
        right. Infinite where they cannot be compared. For ids and texts 0 (equal) or infinite.
    error : float or None
        Largest absolute error.
    message : str
        What is wrong; empty where nothing is.
    """

    name: str
    multiple: float
    error: float | None = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is within the tolerance."""
        return self.multiple <= 1

    def to_dict(self) -> dict[str, Any]:
        """Return what --json prints; null means infinity."""
        return {
            "name": self.name,
            "ok": self.ok,
            "multiple": self.multiple if math.isfinite(self.multiple) else None,
            "error": self.error,
            "message": self.message,
        }


@dataclass(frozen=True)
class CaseGrade:
    """How a case came out.

    Attributes
    ----------
    id, level : str
        Of the case and of the kit's level that it belongs to, as in kit.json.
    status : "passed", "failed" or "missing"
    tensors : tuple of TensorGrade
        Those that were given, in the order of computation.
    message : str
        Why it failed; empty where it passed.
    look_at : str
        What to look at if it failed.
    """

    id: str
    level: str
    status: str
    tensors: tuple[TensorGrade, ...] = ()
    message: str = ""
    look_at: str = ""

    @property
    def worst(self) -> TensorGrade | None:
        """The tensor with the largest multiple."""
        return max(self.tensors, key=lambda t: t.multiple, default=None)

    @property
    def brief(self) -> str:
        """The message without its figures, for a line of a table."""
        start = re.split(r": |; |, \S+ times the tolerance", self.message)[0]
        return start if len(start) <= _BRIEF else f"{start[: _BRIEF - 3]}..."

    def to_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        return {
            "id": self.id,
            "level": self.level,
            "status": self.status,
            "message": self.message,
            "tensors": [tensor.to_dict() for tensor in self.tensors],
        }


def grade_case(
    entry: Mapping[str, Any], expected: Mapping[str, Any], found: Mapping[str, Any]
) -> CaseGrade:
    """Grade a case for which there are results.

    Parameters
    ----------
    entry : mapping
        Of the case, in kit.json.
    expected, found : mapping of str to array, or to what JSON holds
        Of the kit and of the port.

    Returns
    -------
    CaseGrade
        Failed where a tensor is wrong or a required one missing. The message names the first in
        the order of computation.
    """
    specs = entry["tensors"]
    grades = [_grade(name, entry, expected, found[name]) for name in specs if name in found]
    absent = [name for name in specs if name not in found and specs[name]["required"]]
    message = next((grade.message for grade in grades if not grade.ok), "")
    if not message and absent:
        there = ", ".join(sorted(found)) or "nothing"
        message = f"no {', '.join(absent)} in the results; found {there}"
    status = FAILED if message else PASSED
    return CaseGrade(entry["id"], entry["level"], status, tuple(grades), message, entry["look_at"])


def _grade(
    name: str, entry: Mapping[str, Any], expected: Mapping[str, Any], found: Any
) -> TensorGrade:
    spec, wanted = entry["tensors"][name], expected[name]
    if spec["dtype"] == "json":
        return _grade_json(name, wanted, found)
    if name == "sequences":
        return _grade_sequences(name, wanted, found, entry["arguments"])
    try:
        x = np.asarray(found)
    except ValueError:
        return _wrong(name, "is a list of rows of different lengths")
    if x.dtype.kind not in "fiub":
        return _wrong(name, f"holds {x.dtype}, not numbers")
    wrong_shape = _shape_message(wanted.shape, x.shape)
    if wrong_shape:
        return _wrong(name, wrong_shape)
    if "tolerance" not in spec:
        return _grade_integers(name, wanted, x)
    return _grade_floats(name, wanted, x, expected.get(spec.get("counts")), spec["tolerance"])


def _wrong(name: str, what: str) -> TensorGrade:
    return TensorGrade(name, math.inf, None, f"{name} {what}")


def _shape_message(wanted: tuple[int, ...], found: tuple[int, ...]) -> str:
    """Say what is wrong with a shape, empty if nothing; one number may have any rank."""
    if wanted == found or (math.prod(wanted) == 1 == math.prod(found) and wanted == ()):
        return ""
    hint = ""
    if wanted != found and sorted(wanted) == sorted(found):
        hint = " (are two axes swapped?)"
    elif tuple(n for n in wanted if n != 1) == tuple(n for n in found if n != 1):
        hint = " (an axis of length 1 too many or too few)"
    elif math.prod(wanted) == math.prod(found):
        hint = " (as many numbers: reshape them)"
    return f"has the shape {list(found)}; expected {list(wanted)}{hint}"


def _grade_floats(
    name: str, expected: Tensor, found: Tensor, rows: Tensor | None, tolerance: float
) -> TensorGrade:
    x, y = (np.asarray(a, np.float64).reshape(expected.shape) for a in (expected, found))
    if rows is not None:  # 1 where a row counts, over the first axes
        x, y = x[rows != 0], y[rows != 0]
    same = (x == y) | (np.isnan(x) & np.isnan(y))  # infinities of one sign are equal
    if not np.isfinite(y[~same]).all():
        count = int((~np.isfinite(y) & ~same).sum())
        kind = "NaN" if np.isnan(y[~same]).any() else "infinite"
        return _wrong(name, f"is {kind} in {count} of {y.size} places")
    with np.errstate(invalid="ignore"):
        errors = np.where(same, 0.0, np.abs(y - x))
    error = float(errors.max(initial=0.0))
    multiple = 0.0 if error == 0 else error / tolerance if tolerance > 0 else math.inf
    if multiple <= 1:
        return TensorGrade(name, multiple, error)
    place = np.unravel_index(int(errors.argmax()), errors.shape)
    share = float((errors > tolerance).mean())
    where = list(map(int, place))
    message = (
        f"{name} is off by {error:.2g} at {where}, {multiple:.3g} times the tolerance: found "
        f"{y[place]:.6g}, expected {x[place]:.6g}; {share:.0%} of its numbers are off"
    )
    return TensorGrade(name, multiple, error, message)


def _grade_integers(name: str, expected: Tensor, found: Tensor) -> TensorGrade:
    differs = np.asarray(found != expected)
    if not differs.any():
        return TensorGrade(name, 0.0, 0.0)
    place = tuple(int(i) for i in np.argwhere(differs)[0])
    return _wrong(
        name,
        f"differs in {int(differs.sum())} of {differs.size} places, first at {list(place)}: "
        f"found {found[place]}, expected {expected[place]}",
    )


def _grade_sequences(
    name: str, expected: Tensor, found: Any, arguments: Mapping[str, Any]
) -> TensorGrade:
    """Compare texts up to their end tokens; arrays, or lists of different lengths."""
    try:
        rows = [[int(i) for i in row] for row in found]
        whole = all(int(i) == i for row in found for i in row)
    except (TypeError, ValueError, OverflowError):
        return _wrong(name, "is not a list of rows of ids")
    if not whole:
        return _wrong(name, "holds fractions; expected ids")
    if len(rows) != len(expected):
        return _wrong(name, f"has {len(rows)} rows; expected {len(expected)}")
    for b, (wanted, row) in enumerate(zip(expected.tolist(), rows, strict=True)):
        wanted, row = (_until_end(ids, arguments) for ids in (wanted, row))
        if wanted != row:
            pairs = zip(wanted, row, strict=False)
            t = next((t for t, (x, y) in enumerate(pairs) if x != y), min(len(wanted), len(row)))
            right, wrong = (ids[t] if t < len(ids) else "no more" for ids in (wanted, row))
            return _wrong(name, f"differs in row {b} at token {t}: found {wrong}, expected {right}")
    return TensorGrade(name, 0.0, 0.0)


def _until_end(ids: list[int], arguments: Mapping[str, Any]) -> list[int]:
    """The ids up to the end token, itself included; the kit's prompts have none."""
    ends = arguments["eos_token_id"]
    ends = ends if isinstance(ends, list) else [ends]
    stop = next((t + 1 for t, i in enumerate(ids) if i in ends), len(ids))
    return ids[:stop]


def _grade_json(name: str, expected: list[Any], found: Any) -> TensorGrade:
    found = found.tolist() if isinstance(found, np.ndarray) else found
    if not isinstance(found, list):
        return _wrong(name, f"is a {type(found).__name__}; expected a list")
    if len(found) != len(expected):
        return _wrong(name, f"has {len(found)} items; expected {len(expected)}")
    for i, (x, y) in enumerate(zip(expected, found, strict=True)):
        if x != y:
            return _wrong(name, f"differs at item {i}: found {_short(y)}, expected {_short(x)}")
    return TensorGrade(name, 0.0, 0.0)


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 120 else f"{text[:57]} ... {text[-57:]}"
