"""How likely each word of generated texts was, from the scores that `generate` returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refgit.arrays import to_numpy
from refgit.generation.logits.scores import Scores, log_probabilities


def transition_scores(
    sequences: Any,
    scores: Sequence[Any],
    beam_indices: Any = None,
    *,
    normalize_logits: bool = False,
) -> Scores:
    r"""Pick each word's score out of those of all words.

    .. math:: t_{r,n} = s_{n,\, o_{r,n},\, y_{r,n}}

    with s the scores of step n, o the row that word n of text r was chosen in, and y the word.

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
        The arrays do not belong together, or hold what is no word or row.
    """
    if scores is None:
        raise ValueError(
            "scores is None; expected those of generate(..., output_scores=True, "
            "return_dict_in_generate=True)."
        )
    steps = [to_numpy(x) for x in scores]
    ids = to_numpy(sequences)
    alike = len({x.shape for x in steps}) == 1 and steps[0].ndim == 2
    if not alike or ids.ndim != 2:
        raise ValueError(
            f"sequences has shape {tuple(ids.shape)} and scores has {len(steps)} steps; expected "
            "(texts, tokens), and arrays (rows, words) of one shape, as generate returned them."
        )
    if beam_indices is None:
        origins = np.tile(np.arange(len(ids))[:, None], (1, len(steps)))
    else:
        origins = to_numpy(beam_indices)
    for name, x in (("sequences", ids), ("beam_indices", origins)):
        if x.dtype.kind not in "iu":
            raise ValueError(f"{name} is of dtype {x.dtype}; expected integers.")
    rows, size = steps[0].shape
    fits = origins.ndim == 2 and len(origins) == len(ids) and origins.max(initial=-1) < rows
    length = min(origins.shape[-1], len(steps)) if fits else 0
    if not fits or ids.shape[1] < length:
        raise ValueError(
            f"sequences has {ids.shape[0]} texts of {ids.shape[1]} tokens, scores {rows} rows and "
            f"beam_indices shape {tuple(origins.shape)}; expected those of one call of generate "
            "(with beams, pass its beam_indices)."
        )
    if normalize_logits:
        steps = [log_probabilities(x) for x in steps]
    origins, words = origins[:, :length], ids[:, ids.shape[1] - length :]
    stacked = np.stack(steps)  # (n, B, V)
    after = origins < 0
    safe = np.where(after, 0, words)
    strange = safe[(safe < 0) | (safe >= size)]
    if strange.size:
        raise ValueError(
            f"sequences holds {strange[0]}; expected ids from 0 to {size - 1}, the words that "
            "scores has."
        )
    picked = stacked[np.arange(length)[None], np.where(after, 0, origins), safe]  # (R, n)
    result: Scores = np.where(after, picked.dtype.type(0), picked)
    return result
