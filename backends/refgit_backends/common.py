"""What the kernels of all backends share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from refgit_backends.base import Array

# Called with name and value of an intermediate; returns what to go on with.
Hook: TypeAlias = Callable[[str, Array], Any]


def kernel(**attributes: Any) -> Callable[[Callable[..., Any]], Any]:
    """Say of a kernel what it serves, in the attributes that refgit's `Operations` reads."""

    def mark(function: Callable[..., Any]) -> Any:
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
