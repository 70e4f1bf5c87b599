"""NumPy kernels for `layer_norm` and `softmax`: in place, in blocks that stay in the cache."""

from __future__ import annotations

import numpy as np

from refgit_backends.common import Floats, kernel
from refgit_backends.numpy.linear import MANY_ROWS
from refgit_backends.numpy.threads import divide

BLOCK = 1 << 18  # numbers; as float32 1 MiB, half of a second-level cache
_SHARED_ROWS = 512  # fewer are done before a second thread wakes


@kernel(dtypes=("float32", "float64"))
def layer_norm(x: Floats, weight: Floats, bias: Floats, *, eps: float) -> Floats:
    """Normalise the last axis to mean 0 and variance 1: (..., D), (D,), (D,) -> (..., D)."""
    width = x.shape[-1]
    rows = x.reshape(-1, width)
    if len(rows) >= MANY_ROWS:
        return _of_many(rows, weight, bias, eps).reshape(x.shape)
    mean = np.add.reduce(rows, axis=-1, keepdims=True)
    mean /= width
    y = np.subtract(rows, mean, order="C")
    variance = np.vecdot(y, y)[:, None]
    variance /= width
    variance += eps
    y /= np.sqrt(variance, out=variance)
    y *= weight
    y += bias
    return y.reshape(x.shape)


def _of_many(rows: Floats, weight: Floats, bias: Floats, eps: float) -> Floats:
    """Do the same channel by channel, as `linear` leaves many rows: (R, D) -> (R, D), a view."""
    width = rows.shape[1]
    average = np.full(width, 1 / width, rows.dtype)  # BLAS sums channels fastest
    y = np.empty((width, len(rows)), rows.dtype)
    step = max(64, BLOCK // width)

    def part(tokens: slice) -> None:
        for start in range(tokens.start, tokens.stop, step):
            block = slice(start, min(start + step, tokens.stop))
            x, h = rows[block].T, y[:, block]  # (D, R)
            np.subtract(x, np.dot(average, x), out=h)
            variance = np.dot(average, np.square(h))
            variance += eps
            h *= np.reciprocal(np.sqrt(variance, out=variance), out=variance)
            h *= weight[:, None]
            h += bias[:, None]

    if len(rows) < _SHARED_ROWS:
        part(slice(0, len(rows)))
    else:
        divide(part, len(rows), 16)
    return y.T


@kernel(dtypes=("float32", "float64"))
def softmax(x: Floats) -> Floats:
    """Turn the last axis into probabilities: (..., K) -> (..., K)."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty(rows.shape, x.dtype)
    step = max(1, BLOCK // max(1, x.shape[-1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        np.subtract(rows[part], np.maximum.reduce(rows[part], -1, keepdims=True), out=y[part])
        np.exp(y[part], out=y[part])
        y[part] /= np.add.reduce(y[part], -1, keepdims=True)
    return y.reshape(x.shape)
