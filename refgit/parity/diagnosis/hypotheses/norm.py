"""What may be wrong with a layer norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refgit.layers._array_api import Array, array_namespace
from refgit.parity.diagnosis.hypotheses.base import Hypothesis, Substitute, weight_and_bias
from refgit.parity.graph.graph import Change, Graph, View
from refgit.parity.graph.nodes import Node
from refgit.parity.graph.recipes import RECIPES

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
    h = x - xp.mean(x, axis=axis, keepdims=True)
    n = x.shape[axis]
    variance = xp.sum((h if centre else x) ** 2, axis=axis, keepdims=True) / max(n - ddof, 1)
    h = h if centre else x
    return h / (xp.sqrt(variance) + eps) if outside else h / xp.sqrt(variance + eps)


def _with_eps(eps: float, outside: bool = False) -> Change:
    """A layer norm with another eps."""
    return lambda n, v: _affine(_norm(n, v, eps=eps, outside=outside), n, v)


def _affine(h: Array, node: Node, view: View) -> Array:
    weight, bias = weight_and_bias(node, view)
    return h * weight + bias


def of_norm(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong with a layer norm."""
    own = node.options["eps"]

    def at(name: str, text: str, recipe: Change, rank: int = 1) -> Hypothesis:
        return Hypothesis(name, text, node.name, recipe, rank)

    for eps in EPS:
        if eps != own:
            yield at(
                f"eps {eps:g}",
                f"your layer norm adds eps = {eps:g} to the variance; it should be {own:g}",
                _with_eps(eps),
                2 if eps in (1e-7, 1e-4, 1e-3) else 1,
            )
    for eps in dict.fromkeys((own, *EPS)):
        yield at(
            f"eps {eps:g} outside the root",
            f"your layer norm adds eps ({eps:g}) to the standard deviation, outside the root",
            _with_eps(eps, outside=True),
            1 if eps == own else 3,
        )
    yield at(
        "unbiased variance",
        "your layer norm divides the variance by D - 1 (unbiased); it should divide by D",
        lambda n, v: _affine(_norm(n, v, ddof=1), n, v),
    )
    yield at(
        "no mean",
        "your layer norm does not subtract the mean (it is an RMS norm)",
        lambda n, v: _affine(_norm(n, v, centre=False), n, v),
    )
    yield at(
        "norm missing",
        "your layer norm is missing: the output is its input",
        lambda n, v: v[n.inputs[0]],
    )
    yield at(
        "norm twice",
        "your layer norm is applied twice",
        lambda n, v: RECIPES[n.kind](n, Substitute(v, {n.inputs[0]: RECIPES[n.kind](n, v)})),
        2,
    )
    yield at(
        "norm over tokens",
        "your layer norm runs over the tokens; it should run over the channels",
        lambda n, v: _affine(_norm(n, v, axis=-2), n, v),
        2,
    )
    yield from _of_norm_parameters(at)


def _of_norm_parameters(at: Callable[..., Hypothesis]) -> Iterator[Hypothesis]:
    def with_parameters(make: Callable[[Array, Array, Array], Array]) -> Change:
        return lambda n, v: make(_norm(n, v), *weight_and_bias(n, v))

    yield at(
        "no weight or bias",
        "your layer norm leaves out weight and bias",
        with_parameters(lambda h, w, b: h),
        2,
    )
    yield at("no weight", "your layer norm leaves out the weight",
             with_parameters(lambda h, w, b: h + b))  # fmt: skip
    yield at("no bias", "the bias is missing", with_parameters(lambda h, w, b: h * w))
    yield at(
        "bias twice", "the bias is added twice", with_parameters(lambda h, w, b: h * w + 2 * b)
    )
    yield at("1 + weight", "your layer norm multiplies by 1 + weight",
             with_parameters(lambda h, w, b: h * (1 + w) + b), 2)  # fmt: skip
    yield at("weight and bias swapped", "weight and bias of your layer norm are swapped",
             with_parameters(lambda h, w, b: h * b + w), 2)  # fmt: skip
    yield at("bias before weight", "your layer norm adds the bias before it multiplies",
             with_parameters(lambda h, w, b: (h + b) * w), 2)  # fmt: skip
