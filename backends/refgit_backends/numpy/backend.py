"""The default backend: NumPy on the CPU, with kernels that equal their definitions.

The kernels gain by working in place, in blocks that stay in the processor's cache, by giving each
thread a product together with what follows it, and by asking BLAS for the products it is best at:
many tokens are stored channel by channel then, (D, tokens), and what the layers get is a view.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import ClassVar

import numpy as np

from refgit_backends.base import Backend, Kernel
from refgit_backends.numpy.activation import gelu, quick_gelu
from refgit_backends.numpy.allocation import keep_freed_memory
from refgit_backends.numpy.attention import attention
from refgit_backends.numpy.feed_forward import feed_forward
from refgit_backends.numpy.linear import linear
from refgit_backends.numpy.normalization import layer_norm, softmax
from refgit_backends.numpy.projection import project_heads
from refgit_backends.numpy.threads import lanes, single_threaded


class NumpyBackend(Backend):
    """NumPy arrays in host memory."""

    name: ClassVar[str] = "numpy"
    matmul_takes_out: ClassVar[bool] = True
    # Intermediates of 4 images of 197 tokens are a few MB each; more are slower, and larger.
    images_at_once: ClassVar[int | None] = 4
    xp = np

    @property
    def lanes(self) -> int:
        """One for each of a few threads: so none waits for another between two products."""
        return lanes() if self.kernels else 1

    def single_threaded(self) -> AbstractContextManager[None]:
        """See `Backend`; BLAS keeps to one thread as well."""
        return single_threaded()

    def _kernels(self) -> Mapping[str, Kernel]:
        keep_freed_memory()
        return {
            "linear": linear,
            "layer_norm": layer_norm,
            "softmax": softmax,
            "quick_gelu": quick_gelu,
            "gelu": gelu,
            "project_heads": project_heads,
            "attention": attention,
            "feed_forward": feed_forward,
        }
