"""Fixtures shared by all tests: the backends, and where the golden tensors lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from refgit_backends import Backend, BackendError, get_backend

ROOT = Path(__file__).parent.parent

# A slow machine is no failure, and a failure must come again: no deadline, fixed seed in CI.
settings.register_profile("default", deadline=None, max_examples=40)
settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def make_backend(name: str) -> Backend:
    """The backend of a parameter such as "numpy" or "numpy-definitions"."""
    name, _, definitions = name.partition("-")
    try:
        return get_backend(name, kernels="off" if definitions else "auto")
    except BackendError as error:
        if name == "cupy":
            pytest.skip(str(error))
        raise


@pytest.fixture(
    params=[
        "numpy",
        "numpy-definitions",
        "strict",
        pytest.param("cupy", marks=pytest.mark.gpu),
        pytest.param("cupy-definitions", marks=pytest.mark.gpu),
    ]
)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in turn, with its kernels and without; CuPy is skipped without a GPU."""
    return make_backend(request.param)
