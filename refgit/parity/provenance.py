"""What a trace was made with: `refgit trace` stores it, `refgit compare` looks the model up."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from refgit.demo import NAME, find_model
from refgit.errors import TraceError
from refgit.model.config import GitConfig
from refgit.parity.comparison.configs import config_differences
from refgit.processing.reading import Reading
from refgit.traces.container import Trace


@dataclass(frozen=True)
class FoundModel:
    """The model of a reference trace, as far as it is on this machine.

    Attributes
    ----------
    path : Path or None
        Its directory; None where there is none that may be used.
    name : str
        What it is called.
    note : str
        Why there is none, or that its weights are others; "" where all is well.
    same_weights : bool
        Whether its weights may be those of the reference: equal, or not known.
    """

    path: Path | None
    name: str = ""
    note: str = ""
    same_weights: bool = False


def origin(model: str | None, reading: Reading | None = None) -> dict[str, str]:
    """Return the metadata that say which weights a trace is of, and how its image was read.

    Parameters
    ----------
    model : str or None
        A directory, a repository on the model hub or the bundled model, which None means too.
    reading : Reading, optional
        How the image was read from its file, if it was.

    Returns
    -------
    dict of str to str
        ``model``; ``sha256`` of the weights if they are one file; ``reading`` if there is one.
    """
    name, path = model or NAME, find_model(model)
    checksum = weights_checksum(path)
    found = {"model": str(path.resolve()) if name != NAME and Path(name).is_dir() else name}
    if checksum is not None:
        found["sha256"] = checksum
    if reading is not None:
        found["reading"] = json.dumps(asdict(reading))
    return found


def recorded_reading(trace: Trace) -> Reading:
    """Return how the image of a trace was read from its file, so that it can be read so again.

    Parameters
    ----------
    trace : Trace
        Of `refgit trace`; what it does not say is as by default.

    Raises
    ------
    TraceError
        The metadata ``reading`` is not what `origin` writes.
    """
    stored = trace.meta.get("reading", "{}")
    try:
        values = json.loads(stored)
        known = {field.name for field in fields(Reading)} & set(values)
        lists = {name: tuple(values[name]) for name in known if isinstance(values[name], list)}
        return Reading(**{name: values[name] for name in known} | lists)
    except (TypeError, ValueError) as error:
        raise TraceError(
            f"the trace's reading is {stored!r}; expected a JSON object with the fields of "
            "refgit.processing.reading.Reading. Make the trace again with refgit trace."
        ) from error


def weights_checksum(path: Path) -> str | None:
    """Return the SHA-256 of a checkpoint's weights, if they are one file."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            with (path / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return None


def model_of(reference: Trace, wanted: str | Path | None = None) -> FoundModel:
    """Find the model of a comparison.

    Parameters
    ----------
    reference : Trace
    wanted : str or Path, optional
        What the user names; by default what the reference says, if that is on this machine.

    Raises
    ------
    ValueError
        `wanted` is of another architecture than the reference's.
    refgit.CheckpointError
        `wanted` is not a model.
    """
    name = reference.meta.get("model", "") if wanted is None else str(wanted)
    if wanted is None and name != NAME and not (name and Path(name).is_dir()):
        return FoundModel(None, note=_pass("the model the reference was made with"))
    path = Path(name) if Path(name).is_dir() else find_model(name)
    other = other_architecture(reference, GitConfig.from_pretrained(path), name)
    if other and wanted is not None:
        raise ValueError(f"{other}. Pass the model it was made with.")
    if other:
        return FoundModel(None, name, f"{other}; {_pass('the right one')}")
    checksum, expected = weights_checksum(path), reference.meta.get("sha256")
    if checksum is None or expected is None or checksum == expected:
        return FoundModel(path, name, same_weights=True)
    said = (
        f"{name} holds other weights than those the reference was made with (SHA-256 "
        f"{checksum[:12]}..., expected {expected[:12]}...)"
    )
    if wanted is None:
        return FoundModel(None, name, f"{said}; {_pass('the right ones')}")
    return FoundModel(path, name, f"{said}; the noise floors and the diagnosis are of these.")


def in_order(first: Trace, second: Trace) -> tuple[tuple[Trace, Trace], tuple[str, ...]]:
    """Return the reference and the other trace, whichever way round they are given.

    Parameters
    ----------
    first, second : Trace

    Returns
    -------
    ((Trace, Trace), tuple of str)
        And a sentence if they were given the wrong way round: the second is of refgit, with its
        inputs, and the first says nothing of the kind.
    """
    by_refgit = first.meta.get("producer", "").startswith("refgit ") or "noise" in first.meta
    if by_refgit or not _is_reference(second):
        return (first, second), ()
    said = (
        "the first of the two is not a trace of refgit and the second is: taken the other way "
        "round, the second as the reference."
    )
    return (second, first), (said,)


def _is_reference(trace: Trace) -> bool:
    """Whether refgit made a trace, with the inputs that a reference needs."""
    return trace.meta.get("producer", "").startswith("refgit ") and bool(trace.inputs)


def other_architecture(reference: Trace, config: GitConfig, name: str) -> str:
    """Say in what a model's config differs from the reference's, "" where it does not."""
    for key, ours, theirs in config_differences(reference.config, config):
        return (
            f"{name} is another model than the reference's: its config says {key} = {theirs!r}, "
            f"the reference's {ours!r}"
        )
    return ""


def _pass(what: str) -> str:
    return f"for a diagnosis pass {what}: --model MODEL."
