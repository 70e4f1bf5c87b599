"""Running a job: threads decode ahead, lanes caption batches, the main thread writes the rows.

Decoding happens in Pillow, which lets other threads run meanwhile. The images that wait are at
most two batches and one for each thread, so memory does not grow with the job.

A lane is a thread that captions one batch after another by itself. Two lanes on two cores do more
than two threads that share every product of one batch: those wait for each other at each of them.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, TypeAlias

from refgit.errors import JobError
from refgit.jobs.batching import BatchSize
from refgit.jobs.journal.journal import Journal
from refgit.jobs.lanes import in_lanes
from refgit.jobs.rows import Row, row_of
from refgit.jobs.sources import Item
from refgit.jobs.videos import times_of
from refgit.pipeline import Captioner, Pixels, WrittenText
from refgit.pipeline.texts import row_fields

Decoded = tuple[Item, Pixels | Exception]
Written: TypeAlias = list[WrittenText] | Exception
_WITH_FAILED = 8  # rows to be written at once, in batch sizes, where many images fail


def run_job(
    captioner: Captioner,
    journal: Journal,
    *,
    workers: int,
    batch_size: BatchSize,
    advance: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Caption what the journal does not have yet, to the end.

    Parameters
    ----------
    captioner : Captioner
    journal : Journal
    workers : int
        Threads that decode.
    batch_size : BatchSize
    advance : callable, optional
        Called with how many rows are written, of how many.

    Raises
    ------
    JobError
        Memory or disk are full. The rows so far are kept, as after a kill.
    """
    captioner.make_reproducible()
    advance(journal.rows, journal.total)
    batches = caption_items(
        journal.todo(), captioner.read_or_error, captioner, workers=workers, batch_size=batch_size
    )
    with closing(batches):
        for batch in batches:
            journal.append([row_for(item, found) for item, found in batch])
            advance(journal.rows, journal.total)
    journal.finish()


def row_for(item: Item, found: Written) -> Row:
    """The row of an image, from its texts or what is wrong with it."""
    times = times_of(item.content)
    if isinstance(found, Exception):
        return row_of(item.index, item.name, found, **times)
    return row_of(item.index, item.name, found[0].text, **times, **row_fields(found))


def caption_items(
    items: Iterable[Item],
    read: Callable[[Any], Pixels | Exception],
    captioner: Captioner,
    *,
    workers: int,
    batch_size: BatchSize,
) -> Generator[list[tuple[Item, Written]], None, None]:
    """Caption images in batches, decoding those to come meanwhile.

    Parameters
    ----------
    items : iterable of Item
    read : callable
        Decodes one, or returns what is wrong with it.
    captioner : Captioner
    workers : int
        Threads that decode.
    batch_size : BatchSize

    Yields
    ------
    list of (Item, list of WrittenText or Exception)
        A batch, in the order of the items: each with its texts, or what is wrong with it.

    Raises
    ------
    JobError
        There is not enough memory for a single image.
    """
    with warnings.catch_warnings():
        # Here, once: `load_image` does so too, but changes the filters of all threads.
        warnings.simplefilter("ignore")
        # With several lanes one more batch waits there already.
        batches = 2 if batch_size.lanes == 1 else 1
        waiting = decode_ahead(items, read, workers, lambda: batches * batch_size.now + workers)
        work = partial(_caption, captioner=captioner, batch_size=batch_size)
        with closing(waiting):
            block = captioner.model.backend.single_threaded
            yield from in_lanes(filled(waiting, batch_size), work, batch_size.lanes, block)


def filled(decoded: Iterable[Decoded], batch_size: BatchSize) -> Iterator[list[Decoded]]:
    """Divide what was decoded into batches; images that failed take no place in them.

    Where there are lanes the first batch is half as large, so that they do not read the weights,
    token after token, at the same time: one encodes images meanwhile.
    """
    batch: list[Decoded] = []
    good, halved = 0, 1 + (batch_size.lanes > 1)
    for item, pixels in decoded:
        batch.append((item, pixels))
        good += not isinstance(pixels, Exception)
        if halved * good >= batch_size.now or len(batch) >= _WITH_FAILED * batch_size.now:
            yield batch
            batch, good, halved = [], 0, 1
    if batch:
        yield batch


def decode_ahead(
    items: Iterable[Item],
    read: Callable[[str | bytes | Exception], Pixels | Exception],
    workers: int,
    ahead: Callable[[], int],
) -> Generator[Decoded, None, None]:
    """Decode images in threads, before they are asked for.

    Parameters
    ----------
    items : iterable of Item
    read : callable
        Decodes one, or returns what is wrong with it.
    workers : int
        Threads.
    ahead : callable
        How many images may be decoded or waiting at once.

    Yields
    ------
    Item, and its pixels or what is wrong with it
        In the order of the items.

    Raises
    ------
    ImportError, MemoryError
        The image is not to blame.
    """
    pool = ThreadPoolExecutor(workers, "refgit-decode")
    waiting: deque[tuple[Item, Future[Pixels | Exception]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(read, item.content)))
            while len(waiting) > ahead():
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _result(item: Item, future: Future[Pixels | Exception]) -> Decoded:
    try:
        return item, future.result()
    except MemoryError as error:
        raise JobError(f"there is not enough memory to decode {item.name}.") from error


def _caption(
    batch: list[Decoded], *, captioner: Captioner, batch_size: BatchSize
) -> list[tuple[Item, Written]]:
    good = [item for item, pixels in batch if not isinstance(pixels, Exception)]
    started = time.perf_counter()
    try:
        found = captioner.write_texts([pixels for _, pixels in batch])
    except MemoryError as error:
        raise JobError(
            f"there is not enough memory to caption a single image, {good[0].name} or one after it."
        ) from error
    batch_size.record(len(good), time.perf_counter() - started, captioner.largest)
    return [(item, texts) for (item, _), texts in zip(batch, found, strict=True)]
