"""The same model with sums in another order, which gives another right answer in float32.

Rounding errors depend on the order in which a sum is taken, and every library has its own. How far
right answers lie apart is measured by taking several: see `numerics.noise` and `kit.tolerance`.
Sums of large products are cut into runs of terms; the runs are added up in the order, and BLAS
computes each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np

from refgit.traces.container import Tensor
from refgit_backends.base import host_array
from refgit_backends.numpy.backend import NumpyBackend

# Products of more numbers than this are summed in LONGEST runs, or large models would take hours.
MOST, LONGEST = 2**22, 64


class _InOrder:
    """NumPy's namespace, in which sums are taken run by run in a given order."""

    def __init__(self, order: Callable[[int], Tensor]) -> None:
        self.order = order
        self.array_type = type(
            "Ordered", (np.ndarray,), {"__array_namespace__": lambda _self, **_options: self}
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def own(self, x: Any) -> Tensor:
        return cast(Tensor, np.asarray(x).view(self.array_type))

    def runs(self, n: int) -> list[Any]:
        """Split the order into runs; one without gaps is a slice, which copies nothing."""
        runs = [np.sort(run) for run in np.array_split(self.order(n), LONGEST)]
        return [
            slice(run[0], run[-1] + 1) if run[-1] - run[0] + 1 == len(run) else run
            for run in runs
            if len(run)
        ]

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Like `numpy.matmul` of two matrices or stacks of them."""
        a, b = np.asarray(a), np.asarray(b)
        if a.size * b.shape[-1] <= MOST:
            order = self.order(a.shape[-1])
            terms = a[..., order, None] * b[..., None, order, :]  # (..., Q, terms, K)
            total = np.add.reduce(terms, axis=-2)  # one by one, since the axis is not the last
            return self.own(total)
        total = np.zeros((), np.result_type(a, b))
        for run in self.runs(a.shape[-1]):
            total = total + np.matmul(a[..., run], b[..., run, :])
        return self.own(total)

    def sum(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        x = np.asarray(x)
        if not x.size:
            return self.own(np.sum(x, axis, keepdims=keepdims))
        moved = np.reshape(x, -1) if axis is None else np.moveaxis(x, axis, -1)
        terms = moved[..., self.order(moved.shape[-1])]
        total = np.add.accumulate(terms, axis=-1)[..., -1]  # one by one
        if keepdims and axis is not None:
            total = np.expand_dims(total, axis)
        return self.own(total)

    def mean(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        n = np.size(x) if axis is None else np.shape(x)[axis]
        total = self.sum(x, axis, keepdims)
        return self.own(total / total.dtype.type(n))


class OrderedBackend(NumpyBackend):
    """NumPy without kernels, its sums of n terms in the order that a function of n gives."""

    def __init__(self, order: Callable[[int], Tensor]) -> None:
        super().__init__(kernels="off")
        self.xp: Any = _InOrder(order)

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """See `Backend.asarray`."""
        array = host_array(x)
        return self.xp.own(array if dtype is None else array.astype(dtype, copy=False))


def forwards(n: int) -> Tensor:
    """The numbers 0 to n - 1."""
    return np.arange(n)


def backwards(n: int) -> Tensor:
    """The numbers n - 1 to 0."""
    return np.arange(n)[::-1]


@cache
def shuffled(n: int) -> Tensor:
    """The numbers 0 to n - 1 shuffled, always in the same way."""
    return np.random.RandomState(n).permutation(n)
