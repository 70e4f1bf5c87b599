"""What may be wrong with an image's positions: ways to fit the learned grid to its patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from refgit.layers._array_api import Array
from refgit.layers.patch_embedding import prepend_class_token
from refgit.layers.position import bicubic_weights
from refgit.parity.diagnosis.hypotheses.base import Hypothesis
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.graph.nodes import Node


def of_interpolation(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Ways to fit the position table to the image; with each, who wins says the sentence."""
    ways: dict[str, tuple[str, Callable[[Array, int, int], Array], int]] = {
        "positions cropped": ("cropped to the top left of the learned grid", _cropped, 1),
        "positions cut": ("cut off, not interpolated", _cut, 1),
        "positions bilinear": ("interpolated bilinearly; it should be bicubic", _bilinear, 1),
        "positions nearest": ("those of the nearest patch; it should be bicubic", _nearest, 1),
        "positions bicubic -0.5": (
            "interpolated with a bicubic kernel of a = -0.5; it should be -0.75", _keys, 1,
        ),
        "positions with + 0.1": (
            "interpolated with a scale of (size + 0.1) / side, an old trick", _plus_a_tenth, 1,
        ),
        "positions aligned corners": (
            "interpolated with align_corners=True; it should be False", _aligned, 1,
        ),
        "positions antialiased": (
            "interpolated with antialiasing; it should be off", _antialiased, 1,
        ),
        "positions transposed": ("laid out with rows and columns swapped", _swapped, 2),
        "positions of all interpolated": (
            "interpolated together with the class token's, as one sequence", _in_line, 2,
        ),
        "positions as learned": ("those of the learned grid, in order", _cut, 2),
    }  # fmt: skip
    for name, (text, fit, rank) in ways.items():

        def recipe(n: Node, v: View, fit: Callable[..., Array] = fit) -> Array:
            table = v.weight(f"{n.parameters}.position_embedding.weight")
            rows, columns = recipes.grid(n, v)
            first = v.weight(f"{n.parameters}.class_embedding")
            return prepend_class_token(v[n.inputs[0]], first) + fit(table, rows, columns)

        yield Hypothesis(name, f"your image positions are {text}", node.name, recipe, rank)


def _square(table: Array) -> tuple[Array, Array, int]:
    side = math.isqrt(table.shape[0] - 1)
    return table[:1], table[1:].reshape(side, side, -1), side


def _resampled(table: Array, vertical: Array, horizontal: Array) -> Array:
    """The grid under one matrix for the rows and one for the columns."""
    first, grid, _ = _square(table)
    new = np.einsum("ri,sj,ijd->rsd", vertical, horizontal, grid)
    return np.concatenate([first, new.reshape(-1, table.shape[1])]).astype(table.dtype)


def _cropped(table: Array, rows: int, columns: int) -> Array:
    first, grid, side = _square(table)
    if rows > side or columns > side:
        raise MissingTensorError("the image is larger than the learned grid.")
    return np.concatenate([first, grid[:rows, :columns].reshape(-1, table.shape[1])])


def _cut(table: Array, rows: int, columns: int) -> Array:
    if rows * columns + 1 > table.shape[0]:
        raise MissingTensorError("the image has more patches than there are positions.")
    return table[: rows * columns + 1]


def _swapped(table: Array, rows: int, columns: int) -> Array:
    from refgit.layers.position import interpolate_positions

    first, grid, side = _square(table)
    turned = np.concatenate([first, np.swapaxes(grid, 0, 1).reshape(side * side, -1)])
    return interpolate_positions(turned, rows, columns)


def _weights(table: Array, n_out: int, kernel: Callable[[Array], Array], reach: int,
             at: Callable[[Array, int, int], Array] | None = None) -> Array:  # fmt: skip
    """A matrix (n_out, side) that weighs learned points by their distance; edges are repeated."""
    side = math.isqrt(table.shape[0] - 1)
    o = np.arange(n_out, dtype=np.float64)
    u = (o + 0.5) * side / n_out - 0.5 if at is None else at(o, side, n_out)
    weights = np.zeros((n_out, side))
    below = np.floor(u)
    for k in range(1 - reach, reach + 1):
        source = np.clip(below + k, 0, side - 1).astype(np.int64)
        np.add.at(weights, (np.arange(n_out), source), kernel(np.abs(u - below - k)))
    return weights


def _cubic(d: Array, a: float) -> Array:
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _hat(d: Array) -> Array:
    return np.maximum(1 - d, 0)


def _bilinear(table: Array, rows: int, columns: int) -> Array:
    return _resampled(table, *(_weights(table, n, _hat, 1) for n in (rows, columns)))


def _keys(table: Array, rows: int, columns: int) -> Array:
    matrices = (_weights(table, n, lambda d: _cubic(d, -0.5), 2) for n in (rows, columns))
    return _resampled(table, *matrices)


def _plus_a_tenth(table: Array, rows: int, columns: int) -> Array:
    def at(o: Array, side: int, n_out: int) -> Array:
        return (o + 0.5) * side / (n_out + 0.1) - 0.5

    matrices = (_weights(table, n, lambda d: _cubic(d, -0.75), 2, at) for n in (rows, columns))
    return _resampled(table, *matrices)


def _aligned(table: Array, rows: int, columns: int) -> Array:
    def at(o: Array, side: int, n_out: int) -> Array:
        return o * (side - 1) / max(n_out - 1, 1)

    matrices = (_weights(table, n, lambda d: _cubic(d, -0.75), 2, at) for n in (rows, columns))
    return _resampled(table, *matrices)


def _nearest(table: Array, rows: int, columns: int) -> Array:
    first, grid, side = _square(table)
    r, s = (np.floor(np.arange(n) * side / n).astype(np.int64) for n in (rows, columns))
    return np.concatenate([first, grid[r][:, s].reshape(-1, table.shape[1])])


def _antialiased(table: Array, rows: int, columns: int) -> Array:
    return _resampled(table, *(wide_bicubic(_square(table)[2], n, -0.5) for n in (rows, columns)))


def wide_bicubic(n_in: int, n_out: int, a: float) -> Array:
    """A bicubic resampling matrix (n_out, n_in) whose kernel widens when it makes smaller."""
    scale = max(n_in / n_out, 1.0)
    centre = (np.arange(n_out) + 0.5) * n_in / n_out
    d = np.abs((np.arange(n_in)[None, :] + 0.5 - centre[:, None]) / scale)
    weights = _cubic(d, a)
    return weights / weights.sum(axis=1, keepdims=True)


def _in_line(table: Array, rows: int, columns: int) -> Array:
    return bicubic_weights(table.shape[0], rows * columns + 1, like=table) @ table
