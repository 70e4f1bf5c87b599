"""GIT as a list of tensors, each of which can be recomputed from its inputs.

`Graph(model.parameters, model.config, inputs)` lists every tensor that a trace names, in the
order of execution, for the first call and for each step of decoding. A node knows its inputs by
name, so that it can be recomputed from *any implementation's* values of them: that is how the
diagnosis tells a wrong operation from a right one with wrong inputs.

    graph = Graph(model.parameters, model.config, reference.inputs)
    graph.compute("git.encoder.layer.0.intermediate.dense", other_implementations_tensors)

Two tensors have no hook and are always computed: the frames of a video with their times, and the
joint sequence of image and text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.model.config import GitConfig
from refgit.model.parameters import flatten
from refgit.parity.deadline import Deadline
from refgit.parity.graph.nodes import Node, all_nodes
from refgit.parity.graph.recipes import RECIPES
from refgit.parity.numerics.precision import cast

Change = Callable[[Node, "View"], Array]


class MissingTensorError(LookupError):
    """A tensor is neither given nor computable from what is given."""


class View:
    """Tensors and parameters in one precision: what nodes are computed from.

    What is given is taken as it is; what is not is computed from *its* inputs, and so on up.

    Parameters
    ----------
    graph : Graph
    values : mapping of str to array
        The tensors that are there.
    precision : str
        "float64", "float32", "float16", or "bfloat16" (float32, every tensor rounded).
    changes : mapping of str to callable, optional
        Recipes that replace the right ones of single nodes: a hypothesis.
    base : View, optional
        A view of the same values in the same precision, whose results are taken over where the
        changes do not reach.
    """

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, Array],
        precision: str = "float64",
        changes: Mapping[str, Change] | None = None,
        base: View | None = None,
    ) -> None:
        self.graph, self.values, self.precision = graph, values, precision
        self.changes = changes or {}
        self._under_way: set[str] = set()
        self._done: dict[str, Array] = {}
        if base is not None:
            reached = graph.below(self.changes)
            self._done = {
                name: x for name, x in base._done.items() if name in values or name not in reached
            }

    def __getitem__(self, name: str) -> Array:
        if name not in self._done:
            if name in self.values:
                self._done[name] = cast(self.values[name], self.precision)
            else:
                self._done[name] = self.recompute(name)
        return self._done[name]

    def get(self, name: str) -> Array | None:
        """Return a tensor if it is given, else None; nothing is computed."""
        return self[name] if name in self.values else None

    def weight(self, name: str) -> Array:
        """Return a parameter by its checkpoint name, in the view's precision."""
        if name not in self.graph.parameters:
            raise MissingTensorError(f"the model has no parameter {name}.")
        return cast(self.graph.parameters[name], self.precision)

    def recompute(self, name: str) -> Array:
        """Compute a node from its inputs, whether or not it is given.

        Raises
        ------
        MissingTensorError
            It is not a node, or needs something that is neither given nor a node.
        TimeIsUpError
            The graph's deadline has passed.
        """
        if name not in self.graph.nodes or name in self._under_way:
            raise MissingTensorError(
                f"{name} is not given and cannot be computed; expected it, or what it is made from."
            )
        self.graph.deadline.check()
        node = self.graph.nodes[name]
        recipe = self.changes.get(name) or RECIPES[node.kind]
        quiet = nullcontext() if self._under_way else np.errstate(all="ignore")
        self._under_way.add(name)
        try:
            with quiet:
                return cast(recipe(node, self), self.precision)
        finally:
            self._under_way.discard(name)

    @property
    def computed(self) -> set[str]:
        """Names of the nodes that were computed on the way, not given."""
        return {name for name in self._done if name not in self.values}


class Graph:
    """Every tensor of a forward pass and of the steps on top of it, as nodes.

    Parameters
    ----------
    parameters : mapping
        The model's, nested or by dotted name.
    config : GitConfig
    inputs : mapping of str to array
        At least the shapes matter: ``input.pixel_values``, ``input.input_ids`` and, for steps,
        ``step.N.input.input_ids``. ``call.N.`` in front begins another call by itself.

    Attributes
    ----------
    nodes : dict of str to Node
        In the order of execution: image encoder, projection, text embedding, decoder, head.
    deadline : Deadline
        After which no node is recomputed; without end at first.
    """

    def __init__(
        self, parameters: Mapping[str, Any], config: GitConfig, inputs: Mapping[str, Any]
    ) -> None:
        self.parameters = dict(flatten(parameters))
        self.config = config
        self.deadline = Deadline()
        shapes = {name: np.shape(x) for name, x in inputs.items()}
        self.nodes: dict[str, Node] = {node.name: node for node in all_nodes(config, shapes)}
        self._readers: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node.name)

    def compute(
        self,
        name: str,
        values: Mapping[str, Array],
        changes: Mapping[str, Change] | None = None,
        *,
        precision: str = "float64",
    ) -> Array:
        """Recompute a tensor from given ones.

        Parameters
        ----------
        name : str
            Of a node.
        values : mapping of str to array
            From any source; what is missing is computed from its own inputs.
        changes : mapping of str to callable, optional
            Other recipes for single nodes; ``recipe(node, view)`` returns the tensor.
        precision : str
            What it is computed in.

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        MissingTensorError
            Something is neither given nor computable.
        """
        return View(self, values, precision, changes).recompute(name)

    def below(self, names: Mapping[str, Any]) -> set[str]:
        """The nodes `names` and all that depend on them."""
        reached: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += self._readers.get(name, [])
        return reached
