"""NumPy kernel for `linear`: which product BLAS is asked for depends on how many rows there are.

One row is a matrix-vector product, bound by how fast the weight is read. Many rows are one large
product, bound by arithmetic. In between BLAS would first copy the weight into another order, which
costs more than the product itself; there the weight is multiplied in pieces.

In one thread, dot products with one row of the weight after another read it up to twice as fast as
BLAS's matrix-vector product; of two or three rows too, if they stay in the first-level cache.
"""

from __future__ import annotations

import numpy as np

from refgit_backends.common import Floats
from refgit_backends.numpy.blas import controls
from refgit_backends.numpy.threads import divide

# OpenBLAS multiplies matrices of a few hundred thousand multiplications without copying them into
# its own order, and in the calling thread.
_SMALL_PRODUCT = 250_000
FEW_ROWS = 12  # up to here pieces of that size are faster; 16 rows take longer in pieces
_DOT_ROWS = 3  # up to here, at these widths, dot products are faster; 4 rows are not
_DOT_WIDTHS = range(512, 1025)
MANY_ROWS = (
    64  # from here on results are stored channel by channel; transposing them would cost time
)
_HALF_BLOCK = 1 << 17  # numbers of a float16 weight that are converted at a time: 512 KiB


def linear(x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    """Map the last axis: (..., I), (O, I), (O,) -> (..., O).

    Of many rows the result is a view of an array (O, ...): BLAS is a tenth faster with the weight
    on the left, and the next kernels read it in this order.
    """
    rows = x.reshape(-1, x.shape[-1])
    if x.dtype == np.float16:
        y = _half_product(rows, weight)
    elif len(rows) == 1:
        y = _one_row(rows[0], weight)
    elif len(rows) <= FEW_ROWS:
        y = _few_rows(rows, weight)
    else:
        y = np.empty((len(weight), len(rows)), np.result_type(x.dtype, weight.dtype))
        multiply(weight, rows.T, bias, y)
        y, bias = y.T if len(rows) >= MANY_ROWS else np.ascontiguousarray(y.T), None
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0])


def multiply(weight: Floats, x: Floats, bias: Floats | None, y: Floats) -> None:
    """Write W x + b, a token in each column: (O, I), (I, R), (O,) -> (O, R)."""

    def part(outputs: slice) -> None:
        np.matmul(weight[outputs], x, out=y[outputs])
        if bias is not None:
            y[outputs] += bias[outputs, None]

    divide(part, len(weight), 16)


def _one_row(x: Floats, weight: Floats) -> Floats:
    """Multiply one row: (I,), (O, I) -> (O,).

    BLAS's own threads do this: they stay awake from one product to the next, while waking one of
    ours takes half as long as a product. BLAS has one thread if it was given one, or while a kernel
    in another thread holds it to one.
    """
    x = np.ascontiguousarray(x)  # which is read again for each row of the weight
    blas = controls()
    single = blas is not None and blas.get() == 1
    y: Floats = np.vecdot(weight, x) if single else np.dot(weight, x)
    return y


def _few_rows(x: Floats, weight: Floats) -> Floats:
    """Multiply a few rows: (R, I), (O, I) -> (R, O)."""
    y = np.empty((len(x), len(weight)), np.result_type(x.dtype, weight.dtype))
    divide(lambda mine: multiply_few(x, weight[mine], y[:, mine]), len(weight), 8)
    return y


def multiply_few(x: Floats, weight: Floats, y: Floats) -> None:
    """Write x W^T by dot products or in pieces, in this thread: (R, I), (O, I) -> (R, O)."""
    (rows, inner), outputs = x.shape, len(weight)
    if rows <= _DOT_ROWS and inner in _DOT_WIDTHS:
        y[...] = np.vecdot(weight[:, None], np.ascontiguousarray(x)).T
        return
    least = max(1, -(-outputs * x.size // _SMALL_PRODUCT))  # pieces
    size = max(8, -(-outputs // least) // 8 * 8)
    count = outputs // size
    end = count * size
    np.matmul(  # all pieces of one size in one call of NumPy
        x,
        weight[:end].reshape(count, size, inner).swapaxes(1, 2),
        out=y[:, :end].reshape(rows, count, size).swapaxes(0, 1),
    )
    if end < outputs:
        np.matmul(x, weight[end:].T, out=y[:, end:])


def _half_product(x: Floats, weight: Floats) -> Floats:
    """Multiply float16 in float32: (R, I), (O, I) -> (R, O).

    BLAS has no float16, and NumPy's own loop takes a hundred times longer. The weight is converted
    block by block, so that it stays float16 in memory.
    """
    wide = x.astype(np.float32).T  # (I, R)
    y = np.empty((len(weight), len(x)), np.float16)
    step = max(1, _HALF_BLOCK // max(1, weight.shape[1]))

    def part(mine: slice) -> None:
        room = np.empty((min(step, mine.stop - mine.start), weight.shape[1]), np.float32)
        for start in range(mine.start, mine.stop, step):
            block = slice(start, min(start + step, mine.stop))
            y[block] = widened(weight[block], room[: block.stop - start]) @ wide

    divide(part, len(weight), 16)
    return y.T if len(x) >= MANY_ROWS else np.ascontiguousarray(y.T)


def widened(x: Floats, out: Floats) -> Floats:
    """Write float16 numbers as float32, three times as fast as `astype` does.

    The bits of fraction and exponent are shifted, and a product corrects the bias of the
    exponent: (h << 13) as float32 times 2 to the 112th.
    """
    if x.dtype != np.dtype(np.float16) or not x.dtype.isnative:
        np.copyto(out, x)
        return out
    bits = x.view(np.int16)
    if np.max(bits & 0x7FFF, initial=0) >= 0x7C00:  # inf and nan have a special exponent
        np.copyto(out, x)
        return out
    moved = out.view(np.int32)
    np.left_shift(bits, 13, out=moved, dtype=np.int32)  # the sign is shifted too, and extended
    moved &= ~0x70000000  # the copies of it in the exponent
    out *= np.float32(2.0**112)
    return out
