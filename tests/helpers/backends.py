"""The backends that tests run on, and where the repository is."""

from __future__ import annotations

from pathlib import Path

import pytest

from refgit_backends import Backend, BackendError, get_backend

ROOT = Path(__file__).parents[2]


def make_backend(name: str) -> Backend:
    """The backend of a parameter such as "numpy" or "numpy-definitions"."""
    name, _, definitions = name.partition("-")
    try:
        return get_backend(name, kernels="off" if definitions else "auto")
    except BackendError as error:
        if name == "cupy":
            pytest.skip(str(error))
        raise
