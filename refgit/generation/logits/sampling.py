r"""Warpers: the logits processors that change the distribution that sampling draws from.

The truncating ones give the tokens they mask out the score :math:`-\infty`; the
`min_tokens_to_keep` likeliest always stay. Where tokens tie at the edge of a set that is built
token by token (`TopP`, `MinP`), those of lower id are masked out first, or kept first,
respectively; transformers leaves that to the machine's sort.
"""

from __future__ import annotations

import numpy as np

from refgit.generation.logits.scores import (
    Ids,
    Mask,
    Scores,
    kth_highest,
    log_probabilities,
    mask_out,
    probabilities,
)
from refgit.validation import expect, integer, is_number, is_share

# What scores are divided by: by less than this they would be infinite in float32.
COLDEST = 1e-30


class Temperature:
    r"""Sharpen (t < 1) or flatten (t > 1) the distribution.

    .. math:: s'_v = s_v / t

    Notes
    -----
    Source: Ackley, Hinton, Sejnowski 1985, "A learning algorithm for Boltzmann machines".
    """

    def __init__(self, temperature: float) -> None:
        expected = f"at least {COLDEST} (for the likeliest token at each step: do_sample=False)"
        expect("temperature", temperature, is_number(temperature, COLDEST), expected)
        self.temperature = float(temperature)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Divide the scores (B, V) by the temperature."""
        with np.errstate(over="ignore"):  # of scores that InfNanRemove made finite
            return np.asarray(scores / scores.dtype.type(self.temperature))


class TopK:
    r"""Keep the k likeliest tokens, and those that tie with the last of them.

    .. math:: s'_v = s_v \text{ if } s_v \ge s_{(k)} \text{, else } -\infty

    where :math:`s_{(k)}` is the k-th highest score.

    Notes
    -----
    Source: Fan, Lewis, Dauphin 2018, "Hierarchical neural story generation", arXiv 1805.04833.
    """

    def __init__(self, top_k: int, min_tokens_to_keep: int = 1) -> None:
        self.top_k = max(integer("top_k", top_k, 1), _kept(min_tokens_to_keep))

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out all but the k highest scores (B, V)."""
        return mask_out(scores, scores < kth_highest(scores, self.top_k))


class TopP:
    r"""Nucleus sampling: keep the fewest likeliest tokens that have probability `top_p` together.

    .. math::

        s'_v = -\infty \text{ if } \sum_{w : s_w \le s_v} p_w \le 1 - \text{top\_p}
        \text{, else } s_v

    Notes
    -----
    Source: Holtzman et al. 2019, "The curious case of neural text degeneration", arXiv 1904.09751.
    """

    def __init__(self, top_p: float, min_tokens_to_keep: int = 1) -> None:
        expect("top_p", top_p, is_number(top_p, 0, 1), "a number from 0 to 1")
        self.top_p, self.kept = float(top_p), _kept(min_tokens_to_keep)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out the tail of the scores (B, V)."""
        ascending = np.sort(scores, axis=-1)
        # summed in float64, as the sum runs over the vocabulary
        below = np.cumsum(probabilities(ascending), axis=-1, dtype=np.float64)
        out = (below.astype(scores.dtype) <= 1 - self.top_p).sum(axis=-1)  # (B,)
        out = np.minimum(out, scores.shape[-1] - self.kept).clip(0)
        return mask_out(scores, _lowest(scores, ascending, out))


class MinP:
    r"""Keep the tokens that are at least `min_p` times as likely as the likeliest.

    .. math:: s'_v = s_v \text{ if } p_v \ge \text{min\_p} \max_w p_w \text{, else } -\infty

    Notes
    -----
    Source: Nguyen et al. 2024, "Turning up the heat: min-p sampling", arXiv 2407.01082.
    """

    def __init__(self, min_p: float, min_tokens_to_keep: int = 1) -> None:
        expect("min_p", min_p, is_number(min_p, 0, 1), "a number from 0 to 1")
        self.min_p, self.kept = float(min_p), _kept(min_tokens_to_keep)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out what is unlikely beside the likeliest token; scores (B, V)."""
        p = probabilities(scores)
        unlikely = p < scores.dtype.type(self.min_p) * p.max(axis=-1, keepdims=True)
        ascending = np.sort(-scores, axis=-1)
        count = np.full(len(scores), min(self.kept, scores.shape[-1]))
        return mask_out(scores, unlikely & ~_lowest(-scores, ascending, count))


class Typical:
    r"""Keep the tokens whose surprise is nearest the expected one, up to probability `typical_p`.

    .. math:: d_v = |-\log p_v - H|, \qquad H = -\sum_w p_w \log p_w

    Tokens are taken in the order of :math:`d` until their probabilities sum to `typical_p`; all
    with a larger :math:`d` than the last one taken are masked out.

    Notes
    -----
    Source: Meister et al. 2022, "Locally typical sampling", arXiv 2202.00666.
    """

    def __init__(self, typical_p: float, min_tokens_to_keep: int = 1) -> None:
        self.typical_p = _share("typical_p", typical_p)
        self.kept = _kept(min_tokens_to_keep)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out what surprises too much or too little; scores (B, V)."""
        log_p = log_probabilities(scores)
        with np.errstate(invalid="ignore"):  # tokens masked out before have 0 times infinity
            entropy = -np.nansum(log_p * np.exp(log_p), axis=-1, keepdims=True)
            distance = np.abs(-log_p - entropy)
        order = np.argsort(distance, axis=-1, kind="stable")
        nearest = np.take_along_axis(scores, order, axis=-1)
        mass = np.cumsum(probabilities(nearest), axis=-1, dtype=np.float64).astype(scores.dtype)
        last = (mass < self.typical_p).sum(axis=-1, keepdims=True)  # (B, 1)
        last = np.minimum(last, scores.shape[-1] - 1)
        limit = np.take_along_axis(distance, np.take_along_axis(order, last, -1), axis=-1)
        out = distance > limit
        np.put_along_axis(out, order[:, : self.kept], False, axis=-1)
        return mask_out(scores, out)


class EpsilonCutoff:
    r"""Keep the tokens with at least probability `epsilon_cutoff`.

    .. math:: s'_v = s_v \text{ if } p_v \ge \epsilon \text{, else } -\infty

    Notes
    -----
    Source: Hewitt, Manning, Liang 2022, "Truncation sampling as language model desmoothing",
    arXiv 2210.15191.
    """

    def __init__(self, epsilon_cutoff: float, min_tokens_to_keep: int = 1) -> None:
        self.epsilon = _share("epsilon_cutoff", epsilon_cutoff)
        self.kept = _kept(min_tokens_to_keep)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out what is less likely than epsilon; scores (B, V)."""
        unlikely = probabilities(scores) < self.epsilon
        return mask_out(scores, unlikely & (scores < kth_highest(scores, self.kept)))


class EtaCutoff:
    r"""Keep the tokens with at least a probability that falls with the entropy :math:`H`.

    .. math::

        s'_v = s_v \text{ if } p_v \ge \min(\epsilon, \sqrt{\epsilon} \, e^{-H})
        \text{, else } -\infty

    Notes
    -----
    Source: as of `EpsilonCutoff`, arXiv 2210.15191.
    """

    def __init__(self, eta_cutoff: float, min_tokens_to_keep: int = 1) -> None:
        self.epsilon, self.kept = _share("eta_cutoff", eta_cutoff), _kept(min_tokens_to_keep)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out what is less likely than the entropy lets expect; scores (B, V)."""
        epsilon, log_p = scores.dtype.type(self.epsilon), log_probabilities(scores)
        p = np.exp(log_p)
        finite = np.maximum(log_p, np.finfo(scores.dtype).min)  # 0 times this is 0
        entropy = -(p * finite).sum(axis=-1, keepdims=True)  # (B, 1)
        eta = np.minimum(epsilon, np.sqrt(epsilon) * np.exp(-entropy))
        unlikely = probabilities(scores) < eta
        return mask_out(scores, unlikely & (scores < kth_highest(scores, self.kept)))


def _kept(count: int) -> int:
    return integer("min_tokens_to_keep", count, 1)


def _share(name: str, value: float) -> float:
    expect(name, value, is_share(value), "a number above 0 and below 1")
    return float(value)


def _lowest(scores: Scores, ascending: Scores, count: Ids) -> Mask:
    """Mark each row's `count` lowest scores, among equal ones those of lower id.

    `scores` and `ascending` (the same, sorted) are (B, V), `count` is (B,), below V.
    Sorting values and settling ties costs a fraction of sorting indices.
    """
    size = scores.shape[-1]
    edge = np.take_along_axis(ascending, np.minimum(count, size - 1)[:, None], axis=-1)  # (B, 1)
    below, tied = scores < edge, scores == edge
    missing = count[:, None] - below.sum(axis=-1, keepdims=True)
    return np.where(count[:, None] >= size, True, below | (tied & (tied.cumsum(-1) <= missing)))
