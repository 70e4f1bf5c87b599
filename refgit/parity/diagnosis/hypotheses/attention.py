"""What may be wrong inside attention: scale, heads, distances, values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from refgit.layers._array_api import Array, array_namespace
from refgit.layers.attention import attention_scores, merge_heads, weighted_values
from refgit.layers.position import RelativePositions, relative_scores
from refgit.parity.diagnosis.hypotheses.base import Hypothesis
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, View
from refgit.parity.graph.nodes import Node

Split = Callable[[Array, int], Array]


def of_attention(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong at a node of these kinds; nothing for others."""
    if node.kind == "scores":
        yield from _of_scores(node, graph)
    if node.kind == "context":
        yield from _of_context(node, graph)


# ---- how the width is dealt out to the heads


def interleaved(x: Array, width: int) -> Array:
    """Channel i H + h to head h: (B, L, D) -> (B, H, L, D/H)."""
    xp = array_namespace(x)
    b, length, d = x.shape
    return xp.permute_dims(xp.reshape(x, (b, length, width, d // width)), (0, 3, 1, 2))


def unmoved(x: Array, width: int) -> Array:
    """The memory of (B, L, D) read as (B, H, L, D/H), with no axis moved."""
    b, length, d = x.shape
    return array_namespace(x).reshape(x, (b, d // width, length, width))


def interleaved_back(x: Array) -> Array:
    """Channel i of head h to i H + h: (B, H, L, D/H) -> (B, L, D)."""
    b, heads, length, d = x.shape
    xp = array_namespace(x)
    return xp.reshape(xp.permute_dims(x, (0, 2, 3, 1)), (b, length, heads * d))


def unmoved_back(x: Array) -> Array:
    """The memory of (B, H, L, D/H) read as (B, L, D), with no axis moved."""
    b, heads, length, d = x.shape
    return array_namespace(x).reshape(x, (b, length, heads * d))


# ---- scores


def _scores(
    node: Node,
    view: View,
    *,
    scale: float | None = None,
    relative_scale: float | None = None,
    split: Split = recipes.in_heads,
    change: Callable[[RelativePositions], RelativePositions | None] = lambda r: r,
    last: bool = False,
    order: Callable[[list[str]], list[str]] = lambda names: names,
) -> Array:
    """Scores with knobs: products times `scale`, distances times `relative_scale`."""
    width = node.options["head_width"]
    scale = 1 / math.sqrt(width) if scale is None else scale
    relative_scale = scale if relative_scale is None else relative_scale
    query = split(view[node.inputs[0]], width)
    keys = [split(view[name], width) for name in order(list(node.inputs[1:]))]
    positions = recipes.relative_positions(node, view, keys, query.shape[2])
    positions = None if positions is None else change(positions)
    parts, first = [], 0
    for key in keys:
        part = attention_scores(query, key) * scale
        if positions is not None:
            of = _from_the_last if last else relative_scores
            part = part + of(query, key, positions, first_key=first) * relative_scale
        parts.append(part)
        first += key.shape[2]
    return array_namespace(query).concat(parts, axis=-1)


def _from_the_last(
    query: Array, key: Array, positions: RelativePositions, *, first_key: int
) -> Array:
    """Distances as if every query stood where the last one stands."""
    xp = array_namespace(query)
    count = query.shape[2]
    moved = replace(positions, first_query=positions.first_query + count - 1)
    each = [
        relative_scores(query[:, :, i : i + 1, :], key, moved, first_key=first_key)
        for i in range(count)
    ]
    return xp.concat(each, axis=2)


def _of_scores(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    width = node.options["head_width"]

    def at(name: str, text: str, rank: int = 1, **knobs: Any) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            return _scores(n, v, **knobs)

        return Hypothesis(name, text, node.name, recipe, rank)

    yield at("no scale", "the scores are not divided by sqrt(D/H)", scale=1.0)
    yield at("scale twice", "the scores are divided by sqrt(D/H) twice", scale=1 / width)
    total = _width_of(node, graph)
    yield at("scale by D", "the scores are divided by sqrt(D); it should be sqrt(D/H)",
             scale=1 / math.sqrt(total))  # fmt: skip
    yield at("scale by H", "the scores are divided by sqrt(H); it should be sqrt(D/H)", 2,
             scale=1 / math.sqrt(total // width))  # fmt: skip
    yield at("scale doubled", "the scores are twice what they should be", 2,
             scale=2 / math.sqrt(width))  # fmt: skip
    yield at("scale halved", "the scores are half of what they should be", 2,
             scale=0.5 / math.sqrt(width))  # fmt: skip
    yield at("scale multiplied", "the scores are multiplied by sqrt(D/H), not divided", 2,
             scale=math.sqrt(width))  # fmt: skip
    yield at("heads interleaved", "the heads take every H-th channel; each should take a run of "
             "D/H channels", split=interleaved)  # fmt: skip
    yield at("heads not moved", "the heads are split by a reshape alone; the axes of tokens and "
             "heads must be swapped", split=unmoved)  # fmt: skip
    if len(node.inputs) > 2:
        yield at("new key first", "the new key stands in front of the cached ones", 2,
                 order=lambda names: [names[-1], *names[:-1]])  # fmt: skip
        yield at("cache ignored", "the cached keys are not used",
                 order=lambda names: names[-1:])  # fmt: skip

    def transposed(n: Node, v: View) -> Array:
        return array_namespace(v[n.inputs[0]]).matrix_transpose(_scores(n, v))

    yield Hypothesis("scores transposed", "queries and keys are swapped: the scores are "
                     "transposed", node.name, transposed, 2)  # fmt: skip
    if node.options["relative"] is not None:
        yield from _of_distances(node, at)


def _width_of(node: Node, graph: Graph) -> int:
    config = graph.config
    return config.hidden_size if node.options["masked"] else config.vision_config.hidden_size


def _of_distances(node: Node, at: Callable[..., Hypothesis]) -> Iterator[Hypothesis]:
    """Relative positions; M is the number of positions that the table has room for."""
    with_keys = node.options["relative"] == "relative_key_query"
    yield at("no distances", "the relative positions are missing", change=lambda r: None)
    yield at("distances not scaled", "the relative term is not divided by sqrt(D/H)",
             relative_scale=1.0)  # fmt: skip
    yield at("distance of the last query", "every query is taken for the last one when distances "
             "are counted (transformers 4 does so with a cache)", last=True)  # fmt: skip
    yield at("distances reversed", "the distance is counted as key - query; it should be "
             "query - key", change=lambda r: replace(r, table=r.table[::-1, :]))  # fmt: skip
    other = "without" if with_keys else "with"
    yield at("distances of keys", f"the distances are used {other} the keys' term",
             change=lambda r: replace(r, with_keys=not with_keys))  # fmt: skip
    for shift in (1, -1):
        yield at(f"distances off by {shift}", f"the distances are off by {shift}", 2,
                 change=lambda r, s=shift: replace(r, first_query=r.first_query + s))  # fmt: skip


# ---- context


def _of_context(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    def at(
        name: str,
        text: str,
        split: Split = recipes.in_heads,
        merge: Callable[[Array], Array] = merge_heads,
        rank: int = 1,
        turn: bool = False,
    ) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            p = v[n.inputs[0]]
            xp = array_namespace(p)
            value = xp.concat([split(v[x], n.options["head_width"]) for x in n.inputs[1:]], axis=2)
            return merge(weighted_values(xp.matrix_transpose(p) if turn else p, value))

        return Hypothesis(name, text, node.name, recipe, rank)

    yield at("heads interleaved", "the heads take every H-th channel of the values; each should "
             "take a run of D/H channels", interleaved, interleaved_back)  # fmt: skip
    yield at("values interleaved", "the values are split into interleaved heads and merged "
             "head by head", interleaved, merge_heads, 2)  # fmt: skip
    yield at("merge interleaved", "the heads are merged channel by channel; they belong side by "
             "side", merge=interleaved_back, rank=2)  # fmt: skip
    yield at("heads not moved", "values are split and heads merged by a reshape alone; the axes of "
             "tokens and heads must be swapped", unmoved, unmoved_back)  # fmt: skip
    yield at("merge not moved", "the heads are merged by a reshape alone; the axes of tokens and "
             "heads must be swapped back", merge=unmoved_back)  # fmt: skip
    yield at("values not moved", "the values are split into heads by a reshape alone",
             unmoved, rank=2)  # fmt: skip
    yield at("heads reversed", "the heads are merged in reverse order",
             merge=lambda x: merge_heads(array_namespace(x).flip(x, axis=1)), rank=3)  # fmt: skip
    yield at("probabilities transposed", "the probabilities are transposed", turn=True, rank=2)
