r"""Beam search that must write given words: each beam counts how far it has come with them.

Beside the likeliest continuations those are looked at that come a word closer to what is forced.
All are sorted into banks by how much they have fulfilled, and the best of each bank go on in turn.
(Post and Vilar, arXiv 1804.06609, section 3, "dynamic beam allocation".)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.search.beam import NEVER, EarlyStopping, Hypothesis, highest
from refgit.generation.search.legacy.best_texts import BestTexts, enough
from refgit.generation.search.legacy.constraints import ConstraintListState
from refgit.generation.session import Rules, refuse_if_lost


class ConstrainedBeamSearch:
    """Beam search with forced words below one prompt.

    Parameters
    ----------
    prompt : int64 array (T,)
    rules : Rules
    constraints : sequence
        See `constraints`.
    num_beams, num_results : int
        k, and how many texts will be asked for.
    ends : int64 array
        Words that end a text.
    length_penalty, early_stopping
        See `BeamSearch`.
    """

    def __init__(
        self,
        prompt: Ids,
        rules: Rules,
        *,
        constraints: Sequence[Any],
        num_beams: int,
        num_results: int,
        ends: Ids,
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = False,
    ) -> None:
        self.rules, self.ends, self.constraints = rules, ends, constraints
        self.num_beams, self.num_results = num_beams, num_results
        self.prompt_length = len(prompt)
        self.ids = np.tile(prompt, (num_beams, 1))
        self.scores = np.where(np.arange(num_beams) == 0, 0.0, NEVER).astype(np.float32)
        self.origins = np.empty((num_beams, 0), np.int64)
        longest = rules.longest - self.prompt_length
        self.texts = BestTexts(num_beams, length_penalty, early_stopping, longest)
        self.processed: Scores = np.empty(0)
        self.done = False

    def advance(self, log_probabilities: Scores) -> tuple[Ids, Ids]:
        """See `Beams`."""
        self.processed = self.rules.process(self.ids, log_probabilities)
        refuse_if_lost(log_probabilities, self.processed, all_rows=True)
        total = self.processed + self.scores[:, None]  # (k, V)
        parents, words = self._likeliest(total)
        parents, words = self._with_forced_words(total, parents, words)
        full = self.done
        self.scores = total[parents, words]
        self.ids = np.concatenate([self.ids[parents], words[:, None]], axis=1)
        self.origins = np.concatenate([self.origins[parents], parents[:, None]], axis=1)
        if not full and self.rules.ended(self.ids, self.processed).all():
            self._take_in_what_runs()
            self.done = True
        return parents, words

    def _likeliest(self, total: Scores) -> tuple[Ids, Ids]:
        """As in plain beam search; a text that ends counts if nothing forced is missing."""
        size = total.shape[1]
        flat = np.reshape(total, -1)
        candidates = highest(flat, max(2, 1 + len(self.ends)) * self.num_beams)
        length = self.ids.shape[1] + 1 - self.prompt_length
        going = []
        for rank, candidate in enumerate(candidates):
            parent = candidate // size
            if candidate % size not in self.ends:
                going.append(candidate)
            elif rank < self.num_beams and self._state(self.ids[parent]).completed:
                origins = np.append(self.origins[parent], parent)
                score = float(flat[candidate])
                self.texts.add(self.ids[parent], score, origins, length, finished=True)
            if len(going) == self.num_beams:
                break
        self.done = self.texts.is_full(float(flat[candidates[0]]), length)
        chosen = enough(going, self.num_beams, self.ends)
        return chosen // size, chosen % size

    def _state(self, ids: Ids) -> ConstraintListState:
        """How far a text has come with what is forced."""
        state = ConstraintListState([constraint.copy() for constraint in self.constraints])
        state.reset(ids.tolist())
        return state

    def _with_forced_words(self, total: Scores, parents: Ids, words: Ids) -> tuple[Ids, Ids]:
        """Add continuations that come closer to what is forced, and take from bank after bank."""
        texts = [[*self.ids[p].tolist(), int(w)] for p, w in zip(parents, words, strict=True)]
        candidates = list(zip(parents.tolist(), words.tolist(), strict=True))
        banks = [self._state(np.array(text)).get_bank() for text in texts]
        for beam, ids in enumerate(self.ids):
            state = self._state(ids)
            if state.completed:
                continue
            for word in state.advance() or ():
                closer = state.copy(stateful=True)
                closer.add(int(word))  # also for one that is dropped: alternatives share progress
                text = [*ids.tolist(), int(word)]
                if text not in texts:
                    texts.append(text)
                    candidates.append((beam, int(word)))
                    banks.append(closer.get_bank())
        if len(candidates) == len(parents):
            return parents, words
        scores = np.array([total[beam, word] for beam, word in candidates])
        order = _from_bank_after_bank(np.array(banks), scores)[: self.num_beams]
        chosen = np.array([candidates[i] for i in order])
        return chosen[:, 0], chosen[:, 1]

    def _take_in_what_runs(self) -> None:
        """At the greatest length running texts count, those with all that is forced first."""
        length = self.ids.shape[1] - self.prompt_length
        complete = [bool(self._state(ids).completed) for ids in self.ids]
        waiting = sorted(range(self.num_beams), key=lambda beam: not complete[beam])
        for beam in waiting:
            if complete[beam] or sum(complete) < self.num_results:
                ids, score = self.ids[beam], float(self.scores[beam])
                self.texts.add(ids, score, self.origins[beam], length, finished=False)

    def best(self, n: int) -> list[Hypothesis]:
        """See `Beams`; finished texts are without the word that ended them."""
        return self.texts.best()[:n]


def _from_bank_after_bank(banks: Ids, scores: Scores) -> Ids:
    """Order candidates: the best of each bank, fullest bank first, then the second best of each."""
    order = np.argsort(-(banks * 100 + scores), kind="stable")
    rank = np.zeros(len(order), np.int64)
    for i in range(1, len(order)):
        same = banks[order[i]] == banks[order[i - 1]]
        rank[i] = rank[i - 1] + 1 if same else 0
    ordered: Ids = order[np.argsort(rank, kind="stable")]
    return ordered
