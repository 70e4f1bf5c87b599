"""Logits processors that keep a text from repeating itself, its prompt or its other beams."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from refgit.generation.logits.scores import Ids, Mask, Scores, mask_out
from refgit.validation import expect, integer, is_integer, is_positive

_ABOVE_ZERO = "a number above 0"


class NoImmediateRepeat:
    r"""Write no token twice in a row.

    .. math:: s'_v = -10000 \text{ if } v = y_T \text{ and } T > T_0

    where :math:`T_0` is `prompt_length`: the first token may repeat the end of the prompt.

    Notes
    -----
    Source: microsoft/GenerativeImage2Text, generativeimage2text/layers/decoder.py,
    `AutoRegressiveBeamSearch`, which does so in every step but the first; transformers does not.
    """

    SCORE = -10000.0

    def __init__(self, prompt_length: int = 0) -> None:
        self.prompt_length = integer("prompt_length", prompt_length)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Put the score of each text's last token, if written, far below all others of (B, V)."""
        if input_ids.shape[1] <= self.prompt_length:
            return scores
        scores = scores.copy()
        np.put_along_axis(scores, input_ids[:, -1:], scores.dtype.type(self.SCORE), axis=1)
        return scores


class RepetitionPenalty:
    r"""Make tokens likelier (penalty < 1) or less likely (> 1) that the text has already.

    .. math:: s'_v = s_v \theta \text{ if } s_v < 0 \text{, else } s_v / \theta

    for each token :math:`v` of the text, prompt included; :math:`\theta` is the penalty.

    Notes
    -----
    Source: Keskar et al. 2019, "CTRL", arXiv 1909.05858, section 4.1; for negative scores
    transformers 4.56.2.
    """

    def __init__(self, repetition_penalty: float) -> None:
        penalty = repetition_penalty
        expect("repetition_penalty", penalty, is_positive(penalty), _ABOVE_ZERO)
        self.penalty = float(penalty)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Scale the scores (B, V) of the tokens in the ids (B, T)."""
        return _scaled(scores, input_ids, self.penalty)


class PromptRepetitionPenalty:
    r"""Make the tokens of the prompt likelier (penalty > 1) or less likely (< 1).

    .. math:: s'_v = s_v / \theta \text{ if } s_v < 0 \text{, else } s_v \theta

    for each token :math:`v` of the prompt; :math:`\theta` is `encoder_repetition_penalty`.

    Notes
    -----
    Source: transformers 4.56.2, where it applies to the prompt of a decoder without an encoder.
    There only the first B rows are scaled where there are several beams of B prompts; here all.
    """

    def __init__(self, encoder_repetition_penalty: float, prompt_ids: Ids) -> None:
        penalty = encoder_repetition_penalty
        expect("encoder_repetition_penalty", penalty, is_positive(penalty), _ABOVE_ZERO)
        self.penalty, self.prompt_ids = 1 / float(penalty), prompt_ids

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Scale the scores (B n, V) of the tokens of the prompts (B, T0)."""
        return _scaled(scores, _per_row(self.prompt_ids, scores), self.penalty)


class NoRepeatNGram:
    r"""Write no n tokens in a row that the text has already.

    .. math:: s'_v = -\infty \text{ if } (y_{T-n+2}, \dots, y_T, v) = (y_i, \dots, y_{i+n-1})
              \text{ for some } i

    Notes
    -----
    Source: Paulus, Xiong, Socher 2017, "A deep reinforced model for abstractive summarization",
    arXiv 1705.04304, section 2.5 (there for n = 3).
    """

    def __init__(self, no_repeat_ngram_size: int) -> None:
        self.size = integer("no_repeat_ngram_size", no_repeat_ngram_size, 1)

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out of the scores (B, V) what would complete an n-gram of the ids (B, T)."""
        return mask_out(scores, _completions(input_ids, input_ids, self.size, scores))


class PromptNoRepeatNGram:
    r"""Write no n tokens in a row that the prompt, :math:`x`, has.

    .. math:: s'_v = -\infty \text{ if } (y_{T-n+2}, \dots, y_T, v) = (x_i, \dots, x_{i+n-1})
              \text{ for some } i

    Notes
    -----
    Source: transformers 4.56.2, `encoder_no_repeat_ngram_size`.
    """

    def __init__(self, encoder_no_repeat_ngram_size: int, prompt_ids: Ids) -> None:
        self.size = integer("encoder_no_repeat_ngram_size", encoder_no_repeat_ngram_size, 1)
        self.prompt_ids = prompt_ids

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Mask out of the scores (B n, V) what would complete an n-gram of the prompts."""
        source = _per_row(self.prompt_ids, scores)
        return mask_out(scores, _completions(source, input_ids, self.size, scores))


class HammingDiversity:
    r"""Make what the earlier groups of beams chose in this step less likely.

    .. math:: s'_v = s_v - \lambda \, n_v

    where :math:`n_v` counts the beams of earlier groups, of the same image, that chose :math:`v`.

    Notes
    -----
    Source: Vijayakumar et al. 2016, "Diverse beam search", arXiv 1610.02424, section 3.
    """

    def __init__(self, diversity_penalty: float, num_beams: int, num_beam_groups: int) -> None:
        penalty, beams, groups = diversity_penalty, num_beams, num_beam_groups
        expect("diversity_penalty", penalty, is_positive(penalty), _ABOVE_ZERO)
        expect("num_beams", beams, is_integer(beams, 2), "an integer of at least 2")
        fits = is_integer(groups, 2) and groups <= beams
        expect("num_beam_groups", groups, fits, f"an integer from 2 to num_beams, {beams}")
        self.penalty, self.beams, self.group_size = float(penalty), int(beams), beams // groups

    def __call__(
        self, input_ids: Ids, scores: Scores, current_tokens: Ids, beam_group_idx: int
    ) -> Scores:
        """Lower the scores (B n, V) of one group of n beams.

        `current_tokens` (B num_beams,) are the tokens of this step, chosen for the groups before
        `beam_group_idx`.
        """
        first = beam_group_idx * self.group_size
        if first == 0:
            return scores
        batch = len(current_tokens) // self.beams
        chosen = current_tokens.reshape(batch, self.beams)[:, :first]  # (B, first)
        counts = np.zeros((batch, scores.shape[-1]), scores.dtype)
        np.add.at(counts, (np.arange(batch)[:, None], chosen), 1)
        size = min(self.group_size, self.beams - first)
        lowered = scores - scores.dtype.type(self.penalty) * np.repeat(counts, size, axis=0)
        return np.asarray(lowered)


def _scaled(scores: Scores, ids: Ids, penalty: float) -> Scores:
    """Divide the scores (B, V) of the tokens in ids (B, T) by a penalty, multiply negative ones."""
    found = np.take_along_axis(scores, ids, axis=1)  # (B, T)
    factor = scores.dtype.type(penalty)
    with np.errstate(over="ignore"):  # of scores that InfNanRemove made finite
        scaled = np.where(found < 0, found * factor, found / factor)
    scores = scores.copy()
    np.put_along_axis(scores, ids, scaled, axis=1)
    return scores


def _per_row(prompt_ids: Ids, scores: Scores) -> Ids:
    """Repeat each of B prompts for its beams, which are neighbours: (B, T0) -> (B n, T0)."""
    return np.repeat(prompt_ids, len(scores) // len(prompt_ids), axis=0)


def _completions(source: Ids, ids: Ids, size: int, scores: Scores) -> Mask:
    """Tokens (B, V) that would make the end of ids (B, T) an n-gram of source (B, S)."""
    mask = np.zeros(scores.shape, bool)
    if source.shape[1] < size or ids.shape[1] + 1 < size:
        return mask
    grams = sliding_window_view(source, size, axis=1)  # (B, S - size + 1, size)
    end = ids[:, ids.shape[1] + 1 - size :]  # (B, size - 1)
    rows, places = np.nonzero((grams[..., :-1] == end[:, None]).all(axis=-1))
    mask[rows, grams[rows, places, -1]] = True
    return mask
