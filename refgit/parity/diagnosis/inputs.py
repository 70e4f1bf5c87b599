"""Inputs that differ: said first, with what the two arrays show by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.parity.diagnosis.result import Cause, Finding
from refgit.parity.numerics.precision import EPSILON, is_exact_in, tensor_precision
from refgit.traces.names import TensorName


def input_findings(
    reference: Mapping[str, Any], other: Mapping[str, Any], precision: str | None = None
) -> Iterator[Finding]:
    """Yield a finding for every input that the other has and that differs."""
    others_since: set[int | None] = set()  # calls in which other tokens were chosen: said once
    for name, right in reference.items():
        if name not in other:
            continue
        wrong = np.asarray(other[name])
        if repeats(wrong, right):
            continue
        if wrong.shape != right.shape:
            note = f"its shape is {wrong.shape}; expected {right.shape}"
            yield Finding(name, np.inf, note=note)
            continue
        if _follows(name, wrong, other):
            continue
        error = _difference(right, wrong, EPSILON[tensor_precision(other, name, precision)])
        if error <= 1.0:
            continue
        step = _step_of_ids(name)
        if step is None:
            what = name.rpartition(".")[2]
            pixels = what == "pixel_values"
            signs = _of_pixels(right, wrong) if pixels else _of_numbers(what, right, wrong)
            yield Finding(name, error, [Cause(text, sign, 0.0, name) for sign, text in signs])
        elif step.call not in others_since:
            others_since.add(step.call)
            note = f"from decoding step {step.step} on your tokens differ: feed the same tokens"
            yield Finding(name, error, note=note)


def _step_of_ids(name: str) -> TensorName | None:
    """The name taken apart, where it is the ids of a decoding step."""
    parsed = TensorName.parse(name)
    return parsed if parsed.step is not None and parsed.path == "input.input_ids" else None


def repeats(wrong: Array, right: Array) -> bool:
    """Whether an input is the right one several times over, each sequence or as a whole."""
    if wrong.ndim != right.ndim or wrong.shape[1:] != right.shape[1:] or not right.shape[0]:
        return False
    count, rest = divmod(wrong.shape[0], right.shape[0])
    if rest or count < 2:
        return False
    tiled = np.concatenate([right] * count)
    return np.array_equal(wrong, tiled) or np.array_equal(wrong, np.repeat(right, count, axis=0))


def own_tokens(reference: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Array]:
    """The tokens of steps that the other does not store, where both choose them themselves.

    An implementation that decodes by itself reads its own best tokens. That the reference did so
    is seen from its logits; without those, its tokens are taken for the other's too.
    """
    found = {}
    for name, ids in reference.items():
        if _step_of_ids(name) and name not in other and _follows(name, ids, reference):
            logits = _logits_before(name, other)
            if logits is not None and logits.shape[0] == ids.shape[0]:
                found[name] = np.argmax(logits, axis=-1)[:, None]
    return found


def _follows(name: str, ids: Array, other: Mapping[str, Any]) -> bool:
    """Whether a step's tokens are the other's own choice: then they are not a mistake."""
    logits = _logits_before(name, other)
    if logits is None or ids.ndim != 2 or ids.shape != (logits.shape[0], 1):
        return False
    if ids.min() < 0 or ids.max() >= logits.shape[1]:
        return False
    chosen = np.take_along_axis(logits, ids.astype(np.int64), axis=1)  # -> (B, 1)
    return bool(np.all(chosen[:, 0] == logits.max(axis=1)))  # of equals each is best


def _logits_before(name: str, trace: Mapping[str, Any]) -> Array | None:
    """The logits (B, V) from which a step's tokens are chosen, if they are given."""
    step = _step_of_ids(name)
    if step is None or step.step is None:
        return None
    before = step.step - 1 if step.step > 1 else None
    logits = trace.get(str(TensorName(step.call, before, leaf="output")))
    if logits is None:
        return None
    logits = np.asarray(logits)
    last = logits[:, -1] if logits.ndim == 3 else logits
    return last if last.ndim == 2 else None


def _difference(right: Array, wrong: Array, eps: float) -> float:
    """The largest difference, in units of what storing in the coarser dtype may do; 0 if equal."""
    if not np.issubdtype(right.dtype, np.floating):
        return 0.0 if np.array_equal(right, wrong) else np.inf
    stored = [x.dtype for x in (right, wrong) if np.issubdtype(x.dtype, np.floating)]
    eps = max(eps, *(float(np.finfo(dtype).eps) for dtype in stored))
    a, b = right.astype(np.float64), wrong.astype(np.float64)
    if not np.isfinite(b).all():
        return np.inf
    top = max(float(np.max(np.abs(a), initial=0.0)), 1e-30)
    return float(np.max(np.abs(a - b), initial=0.0)) / (2 * eps * top)


def _of_numbers(what: str, right: Array, wrong: Array) -> Iterator[tuple[str, str]]:
    """Integer inputs, by name and sentence: an offset, a shift, another padding."""
    offset = wrong.astype(np.float64) - right.astype(np.float64)
    if offset.size > 1 and np.all(offset == offset.flat[0]):
        yield "offset", f"every one of your {what} is {int(offset.flat[0]):+d} off"
    if right.ndim == 2 and right.shape[1] > 1:
        if np.array_equal(wrong[:, 1:], right[:, :-1]):
            yield "shifted right", f"your {what} are shifted by one to the right"
        if np.array_equal(wrong[:, :-1], right[:, 1:]):
            yield "shifted left", f"your {what} are shifted by one to the left"
    if set(np.unique(right)) <= {0, 1} and np.array_equal(wrong, 1 - right):
        yield "inverted", f"your {what} is inverted"


def _of_pixels(right: Array, wrong: Array) -> Iterator[tuple[str, str]]:
    """Pixels that the right ones give by one formula a channel: colours, rescaling, mean, std."""
    axis = right.ndim - 3
    said_half, tolerance = "", 1e-3
    half = next((p for p in ("bfloat16", "float16") if is_exact_in(wrong, p)), None)
    if half is not None:
        said_half, tolerance = f", and rounded to {half}", 4 * EPSILON[half]
        if np.all(np.abs(wrong - right) <= EPSILON[half] * np.abs(right)):
            yield f"pixels of {half}", f"your pixels are rounded to {half}"
            return
    colours, theirs = (
        np.moveaxis(x.astype(np.float64), axis, 0).reshape(x.shape[axis], -1)
        for x in (right, wrong)
    )
    for order, said in ((slice(None), ""), (slice(None, None, -1), " and the colours are BGR")):
        fits = [_line(x, y) for x, y in zip(colours[order], theirs, strict=True)]
        if any(left > tolerance for _, _, left in fits):
            continue
        same = np.abs(colours[order] - theirs).max() <= tolerance / 4 * np.abs(theirs).max()
        if same and said:
            yield "channels reversed", "your colours are BGR; they should be RGB" + said_half
        elif not same:
            a, b = (", ".join(f"{fit[i]:.4g}" for fit in fits) for i in (0, 1))
            text = f"each channel is a x + b of the right one, with a = {a} and b = {b}{said}"
            yield "affine pixels", f"{text}{said_half}: mean, std or rescale differ"
    if np.allclose(wrong, np.swapaxes(right, -1, -2), atol=tolerance):
        yield "image transposed", "rows and columns of your image are swapped"
    if np.allclose(wrong, right[..., ::-1], atol=tolerance):
        yield "image mirrored", "your image is mirrored"
    if np.allclose(wrong, right[..., ::-1, :], atol=tolerance):
        yield "image upside down", "your image is upside down"


def _line(x: Array, y: Array) -> tuple[float, float, float]:
    """The line y = a x + b through two arrays, and what is left, against the spread of y."""
    spread = float(np.std(x))
    if spread == 0:
        return 0.0, float(np.mean(y)), float(np.std(y))
    a = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread**2
    b = float(y.mean() - a * x.mean())
    return a, b, float(np.max(np.abs(a * x + b - y))) / max(float(np.std(y)), 1e-30)
