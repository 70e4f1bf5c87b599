"""What may be wrong between scores and probabilities: who sees whom, padding, the softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from refgit.layers._array_api import Array, arange, array_namespace
from refgit.layers.activation import sigmoid
from refgit.layers.mask import attention_bias
from refgit.layers.softmax import softmax
from refgit.parity.diagnosis.hypotheses.base import Hypothesis
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.graph.nodes import Node


def of_masks(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong with probabilities; nothing for other kinds."""
    if node.kind == "probabilities":
        yield from _of_masks(node, graph)
        yield from _of_padding(node, graph)
        yield from _of_softmax(node, graph)


# ---- who sees whom


def _places(node: Node, like: Array) -> tuple[Array, Array, int]:
    """Indices of queries (Q, 1) and keys (1, K) in the joint sequence, and image tokens N."""
    n_query, n_key = like.shape[-2:]
    q = arange(n_key - n_query, n_key, like=like)[:, None]
    return q, arange(0, n_key, like=like)[None, :], recipes.image_length(node, like)


def _of_masks(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    if not node.options["masked"]:
        yield from _of_vision_masks(node)
        return
    configured = graph.config.vision_config.num_positions
    image, step = "image tokens", len(node.options["lengths"]) > 1

    def at(
        name: str, text: str, sees: Callable[[Array, Array, int], Array], rank: int = 1
    ) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            x = v[n.inputs[0]]
            seen = sees(*_places(n, x))
            xp = array_namespace(x)
            if not bool(xp.all(xp.any(seen, axis=-1))):
                raise MissingTensorError("a query that sees nothing.")
            return _masked(n, v, seen)

        return Hypothesis(name, text, node.name, recipe, rank)

    yield at("mask causal", f"your mask is causal over the whole sequence: {image} see only those "
             "before them; they should see one another", lambda q, k, n: k <= q)  # fmt: skip
    yield at("mask missing", "your mask is missing: every token sees every token",
             lambda q, k, n: (k <= q) | (k > q))  # fmt: skip
    yield at("image sees text", f"your {image} see the text; they should see {image} alone",
             lambda q, k, n: (k < n) | (k <= q) | (q < n))  # fmt: skip
    yield at("text sees all text", "your text tokens see the text after them",
             lambda q, k, n: (k < n) | (q >= n))  # fmt: skip
    yield at("text blind to image", f"your text tokens do not see the {image}",
             lambda q, k, n: ((q < n) & (k < n)) | ((k >= n) & (k <= q)))  # fmt: skip
    yield at("image blind to itself", f"your {image} do not see one another, only themselves",
             lambda q, k, n: ((q < n) & (k == q)) | ((q >= n) & (k <= q)))  # fmt: skip
    yield at("mask off by one", "your mask is off by one: a text token sees the next one",
             lambda q, k, n: (k < n) | (k <= q + 1))  # fmt: skip
    yield at("mask strict", "your mask is off by one: a text token does not see itself",
             lambda q, k, n: (k < n) | (k < q))  # fmt: skip
    yield at("image short by one", "your mask takes the image for one token shorter",
             lambda q, k, n: (k < n - 1) | (k <= q), 2)  # fmt: skip
    yield at("image long by one", "your mask takes the image for one token longer",
             lambda q, k, n: (k < n + 1) | (k <= q), 2)  # fmt: skip
    yield at("mask of the configured size", "your mask counts the image tokens of the configured "
             f"image size ({configured}), not of this image",
             lambda q, k, n: (k < configured) | (k <= q), 2)  # fmt: skip
    yield at("mask reversed", "your text tokens see the tokens after them, not before",
             lambda q, k, n: (k < n) | (k >= q), 2)  # fmt: skip
    yield at("text sees itself alone", "your text tokens see the image and themselves alone",
             lambda q, k, n: (k < n) | (k == q), 2)  # fmt: skip
    if step:
        yield at("text blind to its last", "your new token does not see the one before it",
                 lambda q, k, n: (k < n) | (k == q) | (k < q - 1), 3)  # fmt: skip


def _of_vision_masks(node: Node) -> Iterator[Hypothesis]:
    def causal(n: Node, v: View) -> Array:
        x = v[n.inputs[0]]
        q, k = (arange(0, size, like=x) for size in x.shape[-2:])
        return softmax(x + attention_bias(k[None, :] <= q[:, None], None, like=x))

    yield Hypothesis("mask causal", "your image encoder has a causal mask; it has none",
                     node.name, causal)  # fmt: skip


def _masked(node: Node, view: View, seen: Array, padding: Any = "own") -> Array:
    """Probabilities under another mask."""
    x = view[node.inputs[0]]
    mask = recipes.padding(node, view) if isinstance(padding, str) else padding
    x = x + attention_bias(seen, mask, like=x)
    return recipes.silenced(node, view, softmax(x))


def _of_padding(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Padding that is forgotten or in the wrong place; nothing where there is none."""
    if not node.options["masked"]:
        return

    def at(
        name: str, text: str, make: Callable[[Array, int], Array | None], rank: int = 1
    ) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            mask = recipes.padding(n, v)
            if mask is None or mask.all():
                raise MissingTensorError("nothing is padding.")
            x = v[n.inputs[0]]
            return _masked(n, v, recipes.sees(n, x), make(mask, x.shape[-1]))

        return Hypothesis(name, text, node.name, recipe, rank)

    yield at("padding ignored", "padding is not masked", lambda m, k: None)
    yield at("padding inverted", "the padding mask is inverted: text is masked, padding is seen",
             lambda m, k: 1 - m)  # fmt: skip
    yield at("padding in front", "the padding mask starts at the first image token; it belongs to "
             "the text", lambda m, k: _in_front(m, k), 1)  # fmt: skip
    for shift in (1, -1):
        yield at(f"padding off by {shift}", f"the padding mask is off by {shift}",
                 lambda m, k, s=shift: array_namespace(m).roll(m, s, axis=1), 2)  # type: ignore[misc]  # fmt: skip
    yield at("padding of the first row", "every row has the padding of the first",
             lambda m, k: 0 * m + m[:1], 2)  # fmt: skip
    if len(node.options["lengths"]) > 1:
        now = node.options["lengths"][-1]
        yield at("padding of the past ignored", "padding in the cache is not masked while decoding",
                 lambda m, k: _only_last(m, now))  # fmt: skip

    def added(n: Node, v: View) -> Array:
        mask = recipes.padding(n, v)
        if mask is None or mask.all():
            raise MissingTensorError("nothing is padding.")
        x = v[n.inputs[0]]
        xp = array_namespace(x)
        n_image = x.shape[-1] - mask.shape[1]
        zeros = xp.zeros((mask.shape[0], n_image), dtype=x.dtype)
        both = xp.concat([zeros, xp.astype(mask, x.dtype)], axis=1)[:, None, None, :]
        return softmax(x + attention_bias(recipes.sees(n, x), None, like=x) + both)

    yield Hypothesis("padding added as 0 and 1", "the padding mask is added to the scores as 0 and "
                     "1; padding needs -inf", node.name, added, 2)  # fmt: skip


def _in_front(mask: Array, n_key: int) -> Array:
    xp = array_namespace(mask)
    ones = xp.ones((mask.shape[0], n_key - mask.shape[1]), dtype=mask.dtype)
    return xp.concat([mask, ones], axis=1)


def _only_last(mask: Array, now: int) -> Array:
    xp = array_namespace(mask)
    return xp.concat([0 * mask[:, :-now] + 1, mask[:, -now:]], axis=1)


# ---- softmax


def _of_softmax(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    root = math.sqrt(node.options["head_width"])

    def biased(n: Node, v: View, factor: float = 1.0) -> Array:
        x = v[n.inputs[0]] * factor
        if not n.options["masked"]:
            return x
        return x + attention_bias(recipes.sees(n, x), recipes.padding(n, v), like=x)

    def seen(n: Node, v: View) -> Array:
        x = biased(n, v)  # what padding adds is half of the smallest number
        return x > 0.25 * float(array_namespace(x).finfo(x.dtype).min)

    def at(name: str, text: str, make: Callable[[Node, View], Array], rank: int = 2) -> Hypothesis:
        return Hypothesis(name, text, node.name, make, rank)

    def along(axis: int) -> Callable[[Node, View], Array]:
        def recipe(n: Node, v: View) -> Array:
            xp = array_namespace(v[n.inputs[0]])
            return xp.moveaxis(softmax(xp.moveaxis(biased(n, v), axis, -1)), -1, axis)

        return recipe

    yield at("softmax over queries", "your softmax runs over the queries; it should run over the "
             "keys", along(-2), 1)  # fmt: skip
    yield at("softmax over heads", "your softmax runs over the heads; it should run over the keys",
             along(1))  # fmt: skip
    yield at("scale in softmax", "the scores are divided by sqrt(D/H) again before the softmax",
             lambda n, v: softmax(biased(n, v, 1 / root)))  # fmt: skip
    yield at("no scale in softmax", "the scale is taken out again before the softmax",
             lambda n, v: softmax(biased(n, v, root)))  # fmt: skip
    yield at("scale after softmax", "the probabilities are divided by sqrt(D/H): the scale belongs "
             "before the softmax", lambda n, v: softmax(biased(n, v)) / root)  # fmt: skip
    yield at("softmax base 2", "your softmax raises 2 to the scores, not e",
             lambda n, v: softmax(biased(n, v) * math.log(2)))  # fmt: skip
    yield at("softmax plus one", "your softmax adds 1 to the sum of exponentials",
             lambda n, v: _plus_one(biased(n, v)), 3)  # fmt: skip
    yield at("sigmoid", "a sigmoid stands in the place of the softmax",
             lambda n, v: sigmoid(biased(n, v)), 3)  # fmt: skip
    yield at("no softmax", "the softmax is missing", lambda n, v: v[n.inputs[0]], 3)
    if node.options["masked"]:
        yield at("masked scores set to 0", "masked scores are set to 0; they need -inf",
                 lambda n, v: softmax(v[n.inputs[0]] * seen(n, v)))  # fmt: skip
        yield at("mask after softmax", "the mask is applied after the softmax, and the rows no "
                 "longer sum to 1",
                 lambda n, v: softmax(v[n.inputs[0]]) * seen(n, v))  # fmt: skip
        yield at("mask added as 0 and 1", "the mask is added to the scores as 0 and 1; what is not "
                 "seen needs -inf",
                 lambda n, v: softmax(v[n.inputs[0]] + seen(n, v)))  # fmt: skip
        yield at("head mask ignored", "the head mask is ignored",
                 lambda n, v: softmax(biased(n, v)))  # fmt: skip
    for p in (0.1, 0.2, 0.5):
        yield at(f"dropout scale {p:g}", f"the probabilities are scaled by 1/(1 - {p:g}), as "
                 "dropout does in training",
                 lambda n, v, p=p: softmax(biased(n, v)) / (1 - p))  # type: ignore[misc]  # fmt: skip


def _plus_one(x: Array) -> Array:
    xp = array_namespace(x)
    top = xp.maximum(xp.max(x, axis=-1, keepdims=True), xp.zeros_like(x[..., :1]))
    e = xp.exp(x - top)
    return e / (xp.sum(e, axis=-1, keepdims=True) + xp.exp(-top))
