"""Weights that need not be stored: the same numbers from the same seed on every machine.

Used by golden/generate.py (with the oracle) and by tests/ (with refgit). NumPy promises that the
stream of `RandomState` never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def make_weights(
    shapes: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Draw float32 weights for every name, in sorted order, that keep activations near 1.

    Matrices: normal with variance 1 / fan-in. Embedding tables: normal, deviation 0.5. Layer-norm
    weights: 1 plus normal of deviation 0.1. Biases and the class token: normal, deviation 0.1.
    """
    rng = np.random.RandomState(seed)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        value = rng.standard_normal(shape)
        if len(shape) == 1:
            value *= 0.1
            value += name.endswith("weight")
        elif "embedding" in name and len(shape) == 2:
            value *= 0.5
        else:
            value /= np.sqrt(np.prod(shape[1:]))
        weights[name] = value.astype(np.float32)
    return weights
