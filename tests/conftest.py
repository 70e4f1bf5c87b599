"""Fixtures and settings shared by all tests; what they import is in tests/helpers."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import settings

from refgit_backends import Backend

pytest.register_assert_rewrite("helpers")

from helpers.backends import each_backend, make_backend  # noqa: E402  # its asserts are rewritten as those of tests

# Of models this small, threads would only wait for one another; tests of threads set their own.
os.environ.setdefault("REFGIT_NUM_THREADS", "1")

# Commands that tests start share what Python has compiled, also where it may not be written beside
# the sources.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", f"{tempfile.gettempdir()}/refgit-tests-pycache")

# A slow machine is not a failure, and a failure must come again: no deadline, fixed seed in CI.
settings.register_profile("default", deadline=None, max_examples=40)
settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(params=each_backend())
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in turn, with its kernels and without; CuPy is skipped without a GPU."""
    return make_backend(request.param)
