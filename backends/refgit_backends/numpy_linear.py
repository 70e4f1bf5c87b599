"""NumPy kernel for `linear`: which product BLAS is asked for depends on how many rows there are.

A row alone is a matrix-vector product, bound by how fast the weight is read. Many rows are one
large product, bound by arithmetic. In between BLAS would copy the weight into another order
first, which costs more than the product itself; there the weight goes piece by piece.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit_backends.numpy_threads import spread

Floats = np.ndarray[Any, Any]

# OpenBLAS multiplies matrices with at most this many multiplications without copying them into
# its own order, and in the calling thread.
_SMALL_PRODUCT = 500_000
_FEW_ROWS = 12  # up to here pieces of that size pay
_MANY_ROWS = 128  # from here on the order of the operands makes no difference worth a copy
_HALF_BLOCK = 65536  # numbers of a float16 weight that are widened at a time: 256 KiB


def linear(x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    """Map the last axis: (..., I), (O, I), (O,) -> (..., O)."""
    rows = x.reshape(-1, x.shape[-1])
    if x.dtype == np.float16:
        y = _half_product(rows, weight)
    elif len(rows) == 1:
        y = np.dot(weight, rows[0])
    elif len(rows) <= _FEW_ROWS:
        y = _few_rows(rows, weight)
    elif len(rows) < _MANY_ROWS:
        y = np.ascontiguousarray(np.matmul(weight, rows.T).T)
    else:
        y = rows @ weight.T
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0])


def _few_rows(x: Floats, weight: Floats) -> Floats:
    """Multiply a few rows, piece by piece of the weight: (R, I), (O, I) -> (R, O)."""
    y = np.empty((len(x), len(weight)), np.result_type(x.dtype, weight.dtype))

    def piece(outputs: slice) -> None:
        np.matmul(x, weight[outputs].T, out=y[:, outputs])

    spread(piece, len(weight), max(8, _SMALL_PRODUCT // max(1, x.size) // 8 * 8))
    return y


def _half_product(x: Floats, weight: Floats) -> Floats:
    """Multiply float16 by way of float32: (R, I), (O, I) -> (R, O).

    BLAS has no float16, and NumPy's own loop takes a hundred times longer. The weight is widened
    block by block, so that it stays float16 in memory.
    """
    wide = x.astype(np.float32)
    y = np.empty((len(x), len(weight)), np.float16)
    step = max(1, _HALF_BLOCK // weight.shape[1])
    for start in range(0, len(weight), step):
        block = slice(start, start + step)
        y[:, block] = wide @ weight[block].T.astype(np.float32)
    return y
