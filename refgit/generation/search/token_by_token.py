r"""Greedy search and sampling: each text goes on with one token a step, until it ends.

.. math:: \text{greedy: } y_t = \arg\max_v s_{t,v}, \qquad
          \text{sampling: } y_t \sim \operatorname{softmax}(s_t)

with s the scores of the next token after the logits processors. (GIT paper, section 3.1.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits.scores import Ids, Mask, Scores
from refgit.generation.results import GenerateDecoderOnlyOutput, Output, Record, Step
from refgit.generation.search.base import SAMPLING, Search
from refgit.generation.session import Call, ended, processed
from refgit.layers._array_api import Array

# Scores (R, V) of the next token to tokens (R,).
Choose = Callable[[Scores], Ids]


@dataclass(kw_only=True, eq=False, repr=False)
class TokenStep(Step):
    """One token more for each text that had not ended; its `rows` are those texts.

    Attributes
    ----------
    tokens : int64 array (R,)
        What they go on with.
    ended : bool array (R,)
        Whether this was their last token.
    """

    tokens: Ids
    ended: Mask


@dataclass(kw_only=True, eq=False, repr=False)
class TokenSearch(Search):
    """A search in which every text has one row, so that its tokens can be shown as they come.

    Attributes
    ----------
    steps : callable
        ``(call, **options) -> iterator of TokenStep``, with options of `Decoding`; see `choosing`.
    """

    steps: Callable[..., Iterator[TokenStep]]

    def check(self, config: GenerationConfig) -> None:
        """See `Search`; only what is drawn can give several texts."""
        self.refuse(config)
        count = config.num_return_sequences
        if count > 1 and not self.draws:
            raise ValueError(
                f"num_return_sequences is {count}, num_beams 1 and do_sample False, which gives "
                f"only one text; pass do_sample=True or num_beams={count}."
            )

    def write(self, call: Call, streamer: Any = None) -> Array | Output:
        """See `Search`."""
        config, backend = call.config, call.model.backend
        prompts = np.repeat(call.prompts.ids, config.num_return_sequences, axis=0)
        written = []
        record = Record(config, len(prompts), backend)
        if streamer is not None:
            streamer.put(prompts)
        for step in self.steps(call):
            tokens = np.full(len(prompts), config.filler_id, np.int64)
            tokens[step.rows] = step.tokens
            written.append(tokens)
            record.add(step)
            if streamer is not None:
                streamer.put(tokens)
        if streamer is not None:
            streamer.end()
        ids = backend.asarray(np.concatenate([prompts, np.stack(written, axis=1)], axis=1))
        if not config.return_dict_in_generate:
            return ids
        return GenerateDecoderOnlyOutput(ids, **record.fields(), past_key_values=call.images)


def choosing(choose: Callable[[Call], Choose]) -> Callable[..., Iterator[TokenStep]]:
    """Make the steps of a search that picks each token by the scores of that step only."""
    return lambda call, **options: one_token_at_a_time(call, choose(call), **options)


def one_token_at_a_time(call: Call, choose: Choose, **options: bool) -> Iterator[TokenStep]:
    """Write texts token by token, those that have ended no longer among them.

    Parameters
    ----------
    call : Call
        Text b n + j is the j-th of the n for prompt b.
    choose : callable
        Picks the tokens: `likeliest`, or `draw` with a random generator.
    **options
        See `Decoding`.

    Yields
    ------
    TokenStep
        One for each call of the decoder, until all texts have ended.
    """
    decoding, prompts, rules = call.decoding(**options), call.prompts.rows, call.rules
    copies = call.config.num_return_sequences
    rows = np.arange(len(prompts) * copies)
    parents = rows // copies
    texts = [prompts[parent] for parent in parents.tolist()]
    logits = decoding.read_prompts()[parents]
    while len(rows):
        scores = processed(rules, rows // copies, [texts[row] for row in rows], logits)
        tokens = choose(scores)
        for row, token in zip(rows, tokens, strict=True):
            texts[row] = np.append(texts[row], token)
        over = ended(rules, rows // copies, [texts[row] for row in rows], scores)
        kept = decoding.kept(parents)
        yield TokenStep(rows, logits, scores, *kept, tokens=tokens, ended=over)
        going = np.flatnonzero(~over)
        if len(going):
            logits = decoding.step(parents[going], tokens[going])
        rows, parents = rows[going], np.arange(len(going))


def likeliest(scores: Scores) -> Ids:
    """Pick the best token of each row (R, V) -> (R,), the first among equals."""
    best: Ids = np.argmax(scores, axis=-1)
    return best


def draw(random: np.random.Generator) -> Choose:
    r"""Draw tokens by their probability, the softmax of the scores.

    The token is the first whose cumulative probability exceeds a uniform number u in [0, 1), one
    for each row in order: :math:`y = \min\{v : \sum_{w \le v} p_w > u\}`.
    """

    def choose(scores: Scores) -> Ids:
        p = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
        up_to = np.cumsum(p, axis=-1)  # (R, V), unnormalised
        u = random.random(len(scores))[:, None] * up_to[:, -1:]
        tokens: Ids = np.argmax(up_to > u, axis=-1)
        return tokens

    return choose


GREEDY = TokenSearch(
    name="greedy", asked_by=lambda config: True, steps=choosing(lambda call: likeliest)
)
SAMPLE = TokenSearch(
    name="sample",
    asked_by=lambda config: config.num_beams == 1 and config.do_sample,
    heeds=SAMPLING,
    draws=True,
    steps=choosing(lambda call: draw(call.random)),
)
