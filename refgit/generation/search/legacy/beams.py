"""What beam search with groups and with forced words share: the older search that both extend.

Plain beam search keeps unfinished texts among the best, and whole; here only finished texts are
kept, without the token that ended them, and the search stops by their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.search.beam import highest
from refgit.generation.search.beams import Beams, Hypothesis


class LegacyBeams(Beams):
    """Beams below one prompt, in equal groups that keep their best texts apart.

    Parameters
    ----------
    prompt, rules, config
        See `Beams`.

    Attributes
    ----------
    size : int
        Beams of a group, and how many texts it keeps at most.
    groups : list of list of Hypothesis
        The texts of each.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.size = self.num_beams // self.config.num_beam_groups
        self.groups: list[list[Hypothesis]] = [[] for _ in range(self.config.num_beam_groups)]

    def keep(
        self, texts: list[Hypothesis], ids: Ids, total: float, origins: Ids, *, finished: bool
    ) -> None:
        """Add a text of log-probability `total`, and drop the worst where there are too many."""
        score = total / len(origins) ** self.config.length_penalty
        texts.append(Hypothesis(ids, score, origins, finished))
        if len(texts) > self.size:
            del texts[min(range(len(texts)), key=lambda i: texts[i].score)]

    def choose(
        self, texts: list[Hypothesis], beams: Ids, total: Scores, may_end: Callable[[Ids], bool]
    ) -> tuple[Ids, Ids, bool]:
        """Let some beams choose how to go on; what ends is added to their texts.

        Parameters
        ----------
        texts : list of Hypothesis
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

        Raises
        ------
        ValueError
            Too many tokens end a text for all beams to find one that does not.
        """
        size, number = total.shape[1], len(beams)
        flat = np.reshape(total, -1)
        candidates = highest(flat, self.num_candidates(number))
        open_candidates = []
        for rank, candidate in enumerate(candidates):
            parent = beams[candidate // size]
            if candidate % size not in self.ends:
                open_candidates.append(candidate)
            elif rank < number and may_end(self.ids[parent]):
                origins = np.append(self.origins[parent], parent)
                self.keep(texts, self.ids[parent], float(flat[candidate]), origins, finished=True)
            if len(open_candidates) == number:
                break
        else:
            raise ValueError(
                f"{len(open_candidates)} of {number} beams have a token to go on with that does "
                f"not end the text; {len(self.ends)} tokens end one (eos_token_id). Lower "
                "num_beams or name fewer end tokens."
            )
        length = self.ids.shape[1] + 1 - self.prompt_length
        full = len(texts) == self.size and self.none_better(
            float(flat[candidates[0]]), min(text.score for text in texts), length
        )
        chosen = np.array(open_candidates, np.int64)
        return beams[chosen // size], chosen % size, full

    def take_in(self, texts: list[Hypothesis], beams: Iterable[int]) -> None:
        """Let running texts count as well, at the greatest length."""
        for beam in beams:
            total = float(self.scores[beam])
            self.keep(texts, self.ids[beam], total, self.origins[beam], finished=False)

    def best(self, n: int) -> list[Hypothesis]:
        """Return the n best texts, best first; of equals the later.

        As in transformers the first of several end tokens closes a text that is shorter than it
        may be, and one that some other criterion stopped as well.
        """
        texts = [text for group in self.groups for text in group]
        found = sorted(texts, key=lambda text: text.score)[::-1][:n]
        return [
            replace(text, ids=np.append(text.ids, self.ends[:1]))
            if len(text.ids) < self.rules.longest
            else text
            for text in found
        ]
