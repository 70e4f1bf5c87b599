"""Threads that compute a batch each, and give their results back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Block: TypeAlias = Callable[[], AbstractContextManager[Any]]


def in_lanes(
    batches: Iterable[T], work: Callable[[T], R], lanes: int, inside: Block = nullcontext
) -> Generator[R, None, None]:
    """Do the work of several batches at a time.

    Parameters
    ----------
    batches : iterable
        Asked for the next one when a lane is about to need it.
    work : callable
        Computes the result of a batch.
    lanes : int
        How many threads; with 1 the calling thread does the work.
    inside : callable
        Gives the block inside which a lane works, such as `Backend.single_threaded`.

    Yields
    ------
    object
        The results, in the order of the batches.

    Raises
    ------
    Exception
        What the work of a batch raises, after the results of the batches before it.
    """
    if lanes == 1:
        yield from map(work, batches)
        return
    tasks: SimpleQueue[Any] = SimpleQueue()
    # Daemons: whoever interrupts the program does not wait for a batch.
    for i in range(lanes):
        Thread(target=_serve, args=(tasks, inside), name=f"refgit-lane-{i}", daemon=True).start()
    running: deque[SimpleQueue[tuple[Any, BaseException | None]]] = deque()
    try:
        for batch in batches:
            result: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
            tasks.put((work, batch, result))
            running.append(result)
            if len(running) > lanes:  # one is waiting, so that no lane does
                yield _given(running.popleft())
        while running:
            yield _given(running.popleft())
    finally:
        with suppress(Empty):  # a batch that waits is not wanted any more
            while True:
                tasks.get_nowait()
        for _ in range(lanes):
            tasks.put(None)


def _given(result: SimpleQueue[tuple[Any, BaseException | None]]) -> Any:
    found, failure = result.get()
    if failure is not None:
        raise failure
    return found


def _serve(tasks: SimpleQueue[Any], inside: Block) -> None:
    """Work on one batch after another, until there is None."""
    with inside():
        while (task := tasks.get()) is not None:
            work, batch, result = task
            try:
                result.put((work(batch), None))
            except BaseException as error:  # raised again in the caller
                result.put((None, error))
            del task, work, batch, result  # so that arrays are freed
