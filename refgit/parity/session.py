r"""What `refgit compare` does, from Python: load, measure the floors, compare, diagnose, report.

    found = compare_files("ref.safetensors", "mine.npz", model="DIR")
    print(*found.sentences, sep="\n")
    found.write_report("report.html")
    assert found.ok

"Ours" is the reference, "theirs" the port's trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from refgit.errors import reason
from refgit.model.causal_lm import GitForCausalLM
from refgit.parity.comparison.procedure import compare, precision_between
from refgit.parity.comparison.row import Comparison
from refgit.parity.deadline import Deadline
from refgit.parity.diagnosis.procedure import diagnose
from refgit.parity.diagnosis.result import Diagnosis
from refgit.parity.matching.maps import read_map
from refgit.parity.numerics.floor import MULTIPLE, SUSPECT
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.numerics.precision import precision_of
from refgit.parity.provenance import FoundModel, in_order, model_of, other_architecture
from refgit.parity.report.write import write_report
from refgit.traces.container import Trace

Progress = Callable[[str, int, int | None], None]
TIME = 60.0  # seconds
_FLOORS = 0.5  # of the time, at most, for noise floors: the rest is for the cause
_NO_TIME = "no diagnosis: there was no time for it; --time gives it some."


@dataclass(frozen=True)
class Investigation:
    """What `compare_files` found.

    Attributes
    ----------
    reference : Trace
    comparison : Comparison
    diagnosis : Diagnosis or None
        None where there was no model, no reason to look for a cause, or where it failed.
    notes : tuple of str
        Why there is no diagnosis, and whether the model's weights are the reference's.
    same_weights : bool
        Whether the diagnosis is of the reference's weights, as far as is known.
    """

    reference: Trace
    comparison: Comparison
    diagnosis: Diagnosis | None = None
    notes: tuple[str, ...] = ()
    same_weights: bool = False

    @property
    def ok(self) -> bool:
        """Whether the port is right: all agrees, and no operation is wrong by itself.

        A diagnosis with other weights than the reference's does not count.
        """
        diagnosis = self.diagnosis
        return self.comparison.ok and (diagnosis is None or diagnosis.ok or not self.same_weights)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Those of the comparison, of the diagnosis, and the notes."""
        causes = () if self.diagnosis is None else tuple(self.diagnosis.sentences)
        return (*self.comparison.sentences, *causes, *self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values for JSON: the comparison's, ``diagnosis``, ``notes``."""
        diagnosis = None if self.diagnosis is None else self.diagnosis.to_dict()
        return {**self.comparison.to_dict(), "diagnosis": diagnosis, "notes": list(self.notes)}

    def write_report(self, path: str | Path) -> None:
        """Write all of it as one HTML file; see `refgit.parity.write_report`."""
        ours, theirs = self.reference, self.comparison.canonical
        write_report(path, self.comparison, self.diagnosis, ours, theirs)


def compare_files(
    reference: str | Path | Trace,
    other: str | Path | Trace,
    *,
    names: str | Path | Mapping[str, str] | None = None,
    model: str | Path | GitForCausalLM | None = None,
    multiple: float = MULTIPLE,
    precision: str | None = None,
    strict: bool = False,
    time: float | Deadline | None = TIME,
    progress: Progress | None = None,
    compared: Callable[[Comparison], None] | None = None,
) -> Investigation:
    """Compare a port's trace with a reference and look for the cause of what differs.

    Parameters
    ----------
    reference, other : str, Path or Trace
        Files as `Trace.load` reads them. Where the second is refgit's trace and the first is not,
        they are taken the other way round, and a sentence says so.
    names : str, Path or mapping, optional
        A map of names: a TOML file, or their names to ours.
    model : str, Path or GitForCausalLM, optional
        What the reference was made with: a directory, a name on the model hub, or the model. With
        it there is always a diagnosis. By default the model that the reference names, if it is
        here; then there is a diagnosis once an error is above `SUSPECT` floors. Floors that the
        reference does not carry are measured with it.
    multiple : float
        How many noise floors are allowed.
    precision : str, optional
        What the port computes in; by default found from the numbers.
    strict : bool
        Raise what goes wrong in the diagnosis; by default it is a note.
    time : float or Deadline, optional
        Seconds for what may take long, or until when: the noise floors, where they are to be
        measured, and the diagnosis, once the model is loaded. What there was no time for is said.
        0: neither. None: no end.
    progress : callable, optional
        Called with what is done now, such as "comparing", how much of it is done, and of how much;
        the last is None where that is not known.
    compared : callable, optional
        Called with the `Comparison` as soon as there is one, before the cause is looked for.

    Returns
    -------
    Investigation

    Raises
    ------
    ValueError
        `model` is of another architecture than the reference's.
    TraceError
        A file cannot be read, or nothing of the port is anything of the reference.

    Examples
    --------
    >>> from refgit.parity import compare_files, record
    >>> from refgit.testing import pixels, tiny_model
    >>> trace = record(tiny_model(), pixels())
    >>> compare_files(trace, trace).ok
    True
    """
    show = progress or (lambda what, done, total: None)
    show("reading the tensors", 0, None)
    given = [x if isinstance(x, Trace) else Trace.load(x) for x in (reference, other)]
    (ours, theirs), swapped = in_order(*given)
    if isinstance(names, str | Path):
        names = read_map(names)
    between = precision or precision_between(ours, theirs)
    source = _Model(ours, model, time, show)
    noise = source.floors(between)
    show("comparing", 0, None)
    comparison = compare(
        ours, theirs, names=names, noise=noise, multiple=multiple, precision=between
    )
    verdict, *others = comparison.sentences
    comparison = replace(comparison, sentences=(verdict, *swapped, *others))
    if compared is not None:
        compared(comparison)
    suspects = [row.name for row in comparison.rows if row.error > SUSPECT]
    diagnosis, failed = None, ""
    if model is not None or suspects:
        computed = precision or precision_of(theirs)  # however narrow the reference is
        try:
            diagnosis = source.diagnosis(comparison.canonical, computed, suspects)
        except Exception as error:
            if strict:
                raise
            failed = f"no diagnosis: {reason(error, ' (--debug shows where)')}"
    notes = [failed]
    if model is not None or not comparison.ok:  # somebody asks for a cause
        notes.insert(0, source.found.note or ("" if diagnosis or source.has_time else _NO_TIME))
    same = diagnosis is not None and source.found.same_weights
    return Investigation(ours, comparison, diagnosis, tuple(filter(None, notes)), same)


class _Model:
    """The reference's model: found and loaded when it is first needed, and timed from then on."""

    def __init__(
        self,
        reference: Trace,
        given: str | Path | GitForCausalLM | None,
        time: float | Deadline | None,
        show: Progress,
    ) -> None:
        self.reference, self.given, self.time, self.show = reference, given, time, show
        self._loaded: GitForCausalLM | None = None
        self._deadline: Deadline | None = None
        if given is not None:
            self.found  # noqa: B018 - what is no model of this reference is refused at once

    @cached_property
    def found(self) -> FoundModel:
        """Where it is, as far as it is anywhere."""
        if not isinstance(self.given, GitForCausalLM):
            self.show("looking for the model", 0, None)
            return model_of(self.reference, self.given)
        other = other_architecture(self.reference, self.given.config, "the model")
        if other:
            raise ValueError(f"{other}. Pass the model it was made with.")
        return FoundModel(None, same_weights=True)

    def load(self) -> GitForCausalLM | None:
        """Return the model; None where there is none, or no time for what it is to do."""
        if not self.has_time:
            return None
        if self._loaded is None and isinstance(self.given, GitForCausalLM):
            self._loaded = self.given
        elif self._loaded is None and self.found.path is not None:
            self.show(f"loading {self.found.name}", 0, None)
            self._loaded = GitForCausalLM.from_pretrained(self.found.path)
        return self._loaded

    @property
    def has_time(self) -> bool:
        """Whether there is any time; one that is given in seconds runs once the model is there."""
        return not self.time.passed if isinstance(self.time, Deadline) else self.time != 0

    @property
    def deadline(self) -> Deadline:
        """Until when it may be run; the time begins with the first question for it."""
        if self._deadline is None:
            self._deadline = Deadline.of(self.time)
        return self._deadline

    def floors(self, precision: str) -> NoiseFloor | None:
        """Return the reference's own noise floors, or measure them where it carries none."""
        stored = NoiseFloor.of_trace(self.reference)
        base = "float32" if precision == "float64" else precision
        if (stored is not None and stored.has(base)) or not self.reference.inputs:
            return stored
        model = self.load()
        if model is None:
            return stored
        return NoiseFloor.measure(
            model,
            self.reference,
            (base,),
            progress=lambda done, total: self.show("measuring the noise floors", done, total),
            deadline=self.deadline.share(_FLOORS),
        )

    def diagnosis(
        self, canonical: Trace, precision: str, suspects: Sequence[str]
    ) -> Diagnosis | None:
        """Look for the cause in what is left of the time."""
        model = self.load()
        if model is None:
            return None
        self.show("looking for the cause", 0, None)
        return diagnose(
            self.reference,
            canonical,
            model,
            precision=precision,
            time=self.deadline,
            suspects=suspects,
            progress=self.show,
        )
