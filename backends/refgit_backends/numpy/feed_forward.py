"""NumPy kernel for `feed_forward`: bias and activation in place, between two products.

Inside, arrays are stored channel by channel, (F, R) instead of (R, F): with the weight on the left
BLAS is a tenth faster for the hundreds of tokens of an image. Each thread computes fc1 and
activation of its own channels. Tokens are taken in groups, so that a batch needs no more memory
than one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from refgit_backends.common import Floats, Hook, kernel
from refgit_backends.numpy.linear import FEW_ROWS, MANY_ROWS, linear, multiply, multiply_few
from refgit_backends.numpy.threads import divide

InPlace: TypeAlias = Callable[[Floats, Floats], None]  # from the first to the second, or one array

_ROWS = 2048  # tokens at a time
_BLOCK = 1 << 17  # numbers of a block; as float32 512 KiB, a quarter of a second-level cache


def _serves(x: Floats, *_: Any, activation: Callable[[Floats], Floats], **__: Any) -> bool:
    """Whether the kernel gains: with few or many tokens, if the activation works in place."""
    rows = x.size // max(1, x.shape[-1])
    if not (1 < rows <= FEW_ROWS or rows >= MANY_ROWS) or not hasattr(activation, "in_place"):
        return False
    return x.dtype.name in activation.dtypes  # type: ignore[attr-defined]


@kernel(serves=_serves)
def feed_forward(
    x: Floats,
    fc1: Mapping[str, Floats],
    fc2: Mapping[str, Floats],
    *,
    activation: Callable[[Floats], Floats],
    names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
    hook: Hook | None = None,
) -> Floats:
    """Apply fc1, activation, fc2: (..., D), weights (F, D) and (D, F) -> (..., D)."""
    rows = x.reshape(-1, x.shape[-1])
    wide = None if hook is None else np.empty((2, len(rows), len(fc1["weight"])), x.dtype)
    compute = _of_many if len(rows) >= MANY_ROWS else _of_few
    y: Floats = compute(rows, fc1, fc2, activation.in_place, wide)  # type: ignore[attr-defined]
    y = y.reshape(*x.shape[:-1], -1)
    if hook is None or wide is None:
        return y
    before, after = wide.reshape(2, *x.shape[:-1], -1)
    given = hook(names[0], before)
    if given is not before:
        after = activation(given)
    h = hook(names[1], after)
    if given is not before or h is not after:
        y = linear(h, **fc2)
    y = hook(names[2], y)
    return y


def _of_many(
    rows: Floats,
    fc1: Mapping[str, Floats],
    fc2: Mapping[str, Floats],
    in_place: InPlace,
    wide: Floats | None,
) -> Floats:
    """Compute (R, D) -> (R, D), a view as of `linear`, and both steps, (2, R, F), for a hook."""
    y = np.empty((len(fc2["weight"]), len(rows)), rows.dtype)  # (D, R)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        tokens = rows[part].T  # (D, R)
        h = np.empty((len(fc1["weight"]), tokens.shape[1]), rows.dtype)  # (F, R)
        _activated(tokens, fc1, in_place, h, None if wide is None else wide[:, part])
        multiply(fc2["weight"], h, fc2["bias"], y[:, part])  # (F, R) -> (D, R)
    return y.T


def _of_few(
    rows: Floats,
    fc1: Mapping[str, Floats],
    fc2: Mapping[str, Floats],
    in_place: InPlace,
    wide: Floats | None,
) -> Floats:
    """Do the same for a few rows; each thread takes its own channels through all three steps."""
    parts: dict[int, Floats] = {}  # by the first channel, so that the sum has an order

    def part(channels: slice) -> None:
        h = np.empty((len(rows), channels.stop - channels.start), rows.dtype)  # of (R, F)
        multiply_few(rows, fc1["weight"][channels], h)
        h += fc1["bias"][channels]
        if wide is not None:
            wide[0, :, channels] = h
        in_place(h, h)
        if wide is not None:
            wide[1, :, channels] = h
        y = np.empty((len(rows), len(fc2["weight"])), rows.dtype)  # (R, D)
        multiply_few(h, fc2["weight"][:, channels], y)
        parts[channels.start] = y

    divide(part, len(fc1["weight"]), 16)
    y = fc2["bias"] + parts[0]
    for start in sorted(parts)[1:]:
        y += parts[start]
    return y


def _activated(
    x: Floats, fc1: Mapping[str, Floats], in_place: InPlace, h: Floats, wide: Floats | None
) -> None:
    """Write phi(W x + b): (D, R) -> (F, R), and both steps, (2, R, F), for a hook."""
    weight, bias = fc1["weight"], fc1["bias"][:, None]
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
