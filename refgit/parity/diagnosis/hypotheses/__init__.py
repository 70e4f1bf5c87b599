"""What may be wrong with a tensor: the catalogue of all families of hypotheses, a file each.

A new hypothesis is a row in one of them; a new family is a file and a line here. `base` has the
types and tools, `trials` the order in which all of them are tried.
"""

from __future__ import annotations

from collections.abc import Iterator

from refgit.parity.diagnosis.hypotheses.attention import ATTENTION
from refgit.parity.diagnosis.hypotheses.base import Family, Hypothesis
from refgit.parity.diagnosis.hypotheses.dense import DENSE
from refgit.parity.diagnosis.hypotheses.image import IMAGE
from refgit.parity.diagnosis.hypotheses.masks import MASKS
from refgit.parity.diagnosis.hypotheses.norm import NORM
from refgit.parity.diagnosis.hypotheses.positions import IMAGE_POSITIONS
from refgit.parity.diagnosis.hypotheses.swaps import SWAPS
from refgit.parity.diagnosis.hypotheses.text import TEXT
from refgit.parity.graph.graph import Graph
from refgit.parity.graph.nodes import Node

__all__ = ["FAMILIES", "Family", "Hypothesis", "hypotheses_for"]

# In the order in which they are tried.
FAMILIES: tuple[Family, ...] = (
    NORM, DENSE, ATTENTION, MASKS, IMAGE, IMAGE_POSITIONS, TEXT, SWAPS,
)  # fmt: skip


def hypotheses_for(node: Node, graph: Graph) -> Iterator[Hypothesis]:
    """List what may be wrong at a node, the likely first.

    Parameters
    ----------
    node : Node
    graph : Graph
        That the node belongs to.
    """
    for family in FAMILIES:
        for listed in family.get(node.kind, ()):
            yield from listed(node, graph)
