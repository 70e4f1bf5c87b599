"""What may be wrong with linear maps, activations and residual connections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from refgit.layers._array_api import Array, array_namespace
from refgit.layers.activation import ACTIVATIONS, sigmoid
from refgit.layers.linear import linear
from refgit.parity.diagnosis.hypotheses.base import Hypothesis, Substitute, short, weight_and_bias
from refgit.parity.diagnosis.hypotheses.norm import of_norm
from refgit.parity.graph.graph import Graph, View
from refgit.parity.graph.nodes import Node
from refgit.parity.graph.recipes import RECIPES
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


def of_dense(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong at a node of these kinds; nothing for others."""
    kinds = {
        "layer_norm": of_norm,
        "linear": _of_linear,
        "head": _of_head,
        "activation": _of_activation,
        "residual": _of_residual,
    }
    if node.kind in kinds:
        yield from kinds[node.kind](node, graph)


# ---- linear maps


def _of_linear(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    shape = graph.parameters[f"{node.parameters}.weight"].shape

    def at(
        name: str, text: str, make: Callable[[Array, Array, Array], Array], rank: int = 1
    ) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            return make(v[n.inputs[0]], *weight_and_bias(n, v))

        return Hypothesis(name, text, node.name, recipe, rank)

    yield at("no bias", "the bias is missing", lambda x, w, b: linear(x, w))
    yield at("bias twice", "the bias is added twice", lambda x, w, b: linear(x, w, 2 * b))
    yield at("bias subtracted", "the bias is subtracted", lambda x, w, b: linear(x, w, -b), 2)
    if shape[0] == shape[1]:
        yield at("weight transposed", "the weight is transposed: y = x W + b, not x W^T + b",
                 lambda x, w, b: linear(x, w.T, b))  # fmt: skip
    else:
        yield at(
            "weight reshaped",
            "the weight's memory is read as (in, out); it is stored as (out, in)",
            lambda x, w, b: linear(x, w.reshape(w.shape[::-1]).T, b),
            2,
        )
    width = graph.config.hidden_size // graph.config.num_attention_heads
    if node.name.endswith((".query", ".q_proj", ".key", ".k_proj")):
        if "vision_model" in node.name:
            vision = graph.config.vision_config
            width = vision.hidden_size // vision.num_attention_heads
        root = math.sqrt(width)
        yield at("scaled here", "it is divided by sqrt(D/H) already here",
                 lambda x, w, b: linear(x, w, b) / root)  # fmt: skip
    yield at("activation twice", "an activation (gelu) is applied to its output",
             lambda x, w, b: ACTIVATIONS["gelu"](linear(x, w, b)), 4)  # fmt: skip
    yield at("quick activation twice", "an activation (quick-gelu) is applied to its output",
             lambda x, w, b: ACTIVATIONS["quick_gelu"](linear(x, w, b)), 4)  # fmt: skip
    yield from _of_precision(node)
    for norm in _norms_of(node, graph):

        def normed(n: Node, v: View, norm: Node = norm) -> Array:
            x = RECIPES[norm.kind](replace(norm, inputs=n.inputs), v)
            return RECIPES[n.kind](n, Substitute(v, {n.inputs[0]: x}))

        yield Hypothesis(f"input normalised by {short(norm.name)}",
                         f"its input passes {norm.parameters} first (pre-norm and post-norm are "
                         "mixed up)", node.name, normed, 3)  # fmt: skip


def _of_precision(node: Node) -> Iterator[Hypothesis]:
    """Weights or inputs with fewer bits than they should have."""
    for precision, said in COARSE.items():

        def weights(n: Node, v: View, p: str = precision) -> Array:
            weight, bias = _coarse(v, p, *weight_and_bias(n, v))
            return linear(v[n.inputs[0]], weight, bias)

        def inputs(n: Node, v: View, p: str = precision) -> Array:
            weight, bias = weight_and_bias(n, v)
            (x,) = _coarse(v, p, v[n.inputs[0]])
            return linear(x, weight, bias)

        def both(n: Node, v: View, p: str = precision) -> Array:
            weight, bias = weight_and_bias(n, v)
            x, weight = _coarse(v, p, v[n.inputs[0]], weight)
            return linear(x, weight, bias)

        yield Hypothesis(f"{precision} weights", f"the weights are rounded to {said}",
                         node.name, weights, 2)  # fmt: skip
        yield Hypothesis(f"{precision} inputs", f"the input is rounded to {said}",
                         node.name, inputs, 3)  # fmt: skip
        yield Hypothesis(f"{precision} product", f"input and weight are rounded to {said}",
                         node.name, both, 2)  # fmt: skip
    yield Hypothesis("int8 weights", "the weights are rounded to int8, one scale for each row",
                     node.name, _int8, 3)  # fmt: skip
    yield Hypothesis("int8 weights, one scale", "the weights are rounded to int8, one scale for "
                     "all of them", node.name, lambda n, v: _int8(n, v, None), 3)  # fmt: skip


def _coarse(view: View, precision: str, *arrays: Array) -> list[Array]:
    """Arrays rounded to a coarse precision, in the view's own again."""
    return [cast(cast(x, precision), _wide(view)) for x in arrays]


def _wide(view: View) -> str:
    return view.precision if view.precision in ("float32", "float64") else "float32"


def _int8(node: Node, view: View, axis: int | None = 1) -> Array:
    weight, bias = weight_and_bias(node, view)
    xp = array_namespace(weight)
    scale = xp.max(xp.abs(weight), axis=axis, keepdims=True) / 127
    return linear(view[node.inputs[0]], xp.round(weight / scale) * scale, bias)


def _of_head(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    yield from _of_linear(node, graph)
    words = "git.embeddings.word_embeddings.weight"
    if graph.parameters[words] is not graph.parameters["output.weight"]:

        def tied(n: Node, v: View) -> Array:
            return linear(v[n.inputs[0]], v.weight(words), v.weight("output.bias"))

        yield Hypothesis("tied head", "your head uses the word embedding's matrix; this model has "
                         "one of its own", node.name, tied)  # fmt: skip


# ---- activations


def _of_activation(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    own = node.options["act"]
    said = NAMES.get(own, "another") if isinstance(own, str) else "another"

    def at(name: str, text: str, act: Callable[[Array], Array], rank: int = 1) -> Hypothesis:
        return Hypothesis(name, text, node.name, lambda n, v: act(v[n.inputs[0]]), rank)

    for name, act in ACTIVATIONS.items():
        if name != own:
            yield at(f"activation {name}", f"your activation is {NAMES[name]}; it should be {said}",
                     act)  # fmt: skip
    yield at("activation missing", "your activation is missing", lambda x: x)
    for name, act in _OTHERS.items():
        yield at(f"activation {name}", f"your activation is {name}; it should be {said}", act, 2)

    def again(n: Node, v: View) -> Array:
        return RECIPES[n.kind](n, Substitute(v, {n.inputs[0]: RECIPES[n.kind](n, v)}))

    yield Hypothesis("activation twice", "your activation is applied twice", node.name, again, 3)


def _leaky(x: Array) -> Array:
    return array_namespace(x).where(x > 0, x, 0.01 * x)


def _elu(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, 0 * x)))


_OTHERS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "tanh": lambda x: array_namespace(x).tanh(x),
    "leaky relu (0.01)": _leaky,
    "elu": _elu,
    "squared relu": lambda x: ACTIVATIONS["relu"](x) ** 2,
    "x sigmoid(1.7 x)": lambda x: x * sigmoid(1.7 * x),
}


# ---- residuals


def _of_residual(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    def at(
        name: str, text: str, make: Callable[[Array, Array], Array], rank: int = 1
    ) -> Hypothesis:
        def recipe(n: Node, v: View) -> Array:
            return make(v[n.inputs[0]], v[n.inputs[1]])

        return Hypothesis(name, text, node.name, recipe, rank)

    yield at("residual missing", "the residual connection is missing", lambda a, b: b)
    yield at("branch missing", "the sub-layer's output is not added", lambda a, b: a)
    yield at("residual twice", "the residual is added twice", lambda a, b: 2 * a + b)
    yield at("branch twice", "the sub-layer's output is added twice", lambda a, b: a + 2 * b)
    yield at("residual subtracted", "the sub-layer's output is subtracted", lambda a, b: a - b, 2)
    yield at("residual averaged", "residual and sub-layer are averaged, not added",
             lambda a, b: (a + b) / 2, 2)  # fmt: skip
    for p in (0.1, 0.2, 0.5):
        yield at(
            f"dropout scale {p:g}",
            f"the sub-layer's output is scaled by 1/(1 - {p:g}), as dropout does in training",
            lambda a, b, p=p: a + b / (1 - p),  # type: ignore[misc]
            2,
        )
    for norm in _norms_of(node, graph):

        def normed(n: Node, v: View, norm: Node = norm) -> Array:
            x = RECIPES[norm.kind](replace(norm, inputs=(n.inputs[0],)), v)
            return x + v[n.inputs[1]]

        def branch(n: Node, v: View, norm: Node = norm) -> Array:
            x = RECIPES[norm.kind](replace(norm, inputs=(n.inputs[1],)), v)
            return v[n.inputs[0]] + x

        yield Hypothesis(f"residual normalised by {short(norm.name)}",
                         f"the residual passes {norm.parameters} before it is added",
                         node.name, normed, 3)  # fmt: skip
        yield Hypothesis(f"branch normalised by {short(norm.name)}",
                         f"the sub-layer's output passes {norm.parameters} before it is added",
                         node.name, branch, 3)  # fmt: skip


def _norms_of(node: Node, graph: Graph) -> list[Node]:
    """The layer norms of the node's layer; none outside the layers."""
    if not node.block:
        return []
    inside = (n for n in graph.nodes.values() if n.block == node.block)
    return [n for n in inside if n.kind == "layer_norm"]
