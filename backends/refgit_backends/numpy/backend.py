"""The default backend: NumPy on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from refgit_backends.base import Backend, Kernel
from refgit_backends.numpy.allocation import keep_freed_memory
from refgit_backends.numpy.kernels import KERNELS


class NumpyBackend(Backend):
    """NumPy arrays in host memory."""

    name: ClassVar[str] = "numpy"
    matmul_takes_out: ClassVar[bool] = True
    xp = np

    def _kernels(self) -> Mapping[str, Kernel]:
        keep_freed_memory()
        return KERNELS
