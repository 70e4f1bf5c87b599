"""What may be wrong where text begins: words, positions, and the image in front of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from refgit.layers._array_api import Array, array_namespace
from refgit.layers.embedding import embed
from refgit.parity.diagnosis.hypotheses.base import Hypothesis, Substitute
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.graph.nodes import Node
from refgit.parity.graph.recipes import RECIPES


def of_text(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong at a node of these kinds; nothing for others."""
    kinds = {
        "embedding": _of_words,
        "position": _of_positions,
        "sum": _of_sum,
        "join": _of_joining,
    }
    if node.kind in kinds:
        yield from kinds[node.kind](node, graph)


# ---- words and positions of the text


def _of_words(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    root = math.sqrt(graph.config.hidden_size)

    def at(
        name: str,
        text: str,
        ids: Callable[[Array, int], Array] = lambda i, size: i,
        make: Callable[[Array], Array] = lambda x: x,
        rank: int = 1,
        table: str = node.parameters,
    ) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            weight = v.weight(f"{table}.weight")
            return make(embed(ids(v[n.inputs[0]], weight.shape[0]), weight))

        return Hypothesis(name, text, node.name, recipe, rank)

    yield at("words scaled", "the word vectors are multiplied by sqrt(D)", make=lambda x: x * root)
    yield at("ids plus one", "each id takes the row after its own",
             lambda i, size: (i + 1) % size)  # fmt: skip
    yield at("ids minus one", "each id takes the row before its own",
             lambda i, size: (i - 1) % size)  # fmt: skip
    yield at("words late", "the words are shifted by one to the right",
             lambda i, size: np.roll(i, 1, axis=1))  # fmt: skip
    yield at("words early", "the words are shifted by one to the left",
             lambda i, size: np.roll(i, -1, axis=1))  # fmt: skip
    yield at("words reversed", "the words stand in reverse order",
             lambda i, size: i[:, ::-1], rank=2)  # fmt: skip
    yield at("words swapped in the batch", "the rows of the batch are in another order",
             lambda i, size: i[::-1], rank=2)  # fmt: skip
    words = graph.parameters[f"{node.parameters}.weight"]
    if words is not graph.parameters["output.weight"]:
        yield at("words from the head", "the word vectors are taken from the head's matrix",
                 table="output")  # fmt: skip
    pad = graph.config.pad_token_id
    if pad is not None:

        def padded(n: Node, v: View) -> Array:
            ids = v[n.inputs[0]]
            return RECIPES[n.kind](n, v) * (ids != pad)[..., None]

        yield Hypothesis("padding word zero", f"the padding word ({pad}) has the vector 0; the "
                         "checkpoint gives it another", node.name, padded, 2)  # fmt: skip


def _of_positions(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    prefix = node.inputs[0].removesuffix("input.position_ids")
    *past, now = node.options["lengths"]

    def at(name: str, text: str, ids: Callable[[Array, View], Array], rank: int = 1) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            own = recipes.position_ids(n, v)
            size = v.weight(f"{n.parameters}.weight").shape[0]
            found = ids(own, v)
            if found.size == 0 or found.min() < 0 or found.max() >= size:
                raise MissingTensorError("positions beyond the table.")
            return embed(found, v.weight(f"{n.parameters}.weight"))

        return Hypothesis(name, text, node.name, recipe, rank)

    def image_tokens(v: View) -> int:
        first = prefix[: prefix.index("step.")] if "step." in prefix else prefix
        pixels = v[f"{first}input.pixel_values"]
        side = graph.config.vision_config.patch_size
        frames = pixels.shape[1] if pixels.ndim == 5 else 1
        return int(frames * ((pixels.shape[-2] // side) * (pixels.shape[-1] // side) + 1))

    def on(offset: int) -> Callable[[Array, View], Array]:
        return lambda own, v: own + offset

    start = "the length of the cache, image tokens counted in" if past else "N, behind the image"
    yield at("positions behind the image", f"your text positions start at {start}; the image takes "
             "no text positions", lambda own, v: own + image_tokens(v))  # fmt: skip
    yield at("positions one late", "your text positions are one too high",
             on(1))  # fmt: skip
    yield at("positions two late", "your text positions start at 2, as RoBERTa's do", on(2), 2)
    yield at("positions one early", "your text positions are one too low", on(-1))
    yield at("positions all zero", "every text token has position 0",
             lambda own, v: 0 * own, 2 if past else 1)  # fmt: skip
    yield at("positions reversed", "your text positions run backwards",
             lambda own, v: own[:, ::-1], 2)  # fmt: skip
    yield at("position_ids ignored", "position_ids is ignored",
             lambda own, v: np.arange(sum(past), sum(past) + now)[None] + 0 * own)  # fmt: skip
    if past:
        yield at("positions from 0 in a step", "your text positions start again at 0 in a step on "
                 "top of a cache", lambda own, v: np.arange(now)[None] + 0 * own)  # fmt: skip

    def behind_padding(own: Array, v: View) -> Array:
        calls = (*_earlier(prefix, len(past)), prefix)
        place = replace(node, options={**node.options, "calls": calls})
        mask = recipes.padding(place, v)
        if mask is None or mask.all():
            raise MissingTensorError("nothing is padding.")
        return np.maximum(np.cumsum(mask, axis=1) - 1, 0)[:, -now:]

    yield at("positions skip padding", "your text positions do not count padding; position_ids "
             "should say so", behind_padding)  # fmt: skip

    def missing(n: Node, v: View) -> Array:
        return 0 * RECIPES[n.kind](n, v)

    yield Hypothesis("text positions missing", "the text positions are missing", node.name, missing)


def _earlier(prefix: str, count: int) -> list[str]:
    """The prefixes of the calls before a step."""
    if "step." not in prefix:
        return []
    first = prefix[: prefix.index("step.")]
    return [first, *(f"{first}step.{i}." for i in range(1, count))]


def _of_sum(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    root = math.sqrt(graph.config.hidden_size)

    def at(name: str, text: str, make: Callable[[Array, Array], Array]) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            words, positions = v[n.inputs[0]], v[n.inputs[1]]
            return make(words, positions)

        return Hypothesis(name, text, node.name, recipe)

    yield at("text positions missing", "the text positions are missing", lambda w, p: w + 0 * p)
    yield at("words missing", "the words are missing: only positions are left",
             lambda w, p: 0 * w + p)  # fmt: skip
    yield at("text positions twice", "the text positions are added twice", lambda w, p: w + 2 * p)
    yield at(
        "words scaled", "the word vectors are multiplied by sqrt(D)", lambda w, p: w * root + p
    )
    yield at("words and positions scaled", "the sum is multiplied by sqrt(D)",
             lambda w, p: (w + p) * root)  # fmt: skip


def _of_joining(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    def at(name: str, text: str, make: Callable[[Array, Array], Array], rank: int = 1) -> Any:
        def recipe(n: Node, v: View) -> Array:
            return make(v[n.inputs[0]], v[n.inputs[1]])

        return Hypothesis(name, text, node.name, recipe, rank)

    def both(image: Array, text: Array) -> Array:
        return array_namespace(text).concat([image, text], axis=1)

    def tiled(image: Array, text: Array) -> Array:
        return np.concatenate([image] * (text.shape[0] // image.shape[0]), axis=0)

    yield at("text first", "the text stands in front of the image; the image belongs in front",
             lambda i, t: np.concatenate([t, tiled(i, t)], axis=1))  # fmt: skip
    yield at(
        "images repeated in place",
        "with several texts an image, each image is repeated in place (0, 0, 1, 1); the order is "
        "0, 1, 0, 1",
        lambda i, t: both(np.repeat(i, t.shape[0] // i.shape[0], axis=0), t),
    )
    yield at("one image", "every text is put behind the first image",
             lambda i, t: both(np.repeat(i[:1], t.shape[0], axis=0), t), 2)  # fmt: skip
    yield at("images zero", "the image tokens are zero", lambda i, t: both(0 * tiled(i, t), t), 2)
    for norm in ("git.embeddings.LayerNorm",):

        def normed(n: Node, v: View, norm: str = norm) -> Array:
            own = next(x for x in graph.nodes.values() if x.parameters == norm)
            image = v[n.inputs[0]]
            other = Substitute(v, {own.inputs[0]: image})
            return both(tiled(RECIPES[own.kind](own, other), v[n.inputs[1]]), v[n.inputs[1]])

        yield Hypothesis("image normalised with the text", "the text embedding's layer norm runs "
                         "over the image tokens too", node.name, normed, 2)  # fmt: skip
