r"""How far apart may two right answers lie? Measured, by computing in several orders.

Float32 sums depend on their order, and every port has another one. So each case is computed in
float64 for the expected values, and then in float32 five times: with NumPy's kernels, with the
definitions, and with every sum taken term by term forwards, backwards and shuffled. The largest
distance to float64 is the *noise* of a tensor.

.. math:: \text{tolerance} = \text{margin} \cdot \max(\text{noise}, \; 2^{-24} \max |x|)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np

from refgit.parity.kit_case import Case, Evaluation, Host, Tensors
from refgit_backends import Backend
from refgit_backends.base import host_array
from refgit_backends.numpy_backend import NumpyBackend

# Tolerance over noise: another library's exp, tanh and erf, and orders that were not tried.
MARGIN = 8.0
HALF_ULP = 2.0**-24
# Products of more numbers than this are summed in LONGEST runs, or large models would take hours.
MOST, LONGEST = 2**22, 64


class _InOrder:
    """NumPy's namespace, in which sums are taken run by run in a given order."""

    def __init__(self, order: Callable[[int], Host]) -> None:
        self.order = order
        self.array_type = type(
            "Ordered", (np.ndarray,), {"__array_namespace__": lambda _self, **_options: self}
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def own(self, x: Any) -> Host:
        """`x` as an array whose namespace this is."""
        return cast(Host, np.asarray(x).view(self.array_type))

    def runs(self, n: int) -> list[Any]:
        """The order in pieces; one without gaps as a slice, which copies nothing."""
        runs = [np.sort(run) for run in np.array_split(self.order(n), LONGEST)]
        return [
            slice(run[0], run[-1] + 1) if run[-1] - run[0] + 1 == len(run) else run
            for run in runs
            if len(run)
        ]

    def matmul(self, a: Host, b: Host) -> Host:
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

    def sum(self, x: Host, axis: int | None = None, keepdims: bool = False) -> Host:
        """Like `numpy.sum`."""
        x = np.asarray(x)
        moved = np.reshape(x, -1) if axis is None else np.moveaxis(x, axis, -1)
        terms = moved[..., self.order(moved.shape[-1])]
        total = np.add.accumulate(terms, axis=-1)[..., -1]  # one by one
        if keepdims and axis is not None:
            total = np.expand_dims(total, axis)
        return self.own(total)

    def mean(self, x: Host, axis: int | None = None, keepdims: bool = False) -> Host:
        """Like `numpy.mean`."""
        n = np.size(x) if axis is None else np.shape(x)[axis]
        total = self.sum(x, axis, keepdims)
        return self.own(total / total.dtype.type(n))


class OrderedBackend(NumpyBackend):
    """NumPy without kernels, its sums of n terms in the order that a function of n gives."""

    def __init__(self, order: Callable[[int], Host]) -> None:
        super().__init__(kernels="off")
        self.xp: Any = _InOrder(order)

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """See `Backend.asarray`."""
        array = host_array(x)
        return self.xp.own(array if dtype is None else array.astype(dtype, copy=False))


@cache
def _shuffled(n: int) -> Host:
    return np.random.RandomState(n).permutation(n)


REFERENCE = Evaluation("float64", "float64", NumpyBackend(kernels="off"))


def evaluations() -> list[Evaluation]:
    """The float32 evaluations: NumPy's kernels first, then the definitions in several orders."""
    backends: dict[str, Backend] = {
        "kernels": NumpyBackend(),
        "definitions": NumpyBackend(kernels="off"),
        "forwards": OrderedBackend(np.arange),
        "backwards": OrderedBackend(lambda n: np.arange(n)[::-1]),
        "shuffled": OrderedBackend(_shuffled),
    }
    return [Evaluation(name, "float32", backend) for name, backend in backends.items()]


def measure(case: Case, float32: list[Evaluation]) -> tuple[Tensors, dict[str, float]]:
    """Compute a case's expected values, and the noise of each.

    Parameters
    ----------
    case : Case
    float32 : list of Evaluation
        From `evaluations`.

    Returns
    -------
    expected : dict of str to array
        In float64 (integers as they are).
    noise : dict of str to float
        Of floating tensors: the largest distance of a float32 evaluation.

    Raises
    ------
    UnstableError
        Integers depend on the evaluation.
    """
    expected = case.run(REFERENCE)
    noise = {name: 0.0 for name, x in expected.items() if _floating(x)}
    for evaluation in float32:
        found = case.run(evaluation)
        for name, x in expected.items():
            if name in noise:
                y = found[name].astype(np.float64)
                noise[name] = max(noise[name], float(np.max(np.abs(y - x), initial=0.0)))
            elif not np.array_equal(found[name], x):
                raise UnstableError(
                    f"case {case.id}: {name} in float32 ({evaluation.name}) differs from that in "
                    "float64; two words are so nearly equally likely that rounding decides."
                )
    return expected, noise


class UnstableError(ValueError):
    """Rounding decides the result of a case, so it cannot be asked of a port."""


def tolerance(noise: float, x: Host, margin: float = MARGIN) -> float:
    """Tolerance of a tensor from its noise: see the top of this file; two digits, rounded up."""
    return rounded_up(margin * max(noise, HALF_ULP * float(np.max(np.abs(x), initial=0.0))))


def rounded_up(x: float) -> float:
    """Return the next number of two significant digits.

    >>> rounded_up(0.00123)
    0.0013
    """
    if x == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(x)) - 1)
    return float(f"{math.ceil(x / unit - 1e-9) * unit:.1e}")


def _floating(x: Host) -> bool:
    return bool(np.issubdtype(x.dtype, np.floating))
