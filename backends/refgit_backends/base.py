"""The contract between refgit's mathematics and the library that runs it.

A backend supplies the array namespace `xp` and, where the defaults do not serve, the way from host
to device and back, the types it can compute in, and kernels. A new backend is ten lines, see
tests/backends/test_new_backend.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

# An array of whatever library the backend wraps. No two libraries share a static type yet.
Array: TypeAlias = Any
Kernel: TypeAlias = Callable[..., Array]


class BackendError(ValueError):
    """A backend was asked for that is unknown, or whose library or device is missing."""


@runtime_checkable
class DLPackArray(Protocol):
    """Any array that supports the DLPack protocol (torch, JAX, CuPy, NumPy ...)."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


class Backend:
    """Arrays of one library on one device.

    A subclass needs `name` and `xp`; the methods serve any library that follows the Python array
    API standard and whose arrays NumPy can read.

    Attributes
    ----------
    name : str
        The name `get_backend` knows it by.
    xp : module
        Its namespace: the functions of the Python array API standard.
    float_names : tuple of str
        The floating-point types it can store and compute in.
    on_gpu : bool
        Whether its arrays are in the memory of a GPU.
    matmul_takes_out : bool
        Whether ``xp.matmul`` has the argument `out`, which the standard leaves out.
    images_at_once : int or None
        How many images of a batch the image encoder should take at a time; None for all.
    kernels : mapping of str to callable
        Faster versions of operations and layers by the names in ``refgit.layers._operations``; each
        has the signature and the meaning of the definition it replaces. Empty with
        ``kernels="off"``. A kernel with an attribute `dtypes`, names such as "float32", serves only
        those.
    kernel_setting : {"auto", "off"}
        What it was made with.
    """

    name: ClassVar[str]
    xp: Any
    float_names: tuple[str, ...] = ("float16", "float32", "float64")
    on_gpu: ClassVar[bool] = False
    matmul_takes_out: ClassVar[bool] = False
    images_at_once: ClassVar[int | None] = None

    def __init__(self, kernels: str = "auto") -> None:
        self.kernel_setting = kernels
        self.kernels: Mapping[str, Kernel] = self._kernels() if kernels == "auto" else {}

    def _kernels(self) -> Mapping[str, Kernel]:
        return {}

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """`x` (array of any library, number or nested list) as an array on this backend's device.

        Copies only where the device or the dtype asks for it.
        """
        array = x if self.owns(x) else self.xp.asarray(host_array(x))
        return array if dtype is None else self.xp.astype(array, self.dtype(dtype), copy=False)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """`x` as a NumPy array on the host; NumPy arrays come back as they are."""
        return np.asarray(to_numpy(x))

    def owns(self, x: Any) -> bool:
        """Whether `x` is an array of this backend, on its device."""
        return isinstance(x, type(self.xp.empty(0)))

    def synchronize(self) -> None:
        """Wait until the device has computed everything; nothing to do on a CPU."""

    @property
    def device_name(self) -> str:
        """What computes: "cpu", or the name of the GPU."""
        return "cpu"

    @property
    def lanes(self) -> int:
        """How many threads should compute a batch each; 1 where one call uses the whole device."""
        return 1

    def single_threaded(self) -> AbstractContextManager[None]:
        """Return a block inside which the calling thread computes by itself, see `lanes`."""
        return nullcontext()

    def dtype(self, name: str) -> Any:
        """Return the namespace's dtype object called `name`."""
        if name not in self.float_names and not name.startswith(("int", "uint", "bool")):
            raise BackendError(
                f"dtype {name!r} is not one the {self.name} backend computes in; "
                f"choose one of {', '.join(self.float_names)}."
            )
        return getattr(self.xp, name)

    def __repr__(self) -> str:
        kernels = ", ".join(sorted(self.kernels)) or "none"
        return f"<{type(self).__name__} kernels: {kernels}>"


def to_numpy(x: Any) -> np.ndarray[Any, Any]:
    """Return `x` as a NumPy array on the host.

    Parameters
    ----------
    x : array of NumPy, CuPy, array-api-strict, or anything with ``__array__`` or DLPack

    Returns
    -------
    numpy.ndarray
        The same shape and dtype; no copy where none is needed.

    Raises
    ------
    refgit_backends.BackendError
        `x` cannot be read on the host.
    """
    if hasattr(x, "__cuda_array_interface__") and hasattr(x, "get"):
        home: np.ndarray[Any, Any] = x.get()  # CuPy
        return home
    if hasattr(x, "__array_namespace__") and not isinstance(x, np.ndarray):
        xp = x.__array_namespace__()  # array-api-strict's pretend devices
        x = x.to_device(xp.__array_namespace_info__().default_device())
    return host_array(x)


def host_array(x: Any) -> np.ndarray[Any, Any]:
    """`x` as a NumPy array, by ``__array__``, DLPack or as a nested list; no copy if avoidable.

    Raises
    ------
    BackendError
        `x` is not an array, is a ragged list, or is on a device that NumPy cannot read.
    """
    if isinstance(x, np.ndarray):
        return x
    if not hasattr(x, "__array__") and isinstance(x, DLPackArray):
        try:
            return np.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError) as error:
            raise BackendError(
                f"a {type(x).__module__}.{type(x).__name__} cannot be read on the host ({error}); "
                "move it to the CPU first."
            ) from error
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BackendError(
            f"a {type(x).__module__}.{type(x).__name__} is not an array ({error}); pass a NumPy "
            "array, anything with __array__ or DLPack, or a list of rows of equal length."
        ) from error
    if array.dtype == object:
        raise BackendError(
            f"a {type(x).__name__} does not make an array of numbers; pass a NumPy array, "
            "anything with __array__ or DLPack, or a list of rows of equal length."
        )
    return array
