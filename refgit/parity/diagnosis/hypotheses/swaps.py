"""Weights of another place, or another tensor as input: mistakes of every kind of node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from refgit.layers._array_api import Array
from refgit.parity.diagnosis.hypotheses.base import Family, Hypothesis, Substitute, short
from refgit.parity.graph.graph import Graph, MissingTensorError, View
from refgit.parity.graph.nodes import PROJECTION, VISION, Node
from refgit.parity.graph.recipes import RECIPES
from refgit.traces.names import TensorName


def of_weights(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """The parameters of another place, where they have the same shapes."""
    own = _leaves(node.parameters, graph)
    if node.kind == "scores":
        own = {name: x for name, x in own.items() if name.startswith("distance_embedding")}
    if not own:
        return
    for branch in _branches_like(node.parameters, graph):
        theirs = {name: graph.parameters.get(f"{branch}.{name}") for name in own}
        if any(x is None or x.shape != own[name].shape for name, x in theirs.items()):
            continue
        if all(theirs[name] is own[name] for name in own):
            continue

        def recipe(node: Node, view: View, branch: str = branch) -> Array:
            return RECIPES[node.kind](replace(node, parameters=branch), view)

        near = _distance(node.parameters, branch) <= 1
        yield Hypothesis(
            _swap_name(node.parameters, branch, "weights"),
            f"it uses the weights of {branch}",
            node.name,
            recipe,
            rank=2 if near else 3,
        )
        if near and node.kind in ("linear", "layer_norm"):
            for leaf, rest in (("bias", "weight"), ("weight", "bias")):
                yield _one_leaf(node, branch, leaf, rest)


def _one_leaf(node: Node, branch: str, leaf: str, rest: str) -> Hypothesis:
    def recipe(node: Node, view: View) -> Array:
        exchanged = {f"{node.parameters}.{leaf}": f"{branch}.{leaf}"}
        return RECIPES[node.kind](node, Substitute(view, parameters=exchanged))

    return Hypothesis(
        _swap_name(node.parameters, branch, leaf),
        f"it uses the {leaf} of {branch}, with the right {rest}",
        node.name,
        recipe,
        rank=4,
    )


def _leaves(branch: str, graph: Graph) -> dict[str, Array]:
    start = f"{branch}."
    return {n.removeprefix(start): x for n, x in graph.parameters.items() if n.startswith(start)}


def _branches_like(branch: str, graph: Graph) -> list[str]:
    """Other branches that hold a weight, of the same layer first."""
    tower = branch.split(".")[1] if branch.startswith("git.") else ""
    leaf = "distance_embedding.weight" if branch.endswith(".self") else "weight"
    own = TensorName.parse(branch)
    found = set()
    for name in graph.parameters:
        other = TensorName.parse(name.removesuffix(f".{leaf}"))
        if (
            name.endswith(f".{leaf}")
            and (name.split(".")[1] == tower or not other.layer)
            and (other.layer in (None, own.layer) or other.kind == own.kind)
        ):
            found.add(str(other))
    return sorted(found - {branch}, key=lambda other: (_distance(branch, other), other))


def _distance(one: str, other: str) -> int:
    """How many layers are between two branches; 0 within one, 9 where only one is in a layer."""
    a, b = TensorName.parse(one).layer, TensorName.parse(other).layer
    if a is None or b is None:
        return 0 if a is b else 9
    return abs(a - b)


def _swap_name(one: str, other: str, what: str) -> str:
    """One name for "a uses b's weights" and "b uses a's", whatever the layer."""
    a, b = TensorName.parse(one).layer, TensorName.parse(other).layer
    if a is not None and b is not None and a != b:
        return f"{what} of layer {b - a:+d}"
    ends = sorted(short(name) for name in (one, other))
    return f"{what} swapped: {ends[0]}, {ends[1]}"


def of_inputs(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Another tensor of the neighbourhood in the place of an input."""
    for place, right in enumerate(node.inputs):
        if node.kind == "context" and place != 1:
            continue
        for wrong in _neighbours(node, graph):
            if wrong in node.inputs or wrong == node.name:
                continue

            def recipe(node: Node, view: View, place: int = place, wrong: str = wrong) -> Array:
                inputs = list(node.inputs)
                if view[wrong].shape != view[inputs[place]].shape:
                    raise MissingTensorError(f"{wrong} does not fit.")
                inputs[place] = wrong
                return RECIPES[node.kind](replace(node, inputs=tuple(inputs)), view)

            yield Hypothesis(
                f"reads {short(wrong)} for {short(right)}",
                f"it reads {wrong} where it should read {right}",
                node.name,
                recipe,
                rank=3,
            )


def _neighbours(node: Node, graph: Graph) -> list[str]:
    """Tensors of the same layer and what goes into it; at the ends of a tower, all its layers."""
    prefix = node.where.prefix
    if node.block:
        inside = [n for n in graph.nodes.values() if n.block == node.block]
        names = [n.name for n in inside]
        outside = [x for n in inside for x in n.inputs if x not in names and x in graph.nodes]
        outside = [x for x in outside if x.startswith(prefix)]
        before = [x for name in outside for x in graph.nodes[name].inputs if x in graph.nodes]
        return list(dict.fromkeys([*names, *outside, *before]))
    if node.kind == "head":
        ends = (".output.LayerNorm", ".output.residual", ".attention.output.LayerNorm")
        found = [n for n in graph.nodes if n.startswith(f"{prefix}git.encoder.layer.")]
        return [n for n in found if n.endswith(ends)]
    found = [n for n in graph.nodes if n.startswith((prefix + VISION, prefix + PROJECTION))]
    return [n for n in found if not graph.nodes[n].block or n == graph.nodes[n].block]


SWAPS: Family = {
    **dict.fromkeys(("linear", "head", "layer_norm"), (of_weights, of_inputs)),
    **dict.fromkeys(("activation", "residual", "context"), (of_inputs,)),
    "scores": (of_weights,),
}
