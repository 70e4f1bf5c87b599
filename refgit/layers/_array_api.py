"""What the layers need around the Python array API standard, and nothing more.

The standard (data-apis.org/array-api) names the functions; NumPy 2, array-api-strict and JAX follow
it, CuPy nearly does. The few places where libraries differ are handled here, so that no layer asks
which library it runs on.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

# An array of any library. No static type is shared by all of them yet.
Array: TypeAlias = Any


def array_namespace(x: Array) -> Any:
    """Return the module whose functions take `x`: numpy, cupy, jax.numpy, array_api_strict ..."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    return sys.modules[type(x).__module__.partition(".")[0]]  # CuPy arrays do not say


def _device_of(x: Array) -> dict[str, Any]:
    """Keyword that places a new array beside `x`; CuPy has none and uses its current GPU."""
    return {"device": x.device} if hasattr(x, "__array_namespace__") else {}


def arange(start: int, stop: int, *, like: Array) -> Array:
    """Return the integers start .. stop-1, int64 (stop - start,), on the device of `like`."""
    xp = array_namespace(like)
    return xp.arange(start, stop, dtype=xp.int64, **_device_of(like))


def filled(shape: tuple[int, ...], value: float, *, like: Array) -> Array:
    """Return an array of `shape` full of `value`, with the dtype and on the device of `like`."""
    return array_namespace(like).full(shape, value, dtype=like.dtype, **_device_of(like))


def at_least_float32(x: Array) -> Array:
    """Return `x`, with float16 raised to float32: sums over many terms need the longer mantissa."""
    xp = array_namespace(x)
    return xp.astype(x, xp.float32) if xp.finfo(x.dtype).bits < 32 else x


def write(x: Array, start: int, new: Array) -> Array:
    """Return (.., .., L, ..) `x` with `new` from `start` on, in place where arrays can be written.

    JAX's cannot be: there the parts are joined to another array.
    """
    stop = start + new.shape[2]
    try:
        x[:, :, start:stop, :] = new
    except TypeError:
        xp = array_namespace(x)
        return xp.concat([x[:, :, :start, :], new, x[:, :, stop:, :]], axis=2)
    return x
