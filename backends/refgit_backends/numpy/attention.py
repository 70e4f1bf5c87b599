"""NumPy kernel for `attention`: softmax(Q K^T / sqrt(d) + b) V without a copy of keys or values.

Scores are computed for as many images and heads at a time as fit the cache, turned into
exponentials in place, and divided by their sum only after they have weighted the values, which are
fewer. The context is laid out so that merging the heads copies nothing.

There are three cases: one segment of many tokens, as in the image encoder; one more token of each
text; and all others, where the texts of an image are one product with its keys, not one each.
A replacement that a hook returns is followed step by step, as in the definition.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np

from refgit_backends.common import Floats, Hook, average, kernel, segments
from refgit_backends.numpy.linear import MANY_ROWS
from refgit_backends.numpy.normalization import softmax
from refgit_backends.numpy.threads import divide

_SCORES = 1 << 20  # numbers at a time: 4 MiB of float32
_SCORES_OF_THREAD = 1 << 18  # 1 MiB, half of a second-level cache


def _serves(
    query: Floats, keys: Sequence[Floats], *_: Any, relative: Any = None, **__: Any
) -> bool:
    """Whether the kernel can: absolute positions, and each segment of all images or all texts."""
    rows = {len(key) for key in keys}
    return relative is None and rows <= {min(rows), len(query)}


@kernel(serves=_serves)
def attention(
    query: Floats,
    keys: Sequence[Floats],
    values: Sequence[Floats],
    bias: Floats | None = None,
    *,
    relative: None = None,
    head_mask: Floats | None = None,
    keep_probabilities: bool = True,
    hook: Hook | None = None,
) -> tuple[Floats, Floats | None]:
    """Attend: (B, H, Q, d), segments (B', H, K_i, d), (1 or B, 1, Q, K) -> (B, H, Q, d).

    B' is B or the number of images G; text b belongs to image b mod G.
    """
    b, heads, q, _ = query.shape
    plain = bias is None and head_mask is None and query.dtype != np.float16
    scores = probabilities = None
    if hook is not None or keep_probabilities:
        probabilities = np.empty((b, heads, q, sum(key.shape[2] for key in keys)), query.dtype)
        scores = None if hook is None else np.empty_like(probabilities)
    if plain and q == 1:
        context = _one_token(query, keys, values, scores, probabilities)
    elif plain and len(keys) == 1 and len(keys[0]) == b and q >= MANY_ROWS:
        context = _one_segment(query, keys[0], values[0], scores, probabilities)
    else:
        context = _any(query, keys, values, bias, head_mask, scores, probabilities)
    if hook is not None:
        found = hook("scores", scores)
        if found is not scores:
            probabilities = _probabilities(found, bias, head_mask)
        weights = hook("probabilities", probabilities)
        if found is not scores or weights is not probabilities:
            wide = np.result_type(query.dtype, np.float32)
            context = average(weights.astype(wide), [value.astype(wide) for value in values])
            context, probabilities = context.astype(query.dtype, copy=False), weights
    return context, probabilities if keep_probabilities else None


def _probabilities(scores: Floats, bias: Floats | None, head_mask: Floats | None) -> Floats:
    """Softmax of the scores that a hook returned: (B, H, Q, K) -> (B, H, Q, K)."""
    wide = scores.astype(np.result_type(scores.dtype, np.float32))
    p: Floats = softmax(wide if bias is None else wide + bias)
    if head_mask is not None:
        p *= head_mask[:, None, None]
    return p.astype(scores.dtype, copy=False)


def _any(
    query: Floats,
    keys: Sequence[Floats],
    values: Sequence[Floats],
    bias: Floats | None,
    head_mask: Floats | None,
    shown: Floats | None,
    kept: Floats | None,
) -> Floats:
    """Attend with everything `attention` takes; scores go to `shown`, probabilities to `kept`."""
    b, heads, q, d = query.shape
    groups = min(len(key) for key in keys)  # G
    n = b // groups  # texts of each image
    wide = np.result_type(query.dtype, np.float32)
    scale = wide.type(1.0 / math.sqrt(d))
    n_keys = sum(key.shape[2] for key in keys)
    context = np.empty((n, groups, q, heads, d), query.dtype)
    out = context.transpose(1, 3, 0, 2, 4)  # (G, H, n, Q, d)
    query = _by_image(query, groups)
    keys = [_by_image(key, groups) for key in keys]
    values = [_by_image(value, groups) for value in values]
    if bias is not None:
        bias = _by_image(bias, groups if len(bias) == b else 1)  # (G or 1, 1, n or 1, Q, K)
    shown, kept = (None if x is None else _by_image(x, groups) for x in (shown, kept))
    for here in _pieces(groups, heads, n * q * n_keys):
        part = np.multiply(query[here], scale, dtype=wide, order="C")
        scores = _scores(part, [key[here].astype(wide, copy=False) for key in keys], n_keys)
        if shown is not None:
            shown[here] = scores
        if bias is not None:
            scores += bias if len(bias) == 1 else bias[here[0]]
        total = _exponentials(scores)  # (g, h, n, Q, 1)
        h = _weighted(scores, [value[here].astype(wide, copy=False) for value in values])
        h /= total
        mask = None if head_mask is None else head_mask[here[1]][:, None, None, None]
        if mask is not None:
            h *= mask
        out[here] = h
        if kept is not None:
            kept[here] = scores / total * (1 if mask is None else mask)
    return context.reshape(b, q, heads, d).transpose(0, 2, 1, 3)


def _one_token(
    query: Floats,
    keys: Sequence[Floats],
    values: Sequence[Floats],
    shown: Floats | None,
    kept: Floats | None,
) -> Floats:
    """Attend from one more token of each text: (B, H, 1, d), (B', H, K_i, d) -> (B, H, 1, d).

    What counts in a step of greedy or beam search is how often NumPy is called.
    """
    query = query * query.dtype.type(1.0 / math.sqrt(query.shape[-1]))
    scores = [_shared_product(query, key.swapaxes(2, 3)) for key in keys]  # (B, H, 1, K_i)
    joint = np.concatenate(scores, axis=-1) if len(scores) > 1 else scores[0]
    if shown is not None:
        shown[...] = joint
    joint -= np.maximum.reduce(joint, axis=-1, keepdims=True)
    np.exp(joint, out=joint)
    parts = [_shared_product(joint[..., part], value) for value, part in segments(values, 2)]
    context: Floats = reduce(np.add, parts)
    total = np.add.reduce(joint, axis=-1, keepdims=True)
    if kept is not None:
        kept[...] = joint / total
    return context / total


def _shared_product(x: Floats, y: Floats) -> Floats:
    """Multiply, text b with image b mod G: (B, H, 1, I), (B or G, H, I, O) -> (B, H, 1, O)."""
    b, heads, _, inner = x.shape
    if len(y) == b:
        product: Floats = np.matmul(x, y)
        return product
    texts = x.reshape(-1, len(y), heads, inner).transpose(1, 2, 0, 3)  # (G, H, B / G, I)
    product = np.matmul(texts, y)  # (G, H, B / G, O)
    return product.transpose(2, 0, 1, 3).reshape(b, heads, 1, -1)


def _one_segment(
    query: Floats, key: Floats, value: Floats, shown: Floats | None, kept: Floats | None
) -> Floats:
    """Attend within whole images, channel by channel: three times (B, H, N, d) -> (B, H, N, d).

    The result is a view of (H, d, B, N), as `linear` takes it best. Each thread has some heads.
    """
    b, heads, n, d = query.shape
    context = np.empty((heads, d, b, n), query.dtype)
    scale = query.dtype.type(1.0 / math.sqrt(d))
    columns = min(n, max(16, _SCORES_OF_THREAD // n))  # queries at a time
    together = max(1, _SCORES_OF_THREAD // (n * columns))  # heads at a time

    def part(pairs: slice) -> None:  # of image and head
        first = pairs.start
        while first < pairs.stop:
            image, head = divmod(first, heads)
            count = min(together, heads - head, pairs.stop - first)
            h = slice(head, head + count)
            for start in range(0, n, columns):
                some = slice(start, start + columns)
                few = query[image, h, some] * scale
                scores = np.matmul(key[image, h], few.swapaxes(1, 2))  # (h, K, Q)
                if shown is not None:
                    shown[image, h, some] = scores.swapaxes(1, 2)
                total = _weigh(scores, value[image, h], context[h, :, image, some])
                if kept is not None:
                    kept[image, h, some] = (scores / total).swapaxes(1, 2)
            first += count

    divide(part, b * heads)
    return context.transpose(2, 0, 3, 1)


def _weigh(scores: Floats, value: Floats, context: Floats) -> Floats:
    """Turn scores (h, K, Q) into exponentials, write the context (h, d, Q), return their sums."""
    scores -= np.maximum.reduce(scores, axis=1, keepdims=True)
    np.exp(scores, out=scores)
    total: Floats = np.add.reduce(scores, axis=1, keepdims=True)  # (h, 1, Q)
    np.matmul(value.swapaxes(1, 2), scores, out=context)
    context /= total
    return total


def _by_image(x: Floats, groups: int) -> Floats:
    """Put what belongs to one image together: (n G, H, Q, d) -> (G, H, n, Q, d), a view."""
    return x.reshape(-1, groups, *x.shape[1:]).transpose(1, 2, 0, 3, 4)


def _pieces(groups: int, heads: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Cut images and heads so that `size` scores for each of both fit the cache."""
    g = max(1, _SCORES // max(1, heads * size))
    h = heads if heads * size <= _SCORES else max(1, _SCORES // max(1, size))
    for i in range(0, groups, g):
        for j in range(0, heads, h):
            yield slice(i, i + g), slice(j, j + h)


def _scores(query: Floats, keys: Sequence[Floats], n_keys: int) -> Floats:
    """Compare (g, h, n, Q, d) with segments (g, h, 1 or n, K_i, d) -> (g, h, n, Q, K)."""
    g, h, n, q, d = query.shape
    joint = np.empty((g, h, n * q, n_keys), query.dtype)
    scores = joint.reshape(g, h, n, q, n_keys)
    for key, part in segments(keys, 3):
        key = key.swapaxes(-1, -2)  # (g, h, 1 or n, d, K_i)
        if key.shape[2] == 1:  # the image's: one product for all its texts
            np.matmul(query.reshape(g, h, n * q, d), key[:, :, 0], out=joint[..., part])
        else:
            np.matmul(query, key, out=scores[..., part])
    return scores


def _weighted(weights: Floats, values: Sequence[Floats]) -> Floats:
    """Add up values (g, h, 1 or n, K_i, d) by weights (g, h, n, Q, K) -> (g, h, n, Q, d)."""
    g, h, n, q, n_keys = weights.shape
    joint = weights.reshape(g, h, n * q, n_keys)
    parts = []
    for value, part in segments(values, 3):
        if value.shape[2] == 1:
            parts.append(np.matmul(joint[..., part], value[:, :, 0]).reshape(g, h, n, q, -1))
        else:
            parts.append(np.matmul(weights[..., part], value))
    return reduce(np.add, parts)


def _exponentials(scores: Floats) -> Floats:
    """Turn scores (..., K) into exp(s - max s) in place; return their sums (..., 1)."""
    rows = scores.reshape(-1, scores.shape[-1])
    total = np.empty((len(rows), 1), scores.dtype)
    step = max(1, _SCORES_OF_THREAD // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        h = rows[start : start + step]
        h -= np.maximum.reduce(h, axis=-1, keepdims=True)
        np.exp(h, out=h)
        np.add.reduce(h, axis=-1, keepdims=True, out=total[start : start + step])
    return total.reshape(*scores.shape[:-1], 1)
