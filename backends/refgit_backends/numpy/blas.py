"""How many threads BLAS uses for a product, while the kernels divide the work themselves.

OpenBLAS divides each product among its threads, and they spin while they wait after each. A kernel
that gives every thread its own part, product and what follows, waits less often; then BLAS has to
stay in the calling thread. NumPy has no function for that, so OpenBLAS is called by ctypes. Other
libraries (MKL, Accelerate) are left as they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

# Builds of OpenBLAS differ in prefix and suffix of the names.
_NAMES = tuple(
    (f"{start}openblas_get_num_threads{end}", f"{start}openblas_set_num_threads{end}")
    for start in ("scipy_", "")
    for end in ("64_", "")
)


class Controls(NamedTuple):
    """OpenBLAS's functions to read and set how many threads a product uses."""

    get: Callable[[], int]
    set: Callable[[int], None]


@cache
def controls() -> Controls | None:
    """The controls of the OpenBLAS that NumPy runs on; None where it runs on something else."""
    for file in _libraries():
        try:
            library = ctypes.CDLL(str(file))
        except OSError:
            continue
        for get, put in _NAMES:
            if hasattr(library, get) and hasattr(library, put):
                return Controls(getattr(library, get), getattr(library, put))
    return None


def _libraries() -> Iterator[Path]:
    """Files of OpenBLAS: in NumPy's wheel, then among what the process has loaded."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        yield from sorted(folder.glob("*openblas*"))
    built: Any = np.show_config(mode="dicts")
    name = built.get("Build Dependencies", {}).get("blas", {}).get("name", "")
    loaded = Path("/proc/self/maps")
    if "openblas" in name and loaded.exists():  # SciPy may have brought one that is not NumPy's
        lines = loaded.read_text(errors="replace").splitlines()
        files = {Path(line.split(maxsplit=5)[-1]) for line in lines}
        yield from sorted(file for file in files if "openblas" in file.name)


_lock = Lock()
_holders = 0  # how many kernels hold BLAS to one thread at present
_before = 0  # what it is restored to; 0 while unchanged


def _forget_holders() -> None:
    """Reset in a forked process, which has none of the threads that hold BLAS."""
    global _lock, _holders, _before
    _lock = Lock()
    if _before:
        blas = controls()
        if blas is not None:
            blas.set(_before)
    _holders = _before = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_holders)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep products of this process in the calling thread, inside the block.

    The last block that ends restores BLAS's threads.
    """
    global _holders, _before
    blas = controls()
    if blas is None:
        yield
        return
    entered = False
    try:
        with _lock:
            _before = _before or blas.get()  # first, so that an interrupt cannot lose it
            _holders += 1
            entered = True
            blas.set(1)
        yield
    finally:
        with _lock:
            _holders -= entered
            if _holders == 0 and _before:
                if blas.get() == 1:  # nobody else has changed it
                    blas.set(_before)
                _before = 0
