"""The default backend: NumPy on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refgit_backends.base import Array, Backend, Kernel, host_array
from refgit_backends.numpy.allocation import keep_freed_memory
from refgit_backends.numpy.kernels import KERNELS


class NumpyBackend(Backend):
    """NumPy arrays in host memory."""

    name: ClassVar[str] = "numpy"
    xp = np

    def _kernels(self) -> Mapping[str, Kernel]:
        keep_freed_memory()
        return KERNELS

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """See `Backend.asarray`."""
        array = host_array(x)
        return array if dtype is None else array.astype(self.dtype(dtype), copy=False)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`."""
        return np.asarray(x)

    def owns(self, x: Any) -> bool:
        """See `Backend.owns`."""
        return isinstance(x, np.ndarray)
