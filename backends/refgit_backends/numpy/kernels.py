"""The NumPy kernels by name: faster versions of operations, each with its definition's meaning.

They gain by working in place, in blocks that stay in the processor's cache, by giving each thread
a product together with what follows it, and by asking BLAS for the products it is best at: many
tokens stand side by side then, (D, tokens), and what the layers see is a view. A kernel that
serves some dtypes only says so in its attribute `dtypes`, and one that serves some arguments only
in its attribute `serves`; the definition serves the others.
"""

from __future__ import annotations

from typing import Any

from refgit_backends.numpy.activation import gelu, quick_gelu
from refgit_backends.numpy.attention import attention
from refgit_backends.numpy.feed_forward import feed_forward
from refgit_backends.numpy.linear import linear
from refgit_backends.numpy.normalization import layer_norm, softmax
from refgit_backends.numpy.projection import project_heads

KERNELS: dict[str, Any] = {
    "linear": linear,
    "layer_norm": layer_norm,
    "softmax": softmax,
    "quick_gelu": quick_gelu,
    "gelu": gelu,
    "project_heads": project_heads,
    "attention": attention,
    "feed_forward": feed_forward,
}
