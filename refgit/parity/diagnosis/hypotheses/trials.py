"""Trials: a hypothesis at one place, or the same mistake at several; the likeliest come first.

What people who write the model again get wrong is mostly wrong in every layer, or at a place of
which there is only one, such as the text's positions. So these come before a mistake in a single
layer; and of equally likely ones those near the end, whose trial computes the least again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refgit.parity.diagnosis.hypotheses import Hypothesis, hypotheses_for
from refgit.parity.diagnosis.places import part, place, side, tower
from refgit.parity.graph.graph import Change, Graph

# By experience the commonest mistakes of ports, the commonest first.
COMMON = (
    "activation gelu_new", "activation quick_gelu", "activation gelu", "eps 1e-05", "eps 1e-12",
    "mask causal", "mask missing", "text positions missing", "positions behind the image",
    "text first", "class token without position", "class token missing", "no scale", "no bias",
    "norm missing", "image positions missing", "patches by column", "channels reversed",
    "positions bilinear", "positions bicubic -0.5", "times missing", "weight transposed",
    "reads layer output for layer output",  # behind the layers: the last one is left out
)  # fmt: skip
_FAR_FETCHED = 3  # the rank from which a mistake everywhere is less likely than one in one layer


@dataclass(frozen=True)
class Trial:
    """A hypothesis at one node, or the same at several.

    Attributes
    ----------
    name, text, node, rank
        Those of the `Hypothesis`, of the first where there are several.
    changes : mapping of str to callable
        The recipe in the place of the right one, by node.
    everywhere : bool
        Whether it is of several nodes.
    """

    name: str
    text: str
    node: str
    rank: int
    changes: Mapping[str, Change]
    everywhere: bool = False


def trials_of(names: Sequence[str], graph: Graph) -> Iterator[Trial]:
    """List one mistake at a time, then the same mistake at all places in the gap.

    Parameters
    ----------
    names : sequence of str
        The nodes that may be wrong, that of the tensor itself last.
    graph : Graph
    """
    families: dict[tuple[str, str], list[Hypothesis]] = {}
    for name in names:
        where = graph.nodes[name].where
        one_part = f"{tower(where)}, {part(where)}"
        groups = dict.fromkeys((one_part, tower(where), side(where), "everywhere"))
        inside = "" if name == names[-1] else f"{part(where)}: "
        for h in hypotheses_for(graph.nodes[name], graph):
            yield Trial(h.name, f"{inside}{h.text}", h.node, h.rank, {h.node: h.recipe})
            for group in groups:
                families.setdefault((h.name, group), []).append(h)
    seen = set()
    for (name, group), members in families.items():
        nodes = tuple(h.node for h in members)
        if len(members) > 1 and (name, nodes) not in seen:
            seen.add((name, nodes))
            first = members[0]
            limits = f"{group}, " if group not in ("", "everywhere") else ""
            example = place(graph.nodes[first.node].where)
            text = f"{limits}at {len(members)} places, such as {example}: {first.text}"
            changes = {h.node: h.recipe for h in members}
            yield Trial(name, text, first.node, first.rank, changes, everywhere=True)


def likeliest_first(trials: Sequence[Trial], graph: Graph) -> list[Trial]:
    """Return trials in the order in which to try them."""
    order = {name: i for i, name in enumerate(graph.nodes)}
    homes = {name: (tower(node.where), part(node.where)) for name, node in graph.nodes.items()}

    def kind(trial: Trial) -> tuple[str, str, str]:
        return trial.name, *homes[trial.node]

    alike = Counter(kind(trial) for trial in trials if not trial.everywhere)

    def key(trial: Trial) -> tuple[int, int, int]:
        broad = trial.everywhere or not graph.nodes[trial.node].block or alike[kind(trial)] == 1
        common = COMMON.index(trial.name) if broad and trial.name in COMMON else len(COMMON)
        if common < len(COMMON):
            tier = 0
        elif broad:
            tier = trial.rank if trial.rank < _FAR_FETCHED else trial.rank + _FAR_FETCHED
        else:
            tier = trial.rank + _FAR_FETCHED - 1
        return tier, common, -min(order[name] for name in trial.changes)

    return sorted(trials, key=key)


def counted(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials there are of each mistake, in their order."""
    return dict(Counter(trial.name for trial in trials))
