"""What `generate` returns where more than the ids is asked for, and what is read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.decoding import Layers
from refgit.generation.logits.scores import Ids, Scores, log_probabilities
from refgit.generation.protocol import Cache
from refgit.layers._array_api import Array
from refgit.outputs import ModelOutput
from refgit_backends import Backend, to_numpy

# For each step a value for each layer.
PerStep = tuple[tuple[Array, ...], ...]


@dataclass
class GenerateDecoderOnlyOutput(ModelOutput):
    """Of greedy search, sampling and contrastive search. All arrays lie on the model's backend.

    Attributes
    ----------
    sequences : array (R, length), int64
        R texts: the prompt, what was written, and ``pad_token_id`` after the end.
    scores : tuple of arrays (R, V), or None
        For each step the scores of the next token after the logits processors. A text that has
        ended goes on with the padding token for certain: 0 there and minus infinity elsewhere.
    logits : tuple of arrays (R, V), or None
        As the model gave them; likewise.
    attentions : tuple of tuples of arrays (R, H, Q, K), or None
        For each step and layer the attention probabilities of the text tokens read in it, over the
        image and the text so far; Q is 1 after the prompt. Zero where a text has ended.
    hidden_states : tuple of tuples of arrays (R, Q, D), or None
        For each step the text tokens read in it, before each layer and after the last.
    past_key_values : KeyValueCache
        The images, for further texts below them.
    """

    sequences: Array
    scores: tuple[Array, ...] | None = None
    logits: tuple[Array, ...] | None = None
    attentions: PerStep | None = None
    hidden_states: PerStep | None = None
    past_key_values: Cache | None = None


@dataclass
class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """Of the beam searches; R is the number of texts returned, B k that of beams.

    Attributes
    ----------
    sequences : array (R, length), int64
    sequences_scores : array (R,), or None
        Log-probability of each text over its length to the power of `length_penalty`.
    scores : tuple of arrays (B k, V), or None
        For each step and beam the log-probabilities of the next token after the logits processors.
    logits : tuple of arrays (B k, V), or None
        As the model gave them.
    beam_indices : array (R, n), int64, or None
        Which beam, a row of `scores`, each token was chosen in; -1 after the end.
    attentions, hidden_states
        See `GenerateDecoderOnlyOutput`, a row a beam.
    past_key_values : KeyValueCache
        The images, for further texts below them.
    """

    sequences: Array
    sequences_scores: Array | None = None
    scores: tuple[Array, ...] | None = None
    logits: tuple[Array, ...] | None = None
    beam_indices: Array | None = None
    attentions: PerStep | None = None
    hidden_states: PerStep | None = None
    past_key_values: Cache | None = None


Output = GenerateDecoderOnlyOutput | GenerateBeamDecoderOnlyOutput


@dataclass(eq=False, repr=False)
class Step:
    """What a step of a search was decided by.

    Attributes
    ----------
    rows : int64 array (R,)
        The rows of the search that still ran; with k beams, text b has rows b k to b k + k - 1.
    logits, scores : arrays (R, V)
        Before and after the logits processors; with beams, the latter are log-probabilities.
    attentions, hidden_states : tuple of arrays, or None
        See `Decoding`.
    """

    rows: Ids
    logits: Scores
    scores: Scores
    attentions: Layers | None
    hidden_states: Layers | None


class Record:
    """Collects one entry a step, each with a row for every row of the search.

    Parameters
    ----------
    config : GenerationConfig
        Says what to keep.
    rows : int
        Rows of the search, those that have ended included; these go on with ``filler_id``.
    backend : Backend
        Where the arrays go.
    """

    def __init__(self, config: GenerationConfig, rows: int, backend: Backend) -> None:
        self.rows, self.filler, self.asarray = rows, config.filler_id, backend.asarray
        whole = config.return_dict_in_generate
        self.kept: dict[str, list[Any]] = {
            name: []
            for name in ("scores", "logits", "attentions", "hidden_states")
            if whole and getattr(config, f"output_{name}")
        }

    def add(self, step: Step) -> None:
        """Keep what is wanted of a step."""
        for name, steps in self.kept.items():
            value = getattr(step, name)
            if name in ("scores", "logits"):
                whole = np.full((self.rows, value.shape[1]), -np.inf, value.dtype)
                whole[:, self.filler] = 0
                whole[step.rows] = value
                steps.append(self.asarray(whole))
            else:
                wholes = [np.zeros((self.rows, *x.shape[1:]), x.dtype) for x in value]
                for whole, x in zip(wholes, value, strict=True):
                    whole[step.rows] = x
                steps.append(tuple(map(self.asarray, wholes)))

    def fields(self) -> dict[str, tuple[Any, ...]]:
        """Everything kept, by the names of the outputs' fields."""
        return {name: tuple(steps) for name, steps in self.kept.items()}


def transition_scores(
    sequences: Any,
    scores: Sequence[Any],
    beam_indices: Any = None,
    *,
    normalize_logits: bool = False,
) -> Scores:
    r"""Pick the score of each token that was written.

    .. math:: t_{r,n} = s_{n,\, o_{r,n},\, y_{r,n}}

    with s the scores of step n, o the row that token n of text r was chosen in, and y the token.

    Parameters
    ----------
    sequences : array (R, T + n), integer
        As `generate` returned them.
    scores : sequence of n arrays (B, V)
        Likewise; with `output_scores`.
    beam_indices : array (R, n), integer, optional
        Likewise, of a beam search; -1 after the end of a text.
    normalize_logits : bool
        Turn scores into log-probabilities first.

    Returns
    -------
    array (R, n)
        0 after the end of a text of a beam search.

    Raises
    ------
    ValueError
        The arrays do not belong together, or hold ids of no token or row.
    """
    if scores is None:
        raise ValueError(
            "scores is None; expected the scores of generate(..., output_scores=True, "
            "return_dict_in_generate=True)."
        )
    ids, steps = to_numpy(sequences), [to_numpy(x) for x in scores]
    if beam_indices is None:
        origins = np.tile(np.arange(len(ids))[:, None], (1, len(steps)))
    else:
        origins = to_numpy(beam_indices)
    length = _written_length(ids, steps, origins)
    if normalize_logits:
        steps = [log_probabilities(x) for x in steps]
    origins, tokens = origins[:, :length], ids[:, ids.shape[1] - length :]
    stacked = np.stack(steps)  # (n, B, V)
    after, size = origins < 0, stacked.shape[-1]
    safe = np.where(after, 0, tokens)
    strange = safe[(safe < 0) | (safe >= size)]
    if strange.size:
        raise ValueError(
            f"sequences holds {strange[0]}; expected ids from 0 to {size - 1}, the tokens that "
            "scores has."
        )
    picked = stacked[np.arange(length)[None], np.where(after, 0, origins), safe]  # (R, n)
    result: Scores = np.where(after, picked.dtype.type(0), picked)
    return result


def _written_length(ids: Ids, steps: Sequence[Scores], origins: Ids) -> int:
    """Return how many tokens were written, once the arrays are found to belong together."""
    alike = len({x.shape for x in steps}) == 1 and steps[0].ndim == 2
    if not alike or ids.ndim != 2:
        raise ValueError(
            f"sequences has shape {tuple(ids.shape)} and scores has {len(steps)} steps; expected "
            "(texts, tokens), and arrays (rows, V) of one shape, as generate returned them."
        )
    for name, x in (("sequences", ids), ("beam_indices", origins)):
        if x.dtype.kind not in "iu":
            raise ValueError(f"{name} is of dtype {x.dtype}; expected integers.")
    rows = len(steps[0])
    fits = origins.ndim == 2 and len(origins) == len(ids) and origins.max(initial=-1) < rows
    length = min(origins.shape[-1], len(steps)) if fits else 0
    if not fits or ids.shape[1] < length:
        raise ValueError(
            f"sequences has {ids.shape[0]} texts of {ids.shape[1]} tokens, scores {rows} rows and "
            f"beam_indices shape {tuple(origins.shape)}; expected those of one call of generate "
            "(with beams, pass its beam_indices)."
        )
    return length
