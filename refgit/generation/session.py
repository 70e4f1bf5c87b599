"""What a text must keep to and where it ends: the processors and criteria of one prompt length.

Texts of one batch may have prompts of different lengths, and each is to become what it would
become alone; lengths count from each text's own beginning, without padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.generation.logits.build import Processor, process
from refgit.generation.logits.scores import Ids, Mask, Scores
from refgit.generation.stopping import Criterion, done


@dataclass(frozen=True, eq=False)
class Rules:
    """Processors and criteria.

    Attributes
    ----------
    processors : sequence of callables
        Each takes ids (R, T) and scores (R, V) and returns scores.
    criteria : sequence of callables
        Each takes ids (R, T) and scores, and says which rows have ended, bool (R,).
    longest : int
        Tokens at which a text ends, its prompt included.
    """

    processors: Sequence[Processor]
    criteria: Sequence[Criterion]
    longest: int

    def process(self, ids: Ids, scores: Scores, **options: Any) -> Scores:
        """Scores (R, V) of the next word as the processors, one after another, leave them."""
        processed = process(self.processors, ids, scores, **options)
        return processed.astype(scores.dtype, copy=False)  # a caller's may return another

    def ended(self, ids: Ids, scores: Any = None) -> Mask:
        """Say which texts (R, T) have ended, bool (R,)."""
        return done(self.criteria, ids, scores)


def refuse_if_lost(before: Scores, after: Scores, *, all_rows: bool = False) -> None:
    """Raise where the processors have left no word to go on with.

    Parameters
    ----------
    before, after : arrays (R, V)
        Scores before and after them.
    all_rows : bool
        Only where that is so of all rows: of beams some may come to a dead end.

    Raises
    ------
    ValueError
        No word is left; the message says what may be the cause.
    """
    lost = np.isfinite(before).any(axis=-1) & ~np.isfinite(after).any(axis=-1)
    if lost.all() if all_rows else lost.any():
        raise ValueError(NOTHING_LEFT)


NOTHING_LEFT = (
    "the logits processors leave no word with a finite score to go on with; loosen what is "
    "forbidden or prescribed (bad_words_ids, suppress_tokens, min_length, force_words_ids, "
    "prefix_allowed_tokens_fn ...), or pass remove_invalid_values=True."
)


def by_rules(rules: Sequence[Rules], texts: Ids) -> Iterator[tuple[Rules, Ids]]:
    """Sort rows by the rules of their texts: yields rules, and which rows are under them."""
    if all(rule is rules[0] for rule in rules):
        yield rules[0], np.arange(len(texts))
        return
    for rule in dict.fromkeys(rules[text] for text in texts):
        yield rule, np.flatnonzero([rules[text] is rule for text in texts])


def processed(rules: Sequence[Rules], owners: Ids, texts: Sequence[Ids], logits: Scores) -> Scores:
    """Scores (R, V) of the next words of texts, each under the rules of its owner.

    Raises
    ------
    ValueError
        A text is left no word.
    """
    scores = np.empty_like(logits)
    for rule, chosen in by_rules(rules, owners):
        scores[chosen] = rule.process(np.stack([texts[i] for i in chosen]), logits[chosen])
    refuse_if_lost(logits, scores)
    return scores


def ended(rules: Sequence[Rules], owners: Ids, texts: Sequence[Ids], scores: Scores) -> Mask:
    """Say which of these texts have ended, bool (R,)."""
    found = np.zeros(len(owners), bool)
    for rule, chosen in by_rules(rules, owners):
        found[chosen] = rule.ended(np.stack([texts[i] for i in chosen]), scores[chosen])
    return found
