"""Rows of text that grow below images: what every search runs on.

A search says which rows go on, and with which token; rows may occur twice (beams), change their
order, or end. Here they are arranged for the decoder, which takes equally many rows for each image.
Each image is read once, and its keys and values are stored once, however many rows attend to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.protocol import Cache, CaptionModel

# Of each layer: attention probabilities (R, H, Q, K), or hidden states (R, Q, D).
Layers = tuple[np.ndarray[Any, Any], ...]


class Decoding:
    """Texts below images, one call of the decoder for each token of all of them.

    Parameters
    ----------
    model : GitForCausalLM
    images : Cache
        Holds the images and no text; it is used up.
    prompts : sequence of int64 arrays (T_b,)
        What each text starts with, without padding. Text b belongs to image b modulo the number
        of images. Each is read as if it were the only one, whatever the lengths of the others.
    **options
        `head_mask` of `GitModel`; `output_attentions` and `output_hidden_states`, whether the
        attributes below are wanted.

    Attributes
    ----------
    attentions : tuple of arrays (R, H, Q, K), or None
        Each layer's probabilities of the last call, a row for each row of its result; Q is 1 after
        the prompt. Shorter prompts are on the right, with zeros in the place of padding.
    hidden_states : tuple of arrays (R, Q, D), or None
        Before each layer and after the last, likewise.
    """

    def __init__(
        self, model: CaptionModel, images: Cache, prompts: Sequence[Ids], **options: Any
    ) -> None:
        lengths = np.array([len(prompt) for prompt in prompts])
        # Distances to the image would count padding, so rows of each length have a batch.
        apart = model.config.position_embedding_type != "absolute"
        kinds = np.unique(lengths) if apart else [lengths.max()]
        self._batches = []
        # Of each row: its batch, and its place in it.
        self._batch_of = np.zeros(len(prompts), np.int64)
        self._place = np.zeros(len(prompts), np.int64)
        for i, length in enumerate(kinds):
            rows = np.flatnonzero(lengths == length) if apart else np.arange(len(prompts))
            cache = images if len(kinds) == 1 else images.fork()
            batch = _Batch(model, cache, [prompts[row] for row in rows.tolist()], rows, options)
            self._batches.append(batch)
            self._batch_of[rows], self._place[rows] = i, np.arange(len(rows))
        self.attentions: Layers | None = None
        self.hidden_states: Layers | None = None

    def read_prompts(self) -> Scores:
        """Read the prompts; return the scores of the next token of each text, (B, V)."""
        return self._gathered([batch.read_prompts() for batch in self._batches])

    def step(self, parents: Ids, tokens: Ids) -> Scores:
        """Go on with some rows, each by a token.

        Parameters
        ----------
        parents : int64 array (R,)
            Row r continues what was row parents[r] after the last call.
        tokens : int64 array (R,)
            What each continues with.

        Returns
        -------
        array (R, V)
            Scores of the token after.
        """
        batch_of, place = self._batch_of[parents], self._place[parents]
        self._batch_of, self._place = batch_of, np.zeros(len(parents), np.int64)
        scores = []
        for i, batch in enumerate(self._batches):
            rows = np.flatnonzero(batch_of == i)
            self._place[rows] = np.arange(len(rows))
            scores.append(batch.step(place[rows], tokens[rows]) if len(rows) else None)
        return self._gathered(scores)

    def kept(self, parents: Ids) -> tuple[Layers | None, Layers | None]:
        """`attentions` and `hidden_states` of rows that continue rows of the last call."""
        attentions, states = self.attentions, self.hidden_states
        return (
            attentions and tuple(x[parents] for x in attentions),
            states and tuple(x[parents] for x in states),
        )

    def _gathered(self, scores: Sequence[Scores | None]) -> Scores:
        """Bring the batches' rows into the order of the search."""
        live = [
            batch for batch, part in zip(self._batches, scores, strict=True) if part is not None
        ]
        found = [part for part in scores if part is not None]
        if len(found) == 1:
            self.attentions, self.hidden_states = live[0].attentions, live[0].hidden_states
            return found[0]
        # the place of each row when the batches are concatenated
        order = np.argsort(np.argsort(self._batch_of, kind="stable"), kind="stable")
        self.attentions = self._joined([batch.attentions for batch in live], order, keys=True)
        self.hidden_states = self._joined([batch.hidden_states for batch in live], order)
        return np.concatenate(found)[order]

    def _joined(
        self, parts: Sequence[Layers | None], order: Ids, *, keys: bool = False
    ) -> Layers | None:
        """Concatenate the layers of the batches, shorter ones padded with zeros."""
        if any(part is None for part in parts):
            return None
        n_image = self._batches[0].image_length
        layers = []
        for arrays in zip(*parts, strict=True):
            shape = tuple(max(x.shape[axis] for x in arrays) for axis in range(1, arrays[0].ndim))
            wide = np.zeros((sum(len(x) for x in arrays), *shape), arrays[0].dtype)
            start = 0
            for x in arrays:
                stop = start + len(x)
                if keys:  # (R, H, Q, K): the image's keys on the left, the text's on the right
                    queries, text = x.shape[2], x.shape[3] - n_image
                    here = wide[start:stop, :, shape[1] - queries :]
                    here[..., :n_image] = x[..., :n_image]
                    here[..., shape[2] - text :] = x[..., n_image:]
                else:  # (R, Q, D)
                    wide[start:stop, shape[0] - x.shape[1] :] = x
                start = stop
            layers.append(wide[order])
        return tuple(layers)


class _Batch:
    """Rows that the decoder reads in one call.

    They are on a grid of n rows for each image, row j of image i at place j I + i, as the decoder
    takes them. Where an image has fewer rows than another, a copy of one fills the gap.
    """

    def __init__(
        self,
        model: CaptionModel,
        cache: Cache,
        prompts: Sequence[Ids],
        rows: Ids,
        options: dict[str, Any],
    ) -> None:
        self.model, self.cache, self.options = model, cache, options
        self.image_length = cache.image_length
        self.n_images = cache.num_images or 1
        self.prompts = prompts
        self.attentions: Layers | None = None
        self.hidden_states: Layers | None = None
        self.image_of = rows % self.n_images

    def read_prompts(self) -> Scores:
        """Lay the rows out, the shorter ones padded on the left, and read them."""
        prompts = [self.prompts[row] for row in self._arrange(self.image_of)]
        longest = max(map(len, prompts))
        # Padding on the left of each row, in the decoder's order.
        self.padding = np.array([longest - len(prompt) for prompt in prompts])
        ids = np.zeros((len(prompts), longest), np.int64)
        for row, prompt in zip(ids, prompts, strict=True):
            row[longest - len(prompt) :] = prompt
        mask = None
        if self.padding.any():  # (rows, T), 1 for text
            mask = (np.arange(longest) >= self.padding[:, None]).astype(np.int64)
        return self._read(ids, mask)

    def step(self, parents: Ids, tokens: Ids) -> Scores:
        """See `Decoding.step`; rows are counted within the batch."""
        before = len(self.padding)
        parent_place = self.place[parents]
        source = self._arrange(self.image_of[parents])  # which of the new rows is at each place
        places = parent_place[source]
        if len(places) != before or (places != np.arange(before)).any():
            self.cache.select(self.model.backend.asarray(places))
            self.padding = self.padding[places]
        return self._read(tokens[source][:, None], None)

    def _arrange(self, image_of: Ids) -> Ids:
        """Find places for rows of these images; return which row is at each place."""
        kept = np.flatnonzero(np.bincount(image_of))  # np.unique would import numpy.ma, slowly
        if len(kept) < self.n_images:
            if self.cache.num_images is not None:
                self.cache.select_images(self.model.backend.asarray(kept))
            image_of = np.searchsorted(kept, image_of)
            self.n_images = len(kept)
        self.image_of = image_of
        order = np.argsort(image_of, kind="stable")  # rows, image by image
        counts = np.bincount(image_of, minlength=self.n_images)
        first = np.cumsum(counts) - counts
        number = np.empty_like(order)  # row r is the number[r]-th of its image
        number[order] = np.arange(len(order)) - np.repeat(first, counts)
        self.place = number * self.n_images + image_of
        source = np.tile(order[first], counts.max())  # gaps are filled by each image's first row
        source[self.place] = np.arange(len(image_of))
        return source

    def _read(self, ids: Ids, mask: Ids | None) -> Scores:
        """Read new tokens (rows, Q); return scores and what else is kept in the search's order."""
        positions = None
        if self.padding.any():
            start = self.cache.text_length + np.arange(ids.shape[1])
            positions = np.maximum(start - self.padding[:, None], 0)
        out = self.model.next_token_logits(
            ids, self.cache, attention_mask=mask, position_ids=positions, **self.options
        )
        home = self.model.backend.to_numpy
        text = np.ones(ids.shape, bool) if mask is None else mask != 0  # (rows, Q)
        text = text[self.place]
        if out.attentions is not None:
            attentions = (home(x)[self.place] for x in out.attentions)
            self.attentions = tuple(x * text[:, None, :, None] for x in attentions)
        if out.hidden_states is not None:
            states = (home(x)[self.place] for x in out.hidden_states)
            self.hidden_states = tuple(x * text[:, :, None] for x in states)
        scores = home(out.logits)
        scores = scores.astype(np.promote_types(scores.dtype, np.float32), copy=False)
        straight = len(self.place) == len(scores) and (self.place == np.arange(len(scores))).all()
        return scores if straight else scores[self.place]
