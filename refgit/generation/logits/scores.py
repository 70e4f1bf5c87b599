"""Scores of the next token as every step of generation has them: float arrays (B, V) on the host.

What the logits processors share: probabilities of scores, and masking tokens out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit.layers.softmax import softmax

Ids = np.ndarray[Any, np.dtype[np.int64]]  # (B, T)
Scores = np.ndarray[Any, np.dtype[np.floating[Any]]]  # (B, V)
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def probabilities(scores: Scores) -> Scores:
    r"""Turn scores into probabilities, :math:`p_v = e^{s_v} / \sum_w e^{s_w}`: (B, V) -> (B, V)."""
    with np.errstate(invalid="ignore"):  # a row without a finite score gives NaN, not a warning
        return np.asarray(softmax(scores))


def log_probabilities(scores: Scores) -> Scores:
    r"""Turn scores into log probabilities, :math:`s_v - \log \sum_w e^{s_w}`: (B, V) -> (B, V)."""
    with np.errstate(invalid="ignore"):
        shifted = scores - scores.max(axis=-1, keepdims=True)
        total = np.exp(shifted).sum(axis=-1, keepdims=True)
        return np.asarray(shifted - np.log(total), scores.dtype)


def mask_out(scores: Scores, mask: Mask) -> Scores:
    """Give the masked tokens probability 0, in a copy of the scores; masks (B, V) or (V,)."""
    return np.where(mask, scores.dtype.type(-np.inf), scores)


def token_mask(token_ids: Any, vocab_size: int) -> Mask:
    """Say which tokens of a vocabulary are among the ids, (V,); ids outside it are passed over."""
    mask = np.zeros(vocab_size, bool)
    ids = np.asarray(token_ids, np.int64).reshape(-1)
    mask[ids[(ids >= 0) & (ids < vocab_size)]] = True
    return mask


def kth_highest(scores: Scores, count: int) -> Scores:
    """Find each row's `count`-th highest score: (B, V) -> (B, 1)."""
    place = scores.shape[-1] - min(count, scores.shape[-1])
    return np.partition(scores, place, axis=-1)[:, place, None]
