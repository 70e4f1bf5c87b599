"""NumPy kernels for `layer_norm` and `softmax`: in place, in blocks that stay in the cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit_backends.numpy_threads import spread

Floats = np.ndarray[Any, Any]

BLOCK = 32768  # numbers; as float32 128 KiB


def layer_norm(x: Floats, weight: Floats, bias: Floats, *, eps: float) -> Floats:
    """Normalise the last axis to mean 0 and variance 1: (..., D), (D,), (D,) -> (..., D)."""
    width = x.shape[-1]
    rows = x.reshape(-1, width)
    y = np.empty(rows.shape, x.dtype)

    def block(part: slice) -> None:
        h = y[part]
        mean = np.add.reduce(rows[part], axis=-1, keepdims=True)
        mean /= width
        np.subtract(rows[part], mean, out=h)
        variance = np.vecdot(h, h)[:, None]
        variance /= width
        variance += eps
        h /= np.sqrt(variance, out=variance)
        h *= weight
        h += bias

    spread(block, len(rows), max(1, BLOCK // width), least=4)
    return y.reshape(x.shape)


def softmax(x: Floats) -> Floats:
    """Turn the last axis into probabilities: (..., K) -> (..., K)."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty(rows.shape, x.dtype)

    def block(part: slice) -> None:
        np.subtract(rows[part], np.maximum.reduce(rows[part], -1, keepdims=True), out=y[part])
        np.exp(y[part], out=y[part])
        y[part] /= np.add.reduce(y[part], -1, keepdims=True)

    spread(block, len(rows), max(1, BLOCK // x.shape[-1]), least=4)
    return y.reshape(x.shape)


layer_norm.dtypes = ("float32", "float64")  # type: ignore[attr-defined]
softmax.dtypes = ("float32", "float64")  # type: ignore[attr-defined]
