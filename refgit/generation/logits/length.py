r"""Logits processors that decide where a text may, must or tends to begin and end.

End tokens outside the vocabulary cannot be written and are passed over. Source of all: transformers
4.56.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refgit.generation.logits.scores import Ids, Scores, mask_out, token_mask
from refgit.validation import are_ids, expect, integer, is_decay, is_integer


class MinLength:
    r"""No end token before a text has `min_length` tokens, the prompt included.

    .. math:: s'_v = -\infty \text{ if } T < \text{min\_length} \text{ and } v \text{ ends a text}
    """

    def __init__(self, min_length: int, eos_token_id: int | list[int]) -> None:
        self.min_length, self.ends = integer("min_length", min_length), end_tokens(eos_token_id)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask the end tokens out of the scores (B, V) while the texts are too short."""
        if input_ids.shape[-1] >= self.min_length:
            return scores
        return mask_out(scores, token_mask(self.ends, scores.shape[-1]))


class MinNewTokens(MinLength):
    r"""No end token before `min_new_tokens` tokens follow the prompt.

    .. math:: s'_v = -\infty \text{ if } T - T_0 < \text{min\_new\_tokens}
              \text{ and } v \text{ ends a text}

    where :math:`T_0` is the length of the prompt.
    """

    def __init__(
        self, prompt_length: int, min_new_tokens: int, eos_token_id: int | list[int]
    ) -> None:
        start = integer("prompt_length", prompt_length)
        super().__init__(start + integer("min_new_tokens", min_new_tokens), eos_token_id)


class ForcedBos:
    r"""After an opening token and nothing else, write `forced_bos_token_id`.

    .. math:: s'_v = 0 \text{ for that token and } -\infty \text{ for all others, if } T = 1
    """

    def __init__(self, forced_bos_token_id: int) -> None:
        name, token = "forced_bos_token_id", forced_bos_token_id
        expect(name, token, is_integer(token), "a token id")
        self.token = int(token)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Leave one token of the scores (B, V) in the first step."""
        return _only(scores, self.token) if input_ids.shape[-1] == 1 else scores


class ForcedEos:
    r"""As the last token that `max_length` leaves room for, write `forced_eos_token_id`.

    .. math:: s'_v = 0 \text{ for that token and } -\infty \text{ for all others, if }
              T = \text{max\_length} - 1
    """

    def __init__(self, max_length: int, forced_eos_token_id: int | list[int]) -> None:
        self.max_length = integer("max_length", max_length, 1)
        self.ends = end_tokens(forced_eos_token_id, "forced_eos_token_id")

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Leave the end tokens of the scores (B, V) in the last step."""
        return _only(scores, self.ends) if input_ids.shape[-1] == self.max_length - 1 else scores


class ExponentialDecayLengthPenalty:
    r"""Make the end ever likelier once a text has `start` new tokens.

    .. math:: s'_e = s_e + |s_e| (f^{\,T - T_0 - \text{start}} - 1)
              \text{ if } T > T_0 + \text{start}

    for each end token :math:`e`; :math:`f` is the factor, :math:`T_0` the length of the prompt.

    Notes
    -----
    An end token that was masked out (by `MinLength`) stays so; in transformers it becomes NaN.
    """

    def __init__(
        self,
        exponential_decay_length_penalty: Sequence[Any],
        eos_token_id: int | list[int],
        prompt_length: int,
    ) -> None:
        name, pair = "exponential_decay_length_penalty", exponential_decay_length_penalty
        expect(name, pair, is_decay(pair), "(start, factor): an integer and a number above 0")
        self.start = int(pair[0]) + integer("prompt_length", prompt_length)
        self.factor = float(pair[1])
        self.ends = end_tokens(eos_token_id)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Raise the scores (B, V) of the end tokens in texts that are long enough."""
        steps = input_ids.shape[-1] - self.start
        if steps <= 0:
            return scores
        ends = token_mask(self.ends, scores.shape[-1])
        with np.errstate(over="ignore", invalid="ignore"):
            factor = scores.dtype.type(np.float64(self.factor) ** steps - 1)
            raised = scores + np.abs(scores) * factor
        return np.where(ends & np.isfinite(scores), raised, scores)


def end_tokens(value: int | list[int], name: str = "eos_token_id") -> tuple[int, ...]:
    """Return one or several end tokens as a tuple."""
    several = value if isinstance(value, list | tuple) else [value]
    expect(name, value, are_ids(several, 1), "a token id or a list of them")
    return tuple(map(int, several))


def _only(scores: Scores, tokens: int | tuple[int, ...]) -> Scores:
    """Scores (B, V) that leave only some tokens possible, each as much as the other."""
    return mask_out(np.zeros_like(scores), ~token_mask(tokens, scores.shape[-1]))
