"""Positions of tokens: absolute, interpolated and relative.

Attention by itself ignores the order of its inputs. Either a learned vector for each position is
added to the token (absolute), or a term for the distance of query and key is added to the attention
scores (relative). Absolute positions of text count from 0: the image before it has none (paper,
section 3.1). Distances run over the joint sequence of image and text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from refgit.layers._array_api import Array, arange, array_namespace

# Sharpness of the bicubic kernel; other libraries use -0.5.
BICUBIC_A = -0.75


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
    return tokens + table  # (B, N, D) + (N, D)


def interpolate_positions(table: Array, rows: int, columns: int) -> Array:
    r"""Interpolate the positions of a square image to another grid of patches.

    .. math:: p'_{r,s} = \sum_{i,j} W^{\text{rows}}_{r,i} \, W^{\text{columns}}_{s,j} \, p_{i,j}

    with W from `bicubic_weights`; the class token keeps its own position.

    Parameters
    ----------
    table : array (1 + side * side, D)
        The class token's position, then the learned grid's, row by row.
    rows, columns : int
        Patches of the image at hand.

    Returns
    -------
    array (1 + rows * columns, D), dtype of `table`

    Notes
    -----
    Source: Dosovitskiy et al., arXiv 2010.11929, section 3.2 ("2D interpolation of the pre-trained
    position embeddings"); bicubic as in GIT's fine-tuning at higher resolution.
    """
    xp = array_namespace(table)
    count, d = table.shape
    side = math.isqrt(count - 1)
    grid = xp.reshape(table[1:, :], (side, side * d))
    grid = xp.matmul(bicubic_weights(side, rows, like=table), grid)  # -> (rows, side D)
    grid = xp.reshape(grid, (rows, side, d))
    grid = xp.matmul(bicubic_weights(side, columns, like=table), grid)  # -> (rows, columns, D)
    return xp.concat([table[:1, :], xp.reshape(grid, (rows * columns, d))], axis=0)


def bicubic_weights(n_in: int, n_out: int, *, like: Array) -> Array:
    r"""Return the matrix that resamples n_in points to n_out by cubic convolution.

    .. math:: W_{o,i} = \sum_{k=-1}^{2} c(u_o - \lfloor u_o \rfloor - k) \,
              [\operatorname{clip}(\lfloor u_o \rfloor + k) = i], \qquad
              u_o = (o + \tfrac12) \frac{n_{in}}{n_{out}} - \tfrac12

    .. math:: c(d) = \begin{cases} (a + 2)|d|^3 - (a + 3)|d|^2 + 1 & |d| \le 1 \\
              a|d|^3 - 5a|d|^2 + 8a|d| - 4a & 1 < |d| < 2 \end{cases} \qquad a = -0.75

    Parameters
    ----------
    n_in, n_out : int
    like : array
        Gives dtype and device.

    Returns
    -------
    array (n_out, n_in), dtype of `like`
        Rows sum to one; points beyond the edge repeat the edge (align_corners is false).

    Notes
    -----
    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981, with
    a = -0.5 there; torch, and so the checkpoints' code, takes a = -0.75.
    """
    xp = array_namespace(like)
    o = xp.astype(arange(0, n_out, like=like), xp.float64)
    i = xp.astype(arange(0, n_in, like=like), xp.float64)
    u = (o + 0.5) * (n_in / n_out) - 0.5
    below = xp.floor(u)
    weights = 0.0 * (xp.expand_dims(u, axis=1) + i)  # (n_out, n_in)
    for k in (-1, 0, 1, 2):
        d = xp.abs(u - below - k)
        near = (BICUBIC_A + 2) * d**3 - (BICUBIC_A + 3) * d**2 + 1
        far = BICUBIC_A * (d**3 - 5 * d**2 + 8 * d - 4)
        c = xp.where(d <= 1, near, far)
        source = xp.clip(below + k, 0, n_in - 1)
        hits = xp.expand_dims(source, axis=1) == i  # (n_out, n_in)
        weights = weights + xp.where(hits, xp.expand_dims(c, axis=1), 0.0 * weights)
    return xp.astype(weights, like.dtype)


@dataclass(frozen=True)
class RelativePositions:
    r"""Learned vectors for distances, and the position of this call's queries.

    .. math:: E_{q-k} = \text{table}_{M - 1 + q - k}, \qquad -(M - 1) \le q - k \le M - 1

    with q and k counted over the joint sequence of image and text.

    Attributes
    ----------
    table : array (2 M - 1, D/H)
        Row M - 1 + distance belongs to query index minus key index; M is
        config.max_position_embeddings.
    with_keys : bool
        False for relative_key, true for relative_key_query.
    first_query : int
        Index of the first query in the joint sequence; keys count from 0. Without a cache it is 0,
        with one the number of tokens in it.

    Notes
    -----
    Source: Shaw et al., arXiv 1803.02155, section 3.2: one vector for each distance. There, all
    distances beyond a limit share a vector; here each of a sequence of M tokens has its own.
    """

    table: Array
    with_keys: bool
    first_query: int


def relative_scores(
    query: Array,
    key: Array,
    positions: RelativePositions,
    *,
    first_key: int,
    key_scale: float = 1.0,
) -> Array:
    r"""What the distance of query and key adds to the attention scores.

    .. math:: r_{q,k} = \langle \text{query}_q, E_{q-k} \rangle
              \; [\, + \langle \text{key}_k, E_{q-k} \rangle \,]

    The second term belongs to relative_key_query. Each query is multiplied with every distance
    once, and the right products are gathered; no (Q, K, D/H) array is made.

    Parameters
    ----------
    query : array (B, H, Q, D/H)
    key : array (B', H, K, D/H), B a multiple of B'
    positions : RelativePositions
    first_key : int
        Index of the first key in the joint sequence.
    key_scale : float
        Factor of the second term; `attention` has already divided the queries by sqrt(D/H).

    Returns
    -------
    array (B, H, Q, K)
        To be added to the scores.

    Notes
    -----
    Source: Shaw et al., arXiv 1803.02155, equation 5 (relative_key); Huang et al.,
    arXiv 2009.13658, section 3, method 4 (relative_key_query).
    """
    xp = array_namespace(query)
    n_query, n_key = query.shape[2], key.shape[2]
    nearest = positions.first_query - first_key - (n_key - 1)  # smallest query - key
    start = (positions.table.shape[0] - 1) // 2 + nearest
    distances = positions.table[start : start + n_query + n_key - 1, :]  # (Q + K - 1, D/H)
    q = xp.expand_dims(arange(0, n_query, like=query), axis=1)
    k = xp.expand_dims(arange(0, n_key, like=query), axis=0)
    row = q - k + (n_key - 1)  # (Q, K): which of the distances
    scores = _gather(xp.matmul(query, xp.matrix_transpose(distances)), row)  # (B, H, Q, K)
    if not positions.with_keys:
        return scores
    of_keys = xp.matmul(key, xp.matrix_transpose(distances * key_scale))  # (B', H, K, Q + K - 1)
    of_keys = xp.matrix_transpose(_gather(of_keys, xp.matrix_transpose(row)))  # (B', H, Q, K)
    return scores + xp.concat([of_keys] * (query.shape[0] // key.shape[0]), axis=0)


def _gather(x: Array, index: Array) -> Array:
    """Pick x[b, h, i, index[i, j]] for all b, h: (B, H, I, R), (I, J) -> (B, H, I, J)."""
    xp = array_namespace(x)
    b, h, _, _ = x.shape
    return xp.take_along_axis(x, xp.broadcast_to(index, (b, h, *index.shape)), axis=-1)
