r"""How far apart may two right answers lie? Measured, by computing in several orders.

Float32 sums depend on their order, and every port has another one. So each case is computed in
float64 for the expected values, and then in float32 five times: with NumPy's kernels, with the
definitions, and with every sum taken term by term forwards, backwards and shuffled. The largest
distance to float64 is the *noise* of a tensor.

.. math:: \text{tolerance} = \text{margin} \cdot \max(\text{noise}, \; 2^{-24} \max |x|)
"""

from __future__ import annotations

import math

import numpy as np

from refgit.parity.kit.case import Case, Evaluation, Tensors
from refgit.parity.numerics.floor import MULTIPLE
from refgit.parity.numerics.precision import UNIT_ROUNDOFF
from refgit.parity.numerics.summation import OrderedBackend, backwards, forwards, shuffled
from refgit.traces.container import Tensor
from refgit_backends import Backend
from refgit_backends.numpy.backend import NumpyBackend

REFERENCE = Evaluation("float64", "float64", NumpyBackend(kernels="off"))


def evaluations() -> list[Evaluation]:
    """The float32 evaluations: NumPy's kernels first, then the definitions in several orders."""
    backends: dict[str, Backend] = {
        "kernels": NumpyBackend(),
        "definitions": NumpyBackend(kernels="off"),
        "forwards": OrderedBackend(forwards),
        "backwards": OrderedBackend(backwards),
        "shuffled": OrderedBackend(shuffled),
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
    noise = {name: 0.0 for name, x in expected.items() if x.dtype.kind == "f"}
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


def tolerance(noise: float, x: Tensor, margin: float = MULTIPLE) -> float:
    """Tolerance of a tensor from its noise: see the top of this file; two digits, rounded up."""
    largest = float(np.max(np.abs(x), initial=0.0))
    return rounded_up(margin * max(noise, UNIT_ROUNDOFF["float32"] * largest))


def rounded_up(x: float) -> float:
    """Return the next number of two significant digits.

    >>> rounded_up(0.00123)
    0.0013
    """
    if x == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(x)) - 1)
    return float(f"{math.ceil(x / unit - 1e-9) * unit:.1e}")
