"""For tests: array-api-strict, which knows the standard and nothing more, on a pretend device.

Its arrays live on "device1", while everything made without naming a device lands on another
one, and mixing the two raises. So host and device arrays cannot be confused unnoticed, even on
a machine without a GPU.
"""

from __future__ import annotations

from typing import Any, ClassVar

from refgit_backends.base import Array, Backend, BackendError, host_array


class StrictBackend(Backend):
    """array-api-strict arrays on its second device."""

    name: ClassVar[str] = "strict"
    float_names = ("float32", "float64")  # the standard has no float16

    def __init__(self, kernels: str = "auto") -> None:
        try:
            import array_api_strict
        except ImportError as error:
            raise BackendError(
                'backend "strict" needs the package array-api-strict, which is not installed '
                "here: run pip install array-api-strict."
            ) from error
        self.xp = array_api_strict
        self.device = array_api_strict.Device("device1")
        self._array_type = type(array_api_strict.empty(0))
        super().__init__(kernels)

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """See `Backend.asarray`."""
        if dtype is not None:
            self.dtype(dtype)  # refuses what this backend does not compute in
        if not self.owns(x):
            if not isinstance(x, self._array_type):
                host = host_array(x)  # may be of a type that the standard does not know
                x = self.xp.asarray(host if dtype is None else host.astype(dtype, copy=False))
            x = x.to_device(self.device)
        return x if dtype is None else self.xp.astype(x, self.dtype(dtype), copy=False)

    def owns(self, x: Any) -> bool:
        """See `Backend.owns`."""
        return isinstance(x, self._array_type) and x.device == self.device
