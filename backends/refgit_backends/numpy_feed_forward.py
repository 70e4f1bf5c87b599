"""NumPy kernel for `feed_forward`: bias and non-linearity in place, between two products.

Inside, tokens stand side by side and channels one below another: (F, R) in the place of (R, F).
BLAS multiplies the weight from the left a tenth faster so, for the few hundred tokens of an
image. Tokens go through in groups, so that a batch needs no more room than one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refgit_backends.numpy_threads import spread

Floats = np.ndarray[Any, Any]
Tap = Callable[[str, Floats], Any]

_LEAST_ROWS = 64  # fewer are served as well by `linear`
_ROWS = 2048  # tokens at a time
_BLOCK = 65536  # numbers of a block; as float32 256 KiB


def feed_forward(
    x: Floats,
    widen: Mapping[str, Floats],
    narrow: Mapping[str, Floats],
    *,
    activation: Callable[[Floats], Floats],
    names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
    tap: Tap | None = None,
) -> Floats:
    """Widen, bend and narrow: (..., D), weights (F, D) and (D, F) -> (..., D)."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty((len(rows), len(narrow["weight"])), x.dtype)
    wide = None if tap is None else np.empty((2, len(rows), len(widen["weight"])), x.dtype)
    in_place: Callable[[Floats, Floats], None] = activation.in_place  # type: ignore[attr-defined]
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        h = np.matmul(widen["weight"], rows[part].T)  # (F, R)
        if wide is not None:
            wide[0, part] = (h + widen["bias"][:, None]).T
        _bend(h, widen["bias"], in_place)
        if wide is not None:
            wide[1, part] = h.T
        h = np.matmul(narrow["weight"], h)  # (F, R) -> (D, R)
        np.add(h.T, narrow["bias"], out=y[part])
    y = y.reshape(*x.shape[:-1], y.shape[1])
    if tap is not None and wide is not None:
        for name, h in zip(names, (*wide.reshape(2, *x.shape[:-1], -1), y), strict=True):
            tap(name, h)
    return y


def _serves(
    x: Floats,
    widen: Mapping[str, Floats],
    narrow: Mapping[str, Floats],
    *,
    activation: Callable[[Floats], Floats],
    names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
) -> bool:
    """Whether the kernel gains: many tokens, and an activation that works in place."""
    if x.size < _LEAST_ROWS * x.shape[-1] or not hasattr(activation, "in_place"):
        return False
    return x.dtype.name in activation.dtypes  # type: ignore[attr-defined]


feed_forward.serves = _serves  # type: ignore[attr-defined]  # read by refgit's Operations


def _bend(h: Floats, bias: Floats, in_place: Callable[[Floats, Floats], None]) -> None:
    """Add the bias (F,) to (F, R) and apply the activation, in place."""

    def block(part: slice) -> None:
        h[part] += bias[part, None]
        in_place(h[part], h[part])

    spread(block, len(h), max(1, _BLOCK // h.shape[1]))
