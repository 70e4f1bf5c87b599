"""What a comparison says, in sentences for the porter, whose trace is "yours"."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from refgit.parity.comparison.configs import config_differences
from refgit.parity.comparison.row import Comparison, Row
from refgit.parity.matching.result import BY_NAME, BY_ORDER, Matching
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.numerics.precision import precision_of
from refgit.traces.container import Tensor, Trace
from refgit.traces.names import TensorName, is_input

_POSITIONS = "input.position_ids"
_WHOLE = "Write out all of it, or a tensor that is computed from all of it: the rest was not seen."


def sentences(found: Comparison) -> tuple[str, ...]:
    """Return what a comparison found, most important first, and its notes."""
    return (_verdict(found), *_around_first(found), *found.notes)


# ---- the verdict


def _verdict(found: Comparison) -> str:
    first = found.first
    if first is None:
        return _all_agree(found)
    name = TensorName.parse(first.name)
    if name.is_input and not name.prefix:
        return _inputs_differ(first)
    agrees = _before(found)
    if not first.worst:  # a shape that does not fit has no place
        what = f"yours has {first.note}, and no known layout makes one of the other"
    elif first.nan:
        what = (
            f"it holds NaN or infinity, first at {_place(first)} ({first.nan} of "
            f"{math.prod(first.shape)} elements)"
        )
    else:
        what = f"{_floors(first.at_worst)} x the {found.precision} noise floor at {_place(first)}"
        if first.by_rms:  # which no place has
            what += f" (its rms: {_floors(first.error)} x)"
    return f"{first.name} is the first tensor that differs: {what}; {agrees}."


def _before(found: Comparison) -> str:
    """What the tensors before the first that differs say."""
    if found.rows[0] is found.first:
        return "nothing before it could be compared"
    if not found.unseen:
        return "everything before it agrees"
    lacking = f"{found.unseen} just before {_have(found.unseen)} no counterpart"
    return f"what could be compared before it agrees; {lacking}"


def _all_agree(found: Comparison) -> str:
    computed = [row for row in found.rows if not is_input(row.name)]
    if not computed:
        return "the inputs agree, and nothing else could be compared."
    worst = max(computed, key=lambda row: row.error)
    count = len(found.rows)
    agree = {1: "the one tensor that could be compared agrees", 2: "both tensors agree"}.get(
        count, f"all {count} tensors agree"
    )
    agree = f"{_agree_in_part(found)};" if found.partial else f"{agree}:"
    return (
        f"{agree} the largest error is {_floors(worst.error)} x the {found.precision} noise floor "
        f"({worst.name}), {found.multiple:g} are allowed."
    )


def _agree_in_part(found: Comparison) -> str:
    """Name a tensor that was compared only in part, and both shapes."""
    row = next(row for row in found.rows if row.name == found.partial[0])
    whole, parts = len(found.rows) - len(found.partial), len(found.partial)
    agree = f"{whole} tensors agree" if whole != 1 else "1 tensor agrees"
    more = f" and {parts - 1} more" if parts > 1 else ""
    return (
        f"{agree}; {parts} could be compared only in part: {row.name} has shape "
        f"{row.other_shape}, expected {row.whole_shape}{more}"
    )


def _inputs_differ(row: Row) -> str:
    differ = f"your {row.name.removeprefix('input.')} already differ"
    if not row.worst:
        return f"{differ}: {row.note}."
    if row.nan:
        return f"{differ}: NaN or infinity, first at {_place(row)}."
    return (
        f"{differ}, by up to {row.max_abs:.3g} at {_place(row)} ({row.mismatching:.1%} of the "
        "elements): compare again with the same inputs, what follows from them says nothing about "
        "the model."
    )


def _around_first(found: Comparison) -> Iterator[str]:
    """What else there is to know of the first that differs, and of what comes after it."""
    first = found.first
    if first is None:
        if found.partial:
            yield _WHOLE
        return
    if is_input(first.name):
        others = [
            row.name.split("input.")[-1]
            for row in found.rows
            if is_input(row.name) and not row.ok and row is not first
        ]
        if others:
            yield f"So do your {', '.join(others)}."
        return
    if first.how == BY_ORDER:
        yield (
            f"{first.name} was matched with your {first.matched} by {BY_ORDER}; a map of names "
            "would make sure."
        )
    after = found.rows[found.rows.index(first) + 1 :]
    if after and all(row.ok for row in after):
        yield (
            f"All {len(after)} tensors after it agree again: the model goes on with other numbers "
            "than these, or the name means something else in your trace."
        )


# ---- notes


def notes(
    reference: Trace,
    other: Trace,
    matching: Matching,
    precision: str,
    floors: NoiseFloor,
    *,
    measured: bool,
) -> Iterator[str]:
    """List what is to be known of the matching, the floors and the configs.

    Parameters
    ----------
    reference, other : Trace
    matching : Matching
    precision : str
        Of the comparison.
    floors : NoiseFloor
    measured : bool
        Whether the floors were measured.
    """
    yield from matching.notes
    for key, ours, theirs in config_differences(reference.config, other.config):
        yield f"your config says {key} = {theirs!r}, the reference's {ours!r}."
    if precision != "float32":
        yield _why_precision(reference, other, precision)
    if floors.unfinished:
        yield floors.unfinished
    elif not measured:
        yield (
            "the noise floor is estimated from the size of the tensors: the reference carries no "
            "measured one. Pass the model, or make the reference with refgit trace."
        )
    in_part = sum(found.layout.part is not None for found in matching.matches.values())
    if in_part:
        tensors = "1 tensor was" if in_part == 1 else f"{in_part} tensors were"
        yield f"{tensors} compared in part: the table (--all) says which positions."
    yield from _missing(reference, matching)
    if matching.extra:
        yield (
            f"{len(matching.extra)} of your {len(other)} tensors {_have(len(matching.extra))} none "
            f"in the reference, the first {matching.extra[0]}."
        )
    renamed = sum(found.how != BY_NAME for found in matching.matches.values())
    if renamed:
        have = "has another name" if renamed == 1 else "have other names"
        yield f"{renamed} {have} in your trace; --all shows which."


def _why_precision(reference: Trace, other: Trace, precision: str) -> str:
    if precision_of(other) == precision:
        return f"your numbers are of {precision}, so its noise floor is used."
    if reference.meta.get("dtype") == precision:
        return f"the reference's numbers are of {precision}, so its noise floor is used."
    return f"the noise floor is that of {precision}, as asked."


def _missing(reference: Trace, matching: Matching) -> Iterator[str]:
    names = {name: TensorName.parse(name) for name in matching.missing}
    inputs = [name for name, parsed in names.items() if parsed.is_input and not parsed.prefix]
    rest = [name for name in names if name not in inputs]
    if _POSITIONS in inputs and _is_default(reference[_POSITIONS]):
        inputs.remove(_POSITIONS)
        yield (
            f"your trace does not hold {_POSITIONS}: taken to be the default 0, 1, 2 ..., which "
            "the reference's are."
        )
    if inputs:
        yield f"your trace does not hold {', '.join(inputs)}: whether these agree was not seen."
    if rest:
        yield (
            f"{len(rest)} of the reference's {len(reference)} tensors {_have(len(rest))} no "
            f"counterpart in your trace, the first {rest[0]}."
        )


def _is_default(position_ids: Tensor) -> bool:
    """Whether the text's positions are those that a call takes where it is given none."""
    counted = np.arange(position_ids.shape[-1] if position_ids.ndim else 0)
    return bool(np.all(position_ids == counted))


def no_overlap(reference: Trace, other: Trace, matching: Matching) -> str:
    """Say that no tensor was matched."""

    def some(names: Sequence[str]) -> str:
        return ", ".join(repr(name) for name in names[:3])

    return (
        f"none of your {len(other)} tensors ({some(other.order)}, ...) is one of the reference's "
        f"{len(reference)} ({some(reference.order)}, ...), by name, by shape or by values. "
        + (" ".join(matching.notes) or "Say which is which in a map of names (--map).")
    )


# ---- pieces


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _place(row: Row) -> str:
    return f"[{', '.join(map(str, row.worst))}]"


def _floors(error: float) -> str:
    return f"{error:.1f}" if error < 100 else f"{error:.3g}" if error < 1e6 else f"{error:.1e}"
