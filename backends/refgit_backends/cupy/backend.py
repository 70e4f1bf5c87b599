"""CuPy on one NVIDIA GPU. CuPy is optional: ``pip install cupy-cuda12x`` or cupy-cuda13x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from refgit_backends.base import Array, Backend, BackendError, Kernel, host_array
from refgit_backends.cupy.kernels import make_kernels
from refgit_backends.cupy.memory import LEAST, Uploader, explain_shortage, limit_memory

# The first version with the functions of the array API standard.
OLDEST = 14


def _load() -> Any:
    """Import CuPy and see a GPU, or say in one sentence which of the two is missing."""
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            'backend "cupy" needs the CuPy package, which is not installed here: run '
            "pip install cupy-cuda12x (or cupy-cuda13x for a CUDA 13 driver)."
        ) from error
    if int(cupy.__version__.partition(".")[0]) < OLDEST:
        raise BackendError(
            f'backend "cupy" needs CuPy {OLDEST} or later; found {cupy.__version__}, which lacks '
            "functions of the array API standard: run pip install --upgrade cupy-cuda12x (or "
            "cupy-cuda13x for a CUDA 13 driver)."
        )
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
    """CuPy arrays in the memory of the current GPU, which CUDA_VISIBLE_DEVICES chooses.

    Parameters
    ----------
    kernels : {"auto", "off"}
        See `get_backend`.
    tf32 : bool, optional
        Whether products of float32 matrices may round their factors to TF32's 10 bits of mantissa,
        which is faster and no longer float32. It holds for all of this process. None leaves it to
        CuPy, which asks the environment variable CUPY_TF32 and says no without.
    memory_limit : int or float, optional
        What CuPy may take of the GPU's memory, in all of this process: bytes, or a share. None
        leaves it to the environment variable CUPY_GPU_MEMORY_LIMIT; without, there is no limit.

    Raises
    ------
    BackendError
        CuPy or a GPU is missing, or `memory_limit` is not such a number.
    """

    name: ClassVar[str] = "cupy"
    on_gpu: ClassVar[bool] = True
    matmul_takes_out: ClassVar[bool] = True

    def __init__(
        self,
        kernels: str = "auto",
        *,
        tf32: bool | None = None,
        memory_limit: int | float | None = None,
    ) -> None:
        self.xp = _load()
        if tf32 is not None:
            self._set_tf32(tf32)
        explain_shortage(self.xp)
        limit_memory(self.xp, memory_limit)
        self._upload = Uploader(self.xp)
        super().__init__(kernels)

    def _set_tf32(self, wanted: bool) -> None:
        from cupy import _core  # CuPy's only way besides the environment variable

        kind = _core._routines_linalg
        chosen = kind.COMPUTE_TYPE_TF32 if wanted else kind.COMPUTE_TYPE_DEFAULT
        _core.set_compute_type(np.float32, chosen)

    def _kernels(self) -> Mapping[str, Kernel]:
        return make_kernels(self.xp)

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """See `Backend.asarray`."""
        if not self.owns(x):
            if hasattr(x, "__cuda_array_interface__"):
                x = self.xp.asarray(x)
            else:  # in its own dtype: float16 is converted on the GPU, and half as much is copied
                host = host_array(x)
                x = self._upload(host) if host.nbytes >= LEAST else self.xp.asarray(host)
        return x if dtype is None else x.astype(self.dtype(dtype), copy=False)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`; waits for what is still running."""
        array: np.ndarray[Any, Any] = self.xp.asnumpy(x)
        return array

    def owns(self, x: Any) -> bool:
        """See `Backend.owns`."""
        return isinstance(x, self.xp.ndarray)

    def synchronize(self) -> None:
        """See `Backend.synchronize`."""
        self.xp.cuda.get_current_stream().synchronize()

    @property
    def device_name(self) -> str:
        """See `Backend.device_name`."""
        runtime = self.xp.cuda.runtime
        name = runtime.getDeviceProperties(runtime.getDevice())["name"]
        return name.decode() if isinstance(name, bytes) else str(name)
