"""The data block of the report: what is drawn of each tensor when it is chosen.

It is kept small: the fewer bytes there are for each tensor, the coarser its heat map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refgit.parity.comparison.elements import without_mask
from refgit.parity.comparison.row import Comparison, Row
from refgit.parity.diagnosis.result import Diagnosis, Finding
from refgit.parity.report import pictures
from refgit.parity.report.levels import level_of, times
from refgit.parity.report.tower import sections
from refgit.traces.container import Tensor, Trace
from refgit.traces.names import TensorName

# Cells on a side of a heat map, of tensors that differ and of those that agree, and the worst
# elements of each: the first that keeps the pictures below the budget is taken.
_DETAIL = ((128, 64, 10), (96, 48, 10), (64, 32, 8), (48, 24, 6), (32, 16, 4), (24, 8, 3))
_BUDGET = 2_000_000
_PER_TENSOR = 900  # bytes beside the heat map, about
# An error of whole numbers has no floor: any is this many.
_EXACT_FLOOR = 1e-9


def chosen_detail(comparison: Comparison) -> tuple[int, int, int]:
    """How finely the pictures may be drawn for the file to stay small."""
    rows = comparison.rows
    for detail in _DETAIL:
        size = sum(_cells(row, detail[1] if row.ok else detail[0]) for row in rows)
        if size * 4 / 3 + _PER_TENSOR * len(rows) <= _BUDGET:
            return detail
    return _DETAIL[-1]


def _cells(row: Row, side: int) -> int:
    """Cells of a row's heat map, which has at most so many on a side."""
    *others, width = row.shape or (1,)
    height = math.prod(others[:1] + others[2:]) if len(others) == 3 else math.prod(others)
    return min(height, side) * min(width, side)


def data_block(
    comparison: Comparison,
    diagnosis: Diagnosis | None,
    reference: Trace,
    detail: tuple[int, int, int],
) -> dict[str, Any]:
    """Return what report.js shows: a dict for JSON, with an entry a row.

    Parameters
    ----------
    comparison : Comparison
    diagnosis : Diagnosis or None
    reference : Trace
    detail : tuple of int
        From `chosen_detail`.
    """
    first, rows = comparison.first, []
    located = {} if diagnosis is None else {f.name: _said(f) for f in diagnosis.findings}
    places = _places(comparison)
    per_image = _tokens_per_image(reference)
    for i, row in enumerate(comparison.rows):
        fine = row is first or (diagnosis is not None and row.name == diagnosis.located)
        side = _DETAIL[0][0] if fine else detail[1] if row.ok else detail[0]
        level = level_of(row, comparison.multiple)
        entry: dict[str, Any] = {**_plain(row), **places[i], "times": times(row), "level": level}
        if row is first:
            entry["first"] = 1
        if row.name in located:
            entry["located"] = located[row.name]
        entry |= _pictures(row, reference, comparison.canonical, per_image, side, detail[2])
        rows.append(entry)
    start = 0 if first is None else comparison.rows.index(first)
    return {"multiple": comparison.multiple, "rows": rows, "start": start}


def _said(finding: Finding) -> str:
    """The likeliest cause, else what is known."""
    cause = finding.causes[0].text if finding.causes else ""
    return "; ".join(text for text in (cause, finding.note) if text) or "no cause was found"


def _plain(row: Row) -> dict[str, Any]:
    """What a row says, numbers with four digits."""
    numbers = ("max_abs", "max_rel", "rms", "mismatching", "floor", "error")
    texts = ("name", "matched", "how", "layout", "dtype", "note", "ulp", "nan", "ok")
    return {
        **{key: pictures.short(getattr(row, key)) for key in numbers},
        **{key: getattr(row, key) for key in texts},
        "cosine": f"{row.cosine:.9g}",
        **{key: list(getattr(row, key)) for key in ("shape", "other_shape", "worst")},
    }


def _places(comparison: Comparison) -> dict[int, dict[str, Any]]:
    """Section, layer and short name by row, and a number that rows of one layer share."""
    towers = sections(row.name for row in comparison.rows)
    layers = [(section.title, layer) for section in towers for layer in section.layers]
    return {
        i: {"section": title, "layer": layer.title, "short": short, "in": number}
        for number, (title, layer) in enumerate(layers, 1)
        for i, short in layer.rows
    }


def _pictures(
    row: Row, reference: Trace, canonical: Mapping[str, Tensor], per_image: int, side: int, n: int
) -> dict[str, Any]:
    if row.name not in reference or row.name not in canonical:
        return {}
    ours, theirs = np.atleast_1d(reference[row.name]), np.atleast_1d(canonical[row.name])
    found: dict[str, Any] = {
        "ours": pictures.statistics(ours), "theirs": pictures.statistics(theirs)
    }  # fmt: skip
    both = aligned(ours, theirs)
    if both is None:
        found["values"] = pictures.value_histogram(ours, theirs)
        return found
    ours, theirs = both
    if row.name.endswith(".scores"):  # those behind a mask are not compared
        theirs = without_mask(theirs, ours)[0]
    error = pictures.error_of(ours, theirs, row.floor or _EXACT_FLOOR)
    folded = pictures.fold(row.name, error)
    found["values"] = pictures.value_histogram(ours, theirs)
    found["errors"] = pictures.error_histogram(error)
    found["worst_elements"] = pictures.worst_elements(ours, theirs, error, n)
    found["map"] = pictures.heat_map(folded, side)
    image = _image_tokens(row.name, folded.period, reference)
    if image and folded.error.size:
        found["map"]["image"] = image
        per_image = image if "vision_model." in row.name else per_image or image
        grid = pictures.patch_grid(folded, image, per_image)
        if grid is not None:
            found["grid"] = grid
    return found


def aligned(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor] | None:
    """Bring a tensor and its counterpart to one shape, or return None.

    Theirs may be the first or the last part of ours along one axis, or repeat an axis of one.

    Parameters
    ----------
    ours, theirs : array
        Theirs in our layout.
    """
    if ours.shape == theirs.shape:
        return ours, theirs
    if ours.ndim != theirs.ndim:
        return None
    other_axes = [i for i, n in enumerate(ours.shape) if n != theirs.shape[i]]
    if all(ours.shape[i] == 1 for i in other_axes):
        return np.broadcast_to(ours, theirs.shape), theirs
    if len(other_axes) != 1 or theirs.shape[other_axes[0]] > ours.shape[other_axes[0]]:
        return None
    (axis,) = other_axes
    n = theirs.shape[axis]
    ends = [np.take(ours, range(n), axis), np.take(ours, range(-n, 0), axis)]
    return min(ends, key=lambda part: float(np.abs(part - theirs).sum())), theirs


def _tokens_per_image(reference: Trace) -> int:
    """Tokens of one image or frame, 0 where the trace does not say."""
    for name in reference:
        with_class = "vision_model." in name and not name.endswith("patch_embedding")
        if with_class and reference[name].ndim == 3:
            return int(reference[name].shape[1])
    return 0


def _image_tokens(name: str, period: int, reference: Trace) -> int:
    """How many of a tensor's first tokens are an image's."""
    parsed = TensorName.parse(name)
    if parsed.is_image:
        return period
    if parsed.step is None and parsed.bare.startswith("encoder."):
        text = reference.get("input.input_ids", reference.get("input.inputs_embeds"))
        length = 0 if text is None or text.ndim < 2 else int(text.shape[1])
        return max(0, period - length) if length else 0
    return 0
