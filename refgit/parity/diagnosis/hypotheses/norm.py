"""What may be wrong with a layer norm."""

from __future__ import annotations

from collections.abc import Iterator

from refgit.layers._array_api import Array, array_namespace
from refgit.parity.diagnosis.hypotheses.base import Family, Hypothesis, Make, mistakes, twice
from refgit.parity.graph.graph import Graph, View
from refgit.parity.graph.nodes import Node
from refgit.parity.graph.recipes import weight_and_bias

EPS = (1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def _norm(
    node: Node,
    view: View,
    *,
    eps: float | None = None,
    outside: bool = False,
    ddof: int = 0,
    centre: bool = True,
    axis: int = -1,
) -> Array:
    """A layer norm with knobs, before weight and bias."""
    x = view[node.inputs[0]]
    xp = array_namespace(x)
    eps = node.options["eps"] if eps is None else eps
    h = x - xp.mean(x, axis=axis, keepdims=True) if centre else x
    variance = xp.sum(h**2, axis=axis, keepdims=True) / max(x.shape[axis] - ddof, 1)
    return h / (xp.sqrt(variance) + eps) if outside else h / xp.sqrt(variance + eps)


def _affine(make: Make, node: Node, view: View) -> Array:
    weight, bias = weight_and_bias(node, view)
    return make(node, view) * weight + bias


def of_norm(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong with a layer norm."""
    own = node.options["eps"]
    yield from mistakes(
        node,
        *((f"eps {eps:g}",
           f"your layer norm adds eps = {eps:g} to the variance; it should be {own:g}",
           lambda n, v, eps=eps: _norm(n, v, eps=eps), 2 if eps in (1e-7, 1e-4, 1e-3) else 1)
          for eps in EPS if eps != own),
        *((f"eps {eps:g} outside the root",
           f"your layer norm adds eps ({eps:g}) to the standard deviation, outside the root",
           lambda n, v, eps=eps: _norm(n, v, eps=eps, outside=True), 1 if eps == own else 3)
          for eps in dict.fromkeys((own, *EPS))),
        ("unbiased variance", "your layer norm divides the variance by D - 1 (unbiased); it should "
         "divide by D", lambda n, v: _norm(n, v, ddof=1)),
        ("no mean", "your layer norm does not subtract the mean (it is an RMS norm)",
         lambda n, v: _norm(n, v, centre=False)),
        call=_affine,
    )  # fmt: skip
    yield from mistakes(
        node,
        ("norm missing", "your layer norm is missing: the output is its input",
         lambda n, v: v[n.inputs[0]]),
        ("norm twice", "your layer norm is applied twice", twice, 2),
        ("norm over tokens", "your layer norm runs over the tokens; it should run over the "
         "channels", lambda n, v: _affine(lambda n, v: _norm(n, v, axis=-2), n, v), 2),
    )  # fmt: skip
    yield from mistakes(
        node,
        ("no weight or bias", "your layer norm leaves out weight and bias", lambda h, w, b: h, 2),
        ("no weight", "your layer norm leaves out the weight", lambda h, w, b: h + b),
        ("no bias", "the bias is missing", lambda h, w, b: h * w),
        ("bias twice", "the bias is added twice", lambda h, w, b: h * w + 2 * b),
        ("1 + weight", "your layer norm multiplies by 1 + weight",
         lambda h, w, b: h * (1 + w) + b, 2),
        ("weight and bias swapped", "weight and bias of your layer norm are swapped",
         lambda h, w, b: h * b + w, 2),
        ("bias before weight", "your layer norm adds the bias before it multiplies",
         lambda h, w, b: (h + b) * w, 2),
        call=lambda make, n, v: make(_norm(n, v), *weight_and_bias(n, v)),
    )  # fmt: skip


NORM: Family = {"layer_norm": (of_norm,)}
