"""The n best finished texts of a beam search with groups or with forced words.

Plain beam search keeps unfinished texts among them and so has its own way; these two stop by the
rule of the older search that they extend.
"""

from __future__ import annotations

import numpy as np

from refgit.generation.logits.scores import Ids
from refgit.generation.search.beam import EarlyStopping, Hypothesis


def enough(going: list[int], number: int, ends: Ids) -> Ids:
    """Return the candidates that go on, if there are as many as beams.

    Raises
    ------
    ValueError
        Too many words end a text for all beams to find one that does not.
    """
    if len(going) < number:
        raise ValueError(
            f"{len(going)} of {number} beams have a word to go on with that does not end the text; "
            f"{len(ends)} words end one (eos_token_id). Lower num_beams or name fewer end tokens."
        )
    return np.array(going, np.int64)


class BestTexts:
    """At most `size` texts, the worst dropped for a better one.

    Parameters
    ----------
    size : int
    length_penalty : float
        Scores are log-probabilities over length to this power.
    early_stopping : bool or "never"
        See `BeamSearch`.
    longest : int
        Words, the prompt not counted, that a text can have.
    """

    def __init__(
        self, size: int, length_penalty: float, early_stopping: EarlyStopping, longest: int
    ) -> None:
        self.size, self.longest = size, longest
        self.length_penalty, self.early_stopping = length_penalty, early_stopping
        self.texts: list[Hypothesis] = []

    def add(self, ids: Ids, total: float, origins: Ids, length: int, *, finished: bool) -> None:
        """Take a text in, if there is room or it beats the worst.

        `total` is its log-probability and `length` the number of words that it is divided by.
        """
        text = Hypothesis(ids, total / length**self.length_penalty, origins, finished)
        self.texts.append(text)
        if len(self.texts) > self.size:
            worst = min(range(len(self.texts)), key=lambda i: self.texts[i].score)
            del self.texts[worst]

    def is_full(self, best_running: float, length: int) -> bool:
        """Say whether no running text of `length` words is to come in any more."""
        if len(self.texts) < self.size:
            return False
        if self.early_stopping is True:
            return True
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.longest
        worst = min(text.score for text in self.texts)
        return bool(worst >= best_running / length**self.length_penalty)

    def best(self) -> list[Hypothesis]:
        """Return the texts, best first; of equals the later."""
        return sorted(self.texts, key=lambda text: text.score)[::-1]
