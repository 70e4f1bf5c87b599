"""CuPy on one NVIDIA GPU. CuPy is an extra: ``pip install 'refgit[cuda12]'`` or ``[cuda13]``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refgit_backends.base import Array, Backend, BackendError, Kernel, host_array


def _load() -> Any:
    """Import CuPy and see a GPU, or say in one sentence which of the two is missing."""
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            'backend "cupy" needs the CuPy package, which is not installed here: run '
            "pip install 'refgit[cuda12]' (or 'refgit[cuda13]' for a CUDA 13 driver)."
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(
            f'backend "cupy" needs an NVIDIA GPU: CuPy {cupy.__version__} is installed, but the '
            f"driver answers {error}; install or update the NVIDIA driver, or use "
            'backend "numpy".'
        ) from error
    if count == 0:
        raise BackendError(
            f'backend "cupy" needs an NVIDIA GPU: CuPy {cupy.__version__} is installed, but no '
            'GPU is visible (see CUDA_VISIBLE_DEVICES); use backend "numpy".'
        )
    return cupy


class CupyBackend(Backend):
    """CuPy arrays in the memory of the current GPU."""

    name: ClassVar[str] = "cupy"

    def __init__(self, kernels: str = "auto") -> None:
        self.xp = _load()
        super().__init__(kernels)

    def _kernels(self) -> Mapping[str, Kernel]:
        from cupyx.scipy.special import erf  # CUDA's own, within 2 ulp

        def gelu(x: Array) -> Array:
            return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))

        return {"gelu": gelu}

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """See `Backend.asarray`."""
        if not self.owns(x):
            x = self.xp.asarray(x if hasattr(x, "__cuda_array_interface__") else host_array(x))
        return x if dtype is None else x.astype(self.dtype(dtype), copy=False)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`."""
        array: np.ndarray[Any, Any] = self.xp.asnumpy(x)
        return array

    def owns(self, x: Any) -> bool:
        """See `Backend.owns`."""
        return isinstance(x, self.xp.ndarray)
