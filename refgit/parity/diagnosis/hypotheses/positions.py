"""What may be wrong with an image's positions: ways to fit the learned grid to its patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from refgit.layers._array_api import Array
from refgit.layers.patch_embedding import prepend_class_token
from refgit.layers.position import bicubic_weights, interpolate_positions
from refgit.parity.diagnosis.hypotheses.base import Family, Hypothesis, Make, mistakes
from refgit.parity.graph import recipes
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.graph.nodes import Node
from refgit.parity.numerics.resampling import antialiased, cubic, interpolating, triangle


def _with_positions(fit: Make, node: Node, view: View) -> Array:
    """Patches with a class token in front and the positions `fit(table, rows, columns)`."""
    table = view.weight(f"{node.parameters}.position_embedding.weight")
    first = view.weight(f"{node.parameters}.class_embedding")
    return prepend_class_token(view[node.inputs[0]], first) + fit(table, *recipes.grid(node, view))


def of_interpolation(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Ways to fit the position table to the image."""
    ways: tuple[tuple[str, str, Make, int], ...] = (
        ("positions cropped", "cropped to the top left of the learned grid", _cropped, 1),
        ("positions cut", "cut off, not interpolated", _cut, 1),
        ("positions bilinear", "interpolated bilinearly; it should be bicubic",
         _resampled(lambda side, n: interpolating(side, n, triangle)), 1),
        ("positions nearest", "taken from the nearest patch; it should be bicubic", _nearest, 1),
        ("positions bicubic -0.5",
         "interpolated with a bicubic kernel of a = -0.5; it should be -0.75",
         _resampled(lambda side, n: interpolating(side, n, cubic(-0.5))), 1),
        ("positions with + 0.1",
         "interpolated with a scale of (size + 0.1) / side, an old trick",
         _resampled(_plus_a_tenth), 1),
        ("positions aligned corners",
         "interpolated with align_corners=True; it should be False", _resampled(_aligned), 1),
        ("positions antialiased", "interpolated with antialiasing; it should be off",
         _resampled(lambda side, n: antialiased(side, n, cubic(-0.5))), 1),
        ("positions transposed", "laid out with rows and columns swapped", _swapped, 2),
        ("positions of all interpolated",
         "interpolated together with the class token's, as one sequence",
         lambda table, rows, columns:
             bicubic_weights(table.shape[0], rows * columns + 1, like=table) @ table, 2),
        ("positions as learned", "the learned grid's, in order", _cut, 2),
    )  # fmt: skip
    return mistakes(
        node,
        *((name, f"your image positions are {text}", fit, rank) for name, text, fit, rank in ways),
        call=_with_positions,
    )


def _square(table: Array) -> tuple[Array, Array, int]:
    """The class token's row, and the grid with its side."""
    side = math.isqrt(table.shape[0] - 1)
    return table[:1], table[1:].reshape(side, side, -1), side


def _resampled(weights: Callable[[int, int], Array]) -> Make:
    """The grid under the matrices `weights(side, n)` for its rows and its columns."""

    def fit(table: Array, rows: int, columns: int) -> Array:
        first, grid, side = _square(table)
        new = np.einsum("ri,sj,ijd->rsd", weights(side, rows), weights(side, columns), grid)
        return np.concatenate([first, new.reshape(-1, table.shape[1])]).astype(table.dtype)

    return fit


def _plus_a_tenth(side: int, n: int) -> Array:
    return interpolating(side, n, cubic(-0.75), (np.arange(n) + 0.5) * side / (n + 0.1) - 0.5)


def _aligned(side: int, n: int) -> Array:
    at = np.arange(n, dtype=np.float64) * (side - 1) / max(n - 1, 1)
    return interpolating(side, n, cubic(-0.75), at)


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
    first, grid, side = _square(table)
    turned = np.concatenate([first, np.swapaxes(grid, 0, 1).reshape(side * side, -1)])
    return interpolate_positions(turned, rows, columns)


def _nearest(table: Array, rows: int, columns: int) -> Array:
    first, grid, side = _square(table)
    r, s = (np.floor(np.arange(n) * side / n).astype(np.int64) for n in (rows, columns))
    return np.concatenate([first, grid[r][:, s].reshape(-1, table.shape[1])])


IMAGE_POSITIONS: Family = {"class_position": (of_interpolation,)}
