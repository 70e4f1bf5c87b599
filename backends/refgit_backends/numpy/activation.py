"""NumPy kernels for `quick_gelu` and `gelu`: in place, in blocks that stay in the cache.

Their attribute `in_place` is what `feed_forward` runs between its products.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refgit_backends.common import Floats, kernel

BLOCK = 16384  # numbers; as float32 64 KiB, several of which fit a second-level cache

# 1 - Phi(u), the tail of the normal distribution, as exp(-u^2 / 2) times a polynomial in
# (u - 3) / (u + 3), constant first; relative error 2.4e-8 for u >= 0 up to where float32 ends,
# before rounding: squaring u in float32 leaves 1e-6 up to 5 and 5e-6 up to 13.
# Made by golden/erf_coefficients.py.
_NORMAL_TAIL = tuple(
    np.float32(c)
    for c in (
        0.1215139477423257,
        -0.2064026220707326,
        0.12322502174886213,
        -0.04621324746685274,
        0.006132192509652008,
        0.0029044283897440414,
        -0.000984276383317789,
        -0.0003395564635074362,
        0.00011620792924158665,
        5.409386007228654e-05,
    )
)


def _by_blocks(block: Callable[[Floats, Floats], None], x: Floats) -> Floats:
    flat = np.ascontiguousarray(x).reshape(-1)
    y = np.empty_like(flat)
    for start in range(0, flat.size, BLOCK):
        part = slice(start, start + BLOCK)
        block(flat[part], y[part])
    return y.reshape(x.shape)


def quick_gelu_block(x: Floats, y: Floats) -> None:
    """Write the quick_gelu of `x` into `y`, which may be `x` itself."""
    number = x.dtype.type
    with np.errstate(over="ignore"):  # x / inf is 0, as it should be
        h = np.multiply(x, number(-1.702))
        np.exp(h, out=h)
        h += number(1.0)
        np.divide(x, h, out=y)


def gelu_block(x: Floats, y: Floats) -> None:
    """Write the gelu of `x` into `y`, which may be `x` itself.

    For negative x it is x (1 - Phi(|x|)), for others x - x (1 - Phi(x)); so either way
    max(x, 0) - |x| (1 - Phi(|x|)).
    """
    u = np.abs(x)
    np.minimum(u, np.float32(20.0), out=u)  # exp(-200) is 0 in float32
    s = u + np.float32(3.0)
    np.divide(u - np.float32(3.0), s, out=s)
    tail = np.multiply(s, _NORMAL_TAIL[-1])
    for coefficient in reversed(_NORMAL_TAIL[1:-1]):
        tail += coefficient
        tail *= s
    tail += _NORMAL_TAIL[0]
    tail *= u
    u *= u
    u *= np.float32(-0.5)
    tail *= np.exp(u, out=u)  # |x| (1 - Phi(|x|))
    np.maximum(x, np.float32(0.0), out=y)
    y -= tail


@kernel(dtypes=("float32",), in_place=gelu_block)
def gelu(x: Floats) -> Floats:
    """Return x Phi(x), Phi from the tail of the normal distribution; float32."""
    return _by_blocks(gelu_block, x)


@kernel(dtypes=("float32", "float64"), in_place=quick_gelu_block)
def quick_gelu(x: Floats) -> Floats:
    """Return x / (1 + exp(-1.702 x)); float32 and float64."""
    return _by_blocks(quick_gelu_block, x)
