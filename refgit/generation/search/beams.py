"""What all beam searches share: rows that run side by side, the loop over steps, the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.decoding import Decoding
from refgit.generation.logits.scores import Ids, Scores, log_probabilities
from refgit.generation.results import GenerateBeamDecoderOnlyOutput, Output, Record, Step
from refgit.generation.search.base import BEAMS, Search
from refgit.generation.session import NOTHING_LEFT, Call, Rules, refuse_if_lost
from refgit.layers._array_api import Array

# Added to what must not be chosen: large, yet finite, so that sums with it stay numbers.
NEVER = -1.0e9


@dataclass(eq=False)
class Hypothesis:
    """A text, and where each of its tokens came from.

    Attributes
    ----------
    ids : int64 array (T + n,)
        Prompt and what was written.
    score : float
        Its log-probability over a power of its length.
    origins : int64 array (n,)
        The beam that each token was chosen in, from 0 to k - 1.
    finished : bool
        Whether it ended, or is what was running when the search stopped.
    """

    ids: Ids
    score: float
    origins: Ids
    finished: bool = True


class Beams(ABC):
    """The beams below one prompt: `run_beams` feeds them scores, and they say which go on.

    Parameters
    ----------
    prompt : int64 array (T,)
    rules : Rules
    config : GenerationConfig
        Says how many beams, k, in how many groups of equal size; what ends a text, and when the
        search stops.
    random : numpy.random.Generator, optional
        Of a search that draws.
    """

    def __init__(
        self,
        prompt: Ids,
        rules: Rules,
        config: GenerationConfig,
        random: np.random.Generator | None = None,
    ) -> None:
        self.rules, self.config, self.random = rules, config, random
        self.num_beams = config.num_beams
        self.ends = np.array(config.eos_ids, np.int64)
        self.prompt_length = len(prompt)
        self.ids = np.tile(prompt, (self.num_beams, 1))  # (k, T + n), the running beams
        # Only the first of a group counts at first: equal beams would choose equal tokens.
        first = np.arange(self.num_beams) % (self.num_beams // config.num_beam_groups) == 0
        self.scores = np.where(first, 0.0, NEVER).astype(np.float32)
        self.origins = np.empty((self.num_beams, 0), np.int64)
        self.processed: Scores = np.empty(0)  # (k, V), what the last step was decided by
        self.done = False

    @abstractmethod
    def advance(self, log_probabilities: Scores) -> tuple[Ids, Ids]:
        """Take scores (k, V) of the next token; return parents (k,) and tokens (k,)."""

    @abstractmethod
    def best(self, n: int) -> list[Hypothesis]:
        """Return the n best texts, best first."""

    def process(
        self, log_probabilities: Scores, beams: Any = slice(None), **options: Any
    ) -> Scores:
        """Scores (k, V) of the next token after the processors, of some beams or all."""
        before = log_probabilities[beams]
        processed = self.rules.process(self.ids[beams], before, **options)
        refuse_if_lost(before, processed, all_rows=True)
        return processed

    def num_candidates(self, beams: int) -> int:
        """How many continuations are looked at, so that `beams` go on whichever others end."""
        return max(2, 1 + len(self.ends)) * beams

    def none_better(self, running: float, worst: float, length: int) -> bool:
        """Say whether k finished texts, of scores from `worst` up, are to stay as they are.

        `running` is the log-probability of the best beam, `length` its tokens after the prompt.
        """
        early, penalty = self.config.early_stopping, self.config.length_penalty
        if early is True:
            return True
        if early == "never" and penalty > 0:
            length = self.rules.longest - self.prompt_length  # where scores suffer least
        return bool(running / length**penalty <= worst)

    def extended(self, parents: Ids, tokens: Ids) -> tuple[Ids, Ids]:
        """Ids and origins of beams `parents` (c,), each longer by one of `tokens` (c,)."""
        ids = np.concatenate([self.ids[parents], tokens[:, None]], axis=1)  # (c, T + n)
        return ids, np.concatenate([self.origins[parents], parents[:, None]], axis=1)


def run_beams(decoding: Decoding, texts: Sequence[Beams]) -> Iterator[Step]:
    """Run the beams of all texts to their ends, in one call of the decoder a step.

    Parameters
    ----------
    decoding : Decoding
        Of the prompts, one for each of `texts`.
    texts : sequence of Beams
        They hold the results.

    Yields
    ------
    Step
        One for each call of the decoder.
    """
    running = list(range(len(texts)))
    parents = np.repeat(np.arange(len(texts)), [len(text.ids) for text in texts])
    logits = decoding.read_prompts()[parents]
    first_row = np.cumsum([0] + [len(text.ids) for text in texts])
    while True:
        log_p = log_probabilities(logits)
        next_parents, tokens, rows, scores, start, still = [], [], [], [], 0, []
        for b in running:
            text = texts[b]
            stop = start + len(text.ids)
            origin, token = text.advance(log_p[start:stop])
            scores.append(text.processed)
            rows.append(first_row[b] + np.arange(len(token)))
            if not text.done:
                still.append(b)
                next_parents.append(parents[start:stop][origin])
                tokens.append(token)
            start = stop
        kept = decoding.kept(parents)
        yield Step(np.concatenate(rows), logits, np.concatenate(scores), *kept)
        running = still
        if not running:
            return
        logits = decoding.step(np.concatenate(next_parents), np.concatenate(tokens))
        parents = np.arange(len(logits))


@dataclass(kw_only=True, eq=False, repr=False)
class BeamsSearch(Search):
    """A search in which every text has as many rows as beams.

    Attributes
    ----------
    beams : callable
        ``(prompt, rules, config, random) -> Beams``, such as a subclass of `Beams`.
    kind : str
        What it is called in messages.
    beam_scoring : str
        The only value of that field that goes with it.
    filler : callable
        ``(config) -> token`` that follows the end of a text.
    """

    beams: Callable[[Ids, Rules, GenerationConfig, np.random.Generator | None], Beams]
    kind: str
    heeds: frozenset[str] = BEAMS
    in_place_of: str = "beam"
    beam_scoring: str = "transformers"
    filler: Callable[[GenerationConfig], int] = lambda config: config.filler_id

    def check(self, config: GenerationConfig) -> None:
        """See `Search`; there are no more texts than beams."""
        self.refuse(config)
        if config.beam_scoring != self.beam_scoring:
            raise ValueError(
                f'beam_scoring is "{config.beam_scoring}" and the other arguments ask for '
                f"{self.kind}; expected do_sample=False, num_beam_groups=1 and no forced words, or "
                f'beam_scoring="{self.beam_scoring}".'
            )
        count, beams = config.num_return_sequences, config.num_beams
        if count > beams:
            raise ValueError(
                f"num_return_sequences is {count} and num_beams {beams}; expected at most as many "
                "texts as beams."
            )

    def write(self, call: Call, streamer: Any = None) -> Array | Output:
        """See `Search`; there is no streamer, as beams revise tokens that were already emitted."""
        config, prompts = call.config, call.prompts.rows
        count, backend = config.num_return_sequences, call.model.backend
        random = call.random if self.draws else None
        texts = [
            self.beams(prompt, rules, config, random)
            for prompt, rules in zip(prompts, call.rules, strict=True)
        ]
        record = Record(config, len(prompts) * config.num_beams, backend)
        for step in run_beams(call.decoding(), texts):
            record.add(step)
        best = [found for text in texts for found in text.best(count)]
        if any(text.score == -np.inf for text in best):
            raise ValueError(NOTHING_LEFT)
        written = [text.ids[len(prompts[i // count]) :] for i, text in enumerate(best)]
        sequences = _filled(written, self.filler(config))
        above = np.repeat(call.prompts.ids, count, axis=0)
        ids = backend.asarray(np.concatenate([above, sequences], axis=1))
        if not config.return_dict_in_generate:
            return ids
        scores = np.array([text.score for text in best], np.float32)
        origins = [text.origins + i // count * config.num_beams for i, text in enumerate(best)]
        return GenerateBeamDecoderOnlyOutput(
            ids,
            sequences_scores=backend.asarray(scores) if config.output_scores else None,
            beam_indices=backend.asarray(_filled(origins, -1, sequences.shape[1])),
            **record.fields(),
            past_key_values=call.images,
        )


def _filled(rows: Sequence[Ids], filler: int, length: int = 0) -> Ids:
    """Put rows of unequal lengths below one another, (R, length), and fill after their ends."""
    whole = np.full((len(rows), length or max(map(len, rows))), filler, np.int64)
    for line, row in zip(whole, rows, strict=True):
        line[: len(row)] = row
    return whole
