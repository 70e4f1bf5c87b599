"""What may be wrong inside attention: scale, heads, distances, values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from refgit.layers._array_api import Array, array_namespace
from refgit.layers.attention import attention_scores, merge_heads, weighted_values
from refgit.layers.position import RelativePositions, relative_scores
from refgit.parity.diagnosis.hypotheses.base import Family, Hypothesis, Make, mistakes, when
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, View
from refgit.parity.graph.nodes import Node

Split = Callable[[Array, int], Array]


# ---- how the width is split into heads


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
    correction = _from_the_last if last else relative_scores
    parts, first = [], 0
    for key in keys:
        part = attention_scores(query, key) * scale
        if positions is not None:
            part = part + correction(query, key, positions, first_key=first) * relative_scale
        parts.append(part)
        first += key.shape[2]
    return array_namespace(query).concat(parts, axis=-1)


def _from_the_last(
    query: Array, key: Array, positions: RelativePositions, *, first_key: int
) -> Array:
    """Distances as if every query were at the place of the last one."""
    xp = array_namespace(query)
    count = query.shape[2]
    moved = replace(positions, first_query=positions.first_query + count - 1)
    each = [
        relative_scores(query[:, :, i : i + 1, :], key, moved, first_key=first_key)
        for i in range(count)
    ]
    return xp.concat(each, axis=2)


def of_scores(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Another scale, another split into heads, keys in another order or transposed scores."""
    width = node.options["head_width"]
    config = graph.config if node.options["masked"] else graph.config.vision_config
    total = config.hidden_size
    root = math.sqrt(width)

    def scaled(scale: float) -> Make:
        return lambda n, v: _scores(n, v, scale=scale)

    return mistakes(
        node,
        ("no scale", "the scores are not divided by sqrt(D/H)", scaled(1.0)),
        ("scale twice", "the scores are divided by sqrt(D/H) twice", scaled(1 / width)),
        ("scale by D", "the scores are divided by sqrt(D); it should be sqrt(D/H)",
         scaled(1 / math.sqrt(total))),
        ("scale by H", "the scores are divided by sqrt(H); it should be sqrt(D/H)",
         scaled(1 / math.sqrt(total // width)), 2),
        ("scale doubled", "the scores are twice what they should be", scaled(2 / root), 2),
        ("scale halved", "the scores are half of what they should be", scaled(0.5 / root), 2),
        ("scale multiplied", "the scores are multiplied by sqrt(D/H), not divided",
         scaled(root), 2),
        ("heads interleaved", "the heads take every H-th channel; each should take a run of "
         "D/H channels", lambda n, v: _scores(n, v, split=interleaved)),
        ("heads not moved", "the heads are split only by a reshape; the axes of tokens and "
         "heads must be swapped", lambda n, v: _scores(n, v, split=unmoved)),
        *when(
            len(node.inputs) > 2,
            ("new key first", "the new key is in front of the cached ones",
             lambda n, v: _scores(n, v, order=lambda names: [names[-1], *names[:-1]]), 2),
            ("cache ignored", "the cached keys are not used",
             lambda n, v: _scores(n, v, order=lambda names: names[-1:])),
        ),
        ("scores transposed", "queries and keys are swapped: the scores are transposed",
         lambda n, v: array_namespace(v[n.inputs[0]]).matrix_transpose(_scores(n, v)), 2),
    )  # fmt: skip


def of_distances(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Relative positions left out, not scaled, counted from elsewhere."""
    if node.options["relative"] is None:
        return
    other = "without" if node.options["relative"] == "relative_key_query" else "with"

    def changed(change: Callable[[RelativePositions], RelativePositions | None]) -> Make:
        return lambda n, v: _scores(n, v, change=change)

    yield from mistakes(
        node,
        ("no distances", "the relative positions are missing", changed(lambda r: None)),
        ("distances not scaled", "the relative term is not divided by sqrt(D/H)",
         lambda n, v: _scores(n, v, relative_scale=1.0)),
        ("distance of the last query", "every query is taken for the last one when distances "
         "are counted (transformers 4 does so with a cache)",
         lambda n, v: _scores(n, v, last=True)),
        ("distances reversed", "the distance is counted as key - query; it should be "
         "query - key", changed(lambda r: replace(r, table=r.table[::-1, :]))),
        ("distances of keys", f"the distances are used {other} the keys' term",
         changed(lambda r: replace(r, with_keys=not r.with_keys))),
        *((f"distances off by {shift}", f"the distances are off by {shift}",
           lambda n, v, s=shift: _scores(
               n, v, change=lambda r: replace(r, first_query=r.first_query + s)), 2)
          for shift in (1, -1)),
    )  # fmt: skip


# ---- context


def _context(
    node: Node,
    view: View,
    split: Split = recipes.in_heads,
    merge: Callable[[Array], Array] = merge_heads,
    *,
    turn: bool = False,
) -> Array:
    """The context with knobs: values split and merged in other ways, probabilities transposed."""
    p = view[node.inputs[0]]
    xp = array_namespace(p)
    values = [split(view[x], node.options["head_width"]) for x in node.inputs[1:]]
    value = xp.concat(values, axis=2)
    return merge(weighted_values(xp.matrix_transpose(p) if turn else p, value))


def of_context(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Values split, or heads merged, in another way."""
    return mistakes(
        node,
        ("heads interleaved", "the heads take every H-th channel of the values; each should "
         "take a run of D/H channels", lambda n, v: _context(n, v, interleaved, interleaved_back)),
        ("values interleaved", "the values are split into interleaved heads and merged "
         "head by head", lambda n, v: _context(n, v, interleaved), 2),
        ("merge interleaved", "the heads are merged channel by channel; they belong side by "
         "side", lambda n, v: _context(n, v, merge=interleaved_back), 2),
        ("heads not moved", "values are split and heads merged only by a reshape; the axes of "
         "tokens and heads must be swapped", lambda n, v: _context(n, v, unmoved, unmoved_back)),
        ("merge not moved", "the heads are merged only by a reshape; the axes of tokens and "
         "heads must be swapped back", lambda n, v: _context(n, v, merge=unmoved_back)),
        ("values not moved", "the values are split into heads only by a reshape",
         lambda n, v: _context(n, v, unmoved), 2),
        ("heads reversed", "the heads are merged in reverse order",
         lambda n, v: _context(
             n, v, merge=lambda x: merge_heads(array_namespace(x).flip(x, axis=1))), 3),
        ("probabilities transposed", "the probabilities are transposed",
         lambda n, v: _context(n, v, turn=True), 2),
    )  # fmt: skip


ATTENTION: Family = {"scores": (of_scores, of_distances), "context": (of_context,)}
