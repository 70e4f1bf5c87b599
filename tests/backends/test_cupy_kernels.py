"""The CuPy backend, as far as it can be tried without a GPU; on a GPU where there is one.

Without a GPU a pretend CuPy stands in (gpu_fake.py): the CUDA source is compiled by gcc, a block's
threads run one after another, and what they compute is held against the definitions. NVRTC, where
it is installed, compiles the same source for real GPUs.
"""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import golden_cases as golden
from helpers import gpu_fake, gpu_fake_kernels
from helpers.backends import ROOT, make_backend
from helpers.golden_checks import SMALL, WRITING, relative_error
from helpers.mathematics import MATHEMATICS
from helpers.replacements import attending, check_replacements, close, feeding_forward
from refgit import GitForCausalLM, layers, testing, to_numpy
from refgit.layers._operations import DEFINITIONS, LAYERS, OPERATIONS, Operations
from refgit.layers.activation import ACTIVATIONS
from refgit.layers.attention import attention, merge_heads, split_heads
from refgit.layers.feed_forward import feed_forward
from refgit.layers.position import RelativePositions
from refgit_backends import Backend, BackendError, get_backend
from refgit_backends.cupy import attention as cupy_attention
from refgit_backends.cupy import memory as cupy_memory
from refgit_backends.cupy.backend import CupyBackend
from refgit_backends.cupy.launch import DTYPES, MAX_KEYS, PARAMETERS, THREADS, Launcher, source

# Compiles with g++ and runs a model on a pretended GPU: part of .ci/run's step of slow tests.
pytestmark = pytest.mark.slow

NO_COMPILER = "the kernels are run on the CPU by g++, which is not installed"
needs_compiler = pytest.mark.skipif(gpu_fake_kernels.COMPILER is None, reason=NO_COMPILER)

# What rounding may change, relative to the largest number of the result.
UNITS = {"float16": 1.5e-3, "float32": 2e-6, "float64": 5e-15}


@cache
def pretend_cupy() -> Any:
    return gpu_fake.make_fake_cupy()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pretend CuPy, in the place of the real one."""
    if gpu_fake_kernels.COMPILER is None:
        pytest.skip(NO_COMPILER)
    monkeypatch.setitem(sys.modules, "cupy", pretend_cupy())
    return pretend_cupy()


@pytest.fixture(params=["pretend", pytest.param("real", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Backend:
    """The CuPy backend on a pretend GPU, and on a real one where there is one."""
    if request.param == "pretend":
        request.getfixturevalue("fake")
    return make_backend("cupy")


# The examples of a property may share a device.
shared_device = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


# -- the source ------------------------------------------------------------------------------------


def find_nvrtc() -> ctypes.CDLL | None:
    """NVIDIA's compiler as pip installs it, which needs no GPU."""
    for package in ("nvidia.cuda_nvrtc", "nvidia.cu13"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(folder, "lib").glob("libnvrtc.so*")):
                return ctypes.CDLL(str(path))
    return None


def compile_by_nvrtc(code: str, architecture: str) -> tuple[int, str, str]:
    """NVRTC's answer (0 is good), its messages, and PTX."""
    nvrtc = find_nvrtc()
    if nvrtc is None:
        pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc-cu12)")
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"", 0, None, None) == 0
    flags = [f"--gpu-architecture={architecture}", "-ftz=true"]  # the latter is CuPy's
    options = (ctypes.c_char_p * 2)(*(flag.encode() for flag in flags))
    answer = nvrtc.nvrtcCompileProgram(program, 2, options)

    def text(what: str) -> str:
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        room = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, room)
        return room.value.decode()

    return answer, text("ProgramLog"), text("PTX") if answer == 0 else ""


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nvrtc_compiles_the_kernels_without_a_word(dtype: str, architecture: str) -> None:
    answer, messages, ptx = compile_by_nvrtc(source(dtype), architecture)
    assert answer == 0, messages
    assert not messages.strip("\0\n ")
    assert set(re.findall(r"\.entry (\w+)\(", ptx)) == set(PARAMETERS)
    arithmetic = re.findall(r"(?:add|sub|mul|div|fma|sqrt)[.\w]*\.f64", ptx)
    assert bool(arithmetic) == (dtype == "float64"), "float kernels are to stay clear of float64"
    shared = sum(int(n) for n in re.findall(r"\.shared [^;]*\[(\d+)\];", ptx))
    assert 0 < shared <= 48 << 10, "CUDA gives a block 48 KiB unless asked for more"


def test_nvrtc_says_what_is_wrong() -> None:
    """Else the test above might pass whatever it is given."""
    answer, messages, _ = compile_by_nvrtc(source("float32") + "\nint x = y;", "sm_80")
    assert answer != 0
    assert '"y" is undefined' in messages


def test_the_parameters_are_those_of_the_source() -> None:
    """Read once more from the source, in another way; the types are those CUDA copies."""
    for dtype in DTYPES:
        assert gpu_fake_kernels.signatures(source(dtype)) == {
            name: [(kind, parameter) for parameter, kind in parameters.items()]
            for name, parameters in PARAMETERS.items()
        }
    kinds = {kind for parameters in PARAMETERS.values() for kind in parameters.values()}
    assert kinds == {"number*", "const number*", "int", "long long", "double"}


def test_a_kernel_is_started_with_just_its_arguments(fake: Any) -> None:
    launch = Launcher(fake)
    x = fake.asarray(np.ones((2, 3), np.float32))
    right: dict[str, Any] = {"y": x, "x": x, "bias": None, "rows": 2, "width": 3}
    launch("gelu", (2, 1), x.dtype, **right)
    with pytest.raises(AssertionError, match="gelu has no rest"):
        launch("gelu", (2, 1), x.dtype, **right, rest=0)
    with pytest.raises(KeyError, match="width"):
        launch("gelu", (2, 1), x.dtype, **{k: v for k, v in right.items() if k != "width"})
    with pytest.raises(AssertionError, match="array of float64 was passed"):
        launch("gelu", (2, 1), x.dtype, **right | {"bias": fake.asarray(np.ones(3))})


def test_a_grid_keeps_to_what_cuda_allows(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    launch, grids = Launcher(fake), []
    x = fake.asarray(np.ones(1, np.float32))
    launch._functions[x.dtype, "gelu"] = lambda grid, block, args: grids.append((grid, block))
    for blocks in ((0, 1), (2**40, 10**6)):
        launch("gelu", blocks, x.dtype, y=x, x=x, bias=None, rows=1, width=1)
    assert grids == [((1, 1), (THREADS,)), ((2**31 - 1, 65535), (THREADS,))]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("grid", [(1, 1), (2, 1), (1, 2)])
def test_kernels_go_round_where_the_grid_is_too_small(
    dtype: str, grid: tuple[int, int], fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import refgit_backends.cupy.launch as cupy_launch

    monkeypatch.setattr(cupy_launch, "_LARGEST_GRID", grid)
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(s).astype(dtype) for s in ((5, 300), 300, 300))
    backend = get_backend("cupy")
    there = [backend.asarray(a) for a in (x, weight, bias)]
    kernels = backend.kernels
    close(kernels["gelu"](there[0]), layers.gelu(x), UNITS[dtype])
    close(kernels["softmax"](there[0]), layers.softmax(x), UNITS[dtype])
    wanted = layers.layer_norm(x, weight, bias, eps=1e-5)
    close(kernels["layer_norm"](*there, eps=1e-5), wanted, UNITS[dtype])


# -- that the pretend GPU notices mistakes ---------------------------------------------------------


@needs_compiler
def test_the_pretend_gpu_rounds_float16_as_numpy_does() -> None:
    library = gpu_fake_kernels.library(source("float16"))
    widen, narrow = library.half_to_float, library.float_to_half
    widen.argtypes, widen.restype = [ctypes.c_ushort], ctypes.c_float
    narrow.argtypes, narrow.restype = [ctypes.c_float], ctypes.c_ushort
    bits = np.arange(65536, dtype=np.uint16)
    wide = bits.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal([widen(b) for b in bits.tolist()], wide)
    finite = wide[np.isfinite(wide)]
    above = np.nextafter(finite, np.float32(np.inf))
    between = np.sort(finite)
    between = (between[1:] + between[:-1]) / 2  # ties
    for x in (finite, above, between, np.float32([65519, 65520, 1e9, -1e9, np.inf, 1e-9])):
        with np.errstate(over="ignore"):
            wanted = x.astype(np.float16).view(np.uint16)
        np.testing.assert_array_equal([narrow(v) for v in x.tolist()], wanted)
    assert narrow(float("nan")) & 0x7FFF > 0x7C00


def run_all(code: str) -> list[np.ndarray]:
    """The row kernels and `attend` of a source, on data that uses every part of them."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    x, weight, bias = draw(5, 150), draw(150), draw(150)
    y = [np.empty_like(x) for _ in range(3)]
    start = partial(gpu_fake_kernels.run, code)
    null = np.uint64(0)
    long, short = np.int64, np.int32
    start(
        "layer_norm", (3,), (THREADS,), (y[0], x, weight, bias, long(5), short(150), np.float64(1))
    )
    start("softmax", (3,), (THREADS,), (y[1], x, null, long(5), short(150), *[short(1)] * 3))
    start("gelu", (2, 1), (THREADS,), (y[2], x, bias, long(5), long(150)))
    query = draw(1, 1, 2, 40)
    segments = [draw(1, 1, 70, 40) for _ in range(4)]
    steps = [long(n) for n in (80, 80, 40, 2800, 2800, 40, 2800, 2800, 40)]
    rest = [short(n) for n in (1, 70, 1, 70, 1, 2, 40, 1)]
    for scale in (0.5, 50.0, -50.0):  # exp may overflow unless the maximum is right
        y.append(np.empty((1, 2, 1, 40), np.float32))
        arrays = (y[-1], query, null, null, *segments)
        start("attend", (2,), (THREADS,), (*arrays, *steps, *rest, np.float64(scale)))
    return y


# What is wrong: (what the source says, what it says then).
MISTAKES = {
    "no barrier before the parts of a sum are read": (
        "parts[threadIdx.x / 32] = x;\n    __syncthreads();",
        "parts[threadIdx.x / 32] = x;",
    ),
    "no barrier before the room of a sum is used again": (
        "    __syncthreads();  // someone may still read the parts of the sum before\n",
        "",
    ),
    "no barrier between scores and their maximum": (
        "    __syncthreads();\n\n    wide peak",
        "    wide peak",
    ),
    "no barrier before the parts of the channels are added": (
        "parts[threadIdx.x] = part;\n        __syncthreads();",
        "parts[threadIdx.x] = part;",
    ),
    "a row is read one too far": (
        "i < width; i += THREADS) sum +=",
        "i <= width; i += THREADS) sum +=",
    ),
    "a row is written one too far": (
        "i < width; i += THREADS) {\n            const wide h = (",
        "i <= width; i += THREADS) {\n            const wide h = (",
    ),
    "half of a warp is forgotten": ("int lane = 16; lane > 0", "int lane = 8; lane > 0"),
    "a thread leaves early": (
        "    x = warp_sum(x);\n",
        "    x = warp_sum(x);\n    while (threadIdx.x == 5) wait_at(DONE);\n",
    ),
    "the last key is forgotten": ("int keys = keys0 + keys1;", "int keys = keys0 + keys1 - 1;"),
    "the second segment is the first": ("value1 + start1", "value0 + start1"),
}


@needs_compiler
@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_the_pretend_gpu_notices(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = source("float32")
    old, new = MISTAKES[mistake]
    assert old in right
    wrong = right.replace(old, new)
    wanted = run_all(right)
    noticed = False
    for reverse in (False, True):
        monkeypatch.setitem(gpu_fake_kernels.SETTINGS, "reverse", reverse)
        try:
            found = run_all(wrong)
        except AssertionError:
            noticed = True
            continue
        noticed |= any(not np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert noticed


@needs_compiler
def test_the_order_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = run_all(source("float32"))
    monkeypatch.setitem(gpu_fake_kernels.SETTINGS, "reverse", True)
    for a, b in zip(forward, run_all(source("float32")), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_pretend_cupy_keeps_host_and_device_apart(fake: Any) -> None:
    there, here = fake.asarray(np.ones(3)), np.ones(3)
    for mix in (lambda: there + here, lambda: here + there, lambda: fake.concat([there, here])):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(there)
    before = fake.queue.waits.total()
    assert bool(there[0])
    assert float(there[1]) == 1
    there[there > 0]
    assert fake.queue.waits.total() == before + 3


# -- kernels of single operations ------------------------------------------------------------------


def test_every_operation_has_a_kernel(device: Backend) -> None:
    # Of project_heads the definition: three products, which `linear` has a kernel for.
    without = {"project_heads", *ACTIVATIONS} - {"gelu", "quick_gelu"}
    assert set(device.kernels) == {*OPERATIONS, *LAYERS} - without


def draw_numbers(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> np.ndarray:
    return np.clip(rng.standard_normal(shape) * size, -30000, 30000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", ["softmax", "quick_gelu", "gelu"])
@shared_device
@given(
    rows=st.lists(st.integers(1, 4), max_size=3),
    width=st.one_of(st.integers(1, 70), st.integers(120, 300)),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
    transposed=st.booleans(),
)
def test_an_elementwise_kernel_and_softmax_equal_their_definitions(
    device: Backend,
    operation: str,
    dtype: str,
    rows: list[int],
    width: int,
    size: float,
    seed: int,
    transposed: bool,
) -> None:
    rng = np.random.default_rng(seed)
    x = draw_numbers(rng, (*rows, width), size).astype(dtype)
    there = device.asarray(x)
    if transposed:  # no longer contiguous
        x, there = x.T, there.T
    wanted = getattr(layers, operation)(x)
    found = to_numpy(device.kernels[operation](there))
    assert found.dtype == dtype
    unit = float(np.finfo(dtype).eps)
    # what is exponential in x moves by as many units as x has
    steep = 1 + (np.abs(x.astype(np.float64)) if operation == "softmax" else 0)
    error = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    allowed = 8 * unit * (np.abs(wanted.astype(np.float64)) * np.max(steep)) + 4 * unit
    assert (error <= allowed).all()
    np.testing.assert_array_equal(to_numpy(there), x)  # arguments are left alone


@pytest.mark.parametrize("dtype", DTYPES)
@shared_device
@given(
    rows=st.lists(st.integers(1, 4), max_size=3),
    width=st.one_of(st.integers(1, 70), st.integers(120, 300)),
    size=st.sampled_from([1e-6, 1.0, 100.0]),
    shift=st.sampled_from([0.0, 3.0, 100.0]),
    eps=st.sampled_from([1e-5, 1e-12]),
    seed=st.integers(0, 2**32 - 1),
)
def test_layer_norm_equals_its_definition(
    device: Backend,
    dtype: str,
    rows: list[int],
    width: int,
    size: float,
    shift: float,
    eps: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    x = (draw_numbers(rng, (*rows, width), size) + shift).astype(dtype)
    weight, bias = (rng.standard_normal(width).astype(dtype) for _ in range(2))
    found = to_numpy(device.kernels["layer_norm"](*map(device.asarray, (x, weight, bias)), eps=eps))
    # what the input's own rounding and a mean in this precision leave of so small a deviation
    wide = np.float32 if dtype == "float16" else np.dtype(dtype).type
    spread = np.sqrt(x.astype(np.float64).var(axis=-1, keepdims=True) + eps)
    error = 16 * np.finfo(wide).eps * (np.abs(x.astype(np.float64)) + spread) / spread
    exact = layers.layer_norm(*(a.astype(np.float64) for a in (x, weight, bias)), eps=eps)
    allowed = (error + 4 * np.finfo(wide).eps * (1 + np.abs(exact))) * (1 + np.abs(weight))
    allowed = allowed.astype(np.float64) + np.finfo(dtype).eps * (1 + np.abs(exact))
    assert found.dtype == dtype
    assert (np.abs(found.astype(np.float64) - exact) <= allowed).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_at_the_ends_of_the_numbers(dtype: str, device: Backend) -> None:
    largest, tiny_number = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    x = np.array([np.nan, np.inf, largest, -largest, 0.0, -0.0, tiny_number], dtype)
    for name in ("quick_gelu", "gelu"):
        found = to_numpy(device.kernels[name](device.asarray(x)))
        assert np.isnan(found[0])
        np.testing.assert_array_equal(found[1:6], [np.inf, largest, 0, 0, 0])
        assert 0 <= found[6] <= tiny_number
    hidden = np.array([[1.0, -np.inf, 1.0, -np.inf], [-largest, -np.inf, -np.inf, -np.inf]], dtype)
    found = to_numpy(device.kernels["softmax"](device.asarray(hidden)))
    np.testing.assert_array_equal(found, [[0.5, 0, 0.5, 0], [1, 0, 0, 0]])
    for bad in (np.nan, np.inf):  # spoils its own row, as in the definition, and no other
        rows = np.array([[1.0, bad, 2.0], [1.0, 1.0, 1.0]], dtype)
        found = to_numpy(device.kernels["softmax"](device.asarray(rows)))
        assert np.isnan(found[0]).all()
        np.testing.assert_allclose(found[1], 1 / 3, rtol=1e-3)
    large = np.array([[largest, -largest] * 3], dtype) / 4
    ones = np.ones(6, dtype)
    if dtype == "float16":  # the square does not fit into float16, the sum is float32's
        found = to_numpy(
            device.kernels["layer_norm"](*map(device.asarray, (large, ones, ones)), eps=0)
        )
        np.testing.assert_allclose(found, [[2, 0] * 3], atol=1e-3)


def test_the_gelu_kernel_keeps_the_negative_tail(device: Backend) -> None:
    """x / 2 erfc(-x / sqrt 2), where the definition's 1 + erf has no digits left below -5.5."""
    import math

    x = np.linspace(-10, 0, 500, endpoint=False).astype(np.float32)
    found = to_numpy(device.kernels["gelu"](device.asarray(x)))
    wanted = [0.5 * v * math.erfc(-v * math.sqrt(0.5)) for v in x.tolist()]
    np.testing.assert_allclose(found, wanted, rtol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (1, 7), (2, 3, 7), (4, 1, 2, 7), (0, 7)])
def test_linear_equals_its_definition(dtype: str, shape: tuple[int, ...], device: Backend) -> None:
    rng = np.random.default_rng(1)
    x, weight, bias = (rng.standard_normal(s).astype(dtype) for s in (shape, (5, 7), 5))
    there = [device.asarray(a) for a in (x, weight, bias)]
    close(device.kernels["linear"](*there), layers.linear(x, weight, bias), 4 * UNITS[dtype])
    close(device.kernels["linear"](*there[:2]), layers.linear(x, weight), 4 * UNITS[dtype])


# -- kernels of layers -----------------------------------------------------------------------------


def draw_attention(
    rng: np.random.Generator, dtype: str, images: int, texts: int, queries: int, width: int
) -> tuple[list[np.ndarray | None], int]:
    """Query, image key and value, text key and value, mask, head mask; and the room to grow."""
    heads, rows = int(rng.integers(1, 4)), images * texts
    n, text = int(rng.integers(0, 40)), queries + int(rng.integers(0, 5))
    room = text + int(rng.integers(0, 4))  # the cache has room for more than is in use

    def tokens(b: int, length: int) -> np.ndarray:  # (B, L, D) as `linear` makes them
        return rng.standard_normal((b, length, heads * width)).astype(dtype)

    pairs = [tokens(rows, room), tokens(rows, room)]
    if n:
        pairs = [tokens(images, n), tokens(images, n), *pairs]
    kind = int(rng.integers(0, 3))
    bias = None
    if kind:
        hidden = rng.random((1 if kind == 1 else rows, 1, queries, n + text)) < 0.4
        hidden[..., 0] = False
        bias = np.where(hidden, -np.inf, 0.0).astype(dtype)
    head_mask = rng.integers(0, 2, heads).astype(dtype) if rng.integers(0, 2) else None
    return [tokens(rows, queries), *pairs, bias, head_mask], text


def attend(arrays: list[Any], heads: int, text: int, run: Any) -> tuple[Any, list[Any]]:
    """Split the heads of what `draw_attention` drew, here or on the device, and attend."""
    query, *pairs, bias, head_mask = arrays
    query = split_heads(query, heads)
    parts = [split_heads(x, heads) for x in pairs]
    parts[-2:] = [x[:, :, :text, :] for x in parts[-2:]]
    context, _ = run(
        query, parts[0::2], parts[1::2], bias, head_mask=head_mask, keep_probabilities=False
    )
    return context, parts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("few", [0, 8])
@shared_device
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 3),
    texts=st.integers(1, 3),
    queries=st.integers(1, 4),
    width=st.sampled_from([1, 2, 5, 33, 64, 127, 129, 200]),
)
def test_attention_equals_its_definition(
    device: Backend,
    dtype: str,
    few: int,
    seed: int,
    images: int,
    texts: int,
    queries: int,
    width: int,
) -> None:
    """In one kernel and by products; keys of images shared, in strides, with masks of all kinds."""
    rng = np.random.default_rng(seed)
    arrays, text = draw_attention(rng, dtype, images, texts, queries, width)
    heads = arrays[0].shape[-1] // width  # type: ignore[union-attr]
    wanted, _ = attend(arrays, heads, text, attention)
    there = [None if x is None else device.asarray(x) for x in arrays]
    served = Operations.with_kernels(device.kernels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy_attention, "FEW_QUERIES", few)
        found, _ = attend(there, heads, text, partial(served.run, attention))
    largest = max(np.abs(x).max() for x in arrays[2:-2:2])  # type: ignore[arg-type]
    # rounding of a score moves its probability by as many units as the score has
    unit = 4 * UNITS[dtype] * (1 + np.sqrt(width))
    found = to_numpy(found)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found.astype(np.float64), wanted.astype(np.float64), rtol=0, atol=unit * largest
    )
    for x, y in zip(there, arrays, strict=True):
        if y is not None:
            np.testing.assert_array_equal(to_numpy(x), y)  # arguments are left alone


@pytest.mark.parametrize("n_keys", [MAX_KEYS, MAX_KEYS + 1])
def test_attention_has_room_for_many_keys(n_keys: int, device: Backend) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((1, 1, n, 3)) for n in (1, n_keys, n_keys))
    wanted, _ = attention(query, [key], [value])
    there = [device.asarray(x) for x in (query, key, value)]
    found, _ = device.kernels["attention"](
        there[0], [there[1]], [there[2]], keep_probabilities=False
    )
    close(found, wanted, 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_that_sees_only_padding_gets_numbers(dtype: str, device: Backend) -> None:
    """Its bias is finite, half the largest number: in float16 it must not become infinite."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((1, 1, n, 4)).astype(dtype) for n in (1, 3, 3))
    padded = np.full((1, 1, 1, 3), -0.5 * float(np.finfo(dtype).max), dtype)
    there = [device.asarray(x) for x in (query, key, value, padded)]
    for few in (0, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cupy_attention, "FEW_QUERIES", few)
            found, _ = device.kernels["attention"](
                there[0], [there[1]], [there[2]], there[3], keep_probabilities=False
            )
        assert np.isfinite(to_numpy(found)).all()


def test_attention_steps_aside_for_relative_positions(device: Backend) -> None:
    rng = np.random.default_rng(0)
    arrays = [*rng.standard_normal((3, 2, 2, 4, 8)), rng.standard_normal((15, 8))]
    served = Operations.with_kernels(device.kernels)
    shown = []
    for run, (query, key, value, table) in (
        (attention, arrays),
        (partial(served.run, attention), map(device.asarray, arrays)),
    ):
        relative = RelativePositions(table, with_keys=True, first_query=0)
        shown.append(run(query, [key], [value], relative=relative))
    for found, wanted in zip(shown[1], shown[0], strict=True):
        close(found, wanted, 1e-12)


@pytest.mark.parametrize("few", [0, 8])
def test_attention_shows_scores_and_probabilities(
    few: int, device: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cupy_attention, "FEW_QUERIES", few)
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 2, 3, 4, 8))
    bias, head_mask = rng.standard_normal((2, 1, 4, 4)), np.array([1.0, 0.0, 1.0])
    seen: list[dict[str, Any]] = [{}, {}]
    plain = DEFINITIONS.with_hook(seen[0].__setitem__)
    wanted = plain.run(attention, query, [key], [value], bias, head_mask=head_mask)
    served = Operations.with_kernels(device.kernels).with_hook(seen[1].__setitem__)
    query, key, value, bias, head_mask = map(device.asarray, (query, key, value, bias, head_mask))
    found = served.run(attention, query, [key], [value], bias, head_mask=head_mask)
    for x, y in zip(found, wanted, strict=True):
        close(x, y, 1e-13)
    assert list(seen[1]) == list(seen[0]) == ["scores", "probabilities"]
    for name, x in seen[0].items():
        close(seen[1][name], x, 1e-13)


def test_heads_are_put_side_by_side_without_a_copy(device: Backend) -> None:
    x = device.asarray(np.random.default_rng(0).standard_normal((2, 3, 5, 4)))
    context, _ = device.kernels["attention"](x, [x], [x], keep_probabilities=False)
    assert merge_heads(context).flags.c_contiguous
    assert context.strides == (480, 32, 96, 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu", "relu"])
def test_feed_forward_equals_its_definition(activation: str, dtype: str, device: Backend) -> None:
    rng = np.random.default_rng(2)

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.5).astype(dtype)

    x = draw(2, 3, 12)
    fc1 = {"weight": draw(300, 12), "bias": draw(300)}
    fc2 = {"weight": draw(12, 300), "bias": draw(12)}
    wanted = feed_forward(x, fc1, fc2, activation=DEFINITIONS.activation(activation))
    served = Operations.with_kernels(device.kernels)
    there = [{name: device.asarray(a) for name, a in p.items()} for p in (fc1, fc2)]
    bend = served.activation(activation)
    assert device.kernels["feed_forward"].serves(device.asarray(x), *there, activation=bend) == (
        activation != "relu"
    )
    found = served.run(feed_forward, device.asarray(x), *there, activation=bend)
    close(found, wanted, 4 * UNITS[dtype])
    seen: list[dict[str, Any]] = [{}, {}]
    plain = DEFINITIONS.with_hook(seen[0].__setitem__)
    plain.run(feed_forward, x, fc1, fc2, activation=plain.activation(activation))
    served.with_hook(seen[1].__setitem__).run(
        feed_forward, device.asarray(x), *there, activation=bend
    )
    assert list(seen[1]) == list(seen[0])
    for name, step in seen[0].items():
        close(seen[1][name], step, 4 * UNITS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("queries", "images", "texts"), [(1, 2, 3), (4, 2, 2), (70, 2, 1)])
def test_attention_takes_what_hooks_return(
    queries: int, images: int, texts: int, masked: bool, dtype: str, device: Backend
) -> None:
    run = attending(queries, images, texts, masked, dtype)
    check_replacements(run, device, 20 * UNITS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu", "relu"])
def test_feed_forward_takes_what_hooks_return(activation: str, dtype: str, device: Backend) -> None:
    check_replacements(feeding_forward(6, activation, dtype), device, 8 * UNITS[dtype])


# -- the whole model -------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("case", SMALL)
def test_the_model_computes_the_oracles_logits(case: str, kernels: str, fake: Any) -> None:
    """Without hooks, so that the kernels of whole layers run; on a GPU see test_golden.py."""
    backend = get_backend("cupy", kernels=kernels)
    entry = golden.MANIFEST[case]
    out = golden.model(case, backend)(**golden.inputs(case), **entry.get("options", {}))
    wanted = golden.tensors(case)["output.logits"]
    found = golden.stored_part(case, to_numpy(out.logits))
    assert relative_error(found, wanted) <= entry["tolerance"]


@pytest.mark.parametrize("case", [case for case in WRITING if case != "demo"])
def test_the_model_writes_the_oracles_words(case: str, fake: Any) -> None:
    model, inputs = golden.model(case, get_backend("cupy")), golden.inputs(case)
    found = model.generate(inputs["pixel_values"], max_length=16)
    np.testing.assert_array_equal(to_numpy(found), golden.group(case, "ids")["caption"])


def test_float16_is_as_near_to_float32_as_in_the_definitions(device: Backend) -> None:
    pixels, ids = testing.pixels(2), testing.tokens(2, 5)

    def logits(**options: Any) -> np.ndarray:
        return to_numpy(testing.tiny_model(**options)(ids, pixel_values=pixels).logits)

    wanted = logits(backend="numpy", dtype="float32")
    plain = logits(backend="numpy", dtype="float16", kernels="off")
    found = logits(backend=device, dtype="float16")
    assert found.dtype == np.float16
    error, error_of_definitions = (
        relative_error(x.astype(np.float32), wanted) for x in (found, plain)
    )
    assert error < 2 * error_of_definitions < 0.2


# One word from one step: its scores come home, and nothing else waits for the GPU.
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "sampling": {"do_sample": True, "seed": 0},
    "rules": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
}


@pytest.mark.parametrize("prompts", [1, 2])
@pytest.mark.parametrize("search", sorted(SEARCHES))
def test_the_host_waits_once_a_step(search: str, prompts: int, fake: Any) -> None:
    model = testing.tiny_model(backend="cupy")
    ids = None if prompts == 1 else [[1, 5, 6], [1, 7, 0]]
    mask = None if prompts == 1 else [[1, 1, 1], [0, 1, 1]]
    if mask is not None:
        ids = [[1, 5, 6], [0, 1, 7]]
    options = {"input_ids": ids, "attention_mask": mask, **SEARCHES[search]}
    counts = {}
    for words in (4, 9):
        fake.queue.waits.clear()
        fake.queue.home = 0
        model.generate(
            testing.pixels(prompts), max_new_tokens=words, min_new_tokens=words,
            **{key: x for key, x in options.items() if x is not None},
        )  # fmt: skip
        counts[words] = fake.queue.waits["get"], fake.queue.home
        assert set(fake.queue.waits) == {"get"}
    rows = prompts * SEARCHES[search].get("num_beams", 1)
    steps = 9 - 4
    assert counts[9][0] - counts[4][0] == steps
    assert counts[9][1] - counts[4][1] == steps * rows * testing.CONFIG.vocab_size * 4


def test_a_step_of_decoding_starts_few_kernels(fake: Any) -> None:
    """Of ours, in each layer: attention in one, two layer norms, one bias with its activation."""
    model = testing.tiny_model(backend="cupy")
    cache = model.encode_image(testing.pixels())
    model.next_token_logits(testing.tokens(1, 1), cache)
    fake.queue.launches.clear()
    model.next_token_logits(testing.tokens(1, 1), cache)
    depth = testing.CONFIG.num_hidden_layers
    wanted = {"attend": depth, "layer_norm": 2 * depth + 1, "gelu": depth}  # one after embedding
    assert dict(fake.queue.launches) == wanted


REHEARSAL = """
import sys
sys.path[:0] = sys.argv.pop(1).split(":")
import pytest
from helpers import gpu_fake
sys.modules["cupy"] = gpu_fake.make_fake_cupy()
quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
sys.exit(pytest.main([*quiet, "-m", "gpu", *sys.argv[1:]]))
"""


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("file", ["backends/test_backends.py", "golden/test_golden.py"])
def test_what_a_gpu_machine_is_to_run_passes_on_the_pretend_gpu(file: str) -> None:
    """Every golden tensor with its hooks, git-base's size too, with kernels and without."""
    paths = ":".join(str(ROOT / name) for name in (".", "backends", "tests"))
    run = subprocess.run(
        [sys.executable, "-c", REHEARSAL, paths, f"tests/{file}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={key: x for key, x in os.environ.items() if key != "PYTEST_ADDOPTS"},
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert "passed" in run.stdout
    assert "skipped" not in run.stdout.splitlines()[-1]


# -- memory ----------------------------------------------------------------------------------------


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy_memory, "PIECE", 96)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("count", [1, 12, 24, 25, 100, 1001])
def test_large_arrays_go_up_piece_by_piece(dtype: str, count: int, fake: Any) -> None:
    upload = cupy_memory.Uploader(fake)
    for seed in range(2):  # the buffers serve the next array as well
        x = np.random.default_rng(seed).integers(-9, 9, (count, 3)).astype(dtype)
        there = upload(x)
        assert (there.dtype, there.shape) == (x.dtype, x.shape)
        np.testing.assert_array_equal(to_numpy(there), x)
        np.testing.assert_array_equal(to_numpy(upload(x.T)), x.T)


@pytest.mark.usefixtures("small_pieces")
def test_a_buffer_that_is_filled_too_early_would_be_noticed(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.cuda.Event, "synchronize", lambda self: None)
    x = np.arange(1000.0)
    assert (to_numpy(cupy_memory.Uploader(fake)(x)) != x).any()


def test_weights_go_up_once_through_two_buffers(
    fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from refgit_backends.cupy import backend as cupy_backend

    made, sent = [], []
    pinned, put = fake.cuda.alloc_pinned_memory, fake.queue.put
    monkeypatch.setattr(cupy_backend, "LEAST", 1)
    monkeypatch.setattr(fake.cuda, "alloc_pinned_memory", lambda n: made.append(n) or pinned(n))
    monkeypatch.setattr(fake.queue, "put", lambda copy: sent.append(1) or put(copy))
    testing.tiny_model(backend="numpy").save_pretrained(tmp_path)
    wanted = testing.tiny_model(backend="numpy").state_dict()
    model = GitForCausalLM.from_pretrained(tmp_path, backend="cupy")
    assert made == [cupy_memory.PIECE] * 2
    assert len(sent) == len(wanted)
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(to_numpy(x), wanted[name])


def test_without_pinned_memory_arrays_go_up_all_the_same(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(size: int) -> None:
        raise gpu_fake.FakeCUDARuntimeError("cudaErrorMemoryAllocation")

    monkeypatch.setattr(fake.cuda, "alloc_pinned_memory", refuse)
    x = np.arange(10.0)
    np.testing.assert_array_equal(to_numpy(cupy_memory.Uploader(fake)(x)), x)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pretend CuPy that nobody has changed yet."""
    module = gpu_fake.make_fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_too_little_memory_is_said_in_a_sentence(fresh: Any) -> None:
    def refuse(size: int) -> None:
        raise gpu_fake.FakeOutOfMemoryError

    fresh.cuda.set_allocator(refuse)
    backend = CupyBackend(memory_limit=4 << 20)
    for _ in range(2):
        backend = CupyBackend()  # wraps the allocator no second time
    with pytest.raises(cupy_memory.GpuMemoryError) as caught:
        backend.xp.empty((1000, 1000), np.float32)
    message = str(caught.value)
    assert "no room for another 3.8 MiB" in message
    assert "device 0 has 16.0 GiB, 1.0 GiB of it free" in message
    assert "holds 3.0 MiB, of 4.0 MiB that it may take, 2.0 MiB of it in use" in message
    assert 'smaller batch or fewer beams, load the model with dtype="float16"' in message
    assert "raise the limit (memory_limit, CUPY_GPU_MEMORY_LIMIT)" in message
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value.__cause__, gpu_fake.FakeOutOfMemoryError)
    fresh.get_default_memory_pool().set_limit(size=0)
    with pytest.raises(BackendError, match=r'dtype="float16"\.$'):
        backend.xp.empty(512, np.uint8)


@pytest.mark.parametrize(
    ("limit", "bytes_"), [(None, 0), (1 << 30, 1 << 30), (0.5, 8 << 30), (1.0, 16 << 30)]
)
def test_the_memory_limit_is_the_pools(limit: int | float | None, bytes_: int, fresh: Any) -> None:
    CupyBackend(memory_limit=limit)
    assert fresh.get_default_memory_pool().get_limit() == bytes_


@pytest.mark.parametrize("limit", [0, -1, 1.5, 0.0, float("nan"), "8GB", True])
def test_a_memory_limit_that_is_none_is_refused(limit: Any, fresh: Any) -> None:
    with pytest.raises(BackendError, match=r"memory_limit is .*; expected bytes"):
        CupyBackend(memory_limit=limit)


@pytest.mark.parametrize(
    ("tf32", "types"), [(None, {}), (True, {"float32": 7}), (False, {"float32": 1})]
)
def test_tf32_is_asked_for_or_refused_or_left_to_cupy(
    tf32: bool | None, types: dict[str, int], fresh: Any
) -> None:
    CupyBackend(tf32=tf32)
    assert fresh._core.types == types


def test_an_old_cupy_is_refused(fresh: Any) -> None:
    fresh.__version__ = "13.6.0"
    with pytest.raises(BackendError, match=r"CuPy 14 or later; found 13\.6\.0.*upgrade"):
        get_backend("cupy")


# -- the real CuPy, which imports without a GPU ----------------------------------------------------


def calls_on_xp(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", None)
            if name == "xp":
                yield node


def test_the_real_cupy_takes_the_arguments_that_are_passed() -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed (pip install cupy-cuda12x)")
    backends = sorted(Path(cupy_memory.__file__).parent.glob("cupy_*.py"))
    checked = 0
    for path in [*MATHEMATICS, *backends]:
        for call in calls_on_xp(path):
            assert isinstance(call.func, ast.Attribute)
            function = getattr(cupy, call.func.attr)
            if isinstance(function, cupy.ufunc) or any(
                isinstance(a, ast.Starred) for a in call.args
            ):
                continue
            try:
                signature = inspect.signature(function)
            except ValueError:  # compiled, and says nothing
                continue
            signature.bind(*call.args, **{k.arg: k.value for k in call.keywords if k.arg})
            checked += 1
    assert checked > 50
    kind = cupy._core._routines_linalg
    assert kind.COMPUTE_TYPE_TF32 != kind.COMPUTE_TYPE_DEFAULT
    assert callable(cupy._core.set_compute_type)
    for name in ("alloc_pinned_memory", "Event", "set_allocator", "get_allocator", "Device"):
        assert hasattr(cupy.cuda, name)
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert not {name for name in gpu_fake._ABSENT if hasattr(cupy, name)}


@pytest.mark.gpu
def test_tf32_is_off_unless_asked_for() -> None:
    """On a real GPU: a product of float32 has float32's digits."""
    backend = make_backend("cupy")
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal((256, 256)).astype(np.float32) for _ in range(2))
    found = to_numpy(backend.kernels["linear"](backend.asarray(x), backend.asarray(weight)))
    wanted = x.astype(np.float64) @ weight.T.astype(np.float64)
    assert relative_error(found, wanted) < 2e-6
