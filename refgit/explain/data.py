"""What is known of one text below one image: probabilities, attention, states on the way.

Letters as in refgit/layers: N image tokens, T text tokens, L = N + T, D width, H heads. F frames
(1 of an image) have R rows and C columns of patches each, so N = F (1 + R C): of every frame the
class token comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.floating[Any]]]
Ids = np.ndarray[Any, np.dtype[np.int64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class ExplainError(ValueError):
    """An explanation cannot be made or written; the message says why and what to do."""


@dataclass(frozen=True)
class ExplanationData:
    """One text below one image, as the model saw both; `Explanation` shows it as well.

    Token k is ``token_ids[k]``. It was predicted at position N + k of the decoder's sequence,
    where the token before it is (``context[k]``; the opening token before the first): all that
    is said of token k is read off at this *query position*.

    Attributes
    ----------
    text : str
        The decoded tokens, without special ones.
    generated : bool
        Whether the model wrote the text; otherwise it was given.
    token_ids : int64 array (T,)
        The last is the end token, unless generation was cut off before.
    tokens : tuple of T str
        These as the vocabulary writes them.
    context : tuple of T str
        The text tokens that the decoder reads: the opening token, then all but the last.
    probabilities : array (T,)
        What the model gave each token, before any rule of generation.
    ranks : int64 array (T,)
        1 where the token was the likeliest, 2 where one was likelier ...
    top_ids : int64 array (T, 10)
        The likeliest tokens in the place of each, best first; fewer columns where V is below 10.
    top_tokens : tuple of T tuples of str
    top_probabilities : array (T, 10)
    attentions : tuple of arrays (H, T, L), one a layer
        The decoder's, of the query of each token. Pruned heads are missing.
    heads : tuple of tuples of int, one a layer
        The number, in the unpruned model, of each head in `attentions`.
    rollouts : float64 array (layers, T, L)
        Rows of `rollout` up to each layer.
    text_norms : array (layers + 1, T)
        Euclidean norm of the hidden state at each query position, as it enters the decoder and
        after each layer.
    image_norms : array (image layers + 1, F R C)
        The same of each patch on its way through the image encoder, class tokens left out.
    lens_ids : int64 array (layers + 1, T)
        The token that the head would choose if the decoder ended there (the "logit lens").
    lens_tokens : tuple of layers + 1 tuples of str
    lens_probabilities, lens_of_token : arrays (layers + 1, T)
        The head's probability there of that token, and of the token that was chosen.
    image : uint8 array (F, R P, C P, 3)
        What the model saw: after resizing and cropping, less what does not fill a patch.
    grid : (int, int, int)
        F, R, C.
    """

    text: str
    generated: bool
    token_ids: Ids
    tokens: tuple[str, ...]
    context: tuple[str, ...]
    probabilities: Numbers
    ranks: Ids
    top_ids: Ids
    top_tokens: tuple[tuple[str, ...], ...]
    top_probabilities: Numbers
    attentions: tuple[Numbers, ...]
    heads: tuple[tuple[int, ...], ...]
    rollouts: Numbers
    text_norms: Numbers
    image_norms: Numbers
    lens_ids: Ids
    lens_tokens: tuple[tuple[str, ...], ...]
    lens_probabilities: Numbers
    lens_of_token: Numbers
    image: Bytes
    grid: tuple[int, int, int]

    @property
    def image_length(self) -> int:
        """N, the image tokens."""
        frames, rows, columns = self.grid
        return frames * (1 + rows * columns)

    def attention(
        self, token: int, layer: int | None = None, head: int | None = None, *, rolled: bool = False
    ) -> Numbers:
        """Return the attention of the query that predicted a token.

        Parameters
        ----------
        token : int
        layer : int, optional
            From 0; by default the mean over the layers, or rollout through all of them.
        head : int, optional
            From 0, as numbered in the unpruned model; by default the mean over the heads.
        rolled : bool
            Rollout up to the layer, which knows no single heads.

        Returns
        -------
        array (L,)
            First the image tokens, then `context`. Sums to one.

        Raises
        ------
        ExplainError
            There is no such token, layer or head, or a head was named without its layer or with
            `rolled`.
        """
        self._require("token", token, range(len(self.tokens)))
        if layer is not None:
            self._require("layer", layer, range(len(self.attentions)))
        if head is not None and (layer is None or rolled):
            raise ExplainError(
                f"head is {head} {'with rolled' if rolled else 'without a layer'}; expected a "
                "layer with it, and not rolled, which takes all heads together."
            )
        if rolled:
            row: Numbers = self.rollouts[-1 if layer is None else layer, token]
        elif layer is None:
            row = np.mean([a[:, token].mean(axis=0) for a in self.attentions], axis=0)
        elif head is None:
            row = self.attentions[layer][:, token].mean(axis=0)
        else:
            self._require(f"head of layer {layer}", head, self.heads[layer])
            row = self.attentions[layer][self.heads[layer].index(head), token]
        return row

    @staticmethod
    def _require(what: str, value: int, known: range | tuple[int, ...]) -> None:
        if value not in known:
            numbers = ", ".join(map(str, known))
            raise ExplainError(f"{what} is {value!r}; there are {numbers}.")

    def on_patches(self, row: Any) -> Numbers:
        """Lay the image's part of a row of attention out as the patches lie: (L,) -> (F, R, C)."""
        frames, rows, columns = self.grid
        tokens = np.asarray(row)[: self.image_length].reshape(frames, 1 + rows * columns)
        return tokens[:, 1:].reshape(frames, rows, columns)
