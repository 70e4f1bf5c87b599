"""Language-modelling head: from hidden states to a score for each token of the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refgit.layers._array_api import Array
from refgit.layers._operations import DEFINITIONS, Operations
from refgit.layers.linear import linear


def lm_head(x: Array, p: Mapping[str, Any], *, ops: Operations = DEFINITIONS) -> Array:
    r"""Score every token of the vocabulary; the scores are called logits.

    .. math:: \text{logits} = x W^\top + b

    Parameters
    ----------
    x : array (B, L, D)
    p : mapping
        ``weight`` (V, D) and ``bias`` (V,).
    ops : Operations
        Which version of each operation runs.

    Returns
    -------
    array (B, L, V)
        The scores at token t are those of token t + 1.

    Notes
    -----
    Source: GIT paper, section 3.1.
    """
    return ops.run(linear, x, **p)
