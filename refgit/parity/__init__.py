"""The porter's tool: whether another GIT is right, and if not, which layer is wrong and why.

Words used here (docs/port-story.md shows them at work):

    port         somebody's own implementation of GIT, in any language; "other", "theirs", "your"
    trace        the named tensors (arrays of numbers) of a run, in the order of execution
    reference    the trace of refgit itself; "ours"
    call, step   one run of the model; step n is the n-th that continues a text by one token
    hook         the function that is called with each named intermediate of the model
    noise floor  how far rounding alone moves a tensor, measured (`numerics`); the unit of errors
    node         a tensor of the model with its inputs and the recipe that makes it (`graph`)
    hypothesis   a mistake that a port may have made at a node (`diagnosis.hypotheses`)
    kit          files of inputs and expected outputs, for ports without Python

`compare_files` does what `refgit compare` does. Names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Comparison": "refgit.parity.comparison.row",
    "Deadline": "refgit.parity.deadline",
    "Diagnosis": "refgit.parity.diagnosis.result",
    "Grading": "refgit.parity.kit.grading",
    "Investigation": "refgit.parity.session",
    "NoiseFloor": "refgit.parity.numerics.noise",
    "Trace": "refgit.traces.container",
    "TraceError": "refgit.errors",
    "capture_onnx": "refgit.traces.capture.onnx",
    "capture_torch": "refgit.traces.capture.torch",
    "compare": "refgit.parity.comparison.procedure",
    "compare_files": "refgit.parity.session",
    "diagnose": "refgit.parity.diagnosis.procedure",
    "grade": "refgit.parity.kit.grading",
    "read_map": "refgit.parity.matching.maps",
    "record": "refgit.traces.recorder",
    "write_kit": "refgit.parity.kit.files",
    "write_report": "refgit.parity.report.write",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
