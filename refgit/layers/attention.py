"""Multi-head attention: the only place where tokens exchange information.

Keys and values come in *segments* along the token axis. Without a cache there is one. With a
cache there are two, the image's and the text's, so that the image's keys and values are stored once
however many texts attend to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from refgit.layers._array_api import Array, array_namespace
from refgit.layers._operations import DEFINITIONS, Operations, layer
from refgit.layers.linear import linear
from refgit.layers.position import RelativePositions, relative_scores
from refgit.layers.softmax import softmax

# Takes the new keys and values, returns all segments to attend to.
PastKeysValues: TypeAlias = Callable[[Array, Array], tuple[Sequence[Array], Sequence[Array]]]


def split_heads(x: Array, num_heads: int) -> Array:
    r"""Split the width into heads: (B, L, D) -> (B, H, L, D/H).

    .. math:: y_{b,h,l,i} = x_{b,l,\,h D/H + i}

    Parameters
    ----------
    x : array (B, L, D)
    num_heads : int
        H, a divisor of D.

    Returns
    -------
    array (B, H, L, D/H)

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, section 3.2.2. One map to D channels is
    their H maps to D/H channels each; head h has the h-th run of D/H channels.
    """
    xp = array_namespace(x)
    b, length, d = x.shape
    return xp.permute_dims(xp.reshape(x, (b, length, num_heads, d // num_heads)), (0, 2, 1, 3))


def merge_heads(x: Array) -> Array:
    r"""Merge the heads again; the inverse of `split_heads`.

    .. math:: y_{b,l,\,h D/H + i} = x_{b,h,l,i}

    Parameters
    ----------
    x : array (B, H, L, D/H)

    Returns
    -------
    array (B, L, D)

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, section 3.2.2, "Concat".
    """
    xp = array_namespace(x)
    b, heads, length, d = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (b, length, heads * d))


def attention_scores(query: Array, key: Array) -> Array:
    r"""Dot products of queries and keys; several texts may share an image's keys.

    .. math:: s_{b,h,q,k} = \langle \text{query}_{b,h,q}, \text{key}_{b \bmod B',h,k} \rangle

    Parameters
    ----------
    query : array (B, H, Q, D/H)
    key : array (B', H, K, D/H), B a multiple of B'

    Returns
    -------
    array (B, H, Q, K)

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, equation 1. Texts b, b + B', b + 2 B' ... belong
    to image b mod B', the order in which transformers tiles.
    """
    xp = array_namespace(query)
    b, h, q, d = query.shape
    shared, _, k, _ = key.shape
    grouped = xp.reshape(query, (b // shared, shared, h, q, d))
    scores = xp.matmul(grouped, xp.matrix_transpose(key))  # -> (B/B', B', H, Q, K)
    return xp.reshape(scores, (b, h, q, k))


def weighted_values(probabilities: Array, value: Array) -> Array:
    r"""Average the values with the probabilities as weights; see `attention_scores`.

    .. math:: c_{b,h,q} = \sum_k p_{b,h,q,k} \, \text{value}_{b \bmod B',h,k}

    Parameters
    ----------
    probabilities : array (B, H, Q, K)
    value : array (B', H, K, D/H), B a multiple of B'

    Returns
    -------
    array (B, H, Q, D/H)

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, equation 1.
    """
    xp = array_namespace(probabilities)
    b, h, q, k = probabilities.shape
    shared, _, _, d = value.shape
    grouped = xp.reshape(probabilities, (b // shared, shared, h, q, k))
    return xp.reshape(xp.matmul(grouped, value), (b, h, q, d))


@layer
def attention(
    query: Array,
    keys: Sequence[Array],
    values: Sequence[Array],
    bias: Array | None = None,
    *,
    relative: RelativePositions | None = None,
    head_mask: Array | None = None,
    keep_probabilities: bool = True,
    ops: Operations = DEFINITIONS,
) -> tuple[Array, Array | None]:
    r"""Scaled dot-product attention over keys and values that come in segments.

    .. math:: p = m \operatorname{softmax}\!\left(\frac{Q K^\top + r}{\sqrt{D/H}} + b\right),
              \qquad c = p V

    Parameters
    ----------
    query : array (B, H, Q, D/H)
    keys, values : sequences of arrays (B', H, K_i, D/H)
        Segments along the token axis, K = K_1 + K_2 + ...; B' divides B.
    bias : array (1 or B, 1, Q, K), optional
        b: 0 where a query may attend to a key, very negative elsewhere: see
        `mask.attention_bias`.
    relative : RelativePositions, optional
        Gives r: see `position.relative_scores`.
    head_mask : array (H,), optional
        m: 1 for heads to keep, 0 for heads to mask out.
    keep_probabilities : bool
        Whether to return the probabilities; a kernel need not compute all of them otherwise.
    ops : Operations
        Which version of each operation runs.

    Returns
    -------
    context : array (B, H, Q, D/H)
    probabilities : array (B, H, Q, K), or None unless `keep_probabilities`

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, equation 1.
    """
    xp = array_namespace(query)
    scale = 1.0 / math.sqrt(query.shape[-1])
    query = query * scale  # before the product, which might not fit into float16
    scores, first_key = [], 0
    for key in keys:
        part = attention_scores(query, key)
        if relative is not None:
            part = part + relative_scores(
                query, key, relative, first_key=first_key, key_scale=scale
            )
        scores.append(part)
        first_key += key.shape[2]
    joint = scores[0] if len(scores) == 1 else xp.concat(scores, axis=-1)  # (B, H, Q, K)
    joint = ops.hook("scores", joint)
    if bias is not None:
        joint = joint + bias
    probabilities = ops.run(softmax, joint)
    if head_mask is not None:
        probabilities = probabilities * head_mask[None, :, None, None]
    probabilities = ops.hook("probabilities", probabilities)
    context, start = None, 0
    for value in values:
        stop = start + value.shape[2]
        part = weighted_values(probabilities[..., start:stop], value)
        context = part if context is None else context + part
        start = stop
    return context, probabilities if keep_probabilities else None


@layer
def project_heads(
    x: Array,
    p: Mapping[str, Any],
    names: Sequence[str],
    *,
    num_heads: int,
    ops: Operations = DEFINITIONS,
) -> tuple[Array, ...]:
    r"""Map tokens to queries, keys or values, and split them into heads.

    .. math:: Q = x W_Q^\top + b_Q, \qquad K = x W_K^\top + b_K, \qquad V = x W_V^\top + b_V

    `names` says which: of image tokens the last decoder layer needs only keys and values.

    Parameters
    ----------
    x : array (B, L, D)
    p : mapping
        Holds a ``weight`` (D, D) and a ``bias`` (D,) for each of `names`; rows of pruned heads
        are missing, (D', D) and (D',).
    names : sequence of str
        Names of the maps in the checkpoint.
    num_heads : int
        H.
    ops : Operations
        Which version of each operation runs.

    Returns
    -------
    tuple of arrays (B, H, L, D/H)
        One for each of `names`.

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, section 3.2.2.
    """
    return tuple(
        split_heads(ops.hook(name, ops.run(linear, x, **p[name])), num_heads)
        for name in names  # each (B, L, D) -> (B, H, L, D/H)
    )


def multi_head_attention(
    x: Array,
    p: Mapping[str, Any],
    names: tuple[str, str, str],
    bias: Array | None = None,
    *,
    num_heads: int,
    past: PastKeysValues | None = None,
    relative: RelativePositions | None = None,
    head_mask: Array | None = None,
    keep_probabilities: bool = True,
    ops: Operations = DEFINITIONS,
) -> tuple[Array, Array | None]:
    r"""Attend in H heads, each on its own D/H channels.

    .. math:: Q = x W_Q^\top + b_Q, \quad K = x W_K^\top + b_K, \quad V = x W_V^\top + b_V

    (`project_heads`), then `attention` in each head, then `merge_heads`. The output projection
    follows in the block.

    Parameters
    ----------
    x : array (B, Q, D)
        The new tokens.
    p : mapping
        Holds a ``weight`` (D, D) and a ``bias`` (D,) for each of `names`; rows of pruned heads
        are missing, (D', D) and (D',).
    names : three str
        Names of the maps to queries, keys and values in the checkpoint.
    bias : array (1 or B, 1, Q, K), optional
        See `mask.attention_bias`.
    num_heads : int
        H.
    past : callable, optional
        Takes the new keys and values, both (B, H, Q, D/H), and returns all the segments to
        attend to: the cache. Without it the new tokens attend only to themselves.
    relative, head_mask, keep_probabilities
        See `attention`.
    ops : Operations
        Which version of each operation runs.

    Returns
    -------
    context : array (B, Q, D)
    probabilities : array (B, H, Q, K), or None unless `keep_probabilities`

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, section 3.2.2.
    """
    q, k, v = ops.run(project_heads, x, p, names, num_heads=num_heads)  # each (B, H, Q, D/H)
    keys, values = ([k], [v]) if past is None else past(k, v)
    context, probabilities = ops.run(
        attention,
        q,
        keys,
        values,
        bias,
        relative=relative,
        head_mask=head_mask,
        keep_probabilities=keep_probabilities,
    )
    context = ops.hook("context", merge_heads(context))  # (B, H, Q, D/H) -> (B, Q, D)
    return context, probabilities
