"""NumPy's kernels where they differ from their definitions in the way they go: in pieces, for
several texts at once, on several threads. The operations one by one are in test_backends.py.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from refgit import GitForCausalLM, layers
from refgit.layers.activation import ACTIVATIONS
from refgit.layers.attention import attention, merge_heads
from refgit.layers.feed_forward import feed_forward
from refgit.layers.operations import DEFINITIONS, LAYERS, Operations
from refgit.layers.position import RelativePositions
from refgit_backends import (
    get_backend,
    numpy_activation,
    numpy_attention,
    numpy_feed_forward,
    numpy_linear,
    numpy_normalization,
    numpy_threads,
)

KERNELS = get_backend("numpy").kernels
SERVED = Operations.with_kernels(KERNELS)
UNITS = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("REFGIT_NUM_THREADS", str(request.param))
    return int(request.param)


def close(found: Any, wanted: np.ndarray, unit: float) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    size = np.abs(wanted.astype(np.float64)).max(initial=0)
    np.testing.assert_allclose(
        found.astype(np.float64), wanted.astype(np.float64), rtol=0, atol=unit * (1e-30 + size)
    )


def test_every_kernel_of_a_layer_is_held_against_its_definition_here() -> None:
    assert {name for name in KERNELS if name in LAYERS} == {"attention", "feed_forward"}


# -- linear ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 5, 12, 13, 127, 128])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_linear_in_pieces(
    rows: int, dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_linear, "_SMALL_PRODUCT", 1000)
    monkeypatch.setattr(numpy_linear, "_HALF_BLOCK", 100)
    rng = np.random.default_rng(rows)
    x, weight, bias = (
        rng.standard_normal(s).astype(dtype) for s in ((1, rows, 17), (131, 17), (131,))
    )
    close(KERNELS["linear"](x, weight, bias), layers.linear(x, weight, bias), UNITS[dtype])
    close(KERNELS["linear"](x, weight), layers.linear(x, weight), UNITS[dtype])


def test_linear_leaves_rows_next_to_one_another() -> None:
    weight = np.ones((40, 8), np.float32)
    for rows in (1, 3, 20, 200):
        found = KERNELS["linear"](np.ones((rows, 8), np.float32), weight)
        assert found.flags.c_contiguous


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
        patch.setattr(numpy_attention, "_ALONE", 2 * piece)
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
@pytest.mark.parametrize("rows", [1, 63, 64, 200])
def test_feed_forward_equals_its_definition(
    activation: str, dtype: str, rows: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_feed_forward, "_ROWS", 90)
    monkeypatch.setattr(numpy_feed_forward, "_BLOCK", 500)
    rng = np.random.default_rng(rows)

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.5).astype(dtype)

    x = draw(2, rows // 2, 12) if rows % 2 == 0 else draw(rows, 12)
    widen = {"weight": draw(31, 12), "bias": draw(31)}
    narrow = {"weight": draw(12, 31), "bias": draw(12)}
    wanted = feed_forward(x, widen, narrow, activation=DEFINITIONS.activation(activation))
    found = SERVED.run(feed_forward, x, widen, narrow, activation=SERVED.activation(activation))
    close(found, wanted, 4 * UNITS[dtype])


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


# -- threads ---------------------------------------------------------------------------------------


def test_blocks_cover_everything_once(threads: int) -> None:
    for length, step in ((0, 3), (1, 3), (3, 3), (10, 3), (100, 7), (5, 100)):
        seen = np.zeros(length, int)

        def count(part: slice, seen: np.ndarray = seen) -> None:
            seen[part] += 1

        numpy_threads.spread(count, length, step)
        assert (seen == 1).all()


def test_a_failure_on_a_thread_is_raised_when_all_are_done(threads: int) -> None:
    done = []

    def work(part: slice) -> None:
        if part.stop == 12:
            raise ZeroDivisionError
        done.append(part)

    with pytest.raises(ZeroDivisionError):
        numpy_threads.spread(work, 12, 1)


def test_as_many_threads_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    meet = threading.Barrier(3, timeout=10)

    def work(part: slice) -> None:
        names.add(threading.current_thread().name)
        meet.wait()

    monkeypatch.setenv("REFGIT_NUM_THREADS", "3")
    monkeypatch.setattr(numpy_threads, "_pool", cache(numpy_threads._pool.__wrapped__))
    numpy_threads.spread(work, 3, 1)
    assert len(names) == 3


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
    x = np.ones((64, 4096), np.float32)
    KERNELS["softmax"](x)  # the parent has its pool now
    child = os.fork()
    if child == 0:
        os._exit(0 if KERNELS["softmax"](x).shape == x.shape else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_normalization, "BLOCK", 64)
    monkeypatch.setattr(numpy_activation, "BLOCK", 64)
    x = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    found = []
    for count in ("1", "3"):
        monkeypatch.setenv("REFGIT_NUM_THREADS", count)
        norm = KERNELS["layer_norm"](x, x[0], x[1], eps=1e-5)
        found.append([norm, KERNELS["softmax"](x), KERNELS["gelu"](x), KERNELS["quick_gelu"](x)])
    for alone, several in zip(*found, strict=True):
        np.testing.assert_array_equal(alone, several)


# -- the whole model -------------------------------------------------------------------------------


def test_a_listener_is_shown_what_kernels_leave_out() -> None:
    model = GitForCausalLM(tiny.CONFIG, seed=1)
    plain = GitForCausalLM(tiny.CONFIG, seed=1, kernels="off")
    pixels, ids = tiny.pixels(), tiny.tokens(1, 5)
    shown: dict[str, np.ndarray] = {}
    wanted: dict[str, np.ndarray] = {}
    logits = model(ids, pixel_values=pixels, tap=shown.__setitem__).logits
    plain(ids, pixel_values=pixels, tap=wanted.__setitem__)
    assert list(shown) == list(wanted)
    for name, x in wanted.items():
        finite = np.isfinite(x)
        close(shown[name][finite], x[finite], 2e-5)
    np.testing.assert_array_equal(model(ids, pixel_values=pixels).logits, logits)
