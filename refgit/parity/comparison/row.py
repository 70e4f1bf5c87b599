"""What a comparison holds: a row for each tensor, and all rows with what they say."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from refgit.traces.container import Trace


@dataclass(frozen=True)
class Row:
    """One tensor of the reference and its counterpart.

    The numbers default to those of a wrong shape, of which nothing can be right.

    Attributes
    ----------
    name, matched : str
        Our name and theirs.
    how, layout : str
        How it was matched, such as "same name", and their layout where it is not ours, such as
        "channels last"; see `matching`.
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
        The difference in floors: of the largest element (`at_worst`) or of the rms (`by_rms`),
        whichever is more. Infinite where theirs holds NaN or infinities and the reference none.
    ok : bool
        Whether `error` is at most the multiple.
    nan : int
        How many of theirs are NaN or infinite.
    note : str
        A remark, such as that masked scores were left out.
    whole_shape : tuple of int
        Of the reference's tensor, where the other holds only some of its positions; empty where
        all of it was compared.
    """

    name: str
    matched: str
    how: str
    layout: str
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]
    dtype: str
    max_abs: float = math.inf
    max_rel: float = math.inf
    rms: float = math.inf
    cosine: float = 0.0
    ulp: int = 0
    mismatching: float = 1.0
    worst: tuple[int, ...] = ()
    floor: float = 0.0
    error: float = math.inf
    ok: bool = False
    nan: int = 0
    note: str = ""
    whole_shape: tuple[int, ...] = ()

    @property
    def at_worst(self) -> float:
        """The difference at `worst`, in floors; `error` is more where the rms decides."""
        if not self.max_abs or math.isinf(self.floor):
            return 0.0
        return self.max_abs / self.floor if self.floor else math.inf

    @property
    def by_rms(self) -> bool:
        """Whether `error` is that of the rms, which no single place shows."""
        return math.isfinite(self.error) and self.error > self.at_worst * (1 + 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; None for NaN and infinity."""
        return {
            key: (None if isinstance(value, float) and not math.isfinite(value) else value)
            for key, value in asdict(self).items()
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
        Ours of which only some positions were compared, though a port needs them all, and nothing
        that is computed from the whole tensor shows that the rest is right.
    sentences : tuple of str
        What the comparison found, what else there is to know, and the notes, most important first.
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
    sentences: tuple[str, ...] = ()
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
        return self.sentences[0]

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
