"""NumPy's kernels where they differ from their definitions in the way they go: in pieces, for
several texts at once, on several threads. The operations one by one are in test_backends.py.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.replacements import attending, check_replacements, close, feeding_forward, projection
from refgit import GitForCausalLM, layers, testing
from refgit.layers._operations import DEFINITIONS, LAYERS, Operations
from refgit.layers.activation import ACTIVATIONS
from refgit.layers.attention import attention, merge_heads, project_heads
from refgit.layers.feed_forward import feed_forward
from refgit.layers.position import RelativePositions
from refgit_backends import get_backend
from refgit_backends.numpy import activation as numpy_activation
from refgit_backends.numpy import attention as numpy_attention
from refgit_backends.numpy import blas as numpy_blas
from refgit_backends.numpy import feed_forward as numpy_feed_forward
from refgit_backends.numpy import linear as numpy_linear
from refgit_backends.numpy import normalization as numpy_normalization
from refgit_backends.numpy import threads as numpy_threads

KERNELS = get_backend("numpy").kernels
SERVED = Operations.with_kernels(KERNELS)
UNITS = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("REFGIT_NUM_THREADS", str(request.param))
    return int(request.param)


def test_every_kernel_of_a_layer_is_held_against_its_definition_here() -> None:
    assert {name for name in KERNELS if name in LAYERS} == {
        "attention",
        "feed_forward",
        "project_heads",
    }


# -- linear ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 5, 12, 13, 127, 128])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dots", [range(0), range(17, 18)])  # widths at which few rows go by them
@pytest.mark.parametrize("turned", [False, True])
def test_linear_in_pieces(
    rows: int,
    dtype: str,
    dots: range,
    turned: bool,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numpy_linear, "_SMALL_PRODUCT", 1000)
    monkeypatch.setattr(numpy_linear, "_DOT_WIDTHS", dots)
    monkeypatch.setattr(numpy_linear, "_HALF_BLOCK", 100)
    rng = np.random.default_rng(rows)
    x, weight, bias = (
        rng.standard_normal(s).astype(dtype) for s in ((1, rows, 17), (131, 17), (131,))
    )
    if turned:  # as the kernels leave many tokens, of which the last may be all that is wanted
        x = np.ascontiguousarray(x.T).T
    close(KERNELS["linear"](x, weight, bias), layers.linear(x, weight, bias), UNITS[dtype])
    close(KERNELS["linear"](x, weight), layers.linear(x, weight), UNITS[dtype])


@pytest.mark.parametrize("blas_threads", [1, 2])
def test_one_row_by_dot_products_where_blas_has_one_thread(
    blas_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blas = numpy_blas.Controls(lambda: blas_threads, lambda to: None)
    monkeypatch.setattr(numpy_linear, "controls", lambda: blas)
    called = []
    for name in ("vecdot", "dot"):
        right = getattr(np, name)
        monkeypatch.setattr(
            np, name, lambda *a, name=name, right=right: called.append(name) or right(*a)
        )
    x, weight = (np.random.default_rng(0).standard_normal(s, np.float32) for s in (70, (50, 70)))
    close(KERNELS["linear"](x[None], weight)[0], layers.linear(x, weight), UNITS["float32"])
    assert called == (["vecdot"] if blas_threads == 1 else ["dot"])


def test_every_float16_is_widened_exactly() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    wanted = every.astype(np.float32)
    finite = np.isfinite(every)
    other = every.astype(">f2")  # bytes the other way round
    for x, right in (
        (every, wanted),
        (every[finite], wanted[finite]),
        (every[:0], wanted[:0]),
        (other[finite], wanted[finite]),
        (wanted[finite], wanted[finite]),
    ):
        found = numpy_linear.widened(x, np.empty(x.shape, np.float32))
        np.testing.assert_array_equal(found.view(np.uint32), right.view(np.uint32))


@pytest.mark.parametrize("rows", [1, 3, 20, 63, 64, 200])
def test_how_linear_leaves_its_rows(rows: int) -> None:
    """Token by token if they are few, channel by channel if they are many."""
    weight = np.ones((40, 8), np.float32)
    found = KERNELS["linear"](np.ones((1, rows, 8), np.float32), weight)
    assert found[0].flags.c_contiguous == (rows < 64)
    assert found[0].T.flags.c_contiguous == (rows in (1, 64, 200))


@pytest.mark.parametrize("rows", [1, 2, 12, 13, 63, 64, 200])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_heads_are_projected_as_defined(
    rows: int, turned: bool, dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_linear, "_SMALL_PRODUCT", 1000)
    monkeypatch.setattr(numpy_linear, "_DOT_WIDTHS", range(24, 25) if turned else range(0))
    rng = np.random.default_rng(rows)
    batch = 2 if rows % 2 == 0 else 1
    x = rng.standard_normal((batch, rows // batch, 24)).astype(dtype)
    if turned:
        x = np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    p = {
        name: {
            "weight": rng.standard_normal((36, 24)).astype(dtype),
            "bias": rng.standard_normal(36).astype(dtype),
        }
        for name in ("query", "key", "value")
    }
    for names in (("query", "key", "value"), ("key", "value")):
        shown: list[tuple[str, np.ndarray]] = []
        expected: list[tuple[str, np.ndarray]] = []
        hooked = SERVED.with_hook(lambda *shape, to=shown: to.append(shape))
        plain = DEFINITIONS.with_hook(lambda *shape, to=expected: to.append(shape))
        wanted = project_heads(x, p, names, num_heads=3, ops=plain)
        for found, right in zip(
            SERVED.run(project_heads, x, p, names, num_heads=3), wanted, strict=True
        ):
            close(found, right, UNITS[dtype])
        hooked.run(project_heads, x, p, names, num_heads=3)
        for (name, y), (right_name, right) in zip(shown, expected, strict=True):
            assert name == right_name
            close(y, right, UNITS[dtype])


def test_heads_without_a_bias_or_without_tokens_are_projected_too() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((12, 8))
    for x, p in (
        (rng.standard_normal((2, 3, 8)), {"weight": weight}),
        (rng.standard_normal((2, 3, 8)), {"weight": weight, "bias": None}),
        (rng.standard_normal((0, 3, 8)), {"weight": weight, "bias": weight[:, 0]}),
        (rng.standard_normal((2, 3, 8)).astype("f4"), {"weight": weight, "bias": weight[:, 0]}),
    ):
        wanted = project_heads(x, {"w": p}, ["w"], num_heads=3)[0]
        close(SERVED.run(project_heads, x, {"w": p}, ["w"], num_heads=3)[0], wanted, 1e-6)


# -- normalization ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(1, 64, 40), (3, 70, 33), (1, 1, 40), (200, 8)])
def test_layer_norm_however_its_rows_stand(
    shape: tuple[int, ...],
    turned: bool,
    dtype: str,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numpy_normalization, "BLOCK", 40 * 66)
    monkeypatch.setattr(numpy_normalization, "_SHARED_ROWS", 150)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype) * 3 + 100  # a mean far from 0
    if turned:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0, -1)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    before = x.copy()
    wanted = layers.layer_norm(x.astype(np.float64), weight, bias, eps=1e-5).astype(dtype)
    close(KERNELS["layer_norm"](x, weight, bias, eps=1e-5), wanted, 20 * UNITS[dtype])
    np.testing.assert_array_equal(x, before)


# -- attention -------------------------------------------------------------------------------------


def attention_arguments(
    rng: np.random.Generator, dtype: str, images: int, texts: int, queries: int, size: float
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Keys of images, shared by `texts` texts each, and of the texts so far; masks of all kinds."""
    heads, d, n = int(rng.integers(1, 5)), int(rng.integers(1, 9)), int(rng.integers(0, 12))
    text = queries + int(rng.integers(0, 4))
    rows = images * texts

    def draw(*shape: int) -> np.ndarray:  # as `split_heads` makes them: heads inside tokens
        b, h, length, width = shape
        x = rng.standard_normal((b, length, h, width)).astype(dtype)
        return x.transpose(0, 2, 1, 3)

    query = draw(rows, heads, queries, d) * np.asarray(size, dtype)
    shapes = [(rows, heads, text, d)] if n == 0 else [(images, heads, n, d), (rows, heads, text, d)]
    keys, values = [draw(*s) for s in shapes], [draw(*s) for s in shapes]
    bias = None
    kind = int(rng.integers(0, 3))
    if kind:
        b = 1 if kind == 1 else rows
        hidden = rng.random((b, 1, queries, n + text)) < 0.4
        hidden[..., 0] = False
        bias = np.where(hidden, -np.inf, 0.0).astype(dtype)
    head_mask = rng.integers(0, 2, heads).astype(dtype) if rng.integers(0, 2) else None
    return (query, keys, values, bias), {"head_mask": head_mask}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("piece", [1, 60, 1 << 20])
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 3),
    texts=st.integers(1, 4),
    queries=st.integers(1, 5),
    size=st.sampled_from([1e-3, 1.0, 100.0]),
)
def test_attention_equals_its_definition(
    dtype: str, piece: int, seed: int, images: int, texts: int, queries: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    arguments, options = attention_arguments(rng, dtype, images, texts, queries, size)
    wanted, p = attention(*arguments, **options)
    before = [x.copy() for x in (arguments[0], *arguments[1], *arguments[2])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_attention, "_SCORES", piece)
        patch.setattr(numpy_attention, "_SCORES_OF_THREAD", 2 * piece)
        found, kept = SERVED.run(attention, *arguments, **options)
        alone, none = SERVED.run(attention, *arguments, keep_probabilities=False, **options)
    assert none is None
    np.testing.assert_array_equal(alone, found)
    # rounding of a score s moves its probability by as many units as s has
    unit = UNITS[dtype] * max(1.0, size) * 4
    largest = max(np.abs(v).max() for v in arguments[2])
    for ours, theirs, limit in ((found, wanted, unit * largest), (kept, p, unit)):
        np.testing.assert_allclose(
            ours.astype(np.float64), theirs.astype(np.float64), rtol=0, atol=limit
        )
        assert ours.dtype == theirs.dtype
    for x, old in zip((arguments[0], *arguments[1], *arguments[2]), before, strict=True):
        np.testing.assert_array_equal(x, old)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("piece", [1, 2000, 20_000, 1 << 18])
@pytest.mark.parametrize("images", [1, 3])
def test_tokens_of_images_among_themselves(
    images: int,
    piece: int,
    turned: bool,
    dtype: str,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numpy_attention, "_SCORES_OF_THREAD", piece)
    rng = np.random.default_rng(images)
    q, k, v = rng.standard_normal((3, 5, 6, images, 70)).astype(dtype).transpose(0, 3, 1, 4, 2)
    if not turned:
        q, k, v = (np.ascontiguousarray(x) for x in (q, k, v))
    q *= 4
    wanted, _ = attention(q, [k], [v])
    found, none = SERVED.run(attention, q, [k], [v], keep_probabilities=False)
    assert none is None
    close(found, wanted, 20 * UNITS[dtype])
    shown: dict[str, np.ndarray] = {}
    hooked = SERVED.with_hook(shown.__setitem__)
    watched, kept = hooked.run(attention, q, [k], [v])
    np.testing.assert_array_equal(watched, found)
    plain = DEFINITIONS.with_hook((right := {}).__setitem__)
    close(kept, attention(q, [k], [v], ops=plain)[1], 20 * UNITS[dtype])
    close(shown["scores"], right["scores"], 20 * UNITS[dtype])
    assert np.shares_memory(merge_heads(found), found)


def test_attention_steps_aside_for_what_it_does_not_serve() -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 2, 2, 4, 8))
    table = rng.standard_normal((15, 8))
    relative = RelativePositions(table, with_keys=True, first_query=0)
    wanted, probabilities = attention(query, [key], [value], relative=relative)
    found, kept = SERVED.run(attention, query, [key], [value], relative=relative)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_allclose(kept, probabilities, rtol=1e-12)


def test_the_context_of_attention_is_merged_without_a_copy() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    context, _ = SERVED.run(attention, x, [x], [x], keep_probabilities=False)
    assert np.shares_memory(merge_heads(context), context)


# -- feed-forward ----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 12, 63, 64, 200])
def test_feed_forward_equals_its_definition(
    activation: str, dtype: str, rows: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_feed_forward, "_ROWS", 90)
    monkeypatch.setattr(numpy_feed_forward, "_BLOCK", 500)
    monkeypatch.setattr(numpy_linear, "_SMALL_PRODUCT", 1000)
    monkeypatch.setattr(numpy_linear, "_DOT_WIDTHS", range(12, 13))
    rng = np.random.default_rng(rows)

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.5).astype(dtype)

    x = draw(2, rows // 2, 12) if rows % 2 == 0 else draw(rows, 12)
    fc1 = {"weight": draw(31, 12), "bias": draw(31)}
    fc2 = {"weight": draw(12, 31), "bias": draw(12)}
    wanted = feed_forward(x, fc1, fc2, activation=DEFINITIONS.activation(activation))
    found = SERVED.run(feed_forward, x, fc1, fc2, activation=SERVED.activation(activation))
    close(found, wanted, 4 * UNITS[dtype])
    shown: dict[str, np.ndarray] = {}
    hooked = SERVED.with_hook(shown.__setitem__)
    act = SERVED.activation(activation)
    close(hooked.run(feed_forward, x, fc1, fc2, activation=act), wanted, 4 * UNITS[dtype])
    assert list(shown) == ["fc1", "activation_fn", "fc2"]
    close(shown["fc1"], layers.linear(x, **fc1), 4 * UNITS[dtype])
    close(shown["fc2"], wanted, 4 * UNITS[dtype])


def test_activations_may_write_where_they_read() -> None:
    x = np.linspace(-30, 30, 1001, dtype=np.float32)
    for block in (numpy_activation.gelu_block, numpy_activation.quick_gelu_block):
        y, z = np.empty_like(x), x.copy()
        block(x, y)
        block(z, z)
        np.testing.assert_array_equal(y, z)


def test_activations_at_the_ends_of_the_numbers() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 0.0, 1e-45], np.float32)
    for name in ("gelu", "quick_gelu"):
        y = KERNELS[name](x[2:])
        np.testing.assert_array_equal(y[1:], [x[3], 0, 0, y[4]])
        assert np.isnan(y[0])
        assert KERNELS[name](x[:1])[0] == np.inf


# -- replacements by hooks -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_projections_take_what_hooks_return(rows: int, dtype: str) -> None:
    check_replacements(projection(rows, dtype), get_backend("numpy"), 4 * UNITS[dtype])


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("queries", "images", "texts"), [(1, 2, 3), (4, 2, 2), (70, 2, 1)])
def test_attention_takes_what_hooks_return(
    queries: int, images: int, texts: int, masked: bool, dtype: str
) -> None:
    run = attending(queries, images, texts, masked, dtype)
    check_replacements(run, get_backend("numpy"), 20 * UNITS[dtype])


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu", "relu"])
@pytest.mark.parametrize("rows", [1, 5, 30, 64, 200])
def test_feed_forward_takes_what_hooks_return(rows: int, activation: str, dtype: str) -> None:
    run = feeding_forward(rows, activation, dtype)
    check_replacements(run, get_backend("numpy"), 8 * UNITS[dtype])


# -- threads ---------------------------------------------------------------------------------------


def test_parts_cover_everything_once(threads: int) -> None:
    for length, multiple in ((0, 3), (1, 3), (3, 3), (10, 3), (100, 7), (5, 100), (100, 1)):
        seen = np.zeros(length, int)
        starts = []

        def count(part: slice, seen: np.ndarray = seen, starts: list[int] = starts) -> None:
            seen[part] += 1
            starts.append(part.start)

        numpy_threads.divide(count, length, multiple)
        assert (seen == 1).all()
        assert all(start % multiple == 0 for start in starts)
        assert len(starts) == max(1, min(threads, -(-length // multiple)))


def test_a_failure_on_a_thread_is_raised_when_all_are_done(threads: int) -> None:
    done = []

    def work(part: slice) -> None:
        done.append(part)
        if part.stop == 12:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        numpy_threads.divide(work, 12)
    assert len(done) == threads
    numpy_threads.divide(lambda part: None, 12)  # the threads are there still


class Stopped(BaseException):
    """What a signal's handler may raise in the place of KeyboardInterrupt."""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no alarm")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, Stopped])
@pytest.mark.parametrize("busy", [True, False])
def test_an_interrupt_waits_for_the_threads(
    kind: type[BaseException], busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it comes while the caller does its own part, or while it waits."""
    monkeypatch.setenv("REFGIT_NUM_THREADS", "2")
    ended = []

    def work(part: slice) -> None:
        if part.start == 0:
            time.sleep(0.2 if busy else 0.0)
        else:
            time.sleep(0.3)
            ended.append(part)

    def stop(number: int, frame: object) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(kind):
            numpy_threads.divide(work, 2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended == [slice(1, 2)]
    assert numpy_blas._holders == 0


def test_threads_warn_as_the_caller_would(threads: int) -> None:
    x = np.full((64, 48), np.inf, np.float32)
    x[:, ::2] *= -1

    def work(part: slice) -> None:
        np.add.reduce(x[part], axis=1)

    with np.errstate(all="ignore"):
        numpy_threads.divide(work, 48)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        numpy_threads.divide(work, 48)


def test_one_pool_serves_any_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in (2, 5, 3, 4):
        monkeypatch.setenv("REFGIT_NUM_THREADS", str(asked))
        numpy_threads.divide(lambda part: None, 60)
    ours = [t for t in threading.enumerate() if t.name.startswith("refgit-")]
    assert len(ours) == 4


def test_as_many_threads_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    meet = threading.Barrier(3, timeout=10)

    def work(part: slice) -> None:
        names.add(threading.current_thread().name)
        meet.wait()

    monkeypatch.setenv("REFGIT_NUM_THREADS", "3")
    numpy_threads.divide(work, 3)
    assert len(names) == 3


def test_products_stay_in_their_thread_and_blas_gets_its_own_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blas = numpy_blas.controls()
    assert blas is not None, "the tests' NumPy runs on OpenBLAS"
    monkeypatch.setenv("REFGIT_NUM_THREADS", "2")
    before = blas.get()
    blas.set(2)
    try:
        seen: list[int] = []
        numpy_threads.divide(lambda part: seen.append(blas.get()), 2)
        assert seen == [1, 1]
        assert blas.get() == 2
        with numpy_blas.one_thread():  # the last to leave gives the threads back
            numpy_threads.divide(lambda part: None, 2)
            assert blas.get() == 1
        assert blas.get() == 2
        with pytest.raises(ZeroDivisionError):
            numpy_threads.divide(lambda part: 1 // 0, 2)  # type: ignore[arg-type]
        assert blas.get() == 2
        with numpy_blas.one_thread():
            blas.set(2)  # somebody else has
        assert blas.get() == 2
    finally:
        blas.set(before)


def test_another_blas_gets_the_work_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGIT_NUM_THREADS", "3")
    monkeypatch.setattr(numpy_threads, "controls", lambda: None)
    seen: list[slice] = []
    numpy_threads.divide(seen.append, 40, 8)
    assert seen == [slice(0, 40)]


@pytest.mark.slow
def test_bits_do_not_depend_on_what_ran_just_before() -> None:
    """OpenBLAS's threads spin for a while after a product; a result may not depend on that."""
    code = (
        "import hashlib, time, numpy as np; from refgit_backends import get_backend\n"
        "linear = get_backend('numpy').kernels['linear']\n"
        "rng = np.random.default_rng(0)\n"
        "draw = lambda *shape: rng.standard_normal(shape, np.float32)\n"
        "draws = [(draw(n, w), draw(4 * w, w))\n"
        "         for n in (13, 17, 33, 50, 65, 197) for w in (24, 32, 40, 48, 96, 100)]\n"
        "square = rng.random((600, 600), np.float32)\n"
        "def digest(busy):\n"
        "    found = hashlib.sha256()\n"
        "    time.sleep(0.5)\n"
        "    for x, weight in draws:\n"
        "        if busy: linear(x[:1], weight), square @ square\n"
        "        found.update(linear(x, weight, weight[:, 0].copy()).tobytes())\n"
        "    return found.hexdigest()\n"
        "assert digest(False) == digest(True)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "REFGIT_NUM_THREADS": "2",
        "OMP_NUM_THREADS": "2",
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.slow
def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("this system has another C library than glibc")
    code = (
        "import resource, sys, numpy as np; from refgit_backends import get_backend\n"
        "if sys.argv[1] == 'kept': get_backend('numpy').kernels\n"
        "def run(): several = [np.ones(1 << 18) for _ in range(8)]\n"  # 2 MiB each
        "run()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): run()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    faults = {}
    for kind, more in (("kept", {}), ("not", {}), ("said", {"MALLOC_TOP_PAD_": "0"})):
        variables = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | more
        variables["PYTHONPATH"] = os.pathsep.join(sys.path)
        arguments = [sys.executable, "-c", code, "not" if kind == "not" else "kept"]
        done = subprocess.run(arguments, env=variables, capture_output=True, text=True)
        faults[kind] = int(done.stdout)
    assert faults["kept"] < 1000
    assert faults["not"] > 10_000
    assert faults["said"] > 10_000  # somebody else has an opinion


def test_controls_are_found_only_in_openblas(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libopenblas.so").write_bytes(b"not a library")
    monkeypatch.setattr(
        numpy_blas, "_libraries", lambda: iter([tmp_path / "libopenblas.so", Path("libc.so.6")])
    )
    assert numpy_blas.controls.__wrapped__() is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"REFGIT_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "5,2"}, 5),
        ({"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "5"}, 4),
        ({"REFGIT_NUM_THREADS": "many", "OMP_NUM_THREADS": "2"}, 2),
        ({"REFGIT_NUM_THREADS": "0"}, len(os.sched_getaffinity(0))),
    ],
)
def test_the_environment_says_how_many_threads(
    settings: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in numpy_threads._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert numpy_threads.number_of_threads() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGIT_NUM_THREADS", "2")
    x = np.ones((64, 32), np.float32)
    KERNELS["linear"](x, x)  # the parent has its threads now
    with numpy_blas.one_thread():  # what the child must not inherit
        child = os.fork()
        if child == 0:
            y = KERNELS["linear"](x, x)
            os._exit(0 if (y == 32).all() and numpy_blas._holders == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((2, 40, 32)).astype(np.float32)
    weight = {"weight": x[0, :32] / 8, "bias": x[1, 0]}  # scores that do not blow rounding up
    found = []
    for count in ("1", "3"):
        monkeypatch.setenv("REFGIT_NUM_THREADS", count)
        q, k, v = SERVED.run(project_heads, x, {"w": weight}, "www", num_heads=4)
        context, _ = SERVED.run(attention, q, [k], [v], keep_probabilities=False)
        found.append([q, k, v, context, KERNELS["linear"](x, **weight)])
    for alone, several in zip(*found, strict=True):
        close(several, alone, 1e-6)


# -- the whole model -------------------------------------------------------------------------------


def test_a_hook_is_shown_what_kernels_leave_out() -> None:
    model = GitForCausalLM(testing.CONFIG, seed=1)
    plain = GitForCausalLM(testing.CONFIG, seed=1, kernels="off")
    pixels, ids = testing.pixels(), testing.tokens(1, 5)
    shown: dict[str, np.ndarray] = {}
    wanted: dict[str, np.ndarray] = {}
    logits = model(ids, pixel_values=pixels, hook=shown.__setitem__).logits
    plain(ids, pixel_values=pixels, hook=wanted.__setitem__)
    assert list(shown) == list(wanted)
    for name, x in wanted.items():
        finite = np.isfinite(x)
        close(shown[name][finite], x[finite], 2e-5)
    np.testing.assert_array_equal(model(ids, pixel_values=pixels).logits, logits)
