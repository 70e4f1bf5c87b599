r"""Beam search: the k likeliest beginnings of a text are carried on side by side.

At each step every running beam may go on with every word; the best of all these go on. A text
that ends is kept with the score

.. math:: \frac{1}{n^{\alpha}} \sum_{t=1}^{n} \log p(y_t \mid y_{<t}, \text{image})

where n counts its words without the prompt and alpha is `length_penalty`. (GIT paper, section
4.1: beam size 4. Diverse groups and forced words stand in their own files.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from refgit.generation.decoding import Decoding
from refgit.generation.logits.scores import Ids, Mask, Scores, log_probabilities
from refgit.generation.session import Rules, refuse_if_lost

# Added to what must not be chosen: large, yet finite, so that sums with it stay numbers.
NEVER = -1.0e9
EarlyStopping = bool | str


@dataclass
class Hypothesis:
    """A text, and where each of its words came from.

    Attributes
    ----------
    ids : int64 array (T + n,)
        Prompt and words.
    score : float
        Its log-probability over a power of its length.
    origins : int64 array (n,)
        The beam that each word was chosen in, from 0 to k - 1.
    finished : bool
        Whether it ended, or is what was running when the search stopped.
    """

    ids: Ids
    score: float
    origins: Ids
    finished: bool = True


class Beams(Protocol):
    """The beams below one prompt: `search` feeds them scores, and they say who goes on."""

    ids: Ids  # (k, T + n)
    processed: Scores  # (k, V), what the last step was decided by
    done: bool

    def advance(self, log_probabilities: Scores) -> tuple[Ids, Ids]:
        """Take scores (k, V) of the next word; return parents (k,) and words (k,)."""
        ...

    def best(self, n: int) -> list[Hypothesis]:
        """Return the n best texts, best first."""
        ...


@dataclass
class BeamStep:
    """What a step of `search` was decided by; rows that are done hold zeros.

    Attributes
    ----------
    rows : int64 array (R,)
        The rows that still ran: text b has rows b k to b k + k - 1.
    logits, scores : arrays (R, V)
        Of the decoder, and log-probabilities after the processors.
    parents : int64 array (R,)
        Which row of the decoder's last call each of them came from.
    """

    rows: Ids
    logits: Scores
    scores: Scores
    parents: Ids


def search(
    decoding: Decoding,
    texts: Sequence[Beams],
    watch: Callable[[BeamStep], None] | None = None,
) -> None:
    """Run the beams of all texts to their ends, in one call of the decoder a step.

    Parameters
    ----------
    decoding : Decoding
        Of the prompts, one for each of `texts`.
    texts : sequence of Beams
        They hold the results.
    watch : callable, optional
        Shown each step.
    """
    running = list(range(len(texts)))
    parents = np.repeat(np.arange(len(texts)), [len(text.ids) for text in texts])
    logits = decoding.read_prompts()[parents]
    first_row = np.cumsum([0] + [len(text.ids) for text in texts])
    while True:
        log_p = log_probabilities(logits)
        next_parents, words, rows, scores, start, still = [], [], [], [], 0, []
        for b in running:
            text = texts[b]
            stop = start + len(text.ids)
            origin, word = text.advance(log_p[start:stop])
            scores.append(text.processed)
            rows.append(first_row[b] + np.arange(len(word)))
            if not text.done:
                still.append(b)
                next_parents.append(parents[start:stop][origin])
                words.append(word)
            start = stop
        if watch is not None:
            watch(BeamStep(np.concatenate(rows), logits, np.concatenate(scores), parents))
        running = still
        if not running:
            return
        logits = decoding.step(np.concatenate(next_parents), np.concatenate(words))
        parents = np.arange(len(logits))


def highest(scores: Scores, k: int) -> Ids:
    """Where the k highest of (n,) stand, best first; of equals the first."""
    k = min(k, len(scores))
    if k < len(scores) // 4:  # sorting all beams times all words would take longer than the model
        border = _border(scores, k)
        if border == -np.inf:  # what may be chosen lies close together
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


class BeamSearch:
    """Beam search below one prompt, or beam sampling with a random generator.

    Parameters
    ----------
    prompt : int64 array (T,)
    rules : Rules
    num_beams : int
        k.
    num_ends : int
        How many words end a text: as many more candidates are looked at for each beam, so that k
        of them can go on.
    length_penalty : float
        alpha.
    early_stopping : bool or "never"
        True stops at k finished texts. False stops when no running beam would beat them if it
        ended now; "never" when none can at any length.
    random : numpy.random.Generator, optional
        Draw the candidates without replacement in the place of taking the best.
    """

    def __init__(
        self,
        prompt: Ids,
        rules: Rules,
        *,
        num_beams: int,
        num_ends: int = 1,
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = False,
        random: np.random.Generator | None = None,
    ) -> None:
        self.rules, self.random = rules, random
        self.num_beams, self.num_candidates = num_beams, max(2, 1 + num_ends) * num_beams
        self.length_penalty, self.early_stopping = length_penalty, early_stopping
        self.prompt_length = len(prompt)
        self.ids = np.tile(prompt, (num_beams, 1))  # (k, T + n), the running beams
        # Only the first counts at first: k equal beams would choose equal words.
        self.scores = np.where(np.arange(num_beams) == 0, 0.0, NEVER).astype(np.float32)
        self.origins = np.empty((num_beams, 0), np.int64)
        placeholder = Hypothesis(prompt, NEVER, self.origins[0], finished=False)
        self.texts = [placeholder] * num_beams  # best first
        self.processed: Scores = np.empty(0)
        self.done = False

    def advance(self, log_probabilities: Scores) -> tuple[Ids, Ids]:
        """See `Beams`."""
        self.processed = self.rules.process(self.ids, log_probabilities)
        refuse_if_lost(log_probabilities, self.processed, all_rows=True)
        total = self.processed + self.scores[:, None]  # (k, V)
        size = total.shape[1]
        chosen = self._candidates(np.reshape(total, -1))  # (c,), best first
        total = np.reshape(total, -1)[chosen]
        parents, words = chosen // size, chosen % size
        ids = np.concatenate([self.ids[parents], words[:, None]], axis=1)  # (c, T + n)
        origins = np.concatenate([self.origins[parents], parents[:, None]], axis=1)
        ended = self.rules.ended(ids, self.processed)
        self._keep(ids, origins, total, ended)
        going = total + np.where(ended, NEVER, 0.0).astype(total.dtype)
        order = highest(going, self.num_beams)
        self.ids, self.scores, self.origins = ids[order], going[order], origins[order]
        self.done = self._is_done() or bool(ended.all())
        return parents[order], words[order]

    def _candidates(self, total: Scores) -> Ids:
        """Which continuations of (k V,) are looked at."""
        if self.random is None:
            return highest(total, self.num_candidates)
        # Drawing without replacement by probability is taking the highest after adding to each
        # a Gumbel number. (Kool et al., arXiv 1903.06059, section 2.)
        with np.errstate(divide="ignore"):
            gumbel = -np.log(-np.log(self.random.random(total.shape)))
        return highest(total.astype(np.float64) + gumbel, self.num_candidates)

    def _keep(self, ids: Ids, origins: Ids, total: Scores, ended: Mask) -> None:
        """Keep the k best finished texts; only the k best candidates may come in."""
        length = ids.shape[1] - self.prompt_length
        with np.errstate(over="ignore"):  # of -1e9 and a negative penalty
            final = total / length**self.length_penalty
        new = [
            Hypothesis(ids[i], float(final[i]), origins[i])
            for i in range(min(self.num_beams, len(ids)))
            if ended[i]
        ]
        merged = self.texts + new
        order = np.argsort([-text.score for text in merged], kind="stable")
        self.texts = [merged[i] for i in order[: self.num_beams]]

    def _is_done(self) -> bool:
        """Whether nothing that still runs can, or is to, come among the texts."""
        if not all(text.finished for text in self.texts):
            return False
        if self.early_stopping is True:
            return True
        length = self.ids.shape[1] - self.prompt_length
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.rules.longest - self.prompt_length  # where scores suffer least
        return bool(self.scores[0] / length**self.length_penalty <= self.texts[-1].score)

    def best(self, n: int) -> list[Hypothesis]:
        """See `Beams`."""
        return self.texts[:n]
