"""Where a token stands: learned absolute positions, of image tokens and of text tokens.

Attention by itself does not know the order of its inputs; a learned vector for each place is
added to tell them apart. Text counts its own positions from 0: the image in front of it takes
none (paper, section 3.1).
"""

from __future__ import annotations

from refgit.layers.array_api import Array, array_namespace


def add_absolute_positions(tokens: Array, table: Array) -> Array:
    r"""Add the n-th row of the table to the n-th token.

    .. math:: x_n = z_n + p_n

    Parameters
    ----------
    tokens : array (B, N, D)
    table : array (N, D)

    Returns
    -------
    array (B, N, D), dtype of `tokens`

    Notes
    -----
    Source: Dosovitskiy et al., arXiv 2010.11929, equation 1.
    """
    xp = array_namespace(tokens)
    return tokens + xp.expand_dims(table, axis=0)
