"""Compare another implementation's tensors with the reference's, in the order of execution.

The first tensor that is off by more than a multiple of its noise floor is where the mistake is or
right after it: what comes before agrees, what comes after is computed from it. (A noise floor is
how far rounding alone moves a tensor: see `numerics`.)

"Ours" is the reference, "theirs" or "yours" the other implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from refgit.errors import TraceError
from refgit.parity.comparison import wording
from refgit.parity.comparison.elements import match_row, misfit_row
from refgit.parity.comparison.row import Comparison, Row
from refgit.parity.matching.matcher import match
from refgit.parity.matching.result import Matching
from refgit.parity.numerics.floor import MULTIPLE
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.numerics.precision import UNIT_ROUNDOFF, precision_of
from refgit.traces.container import Tensor, Trace
from refgit.traces.names import TensorName, is_input


def compare(
    reference: Trace,
    other: Trace,
    *,
    names: Mapping[str, str] | None = None,
    noise: NoiseFloor | None = None,
    multiple: float = MULTIPLE,
    precision: str | None = None,
) -> Comparison:
    """Compare another implementation's tensors with the reference's.

    Parameters
    ----------
    reference : Trace
        From refgit.
    other : Trace
    names : mapping of str to str, optional
        Their names to ours; see `refgit.parity.read_map`.
    noise : NoiseFloor, optional
        By default the one that the reference carries; where it carries none, floors are estimated.
    multiple : float
        How many noise floors are allowed.
    precision : str, optional
        What the other computes in: "float32", "float16", "bfloat16" or "float64"; by default
        `precision_between` finds it from the numbers.

    Returns
    -------
    Comparison

    Raises
    ------
    TraceError
        One of the traces is empty, or nothing of theirs is anything of ours.
    """
    for trace, which in ((reference, "the reference"), (other, "your trace")):
        if not len(trace):
            raise TraceError(
                f"{which} holds no tensors; expected at least one. Was it written to the end?"
            )
    if precision is not None and precision not in UNIT_ROUNDOFF:
        raise TraceError(f"precision is {precision!r}; expected one of {', '.join(UNIT_ROUNDOFF)}.")
    matching = match(reference, other, names)
    if not (matching.matches or matching.misfits):
        raise TraceError(wording.no_overlap(reference, other, matching))
    precision = precision or precision_between(reference, other)
    floors = noise or NoiseFloor.of_trace(reference) or NoiseFloor()
    measured = True
    rows = []
    for name in reference:
        if name in matching.misfits:
            rows.append(misfit_row(other, matching.misfits[name]))
        elif name in matching.matches:
            ours, found = reference[name], matching.matches[name]
            floor = floors.of(name, ours, precision)
            measured = measured and floor.measured
            hidden = _hidden(reference, name)
            rows.append(match_row(ours, other, found, floor, precision, multiple, hidden))
    comparison = Comparison(
        tuple(rows),
        multiple,
        precision,
        "measured" if measured else "estimated",
        tuple(matching.missing),
        tuple(matching.extra),
        tuple(wording.notes(reference, other, matching, precision, floors, measured=measured)),
        _unseen_before_first(reference, rows),
        _left_partial(rows, matching),
        canonical=matching.canonical(other),
    )
    return replace(comparison, sentences=wording.sentences(comparison))


def precision_between(reference: Trace, other: Trace) -> str:
    """Return the coarser of what two traces are computed in."""
    narrow = reference.meta.get("dtype", "")
    kinds = [precision_of(other), *([narrow] if narrow in UNIT_ROUNDOFF else [])]
    return max(kinds, key=UNIT_ROUNDOFF.__getitem__)


def _hidden(reference: Trace, name: str) -> Tensor | None:
    """Where the mask hides scores: the reference gives it no weight there. None if not known."""
    if not name.endswith(".scores"):
        return None
    weights = reference.get(name.removesuffix("scores") + "probabilities")
    return None if weights is None else weights == 0.0


def _unseen_before_first(reference: Trace, rows: Sequence[Row]) -> int:
    """How many computed tensors right before the first that differs have no row."""
    named = {row.name: row for row in rows}
    count = 0
    for name in reference:
        if name not in named:
            count += not is_input(name)
        elif not named[name].ok:
            return count
        else:
            count = 0
    return 0


def _left_partial(rows: Sequence[Row], matching: Matching) -> tuple[str, ...]:
    """The tensors whose rest was not seen: neither itself nor in what is computed from it.

    The last positions of the decoder are enough: they hold the text, and the logits of the last
    token are all that a search reads.
    """
    left = []
    for i, row in enumerate(rows):
        part = matching.matches[row.name].layout.part if row.whole_shape and row.ok else None
        if part is None:
            continue
        name = TensorName.parse(row.name)
        at_the_end = part[2] == row.whole_shape[part[0]]
        if at_the_end and not name.is_image:
            continue
        if not any(_shows_the_whole(later, name) for later in rows[i + 1 :]):
            left.append(row.name)
    return tuple(left)


def _shows_the_whole(later: Row, earlier: TensorName) -> bool:
    """Whether a later tensor is computed from all positions of an earlier one, and is right."""
    name = TensorName.parse(later.name)
    if name.prefix != earlier.prefix or not later.ok:
        return False
    from_it = name.is_decoder or (earlier.is_image and name.is_image)
    return name.path == "output" or (from_it and not later.whole_shape)
