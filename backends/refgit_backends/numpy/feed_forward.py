"""NumPy kernel for `feed_forward`: bias and non-linearity in place, between two products.

Inside, tokens stand side by side and channels one below another: (F, R) in the place of (R, F).
BLAS multiplies the weight from the left a tenth faster so, for the few hundred tokens of an
image. Each thread widens and bends its own channels. Tokens go through in groups, so that a batch
needs no more room than one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refgit_backends.numpy.linear import FEW_ROWS, MANY_ROWS, linear, multiply, multiply_few
from refgit_backends.numpy.threads import divide

Floats = np.ndarray[Any, Any]
Hook = Callable[[str, Floats], Any]

_ROWS = 2048  # tokens at a time
_BLOCK = 1 << 17  # numbers of a block; as float32 512 KiB, a quarter of a second-level cache


def feed_forward(
    x: Floats,
    widen: Mapping[str, Floats],
    narrow: Mapping[str, Floats],
    *,
    activation: Callable[[Floats], Floats],
    names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
    hook: Hook | None = None,
) -> Floats:
    """Widen, bend and narrow: (..., D), weights (F, D) and (D, F) -> (..., D)."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) < MANY_ROWS:
        return _of_few(x, widen, narrow, activation, names, hook)
    y = np.empty((len(narrow["weight"]), len(rows)), x.dtype)  # (D, R)
    wide = None if hook is None else np.empty((2, len(rows), len(widen["weight"])), x.dtype)
    in_place: Callable[[Floats, Floats], None] = activation.in_place  # type: ignore[attr-defined]
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        tokens = rows[part].T  # (D, R)
        h = np.empty((len(widen["weight"]), tokens.shape[1]), x.dtype)  # (F, R)
        _widened(tokens, widen, in_place, h, None if wide is None else wide[:, part])
        multiply(narrow["weight"], h, narrow["bias"], y[:, part])  # (F, R) -> (D, R)
    y = y.T.reshape(*x.shape[:-1], len(y))  # a view, as of `linear`
    return y if wide is None else _hooked(wide, y, narrow, activation, names, hook)


def _hooked(
    wide: Floats,
    y: Floats,
    narrow: Mapping[str, Floats],
    activation: Callable[[Floats], Floats],
    names: tuple[str, str, str],
    hook: Any,
) -> Floats:
    """Call the hook with fc1, activation (2, R, F) and fc2; after a replacement, compute again."""
    fc1, bent = wide.reshape(2, *y.shape[:-1], -1)
    given = hook(names[0], fc1)
    if given is not fc1:
        bent = activation(given)
    taken = hook(names[1], bent)
    if given is not fc1 or taken is not bent:
        y = linear(taken, **narrow)
    fc2: Floats = hook(names[2], y)
    return fc2


def _of_few(
    x: Floats,
    widen: Mapping[str, Floats],
    narrow: Mapping[str, Floats],
    activation: Callable[[Floats], Floats],
    names: tuple[str, str, str],
    hook: Hook | None,
) -> Floats:
    """Do the same for a few rows; each thread goes all the way with its own channels."""
    rows = x.reshape(-1, x.shape[-1])
    wide = None if hook is None else np.empty((2, len(rows), len(widen["weight"])), x.dtype)
    parts: dict[int, Floats] = {}  # by the first channel, so that the sum has an order

    def part(channels: slice) -> None:
        h = np.empty((len(rows), channels.stop - channels.start), x.dtype)  # of (R, F)
        multiply_few(rows, widen["weight"][channels], h)
        h += widen["bias"][channels]
        if wide is not None:
            wide[0, :, channels] = h
        activation.in_place(h, h)  # type: ignore[attr-defined]
        if wide is not None:
            wide[1, :, channels] = h
        y = np.empty((len(rows), len(narrow["weight"])), x.dtype)  # (R, D)
        multiply_few(h, narrow["weight"][:, channels], y)
        parts[channels.start] = y

    divide(part, len(widen["weight"]), 16)
    y = narrow["bias"] + parts[0]
    for start in sorted(parts)[1:]:
        y += parts[start]
    y = y.reshape(*x.shape[:-1], -1)
    return y if wide is None else _hooked(wide, y, narrow, activation, names, hook)


def _serves(
    x: Floats,
    widen: Mapping[str, Floats],
    narrow: Mapping[str, Floats],
    *,
    activation: Callable[[Floats], Floats],
    names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
) -> bool:
    """Whether the kernel gains: with few or many tokens, if the activation works in place."""
    rows = x.size // max(1, x.shape[-1])
    if not (1 < rows <= FEW_ROWS or rows >= MANY_ROWS) or not hasattr(activation, "in_place"):
        return False
    return x.dtype.name in activation.dtypes  # type: ignore[attr-defined]


feed_forward.serves = _serves  # type: ignore[attr-defined]  # read by refgit's Operations


def _widened(
    x: Floats,
    widen: Mapping[str, Floats],
    in_place: Callable[[Floats, Floats], None],
    h: Floats,
    wide: Floats | None,
) -> None:
    """Write phi(W x + b): (D, R) -> (F, R), and the steps (2, R, F) where they are wanted."""
    weight, bias = widen["weight"], widen["bias"][:, None]
    step = max(1, _BLOCK // max(1, h.shape[1]))

    def part(channels: slice) -> None:
        np.matmul(weight[channels], x, out=h[channels])
        for start in range(channels.start, channels.stop, step):
            block = slice(start, min(start + step, channels.stop))
            h[block] += bias[block]
            if wide is not None:
                wide[0, :, block] = h[block].T
            in_place(h[block], h[block])
            if wide is not None:
                wide[1, :, block] = h[block].T

    divide(part, len(weight), 16)
