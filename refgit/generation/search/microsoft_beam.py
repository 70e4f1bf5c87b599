r"""Beam search as in Microsoft's implementation of GIT.

Beams run as in `BeamSearch`; what differs is how a finished text counts. It is scored

.. math:: \left(\frac{6}{5 + n}\right)^{\alpha}
          \sum_t \log p(y_t \mid y_{<t}, \text{image})

where n counts its tokens from the first of the prompt to the last before the end token, and the sum
runs over what was written, end token included. (Normalisation: Wu et al. 2016, "Google's neural
machine translation system", arXiv 1609.08144, section 7. Search: microsoft/GenerativeImage2Text,
generativeimage2text/layers/decoder.py, the class that generativeimage2text/model.py chooses.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits.scores import Ids, Mask, Scores
from refgit.generation.search.beam import BeamSearch, end_filler
from refgit.generation.search.beams import BeamsSearch, Hypothesis


class MicrosoftBeamSearch(BeamSearch):
    """Microsoft's beam search below one prompt.

    A text that runs when the greatest length is reached ends there: its last token counts for the
    score, and the end token takes its place.

    Parameters
    ----------
    prompt, rules, config
        See `Beams`. `num_return_sequences` finished texts are kept: with `early_stopping` True the
        search stops at so many, with False and "never" when no running beam can beat them at any
        length.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.num_results = self.config.num_return_sequences
        self.texts: list[Hypothesis] = []  # best first

    def _keep(self, ids: Ids, origins: Ids, total: Scores, ended: Mask) -> None:
        """Keep the best finished texts; of the candidates (c,) those before the k-th that runs."""
        seen = np.cumsum(~ended) < self.num_beams
        new = [
            self._text(ids[i], origins[i], float(total[i])) for i in np.flatnonzero(ended & seen)
        ]
        merged = sorted([*self.texts, *new], key=lambda text: -text.score)  # of equals the older
        self.texts = merged[: self.num_results]

    def _text(self, ids: Ids, origins: Ids, total: float) -> Hypothesis:
        """Make a finished text of ids (T + n,), the last of which does not count as length."""
        score = total / self._norm(len(ids) - 1)
        if len(ids) >= self.rules.longest and ids[-1] not in self.ends:
            ids = np.append(ids[:-1], self.ends[:1])
        return Hypothesis(ids, score, origins[: len(ids) - self.prompt_length])

    def _norm(self, length: int) -> float:
        """What a sum of log-probabilities is divided by, for a text of so many tokens."""
        return float(((5 + length) / 6) ** self.config.length_penalty)

    def _is_done(self) -> bool:
        """Whether no running text can come among those kept, even at its present probability."""
        if len(self.texts) < self.num_results:
            return False
        if self.config.early_stopping is True:
            return True
        best = float(self.scores[0]) / self._norm(self.rules.longest - 1)
        return self.texts[-1].score >= best


def _refuse(config: GenerationConfig) -> None:
    if config.length_penalty < 0:
        raise ValueError(
            f'length_penalty is {config.length_penalty} and beam_scoring "microsoft"; expected a '
            "length_penalty of at least 0."
        )


MICROSOFT_BEAM = BeamsSearch(
    name="microsoft_beam",
    kind="Microsoft's beam search",
    asked_by=lambda config: config.num_beams > 1 and config.beam_scoring == "microsoft",
    refuse=_refuse,
    beam_scoring="microsoft",
    beams=MicrosoftBeamSearch,
    filler=end_filler,
)
