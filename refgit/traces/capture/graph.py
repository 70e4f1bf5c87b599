"""Which value of an ONNX graph is which of refgit's tensors.

torch's exporters leave the path of the module in every node: the older one in the node's name
(``/git/encoder/layer.0/attention/self/query/Add``), the newer in its metadata. What leaves a
module's nodes is the module's output, what enters them its input; `capture_names` does the rest.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from refgit.traces.capture.names import Names

# ONNX's numbers for float, float16, double and bfloat16; 0 where nothing is known
_FLOATS = {0, 1, 10, 11, 16}
_NO_VALUES = {"Constant", "ConstantOfShape", "Shape", "Size", "Range"}
_PRODUCTS = {"MatMul", "Gemm", "Einsum", "FusedMatMul"}
_POSITIONS = ".position_embeddings"
_SCOPES = "pkg.torch.onnx.name_scopes"


class Graph:
    """The nodes of a graph with the modules they belong to.

    Parameters
    ----------
    onnx : module
    proto : onnx.ModelProto
    """

    def __init__(self, onnx: Any, proto: Any) -> None:
        self.onnx, self.proto = onnx, proto
        self.nodes = list(proto.graph.node)
        self.results = {output.name for output in proto.graph.output}
        self.scopes = _as_one([_scope(node) for node in self.nodes])
        self.maker = {v: i for i, node in enumerate(self.nodes) for v in node.output if v}
        paths = {path for scope in self.scopes for path in _ancestors(scope)}
        # the older exporter leaves out modules that are never called themselves
        self.modules = Names(paths, whole=True)

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """The nodes that read each value."""
        found: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for value in node.input:
                found.setdefault(value, []).append(i)
        return found

    @cached_property
    def varying(self) -> set[str]:
        """Values that depend on the graph's inputs; the others are weights, possibly cut."""
        stored = {x.name for x in self.proto.graph.initializer}
        found = {x.name for x in self.proto.graph.input} - stored
        for node in self.nodes:
            inner = [a for a in node.attribute if a.HasField("g")]  # If, Loop: may read anything
            if inner or any(value in found for value in node.input):
                found |= {value for value in node.output if value}
        return found

    @cached_property
    def types(self) -> dict[str, int]:
        """The element types, as far as ONNX can tell."""
        try:
            known = self.onnx.shape_inference.infer_shapes(self.proto).graph
        except Exception:  # a graph with operators of its own; onnx has several kinds of error
            known = self.proto.graph
        values = (*known.value_info, *known.output, *known.input)
        return {v.name: v.type.tensor_type.elem_type for v in values}

    def is_float(self, value: str) -> bool:
        """Whether a value is of floating point, or of a type that nobody knows."""
        return self.types.get(value, 0) in _FLOATS

    @cached_property
    def floats(self) -> list[str]:
        """Values worth keeping, first computed first: floating point, and not weights."""
        kept: list[tuple[float, str]] = [
            (i, value)
            for value, i in self.maker.items()
            if self.is_computed(value) and (value in self.varying or value in self.names)
        ]
        # the embedding of fixed positions may lie in the file as it is
        kept += [
            (self.readers[value][0] - 0.5, value) for value in self.names if value not in self.maker
        ]
        return [value for _, value in sorted(kept)]

    def is_computed(self, value: str) -> bool:
        """Whether a node makes floating-point numbers of others."""
        i = self.maker.get(value)
        return i is not None and self.is_float(value) and self.nodes[i].op_type not in _NO_VALUES

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """What refgit calls the values, as far as it knows them."""
        found: dict[str, list[str]] = {}

        def call(value: str, name: str | None) -> None:
            if name is not None and name not in found.setdefault(value, []):
                found[value].append(name)

        if not self.modules.is_git:
            return {}
        for value, i in self.maker.items():
            for path in self._left(value, self.scopes[i]) if self.is_computed(value) else ():
                if value in self.varying or path.endswith(_POSITIONS):
                    call(value, self._at_output(path))
        for node, scope in zip(self.nodes, self.scopes, strict=True):
            for value in node.input:
                if value in self.varying and self.is_float(value):
                    for path in self._entered(value, scope):
                        call(value, self.modules.at_input(path))
            attention = self.modules.attention(scope)
            if node.op_type == "Softmax" and attention is not None:
                call(self._unmasked(node.input[0], scope), f"{attention}.scores")
                call(self._weights(node.output[0]), f"{attention}.probabilities")
        self._name_fixed_positions(found)
        return {value: names for value, names in found.items() if names}

    def _name_fixed_positions(self, found: dict[str, list[str]]) -> None:
        """Name what is added to token embeddings where an exporter has looked up the positions."""
        for value, names in list(found.items()):
            sums = [n.removesuffix(".sum") + _POSITIONS for n in names if n.endswith(".sum")]
            if sums and value in self.maker and not any(sums[0] in x for x in found.values()):
                fixed = [x for x in self.nodes[self.maker[value]].input if x not in self.varying]
                if len(fixed) == 1:
                    found[fixed[0]] = sums

    def _at_output(self, path: str) -> str | None:
        """A module's name, unless it is one that refgit does not know."""
        name = self.modules.at_output(path)
        return None if name is None or name.endswith(".output") else name

    def _left(self, value: str, scope: str) -> Iterator[str]:
        """Modules that a value made inside is read outside of."""
        readers = self.readers.get(value, [])
        for path in _ancestors(scope):
            if value in self.results or any(not _inside(self.scopes[i], path) for i in readers):
                yield path

    def _entered(self, value: str, scope: str) -> Iterator[str]:
        """Modules that a value made outside is read inside of."""
        maker = self.maker.get(value)
        for path in _ancestors(scope):
            if maker is None or not _inside(self.scopes[maker], path):
                yield path

    def _unmasked(self, value: str, scope: str) -> str:
        """Step back over the mask that is added before a softmax."""
        node = self.nodes[self.maker[value]] if value in self.maker else None
        if node is None or node.op_type not in ("Add", "Where") or value not in self.varying:
            return value
        products = [x for x in node.input if self._from_product(x, scope)]
        return products[0] if len(products) == 1 else value

    def _from_product(self, value: str, scope: str) -> bool:
        """Whether a value comes from the attention's own product of queries and keys."""
        waiting, seen = [value], {value}
        while waiting:
            i = self.maker.get(waiting.pop(), -1)
            if i < 0 or self.scopes[i] != scope:
                continue
            if self.nodes[i].op_type in _PRODUCTS:
                return True
            waiting += [x for x in self.nodes[i].input if x not in seen]
            seen.update(self.nodes[i].input)
        return False

    def _weights(self, value: str) -> str:
        """Step on from a softmax to what is multiplied with the values."""
        last = value
        while True:
            readers = self.readers.get(last, [])
            if any(self.nodes[i].op_type in _PRODUCTS for i in readers):
                return last
            if len(readers) != 1 or self.nodes[readers[0]].op_type not in (
                "Cast", "Mul", "Identity", "Dropout",
            ):  # fmt: skip
                return value
            last = self.nodes[readers[0]].output[0]


def _scope(node: Any) -> str:
    """Return the path of the module that a node was exported from, "" where nothing says so."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
                return str(scopes[-2]) if len(scopes) > 1 else ""
            except (ValueError, SyntaxError, TypeError):
                break
    named = node.name or next(iter(node.output), "")
    if not named.startswith("/"):
        return ""
    path: list[str] = []
    for part in named.split("/")[1:-1]:
        # a Sequential's children repeat its own name: visual_projection/visual_projection.0
        again = path and part.startswith(path[-1] + ".")
        path.append(part.rpartition(".")[2] if again else part)
    return ".".join(path)


def _as_one(scopes: list[str]) -> list[str]:
    """Undo the numbers that the older exporter gives a module called again: layers.1_2."""
    modules = {path for scope in scopes for path in _ancestors(scope)}

    def first(scope: str) -> str:
        plain = scope.rstrip("0123456789").removesuffix("_")
        return plain if plain != scope and scope[len(plain)] == "_" and plain in modules else scope

    return [first(scope) for scope in scopes]


def _ancestors(scope: str) -> Iterator[str]:
    """The modules that a scope lies in, the innermost first."""
    while scope:
        yield scope
        scope = scope.rpartition(".")[0]


def _inside(scope: str, path: str) -> bool:
    return scope == path or scope.startswith(path + ".")
