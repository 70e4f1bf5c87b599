"""Softmax: from scores to probabilities, in attention and over the vocabulary."""

from __future__ import annotations

from refgit.layers._array_api import Array, array_namespace, at_least_float32
from refgit.layers._operations import operation


@operation
def softmax(x: Array) -> Array:
    r"""Turn the last axis into probabilities.

    .. math:: p_i = \frac{e^{x_i - \max_j x_j}}{\sum_k e^{x_k - \max_j x_j}}

    Parameters
    ----------
    x : array (..., K), floating point
        -inf gives probability 0; at least one entry of each row must be finite.

    Returns
    -------
    array (..., K), dtype of `x`
        Summed in at least float32.

    Notes
    -----
    Source: the definition; subtracting the maximum only prevents overflow.
    """
    xp = array_namespace(x)
    h = at_least_float32(x)
    h = xp.exp(h - xp.max(h, axis=-1, keepdims=True))
    return xp.astype(h / xp.sum(h, axis=-1, keepdims=True), x.dtype)
