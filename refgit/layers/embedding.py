"""Token embedding: from token ids to vectors, the input of the text decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refgit.layers._array_api import Array, array_namespace
from refgit.layers._operations import DEFINITIONS, Operations
from refgit.layers.normalization import layer_norm


def embed(ids: Array, table: Array) -> Array:
    r"""Look up one row of the table for each id.

    .. math:: e_{b,t} = E_{\text{ids}_{b,t}}

    Parameters
    ----------
    ids : array (B, T), integer, each in 0 .. rows - 1
    table : array (rows, D)

    Returns
    -------
    array (B, T, D), dtype of `table`

    Notes
    -----
    Source: the definition.
    """
    xp = array_namespace(table)
    b, t = ids.shape
    rows = xp.take(table, xp.reshape(ids, (b * t,)), axis=0)  # (B T, D)
    return xp.reshape(rows, (b, t, table.shape[1]))


def text_embedding(
    tokens: Array,
    position_ids: Array | None,
    p: Mapping[str, Any],
    *,
    eps: float,
    ops: Operations = DEFINITIONS,
) -> Array:
    r"""Add position embeddings to token embeddings and normalise.

    .. math:: x_t = \operatorname{LayerNorm}(e_t + p_{\text{position}_t})

    Parameters
    ----------
    tokens : array (B, T, D)
        Token embeddings, from `embed` or the caller's own.
    position_ids : array (B or 1, T), integer, or None
        None adds nothing (relative positions are added to the attention scores).
    p : mapping
        ``position_embeddings.weight`` (positions, D), ``LayerNorm`` weight and bias (D,).
    eps : float
        Of the layer norm.
    ops : Operations
        Which version of each operation runs.

    Returns
    -------
    array (B, T, D)

    Notes
    -----
    Source: GIT paper, section 3.1: token embedding, positional encoding, layer norm.
    """
    x = tokens
    if position_ids is not None:
        positions = embed(position_ids, p["position_embeddings"]["weight"])  # (B or 1, T, D)
        x = ops.hook("sum", x + ops.hook("position_embeddings", positions))
    return ops.hook("LayerNorm", ops.run(layer_norm, x, **p["LayerNorm"], eps=eps))
