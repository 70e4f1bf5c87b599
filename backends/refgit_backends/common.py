"""What the kernels of all backends share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from refgit_backends.base import Array, Kernel

Floats: TypeAlias = np.ndarray[Any, Any]

# Called with name and value of an intermediate; returns what to go on with.
Hook: TypeAlias = Callable[[str, Array], Any]


def kernel(**attributes: Any) -> Callable[[Kernel], Kernel]:
    """Say of a kernel what it serves, in the attributes that refgit's `Operations` reads."""

    def mark(function: Kernel) -> Kernel:
        vars(function).update(attributes)
        return function

    return mark


def segments(arrays: Sequence[Array], axis: int) -> Iterator[tuple[Array, slice]]:
    """Each array with its part of the axis along which they are joined."""
    start = 0
    for array in arrays:
        stop = start + array.shape[axis]
        yield array, slice(start, stop)
        start = stop


def average(weights: Array, values: Sequence[Array]) -> Array:
    """Average the values of all segments: (B, H, Q, K), (B', H, K_i, d) -> (B, H, Q, d)."""
    b, heads, q, _ = weights.shape
    parts = []
    for value, part in segments(values, 2):
        of_images = weights[..., part].reshape(-1, *value.shape[:2], q, value.shape[2])
        parts.append((of_images @ value).reshape(b, heads, q, -1))  # of (B/B', B', H, Q, d)
    return sum(parts[1:], parts[0])
