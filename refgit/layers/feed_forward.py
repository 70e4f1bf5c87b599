"""Feed-forward network: two linear maps with an activation between them, token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from refgit.layers._array_api import Array
from refgit.layers._operations import DEFINITIONS, Operations, layer
from refgit.layers.linear import linear


@layer
def feed_forward(
    x: Array,
    fc1: Mapping[str, Any],
    fc2: Mapping[str, Any],
    *,
    activation: Callable[[Array], Array],
    ops: Operations = DEFINITIONS,
    names: tuple[str, str, str] = ("fc1", "activation_fn", "fc2"),
) -> Array:
    r"""Two linear maps with a non-linearity between them.

    .. math:: y = \phi(x W_1^\top + b_1) \, W_2^\top + b_2

    Parameters
    ----------
    x : array (B, L, D)
    fc1 : mapping
        ``weight`` (F, D) and ``bias`` (F,).
    fc2 : mapping
        ``weight`` (D, F) and ``bias`` (D,).
    activation : callable
        quick_gelu in the image encoder, gelu in the text decoder.
    ops : Operations
        Which version of each operation runs.
    names : three str
        Names of the three steps for hooks.

    Returns
    -------
    array (B, L, D)

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, equation 2.
    """
    h = ops.hook(names[0], ops.run(linear, x, **fc1))  # (B, L, D) -> (B, L, F)
    h = ops.hook(names[1], activation(h))
    return ops.hook(names[2], ops.run(linear, h, **fc2))  # (B, L, F) -> (B, L, D)
