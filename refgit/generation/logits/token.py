"""Logits processors that favour, forbid or prescribe tokens and sequences of tokens.

Source of all: transformers 4.56.2.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refgit.generation.logits.length import end_tokens
from refgit.generation.logits.scores import Ids, Scores, mask_out, token_mask
from refgit.validation import are_id_lists, are_ids, expect, integer, is_biases


class SequenceBias:
    r"""Make sequences of tokens likelier (bias > 0) or less likely (< 0).

    .. math:: s'_v = s_v + \sum_{(q, b)} b

    over the sequences :math:`q` with bias :math:`b` whose last token is :math:`v` and whose
    others are the last ones of the text.

    Notes
    -----
    As in transformers, a sequence of n > 1 tokens counts only in texts of at least n tokens.
    """

    name = "sequence_bias"

    def __init__(self, sequence_bias: Any) -> None:
        # single tokens first, the order of transformers' sum
        self.biases = dict(sorted(as_biases(sequence_bias).items(), key=lambda x: len(x[0]) > 1))

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Add to the scores (B, V) the biases that apply to the ids (B, T)."""
        check_in_vocabulary(self.name, self.biases, scores.shape[-1])
        total, length = np.zeros_like(scores), input_ids.shape[1]
        for (*before, last), bias in self.biases.items():
            if len(before) < length:
                applies = (input_ids[:, length - len(before) :] == before).all(axis=1)  # (B,)
                total[applies, last] += scores.dtype.type(bias)
        return np.asarray(scores + total)


class NoBadWords(SequenceBias):
    r"""Never write certain tokens or sequences of tokens.

    .. math:: s'_v = -\infty \text{ if } v \text{ would complete one of them}

    Notes
    -----
    A single end token is not masked out. For sequences the note of `SequenceBias` holds.
    """

    name = "bad_words_ids"

    def __init__(
        self, bad_words_ids: Sequence[Sequence[int]], eos_token_id: int | list[int] | None = None
    ) -> None:
        expected = "a list of lists of token ids, none of them empty"
        expect("bad_words_ids", bad_words_ids, are_id_lists(bad_words_ids), expected)
        ends = () if eos_token_id is None else end_tokens(eos_token_id)
        sequences = [tuple(map(int, ids)) for ids in bad_words_ids]
        self.biases = {ids: -np.inf for ids in sequences if not (len(ids) == 1 and ids[0] in ends)}


class SuppressTokens:
    r"""Never write certain tokens.

    .. math:: s'_v = -\infty \text{ if } v \text{ is one of them}

    Ids outside the vocabulary are passed over.
    """

    name = "suppress_tokens"

    def __init__(self, suppress_tokens: Sequence[int]) -> None:
        expect(self.name, suppress_tokens, are_ids(suppress_tokens), "a list of token ids")
        self.tokens = tuple(map(int, suppress_tokens))

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask the tokens out of the scores (B, V)."""
        return mask_out(scores, token_mask(self.tokens, scores.shape[-1]))


class SuppressTokensAtBegin(SuppressTokens):
    r"""Do not begin with certain tokens.

    .. math:: s'_v = -\infty \text{ if } v \text{ is one of them and } T = \text{begin}
    """

    name = "begin_suppress_tokens"

    def __init__(self, begin_suppress_tokens: Sequence[int], begin: int) -> None:
        super().__init__(begin_suppress_tokens)
        self.begin = integer("begin", begin)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask the tokens out of the scores (B, V) where the texts have `begin` tokens."""
        if input_ids.shape[-1] != self.begin:
            return scores
        return super().__call__(input_ids, scores)


AllowedTokens = Callable[[int, Ids], Any]


class PrefixConstrained:
    r"""Write only what a function of the text so far allows.

    .. math:: s'_v = s_v \text{ if } v \in A(i, y_{1..T}) \text{, else } -\infty

    where :math:`i` counts the images and :math:`A` is the caller's function.

    Notes
    -----
    Source: De Cao et al. 2020, "Autoregressive entity retrieval", arXiv 2010.00904, section 3.2.
    """

    def __init__(self, prefix_allowed_tokens_fn: AllowedTokens, num_beams: int) -> None:
        allowed = prefix_allowed_tokens_fn
        expect("prefix_allowed_tokens_fn", allowed, callable(allowed), "a function")
        self.allowed, self.beams = allowed, integer("num_beams", num_beams, 1)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out of the scores (B n, V) what is not allowed after the ids (B n, T)."""
        forbidden = np.ones(scores.shape, bool)
        for row, ids in enumerate(input_ids):
            image = row // self.beams
            found = self._ids(self.allowed(image, ids), image, scores.shape[-1])
            forbidden[row, found] = False
        return mask_out(scores, forbidden)

    @staticmethod
    def _ids(answer: Any, image: int, vocab_size: int) -> Ids:
        """What the function answered, if it is token ids and at least one."""
        try:
            found = np.asarray(answer).reshape(-1)
        except ValueError:  # rows of unequal lengths
            found = np.empty(0)
        fits = found.size and found.dtype.kind in "iu" and 0 <= found.min() <= found.max()
        if not fits or found.max() >= vocab_size:
            raise ValueError(
                f"prefix_allowed_tokens_fn returned {reprlib.repr(answer)} for image {image}; "
                f"expected at least one token id, each from 0 to {vocab_size - 1}."
            )
        return found


def as_biases(sequence_bias: Any) -> dict[tuple[int, ...], float]:
    """Read biases from a mapping of tuples of ids, or from a list of pairs [ids, bias]."""
    expected = "a mapping of tuples of token ids to numbers, or a list of pairs [ids, number]"
    expect("sequence_bias", sequence_bias, is_biases(sequence_bias), expected)
    pairs = sequence_bias.items() if isinstance(sequence_bias, Mapping) else sequence_bias
    return {tuple(map(int, ids)): float(bias) for ids, bias in pairs}


def check_in_vocabulary(name: str, sequences: Any, vocab_size: int) -> None:
    """Refuse token ids (a list of lists) outside the vocabulary."""
    outside = sorted({token for ids in sequences for token in ids if token >= vocab_size})
    if outside:
        raise ValueError(
            f"{name} has the token ids {outside}; expected ids below vocab_size, {vocab_size}."
        )
