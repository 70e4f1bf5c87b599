"""The kit's cases of single layers: one function of refgit/layers each, with inputs from seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refgit.layers import gelu, layer_norm, linear, quick_gelu, softmax
from refgit.layers._array_api import Array
from refgit.layers._operations import Operations
from refgit.layers.attention import attention
from refgit.layers.lm_head import lm_head
from refgit.layers.loss import language_model_loss
from refgit.layers.mask import attention_bias, image_text_mask
from refgit.layers.patch_embedding import patch_embedding
from refgit.layers.position import RelativePositions, interpolate_positions, relative_scores
from refgit.parity.kit.case import Case
from refgit.traces.container import Tensor

# Takes the inputs on a backend and its operations, returns what comes out.
Function = Callable[[dict[str, Array], Operations], dict[str, Array]]


def layer_cases() -> list[Case]:
    """All of them, the simplest first."""
    return [*_element_wise(), *_row_wise(), *_attentions(), *_positions(), _head()]


def _case(
    name: str,
    description: str,
    inputs: dict[str, Tensor],
    function: Function,
    required: tuple[str, ...] = ("y",),
    operation: str | None = None,
    **arguments: Any,
) -> Case:
    """A case at the level of layers; its operation is called like it unless told otherwise."""
    return Case(
        f"layer-{name.replace('_', '-')}",
        "layer",
        operation or name,
        description,
        inputs,
        lambda part: function(part.given, part.ops),
        arguments,
        required=required,
    )


def _run(function: Callable[..., Array], **options: Any) -> Function:
    """One layer of all inputs, by their names."""
    return lambda given, ops: {"y": ops.run(function, **given, **options)}


def _normal(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(np.float32)


def _element_wise() -> list[Case]:
    x = np.linspace(-8, 8, 161, dtype=np.float32)
    return [
        _case(
            "quick_gelu",
            "y = x * sigmoid(1.702 x): the activation of the image encoder.",
            {"x": x},
            _run(quick_gelu),
        ),
        _case(
            "gelu",
            "y = x/2 * (1 + erf(x / sqrt 2)): the activation of the text decoder, with the true "
            "error function; the tanh formula is not the same.",
            {"x": x},
            _run(gelu),
        ),
    ]


def _row_wise() -> list[Case]:
    scales = np.array([1e-3, 1, 30], np.float32)[:, None, None]  # rows where eps matters, or not
    x = _normal(1, 3, 4, 24) * scales + 2 * scales
    norm = {"x": x, "weight": 1 + _normal(2, 24, scale=0.2), "bias": _normal(3, 24, scale=0.2)}
    given = {"x": _normal(4, 2, 5, 24), "weight": _normal(5, 7, 24), "bias": _normal(6, 7)}
    scores = _normal(7, 4, 33, scale=3)
    scores[1] += 200  # exp overflows unless the maximum is subtracted
    scores[2, 5:] = -np.inf

    def norm_case(where: str, eps: float) -> Case:
        return _case(
            f"layer_norm_{where}",
            "y = (x - mean) / sqrt(variance + eps) * weight + bias over the last axis; the "
            f"variance is the mean square (over D, not D - 1), eps {eps:g} is inside the root.",
            norm,
            _run(layer_norm, eps=eps),
            operation="layer_norm",
            eps=eps,
        )

    return [
        norm_case("vision", 1e-5),
        norm_case("text", 1e-12),
        _case(
            "linear",
            "y = x weight^T + bias: the rows of weight (outputs, inputs) are outputs.",
            given,
            _run(linear),
        ),
        _case(
            "softmax",
            "Over the last axis. One row is near 200, one has -inf, which gives 0.",
            {"x": scores},
            _run(softmax),
        ),
    ]


def _attentions() -> list[Case]:
    sizes = {"n_image": 5, "n_text": 4}
    n_image, length = sizes["n_image"], sum(sizes.values())
    shape = (2, 3, length, 8)
    qkv = {"query": _normal(8, *shape), "key": _normal(9, *shape), "value": _normal(10, *shape)}
    padding = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int64)

    def masked(given: dict[str, Array], ops: Operations) -> dict[str, Array]:
        like = given["query"]
        allowed = image_text_mask(n_image, length, like=like)
        bias = attention_bias(allowed, given.get("text_mask"), like=like)
        return _attended(given, bias, ops)

    wanted = ("context",)
    return [
        _case(
            "mask",
            "Who sees whom: sees[q, k] = 1 where k < n_image or k <= q. Image tokens see all "
            "image tokens and no text; text sees the image, and text up to itself.",
            {},
            lambda _given, _ops: {
                "sees": image_text_mask(n_image, length, like=np.zeros(1)).astype(np.uint8)
            },
            ("sees",),
            "image_text_mask",
            **sizes,
        ),
        _case(
            "attention_plain",
            "scores = query key^T / sqrt(D/H), probabilities = softmax(scores), context = "
            "probabilities value, in each head; all see all, as in the image encoder. Shapes "
            "(batch, heads, tokens, D/H).",
            qkv,
            lambda given, ops: _attended(given, None, ops),
            wanted,
            "attention",
        ),
        *(
            _case(f"attention_{name}", what, inputs, masked, wanted, "attention", **sizes)
            for name, inputs, what in (
                ("image_text", qkv, "The same with the mask of the case before: scores that are "
                 "not seen become minus infinity, behind the scaling."),
                ("padding", {**qkv, "text_mask": padding}, "The same with padding: text_mask is 0 "
                 "at text tokens that nobody sees. Image tokens are never masked."),
            )
        ),
    ]  # fmt: skip


def _attended(given: dict[str, Array], bias: Array | None, ops: Operations) -> dict[str, Array]:
    seen: dict[str, Array] = {}
    context, probabilities = attention(
        given["query"], [given["key"]], [given["value"]], bias, ops=ops.with_hook(seen.__setitem__)
    )
    return {"scores": seen["scores"], "probabilities": probabilities, "context": context}


def _positions() -> list[Case]:
    pixels, weight = _normal(11, 2, 3, 12, 8), _normal(12, 6, 3, 4, 4)
    reach, width = 8, 4  # distances -7 .. 7
    pair = {
        "query": _normal(14, 1, 2, 6, width),
        "key": _normal(15, 1, 2, 6, width),
        "table": _normal(16, 2 * reach - 1, width),
    }

    def relative(name: str, formula: str, with_keys: bool) -> Case:
        def function(given: dict[str, Array], _ops: Operations) -> dict[str, Array]:
            positions = RelativePositions(given["table"], with_keys=with_keys, first_query=0)
            found = relative_scores(given["query"], given["key"], positions, first_key=0)
            return {"y": found / math.sqrt(width)}

        return _case(
            name,
            f"Correction of the scores by distance: y[q, k] = ({formula}) / sqrt(D/H), row "
            "M - 1 + q - k of the table (2 M - 1, D/H); it is added to the scores, which are "
            "divided by sqrt(D/H) too.",
            pair,
            function,
            operation="relative_scores",
            with_keys=with_keys,
        )

    return [
        _case(
            "patch_embedding",
            "Cut the image into P x P squares, row by row from the top left; each becomes a "
            "token: the product of the flattened patch (channel, row, column) with the weight "
            "(D, C, P, P). A convolution with stride P and no bias. 12 pixels high, 8 wide.",
            {"pixels": pixels, "weight": weight},
            lambda given, ops: {"y": patch_embedding(given["pixels"], given["weight"], ops=ops)},
            patch_size=4,
        ),
        _case(
            "interpolate_positions",
            "Stretch the positions of a 4 x 4 grid over 3 rows and 6 columns: bicubic with "
            "a = -0.75, align_corners false, no antialiasing, the edge repeated. The first row "
            "(class token) is kept.",
            {"table": _normal(13, 17, 6)},
            lambda given, _ops: {"y": interpolate_positions(given["table"], 3, 6)},
            rows=3,
            columns=6,
        ),
        relative("relative_key", "query_q . table", False),
        relative("relative_key_query", "query_q . table + key_k . table", True),
    ]


def _head() -> Case:
    n_image, n_text, words = 4, 5, 13
    labels = np.random.RandomState(18).randint(0, words, (2, n_text))
    labels[0, :2] = labels[1, 4] = -100
    inputs = {
        "x": _normal(17, 2, n_image + n_text, 8),
        "weight": _normal(19, words, 8),
        "bias": _normal(20, words),
        "labels": labels.astype(np.int64),
    }

    def function(given: dict[str, Array], ops: Operations) -> dict[str, Array]:
        logits = lm_head(given["x"], {"weight": given["weight"], "bias": given["bias"]}, ops=ops)
        return {
            "logits": logits,
            "loss": language_model_loss(logits, given["labels"], n_image=n_image),
        }

    return _case(
        "head_and_loss",
        "logits = x weight^T + bias for all tokens; loss = mean of -log softmax(logits at token "
        "t - 1)[label t] over the text tokens t >= 1 whose label is not -100.",
        inputs,
        function,
        ("logits", "loss"),
        n_image=n_image,
    )
