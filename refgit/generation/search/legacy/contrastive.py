r"""Contrastive search: of the k likeliest tokens the one that is least like those before it.

.. math:: y_t = \arg\max_{v \in V_k} \; (1 - \alpha) \, p(v) - \alpha \max_{j < t} \cos(h_v, h_j)

where h_v is the last hidden state of the token v in this place, and h_j that of a token before it,
prompt included. (Su et al., arXiv 2202.06417, equation 5.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refgit.generation.logits.scores import Scores, probabilities
from refgit.generation.search.token_by_token import TokenSearch, TokenStep
from refgit.generation.session import Call, ended, processed

Vectors = np.ndarray[Any, np.dtype[np.floating[Any]]]


def contrastive_search(call: Call, **options: bool) -> Iterator[TokenStep]:
    """Write texts token by token.

    Parameters
    ----------
    call : Call
        In its config alpha, the weight of the likeness, is `penalty_alpha`, and `top_k` is k, the
        number of tokens to choose among.
    **options
        See `Decoding`.

    Yields
    ------
    TokenStep
        One for each call of the decoder, until all texts have ended.
    """
    alpha, k = call.config.penalty_alpha or 0.0, call.config.top_k or 1
    decoding = call.decoding(**(options | {"output_hidden_states": True}))
    prompts, rules = call.prompts.rows, call.rules
    rows, texts = np.arange(len(prompts)), list(prompts)
    place = rows  # of each text, its row in the decoder's last call
    logits = decoding.read_prompts()
    states = decoding.hidden_states or ()
    said = [_unit(states[-1][b, -len(prompt) :]) for b, prompt in enumerate(prompts)]
    while len(rows):
        kept = decoding.kept(place)
        scores = processed(rules, rows, [texts[row] for row in rows], logits)
        p = probabilities(scores)
        candidates = np.argsort(-p, axis=-1, kind="stable")[:, :k]  # (R, k)
        size = candidates.shape[1]
        after = decoding.step(np.repeat(place, size), candidates.reshape(-1))  # (R k, V)
        h = _unit((decoding.hidden_states or ())[-1][:, -1])  # (R k, D)
        best = np.empty(len(rows), np.int64)
        for i, row in enumerate(rows):
            mine = h[i * size : (i + 1) * size]
            likeness = (mine @ said[row].T).max(axis=-1)  # (k,)
            worth = (1 - alpha) * p[i, candidates[i]] - alpha * likeness
            best[i] = np.argmax(np.where(p[i, candidates[i]] > 0, worth, -np.inf))
            said[row] = np.concatenate([said[row], mine[best[i]][None]])
        tokens = candidates[np.arange(len(rows)), best]
        for row, token in zip(rows, tokens, strict=True):
            texts[row] = np.append(texts[row], token)
        over = ended(rules, rows, [texts[row] for row in rows], scores)
        yield TokenStep(rows, logits, scores, *kept, tokens=tokens, ended=over)
        going = np.flatnonzero(~over)
        place = going * size + best[going]
        logits, rows = after[place], rows[going]


def _unit(x: Vectors) -> Vectors:  # (..., D), of length one
    wide: Scores = x.astype(np.promote_types(x.dtype, np.float32))
    length = np.sqrt((wide * wide).sum(axis=-1, keepdims=True))
    return np.asarray(wide / np.maximum(length, np.finfo(wide.dtype).tiny))


CONTRASTIVE = TokenSearch(
    name="contrastive",
    asked_by=lambda config: (
        (config.top_k or 0) > 1
        and (config.penalty_alpha or 0) > 0
        and config.num_beams == 1
        and not config.do_sample
    ),
    heeds=frozenset(["penalty_alpha", "top_k"]),
    reads_last_token=True,
    steps=contrastive_search,
)
