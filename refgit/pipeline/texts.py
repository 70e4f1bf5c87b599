r"""Texts that a model wrote, and how likely they were.

The score of a text is the mean log-probability of its tokens,

.. math:: \frac{1}{n} \sum_{t=1}^{n} \log p(y_t \mid y_{<t}, \text{image})

where n counts what was written, the end token included and the prompt not, and p is the
distribution that the search chose from: the model's, after the logits processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.captions import Treatment
from refgit.generation.results import transition_scores
from refgit.processing import BertTokenizer, GitProcessor
from refgit_backends import to_numpy

SCORES_AT_ONCE = 2**28  # bytes of scores (steps, rows, V) that are held together
_TREATMENT = Treatment()
_DIGITS = 4  # of a score in a row: which images share a batch moves the last bits


@dataclass(frozen=True)
class WrittenText:
    """A text that a model wrote.

    Attributes
    ----------
    text : str
        Its prompt included, if it is a caption.
    token_ids : tuple of int
        What was written, its end token included unless the greatest length cut it off.
    log_probability : float or None
        Of all these tokens together, natural logarithm; None where it was not asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    log_probability: float | None = None

    @property
    def score(self) -> float | None:
        """The log-probability divided by the number of tokens."""
        return None if self.log_probability is None else self.log_probability / len(self.token_ids)


def texts_of(
    found: Any,
    prompt: Sequence[int],
    processor: GitProcessor,
    ends: Sequence[int],
    *,
    shown: bool = True,
    treatment: Treatment = _TREATMENT,
) -> list[WrittenText]:
    """Turn what `generate` returned into texts.

    Parameters
    ----------
    found : array (R, length), integer; or GenerateDecoderOnlyOutput, GenerateBeamDecoderOnlyOutput
        The latter two with their scores.
    prompt : sequence of int
        Token ids that each begins with, the opening one among them.
    processor : GitProcessor
    ends : sequence of int
        The end tokens.
    shown : bool
        Whether the prompt is a part of the texts, as in captions.
    treatment : Treatment
        Of captions; of other texts only their punctuation is closed up.
    """
    scored = hasattr(found, "sequences")
    table = to_numpy(found.sequences if scored else found).tolist()
    written = [until_end(row[len(prompt) :], ends) for row in table]
    before = list(prompt[1:]) if shown else []
    texts = [decoded(before + ids, processor.tokenizer, treatment) for ids in written]
    sums: list[float | None] = [None] * len(table)
    if scored:
        beams = getattr(found, "beam_indices", None)
        steps = transition_scores(found.sequences, found.scores, beams, normalize_logits=True)
        sums = [
            float(row[: len(ids)].sum(dtype=np.float64))
            for row, ids in zip(steps, written, strict=True)
        ]
    columns = zip(texts, written, sums, strict=True)
    treat = treatment if shown else treatment.punctuated
    return [WrittenText(treat(text), tuple(ids), total) for text, ids, total in columns]


def decoded(ids: Sequence[int], tokenizer: BertTokenizer, treatment: Treatment) -> str:
    """Turn token ids into a text that is still to be treated.

    The tokenizer's own way of closing up would join ``says ' stop '`` to ``says'stop '``, from
    which one cannot tell any more what belongs together; so it is left to the treatment.
    """
    clean_up = None if treatment.raw else False
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=clean_up)


def until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """Leave out the padding that a batch row has because its neighbours are longer."""
    stop = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: stop + 1]


def row_fields(texts: Sequence[WrittenText], plural: str = "captions") -> dict[str, Any]:
    """Return what a row or a JSON object says of an image's texts besides the first of them.

    Parameters
    ----------
    texts : sequence of WrittenText
        Of one image, or of one question about it.
    plural : str
        What the list of several is called.

    Returns
    -------
    dict
        Of several texts, `plural`: all of them. Of texts with scores, score and score_sum, the
        first one's, and of several also scores and score_sums. None stands for a score that is not
        finite.
    """
    several = len(texts) > 1
    found: dict[str, Any] = {}
    if several:
        found[plural] = [text.text for text in texts]
    if texts[0].log_probability is not None:
        scores = [_rounded(text.score) for text in texts]
        sums = [_rounded(text.log_probability) for text in texts]
        found |= {"score": scores[0], "score_sum": sums[0]}
        if several:
            found |= {"scores": scores, "score_sums": sums}
    return found


def _rounded(value: float | None) -> float | None:
    return round(value, _DIGITS) if value is not None and np.isfinite(value) else None
