"""Resampling along one axis as a matrix (n_out, n_in): kernels and two ways to place them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refgit.layers._array_api import Array

Kernel = Callable[[Array], Array]


def triangle(d: Array) -> Array:
    """The linear kernel of a distance."""
    return np.maximum(1 - d, 0)


def cubic(a: float) -> Kernel:
    """Keys' cubic kernel with the parameter `a`."""

    def kernel(d: Array) -> Array:
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return kernel


def interpolating(n_in: int, n_out: int, kernel: Kernel, at: Array | None = None) -> Array:
    """Weights of a kernel that keeps its width: no antialiasing; edges are repeated.

    `at` are the places (n_out,) of the new points among the old ones, by default as with
    align_corners=False.
    """
    u = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5 if at is None else at
    weights, below = np.zeros((n_out, n_in)), np.floor(u)
    for k in (-1, 0, 1, 2):
        source = np.clip(below + k, 0, n_in - 1).astype(np.int64)
        np.add.at(weights, (np.arange(n_out), source), kernel(np.abs(u - below - k)))
    return weights


def antialiased(n_in: int, n_out: int, kernel: Kernel) -> Array:
    r"""Weights of a kernel c that widens when it makes smaller.

    .. math:: W_{o,i} \propto c\!\left(\frac{i + \tfrac12 - u_o}{s}\right), \qquad
              u_o = (o + \tfrac12) \frac{n_{in}}{n_{out}}, \quad s = \max(1, n_{in} / n_{out})
    """
    scale = max(n_in / n_out, 1.0)
    centre = (np.arange(n_out) + 0.5) * n_in / n_out
    weights = kernel(np.abs((np.arange(n_in)[None, :] + 0.5 - centre[:, None]) / scale))
    return weights / weights.sum(axis=1, keepdims=True)
