"""Language-modelling loss: how far the logits are from the tokens that follow."""

from __future__ import annotations

import math

from refgit.layers._array_api import Array, arange, array_namespace, at_least_float32

IGNORED_LABEL = -100


def language_model_loss(logits: Array, labels: Array, *, n_image: int) -> Array:
    r"""Mean cross-entropy of the next token, over the text positions that have a label.

    .. math:: \ell = -\frac{1}{|S|} \sum_{(b,t) \in S}
              \log \operatorname{softmax}(\text{logits}_{b,N+t-1})_{y_{b,t}}, \qquad
              S = \{(b, t) : t \ge 1, \; y_{b,t} \ne -100\}

    Parameters
    ----------
    logits : array (B, N + T, V)
    labels : array (B, T), integer
        Token ids; -100 is ignored. The first label of each sequence is ignored too, since no text
        token precedes it.
    n_image : int
        N, the number of image tokens, which come before the text.

    Returns
    -------
    array (), at least float32
        NaN where all labels are ignored.

    Notes
    -----
    Source: GIT paper, equation 1 (its label smoothing of 0.1 belongs to training).
    """
    xp = array_namespace(logits)
    scores = at_least_float32(logits[:, n_image:-1, :])  # (B, T - 1, V)
    targets = labels[:, 1:]  # (B, T - 1)
    counts = targets != IGNORED_LABEL
    top = xp.max(scores, axis=-1, keepdims=True)
    total = xp.log(xp.sum(xp.exp(scores - top), axis=-1)) + top[..., 0]  # log of the denominator
    tokens = arange(0, scores.shape[-1], like=labels)
    is_target = xp.expand_dims(targets, axis=-1) == tokens  # (B, T - 1, V), one True each
    chosen = xp.sum(xp.where(is_target, scores, xp.zeros_like(scores)), axis=-1)
    losses = xp.where(counts, total - chosen, xp.zeros_like(total))
    number = xp.sum(xp.astype(counts, losses.dtype))
    return xp.sum(losses) / xp.where(number > 0, number, number + math.nan)  # no 0 / 0
