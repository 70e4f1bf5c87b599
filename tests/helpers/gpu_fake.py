"""A pretend CuPy on the CPU, for tests without a GPU.

Its arrays are NumPy's in a wrapper that keeps to CuPy's manners: a NumPy array beside one of its
own is refused, nothing becomes a NumPy array by itself, and what makes the host wait for the GPU
is counted. Copies to the device are done as late as the GPU might do them, so a buffer that is
filled again too early is noticed. Raw kernels are compiled by gcc and run: gpu_fake_kernels.py.
"""

from __future__ import annotations

import ctypes
import operator
from collections import Counter
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from helpers import gpu_fake_kernels

VERSION = "14.2.0"
# Their result's shape depends on values, so the host must wait for them.
_WAITING = {"nonzero", "flatnonzero", "argwhere", "unique", "compress", "extract", "array_equal"}
# NumPy's names that CuPy does not have.
_ABSENT = {"vecdot"}


class FakeCUDARuntimeError(RuntimeError):
    pass


class FakeOutOfMemoryError(MemoryError):
    pass


class Queue:
    """Copies that the device has not done yet, and what was counted."""

    def __init__(self) -> None:
        self.copies: list[Callable[[], None]] = []
        self.done = 0  # of all copies ever queued
        self.count = 0
        self.waits: Counter[str] = Counter()  # by what the host waited for the device
        self.home = 0  # bytes that came from the device
        self.launches: Counter[str] = Counter()  # kernels, by name

    def put(self, copy: Callable[[], None]) -> None:
        self.copies.append(copy)
        self.count += 1

    def flush(self, until: int | None = None) -> None:
        """Do the copies up to the `until`-th."""
        until = self.count if until is None else until
        while self.done < until:
            self.copies.pop(0)()
            self.done += 1


def make_fake_cupy() -> Any:
    """Make the module; it is put in the place of CuPy by `sys.modules["cupy"] = ...`."""
    queue = Queue()

    def unwrap(x: Any) -> Any:
        if isinstance(x, FakeArray):
            queue.flush()
            return x._x
        if isinstance(x, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>: it is on the host")
        if isinstance(x, list | tuple):
            return type(x)(unwrap(y) for y in x)
        return x

    def wrap(x: Any) -> Any:
        if isinstance(x, np.ndarray | np.generic):
            return FakeArray(np.asarray(x))
        return type(x)(wrap(y) for y in x) if isinstance(x, list | tuple) else x

    def waited(name: str) -> None:
        queue.waits[name] += 1
        queue.flush()

    class Pointer:
        def __init__(self, x: np.ndarray, offset: int = 0) -> None:
            self.bytes, self.offset = x.reshape(-1).view(np.uint8), offset

        def __add__(self, offset: int) -> Pointer:
            return Pointer(self.bytes, self.offset + offset)

        def copy_from_host_async(self, memory: ctypes.c_void_p, size: int) -> None:
            assert isinstance(memory, ctypes.c_void_p)
            assert self.offset + size <= self.bytes.size
            host = np.ctypeslib.as_array(
                ctypes.cast(memory, ctypes.POINTER(ctypes.c_uint8)), (size,)
            )

            def copy() -> None:
                self.bytes[self.offset : self.offset + size] = host

            queue.put(copy)

    class FakeArray:
        """An array on the pretend device."""

        __array_priority__ = 100
        __hash__ = None  # type: ignore[assignment]

        def __init__(self, x: np.ndarray) -> None:
            self._x = x

        shape = property(lambda self: self._x.shape)
        dtype = property(lambda self: self._x.dtype)
        ndim = property(lambda self: self._x.ndim)
        size = property(lambda self: self._x.size)
        nbytes = property(lambda self: self._x.nbytes)
        itemsize = property(lambda self: self._x.itemsize)
        strides = property(lambda self: self._x.strides)
        flags = property(lambda self: self._x.flags)
        T = property(lambda self: FakeArray(self._x.T))
        data = property(lambda self: Pointer(self._x))
        __cuda_array_interface__ = property(lambda self: {"version": 3})

        def __len__(self) -> int:
            return len(self._x)

        def __array__(self, *args: Any, **kwargs: Any) -> Any:
            raise TypeError("Implicit conversion to a NumPy array is not allowed. Use .get().")

        __array_ufunc__ = None

        def __getitem__(self, key: Any) -> FakeArray:
            queue.flush()
            parts = key if isinstance(key, tuple) else (key,)
            for part in parts:
                assert not isinstance(part, np.ndarray), "an index on the host"
                if isinstance(part, FakeArray) and part.dtype == bool:
                    waited("indexing by booleans")
            found = self._x[tuple(p._x if isinstance(p, FakeArray) else p for p in parts)]
            return FakeArray(np.asarray(found))

        def __setitem__(self, key: Any, value: Any) -> None:
            self._x[key] = unwrap(value)

        def get(self) -> np.ndarray:
            waited("get")
            queue.home += self._x.nbytes
            return self._x.copy()

        def __repr__(self) -> str:
            return f"FakeArray({self._x.shape}, {self._x.dtype})"

    FakeArray.__module__ = "cupy"

    def method(name: str) -> Callable[..., Any]:
        def call(self: FakeArray, *args: Any, **options: Any) -> Any:
            queue.flush()
            return wrap(getattr(self._x, name)(*map(unwrap, args), **options))

        return call

    for name in ("reshape", "astype", "transpose", "swapaxes", "copy", "sum", "max", "mean"):
        setattr(FakeArray, name, method(name))

    def waiting(name: str) -> Callable[..., Any]:
        def call(self: FakeArray, *args: Any) -> Any:
            waited(name)
            return getattr(self._x, name)(*args)

        return call

    for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__iter__"):
        setattr(FakeArray, name, waiting(name))

    binary = "add sub mul truediv floordiv mod pow matmul and or xor lt le gt ge eq ne"
    for word in binary.split():
        function = getattr(operator, f"{word}_" if word in ("and", "or") else word)

        def plain(self: FakeArray, y: Any, f: Any = function) -> FakeArray:
            return wrap(f(unwrap(self), unwrap(y)))

        def swapped(self: FakeArray, y: Any, f: Any = function) -> FakeArray:
            return wrap(f(unwrap(y), unwrap(self)))

        setattr(FakeArray, f"__{word}__", plain)
        setattr(FakeArray, f"__r{word}__", swapped)
    for word in ("add", "sub", "mul", "truediv"):
        in_place = getattr(operator, f"i{word}")

        def change(self: FakeArray, y: Any, f: Any = in_place) -> FakeArray:
            self._x = f(unwrap(self), unwrap(y))
            return self

        setattr(FakeArray, f"__i{word}__", change)
    for word in ("neg", "invert", "abs"):
        single = getattr(operator, word)
        setattr(FakeArray, f"__{word}__", lambda self, f=single: wrap(f(unwrap(self))))

    class FakeCupy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name in _ABSENT or name.startswith("__"):
                raise AttributeError(name)
            function = getattr(np, name)
            if isinstance(function, type) or not callable(function) or name == "finfo":
                return function

            def call(*args: Any, **options: Any) -> Any:
                if name in _WAITING or (name == "where" and len(args) == 1):
                    waited(name)
                options = {key: unwrap(x) for key, x in options.items()}
                return wrap(function(*map(unwrap, args), **options))

            return call

    fake: Any = FakeCupy("cupy")
    fake.__version__, fake.ndarray, fake.queue = VERSION, FakeArray, queue

    def asarray(x: Any, dtype: Any = None, *, copy: bool | None = None) -> FakeArray:
        if isinstance(x, FakeArray):
            queue.flush()
            return FakeArray(np.array(x._x, dtype, copy=copy))
        return FakeArray(np.array(x, dtype, copy=True))  # from the host

    def asnumpy(x: Any) -> np.ndarray:
        return x.get() if isinstance(x, FakeArray) else np.asarray(x)

    def empty(shape: Any, dtype: Any = float) -> FakeArray:
        x = np.empty(shape, dtype)
        fake.cuda.get_allocator()(x.nbytes)
        x.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN: nothing may rely on what is in it
        return FakeArray(x)

    def raw_module(*, code: str) -> Any:
        def get_function(name: str) -> Callable[..., None]:
            def start(grid: tuple[int, ...], block: tuple[int, ...], args: Any) -> None:
                queue.launches[name] += 1
                host = tuple(unwrap(x) for x in args)
                gpu_fake_kernels.run(code, name, grid, block, host)

            return start

        return SimpleNamespace(get_function=get_function)

    fake.asarray, fake.asnumpy, fake.empty, fake.RawModule = asarray, asnumpy, empty, raw_module
    fake.cuda = _fake_cuda(queue)
    pool = SimpleNamespace(limit=0)

    def set_limit(size: int | None = None, fraction: float | None = None) -> None:
        pool.limit = size if fraction is None else int(fraction * fake.cuda.runtime.total)

    pool.set_limit, pool.get_limit = set_limit, lambda: pool.limit
    pool.total_bytes, pool.used_bytes = (lambda: 3 << 20), (lambda: 2 << 20)
    fake.get_default_memory_pool = lambda: pool
    types: dict[Any, int] = {}
    fake._core = SimpleNamespace(
        types=types,
        set_compute_type=lambda dtype, kind: types.__setitem__(np.dtype(dtype).name, kind),
        _routines_linalg=SimpleNamespace(COMPUTE_TYPE_DEFAULT=1, COMPUTE_TYPE_TF32=7),
    )
    return fake


def _fake_cuda(queue: Queue) -> Any:
    """The part of CuPy that deals with the device."""

    class Event:
        def __init__(self, *, disable_timing: bool) -> None:
            self.at = 0

        def record(self) -> None:
            self.at = queue.count

        def synchronize(self) -> None:
            queue.flush(self.at)

    class Pinned(bytearray):
        @property
        def ptr(self) -> int:
            return ctypes.addressof((ctypes.c_char * len(self)).from_buffer(self))

    allocator: list[Callable[[int], Any]] = [lambda size: None]
    total = 16 << 30
    return SimpleNamespace(
        Event=Event,
        alloc_pinned_memory=Pinned,
        get_allocator=lambda: allocator[0],
        set_allocator=lambda f: allocator.__setitem__(0, f),
        Device=lambda: SimpleNamespace(id=0),
        memory=SimpleNamespace(OutOfMemoryError=FakeOutOfMemoryError),
        runtime=SimpleNamespace(
            CUDARuntimeError=FakeCUDARuntimeError,
            getDeviceCount=lambda: 1,
            memGetInfo=lambda: (1 << 30, total),
            total=total,
        ),
    )
