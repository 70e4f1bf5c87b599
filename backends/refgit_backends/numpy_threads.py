"""A few threads for what NumPy does in one: arithmetic on elements, block by block.

NumPy lets go of Python's lock while it computes, and BLAS has threads of its own. So the pool is
as large as BLAS's, the caller is one of its threads, and no block calls BLAS with a product
that BLAS would spread over its own threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

# The first that is set counts; the others are what BLAS looks at.
_VARIABLES = ("REFGIT_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def number_of_threads() -> int:
    """Return how many threads compute: what the environment says, else one for each core."""
    for name in _VARIABLES:
        value = os.environ.get(name, "").partition(",")[0].strip()
        if value.isdecimal() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def spread(work: Callable[[slice], None], length: int, step: int, least: int = 2) -> None:
    """Call `work` with slices of at most `step` that together cover ``range(length)``.

    Parameters
    ----------
    work : callable
        Does its part of the work in place; it is called from several threads, each of which goes
        through neighbouring slices in order.
    length, step : int
    least : int
        Fewer slices than this are not worth a second thread.
    """
    count = -(-length // step)  # slices
    threads = min(number_of_threads(), count) if count >= least else 1
    if threads == 1:
        return _share(work, 0, length, step)
    borders = [i * count // threads * step for i in range(threads)] + [length]
    waiting = [
        _pool(os.getpid()).submit(_share, work, borders[i], borders[i + 1], step)
        for i in range(1, threads)
    ]
    try:
        _share(work, 0, borders[1], step)
    finally:  # whatever happens, nobody writes into an array that has been given up
        failures = [future.exception() for future in waiting]
    for failure in failures:
        if failure is not None:
            raise failure


def _share(work: Callable[[slice], None], start: int, stop: int, step: int) -> None:
    for first in range(start, stop, step):
        work(slice(first, min(first + step, stop)))


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process; a fork has none of its parent's."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max(1, number_of_threads() - 1), "refgit")
