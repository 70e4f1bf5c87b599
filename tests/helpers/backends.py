"""The backends that tests run on, and where the repository is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refgit_backends import Backend, BackendError, get_backend

ROOT = Path(__file__).parents[2]
BACKENDS = ("numpy", "numpy-definitions", "strict", "cupy", "cupy-definitions")


def each_backend(*slow: str) -> list[Any]:
    """Parameters of the fixture `backend`: all of them, some with the slow tests."""
    marks = {name: [pytest.mark.gpu] for name in BACKENDS if name.startswith("cupy")}
    marks |= {name: [pytest.mark.slow] for name in slow}
    return [pytest.param(name, marks=marks.get(name, [])) for name in BACKENDS]


def make_backend(name: str) -> Backend:
    """The backend of a parameter such as "numpy" or "numpy-definitions"."""
    name, _, definitions = name.partition("-")
    try:
        return get_backend(name, kernels="off" if definitions else "auto")
    except BackendError as error:
        if name == "cupy":
            pytest.skip(str(error))
        raise
