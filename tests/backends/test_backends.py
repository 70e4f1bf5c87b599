"""Backends: how one is chosen, what it promises, and what is said when it cannot be had."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers.backends import ROOT, make_backend
from helpers.mathematics import MATHEMATICS
from helpers.models import CONFIG, draw_inputs
from refgit import GitForCausalLM, layers, to_numpy
from refgit.layers._operations import DEFINITIONS, LAYERS, OPERATIONS, Operations
from refgit_backends import Backend, BackendError, available, backend_class, get_backend
from refgit_backends.cupy import backend as cupy_backend
from refgit_backends.cupy.backend import CupyBackend
from refgit_backends.numpy.backend import NumpyBackend


def test_numpy_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFGIT_BACKEND", raising=False)
    assert get_backend().name == "numpy"


def test_the_environment_chooses_where_no_argument_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGIT_BACKEND", "strict")
    assert get_backend().name == "strict"
    assert get_backend("numpy").name == "numpy"
    assert GitForCausalLM(CONFIG).backend.name == "strict"


def test_a_backend_object_is_taken_as_it_is() -> None:
    backend = get_backend("numpy")
    assert get_backend(backend) is backend


def test_an_unknown_backend_is_named_with_the_choices() -> None:
    with pytest.raises(BackendError, match=r"'jax'.*cupy, numpy, strict"):
        get_backend("jax")


def test_an_unknown_kernels_setting_is_named() -> None:
    with pytest.raises(BackendError, match="'fast'"):
        get_backend("numpy", kernels="fast")


def test_a_third_party_backend_is_found_by_its_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = SimpleNamespace(name="mine", value="refgit_backends.numpy.backend:NumpyBackend")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    assert "mine" in available()
    assert isinstance(get_backend("mine"), NumpyBackend)


def test_without_cupy_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        BackendError, match=r"CuPy package.*not installed.*pip install cupy-cuda12x"
    ):
        get_backend("cupy")


class FakeCudaError(RuntimeError):
    pass


@pytest.mark.parametrize("count", [0, FakeCudaError("cudaErrorInsufficientDriver")])
def test_without_a_gpu_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch, count: int | Exception
) -> None:
    def get_device_count() -> int:
        if isinstance(count, Exception):
            raise count
        return count

    runtime = SimpleNamespace(CUDARuntimeError=FakeCudaError, getDeviceCount=get_device_count)
    fake = SimpleNamespace(__version__="14.2.0", cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(BackendError, match=r"NVIDIA GPU.*CuPy 14\.2\.0 is installed"):
        cupy_backend._load()


def test_the_strict_backend_refuses_to_mix_devices() -> None:
    backend = make_backend("strict")
    host = backend.xp.asarray(np.ones(3))
    with pytest.raises(ValueError, match="different devices"):
        backend.asarray(np.ones(3)) + host


def test_arrays_go_there_and_come_home(backend: Backend) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    there = backend.asarray(x)
    assert backend.owns(there)
    assert backend.asarray(there) is there
    np.testing.assert_array_equal(backend.to_numpy(there), x)
    np.testing.assert_array_equal(to_numpy(there), x)
    assert to_numpy(backend.asarray(x, "float64")).dtype == np.float64
    assert to_numpy(backend.asarray([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]


def test_numpy_copies_nothing_it_need_not() -> None:
    x = np.ones(3, np.float32)
    assert get_backend("numpy").asarray(x, "float32") is x


@pytest.mark.parametrize("bad", [[[1, 2], [3]], object(), {"a": 1}, None])
def test_what_is_no_array_is_refused_with_a_sentence(bad: object, backend: Backend) -> None:
    with pytest.raises(BackendError, match="array"):
        backend.asarray(bad)


def test_an_unknown_dtype_is_named(backend: Backend) -> None:
    with pytest.raises(BackendError, match="complex64"):
        backend.dtype("complex64")


def test_a_dlpack_array_is_taken(backend: Backend) -> None:
    class Foreign:
        def __init__(self, x: np.ndarray) -> None:
            self.x = x

        def __dlpack__(self, **kwargs: object) -> object:
            return self.x.__dlpack__(**kwargs)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.x.__dlpack_device__()

    found = backend.asarray(Foreign(np.arange(3.0)))
    np.testing.assert_array_equal(to_numpy(found), [0, 1, 2])


# The mathematics may call only what CuPy has as well. CuPy imports without a GPU.


def called_on_xp(path: Path) -> Iterator[str]:
    """Names used as attributes of the array namespace: of `xp` or of array_namespace(...)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value
            is_xp = isinstance(owner, ast.Name) and owner.id == "xp"
            is_xp |= isinstance(owner, ast.Attribute) and owner.attr == "xp"
            is_xp |= isinstance(owner, ast.Call) and ast.unparse(owner.func) == "array_namespace"
            if is_xp:
                yield node.attr


def test_every_array_function_used_exists_in_cupy_and_in_the_standard() -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed (pip install cupy-cuda12x)")
    strict = make_backend("strict").xp
    used = {name for path in MATHEMATICS for name in called_on_xp(path)}
    assert {"matmul", "exp", "where", "concat", "reshape"} <= used
    assert not {name for name in used if not hasattr(cupy, name)}
    assert not {name for name in used if not hasattr(strict, name)}
    assert not hasattr(cupy, "vecdot"), "CuPy has vecdot now: it may be used"


# Kernels of single operations: each must do what its definition does. Those of whole layers are
# in test_kernels.py.

FLOATS = ("float16", "float32", "float64")


def kernel_cases() -> Iterator[Any]:
    """(backend, operation, dtype) for every kernel there is and every dtype that it serves."""
    for name in ("numpy", "strict", "cupy"):
        marks = [pytest.mark.gpu] if name == "cupy" else []
        try:
            kernels = get_backend(name).kernels
        except BackendError:  # no GPU: the test itself says so when it is skipped
            yield pytest.param(name, "gelu", "float32", marks=marks)
            continue
        for operation, kernel in kernels.items():
            if operation in LAYERS:
                continue
            for dtype in getattr(kernel, "dtypes", FLOATS):
                yield pytest.param(name, operation, dtype, marks=marks)


KERNEL_CASES = list(kernel_cases())


def draw_arguments(
    operation: str, dtype: str, shape: tuple[int, ...], size: float, rng: np.random.Generator
) -> tuple[list[np.ndarray], dict[str, float]]:
    """Arrays that the operation takes, the last axis of the first of them as in `shape`."""

    def draw(*of_shape: int) -> np.ndarray:
        return rng.standard_normal(of_shape).astype(dtype)

    width, outputs = shape[-1], int(rng.integers(1, 40))
    if operation == "linear":
        return [draw(*shape), draw(outputs, width), draw(outputs)][: int(rng.integers(2, 4))], {}
    if operation == "layer_norm":
        return [draw(*shape), draw(width), draw(width)], {"eps": 1e-5}
    assert operation in {"erf", "gelu", "quick_gelu", "softmax"}, f"how to test {operation}?"
    x = rng.standard_normal(shape) * size
    return [np.clip(x, -30000, 30000).astype(dtype)], {}  # 1.702 x must stay in float16's range


@pytest.mark.parametrize(("name", "operation", "dtype"), KERNEL_CASES)
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=9),
    width=st.integers(1, 40),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_kernel_equals_its_definition(
    name: str,
    operation: str,
    dtype: str,
    shape: tuple[int, ...],
    width: int,
    size: float,
    seed: int,
) -> None:
    backend = make_backend(name)
    rng = np.random.default_rng(seed)
    arrays, options = draw_arguments(operation, dtype, (*shape[:-1], width), size, rng)
    there = [backend.asarray(x.copy()) for x in arrays]
    kernel = Operations.with_kernels(backend.kernels).kernels[OPERATIONS[operation]]
    definition = OPERATIONS[operation]
    assert kernel is not definition
    found = to_numpy(kernel(*there, **options))
    wanted = definition(*arrays, **options)
    assert found.dtype == wanted.dtype == dtype
    assert found.shape == wanted.shape
    unit = float(np.finfo(dtype).eps)
    absolute = {"linear": 8 * (width + 4), "layer_norm": 16 * (1 + float(np.abs(wanted).max()))}
    np.testing.assert_allclose(
        found.astype(np.float64),
        wanted.astype(np.float64),
        rtol=0 if operation in absolute else 8 * unit,
        atol=unit * absolute.get(operation, 4),
    )
    for array, before in zip(there, arrays, strict=True):
        np.testing.assert_array_equal(to_numpy(array), before)  # arguments are left alone


def test_no_kernel_is_compared_with_itself_and_none_left_out() -> None:
    cases = [case.values for case in KERNEL_CASES if case.values[0] == "numpy"]
    kernels = get_backend("numpy").kernels
    assert {operation for _, operation, _ in cases} == set(kernels) - set(LAYERS)
    served = Operations.with_kernels(kernels)
    x, weight = np.random.default_rng(0).standard_normal((2, 1000))
    for operation, kernel in kernels.items():
        if operation in LAYERS:
            continue
        missing = set(FLOATS) - {dtype for _, name, dtype in cases if name == operation}
        assert not missing & set(getattr(kernel, "dtypes", FLOATS))
        for dtype in missing:  # the definition serves these
            arguments, options = [x.astype(dtype)], {}
            if operation == "layer_norm":
                arguments, options = [*arguments, *[weight.astype(dtype)] * 2], {"eps": 1e-5}
            np.testing.assert_array_equal(
                served.run(OPERATIONS[operation], *arguments, **options),
                OPERATIONS[operation](*arguments, **options),
            )


@pytest.mark.parametrize(("least", "limit"), [(-5, 1e-6), (-13, 5e-6)])
def test_the_gelu_kernel_keeps_the_negative_tail(least: float, limit: float) -> None:
    """x Phi(x) to so many digits, where the definition's 1 + erf has none left below -5.5."""
    grid = np.linspace(least, 0, 4000, endpoint=False)
    x = np.concatenate([grid, -(2.0 ** -np.arange(60))]).astype(np.float32)
    found, wanted = gelu_of_kernel_and_true(x)
    assert (np.abs(found - wanted) / np.abs(wanted)).max() <= limit


def test_the_gelu_kernel_is_right_elsewhere() -> None:
    x = np.concatenate([np.linspace(-200, -13, 500), np.linspace(0, 200, 4000), [3e38, -3e38]])
    found, wanted = gelu_of_kernel_and_true(x.astype(np.float32))
    np.testing.assert_allclose(found, wanted, rtol=2e-7, atol=1e-7)


def gelu_of_kernel_and_true(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What NumPy's kernel says, and x Phi(x) from 40 digits."""
    found = get_backend("numpy").kernels["gelu"](x)
    assert found.dtype == x.dtype == np.float32
    with mpmath.workdps(40):
        wanted = [float(mpmath.mpf(v) * mpmath.ncdf(v)) for v in x.tolist()]
    return found.astype(np.float64), np.array(wanted)


def test_a_device_is_waited_for_by_the_backends_own_way_or_cupys() -> None:
    class Own(Backend):
        name, xp = "own", np

        def synchronize(self) -> None:
            waited.append("backend")

    waited: list[str] = []
    stream = SimpleNamespace(synchronize=lambda: waited.append("stream"))
    gpu = object.__new__(CupyBackend)
    gpu.xp = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
    for backend in (get_backend("numpy"), get_backend("strict"), gpu, Own()):
        backend.synchronize()
    assert waited == ["stream", "backend"]


def test_a_backend_says_what_it_computes_on() -> None:
    name = {"name": b"NVIDIA H200"}
    runtime = SimpleNamespace(getDevice=lambda: 0, getDeviceProperties=lambda device: name)
    gpu = object.__new__(CupyBackend)
    gpu.xp = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    assert (gpu.on_gpu, gpu.device_name) == (True, "NVIDIA H200")
    for backend in (get_backend("numpy"), get_backend("strict")):
        assert (backend.on_gpu, backend.device_name) == (False, "cpu")


def test_a_backends_class_is_found_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert backend_class("cupy") is CupyBackend
    assert backend_class() is NumpyBackend
    monkeypatch.setenv("REFGIT_BACKEND", "cupy")
    assert backend_class().on_gpu
    with pytest.raises(BackendError, match="no backend is called 'jax'; choose one of cupy, numpy"):
        backend_class("jax")


def test_kernels_off_leaves_the_definitions() -> None:
    assert not get_backend("numpy", kernels="off").kernels
    model = GitForCausalLM(CONFIG, kernels="off")
    assert model.operations == DEFINITIONS


def test_a_kernel_for_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="hooks"):
        Operations.with_kernels({"hooks": print})
    with pytest.raises(ValueError, match="conv3d"):
        Operations.with_kernels({"conv3d": print})


def test_a_kernel_takes_the_place_of_its_definition() -> None:
    calls = []

    def counting(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        calls.append(x.shape)
        return layers.linear(x, weight, bias)

    class Mine(NumpyBackend):
        def _kernels(self) -> dict[str, object]:
            return {"linear": counting}

    pixels, ids = draw_inputs(0, 1, 1, 3)
    GitForCausalLM(CONFIG, backend=Mine())(ids, pixel_values=pixels)
    # patch embedding; 6 maps in each of 2 and 3 blocks; projection; head
    assert len(calls) == 1 + 6 * 2 + 6 * 3 + 2


def test_the_strict_backend_runs_without_importing_cupy() -> None:
    code = (
        "import sys; from refgit_backends import get_backend; get_backend('strict'); "
        "assert 'cupy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "backends")
