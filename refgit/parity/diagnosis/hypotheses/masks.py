"""What may be wrong between scores and probabilities: who sees whom, padding, the softmax."""

from __future__ import annotations

import math
from collections.abc import Iterator

from refgit.layers._array_api import Array, arange, array_namespace
from refgit.layers.activation import sigmoid
from refgit.layers.mask import attention_bias
from refgit.layers.softmax import softmax
from refgit.parity.diagnosis.hypotheses.base import Family, Hypothesis, Make, mistakes, when
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.graph.nodes import Node

# ---- who sees whom


def _places(node: Node, like: Array) -> tuple[Array, Array, int]:
    """Indices of queries (Q, 1) and keys (1, K) in the joint sequence, and image tokens N."""
    n_query, n_key = like.shape[-2:]
    q = arange(n_key - n_query, n_key, like=like)[:, None]
    return q, arange(0, n_key, like=like)[None, :], recipes.image_length(node, like)


def _under(allowed: Make, node: Node, view: View) -> Array:
    """Probabilities where `allowed(q, k, N)` lets a query see a key, and padding as it is."""
    x = view[node.inputs[0]]
    seen = allowed(*_places(node, x))
    xp = array_namespace(x)
    if not bool(xp.all(xp.any(seen, axis=-1))):
        raise MissingTensorError("a query that sees nothing.")
    return _masked(node, view, seen, recipes.padding(node, view))


def _masked(node: Node, view: View, seen: Array, padding: Array | None) -> Array:
    x = view[node.inputs[0]]
    bias = attention_bias(seen, padding, like=x)
    return recipes.silenced(node, view, softmax(x + bias))


def of_masks(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Another mask than the one of image and text."""
    if not node.options["masked"]:
        return
    configured = graph.config.vision_config.num_positions
    image = "image tokens"
    yield from mistakes(
        node,
        ("mask causal", f"your mask is causal over the whole sequence: {image} see only those "
         "before them; they should see one another", lambda q, k, n: k <= q),
        ("mask missing", "your mask is missing: every token sees every token",
         lambda q, k, n: (k <= q) | (k > q)),
        ("image sees text", f"your {image} see the text; they should see only {image}",
         lambda q, k, n: (k < n) | (k <= q) | (q < n)),
        ("text sees all text", "your text tokens see the text after them",
         lambda q, k, n: (k < n) | (q >= n)),
        ("text blind to image", f"your text tokens do not see the {image}",
         lambda q, k, n: ((q < n) & (k < n)) | ((k >= n) & (k <= q))),
        ("image blind to itself", f"your {image} do not see one another, only themselves",
         lambda q, k, n: ((q < n) & (k == q)) | ((q >= n) & (k <= q))),
        ("mask off by one", "your mask is off by one: a text token sees the next one",
         lambda q, k, n: (k < n) | (k <= q + 1)),
        ("mask strict", "your mask is off by one: a text token does not see itself",
         lambda q, k, n: (k < n) | (k < q)),
        ("image short by one", "your mask takes the image for one token shorter",
         lambda q, k, n: (k < n - 1) | (k <= q), 2),
        ("image long by one", "your mask takes the image for one token longer",
         lambda q, k, n: (k < n + 1) | (k <= q), 2),
        ("mask of the configured size", "your mask counts the image tokens of the configured "
         f"image size ({configured}), not of this image",
         lambda q, k, n: (k < configured) | (k <= q), 2),
        ("mask reversed", "your text tokens see the tokens after them, not before",
         lambda q, k, n: (k < n) | (k >= q), 2),
        ("text sees itself alone", "your text tokens see only the image and themselves",
         lambda q, k, n: (k < n) | (k == q), 2),
        *when(
            len(node.options["lengths"]) > 1,
            ("text blind to its last", "your new token does not see the one before it",
             lambda q, k, n: (k < n) | (k == q) | (k < q - 1), 3),
        ),
        call=_under,
    )  # fmt: skip


def of_vision_masks(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """A mask in the image encoder, which has none."""

    def causal(n: Node, v: View) -> Array:
        x = v[n.inputs[0]]
        q, k = (arange(0, size, like=x) for size in x.shape[-2:])
        return softmax(x + attention_bias(k[None, :] <= q[:, None], None, like=x))

    if not node.options["masked"]:
        yield Hypothesis("mask causal", "your image encoder has a causal mask; it has none",
                         node.name, causal)  # fmt: skip


# ---- padding


def _some_padding(node: Node, view: View) -> Array:
    mask = recipes.padding(node, view)
    if mask is None or mask.all():
        raise MissingTensorError("nothing is padding.")
    return mask


def _padded(make: Make, node: Node, view: View) -> Array:
    """Probabilities under the padding mask that `make` makes of the right one."""
    mask, x = _some_padding(node, view), view[node.inputs[0]]
    return _masked(node, view, recipes.allowed(node, x), make(mask, x.shape[-1]))


def of_padding(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Padding that is forgotten or in the wrong place; nothing where there is none."""
    if not node.options["masked"]:
        return
    yield from mistakes(
        node,
        ("padding ignored", "padding is not masked", lambda m, k: None),
        ("padding inverted", "the padding mask is inverted: text is masked, padding is seen",
         lambda m, k: 1 - m),
        ("padding in front", "the padding mask starts at the first image token; it belongs to "
         "the text", _in_front),
        *((f"padding off by {shift}", f"the padding mask is off by {shift}",
           lambda m, k, s=shift: array_namespace(m).roll(m, s, axis=1), 2) for shift in (1, -1)),
        ("padding of the first row", "every sequence has the padding of the first",
         lambda m, k: 0 * m + m[:1], 2),
        *when(
            len(node.options["lengths"]) > 1,
            ("padding of the past ignored", "padding in the cache is not masked while decoding",
             lambda m, k: _only_last(m, node.options["lengths"][-1])),
        ),
        call=_padded,
    )  # fmt: skip

    def added(n: Node, v: View) -> Array:
        mask, x = _some_padding(n, v), v[n.inputs[0]]
        xp = array_namespace(x)
        zeros = xp.zeros((mask.shape[0], x.shape[-1] - mask.shape[1]), dtype=x.dtype)
        both = xp.concat([zeros, xp.astype(mask, x.dtype)], axis=1)[:, None, None, :]
        return softmax(x + attention_bias(recipes.allowed(n, x), None, like=x) + both)

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


def _biased(node: Node, view: View, factor: float = 1.0) -> Array:
    """The scores, times `factor`, as the softmax takes them: the mask added."""
    x = view[node.inputs[0]] * factor
    if not node.options["masked"]:
        return x
    return x + attention_bias(recipes.allowed(node, x), recipes.padding(node, view), like=x)


def _seen(node: Node, view: View) -> Array:
    """Which scores the mask leaves."""
    x = _biased(node, view)  # what padding adds is half of the smallest number
    return x > 0.25 * float(array_namespace(x).finfo(x.dtype).min)


def _softmax_over(x: Array, axis: int) -> Array:
    xp = array_namespace(x)
    return xp.moveaxis(softmax(xp.moveaxis(x, axis, -1)), -1, axis)


def of_softmax(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Another axis, scale or base, or no softmax; a mask applied in another way."""
    root = math.sqrt(node.options["head_width"])
    return mistakes(
        node,
        ("softmax over queries", "your softmax runs over the queries; it should run over the "
         "keys", lambda n, v: _softmax_over(_biased(n, v), -2), 1),
        ("softmax over heads", "your softmax runs over the heads; it should run over the keys",
         lambda n, v: _softmax_over(_biased(n, v), 1), 2),
        ("scale in softmax", "the scores are divided by sqrt(D/H) again before the softmax",
         lambda n, v: softmax(_biased(n, v, 1 / root)), 2),
        ("no scale in softmax", "the scale is taken out again before the softmax",
         lambda n, v: softmax(_biased(n, v, root)), 2),
        ("scale after softmax", "the probabilities are divided by sqrt(D/H): the scale belongs "
         "before the softmax", lambda n, v: softmax(_biased(n, v)) / root, 2),
        ("softmax base 2", "your softmax raises 2 to the scores, not e",
         lambda n, v: softmax(_biased(n, v) * math.log(2)), 2),
        ("softmax plus one", "your softmax adds 1 to the sum of exponentials",
         lambda n, v: _plus_one(_biased(n, v)), 3),
        ("sigmoid", "a sigmoid takes the place of the softmax",
         lambda n, v: sigmoid(_biased(n, v)), 3),
        ("no softmax", "the softmax is missing", lambda n, v: v[n.inputs[0]], 3),
        *when(
            node.options["masked"],
            ("masked scores set to 0", "masked scores are set to 0; they need -inf",
             lambda n, v: softmax(v[n.inputs[0]] * _seen(n, v)), 2),
            ("mask after softmax", "the mask is applied after the softmax, and the rows no "
             "longer sum to 1", lambda n, v: softmax(v[n.inputs[0]]) * _seen(n, v), 2),
            ("mask added as 0 and 1", "the mask is added to the scores as 0 and 1; what is not "
             "seen needs -inf", lambda n, v: softmax(v[n.inputs[0]] + _seen(n, v)), 2),
            ("head mask ignored", "the head mask is ignored",
             lambda n, v: softmax(_biased(n, v)), 2),
        ),
        *((f"dropout scale {p:g}", f"the probabilities are scaled by 1/(1 - {p:g}), as "
           "dropout does in training", lambda n, v, p=p: softmax(_biased(n, v)) / (1 - p), 2)
          for p in (0.1, 0.2, 0.5)),
    )  # fmt: skip


def _plus_one(x: Array) -> Array:
    xp = array_namespace(x)
    top = xp.maximum(xp.max(x, axis=-1, keepdims=True), xp.zeros_like(x[..., :1]))
    e = xp.exp(x - top)
    return e / (xp.sum(e, axis=-1, keepdims=True) + xp.exp(-top))


MASKS: Family = {"probabilities": (of_masks, of_vision_masks, of_padding, of_softmax)}
