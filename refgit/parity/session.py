r"""What `refgit compare` does, from Python: load, measure the floors, compare, diagnose, report.

    found = compare_files("ref.safetensors", "mine.npz", model="DIR")
    print(*found.sentences, sep="\n")
    found.write_report("report.html")
    assert found.ok

"Ours" is the reference, "theirs" the port's trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refgit.errors import reason
from refgit.model.causal_lm import GitForCausalLM
from refgit.parity.comparison.procedure import compare, precision_between
from refgit.parity.comparison.row import Comparison
from refgit.parity.diagnosis.procedure import diagnose
from refgit.parity.diagnosis.result import Diagnosis
from refgit.parity.matching.maps import read_map
from refgit.parity.numerics.floor import MULTIPLE, SUSPECT
from refgit.parity.numerics.noise import NoiseFloor
from refgit.parity.numerics.precision import precision_of
from refgit.parity.provenance import FoundModel, model_of, other_architecture
from refgit.parity.report.write import write_report
from refgit.traces.container import Trace

Progress = Callable[[str, int, int | None], None]


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
        """Return all of it as plain values for JSON: the comparison's, and ``diagnosis``."""
        diagnosis = None if self.diagnosis is None else self.diagnosis.to_dict()
        return {**self.comparison.to_dict(), "diagnosis": diagnosis}

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
    progress: Progress | None = None,
) -> Investigation:
    """Compare a port's trace with a reference and look for the cause of what differs.

    Parameters
    ----------
    reference, other : str, Path or Trace
        Files as `Trace.load` reads them.
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
    progress : callable, optional
        Called with what is done now, such as "comparing", how much of it is done, and of how much;
        the last is None where that is not known.

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
    ours, theirs = (x if isinstance(x, Trace) else Trace.load(x) for x in (reference, other))
    if isinstance(names, str | Path):
        names = read_map(names)
    found, loaded = _load(ours, model, show)
    between = precision or precision_between(ours, theirs)
    noise = _floors(loaded, ours, between, show)
    show("comparing", 0, None)
    comparison = compare(
        ours, theirs, names=names, noise=noise, multiple=multiple, precision=between
    )
    diagnosis, failed = None, ""
    suspect = any(row.error > SUSPECT for row in comparison.rows)
    if loaded is not None and (model is not None or suspect):
        show("looking for the cause", 0, None)
        computed = precision or precision_of(theirs)  # however narrow the reference is
        try:
            diagnosis = diagnose(ours, comparison.canonical, loaded, precision=computed)
        except Exception as error:
            if strict:
                raise
            failed = f"no diagnosis: {reason(error, ' (--debug shows where)')}"
    asked = model is not None or not comparison.ok  # for a cause
    notes = tuple(note for note in (found.note, failed) if note and asked)
    return Investigation(ours, comparison, diagnosis, notes, found.same_weights)


def _load(
    reference: Trace, model: str | Path | GitForCausalLM | None, show: Progress
) -> tuple[FoundModel, GitForCausalLM | None]:
    if isinstance(model, GitForCausalLM):
        other = other_architecture(reference, model.config, "the model")
        if other:
            raise ValueError(f"{other}. Pass the model it was made with.")
        return FoundModel(None, same_weights=True), model
    found = model_of(reference, model)
    if found.path is None:
        return found, None
    show(f"loading {found.name}", 0, None)
    return found, GitForCausalLM.from_pretrained(found.path)


def _floors(
    model: GitForCausalLM | None, reference: Trace, precision: str, show: Progress
) -> NoiseFloor | None:
    """Return the reference's own noise floors, or measure them where it carries none."""
    stored = NoiseFloor.of_trace(reference)
    base = "float32" if precision == "float64" else precision
    if (stored is not None and stored.has(base)) or model is None or not reference.inputs:
        return stored
    return NoiseFloor.measure(
        model,
        reference,
        (base,),
        progress=lambda done, total: show("measuring the noise floors", done, total),
    )
