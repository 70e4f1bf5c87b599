"""What a hypothesis is, and the tools that the families share.

A hypothesis is a name, a sentence and another recipe for a node's tensor: it computes the tensor
from the same inputs as the right recipe does, with one thing changed. The diagnosis compares the
result with what the other implementation has. A hypothesis of the same name at several nodes is
one mistake made everywhere, and is tried so where the tensors in between are missing.

A family is a mapping of kinds of nodes to the functions that list their hypotheses, likely ones
first. Most are tables::

    def of_sums(node, graph):
        return mistakes(
            node,
            ("words missing", "the words are missing", lambda words, positions: positions),
            ("sum doubled", "the sum is doubled", lambda w, p: 2 * (w + p), 2),
            call=on_inputs,
        )

    SUMS = {"sum": (of_sums,)}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from refgit.layers._array_api import Array
from refgit.parity.graph.graph import Change, Graph, View
from refgit.parity.graph.nodes import Node
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


Lister: TypeAlias = Callable[[Node, Graph], Iterator[Hypothesis]]
Family: TypeAlias = Mapping[str, tuple[Lister, ...]]
Make: TypeAlias = Callable[..., Any]
# (name, text, make) or (name, text, make, rank)
Mistake: TypeAlias = tuple[str, str, Make] | tuple[str, str, Make, int]


def on_inputs(make: Make, node: Node, view: View) -> Array:
    """Call `make` with the node's inputs."""
    return make(*(view[name] for name in node.inputs))


def mistakes(
    node: Node,
    *rows: Mistake,
    call: Callable[[Make, Node, View], Array] = lambda make, node, view: make(node, view),
) -> Iterator[Hypothesis]:
    """Hypotheses at a node from a table.

    Parameters
    ----------
    node : Node
    *rows : tuple
        Name, text, what makes the tensor, and the rank where it is not 1.
    call : callable
        ``call(make, node, view)`` hands a row's third entry what it takes: by default node and
        view.
    """
    for name, text, make, *rank in rows:

        def recipe(n: Node, v: View, make: Make = make) -> Array:
            return call(make, n, v)

        yield Hypothesis(name, text, node.name, recipe, *rank)


def when(condition: bool, *rows: Mistake) -> tuple[Mistake, ...]:
    """Rows of a table that are there on a condition."""
    return rows if condition else ()


# ---- views with something exchanged


class Substitute:
    """A view in which some tensors or parameters are others.

    Parameters
    ----------
    view : View
    tensors : mapping of str to array
    parameters : mapping of str to str
        Names of parameters, and whose values they have.
    """

    def __init__(
        self,
        view: View,
        tensors: Mapping[str, Array] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self._view, self._tensors, self._parameters = view, tensors or {}, parameters or {}

    def __getitem__(self, name: str) -> Array:
        return self._tensors[name] if name in self._tensors else self._view[name]

    def get(self, name: str) -> Array | None:
        """Return a tensor if it is given."""
        return self._tensors[name] if name in self._tensors else self._view.get(name)

    def weight(self, name: str) -> Array:
        """Return a parameter."""
        return self._view.weight(self._parameters.get(name, name))


def twice(node: Node, view: View) -> Array:
    """The right recipe applied to its own result."""
    once = RECIPES[node.kind](node, view)
    return RECIPES[node.kind](node, Substitute(view, {node.inputs[0]: once}))


def short(name: str) -> str:
    """The last part of a name, two or three where one says little; the same in every layer."""
    parts = name.split(".")
    if parts[-1].isdigit():
        return "layer output" if parts[-2] in ("layers", "layer") else ".".join(parts[-2:])
    if parts[-1] not in ("LayerNorm", "dense", "residual"):
        return parts[-1]
    # of a decoder's layer: attention.output.dense and output.dense
    return ".".join(parts[-3:] if parts[-3:-2] == ["attention"] else parts[-2:])
