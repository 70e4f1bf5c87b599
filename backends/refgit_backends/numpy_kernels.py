"""The NumPy kernels by name: faster versions of operations, each with its definition's meaning.

They gain by working in place, in blocks that stay in the processor's cache, by spreading such
blocks over threads, and by asking BLAS for products of the shapes it is best at. A kernel that
serves some dtypes only says so in its attribute `dtypes`, and one that serves some arguments only
in its attribute `serves`; the definition serves the others.
"""

from __future__ import annotations

from typing import Any

from refgit_backends.numpy_activation import gelu, quick_gelu
from refgit_backends.numpy_attention import attention
from refgit_backends.numpy_feed_forward import feed_forward
from refgit_backends.numpy_linear import linear
from refgit_backends.numpy_normalization import layer_norm, softmax

KERNELS: dict[str, Any] = {
    "linear": linear,
    "layer_norm": layer_norm,
    "softmax": softmax,
    "quick_gelu": quick_gelu,
    "gelu": gelu,
    "attention": attention,
    "feed_forward": feed_forward,
}
