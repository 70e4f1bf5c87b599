"""Logits processors that act on all scores at once: guidance, repair, normalisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refgit.generation.logits.scores import Ids, Scores, log_probabilities
from refgit.validation import expect, integer, is_number


class ClassifierFreeGuidance:
    r"""Push the text away from what the model would write without the image.

    .. math:: s'_v = u_v + \gamma (\log p_v - u_v)

    where :math:`u_v` is the log probability without the image (and the prompt but for its last
    token), :math:`\gamma` is `guidance_scale`.

    Notes
    -----
    `unconditional` is called once a step, with ids (B, T - T0 + 1): the last of the T0 tokens of
    the prompt and what was written since. It returns scores (B, V).
    Source: Sanchez et al. 2023, "Stay on topic with classifier-free guidance", arXiv 2306.17806.
    In transformers 4.56.2 the scores without the image do not follow beams that change places;
    here they do.
    """

    def __init__(
        self,
        guidance_scale: float,
        unconditional: Callable[[Ids], Scores],
        prompt_length: int = 1,
    ) -> None:
        expect("guidance_scale", guidance_scale, is_number(guidance_scale), "a number")
        self.scale, self.unconditional = float(guidance_scale), unconditional
        self.start = integer("prompt_length", prompt_length, 1) - 1

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Guide the scores (B, V)."""
        without = log_probabilities(self.unconditional(input_ids[:, self.start :]))
        scale = scores.dtype.type(self.scale)
        with np.errstate(invalid="ignore"):  # tokens that both have masked out give NaN
            return np.asarray(scale * (log_probabilities(scores) - without) + without)


class InfNanRemove:
    r"""Replace what is not a finite number.

    .. math:: s'_v = 0 \text{ for NaN, and the largest or smallest number for } \pm\infty

    Notes
    -----
    Source: transformers 4.56.2, `remove_invalid_values`.
    """

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Make the scores (B, V) finite."""
        limits = np.finfo(scores.dtype)
        numbers = np.nan_to_num(scores, posinf=float(limits.max), neginf=float(limits.min))
        return np.asarray(numbers)


class LogitNormalization:
    r"""Make the scores log probabilities again, after other processors.

    .. math:: s'_v = s_v - \log \sum_w e^{s_w}

    Notes
    -----
    Source: transformers 4.56.2, `renormalize_logits`.
    """

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Normalise the scores (B, V)."""
        return log_probabilities(scores)
