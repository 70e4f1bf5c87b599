"""What may be wrong with linear maps, activations and residual connections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from refgit.layers._array_api import Array, array_namespace
from refgit.layers.activation import ACTIVATIONS, sigmoid
from refgit.parity.diagnosis.hypotheses.base import (
    Family,
    Hypothesis,
    Make,
    Substitute,
    mistakes,
    on_inputs,
    short,
    twice,
    when,
)
from refgit.parity.graph.graph import Graph, View
from refgit.parity.graph.nodes import Node
from refgit.parity.graph.recipes import RECIPES, linear_map, weight_and_bias
from refgit.parity.numerics.precision import cast

COARSE = {"float16": "float16", "bfloat16": "bfloat16", "tfloat32": "TF32"}
NAMES = {
    "quick_gelu": "quick-gelu, x sigmoid(1.702 x)",
    "gelu": "the exact gelu with erf",
    "gelu_new": "tanh-gelu",
    "relu": "relu",
    "selu": "selu",
    "silu": "silu (swish)",
}


# ---- linear maps


def _on_operands(make: Make, node: Node, view: View) -> Array:
    return make(view[node.inputs[0]], *weight_and_bias(node, view))


def of_linear(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """A bias left out, a weight transposed, an activation too many, fewer bits, a norm in front."""
    outputs, inputs = graph.parameters[f"{node.parameters}.weight"].shape
    config = graph.config.vision_config if node.where.is_image else graph.config
    root = math.sqrt(config.hidden_size // config.num_attention_heads)
    yield from mistakes(
        node,
        ("no bias", "the bias is missing", lambda x, w, b: linear_map(x, w)),
        ("bias twice", "the bias is added twice", lambda x, w, b: linear_map(x, w, 2 * b)),
        ("bias subtracted", "the bias is subtracted", lambda x, w, b: linear_map(x, w, -b), 2),
        ("weight transposed", "the weight is transposed: y = x W + b, not x W^T + b",
         lambda x, w, b: linear_map(x, w.T, b))
        if outputs == inputs else
        ("weight reshaped", "the weight's memory is read as (in, out); it is stored as (out, in)",
         lambda x, w, b: linear_map(x, w.reshape(w.shape[::-1]).T, b), 2),
        *when(
            node.name.endswith((".query", ".q_proj", ".key", ".k_proj")),
            ("scaled here", "it is divided by sqrt(D/H) already here",
             lambda x, w, b: linear_map(x, w, b) / root),
        ),
        ("activation twice", "an activation (gelu) is applied to its output",
         lambda x, w, b: ACTIVATIONS["gelu"](linear_map(x, w, b)), 4),
        ("quick activation twice", "an activation (quick-gelu) is applied to its output",
         lambda x, w, b: ACTIVATIONS["quick_gelu"](linear_map(x, w, b)), 4),
        call=_on_operands,
    )  # fmt: skip
    yield from _of_precision(node)
    given = node.inputs[0]
    for norm in _norms_of(node, graph):

        def normed(n: Node, v: View, norm: Node = norm) -> Array:
            return RECIPES[n.kind](n, Substitute(v, {given: _normed(norm, given, v)}))

        yield Hypothesis(f"input normalised by {short(norm.name)}",
                         f"its input passes {norm.parameters} first (pre-norm and post-norm are "
                         "mixed up)", node.name, normed, 3)  # fmt: skip


def _of_precision(node: Node) -> Iterator[Hypothesis]:
    def product(precision: str, *, weights: bool, inputs: bool) -> Make:
        def make(n: Node, v: View) -> Array:
            def coarse(x: Array) -> Array:  # and in the view's own precision again
                wide = v.precision if v.precision in ("float32", "float64") else "float32"
                return cast(cast(x, precision), wide)

            x, (weight, bias) = v[n.inputs[0]], weight_and_bias(n, v)
            if weights:
                weight = coarse(weight)
                bias = bias if inputs else coarse(bias)
            return linear_map(coarse(x) if inputs else x, weight, bias)

        return make

    for precision, said in COARSE.items():
        yield from mistakes(
            node,
            (f"{precision} weights", f"the weights are rounded to {said}",
             product(precision, weights=True, inputs=False), 2),
            (f"{precision} inputs", f"the input is rounded to {said}",
             product(precision, weights=False, inputs=True), 3),
            (f"{precision} product", f"input and weight are rounded to {said}",
             product(precision, weights=True, inputs=True), 2),
        )  # fmt: skip
    yield from mistakes(
        node,
        ("int8 weights", "the weights are rounded to int8, one scale for each row",
         lambda x, w, b: linear_map(x, _int8(w, 1), b), 3),
        ("int8 weights, one scale", "the weights are rounded to int8, one scale for all of them",
         lambda x, w, b: linear_map(x, _int8(w, None), b), 3),
        call=_on_operands,
    )  # fmt: skip


def _int8(weight: Array, axis: int | None) -> Array:
    xp = array_namespace(weight)
    scale = xp.max(xp.abs(weight), axis=axis, keepdims=True) / 127
    return xp.round(weight / scale) * scale


def of_head(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """The head tied to the word embedding, where the model has a separate one."""
    words = "git.embeddings.word_embeddings.weight"
    if graph.parameters[words] is not graph.parameters["output.weight"]:

        def tied(n: Node, v: View) -> Array:
            return linear_map(v[n.inputs[0]], v.weight(words), v.weight("output.bias"))

        yield Hypothesis("tied head", "your head uses the word embedding's matrix; this model has "
                         "a separate one", node.name, tied)  # fmt: skip


# ---- activations


def of_activation(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Another activation, none, or twice the same."""
    own = node.options["act"]
    said = NAMES.get(own, own) if isinstance(own, str) else "another"
    yield from mistakes(
        node,
        *((f"activation {name}",
           f"your activation is {NAMES.get(name, name)}; it should be {said}", act)
          for name, act in ACTIVATIONS.items() if name != own),
        ("activation missing", "your activation is missing", lambda x: x),
        *((f"activation {name}", f"your activation is {name}; it should be {said}", act, 2)
          for name, act in _OTHERS.items()),
        call=on_inputs,
    )  # fmt: skip
    yield Hypothesis("activation twice", "your activation is applied twice", node.name, twice, 3)


def _elu(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, 0 * x)))


_OTHERS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "tanh": lambda x: array_namespace(x).tanh(x),
    "leaky relu (0.01)": lambda x: array_namespace(x).where(x > 0, x, 0.01 * x),
    "elu": _elu,
    "squared relu": lambda x: ACTIVATIONS["relu"](x) ** 2,
    "x sigmoid(1.7 x)": lambda x: x * sigmoid(1.7 * x),
}


# ---- residuals


def of_residual(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """A part left out, doubled, scaled, or normalised before the sum."""
    yield from mistakes(
        node,
        ("residual missing", "the residual connection is missing", lambda a, b: b),
        ("branch missing", "the sub-layer's output is not added", lambda a, b: a),
        ("residual twice", "the residual is added twice", lambda a, b: 2 * a + b),
        ("branch twice", "the sub-layer's output is added twice", lambda a, b: a + 2 * b),
        ("residual subtracted", "the sub-layer's output is subtracted", lambda a, b: a - b, 2),
        ("residual averaged", "residual and sub-layer are averaged, not added",
         lambda a, b: (a + b) / 2, 2),
        *((f"dropout scale {p:g}", f"the sub-layer's output is scaled by 1/(1 - {p:g}), as dropout "
           "does in training", lambda a, b, p=p: a + b / (1 - p), 2) for p in (0.1, 0.2, 0.5)),
        call=on_inputs,
    )  # fmt: skip
    residual, branch = node.inputs
    for norm in _norms_of(node, graph):
        last = short(norm.name)
        yield from mistakes(
            node,
            (f"residual normalised by {last}",
             f"the residual passes {norm.parameters} before it is added",
             lambda n, v, norm=norm: _normed(norm, residual, v) + v[branch], 3),
            (f"branch normalised by {last}",
             f"the sub-layer's output passes {norm.parameters} before it is added",
             lambda n, v, norm=norm: v[residual] + _normed(norm, branch, v), 3),
        )  # fmt: skip


def _norms_of(node: Node, graph: Graph) -> list[Node]:
    if not node.block:
        return []
    inside = (n for n in graph.nodes.values() if n.block == node.block)
    return [n for n in inside if n.kind == "layer_norm"]


def _normed(norm: Node, name: str, view: View) -> Array:
    return RECIPES[norm.kind](replace(norm, inputs=(name,)), view)


DENSE: Family = {
    "linear": (of_linear,),
    "head": (of_linear, of_head),
    "activation": (of_activation,),
    "residual": (of_residual,),
}
