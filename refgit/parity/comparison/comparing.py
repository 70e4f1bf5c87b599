"""Compare another implementation's tensors with the reference's, in the order of execution.

The first tensor that is off by more than a multiple of its noise floor is where the fault lies or
just behind: what comes before agrees, what comes after is made from it. (A noise floor is how far
rounding alone moves a tensor: see `noise`.)

"Ours" is the reference, "theirs" or "yours" the other implementation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from refgit.model.config import GitConfig
from refgit.parity.matching.names import (
    BY_NAME,
    BY_ORDER,
    Match,
    Matching,
    Misfit,
    canonical,
    match,
)
from refgit.parity.numerics.floor import MULTIPLE, Floor, root_mean_square
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.numerics.precision import UNIT_ROUNDOFF, precision_of, rounded
from refgit.traces.container import Tensor, Trace, TraceError, is_input, split_call

# What masks put in the place of scores, or add to them.
_MASKED = -1e4
_POSITIONS = "input.position_ids"
_WHOLE = "Write out all of it, or a tensor that is computed from all of it: the rest was not seen."
# Of a config, what changes no number.
_IDLE = (
    "extra", "architectures", "initializer_range", "use_cache", "hidden_dropout_prob",
    "attention_probs_dropout_prob", "attention_dropout", "bos_token_id", "eos_token_id",
    "pad_token_id", "model_type", "torch_dtype", "dtype", "transformers_version",
)  # fmt: skip


# A type and the integers of its width.
_BITS: dict[str, tuple[Any, Any]] = {
    "float64": (np.float64, np.int64),
    "float32": (np.float32, np.int32),
    "float16": (np.float16, np.int16),
}


@dataclass(frozen=True)
class Row:
    """One tensor of the reference and its counterpart.

    Attributes
    ----------
    name, matched : str
        Our name and theirs.
    how, layout : str
        How it was matched, such as "name", and how theirs lies where that is not as ours does,
        such as "channels last"; see `names` and `layouts`.
    shape, other_shape : tuple of int
    dtype : str
        What theirs is stored in.
    max_abs, rms : float
        Largest and root mean square difference.
    max_rel : float
        Largest difference relative to the reference, where that is above its noise floor.
    cosine : float
        Of the angle between the two, each as one long vector; 1 where they point alike.
    ulp : int
        Largest difference in units of the last place: the steps between neighbouring numbers of
        the precision of the comparison.
    mismatching : float
        Share of elements that differ by more than the multiple of the floor.
    worst : tuple of int
        Where the largest difference is, in our layout; the first NaN if there is one.
    floor : float
        Noise floor of the largest difference.
    error : float
        The difference in floors: of the largest element or of the rms, whichever is more.
        Infinite where theirs holds NaN or infinities and the reference none.
    ok : bool
        Whether `error` is at most the multiple.
    nan : int
        How many of theirs are NaN or infinite.
    note : str
        What else is to be said.
    whole_shape : tuple of int
        Of the reference's tensor, where the other holds some of its positions alone; empty where
        all of it was compared.
    """

    name: str
    matched: str
    how: str
    layout: str
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]
    dtype: str
    max_abs: float
    max_rel: float
    rms: float
    cosine: float
    ulp: int
    mismatching: float
    worst: tuple[int, ...]
    floor: float
    error: float
    ok: bool
    nan: int = 0
    note: str = ""
    whole_shape: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; None for what is no finite number."""
        plain = asdict(self)
        return {
            key: (None if isinstance(value, float) and not math.isfinite(value) else value)
            for key, value in plain.items()
        }


@dataclass(frozen=True)
class Comparison:
    """All rows, and what they say.

    Attributes
    ----------
    rows : tuple of Row
        In the order of execution, inputs first.
    multiple : float
        How many noise floors are allowed.
    precision : str
        What the other implementation computes in.
    noise : {"measured", "estimated"}
        Where the floors are from: runs of the model, or the size of the tensors.
    missing, extra : tuple of str
        Ours and theirs without counterpart.
    notes : tuple of str
        Sentences about matching, the floors and the configs.
    unseen : int
        How many of ours just before the first that differs have no counterpart.
    partial : tuple of str
        Ours of which some positions alone were compared, though a port needs them all, and nothing
        that is computed from the whole tensor shows that the rest is right.
    canonical : Trace
        Their tensors under our names and in our layout, those whose shapes fit.
    """

    rows: tuple[Row, ...]
    multiple: float
    precision: str
    noise: str
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unseen: int = 0
    partial: tuple[str, ...] = ()
    canonical: Trace = field(default_factory=Trace, repr=False, compare=False)

    @property
    def first(self) -> Row | None:
        """The first row that is not ok, if there is one."""
        return next((row for row in self.rows if not row.ok), None)

    @property
    def ok(self) -> bool:
        """Whether everything that could be compared agrees, and none of it only in part."""
        return self.first is None and not self.partial

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Their names without counterpart."""
        return self.extra

    @property
    def sentence(self) -> str:
        """What the comparison found, in one sentence."""
        return _sentence(self)

    @property
    def sentences(self) -> tuple[str, ...]:
        """`sentence`, and what else there is to know, most important first."""
        return (self.sentence, *_around_first(self), *self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values for JSON."""
        first = self.first
        return {
            "ok": self.ok,
            "first": None if first is None else first.name,
            "sentence": self.sentence,
            "sentences": list(self.sentences),
            "multiple": self.multiple,
            "precision": self.precision,
            "noise": self.noise,
            "unseen": self.unseen,
            "partial": list(self.partial),
            "rows": [row.to_dict() for row in self.rows],
            "missing": list(self.missing),
            "extra": list(self.extra),
        }


def compare(
    reference: Trace,
    other: Trace,
    *,
    names: Mapping[str, str] | None = None,
    noise: NoiseFloor | None = None,
    multiple: float = MULTIPLE,
    precision: str | None = None,
) -> Comparison:
    """Hold another implementation's tensors against the reference's.

    Parameters
    ----------
    reference : Trace
        From refgit.
    other : Trace
    names : mapping of str to str, optional
        Their names to ours; see `names.read_map`.
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
        raise TraceError(_no_overlap(reference, other, matching))
    precision = precision or precision_between(reference, other)
    floors = noise or NoiseFloor.of_trace(reference) or NoiseFloor()
    measured = True
    rows = []
    for name in reference:
        if name in matching.misfits:
            rows.append(misfitting(other, matching.misfits[name]))
        elif name in matching.matches:
            ours, found = reference[name], matching.matches[name]
            floor = floors.of(name, ours, precision)
            measured = measured and floor.measured
            hidden = _hidden(reference, name)
            rows.append(compared(ours, other, found, floor, precision, multiple, hidden))
    return Comparison(
        tuple(rows),
        multiple,
        precision,
        "measured" if measured else "estimated",
        tuple(matching.missing),
        tuple(matching.extra),
        (*matching.notes, *_notes(reference, other, matching, precision, measured)),
        _unseen_before_first(reference, rows),
        _left_partial(rows, matching),
        canonical(matching, other),
    )


def precision_between(reference: Trace, other: Trace) -> str:
    """Return the coarser of what two traces are computed in."""
    narrow = reference.meta.get("dtype", "")
    kinds = [precision_of(other), *([narrow] if narrow in UNIT_ROUNDOFF else [])]
    return max(kinds, key=UNIT_ROUNDOFF.__getitem__)


def misfitting(other: Trace, misfit: Misfit) -> Row:
    """Return the row of a tensor whose shape is wrong: nothing of it can be right."""
    return Row(
        misfit.ours,
        misfit.theirs,
        misfit.how,
        "",
        misfit.expected,
        misfit.shape,
        other.dtype_of(misfit.theirs),
        max_abs=math.inf,
        max_rel=math.inf,
        rms=math.inf,
        cosine=0.0,
        ulp=0,
        mismatching=1.0,
        worst=(),
        floor=0.0,
        error=math.inf,
        ok=False,
        note=f"shape {misfit.shape}, expected {misfit.expected}",
    )


def _unseen_before_first(reference: Trace, rows: Sequence[Row]) -> int:
    """How many computed tensors without a row stand directly before the first that differs."""
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

    The last positions of the decoder are enough: these are the text's, and the logits of the last
    token are all that a search reads.
    """
    left = []
    for i, row in enumerate(rows):
        if not row.whole_shape or not row.ok:
            continue
        part = matching.matches[row.name].layout.part
        call, name = split_call(row.name)
        of_image = _of_image(name)
        at_the_end = part is not None and part[2] == row.whole_shape[part[0]]
        if at_the_end and not of_image:
            continue
        behind = (r for r in rows[i + 1 :] if split_call(r.name)[0] == call)
        if not any(_shows_the_whole(r, of_image=of_image) for r in behind):
            left.append(row.name)
    return tuple(left)


def _shows_the_whole(row: Row, *, of_image: bool) -> bool:
    """Whether a tensor behind is computed from all positions of one before it, and is right."""
    name = split_call(row.name)[1]
    if name == "output":
        return row.ok
    from_it = name.startswith("git.encoder.") or (of_image and _of_image(name))
    return from_it and row.ok and not row.whole_shape


def _of_image(name: str) -> bool:
    return name.startswith(("git.image_encoder.", "git.visual_projection."))


def _hidden(reference: Trace, name: str) -> Tensor | None:
    """Where the mask hides scores: the reference gives it no weight there. None if not known."""
    if not name.endswith(".scores"):
        return None
    weights = reference.get(name.removesuffix("scores") + "probabilities")
    return None if weights is None else weights == 0.0


def compared(
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
        Which of theirs, and how it lies.
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
    note = "" if found.certain else "its layout is a guess: the values favour none"
    if found.ours.endswith(".scores"):
        behind = None if hidden is None else found.layout.part_of(hidden)
        a, masked = _without_mask(a, b, behind)
        if masked:
            note = _joined(note, f"{masked} masked elements left out")
    exact = ours.dtype.kind != "f"
    numbers = _numbers(a, b, floor, precision, multiple, exact=exact)
    return Row(
        found.ours,
        found.theirs,
        found.how,
        found.layout.text,
        b.shape,
        theirs.shape,
        other.dtype_of(found.theirs),
        note=note,
        whole_shape=ours.shape if found.layout.part is not None else (),
        **numbers,
    )


def _numbers(
    a: Tensor, b: Tensor, floor: Floor, precision: str, multiple: float, *, exact: bool
) -> dict[str, Any]:
    """All that is measured of two arrays of one shape."""
    a, b = np.atleast_1d(a).astype(np.float64), np.atleast_1d(b).astype(np.float64)
    bad = ~np.isfinite(a) & ~((a == b) | (np.isnan(a) & np.isnan(b)))
    both = np.isfinite(a) & np.isfinite(b)
    with np.errstate(all="ignore"):
        difference = np.where(both, np.abs(a - b), 0.0)
    max_abs = float(difference.max(initial=0.0))
    rms = root_mean_square(difference)
    allowed = 0.0 if exact else multiple * floor.max
    error = (math.inf if max_abs else 0.0) if exact else floor.ratio(max_abs, rms)
    if bad.any():
        error = math.inf
        place = int(np.argmax(bad))
    else:
        place = int(np.argmax(difference)) if difference.size else 0
    above = both & (np.abs(b) > (0.0 if exact else floor.max))
    relative = difference[above] / np.abs(b[above])
    worst = tuple(int(i) for i in np.unravel_index(place, b.shape)) if b.size else ()
    return {
        "max_abs": max_abs,
        "max_rel": float(relative.max(initial=0.0)),
        "rms": rms,
        "cosine": _cosine(np.where(both, a, 0.0), np.where(both, b, 0.0)),
        "ulp": _ulp(a[both], b[both], precision, exact=exact),
        "mismatching": float(np.mean((difference > allowed) | bad)) if b.size else 0.0,
        "worst": worst,
        "floor": 0.0 if exact else floor.max,
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
    real, whole = _BITS.get(precision, _BITS["float32"])
    narrow = precision == "bfloat16"  # a float32 whose lower half is empty

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


def _without_mask(a: Tensor, b: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, int]:
    """Scores behind the mask are compared where it lets them through.

    Where it is not known what the mask hides, that is never a whole row.
    """
    masked = (a <= _MASKED) & (b > _MASKED)  # minus infinity included
    masked &= ~masked.all(axis=-1, keepdims=True) if hidden is None else hidden
    count = int(masked.sum())
    return (np.where(masked, b, a), count) if count else (a, 0)


# ---- what is said


def _sentence(c: Comparison) -> str:
    first = c.first
    if first is None:
        return _all_agree(c)
    if is_input(first.name) and not split_call(first.name)[0]:
        return _inputs_differ(first)
    before = c.rows[: c.rows.index(first)]
    agrees = _before(before, c.unseen)
    if not first.worst:  # a shape that does not fit has no place
        return (
            f"{first.name} is the first tensor that differs: yours has {first.note}, and no known "
            f"layout makes one of the other; {agrees}."
        )
    if first.nan:
        return (
            f"{first.name} is the first tensor that differs: it holds NaN or infinity, first at "
            f"{_place(first)} ({first.nan} of {math.prod(first.shape)} elements); {agrees}."
        )
    return (
        f"{first.name} is the first tensor that differs: {_floors(first.error)} x the "
        f"{c.precision} noise floor at {_place(first)}; {agrees}."
    )


def _before(rows: Sequence[Row], unseen: int) -> str:
    if not rows:
        return "nothing before it could be compared"
    if not unseen:
        return "everything before it agrees"
    lacking = f"{unseen} just before {'has' if unseen == 1 else 'have'} no counterpart"
    return f"what could be compared before it agrees; {lacking}"


def _all_agree(c: Comparison) -> str:
    computed = [row for row in c.rows if not is_input(row.name)]
    if not computed:
        return "the inputs agree, and nothing else could be compared."
    worst = max(computed, key=lambda row: row.error)
    all_of = "both tensors agree" if len(c.rows) == 2 else f"all {len(c.rows)} tensors agree"
    if len(c.rows) == 1:
        all_of = "the one tensor that could be compared agrees"
    if c.partial:
        return _agree_in_part(c, worst)
    return (
        f"{all_of}: the largest error is {_floors(worst.error)} x the "
        f"{c.precision} noise floor ({worst.name}), {c.multiple:g} are allowed."
    )


def _agree_in_part(c: Comparison, worst: Row) -> str:
    """What agrees is not all there is to a tensor: name it, and both shapes."""
    row = next(row for row in c.rows if row.name == c.partial[0])
    whole = len(c.rows) - len(c.partial)
    agree = f"{whole} tensors agree" if whole != 1 else "1 tensor agrees"
    more = f" and {len(c.partial) - 1} more" if len(c.partial) > 1 else ""
    return (
        f"{agree}; {len(c.partial)} could be compared only in part: {row.name} has shape "
        f"{row.other_shape}, expected {row.whole_shape}{more}; the largest error is "
        f"{_floors(worst.error)} x the {c.precision} noise floor ({worst.name}), {c.multiple:g} "
        "are allowed."
    )


def _inputs_differ(row: Row) -> str:
    what = row.name.removeprefix("input.")
    if not row.worst:
        return f"your {what} already differ: {row.note}."
    if row.nan:
        return f"your {what} already differ: NaN or infinity, first at {_place(row)}."
    share = f"{row.mismatching:.1%} of the elements"
    return (
        f"your {what} already differ, by up to {row.max_abs:.3g} at {_place(row)} ({share}): "
        "compare again with the same inputs, what follows from them says nothing about the model."
    )


def _around_first(c: Comparison) -> list[str]:
    """What lies between the last tensor that agrees and the first that does not, and behind."""
    first = c.first
    if first is None:
        return [_WHOLE] if c.partial else []
    said = []
    others = [row for row in c.rows if is_input(row.name) and not row.ok and row is not first]
    if is_input(first.name) and others:
        said.append(f"So do your {', '.join(row.name.split('input.')[-1] for row in others)}.")
    if is_input(first.name):
        return said
    if first.how == BY_ORDER:
        said.append(
            f"{first.name} was matched with your {first.matched} by shape and order alone; a map "
            "of names would make sure."
        )
    after = c.rows[c.rows.index(first) + 1 :]
    agreeing = sum(row.ok for row in after)
    if after and agreeing == len(after):
        said.append(
            f"All {len(after)} tensors behind it agree again: the model goes on with other "
            "numbers than these, or the name means something else in your trace."
        )
    return said


def _notes(
    reference: Trace, other: Trace, matching: Matching, precision: str, measured: bool
) -> list[str]:
    said = [
        f"your config says {key} = {theirs!r}, the reference's {ours!r}."
        for key, ours, theirs in config_differences(reference.config, other.config)
    ]
    if precision != "float32":
        whose = "your" if precision_of(other) == precision else "the reference's"
        said.append(f"{whose} numbers are those of {precision}, so its noise floor is taken.")
    if not measured:
        said.append(
            "the noise floor is estimated from the size of the tensors: the reference carries no "
            "measured one. Pass the model, or make the reference with refgit trace."
        )
    in_part = sum(found.layout.part is not None for found in matching.matches.values())
    if in_part:
        tensors = "1 tensor was" if in_part == 1 else f"{in_part} tensors were"
        said.append(f"{tensors} compared in part: the table (--all) says which positions.")
    missing = matching.missing
    unseen = [name for name in missing if is_input(name) and not split_call(name)[0]]
    rest = [name for name in missing if name not in unseen]
    if _POSITIONS in unseen and _is_default(reference[_POSITIONS]):
        unseen.remove(_POSITIONS)
        said.append(
            f"your trace does not hold {_POSITIONS}: taken to be the default 0, 1, 2 ..., which "
            "the reference's are."
        )
    if unseen:
        said.append(
            f"your trace does not hold {', '.join(unseen)}: whether these agree was not seen."
        )
    if rest:
        said.append(
            f"{len(rest)} of the reference's {len(reference)} tensors {_have(rest)} no counterpart "
            f"in your trace, the first {rest[0]}."
        )
    if matching.extra:
        said.append(
            f"{len(matching.extra)} of your {len(other)} tensors {_have(matching.extra)} none in "
            f"the reference, the first {matching.extra[0]}."
        )
    other_names = sum(found.how != BY_NAME for found in matching.matches.values())
    if other_names:
        have = "has another name" if other_names == 1 else "have other names"
        said.append(f"{other_names} {have} in your trace; --all shows which.")
    return said


def _is_default(position_ids: Tensor) -> bool:
    """Whether the text's positions are those that a call takes where it is given none."""
    counted = np.arange(position_ids.shape[-1] if position_ids.ndim else 0)
    return bool(np.all(position_ids == counted))


def config_differences(
    ours: GitConfig | None, theirs: GitConfig | None
) -> list[tuple[str, Any, Any]]:
    """Return the settings in which two configs differ, as far as they change numbers.

    Returns
    -------
    list of (str, object, object)
        The key, our value and theirs.
    """
    if ours is None or theirs is None:
        return []
    a, b = _settings(ours.to_dict()), _settings(theirs.to_dict())
    return [(key, a[key], b[key]) for key in a if key in b and a[key] != b[key]]


def _settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _settings(value, f"{prefix}{key}.")
        elif key not in _IDLE:
            found[prefix + key] = value
    return found


def _no_overlap(reference: Trace, other: Trace, matching: Matching) -> str:
    def some(names: Sequence[str]) -> str:
        return ", ".join(repr(name) for name in names[:3])

    return (
        f"none of your {len(other)} tensors ({some(other.order)}, ...) is one of the reference's "
        f"{len(reference)} ({some(reference.order)}, ...), by name, by shape or by values. "
        + (" ".join(matching.notes) or "Say which is which in a map of names (--map).")
    )


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _place(row: Row) -> str:
    return f"[{', '.join(map(str, row.worst))}]"


def _floors(error: float) -> str:
    return f"{error:.1f}" if error < 100 else f"{error:.3g}" if error < 1e6 else f"{error:.1e}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
