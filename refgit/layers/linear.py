"""Linear (affine) map, which has nearly all of the model's parameters."""

from __future__ import annotations

from refgit.layers._array_api import Array, array_namespace
from refgit.layers._operations import operation


@operation
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    r"""Map the last axis by a matrix and shift it.

    .. math:: y = x W^\top + b

    Parameters
    ----------
    x : array (..., I)
    weight : array (O, I)
        Rows are outputs, as checkpoints store them.
    bias : array (O,), optional

    Returns
    -------
    array (..., O), dtype of `x`

    Notes
    -----
    Source: the definition.
    """
    xp = array_namespace(x)
    y = xp.matmul(x, xp.matrix_transpose(weight))  # (..., I) -> (..., O)
    return y if bias is None else y + bias
