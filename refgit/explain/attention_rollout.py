"""Attention rollout: attention followed through all layers, down to the decoder's inputs.

The attention of one layer is about that layer's inputs, and from the second layer on these are
mixtures already. Rollout multiplies the mixtures through.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.floating[Any]]]


def rollout(attentions: Iterable[Any]) -> Numbers:
    r"""Multiply attention through the layers, residual connections counted in.

    .. math:: \bar A_l = \tfrac1H \sum_h A_{l,h}, \qquad
              \tilde A_l = \operatorname{rows\ to\ 1}(\tfrac12 \bar A_l + \tfrac12 I), \qquad
              R_l = \tilde A_l R_{l-1}, \quad R_0 = I

    The identity is the residual connection, by which a token keeps what it was. Heads are
    taken to matter equally, and the feed-forward networks to mix nothing.

    Parameters
    ----------
    attentions : iterable of arrays (H, L, L)
        One a layer, first layer first; each row a query, its columns what it attends to. H may
        differ from layer to layer. In GIT's decoder the L tokens are the image's and the text's.

    Returns
    -------
    float64 array (layers, L, L)
        Element l is :math:`R_{l+1}`: row q says what share of token q after that layer comes from
        each token that entered the decoder. Rows sum to one; a token that no layer lets a query
        attend to has no share.

    Raises
    ------
    ValueError
        There are no layers, or they are not of this shape.

    Notes
    -----
    Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", arXiv 2005.00928,
    section 3.
    """
    products: list[Numbers] = []
    for attention in attentions:
        a = np.asarray(attention, np.float64)
        if a.ndim != 3 or a.shape[1] != a.shape[2] or 0 in a.shape:
            raise ValueError(
                f"attentions[{len(products)}] has shape {a.shape}; expected (heads, tokens, "
                "tokens), the attention of one layer for one text."
            )
        identity = np.eye(a.shape[1])
        mixed = 0.5 * a.mean(axis=0) + 0.5 * identity  # (H, L, L) -> (L, L)
        mixed /= mixed.sum(axis=-1, keepdims=True)  # a silenced head leaves rows below 1
        before = products[-1] if products else identity
        if before.shape != mixed.shape:
            raise ValueError(
                f"attentions[{len(products)}] is about {len(mixed)} tokens, the layer before about "
                f"{len(before)}; expected as many in each layer."
            )
        products.append(mixed @ before)
    if not products:
        raise ValueError("attentions is empty; expected one array a layer.")
    return np.stack(products)
