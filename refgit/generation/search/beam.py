r"""Beam search: the k likeliest beginnings of a text are continued side by side.

At each step every running beam may go on with every token; the best of all these go on. A text
that ends is kept with the score

.. math:: \frac{1}{n^{\alpha}} \sum_{t=1}^{n} \log p(y_t \mid y_{<t}, \text{image})

where n counts its tokens without the prompt and alpha is `length_penalty`. (GIT paper, section
4.1: beam size 4.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits.scores import Ids, Mask, Scores
from refgit.generation.search.base import BEAMS, SAMPLING
from refgit.generation.search.beams import NEVER, Beams, BeamsSearch, Hypothesis


def highest(scores: Scores, k: int) -> Ids:
    """Places of the k highest of (n,), best first; of equals the first."""
    k = min(k, len(scores))
    if k < len(scores) // 4:  # sorting all beams times all tokens would take longer than the model
        border = _border(scores, k)
        if border == -np.inf:  # what may be chosen is close together
            border = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= border)
    else:
        candidates = np.arange(len(scores))
    order = np.argsort(-scores[candidates], kind="stable")
    best: Ids = candidates[order[:k]]
    return best


def _border(scores: Scores, k: int) -> float:
    """A score that at least k of (n,) reach, and few more: the k-th highest of runs' highest."""
    run = max(1, min(64, len(scores) // (4 * k)))
    runs = scores[: len(scores) // run * run].reshape(-1, run).max(axis=1)
    return float(np.partition(runs, len(runs) - k)[len(runs) - k])


class BeamSearch(Beams):
    """Beam search below one prompt; with a random generator beam sampling.

    Parameters
    ----------
    prompt, rules, config, random
        See `Beams`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        placeholder = Hypothesis(self.ids[0], NEVER, self.origins[0], finished=False)
        self.texts = [placeholder] * self.num_beams  # best first

    def advance(self, log_probabilities: Scores) -> tuple[Ids, Ids]:
        """See `Beams`."""
        self.processed = self.process(log_probabilities)
        total = self.processed + self.scores[:, None]  # (k, V)
        size = total.shape[1]
        chosen = self._candidates(np.reshape(total, -1))  # (c,), best first
        total = np.reshape(total, -1)[chosen]
        parents, tokens = chosen // size, chosen % size
        ids, origins = self.extended(parents, tokens)
        ended = self.rules.ended(ids, self.processed)
        self._keep(ids, origins, total, ended)
        going = total + np.where(ended, NEVER, 0.0).astype(total.dtype)
        order = highest(going, self.num_beams)
        self.ids, self.scores, self.origins = ids[order], going[order], origins[order]
        self.done = self._is_done() or bool(ended.all())
        return parents[order], tokens[order]

    def _candidates(self, total: Scores) -> Ids:
        """Which continuations of (k V,) are looked at."""
        if self.random is None:
            return highest(total, self.num_candidates(self.num_beams))
        # Drawing without replacement by probability is taking the highest after adding to each
        # a Gumbel number. (Kool et al., arXiv 1903.06059, section 2.)
        with np.errstate(divide="ignore"):
            gumbel = -np.log(-np.log(self.random.random(total.shape)))
        drawn = total.astype(np.float64) + gumbel
        return highest(drawn, self.num_candidates(self.num_beams))

    def _keep(self, ids: Ids, origins: Ids, total: Scores, ended: Mask) -> None:
        """Keep the k best finished texts; only the k best candidates may come in."""
        length = ids.shape[1] - self.prompt_length
        with np.errstate(over="ignore"):  # of -1e9 and a negative penalty
            final = total / length**self.config.length_penalty
        new = [
            Hypothesis(ids[i], float(final[i]), origins[i])
            for i in range(min(self.num_beams, len(ids)))
            if ended[i]
        ]
        merged = self.texts + new
        order = np.argsort([-text.score for text in merged], kind="stable")
        self.texts = [merged[i] for i in order[: self.num_beams]]

    def _is_done(self) -> bool:
        length = self.ids.shape[1] - self.prompt_length
        return all(text.finished for text in self.texts) and self.none_better(
            self.scores[0], self.texts[-1].score, length
        )

    def best(self, n: int) -> list[Hypothesis]:
        """See `Beams`."""
        return self.texts[:n]


def end_filler(config: GenerationConfig) -> int:
    """What follows the end of a text of plain beam search, as in transformers.

    That takes a padding token of id 0 as none, and fills with the end token.
    """
    if not config.pad_token_id and config.eos_ids:
        return config.eos_ids[0]
    return config.filler_id


BEAM = BeamsSearch(
    name="beam",
    kind="beam search",
    asked_by=lambda config: config.num_beams > 1,
    beams=BeamSearch,
    filler=end_filler,
)
BEAM_SAMPLE = BeamsSearch(
    name="beam_sample",
    kind="sampling",
    asked_by=lambda config: config.num_beams > 1 and config.do_sample,
    heeds=BEAMS | SAMPLING,
    draws=True,
    beams=BeamSearch,
    filler=end_filler,
)
