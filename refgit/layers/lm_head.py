"""From hidden states to words, and the loss that taught them: the exit of the text decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from refgit.layers._array_api import Array, arange, array_namespace, at_least_float32
from refgit.layers._operations import DEFINITIONS, Operations
from refgit.layers.linear import linear

IGNORED_LABEL = -100


def lm_head(x: Array, p: Mapping[str, Any], *, ops: Operations = DEFINITIONS) -> Array:
    r"""Score every word of the vocabulary; the scores are called logits.

    .. math:: \text{logits} = x W^\top + b

    Parameters
    ----------
    x : array (B, L, D)
    p : mapping
        ``weight`` (V, D) and ``bias`` (V,).
    ops : Operations
        Which linear runs.

    Returns
    -------
    array (B, L, V)
        The score at token t is about token t + 1.

    Notes
    -----
    Source: GIT paper, section 3.1.
    """
    return ops.run(linear, x, **p)


def language_model_loss(logits: Array, labels: Array, *, n_image: int) -> Array:
    r"""Mean cross-entropy of the next word, over the text positions that carry a label.

    .. math:: \ell = -\frac{1}{|S|} \sum_{(b,t) \in S}
              \log \operatorname{softmax}(\text{logits}_{b,N+t-1})_{y_{b,t}}, \qquad
              S = \{(b, t) : t \ge 1, \; y_{b,t} \ne -100\}

    Parameters
    ----------
    logits : array (B, N + T, V)
    labels : array (B, T), integer
        Word ids; -100 marks what does not count. The first label of each row never counts, since
        no text token stands before it.
    n_image : int
        N, the image tokens in front of the text.

    Returns
    -------
    array (), at least float32
        NaN where no label counts.

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
    words = arange(0, scores.shape[-1], like=labels)
    is_target = xp.expand_dims(targets, axis=-1) == words  # (B, T - 1, V), one True a row at most
    chosen = xp.sum(xp.where(is_target, scores, xp.zeros_like(scores)), axis=-1)
    losses = xp.where(counts, total - chosen, xp.zeros_like(total))
    number = xp.sum(xp.astype(counts, losses.dtype))
    return xp.sum(losses) / xp.where(number > 0, number, number + math.nan)  # no 0 / 0
