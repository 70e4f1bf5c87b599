"""Errors in multiples of the noise floor, measured at one operation.

An operation is judged by itself: the other implementation's tensor against what the definition
makes, in float64, of the other implementation's own inputs. What it may differ by is measured on
the spot: the same operation once more in the other's precision. So an error of an
earlier layer does not count, and a small error in a deep layer is still seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.graph.nodes import Node
from refgit.parity.graph.recipes import allowed, padding
from refgit.parity.numerics.floor import Floor, operation_floor
from refgit.parity.numerics.precision import cast

# Where others' rounding is larger than the definition's in the same precision: torch takes the
# coordinates of interpolated positions in float32, refgit in float64 (seen: 7.5 floors).
SLACK = {"class_position": 3.0}


@dataclass
class Local:
    """One node of the other implementation beside its recomputation.

    Attributes
    ----------
    node : Node
    found : array
        The other's, in float64.
    exact : array or None
        Recomputed from the other's inputs; None where it cannot be.
    floor : Floor or None
    multiples : float
        The error in multiples of the floor; infinite for another shape or for NaN.
    gap : set of str
        Nodes between it and the nearest tensors that the other has.
    precision : str
    """

    node: Node
    found: Array
    exact: Array | None
    floor: Floor | None
    multiples: float
    gap: set[str]
    precision: str
    view: View
    coarse: View


def measure(graph: Graph, node: Node, values: Mapping[str, Any], precision: str) -> Local | None:
    """Recompute a node from `values` and compare; None where its inputs are not to be had."""
    found = cast(values[node.name], "float64")
    view = View(graph, values)
    coarse = View(graph, values, "float32" if precision == "float64" else precision)
    try:
        exact = view.recompute(node.name)
        rough = coarse.recompute(node.name)
    except MissingTensorError:
        return None
    except (ValueError, IndexError, TypeError):
        exact = rough = np.empty(0)  # the other's inputs do not fit together
    gap = view.computed
    both = pair(node, exact, found)
    if both is None:
        return Local(node, found, None, None, np.inf, gap, precision, view, coarse)
    expected, seen = both
    rough_both = pair(node, rough.astype(np.float64), found)
    assert rough_both is not None  # of one shape with `exact`
    floor = operation_floor(rough_both[0], expected, precision).times(SLACK.get(node.kind, 1.0))
    expected, seen = comparable(node, view, expected, seen)
    if not all(np.isfinite(view[name]).all() for name in node.inputs if name in values):
        # NaN of its inputs that this operation does not pass on: not its mistake
        expected = np.where(np.isfinite(seen) & ~np.isfinite(expected), seen, expected)
    multiples = error_in_floors(expected, seen, floor)
    return Local(node, seen, expected, floor, multiples, gap, precision, view, coarse)


def pair(node: Node, expected: Array, found: Array) -> tuple[Array, Array] | None:
    """Bring two tensors of a node, which mean the same, to one shape, or return None.

    Positions may be given once for all sequences; logits may be only the text's, (B, T, V), or the
    last token's, (B, V); (B, L) may be one axis.
    """
    if expected.shape == found.shape:
        return expected, found
    if expected.ndim == found.ndim and expected.shape[1:] == found.shape[1:]:
        if expected.shape[0] == 1:
            return np.broadcast_to(expected, found.shape), found
        if found.shape[0] == 1:
            return expected, np.broadcast_to(found, expected.shape)
    if expected.shape[-1:] != found.shape[-1:]:
        return None
    if expected.size == found.size:
        return expected, found.reshape(expected.shape)
    if node.kind == "head" and expected.ndim == 3:
        if found.ndim == 2 and found.shape[0] == expected.shape[0]:
            return expected[:, -1], found
        if found.ndim == 3 and found.shape[1] < expected.shape[1]:
            return expected[:, -found.shape[1] :], found
    return None


def comparable(node: Node, view: View, expected: Array, found: Array) -> tuple[Array, Array]:
    """Scores that hold the mask already are compared where the mask leaves them."""
    if node.kind != "scores" or not node.options["masked"]:
        return expected, found
    seen = np.broadcast_to(allowed(node, expected), expected.shape)
    mask = padding(node, view)
    if mask is not None:
        text = np.concatenate(
            [np.ones((mask.shape[0], expected.shape[-1] - mask.shape[1])), mask], axis=1
        )
        seen = seen & (text[:, None, None, :] != 0)
    hidden = ~seen & ~(found > -1e3)
    return np.where(hidden, 0.0, expected), np.where(hidden, 0.0, found)


def error_in_floors(expected: Array, found: Array, floor: Floor) -> float:
    """The difference in multiples of the floor; infinite where one is finite and one is not."""
    a, b = np.isfinite(expected), np.isfinite(found)
    if not np.array_equal(a, b):
        return float("inf")
    return floor.multiples((expected - found)[a])
