"""The noise floor of one tensor: how far rounding moves it, and errors in multiples of that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refgit.parity.numerics.precision import EPSILON, UNIT_ROUNDOFF
from refgit.traces.container import Tensor
from refgit.traces.names import TensorName

# Up to how many noise floors a difference counts as rounding. The largest error of transformers'
# 20,154 tensors of 300 random models is 5.0 floors, 99.9 % are below 3.1; of 1,215 tensors of the
# bundled model on three pictures with 6 decode steps, 2.3 and 2.0 (tests/live/test_parity_live.py).
MULTIPLE = 8.0
# What a correct tensor seldom comes to: layer norms of torch and of NumPy were seen to differ by
# 2.3 floors.
SUSPECT = 3.0


@dataclass(frozen=True)
class Floor:
    """What rounding does to one tensor.

    Attributes
    ----------
    max, rms : float
        Largest and root mean square error; infinite where the reference itself overflows.
    measured : bool
        False where it is an estimate from the tensor's scale.
    """

    max: float
    rms: float
    measured: bool = True

    def times(self, factor: float) -> Floor:
        """Return a floor so many times as high."""
        return Floor(factor * self.max, factor * self.rms, self.measured)

    def multiples(self, error: Tensor) -> float:
        """Return an error in multiples of the floor: of the largest element or of the rms."""
        return self.ratio(_largest(error), root_mean_square(error))

    def ratio(self, largest: float, rms: float) -> float:
        """Return in multiples what an error's largest element and its rms come to."""
        return max(_ratio(largest, self.max), _ratio(rms, self.rms))


def _ratio(error: float, floor: float) -> float:
    """An error in floors; where the reference itself overflows every number will do."""
    if error == 0.0 or math.isinf(floor):
        return 0.0
    return error / floor if floor else math.inf


def root_mean_square(x: Tensor) -> float:
    """Return the root of the mean square, in float64; 0 of an empty array."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0


def measured_floor(run: Tensor, exact: Tensor, precision: str) -> Floor:
    """Return the floor that one run in a precision shows against the exact tensor."""
    with np.errstate(all="ignore"):
        largest, rms = extent(np.subtract(run, exact, dtype=np.float64))
    if not np.isfinite(largest):
        return Floor(np.inf, np.inf)
    least = scaled_floor(exact, precision, 1.0, 1.0, measured=True)
    return Floor(max(largest, least.max), max(rms, least.rms))


def operation_floor(run: Tensor, exact: Tensor, precision: str) -> Floor:
    """Return the floor of a single operation, computed once in a precision and once exactly.

    Elements that are not finite do not count. The floor is at least half a unit in the last place
    of the largest element, since a lucky draw may have no error at all.

    Parameters
    ----------
    run : array
        `exact` computed in `precision`; for float64, of which nothing more exact is known, in
        float32, and the error is scaled.
    exact : array of float64
    precision : str
    """
    finite = np.isfinite(exact) & np.isfinite(run)
    x, error = exact[finite], (run - exact)[finite]
    shrink = 4 * EPSILON["float64"] / EPSILON["float32"] if precision == "float64" else 1.0
    least, tiny = EPSILON[precision], 1e-300
    return Floor(
        max(_largest(error) * shrink, least * max(_largest(x), tiny) / 2),
        max(root_mean_square(error) * shrink, least * max(root_mean_square(x), tiny) / 4),
    )


def _largest(x: Tensor) -> float:
    return float(np.max(np.abs(x), initial=0.0))


def larger(floors: Mapping[str, Floor], others: Mapping[str, Floor]) -> dict[str, Floor]:
    """Take the larger of two floors of each tensor."""
    found = dict(floors)
    for name, other in others.items():
        floor = floors.get(name, other)
        found[name] = Floor(max(floor.max, other.max), max(floor.rms, other.rms))
    return found


def pooled(floors: Mapping[str, Floor], exact: Mapping[str, Tensor]) -> dict[str, Floor]:
    """Give a tensor's calls the largest of their floors, relative to the tensor's size.

    What one decode step shows is a sample of a hundred numbers, and sometimes a lucky one; all
    calls run the same operation.
    """
    paths = {name: TensorName.parse(name).path for name in floors}
    extents = {name: extent(exact[name].astype(np.float64, copy=False)) for name in floors}
    shares: dict[str, tuple[float, float]] = {}
    for name, floor in floors.items():
        largest, rms = extents[name]
        if largest > 0.0 and np.isfinite(largest) and np.isfinite(floor.max):
            share = shares.get(paths[name], (0.0, 0.0))
            shares[paths[name]] = max(share[0], floor.max / largest), max(share[1], floor.rms / rms)
    found = {}
    for name, floor in floors.items():
        (largest, rms), share = extents[name], shares.get(paths[name], (0.0, 0.0))
        if np.isfinite(largest):
            floor = Floor(max(floor.max, share[0] * largest), max(floor.rms, share[1] * rms))
        found[name] = floor
    return found


def scaled_floor(x: Tensor, precision: str, largest: float, rms: float, *, measured: bool) -> Floor:
    """Return so many units of the last place of a tensor's largest number and of its rms."""
    unit = UNIT_ROUNDOFF[precision]
    wide = x.astype(np.float64, copy=False)
    size, mean = extent(wide)
    if not np.isfinite(size):
        size, mean = extent(wide[np.isfinite(wide)])
    # of a tensor of zeros: what the type cannot tell from zero
    least = 2.0**-126 if precision in ("float32", "bfloat16") else 2.0**-24 * unit
    return Floor(max(largest * unit * size, least), max(rms * unit * mean, least), measured)


def extent(x: Tensor) -> tuple[float, float]:
    """Largest absolute value and root mean square, in few passes: NaN where there is one."""
    if not x.size:
        return 0.0, 0.0
    flat = x.reshape(-1)
    largest = np.maximum(flat.max(), -flat.min())
    with np.errstate(over="ignore"):
        return float(largest), float(np.sqrt(flat @ flat / x.size))
