"""What beam search with groups and with forced words share: the older search that both extend.

Plain beam search keeps unfinished texts among the best, and whole; here only finished texts are
kept, without the token that ended them, and the search stops by their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.search.beam import highest
from refgit.generation.search.beams import Beams, EarlyStopping, Hypothesis
from refgit.generation.session import Rules


class BestTexts:
    """At most `size` texts, the worst dropped for a better one.

    Parameters
    ----------
    size : int
    length_penalty : float
        Scores are log-probabilities over length to this power.
    early_stopping : bool or "never"
        See `Beams`.
    longest : int
        Tokens, the prompt not counted, that a text can have.
    """

    def __init__(
        self, size: int, length_penalty: float, early_stopping: EarlyStopping, longest: int
    ) -> None:
        self.size, self.longest = size, longest
        self.length_penalty, self.early_stopping = length_penalty, early_stopping
        self.texts: list[Hypothesis] = []

    def add(self, ids: Ids, total: float, origins: Ids, length: int, *, finished: bool) -> None:
        """Take a text in, if there is room or it beats the worst.

        `total` is its log-probability and `length` the number of tokens that it is divided by.
        """
        text = Hypothesis(ids, total / length**self.length_penalty, origins, finished)
        self.texts.append(text)
        if len(self.texts) > self.size:
            worst = min(range(len(self.texts)), key=lambda i: self.texts[i].score)
            del self.texts[worst]

    def is_full(self, best_running: float, length: int) -> bool:
        """Say whether no running text of `length` tokens is to come in any more."""
        if len(self.texts) < self.size:
            return False
        if self.early_stopping is True:
            return True
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.longest
        worst = min(text.score for text in self.texts)
        return bool(worst >= best_running / length**self.length_penalty)


class LegacyBeams(Beams):
    """Beams below one prompt, in equal groups that keep their best texts apart.

    Parameters
    ----------
    prompt, rules
        See `Beams`, as for the other options.
    """

    def __init__(self, prompt: Ids, rules: Rules, **options: Any) -> None:
        super().__init__(prompt, rules, **options)
        self.size = self.num_beams // self.num_groups
        longest = rules.longest - self.prompt_length
        self.groups = [
            BestTexts(self.size, self.length_penalty, self.early_stopping, longest)
            for _ in range(self.num_groups)
        ]

    def choose(
        self, texts: BestTexts, beams: Ids, total: Scores, may_end: Callable[[Ids], bool]
    ) -> tuple[Ids, Ids, bool]:
        """Let some beams choose how to go on; what ends is added to their texts.

        Parameters
        ----------
        texts : BestTexts
            Those of the beams.
        beams : int64 array (k',)
        total : array (k', V)
            Log-probability of each with each next token.
        may_end : callable
            ``(ids) -> bool``: whether a text that ends here counts.

        Returns
        -------
        parents, tokens : int64 arrays (k',)
        full : bool
            Whether no running text is to come among the best any more.
        """
        size, number = total.shape[1], len(beams)
        flat = np.reshape(total, -1)
        candidates = highest(flat, self.num_candidates(number))
        length = self.ids.shape[1] + 1 - self.prompt_length
        open_candidates = []
        for rank, candidate in enumerate(candidates):
            parent = beams[candidate // size]
            if candidate % size not in self.ends:
                open_candidates.append(candidate)
            elif rank < number and may_end(self.ids[parent]):
                origins = np.append(self.origins[parent], parent)
                texts.add(self.ids[parent], float(flat[candidate]), origins, length, finished=True)
            if len(open_candidates) == number:
                break
        full = texts.is_full(float(flat[candidates[0]]), length)
        chosen = require_k_open_candidates(open_candidates, number, self.ends)
        return beams[chosen // size], chosen % size, full

    def take_in(self, texts: BestTexts, beams: Iterable[int]) -> None:
        """Let running texts count as well, at the greatest length."""
        length = self.ids.shape[1] - self.prompt_length
        for beam in beams:
            score = float(self.scores[beam])
            texts.add(self.ids[beam], score, self.origins[beam], length, finished=False)

    def best(self, n: int) -> list[Hypothesis]:
        """Return the n best texts, best first; of equals the later.

        As in transformers the first of several end tokens closes a text that is shorter than it
        may be, and one that some other criterion stopped as well.
        """
        texts = [text for group in self.groups for text in group.texts]
        found = sorted(texts, key=lambda text: text.score)[::-1][:n]
        return [self._closed(text) for text in found]

    def _closed(self, text: Hypothesis) -> Hypothesis:
        if not len(self.ends) or len(text.ids) >= self.rules.longest:
            return text
        ids = np.append(text.ids, self.ends[0])
        return Hypothesis(ids, text.score, text.origins, text.finished)


def require_k_open_candidates(candidates: Sequence[int], k: int, ends: Ids) -> Ids:
    """Return the candidates that go on, if there are as many as beams.

    Raises
    ------
    ValueError
        Too many tokens end a text for all beams to find one that does not.
    """
    if len(candidates) < k:
        raise ValueError(
            f"{len(candidates)} of {k} beams have a token to go on with that does not end the text;"
            f" {len(ends)} tokens end one (eos_token_id). Lower num_beams or name fewer end tokens."
        )
    return np.array(candidates, np.int64)
