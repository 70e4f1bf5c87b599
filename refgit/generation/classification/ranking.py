r"""Classification by generation: how likely each label is as the text below an image.

.. math:: \log P(y \mid \text{image}) = \sum_{t=1}^{n+1} \log p(y_t \mid y_{<t}, \text{image}),
          \qquad y_{n+1} = \text{the end token}

Where several tokens end a text, the last summand is the logarithm of their probabilities' sum.
The model predicts a class name as it predicts a caption, token by token and without a classifier.
(GIT paper, section 4.5, "image classification".) Labels with a common prefix share that part of the
sum, so the decoder reads each distinct prefix once: it walks down the trie of all labels and keeps,
on the way, the keys and values of the prefixes above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.generation.classification.trie import LabelError, Trie
from refgit.generation.logits.scores import Ids, Scores
from refgit.generation.prompt import check_images, opening_token
from refgit.generation.protocol import Cache, CaptionModel, DecoderConfig
from refgit.layers._array_api import Array, array_namespace, at_least_float32
from refgit.layers.softmax import softmax
from refgit.validation import expect, is_integer, is_number

Labels = Trie | Iterable[Sequence[int]]
# Called with how many prefixes have been read, and of how many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Classification:
    """The best labels of each of B' images, best first, on the model's backend.

    Attributes
    ----------
    labels : int64 array (B', top)
        Which labels, counted from 0.
    log_probabilities : float64 array (B', top)
        Natural logarithms: of each as a whole text, among all that the model might write.
    shares : float64 array (B', top)
        Their probabilities among the labels; over all labels they add up to 1.
    """

    labels: Array
    log_probabilities: Array
    shares: Array


def classify(
    model: CaptionModel,
    pixel_values: Any = None,
    labels: Labels = (),
    prompt: Any = None,
    *,
    top: int = 5,
    length_penalty: float = 0.0,
    **options: Any,
) -> Classification:
    r"""Rank labels by their probability as the text below each image.

    Parameters
    ----------
    model, pixel_values, labels, prompt
        See `label_log_probabilities`.
    top : int
        How many labels to return; all of them where there are fewer.
    length_penalty : float
        alpha in the score that ranks, :math:`\log P(y) / (n + 1)^{\alpha}` with n the label's
        tokens, as in beam search. At 0 that is the probability itself; at 1 the mean over tokens.
    **options
        ``past_key_values``, ``head_mask``, ``batch_size`` ...: see `label_log_probabilities`.

    Returns
    -------
    Classification

    Raises
    ------
    LabelError, ValueError, TypeError
        See `label_log_probabilities`.
    """
    expect("top", top, is_integer(top, 1), "an integer of at least 1")
    expect("length_penalty", length_penalty, is_number(length_penalty), "a finite number")
    trie = trie_of(model, labels)
    found = label_log_probabilities(model, pixel_values, trie, prompt, **options)
    log_p = model.backend.to_numpy(found)  # (B', labels)
    scores = log_p / trie.depth[trie.leaf] ** float(length_penalty)
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :top]  # (B', top)
    wanted = (best, *(np.take_along_axis(x, best, -1) for x in (log_p, among_labels(scores))))
    return Classification(*(model.backend.asarray(x) for x in wanted))


def among_labels(log_probabilities: Array) -> Array:
    r"""Turn log probabilities (B', labels) into probabilities that add up to 1 over the labels.

    .. math:: P(y \mid \text{one of the labels}) = \frac{P(y)}{\sum_{y'} P(y')}

    A label that occurs twice counts twice.
    """
    return softmax(log_probabilities)


def label_log_probabilities(
    model: CaptionModel,
    pixel_values: Any = None,
    labels: Labels = (),
    prompt: Any = None,
    *,
    past_key_values: Cache | None = None,
    head_mask: Any = None,
    interpolate_pos_encoding: bool = False,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Array:
    """Compute how likely each label is as the whole text below each image.

    Parameters
    ----------
    model : GitForCausalLM
    pixel_values, past_key_values, head_mask, interpolate_pos_encoding
        See `refgit.generation.api.generate`.
    labels : iterable of sequences of int, or Trie
        Token ids of each label, without special tokens; ``eos_token_id`` ends them, any one of it
        where it is a list. Make a `Trie` to use the labels several times, or to end them otherwise.
    prompt : sequence of int (T,), optional
        What each text starts with, ``bos_token_id`` included; by default only that token.
    batch_size : int
        Rows that the decoder reads at once, at least one for each image. Memory grows with it, and
        little with the number of labels.
    progress : callable, optional
        Called with the number of distinct prefixes read so far, and of all of them.

    Returns
    -------
    float64 array (B', labels), on the model's backend
        Natural logarithms, normalised over the whole vocabulary at each token, the end token's
        included; where several tokens end a text, of the probability that one of them does.

    Raises
    ------
    LabelError
        A label is empty, holds an end token or an unknown one, or reaches beyond the positions that
        the model has learned.
    ValueError, TypeError
        Another argument does not fit; the message names it.

    Notes
    -----
    Source: GIT paper, section 4.5. Equals scoring each label by itself, up to rounding.
    """
    expect("batch_size", batch_size, is_integer(batch_size, 1), "an integer of at least 1")
    expect("progress", progress, progress is None or callable(progress), "a function of two counts")
    trie = trie_of(model, labels)
    start = _prompt(model, prompt)
    images = check_images(model, pixel_values, past_key_values, any_size=interpolate_pos_encoding)
    check_labels(trie, model.config, len(start), images.length)
    walk = _Walk(model, trie, images.number, head_mask, int(batch_size), progress)
    scores = walk.run(images.read(head_mask).fork(), start)  # (n, B')
    return model.backend.asarray(scores[trie.leaf].T.copy())


def check_labels(trie: Trie, config: DecoderConfig, prompt: int, n_image: int) -> None:
    """Refuse labels that a model cannot read below a prompt of so many tokens.

    Raises
    ------
    LabelError
        The first label of a token that the vocabulary lacks, or of more tokens than the model has
        positions for.
    """
    room = config.text_room(n_image) - prompt  # the end token is written, but never read
    for i, label in enumerate(trie.labels):
        if label.max() >= config.vocab_size:
            raise LabelError(
                i,
                f"holds the token {label.max()}; expected ids from 0 to {config.vocab_size - 1} "
                "(config.vocab_size - 1). Does the tokenizer belong to this model?",
            )
        if len(label) > room:
            raise LabelError(
                i,
                f"has {len(label)} tokens; after the {prompt} that the text starts with, this "
                f"model has positions for {max(room, 0)}. Shorten it.",
            )
    if max(trie.ends) >= config.vocab_size:
        raise ValueError(
            f"the trie's end is {max(trie.ends)}; expected an id below config.vocab_size, "
            f"{config.vocab_size}."
        )


@dataclass
class _Level:
    """A cache of texts that have been read, and what is still to be read below them."""

    cache: Cache
    nodes: Ids  # whose texts these are, ascending
    waiting: list[Ids]  # nodes below them, in batches


@dataclass
class _Walk:
    """A walk down the trie, for all images side by side.

    It goes down before it goes on: no more than one batch of texts is kept for each depth. The
    decoder has a row for each image for the first node, then for the second ...
    """

    model: CaptionModel
    trie: Trie
    n_images: int
    head_mask: Any
    batch_size: int
    progress: Progress | None

    def run(self, cache: Cache, prompt: Ids) -> Scores:
        """Score all nodes: the log probability of the way to each, (n, B')."""
        trie, total = self.trie, self.trie.inner
        scores = np.zeros((len(trie), self.n_images))
        levels: list[_Level] = []
        nodes, read = np.zeros(1, np.int64), 0
        logits = self._read(np.tile(prompt, (self.n_images, 1)), cache)
        while True:
            children, places = trie.below(nodes)
            steps = self._steps(logits, places, trie.token[children])
            scores[children] = scores[nodes[places]] + steps
            inner = children[trie.token[children] != trie.end]
            if len(inner):
                size = max(1, self.batch_size // self.n_images)
                batches = np.array_split(inner, -(-len(inner) // size))
                levels.append(_Level(cache, nodes, batches))
            if not levels:
                return scores
            nodes, cache = self._next(levels)
            logits = self._read(np.repeat(trie.token[nodes], self.n_images)[:, None], cache)
            read += len(nodes)
            if self.progress is not None:
                self.progress(read, total)

    def _next(self, levels: list[_Level]) -> tuple[Ids, Cache]:
        """Take the deepest batch that waits, and a cache of the texts it goes on from."""
        level = levels[-1]
        nodes = level.waiting.pop()
        # The last batch takes the level's cache itself, which is no longer needed.
        cache = level.cache.fork() if level.waiting else levels.pop().cache
        places = np.searchsorted(level.nodes, self.trie.parent[nodes])
        cache.select(self.model.backend.asarray(self._rows(places).reshape(-1)))
        return nodes, cache

    def _rows(self, places: Ids) -> Ids:
        """Rows of the decoder for each node and image: (k,) -> (k, B')."""
        rows: Ids = places[:, None] * self.n_images + np.arange(self.n_images)
        return rows

    def _read(self, ids: Ids, cache: Cache) -> Array:
        """Read tokens (R, Q) on top of the cache: logits (R, V) of the next."""
        return self.model.next_token_logits(ids, cache, head_mask=self.head_mask).logits

    def _steps(self, logits: Array, places: Ids, tokens: Ids) -> Scores:
        """Log probabilities (c, B') of what is below `places`; of an end, that of all ends."""
        leaves, others = np.flatnonzero(tokens == self.trie.end), self.trie.ends[1:]
        further = np.tile(places[leaves], len(others)), np.repeat(others, len(leaves))
        places, all_tokens = np.append(places, further[0]), np.append(tokens, further[1])
        found = self._log_probabilities(logits, places, all_tokens.astype(np.int64))
        steps, more = found[: len(tokens)], found[len(tokens) :]
        for other in more.reshape(len(others), len(leaves), self.n_images):
            steps[leaves] = np.logaddexp(steps[leaves], other)
        return steps

    def _log_probabilities(self, logits: Array, places: Ids, tokens: Ids) -> Scores:
        """Log probabilities (c, B') of single tokens below the nodes at `places`."""
        logits = at_least_float32(logits)  # (R, V)
        xp, asarray = array_namespace(logits), self.model.backend.asarray
        top = xp.max(logits, axis=-1, keepdims=True)
        total = xp.log(xp.sum(xp.exp(logits - top), axis=-1)) + top[:, 0]  # (R,)
        rows = self._rows(places)  # (c, B')
        index = rows * logits.shape[1] + tokens[:, None]  # into the logits, row by row
        chosen = xp.take(xp.reshape(logits, (-1,)), asarray(index.reshape(-1)), axis=0)
        chosen = chosen - xp.take(total, asarray(rows.reshape(-1)), axis=0)
        home = self.model.backend.to_numpy(chosen)
        return home.astype(np.float64).reshape(rows.shape)


def trie_of(model: CaptionModel, labels: Labels) -> Trie:
    """Make the trie of labels that end with the model's end tokens; one that is made stays.

    Raises
    ------
    LabelError, ValueError
        See `Trie`; or the model has no end token.
    """
    if isinstance(labels, Trie):
        return labels
    ends = model.generation_config.eos_ids
    if not ends:
        raise ValueError(
            "eos_token_id is None in the model's generation config; expected a token that ends "
            "labels. Pass Trie(labels, end) to say which."
        )
    return Trie(labels, ends)


def _prompt(model: CaptionModel, prompt: Any) -> Ids:
    if prompt is None:
        prompt = [opening_token(model.generation_config, "prompt")]
    ids, size = model.numbers("prompt", prompt), model.config.vocab_size
    integers = ids.ndim == 1 and ids.size > 0 and ids.dtype.kind in "iu"
    if not integers or ids.min() < 0 or ids.max() >= size:
        raise ValueError(
            f"prompt is {prompt!r}; expected a list of token ids from 0 to {size - 1}, "
            "bos_token_id the first of them."
        )
    return ids.astype(np.int64)
