r"""Diverse beam search: groups of beams, each told to differ from those before it.

At each step the groups choose one after another, and a later group's score of a word is lowered
by `diversity_penalty` for each earlier beam that has just chosen it. (Vijayakumar et al.,
arXiv 1610.02424, section 3, with the Hamming distance.)
"""

from __future__ import annotations

import numpy as np

from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.search.beam import NEVER, EarlyStopping, Hypothesis, highest
from refgit.generation.search.legacy.best_texts import BestTexts, enough
from refgit.generation.session import Rules, refuse_if_lost


class GroupBeamSearch:
    """Diverse beam search below one prompt.

    Parameters
    ----------
    prompt : int64 array (T,)
    rules : Rules
        Among its processors is the one that lowers what earlier groups have chosen.
    num_beams, num_groups : int
        k beams in equal groups.
    ends : int64 array
        Words that end a text.
    filler : int
        What stands for the words of a group that is done.
    length_penalty, early_stopping
        See `BeamSearch`.
    """

    def __init__(
        self,
        prompt: Ids,
        rules: Rules,
        *,
        num_beams: int,
        num_groups: int,
        ends: Ids,
        filler: int = 0,
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = False,
    ) -> None:
        self.rules, self.ends, self.filler = rules, ends, filler
        self.size = num_beams // num_groups
        self.prompt_length = len(prompt)
        self.ids = np.tile(prompt, (num_beams, 1))
        first_of_group = np.arange(num_beams) % self.size == 0
        self.scores = np.where(first_of_group, 0.0, NEVER).astype(np.float32)
        self.origins = np.empty((num_beams, 0), np.int64)
        longest = rules.longest - self.prompt_length
        self.groups = [
            BestTexts(self.size, length_penalty, early_stopping, longest) for _ in range(num_groups)
        ]
        self.group_done = [False] * num_groups
        self.processed: Scores = np.empty(0)
        self.done = False

    def advance(self, log_probabilities: Scores) -> tuple[Ids, Ids]:
        """See `Beams`."""
        self.processed = np.empty_like(log_probabilities)
        parents = np.arange(len(self.ids))
        words = np.zeros(len(self.ids), np.int64)
        scores = self.scores.astype(log_probabilities.dtype)
        for g in range(len(self.groups)):
            beams = np.arange(g * self.size, (g + 1) * self.size)
            self.processed[beams] = self.rules.process(
                self.ids[beams], log_probabilities[beams], current_tokens=words, beam_group_idx=g
            )
            refuse_if_lost(log_probabilities[beams], self.processed[beams], all_rows=True)
            if self.group_done[g]:
                words[beams], scores[beams] = self.filler, 0.0
            else:
                parents[beams], words[beams], scores[beams] = self._choose(g, beams)
        self.ids = np.concatenate([self.ids[parents], words[:, None]], axis=1)
        self.origins = np.concatenate([self.origins[parents], parents[:, None]], axis=1)
        self.scores = scores
        self.done = all(self.group_done)
        if not self.done and self.rules.ended(self.ids, self.processed).all():
            self._take_in_what_runs()
            self.done = True
        return parents, words

    def _choose(self, g: int, beams: Ids) -> tuple[Ids, Ids, Scores]:
        """Let one group choose: its next parents, words and scores, (k / groups,) each."""
        total = self.processed[beams] + self.scores[beams, None]  # (k / groups, V)
        size = total.shape[1]
        total = np.reshape(total, -1)
        candidates = highest(total, max(2, 1 + len(self.ends)) * self.size)
        length = self.ids.shape[1] + 1 - self.prompt_length
        going = []
        for rank, candidate in enumerate(candidates):
            parent = beams[candidate // size]
            if candidate % size not in self.ends:
                going.append(candidate)
            elif rank < self.size:
                origins = np.append(self.origins[parent], parent)
                score = float(total[candidate])
                self.groups[g].add(self.ids[parent], score, origins, length, finished=True)
            if len(going) == self.size:
                break
        chosen = enough(going, self.size, self.ends)
        self.group_done[g] = self.groups[g].is_full(float(total[candidates[0]]), length)
        return beams[chosen // size], chosen % size, total[chosen]

    def _take_in_what_runs(self) -> None:
        """At the greatest length, running texts count as well."""
        length = self.ids.shape[1] - self.prompt_length
        for g, group in enumerate(self.groups):
            for beam in range(g * self.size, (g + 1) * self.size):
                if not self.group_done[g]:
                    ids, score = self.ids[beam], float(self.scores[beam])
                    group.add(ids, score, self.origins[beam], length, finished=False)

    def best(self, n: int) -> list[Hypothesis]:
        """See `Beams`; finished texts are without the word that ended them."""
        texts = [text for group in self.groups for text in group.texts]
        return sorted(texts, key=lambda text: text.score)[::-1][:n]
