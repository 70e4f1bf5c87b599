"""CuPy kernel for `attention`: softmax(Q K^T / sqrt(d) + b) V.

Few queries, as in each step of decoding, are one kernel, which reads keys and values from the cache
and keeps no scores in memory. Many queries are two batched products of cuBLAS with a softmax
between them that adds the bias and works in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from refgit_backends.base import Array, Kernel
from refgit_backends.common import Hook, average, kernel
from refgit_backends.cupy.launch import DTYPES, MAX_KEYS, Launcher

FEW_QUERIES = 8  # up to here one kernel


def _serves(query: Array, keys: Sequence[Array], *_: Any, relative: Any = None, **__: Any) -> bool:
    """Whether the kernel can: absolute positions, and there are keys."""
    return (
        relative is None
        and str(query.dtype) in DTYPES
        and all(key.shape[0] > 0 and key.shape[2] > 0 for key in keys)
    )


def attention_kernel(launch: Launcher) -> Kernel:
    """Make the kernel."""

    @kernel(serves=_serves)
    def attention(
        query: Array,
        keys: Sequence[Array],
        values: Sequence[Array],
        bias: Array | None = None,
        *,
        relative: Any = None,
        head_mask: Array | None = None,
        keep_probabilities: bool = True,
        hook: Hook | None = None,
    ) -> tuple[Array, Array | None]:
        """Attend: (B, H, Q, d), segments (B', H, K_i, d), (1 or B, 1, Q, K) -> (B, H, Q, d)."""
        n_keys = sum(key.shape[2] for key in keys)
        if bias is not None:
            bias = launch.xp.ascontiguousarray(bias)
        few = query.shape[2] <= FEW_QUERIES and n_keys <= MAX_KEYS and len(keys) <= 2
        if few and hook is None and not keep_probabilities:
            return _at_once(launch, query, keys, values, bias, head_mask), None
        context, probabilities = _by_products(launch, query, keys, values, bias, head_mask, hook)
        return context, probabilities if keep_probabilities else None

    return attention


def _at_once(
    launch: Launcher,
    query: Array,
    keys: Sequence[Array],
    values: Sequence[Array],
    bias: Array | None,
    head_mask: Array | None,
) -> Array:
    """All of it in one kernel; the result is a view that `merge_heads` need not copy."""
    xp = launch.xp
    b, heads, q, d = query.shape
    if query.strides[-1] != query.itemsize:
        query = xp.ascontiguousarray(query)
    context = xp.empty((b, q, heads, d), query.dtype)
    arguments: dict[str, Any] = dict(zip(_QUERY, _steps(query), strict=True))
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        if key.strides != value.strides or key.strides[-1] != key.itemsize:
            key, value = xp.ascontiguousarray(key), xp.ascontiguousarray(value)
        steps = dict(zip((f"batch{i}", f"head{i}", f"token{i}"), _steps(key), strict=True))
        rows, _, length, _ = key.shape
        arguments |= {f"key{i}": key, f"value{i}": value, **steps}
        arguments |= {f"rows{i}": rows, f"keys{i}": length}
    if len(keys) == 1:
        arguments |= _NO_SECOND
    launch(
        "attend", (b * heads * q,), query.dtype,
        context=context, query=query, bias=bias, head_mask=head_mask,
        heads=heads, queries=q, width=d, bias_rows=1 if bias is None else bias.shape[0],
        scale=1.0 / math.sqrt(d), **arguments,
    )  # fmt: skip
    return context.transpose(0, 2, 1, 3)  # (B, Q, H, d) -> (B, H, Q, d)


_QUERY = ("query_batch", "query_head", "query_token")
_NO_SECOND: dict[str, Any] = {"key1": None, "value1": None, "rows1": 1, "keys1": 0} | dict.fromkeys(
    ("batch1", "head1", "token1"), 0
)


def _steps(x: Array) -> list[int]:
    """Numbers from one row, head and token to the next, of (B, H, L, d)."""
    return [step // x.itemsize for step in x.strides[:3]]


def launch_softmax(
    launch: Launcher, y: Array, x: Array, bias: Array | None, *, heads: int = 1, queries: int = 1
) -> None:
    """Write the softmax of contiguous scores (..., K), with a bias (1 or B, 1, Q, K) if any."""
    rows = x.size // x.shape[-1]
    launch(
        "softmax", (rows,), x.dtype, y=y, x=x, bias=bias, rows=rows, width=x.shape[-1],
        heads=heads, queries=queries, bias_rows=1 if bias is None else bias.shape[0],
    )  # fmt: skip


def _by_products(
    launch: Launcher,
    query: Array,
    keys: Sequence[Array],
    values: Sequence[Array],
    bias: Array | None,
    head_mask: Array | None,
    hook: Hook | None,
) -> tuple[Array, Array]:
    """Two products, with all scores in memory between them; the probabilities take their place."""
    xp = launch.xp
    b, heads, q, d = query.shape
    query = query * (1.0 / math.sqrt(d))  # before the product, which might not fit into float16
    parts = []
    for key in keys:
        grouped = query.reshape(-1, *key.shape[:2], q, d)  # texts of an image, images
        part = xp.matmul(grouped, key.swapaxes(-1, -2))  # -> (B/B', B', H, Q, K_i)
        parts.append(part.reshape(b, heads, q, -1))
    scores = parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=-1)  # (B, H, Q, K)
    joint = scores
    if hook is not None:
        scores = xp.ascontiguousarray(hook("scores", scores))
        joint = xp.empty(scores.shape, scores.dtype)  # what the hook has seen stays
    launch_softmax(launch, joint, scores, bias, heads=heads, queries=q)
    if head_mask is not None:
        joint *= head_mask[:, None, None]
    if hook is not None:
        joint = hook("probabilities", joint)
    return average(joint, values), joint
