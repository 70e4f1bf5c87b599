"""The porter's tool: whether another GIT is right, and if not, which layer is wrong and why.

Names are imported when first used. The functions `compare` and `diagnose` live in the modules of
their names.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Comparison": "compare",
    "Diagnosis": "diagnose_result",
    "Grading": "check",
    "NoiseFloor": "noise",
    "Trace": "trace",
    "TraceError": "trace",
    "capture_onnx": "from_onnx",
    "capture_torch": "from_torch",
    "grade": "check",
    "read_map": "names",
    "record": "trace",
    "write_kit": "kit",
    "write_report": "report",
}

__all__ = [
    "Comparison",
    "Diagnosis",
    "Grading",
    "NoiseFloor",
    "Trace",
    "TraceError",
    "capture_onnx",
    "capture_torch",
    "grade",
    "read_map",
    "record",
    "write_kit",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
