"""Streaming: each word as soon as it is chosen.

For a terminal that shows a caption as it grows, and for looking at how sure the model was and
where on the image it looked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.generation.api import Call, prepare, steps
from refgit.generation.logits.scores import Ids, log_probabilities
from refgit.generation.protocol import CaptionModel
from refgit.generation.search.token_by_token import Step

Numbers = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True)
class Word:
    """One word of a text, just chosen.

    Attributes
    ----------
    row : int
        Which text: as in the result of `generate`.
    token_id : int
        The word; the last one of a text is often the end token.
    token : str or None
        As the vocabulary writes it, where a tokenizer was given.
    ids : int64 array (n,)
        All words of the text so far, this one included and the prompt not.
    text : str or None
        These in letters, without special tokens, where a tokenizer was given.
    log_probability : float
        What the model gave the word, natural logarithm, before any logits processor.
    ended : bool
        Whether it is the text's last.
    attention : array (layers, H, N), or tuple of arrays (H, N), or None
        Where asked for: how the token that the word was foretold from looked at the image tokens,
        of each frame the class token and then the patches, row by row. What it gave to the text
        makes up the rest to 1. A tuple with one array a layer where pruning has left the layers
        unlike numbers of heads.
    """

    row: int
    token_id: int
    token: str | None
    ids: Ids
    text: str | None
    log_probability: float
    ended: bool
    attention: Numbers | tuple[Numbers, ...] | None


def stream(
    model: CaptionModel,
    pixel_values: Any = None,
    input_ids: Any = None,
    *,
    tokenizer: Any = None,
    output_attentions: bool = False,
    **options: Any,
) -> Iterator[Word]:
    """Write texts below images, and show each word as it comes.

    Parameters
    ----------
    model, pixel_values, input_ids
        See `generate`.
    tokenizer : BertTokenizer, optional
        Gives the words in letters.
    output_attentions : bool
        Whether to show where on the image the model looked.
    **options
        As for `generate`, but for beams, which change their minds, and `streamer`.

    Returns
    -------
    iterator of Word
        Step by step, and within a step text by text; texts that have ended are no longer among
        them. What is wrong with the arguments is said before it is returned.

    Raises
    ------
    ValueError, TypeError
        As `generate`.
    """
    for name in ("return_dict_in_generate", "output_scores", "output_logits"):
        if options.get(name):
            raise ValueError(
                f"{name} is {options[name]}, which stream cannot heed: it yields each word with "
                "its log-probability. Leave it out, or call generate."
            )
    call = prepare(
        model, pixel_values, input_ids, tokenizer=tokenizer, without_beams="stream", **options
    )
    return _words(call, tokenizer, output_attentions)


def _words(call: Call, tokenizer: Any, with_attention: bool) -> Iterator[Word]:
    written: dict[int, list[int]] = {}
    for step in steps(call, keep_attentions=with_attention):
        log_p = log_probabilities(step.logits)
        for i, row in enumerate(step.rows.tolist()):
            word = int(step.words[i])
            ids = written.setdefault(row, [])
            ids.append(word)
            yield Word(
                row=row,
                token_id=word,
                token=None if tokenizer is None else tokenizer.convert_ids_to_tokens(word),
                ids=np.array(ids),
                text=None if tokenizer is None else tokenizer.decode(ids, skip_special_tokens=True),
                log_probability=float(log_p[i, word]),
                ended=bool(step.ended[i]),
                attention=_on_the_image(step, i, call.images.image_length)
                if with_attention
                else None,
            )


def _on_the_image(step: Step, i: int, n_image: int) -> Numbers | tuple[Numbers, ...]:
    """What the last query of a row gave to the image tokens: (layers, H, N), or layer by layer."""
    layers = tuple(x[i, :, -1, :n_image] for x in step.attentions or ())
    return np.stack(layers) if len({len(x) for x in layers}) == 1 else layers
