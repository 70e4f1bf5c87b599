r"""Diverse beam search: groups of beams, each told to differ from those before it.

At each step the groups choose one after another, and a later group's score of a token is lowered
by `diversity_penalty` for each earlier beam that has just chosen it. (Vijayakumar et al.,
arXiv 1610.02424, section 3, with the Hamming distance.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.search.beams import BeamsSearch
from refgit.generation.search.legacy.beams import LegacyBeams


class GroupBeamSearch(LegacyBeams):
    """Diverse beam search below one prompt.

    Parameters
    ----------
    prompt, rules, config
        See `Beams`. Among the processors is the one that lowers what earlier groups have
        chosen; a group that is done goes on with ``filler_id``.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.group_done = [False] * len(self.groups)

    def advance(self, log_probabilities: Scores) -> tuple[Ids, Ids]:
        """See `Beams`."""
        self.processed = np.empty_like(log_probabilities)
        parents = np.arange(self.num_beams)
        tokens = np.zeros(self.num_beams, np.int64)
        scores = self.scores.astype(log_probabilities.dtype)
        for g, texts in enumerate(self.groups):
            beams = self._beams(g)
            self.processed[beams] = self.process(
                log_probabilities, beams, current_tokens=tokens, beam_group_idx=g
            )
            if self.group_done[g]:
                tokens[beams], scores[beams] = self.config.filler_id, 0.0
                continue
            total = self.processed[beams] + self.scores[beams, None]  # (k / groups, V)
            parents[beams], tokens[beams], self.group_done[g] = self.choose(
                texts, beams, total, lambda ids: True
            )
            scores[beams] = total[parents[beams] - beams[0], tokens[beams]]
        self.ids, self.origins = self.extended(parents, tokens)
        self.scores = scores
        self.done = all(self.group_done)
        if not self.done and self.rules.ended(self.ids, self.processed).all():
            for g, texts in enumerate(self.groups):
                if not self.group_done[g]:
                    self.take_in(texts, self._beams(g))
            self.done = True
        return parents, tokens

    def _beams(self, g: int) -> Ids:
        return np.arange(g * self.size, (g + 1) * self.size)


def _refuse(config: GenerationConfig) -> None:
    beams, groups, penalty = config.num_beams, config.num_beam_groups, config.diversity_penalty
    if config.do_sample:
        raise ValueError(
            f"num_beam_groups is {groups}, diversity_penalty {penalty} and do_sample True; "
            "expected do_sample=False, since groups of beams do not sample."
        )
    if groups == 1 or beams % groups:
        raise ValueError(
            f"num_beams is {beams} and num_beam_groups {groups}; expected at least 2 groups "
            "(for diversity_penalty), and num_beams to be a multiple of their number."
        )
    if not penalty:
        raise ValueError(
            f"num_beam_groups is {groups} and diversity_penalty {penalty}; expected a "
            "diversity_penalty above 0, without which all groups are equal."
        )


GROUP_BEAM = BeamsSearch(
    name="group_beam",
    kind="groups of beams",
    asked_by=lambda config: (
        config.num_beams > 1 and (config.num_beam_groups > 1 or bool(config.diversity_penalty))
    ),
    refuse=_refuse,
    beams=GroupBeamSearch,
)
