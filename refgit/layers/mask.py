"""Attention mask: what lets one transformer read an image and write a text.

Image tokens attend to all image tokens; text tokens to the image and the text up to themselves
(paper, section 3.1 and figure 3). Over the joint sequence of N image tokens and then text:

             keys:  image   text
    image queries   1 1 1   0 0 0
                    1 1 1   0 0 0
                    1 1 1   0 0 0
    text queries    1 1 1   1 0 0
                    1 1 1   1 1 0
                    1 1 1   1 1 1
"""

from __future__ import annotations

import math

from refgit.layers._array_api import Array, arange, array_namespace, filled


def image_text_mask(n_image: int, n_keys: int, *, first_query: int = 0, like: Array) -> Array:
    r"""Say which keys each query may attend to.

    .. math:: \text{allowed}(q, k) = (k < N) \lor (k \le q)

    Both indices count over the joint sequence: the image first, then the text.

    Parameters
    ----------
    n_image : int
        N, the number of image tokens.
    n_keys : int
        K = N + T, the length of the joint sequence so far.
    first_query : int
        Index of the first query: 0 for the whole sequence, with a cache the number of tokens in
        it.
    like : array
        Gives the device.

    Returns
    -------
    array (K - first_query, K), bool

    Notes
    -----
    Source: GIT paper, section 3.1, figure 3.
    """
    xp = array_namespace(like)
    q = xp.expand_dims(arange(first_query, n_keys, like=like), axis=1)  # (Q, 1)
    k = xp.expand_dims(arange(0, n_keys, like=like), axis=0)  # (1, K)
    return (k < n_image) | (k <= q)


def attention_bias(allowed: Array, text_mask: Array | None, *, like: Array) -> Array:
    r"""Turn masks into what is added to the attention scores.

    .. math:: b_{q,k} = \begin{cases} 0 & \text{allowed}(q, k) \\ -\infty & \text{else} \end{cases}
              \; + \; \begin{cases} 0 & k \text{ is not padding} \\ -M & \text{else} \end{cases}

    where M is half the largest number of the dtype: finite, so that a padding token with only
    padding before it still gets numbers, as in transformers; half, so that float16 has room for the
    score it is added to.

    Parameters
    ----------
    allowed : array (Q, K), bool
        From `image_text_mask`.
    text_mask : array (B, T), or None
        1 (or True) for text tokens, 0 for padding; the last T of the K keys.
    like : array
        Gives the dtype and the device.

    Returns
    -------
    array (1 or B, 1, Q, K), dtype of `like`

    Notes
    -----
    Source: Vaswani et al., arXiv 1706.03762, section 3.2.3.
    """
    xp = array_namespace(like)
    zero = xp.zeros_like(allowed, dtype=like.dtype)
    bias = xp.where(allowed, zero, zero - math.inf)[None, None, :, :]
    if text_mask is None:
        return bias
    b, t = text_mask.shape
    n_image = allowed.shape[1] - t
    padding = xp.astype(xp.astype(text_mask, xp.bool), like.dtype) - 1.0  # 0 or -1
    padding = padding * (0.5 * float(xp.finfo(like.dtype).max))  # (B, T)
    image = filled((b, n_image), 0, like=padding)
    return bias + xp.concat([image, padding], axis=1)[:, None, None, :]
