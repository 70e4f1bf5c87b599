"""How each kind of tensor follows from its inputs, by the definitions of `refgit.layers`.

One recipe a kind, a few lines each. A recipe takes the node, which says what it is made from, and
a view, which gives the tensors and parameters it asks for in one precision. The hypotheses of
the diagnosis are written against the same interface: a recipe with one thing changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np

from refgit.layers._array_api import Array, array_namespace
from refgit.layers._operations import DEFINITIONS
from refgit.layers.attention import attention_scores, merge_heads, split_heads, weighted_values
from refgit.layers.embedding import embed
from refgit.layers.linear import linear
from refgit.layers.mask import attention_bias, image_text_mask
from refgit.layers.normalization import layer_norm
from refgit.layers.patch_embedding import patch_embedding, prepend_class_token
from refgit.layers.position import (
    RelativePositions,
    add_absolute_positions,
    interpolate_positions,
    relative_scores,
)
from refgit.layers.sequence import add_temporal_embedding, join_image_and_text
from refgit.layers.softmax import softmax
from refgit.parity.graph.nodes import Node


class ViewLike(Protocol):
    """What a recipe asks for; see `graph.View`."""

    def __getitem__(self, name: str, /) -> Array: ...

    def get(self, name: str, /) -> Array | None:
        """Return a tensor if it is given."""

    def weight(self, name: str, /) -> Array:
        """Return a parameter."""


Recipe: TypeAlias = Callable[[Node, Any], Array]


# ---- image


def frames_apart(pixels: Array) -> Array:
    """Videos (B, F, C, S, S) as images (B F, C, S, S); images as they are."""
    if pixels.ndim == 4:
        return pixels
    return array_namespace(pixels).reshape(pixels, (-1, *pixels.shape[2:]))


def patch(node: Node, view: ViewLike) -> Array:
    """Pixels to patch tokens: (B, C, height, width) -> (B, n, D)."""
    pixels = frames_apart(view[node.inputs[0]])
    return patch_embedding(pixels, view.weight(f"{node.parameters}.weight"))


def grid(node: Node, view: ViewLike) -> tuple[int, int]:
    """Rows and columns of patches of the images of this call."""
    height, width = view[node.inputs[1]].shape[-2:]
    return height // node.options["patch_size"], width // node.options["patch_size"]


def positions_for(node: Node, view: ViewLike) -> Array:
    """The position table of the images of this call: (N, D), stretched if their size asks."""
    table = view.weight(f"{node.parameters}.position_embedding.weight")
    rows, columns = grid(node, view)
    if rows != columns or rows * columns + 1 != table.shape[0]:
        table = interpolate_positions(table, rows, columns)
    return table


def class_position(node: Node, view: ViewLike) -> Array:
    """Class token in front, positions added: (B, n, D) -> (B, N, D)."""
    x = prepend_class_token(view[node.inputs[0]], view.weight(f"{node.parameters}.class_embedding"))
    return add_absolute_positions(x, positions_for(node, view))


def times_of(node: Node, view: ViewLike) -> list[Array]:
    """The time vectors of a video model, (1, 1, D) each."""
    return [view.weight(f"{node.parameters}.{i}") for i in range(node.options["times"])]


def frames(node: Node, view: ViewLike) -> Array:
    """Frames with their times, joined: (B F, N, D) -> (B, F N, D)."""
    x = view[node.inputs[0]]
    count = view[node.inputs[1]].shape[1]
    x = array_namespace(x).reshape(x, (-1, count, *x.shape[1:]))  # -> (B, F, N, D)
    return add_temporal_embedding(x, times_of(node, view))


# ---- text


def embedding(node: Node, view: ViewLike) -> Array:
    """Embeddings by id: (B, T) -> (B, T, D)."""
    return embed(view[node.inputs[0]], view.weight(f"{node.parameters}.weight"))


def position_ids(node: Node, view: ViewLike) -> Array:
    """Positions of the text tokens of this call, (B or 1, T): as given, else counted from 0."""
    given = view.get(node.inputs[0])
    if given is not None:
        return given
    *past, now = node.options["lengths"]
    return np.arange(sum(past), sum(past) + now)[None]


def position(node: Node, view: ViewLike) -> Array:
    """Embeddings of the positions: (B or 1, T, D)."""
    return embed(position_ids(node, view), view.weight(f"{node.parameters}.weight"))


def join(node: Node, view: ViewLike) -> Array:
    """Image tokens, then text tokens: (B', N, D), (B, T, D) -> (B, N + T, D)."""
    return join_image_and_text(view[node.inputs[0]], view[node.inputs[1]])


# ---- both towers


def weight_and_bias(node: Node, view: ViewLike) -> tuple[Array, Array]:
    """The two parameters of a linear map or a layer norm."""
    return view.weight(f"{node.parameters}.weight"), view.weight(f"{node.parameters}.bias")


def norm(node: Node, view: ViewLike) -> Array:
    """Layer norm: (..., D) -> (..., D)."""
    return layer_norm(view[node.inputs[0]], *weight_and_bias(node, view), eps=node.options["eps"])


def affine(node: Node, view: ViewLike) -> Array:
    """Linear map with bias: (..., I) -> (..., O)."""
    return linear_map(view[node.inputs[0]], *weight_and_bias(node, view))


def linear_map(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """`linear`, in float16 as NumPy has it: sums in float32, rounded once.

    NumPy's own product of that type takes half a minute for the head of git-base.
    """
    if not x.dtype == weight.dtype == np.float16:
        return linear(x, weight, bias)
    wide = linear(x.astype(np.float32), weight.astype(np.float32))
    with np.errstate(over="ignore"):
        y = wide.astype(np.float16)
    return y if bias is None else y + bias


def activation(node: Node, view: ViewLike) -> Array:
    """The non-linearity that the config names."""
    return DEFINITIONS.activation(node.options["act"])(view[node.inputs[0]])


def add(node: Node, view: ViewLike) -> Array:
    """A residual connection, or words and positions: a + b."""
    return view[node.inputs[0]] + view[node.inputs[1]]


# ---- attention


def scores(node: Node, view: ViewLike) -> Array:
    """Scaled products of queries and keys, relative positions included: (B, H, Q, K)."""
    width = node.options["head_width"]
    scale = 1.0 / math.sqrt(width)
    query = in_heads(view[node.inputs[0]], width) * scale
    keys = [in_heads(view[name], width) for name in node.inputs[1:]]
    relative = relative_positions(node, view, keys, query.shape[2])
    parts, first_key = [], 0
    for key in keys:
        part = attention_scores(query, key)
        if relative is not None:
            part = part + relative_scores(
                query, key, relative, first_key=first_key, key_scale=scale
            )
        parts.append(part)
        first_key += key.shape[2]
    return array_namespace(query).concat(parts, axis=-1)


def in_heads(x: Array, width: int) -> Array:
    """(B, L, D) -> (B, H, L, D/H); heads that were pruned are simply not there."""
    return split_heads(x, x.shape[-1] // width)


def relative_positions(
    node: Node, view: ViewLike, keys: list[Array], n_query: int
) -> RelativePositions | None:
    """The distance vectors of a layer, or None for absolute positions."""
    kind = node.options["relative"]
    if kind is None:
        return None
    return RelativePositions(
        view.weight(f"{node.parameters}.distance_embedding.weight"),
        with_keys=kind == "relative_key_query",
        first_query=sum(key.shape[2] for key in keys) - n_query,
    )


def allowed(node: Node, like: Array) -> Array:
    """Which keys each query may see in this call: (Q, K), bool; `like` are the scores."""
    n_query, n_key = like.shape[-2:]
    return image_text_mask(image_length(node, like), n_key, first_query=n_key - n_query, like=like)


def image_length(node: Node, like: Array) -> int:
    """Image tokens N: all keys that are not text."""
    return int(like.shape[-1] - sum(node.options["lengths"]))


def padding(node: Node, view: ViewLike) -> Array | None:
    """The padding mask of all text so far, (B, T), or None where nothing is padding."""
    mask, past = None, 0
    for prefix, length in zip(node.options["calls"], node.options["lengths"], strict=True):
        new = view.get(f"{prefix}input.attention_mask")
        if new is not None and new.shape[1] == past + length:
            mask = new
        elif new is not None or mask is not None:
            rows = (mask if new is None else new).shape[0]  # type: ignore[union-attr]
            old = np.ones((rows, past), np.int64) if mask is None else mask
            now = np.ones((rows, length), np.int64) if new is None else new
            mask = np.concatenate([old, now], axis=1)
        past += length
    return mask


def probabilities(node: Node, view: ViewLike) -> Array:
    """Softmax of the scores where a query sees, 0 elsewhere: (B, H, Q, K)."""
    x = view[node.inputs[0]]
    if node.options["masked"]:
        x = x + attention_bias(allowed(node, x), padding(node, view), like=x)
    return silenced(node, view, softmax(x))


def silenced(node: Node, view: ViewLike, p: Array) -> Array:
    """Probabilities with the heads of the head mask set to 0."""
    mask = view.get(f"{node.where.prefix}input.head_mask")
    if mask is None or not node.options["masked"]:
        return p
    rows = mask if mask.ndim == 1 else mask[node.where.layer]
    return p * rows[None, :, None, None]


def context(node: Node, view: ViewLike) -> Array:
    """Values averaged by the probabilities, heads side by side: (B, Q, D)."""
    width = node.options["head_width"]
    p = view[node.inputs[0]]
    total, start = None, 0
    for name in node.inputs[1:]:
        value = in_heads(view[name], width)
        stop = start + value.shape[2]
        part = weighted_values(p[..., start:stop], value)
        total = part if total is None else total + part
        start = stop
    return merge_heads(total)


RECIPES: dict[str, Recipe] = {
    "patch": patch,
    "class_position": class_position,
    "frames": frames,
    "embedding": embedding,
    "position": position,
    "sum": add,
    "join": join,
    "layer_norm": norm,
    "linear": affine,
    "head": affine,
    "activation": activation,
    "residual": add,
    "scores": scores,
    "probabilities": probabilities,
    "context": context,
}
