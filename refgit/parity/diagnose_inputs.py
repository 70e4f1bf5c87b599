"""Inputs that differ: said before all else, with what can be read from the two arrays alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refgit.layers.array_api import Array
from refgit.parity.diagnose_local import EPS, precision_of
from refgit.parity.diagnose_result import Cause


def input_findings(
    reference: Mapping[str, Any], other: Mapping[str, Any]
) -> Iterator[tuple[str, float, list[Cause], list[str], str]]:
    """Yield what a Finding is made of for every input that the other has and that differs."""
    for name, right in reference.items():
        if name not in other:
            continue
        wrong = np.asarray(other[name])
        if wrong.shape != right.shape:
            note = f"its shape is {wrong.shape}; expected {right.shape}"
            yield name, np.inf, [], [], note
            continue
        if _follows(name, wrong, other):
            continue
        error = _difference(right, wrong, EPS[precision_of(other, name)])
        if error > 1.0:
            makers = _of_pixels if name.endswith("pixel_values") else _of_numbers
            yield name, error, list(makers(name, right, wrong)), [], ""


def _follows(name: str, ids: Array, other: Mapping[str, Any]) -> bool:
    """Whether a step's words are the other's own choice: then they are no mistake by themselves."""
    step = re.fullmatch(r"(.*)step\.(\d+)\.input\.input_ids", name)
    if step is None:
        return False
    before = f"step.{int(step[2]) - 1}." if int(step[2]) > 1 else ""
    logits = other.get(f"{step[1]}{before}output")
    if logits is None or ids.ndim != 2 or ids.shape[1] != 1:
        return False
    logits = np.asarray(logits)
    last = logits if logits.ndim == 2 else logits[:, -1]
    return last.shape[0] == ids.shape[0] and np.array_equal(np.argmax(last, axis=-1), ids[:, 0])


def _difference(right: Array, wrong: Array, eps: float) -> float:
    """The largest difference, in units of what storing in the coarser dtype may do; 0 if equal."""
    if not np.issubdtype(right.dtype, np.floating):
        return 0.0 if np.array_equal(right, wrong) else np.inf
    kinds = [
        x.dtype if np.issubdtype(x.dtype, np.floating) else right.dtype for x in (right, wrong)
    ]
    eps = max(eps, *(float(np.finfo(kind).eps) for kind in kinds))
    a, b = right.astype(np.float64), wrong.astype(np.float64)
    if not np.isfinite(b).all():
        return np.inf
    top = max(float(np.max(np.abs(a), initial=0.0)), 1e-30)
    return float(np.max(np.abs(a - b), initial=0.0)) / (2 * eps * top)


def _cause(name: str, hypothesis: str, text: str, residual: float = 0.0) -> Cause:
    return Cause(text, hypothesis, residual, name)


def _of_numbers(name: str, right: Array, wrong: Array) -> Iterator[Cause]:
    """Integer inputs: an offset, a shift, another padding."""
    what = name.rpartition(".")[2]
    offset = wrong.astype(np.float64) - right.astype(np.float64)
    if offset.size and np.all(offset == offset.flat[0]):
        yield _cause(name, "offset", f"every one of your {what} is {int(offset.flat[0]):+d} off")
    if right.ndim == 2 and right.shape[1] > 1:
        if np.array_equal(wrong[:, 1:], right[:, :-1]):
            yield _cause(name, "shifted right", f"your {what} are shifted by one to the right")
        if np.array_equal(wrong[:, :-1], right[:, 1:]):
            yield _cause(name, "shifted left", f"your {what} are shifted by one to the left")
    if set(np.unique(right)) <= {0, 1} and np.array_equal(wrong, 1 - right):
        yield _cause(name, "inverted", f"your {what} is inverted")


def _of_pixels(name: str, right: Array, wrong: Array) -> Iterator[Cause]:
    """Pixels that the right ones give by one formula a channel: colours, rescaling, mean, std."""
    axis = right.ndim - 3
    colours = np.moveaxis(right.astype(np.float64), axis, 0).reshape(right.shape[axis], -1)
    theirs = np.moveaxis(wrong.astype(np.float64), axis, 0).reshape(right.shape[axis], -1)
    for order, said in ((slice(None), ""), (slice(None, None, -1), " and the colours are BGR")):
        fits = [_line(x, y) for x, y in zip(colours[order], theirs, strict=True)]
        if any(left > 1e-3 for _, _, left in fits):
            continue
        same = all(abs(a - 1) < 1e-4 and abs(b) < 1e-4 for a, b, _ in fits)
        if same and said:
            yield _cause(name, "channels reversed", "your colours are BGR; they should be RGB")
        elif not same:
            yield _cause(name, "affine pixels", f"each channel is a x + b of the right one, with "
                         f"{_numbers(fits)}{said}: mean, std or rescale differ")  # fmt: skip
    if np.allclose(wrong, np.swapaxes(right, -1, -2), atol=1e-4):
        yield _cause(name, "image transposed", "rows and columns of your image are swapped")
    if np.allclose(wrong, right[..., ::-1], atol=1e-4):
        yield _cause(name, "image mirrored", "your image is mirrored")
    if np.allclose(wrong, right[..., ::-1, :], atol=1e-4):
        yield _cause(name, "image upside down", "your image is upside down")


def _line(x: Array, y: Array) -> tuple[float, float, float]:
    """The line y = a x + b through two arrays, and what is left, against the spread of y."""
    spread = float(np.std(x))
    if spread == 0:
        return 0.0, float(np.mean(y)), float(np.std(y))
    a = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread**2
    b = float(y.mean() - a * x.mean())
    return a, b, float(np.max(np.abs(a * x + b - y))) / max(float(np.std(y)), 1e-30)


def _numbers(fits: list[tuple[float, float, float]]) -> str:
    a = ", ".join(f"{fit[0]:.4g}" for fit in fits)
    b = ", ".join(f"{fit[1]:.4g}" for fit in fits)
    return f"a = {a} and b = {b}"
