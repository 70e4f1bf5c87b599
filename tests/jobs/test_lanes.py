"""Threads that caption a batch each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from refgit import GitForCausalLM, testing
from refgit.jobs.batching import BatchSize
from refgit.jobs.lanes import in_lanes
from refgit.jobs.run import filled
from refgit_backends import get_backend
from refgit_backends.numpy import threads
from refgit_backends.numpy.blas import controls


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_results_come_in_order_whatever_takes_longest(lanes: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3 == 0))
        return number

    assert list(in_lanes(range(20), work, lanes)) == list(range(20))


def test_two_lanes_work_at_the_same_time_each_inside_its_block() -> None:
    both = threading.Barrier(2, timeout=60)
    inside = threading.local()

    @contextmanager
    def block() -> Iterator[None]:
        inside.here = True
        yield

    def work(number: int) -> bool:
        both.wait()  # raises unless another lane is here too
        return bool(inside.here)

    assert list(in_lanes(range(4), work, 2, block)) == [True] * 4


def test_batches_are_asked_for_as_they_are_needed() -> None:
    asked = []

    def batches() -> Iterator[int]:
        for number in range(10):
            asked.append(number)
            yield number

    found = in_lanes(batches(), lambda number: number, 2)
    assert next(found) == 0
    assert len(asked) == 3  # one for each lane, and one that waits
    found.close()


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_a_batch_raises_comes_after_the_results_before_it(lanes: int) -> None:
    def work(number: int) -> int:
        if number == 3:
            raise MemoryError("full")
        return number

    found = in_lanes(range(6), work, lanes)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MemoryError, match="full"):
        next(found)


def test_batches_that_wait_are_dropped_when_nobody_wants_more() -> None:
    done: list[int] = []
    first = threading.Event()

    def work(number: int) -> int:
        if number:
            first.wait(60)
        done.append(number)
        return number

    found = in_lanes(range(9), work, 2)
    assert next(found) == 0
    found.close()
    first.set()
    assert set(done) <= {0, 1, 2}  # never those after the one that waited


def test_a_fixed_size_is_divided_among_the_lanes() -> None:
    assert [(BatchSize(n, 2).lanes, BatchSize(n, 2).now) for n in (1, 2, 5, 16)] == [
        (1, 1), (2, 1), (2, 3), (2, 8)
    ]  # fmt: skip


def test_the_first_batch_is_half_as_large_so_that_lanes_take_turns() -> None:
    decoded = [(None, np.zeros(1))] * 20
    found = [len(batch) for batch in filled(decoded, BatchSize(16, 2))]  # type: ignore[arg-type]
    assert found == [4, 8, 8]
    assert [len(batch) for batch in filled(decoded, BatchSize(8, 1))] == [8, 8, 4]  # type: ignore[arg-type]


def test_images_that_failed_take_no_place_in_a_batch() -> None:
    failed, good = (None, ValueError()), (None, np.zeros(1))
    decoded = [failed, good, failed, good, good, good, failed]
    found = list(filled(decoded, BatchSize(2, 1)))  # type: ignore[arg-type]
    assert found == [decoded[:4], decoded[4:6], decoded[6:]]
    broken = [failed] * 40
    assert [len(batch) for batch in filled(broken, BatchSize(2, 1))] == [16, 16, 8]  # type: ignore[arg-type]


def test_lanes_go_up_to_a_size_unless_it_is_clearly_slower() -> None:
    size = BatchSize(lanes=2)
    for _ in range(40):
        size.record(size.now, 2.0 * size.now)
    assert size.now == 8
    slow = BatchSize(lanes=2)
    for _ in range(40):
        slow.record(slow.now, 0.6 * slow.now**2)
    assert slow.now == 2


def test_a_single_threaded_block_gives_its_thread_one_thread_and_no_other() -> None:
    backend = get_backend("numpy")
    before = threads.number_of_threads()
    seen = []
    with backend.single_threaded():
        assert threads.number_of_threads() == 1
        other = threading.Thread(target=lambda: seen.append(threads.number_of_threads()))
        other.start()
        other.join()
    assert seen == [before] == [threads.number_of_threads()]


def test_blas_has_its_threads_back_after_the_last_block() -> None:
    blas = controls()
    if blas is None:  # another library, which is left as it is
        assert get_backend("numpy").lanes == 1
        return
    backend, before = get_backend("numpy"), blas.get()
    with backend.single_threaded():
        with backend.single_threaded():
            assert blas.get() == 1
        assert blas.get() == 1
    assert blas.get() == before


@pytest.mark.parametrize(("threads", "lanes"), [("1", 1), ("2", 2), ("4", 4), ("5", 1), ("64", 1)])
def test_there_is_a_lane_for_each_of_a_few_threads(
    threads: str, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFGIT_NUM_THREADS", threads)
    wanted = lanes if controls() is not None else 1
    assert get_backend("numpy").lanes == wanted
    assert get_backend("numpy", kernels="off").lanes == 1
    assert get_backend("strict").lanes == 1


def test_a_model_writes_the_same_in_two_lanes_as_in_one_thread() -> None:
    model: GitForCausalLM = testing.tiny_model(seed=3)
    images = [testing.pixels(seed=i) for i in range(12)]

    def work(image: np.ndarray) -> list[list[int]]:
        return np.asarray(model.generate(image, max_length=12)).tolist()

    alone = [work(image) for image in images]
    assert list(in_lanes(images, work, 2, model.backend.single_threaded)) == alone
