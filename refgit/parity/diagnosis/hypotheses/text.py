"""What may be wrong before the decoder: word embeddings, positions, joining image and text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from refgit.layers._array_api import Array, array_namespace
from refgit.layers.embedding import embed
from refgit.parity.diagnosis.hypotheses.base import (
    Family,
    Hypothesis,
    Make,
    Substitute,
    mistakes,
    on_inputs,
    when,
)
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.graph.nodes import Node
from refgit.parity.graph.recipes import RECIPES
from refgit.traces.names import TensorName

# ---- words and positions of the text


def _by_ids(ids: Make, node: Node, view: View) -> Array:
    """Word embeddings of other ids: `ids(own, size of the table)`."""
    weight = view.weight(f"{node.parameters}.weight")
    return embed(ids(view[node.inputs[0]], weight.shape[0]), weight)


def of_words(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Other ids, another table, or embeddings that are scaled."""
    root = math.sqrt(graph.config.hidden_size)
    yield Hypothesis("words scaled", "the word embeddings are multiplied by sqrt(D)", node.name,
                     lambda n, v: RECIPES[n.kind](n, v) * root)  # fmt: skip
    yield from mistakes(
        node,
        ("ids plus one", "each id takes the embedding after its own",
         lambda i, size: (i + 1) % size),
        ("ids minus one", "each id takes the embedding before its own",
         lambda i, size: (i - 1) % size),
        ("words late", "the tokens are shifted by one to the right",
         lambda i, size: np.roll(i, 1, axis=1)),
        ("words early", "the tokens are shifted by one to the left",
         lambda i, size: np.roll(i, -1, axis=1)),
        ("words reversed", "the tokens are in reverse order", lambda i, size: i[:, ::-1], 2),
        ("words swapped in the batch", "the sequences of the batch are in another order",
         lambda i, size: i[::-1], 2),
        call=_by_ids,
    )  # fmt: skip
    words, pad = graph.parameters[f"{node.parameters}.weight"], graph.config.pad_token_id
    yield from mistakes(
        node,
        *when(
            words is not graph.parameters["output.weight"],
            ("words from the head", "the word embeddings are taken from the head's matrix",
             lambda n, v: RECIPES[n.kind](replace(n, parameters="output"), v)),
        ),
        *when(
            pad is not None,
            ("padding word zero", f"the padding token ({pad}) has the vector 0; the checkpoint "
             "gives it another",
             lambda n, v: RECIPES[n.kind](n, v) * (v[n.inputs[0]] != pad)[..., None], 2),
        ),
    )  # fmt: skip


def _at_positions(ids: Make, node: Node, view: View) -> Array:
    """Rows of the position table at other positions: `ids(own, view)`."""
    weight = view.weight(f"{node.parameters}.weight")
    found = ids(recipes.position_ids(node, view), view)
    if found.size == 0 or found.min() < 0 or found.max() >= weight.shape[0]:
        raise MissingTensorError("positions beyond the table.")
    return embed(found, weight)


def of_positions(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Positions that count something else, or from elsewhere."""
    prefix, chain = node.where.prefix, TensorName(node.where.call)
    *past, now = node.options["lengths"]

    def image_tokens(v: View) -> int:
        pixels = v[f"{chain.prefix}input.pixel_values"]
        frames = pixels.shape[1] if pixels.ndim == 5 else 1
        return graph.config.num_image_tokens(*pixels.shape[-2:], frames=frames)

    def behind_padding(own: Array, v: View) -> Array:
        steps = (TensorName(chain.call, i).prefix for i in range(1, len(past)))
        calls = (chain.prefix, *steps, prefix) if past else (prefix,)
        mask = recipes.padding(replace(node, options={**node.options, "calls": calls}), v)
        if mask is None or mask.all():
            raise MissingTensorError("nothing is padding.")
        return np.maximum(np.cumsum(mask, axis=1) - 1, 0)[:, -now:]

    start = "the length of the cache, image tokens counted in" if past else "N, behind the image"
    yield from mistakes(
        node,
        ("positions behind the image", f"your text positions start at {start}; the image takes "
         "no text positions", lambda own, v: own + image_tokens(v)),
        ("positions one late", "your text positions are one too high", lambda own, v: own + 1),
        ("positions two late", "your text positions start at 2, as RoBERTa's do",
         lambda own, v: own + 2, 2),
        ("positions one early", "your text positions are one too low", lambda own, v: own - 1),
        ("positions all zero", "every text token has position 0", lambda own, v: 0 * own,
         2 if past else 1),
        ("positions reversed", "your text positions run backwards", lambda own, v: own[:, ::-1], 2),
        ("position_ids ignored", "position_ids is ignored",
         lambda own, v: np.arange(sum(past), sum(past) + now)[None] + 0 * own),
        *when(
            bool(past),
            ("positions from 0 in a step", "your text positions start again at 0 in a step on "
             "top of a cache", lambda own, v: np.arange(now)[None] + 0 * own),
        ),
        ("positions skip padding", "your text positions do not count padding; position_ids "
         "should say so", behind_padding),
        call=_at_positions,
    )  # fmt: skip
    yield Hypothesis("text positions missing", "the text positions are missing", node.name,
                     lambda n, v: 0 * RECIPES[n.kind](n, v))  # fmt: skip


def of_sum(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Words or positions left out, doubled or scaled."""
    root = math.sqrt(graph.config.hidden_size)
    return mistakes(
        node,
        ("text positions missing", "the text positions are missing", lambda w, p: w + 0 * p),
        ("words missing", "the word embeddings are missing: only positions are left",
         lambda w, p: 0 * w + p),
        ("text positions twice", "the text positions are added twice", lambda w, p: w + 2 * p),
        ("words scaled", "the word embeddings are multiplied by sqrt(D)",
         lambda w, p: w * root + p),
        ("words and positions scaled", "the sum is multiplied by sqrt(D)",
         lambda w, p: (w + p) * root),
        call=on_inputs,
    )  # fmt: skip


# ---- image and text


def _both(image: Array, text: Array) -> Array:
    return array_namespace(text).concat([image, text], axis=1)


def _tiled(image: Array, text: Array) -> Array:
    return np.concatenate([image] * (text.shape[0] // image.shape[0]), axis=0)


def of_joining(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Image and text in another order, or another image for a text."""
    yield from mistakes(
        node,
        ("text first", "the text is in front of the image; the image belongs in front",
         lambda i, t: np.concatenate([t, _tiled(i, t)], axis=1)),
        ("images repeated in place", "with several texts an image, each image is repeated in "
         "place (0, 0, 1, 1); the order is 0, 1, 0, 1",
         lambda i, t: _both(np.repeat(i, t.shape[0] // i.shape[0], axis=0), t)),
        ("one image", "every text is put behind the first image",
         lambda i, t: _both(np.repeat(i[:1], t.shape[0], axis=0), t), 2),
        ("images zero", "the image tokens are zero", lambda i, t: _both(0 * _tiled(i, t), t), 2),
        call=on_inputs,
    )  # fmt: skip

    def normed(n: Node, v: View) -> Array:
        norm = next(x for x in graph.nodes.values() if x.parameters == "git.embeddings.LayerNorm")
        image, text = (v[name] for name in n.inputs)
        other = Substitute(v, {norm.inputs[0]: image})
        return _both(_tiled(RECIPES[norm.kind](norm, other), text), text)

    yield Hypothesis("image normalised with the text", "the text embedding's layer norm runs "
                     "over the image tokens too", node.name, normed, 2)  # fmt: skip


TEXT: Family = {
    "embedding": (of_words,),
    "position": (of_positions,),
    "sum": (of_sum,),
    "join": (of_joining,),
}
