"""Threads of the NumPy kernels: each does one part of the work, from the product to the end.

NumPy releases Python's lock while it computes. Parts are as large as possible: two threads that
return from NumPy every few microseconds spend their time waiting for that lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from refgit_backends.numpy.blas import controls, one_thread

# The first that is set counts; all but the first are BLAS's.
_VARIABLES = ("REFGIT_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

# With two lanes a caption takes a fifth less time than with two threads for each product. Each lane
# reads the weights for itself, so there is a limit to their number; more than 4 were not measured.
_MOST_LANES = 4
_single: ContextVar[bool] = ContextVar("single", default=False)


def number_of_threads() -> int:
    """Return the number of threads: from the environment, else one for each core.

    Inside `single_threaded` it is 1.
    """
    if _single.get():
        return 1
    for name in _VARIABLES:
        value = os.environ.get(name, "").partition(",")[0].strip()
        if value.isdecimal() and int(value) > 0:
            return int(value)
    return cores()


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lanes() -> int:
    """Return how many threads should compute a batch each: one a thread, or 1 if BLAS cannot."""
    threads = number_of_threads()
    return threads if threads <= _MOST_LANES and controls() is not None else 1


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute in the calling thread only, inside the block, products included."""
    token = _single.set(True)
    try:
        with one_thread():
            yield
    finally:
        _single.reset(token)


def divide(work: Callable[[slice], None], length: int, multiple: int = 1) -> None:
    """Call `work` with slices that together cover ``range(length)``, one for each thread.

    Products inside `work` stay in their thread. Where BLAS cannot be told so, `work` gets one slice
    and BLAS uses its own threads. The division does not depend on what ran before, so the same
    input gives the same bits.

    Parameters
    ----------
    work : callable
        Does its part of the work in place; called from several threads at a time.
    length, multiple : int
        Slices begin at multiples of `multiple`.
    """
    units = -(-length // multiple)
    threads = min(number_of_threads(), units) if controls() is not None else 1
    if threads <= 1:
        work(slice(0, length))
        return
    borders = [i * units // threads * multiple for i in range(threads)] + [length]
    parts = [slice(borders[i], borders[i + 1]) for i in range(threads)]
    ended: list[BaseException | None] = []
    news: SimpleQueue[None] = SimpleQueue()
    given = 0
    with one_thread():
        queue = _queue(os.getpid(), threads - 1)
        try:
            for part in parts[1:]:
                queue.put((copy_context(), work, part, ended, news))  # with NumPy's errstate
                given += 1
            work(parts[0])
        finally:  # whatever happens, no thread writes into an array that has been freed
            _wait(ended, given, news)
    for failure in ended:
        if failure is not None:
            try:
                raise failure
            finally:
                del failure, ended, work  # its traceback holds this frame, and so the arrays


def _wait(ended: list[Any], count: int, news: SimpleQueue[None]) -> None:
    """Return when `count` parts have ended; an interrupt is raised after that."""
    stop: BaseException | None = None
    while len(ended) < count:
        try:
            news.get(timeout=1.0)  # an interrupt may have taken the message
        except Empty:
            pass
        except BaseException as interrupt:
            stop = interrupt
    if stop is not None:
        raise stop


def _serve(queue: SimpleQueue[Any]) -> None:
    """Work on one part after another, forever."""
    while True:
        context, work, part, ended, news = queue.get()
        failure: BaseException | None = None
        try:
            context.run(work, part)
        except BaseException as error:  # raised again in the caller
            failure = error
        ended.append(failure)
        news.put(None)
        del context, work, part, ended, news, failure  # so that arrays are freed


@cache
def _pool(process: int) -> tuple[SimpleQueue[Any], list[Thread], Lock]:
    """The queue and threads of this process; a forked process has no threads of its parent."""
    return SimpleQueue(), [], Lock()


def _queue(process: int, threads: int) -> SimpleQueue[Any]:
    """The queue, served by at least so many threads."""
    queue, there, lock = _pool(process)
    if len(there) < threads:
        with lock:
            for i in range(len(there), threads):
                thread = Thread(target=_serve, args=(queue,), name=f"refgit-{i + 1}", daemon=True)
                thread.start()
                there.append(thread)
    return queue
