r"""Beam search that must write given words: each beam counts how far it has come with them.

Beside the likeliest continuations, those that come a token closer to what is forced are looked at.
All are sorted into banks by how much they have fulfilled, and the best of each bank go on in turn.
(Post and Vilar, arXiv 1804.06609, section 3, "dynamic beam allocation".)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.config.constraints import ConstraintListState, forced_words
from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.search.beams import BeamsSearch
from refgit.generation.search.legacy.beams import LegacyBeams


class ConstrainedBeamSearch(LegacyBeams):
    """Beam search with forced words below one prompt.

    Parameters
    ----------
    prompt, rules, config
        See `Beams`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.constraints = list(self.config.constraints or ())
        if self.config.force_words_ids is not None:
            self.constraints += forced_words(self.config.force_words_ids)

    def advance(self, log_probabilities: Scores) -> tuple[Ids, Ids]:
        """See `Beams`; a text that ends counts if nothing forced is missing."""
        self.processed = self.process(log_probabilities)
        total = self.processed + self.scores[:, None]  # (k, V)
        parents, tokens, self.done = self.choose(
            self.groups[0],
            np.arange(self.num_beams),
            total,
            lambda ids: self._state(ids).completed,
        )
        parents, tokens = self._with_forced_words(total, parents, tokens)
        self.scores = total[parents, tokens]
        self.ids, self.origins = self.extended(parents, tokens)
        if not self.done and self.rules.ended(self.ids, self.processed).all():
            self._take_in_what_runs()
            self.done = True
        return parents, tokens

    def _state(self, ids: Ids) -> ConstraintListState:
        state = ConstraintListState([constraint.copy() for constraint in self.constraints])
        state.reset(ids.tolist())
        return state

    def _with_forced_words(self, total: Scores, parents: Ids, tokens: Ids) -> tuple[Ids, Ids]:
        """Add continuations that come closer to what is forced, and take from bank after bank."""
        candidates = list(zip(parents.tolist(), tokens.tolist(), strict=True))
        texts = [[*self.ids[parent].tolist(), token] for parent, token in candidates]
        banks = [self._state(np.array(text)).get_bank() for text in texts]
        for beam, ids in enumerate(self.ids):
            state = self._state(ids)
            if state.completed:
                continue
            for token in map(int, state.advance() or ()):
                closer = state.copy(stateful=True)
                closer.add(token)  # also for one that is dropped: alternatives share progress
                text = [*ids.tolist(), token]
                if text not in texts:
                    texts.append(text)
                    candidates.append((beam, token))
                    banks.append(closer.get_bank())
        if len(candidates) == len(parents):
            return parents, tokens
        scores = np.array([total[beam, token] for beam, token in candidates])
        order = _from_bank_after_bank(np.array(banks), scores)[: self.num_beams]
        chosen = np.array([candidates[i] for i in order])
        return chosen[:, 0], chosen[:, 1]

    def _take_in_what_runs(self) -> None:
        """At the greatest length running texts count, those with all that is forced first."""
        complete = [bool(self._state(ids).completed) for ids in self.ids]
        waiting = sorted(range(self.num_beams), key=lambda beam: not complete[beam])
        enough = sum(complete) >= self.config.num_return_sequences
        self.take_in(self.groups[0], [beam for beam in waiting if complete[beam] or not enough])


def _from_bank_after_bank(banks: Ids, scores: Scores) -> Ids:
    """Order candidates: the best of each bank, fullest bank first, then the second best of each."""
    order = np.argsort(-(banks * 100 + scores), kind="stable")
    rank = np.zeros(len(order), np.int64)
    for i in range(1, len(order)):
        same = banks[order[i]] == banks[order[i - 1]]
        rank[i] = rank[i - 1] + 1 if same else 0
    ordered: Ids = order[np.argsort(rank, kind="stable")]
    return ordered


def _refuse(config: GenerationConfig) -> None:
    what = "constraints" if config.constraints is not None else "force_words_ids"
    for name, holds, expected in (
        ("num_beams", config.num_beams > 1, "more than 1"),
        ("do_sample", not config.do_sample, "False"),
        ("num_beam_groups", config.num_beam_groups == 1, "1"),
    ):
        if not holds:
            raise ValueError(
                f"{what} was given and {name} is {getattr(config, name)}; expected {name} to be "
                f"{expected} in constrained beam search."
            )


CONSTRAINED_BEAM = BeamsSearch(
    name="constrained_beam",
    kind="forced words",
    asked_by=lambda config: config.constraints is not None or config.force_words_ids is not None,
    refuse=_refuse,
    beams=ConstrainedBeamSearch,
)
