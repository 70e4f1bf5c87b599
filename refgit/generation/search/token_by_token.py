r"""Greedy search and sampling: each text goes on with one word a step, until it ends.

.. math:: \text{greedy: } y_t = \arg\max_v s_{t,v}, \qquad
          \text{sampling: } y_t \sim \operatorname{softmax}(s_t)

with s the scores of the next word after the logits processors. (GIT paper, section 3.1.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refgit.generation.decoding import Decoding, Layers
from refgit.generation.logits.scores import Ids, Mask, Scores
from refgit.generation.session import Rules, ended, processed

# Scores (R, V) of the next word to words (R,).
Choose = Callable[[Scores], Ids]


@dataclass
class Step:
    """One word more for each text that had not ended.

    Attributes
    ----------
    rows : int64 array (R,)
        Which texts these are.
    words : int64 array (R,)
        What they go on with.
    ended : bool array (R,)
        Whether this was their last word.
    logits, scores : arrays (R, V)
        Before and after the logits processors.
    attentions, hidden_states : tuple of arrays, or None
        See `Decoding`.
    """

    rows: Ids
    words: Ids
    ended: Mask
    logits: Scores
    scores: Scores
    attentions: Layers | None
    hidden_states: Layers | None


def one_word_at_a_time(
    decoding: Decoding,
    prompts: Sequence[Ids],
    rules: Sequence[Rules],
    choose: Choose,
    copies: int = 1,
) -> Iterator[Step]:
    """Write texts word by word, those that have ended no longer among them.

    Parameters
    ----------
    decoding : Decoding
        Of the prompts.
    prompts : sequence of int64 arrays (T_b,)
    rules : sequence of Rules
        What each text must keep to, and where it ends.
    choose : callable
        Picks the words: `likeliest`, or `draw` with a random generator.
    copies : int
        Texts to write for each prompt; text b copies + j is the j-th of prompt b.

    Yields
    ------
    Step
        One for each call of the decoder, until all texts have ended.
    """
    rows = np.arange(len(prompts) * copies)
    parents = rows // copies
    texts = [prompts[parent] for parent in parents.tolist()]
    logits = decoding.read_prompts()[parents]
    while len(rows):
        scores = processed(rules, rows // copies, [texts[row] for row in rows], logits)
        words = choose(scores)
        for row, word in zip(rows, words, strict=True):
            texts[row] = np.append(texts[row], word)
        over = ended(rules, rows // copies, [texts[row] for row in rows], scores)
        kept = (_rows_of(decoding.attentions, parents), _rows_of(decoding.hidden_states, parents))
        yield Step(rows, words, over, logits, scores, *kept)
        going = np.flatnonzero(~over)
        if len(going):
            logits = decoding.step(parents[going], words[going])
        rows, parents = rows[going], np.arange(len(going))


def _rows_of(layers: Layers | None, parents: Ids) -> Layers | None:
    """After the prompt, rows for copies of it."""
    return None if layers is None else tuple(x[parents] for x in layers)


def likeliest(scores: Scores) -> Ids:
    """Pick the best word of each row (R, V) -> (R,), the first among equals."""
    best: Ids = np.argmax(scores, axis=-1)
    return best


def draw(random: np.random.Generator) -> Choose:
    r"""Draw words by their probability, the softmax of the scores.

    The word is the first whose cumulative probability exceeds a uniform number u in [0, 1), one
    for each row in order: :math:`y = \min\{v : \sum_{w \le v} p_w > u\}`.
    """

    def choose(scores: Scores) -> Ids:
        p = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
        up_to = np.cumsum(p, axis=-1)  # (R, V), unnormalised
        u = random.random(len(scores))[:, None] * up_to[:, -1:]
        words: Ids = np.argmax(up_to > u, axis=-1)
        return words

    return choose
