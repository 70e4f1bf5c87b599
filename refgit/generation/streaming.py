"""Streaming: each token as soon as it is chosen.

For a terminal that shows a caption as it grows, and for looking at how sure the model was and
where on the image it attended to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.generation.api import prepare
from refgit.generation.logits.scores import Ids, log_probabilities
from refgit.generation.protocol import CaptionModel
from refgit.generation.request import Request
from refgit.generation.search.token_by_token import TokenSearch, TokenStep
from refgit.generation.session import Call

Numbers = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True)
class StreamedToken:
    """One token of a text, just chosen.

    Attributes
    ----------
    row : int
        Which text: as in the result of `generate`.
    token_id : int
        The last one of a text is often the end token.
    token : str or None
        As the vocabulary writes it, where a tokenizer was given.
    ids : int64 array (n,)
        All tokens of the text so far, this one included and the prompt not.
    text : str or None
        These as text, without special tokens, where a tokenizer was given.
    log_probability : float
        What the model gave the token, natural logarithm, before any logits processor.
    ended : bool
        Whether it is the text's last.
    attention : array (layers, H, N), or tuple of arrays (H, N), or None
        Where asked for: the attention probabilities of the position that predicted the token, over
        the image tokens, of each frame the class token and then the patches, row by row. The rest
        to 1 went to the text. A tuple with one array a layer where pruning has left the layers
        different numbers of heads.
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
) -> Iterator[StreamedToken]:
    """Write texts below images, and show each token as it comes.

    Parameters
    ----------
    model, pixel_values, input_ids
        See `generate`.
    tokenizer : BertTokenizer, optional
        Gives the tokens as text.
    output_attentions : bool
        Whether to show the attention over the image.
    **options
        As for `generate`, without `streamer`; and without beams, since beam search can revise
        tokens that were already emitted.

    Returns
    -------
    iterator of StreamedToken
        Step by step, and within a step text by text; texts that have ended are no longer among
        them. Wrong arguments are refused before it is returned.

    Raises
    ------
    ValueError, TypeError
        As `generate`.
    """
    for name in ("return_dict_in_generate", "output_scores", "output_logits"):
        if options.get(name):
            raise ValueError(
                f"{name} is {options[name]}, which stream does not return: it yields each token "
                "with its log-probability. Leave it out, or call generate."
            )
    if "streamer" in options:
        raise TypeError("stream has no argument 'streamer'; it is an iterator over the tokens.")
    request = Request.of(pixel_values, input_ids, {**options, "tokenizer": tokenizer})
    search, call = prepare(model, request, shown_by="stream")
    assert isinstance(search, TokenSearch)  # `prepare` refused beams
    return _tokens(search, call, tokenizer, output_attentions)


def _tokens(
    search: TokenSearch, call: Call, tokenizer: Any, with_attention: bool
) -> Iterator[StreamedToken]:
    written: dict[int, list[int]] = {}
    for step in search.steps(call, output_attentions=with_attention):
        log_p = log_probabilities(step.logits)
        for i, row in enumerate(step.rows.tolist()):
            token = int(step.tokens[i])
            ids = written.setdefault(row, [])
            ids.append(token)
            yield StreamedToken(
                row=row,
                token_id=token,
                token=None if tokenizer is None else tokenizer.convert_ids_to_tokens(token),
                ids=np.array(ids),
                text=None if tokenizer is None else tokenizer.decode(ids, skip_special_tokens=True),
                log_probability=float(log_p[i, token]),
                ended=bool(step.ended[i]),
                attention=_on_the_image(step, i, call.images.image_length)
                if with_attention
                else None,
            )


def _on_the_image(step: TokenStep, i: int, n_image: int) -> Numbers | tuple[Numbers, ...]:
    """What the last query of a row gave to the image tokens: (layers, H, N), or layer by layer."""
    layers = tuple(x[i, :, -1, :n_image] for x in step.attentions or ())
    return np.stack(layers) if len({len(x) for x in layers}) == 1 else layers
