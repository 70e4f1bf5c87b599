"""What may be wrong with a tensor: each hypothesis is a name, a sentence and another recipe.

`hypotheses_for(node, graph)` lists what is worth trying at a node. A hypothesis computes the
node's tensor from the same inputs as the right recipe does, with one thing changed; the diagnosis
compares the result with what the other implementation has. The lists by kind:

    hypotheses_norm.py        layer norms
    hypotheses_dense.py       linear maps, activations, residuals
    hypotheses_attention.py   scores and context
    hypotheses_masks.py       probabilities: who sees whom, padding, softmax
    hypotheses_image.py       patches, class token, frames
    hypotheses_positions.py   positions of an image that is not of the learned size
    hypotheses_text.py        words, positions, the joint sequence

A hypothesis of the same name at several nodes is one mistake made everywhere, and is tried so
where the tensors in between are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from refgit.layers._array_api import Array
from refgit.parity.graph.graph import Change, Graph, MissingTensorError, View
from refgit.parity.graph.nodes import PROJECTION, VISION, Node
from refgit.parity.graph.recipes import RECIPES


@dataclass(frozen=True)
class Hypothesis:
    """One thing that may be wrong at one node.

    Attributes
    ----------
    name : str
        The mistake, by a short name; the same at every node where it can be made.
    text : str
        The mistake in plain words, about "your" implementation.
    node : str
        Where.
    recipe : callable
        ``recipe(node, view)``: the tensor, had the mistake been made.
    rank : int
        How far-fetched it is: of two that fit equally well, the lower comes first.
    """

    name: str
    text: str
    node: str
    recipe: Change
    rank: int = 1


def hypotheses_for(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong at a node, the likely first."""
    from refgit.parity.diagnosis.hypotheses.attention import of_attention
    from refgit.parity.diagnosis.hypotheses.dense import of_dense
    from refgit.parity.diagnosis.hypotheses.image import of_image
    from refgit.parity.diagnosis.hypotheses.masks import of_masks
    from refgit.parity.diagnosis.hypotheses.text import of_text

    yield from of_dense(node, graph)
    yield from of_attention(node, graph)
    yield from of_masks(node, graph)
    yield from of_image(node, graph)
    yield from of_text(node, graph)
    yield from other_weights(node, graph)
    yield from other_inputs(node, graph)


# ---- hypotheses of every kind: other weights, other inputs


def other_weights(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """The parameters of another place, where they have the same shapes."""
    if not node.parameters or node.kind not in ("linear", "head", "layer_norm", "scores"):
        return
    leaves = leaves_of(node.parameters, graph)
    if node.kind == "scores":
        leaves = {name: x for name, x in leaves.items() if name.startswith("distance_embedding")}
    if not leaves:
        return
    shape = {name: graph.parameters[f"{node.parameters}.{name}"].shape for name in leaves}
    for branch in branches_like(node.parameters, graph):
        theirs = {name: graph.parameters.get(f"{branch}.{name}") for name in leaves}
        if any(x is None or x.shape != shape[name] for name, x in theirs.items()):
            continue
        if all(theirs[name] is graph.parameters[f"{node.parameters}.{name}"] for name in leaves):
            continue

        def recipe(node: Node, view: View, branch: str = branch) -> Array:
            return RECIPES[node.kind](replace(node, parameters=branch), view)

        near = distance(node.parameters, branch)
        yield Hypothesis(
            swap_name(node.parameters, branch),
            f"it uses the weights of {branch}",
            node.name,
            recipe,
            rank=2 if near <= 1 else 3,
        )
        if node.kind in ("linear", "layer_norm") and near <= 1:
            yield from _half_of(node, branch)


def _half_of(node: Node, branch: str) -> Iterator[Hypothesis]:
    """The weight of one place with the bias of another."""
    for leaf, rest in (("bias", "weight"), ("weight", "bias")):

        def recipe(node: Node, view: View, leaf: str = leaf, branch: str = branch) -> Array:
            return RECIPES[node.kind](node, Borrowing(view, node.parameters, leaf, branch))

        yield Hypothesis(
            swap_name(node.parameters, branch, leaf),
            f"it uses the {leaf} of {branch}, with the right {rest}",
            node.name,
            recipe,
            rank=4,
        )


class Borrowing:
    """A view in which one parameter comes from another branch."""

    def __init__(self, view: View, branch: str, leaf: str, other: str) -> None:
        self._view, self._ours, self._theirs = view, f"{branch}.{leaf}", f"{other}.{leaf}"

    def __getitem__(self, name: str) -> Array:
        return self._view[name]

    def get(self, name: str) -> Array | None:
        """Return a tensor if it is given."""
        return self._view.get(name)

    def weight(self, name: str) -> Array:
        """Return a parameter."""
        return self._view.weight(self._theirs if name == self._ours else name)


class Substitute:
    """A view in which one tensor is another."""

    def __init__(self, view: View, values: dict[str, Array]) -> None:
        self._view, self._values = view, values

    def __getitem__(self, name: str) -> Array:
        return self._values[name] if name in self._values else self._view[name]

    def get(self, name: str) -> Array | None:
        """Return a tensor if it is given."""
        return self._values[name] if name in self._values else self._view.get(name)

    def weight(self, name: str) -> Array:
        """Return a parameter."""
        return self._view.weight(name)


def weight_and_bias(node: Node, view: View) -> tuple[Array, Array]:
    """The two parameters of a linear map or a layer norm."""
    return view.weight(f"{node.parameters}.weight"), view.weight(f"{node.parameters}.bias")


def leaves_of(branch: str, graph: Graph) -> dict[str, Array]:
    """The parameters below a branch, by the rest of their names."""
    start = f"{branch}."
    return {n.removeprefix(start): x for n, x in graph.parameters.items() if n.startswith(start)}


def branches_like(branch: str, graph: Graph) -> list[str]:
    """Other branches that hold a weight: those of the same layer, then of the others."""
    tower = branch.split(".")[1] if branch.startswith("git.") else ""
    leaf = "distance_embedding.weight" if branch.endswith(".self") else "weight"
    found = {
        name.removesuffix(f".{leaf}")
        for name in graph.parameters
        if name.endswith(f".{leaf}")
        and (name.split(".")[1] == tower or not layer_number(name))
        and (layer_number(name) in (None, layer_number(branch)) or same_role(name, branch, leaf))
    }
    return sorted(found - {branch}, key=lambda other: (distance(branch, other), other))


def same_role(name: str, branch: str, leaf: str) -> bool:
    """Whether a parameter is of the same kind as a branch, in another layer."""
    plain = [part for part in name.removesuffix(f".{leaf}").split(".") if not part.isdigit()]
    return plain == [part for part in branch.split(".") if not part.isdigit()]


def layer_number(name: str) -> int | None:
    """The number in a name such as ``....layer.3.output``; None outside the layers."""
    parts = name.split(".")
    for key in ("layer", "layers"):
        if key in parts[:-1] and parts[parts.index(key) + 1].isdigit():
            return int(parts[parts.index(key) + 1])
    return None


def distance(one: str, other: str) -> int:
    """How many layers lie between two branches; 0 within a layer, 9 where there is no saying."""
    a, b = layer_number(one), layer_number(other)
    if a is None or b is None:
        return 0 if a is b else 9
    return abs(a - b)


def swap_name(one: str, other: str, what: str = "weights") -> str:
    """One name for "a uses b's weights" and "b uses a's", whatever the layer."""
    a, b = layer_number(one), layer_number(other)
    if a is not None and b is not None and a != b:
        return f"{what} of layer {b - a:+d}"
    ends = sorted(short(name) for name in (one, other))
    return f"{what} swapped: {ends[0]}, {ends[1]}"


def other_inputs(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """Another tensor of the neighbourhood in the place of an input."""
    if node.kind not in ("layer_norm", "linear", "head", "activation", "residual", "context"):
        return
    for place, right in enumerate(node.inputs):
        if node.kind == "context" and place != 1:
            continue
        for wrong in neighbours(node, graph):
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


def neighbours(node: Node, graph: Graph) -> list[str]:
    """Tensors of the same layer and what goes into it; at the ends of a tower, all its layers."""
    prefix = node.name[: node.name.index("git.")] if "git." in node.name else ""
    prefix = node.name.removesuffix("output") if node.kind == "head" else prefix
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


def short(name: str) -> str:
    """The last part of a name, two or three where one says little; the same in every layer."""
    parts = name.split(".")
    if parts[-1].isdigit():
        return "layer output" if parts[-2] in ("layers", "layer") else ".".join(parts[-2:])
    if parts[-1] not in ("LayerNorm", "dense", "residual"):
        return parts[-1]
    # of a decoder's layer: attention.output.dense and output.dense
    return ".".join(parts[-3:] if parts[-3:-2] == ["attention"] else parts[-2:])
