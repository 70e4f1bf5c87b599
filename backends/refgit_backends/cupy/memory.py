"""GPU memory: weights are copied through a pinned buffer, and a shortage is explained.

Pinned memory is host memory that the system may not move. The GPU copies from it by itself, while
Python fills the next piece; from other memory the driver would copy twice. Two pieces are enough.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from refgit_backends.base import Array, BackendError

PIECE = 8 << 20  # bytes of each of the two pinned buffers
LEAST = 1 << 20  # smaller arrays are copied by CuPy itself, also through pinned memory


class Uploader:
    """Copies large arrays to the GPU through two pinned buffers, which are used in turn.

    Parameters
    ----------
    xp : module
        CuPy.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._buffers: list[tuple[Any, np.ndarray[Any, Any], Any]] = []
        self._lock = threading.Lock()

    def __call__(self, x: np.ndarray[Any, Any]) -> Array:
        """Return `x` on the GPU, with the same shape and dtype.

        The copies are queued on the current stream, before whatever is started there next; when
        this returns, the last may still be running, but `x` is no longer read.
        """
        host = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
        with self._lock:
            try:
                self._buffers = self._buffers or [self._buffer(), self._buffer()]
            except self.xp.cuda.runtime.CUDARuntimeError:  # the system pins no more memory
                return self.xp.asarray(x)
            y = self.xp.empty(x.shape, x.dtype)
            for i, start in enumerate(range(0, host.size, PIECE)):
                piece = host[start : start + PIECE]
                memory, pinned, copied = self._buffers[i % 2]
                copied.synchronize()  # the copy before the last: the buffer is free again
                pinned[: piece.size] = piece
                (y.data + start).copy_from_host_async(ctypes.c_void_p(memory.ptr), piece.size)
                copied.record()
        return y

    def _buffer(self) -> tuple[Any, np.ndarray[Any, Any], Any]:
        """Pinned memory, as an array as well, and the event of its last copy."""
        cuda = self.xp.cuda
        memory = cuda.alloc_pinned_memory(PIECE)
        return memory, np.frombuffer(memory, np.uint8, PIECE), cuda.Event(disable_timing=True)


class GpuMemoryError(BackendError, MemoryError):
    """The GPU has no room for an array."""


def limit_memory(xp: Any, limit: int | float | None) -> None:
    """Let CuPy's memory pool take at most `limit` bytes, or that share of the GPU as a float.

    None leaves the limit as it is: that of CUPY_GPU_MEMORY_LIMIT, or none.

    Raises
    ------
    BackendError
        The limit is not such a number.
    """
    if limit is None:
        return
    share = isinstance(limit, float)
    number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if not number or not (0 < limit <= 1 if share else limit >= 1):
        raise BackendError(
            f"memory_limit is {limit!r}; expected bytes (an int of at least 1) or a share of the "
            "GPU's memory (a float above 0 and up to 1), for example 0.5."
        )
    pool = xp.get_default_memory_pool()
    pool.set_limit(fraction=limit) if share else pool.set_limit(size=limit)


def explain_shortage(xp: Any) -> None:
    """Have allocations that fail say what was asked for, what there is, and what to do.

    CuPy's allocator of this process is wrapped, once; it allocates as before.
    """
    allocate = xp.cuda.get_allocator()
    if not isinstance(allocate, _Explaining):
        with suppress(ValueError):  # inside `using_allocator`, whose allocator stays
            xp.cuda.set_allocator(_Explaining(xp, allocate))


class _Explaining:
    """An allocator that explains why another one failed."""

    def __init__(self, xp: Any, allocate: Callable[[int], Any]) -> None:
        self.xp, self.allocate = xp, allocate

    def __call__(self, size: int) -> Any:
        try:
            return self.allocate(size)
        except self.xp.cuda.memory.OutOfMemoryError as error:
            raise GpuMemoryError(self._sentence(size)) from error

    def _sentence(self, size: int) -> str:
        cuda = self.xp.cuda
        free, total = cuda.runtime.memGetInfo()
        pool = self.xp.get_default_memory_pool()
        limit = pool.get_limit()
        allowed = f", of {_size(limit)} that it may take" if limit else ""
        raising = ", or raise the limit (memory_limit, CUPY_GPU_MEMORY_LIMIT)" if limit else ""
        return (
            f"the GPU has no room for another {_size(size)}: device {cuda.Device().id} has "
            f"{_size(total)}, {_size(free)} of it free; this process holds "
            f"{_size(pool.total_bytes())}{allowed}, {_size(pool.used_bytes())} of it in use. Take "
            f'a smaller batch or fewer beams, load the model with dtype="float16"{raising}.'
        )


def _size(count: int) -> str:
    """Bytes in the unit that suits them."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
