"""The search for causes: every hypothesis about an operation, and about all in a gap at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.parity.diagnosis.hypotheses import Hypothesis, hypotheses_for
from refgit.parity.diagnosis.local import SLACK, Local, comparable, error_in_floors, pair
from refgit.parity.diagnosis.places import part, place, side, tower
from refgit.parity.diagnosis.result import Cause, Finding, by_merit
from refgit.parity.diagnosis.signatures import signatures, size_note, whereabouts
from refgit.parity.graph.graph import Change, Graph, MissingTensorError, View
from refgit.parity.numerics.floor import SUSPECT, operation_floor

LEAST_TRIALS = 12
OVERHEAD = 1e6  # multiplications in whose time a node can be called at all
EXPLAINED = 0.5  # of the error a cause may leave, by the floor of the right operation
FEW_TOKENS = 4  # with fewer, another eps may fit by chance


class Search:
    """Tries hypotheses at what does not follow from its inputs."""

    def __init__(self, graph: Graph, margin: float, effort: float) -> None:
        self.graph, self.margin, self.effort = graph, margin, effort
        self.doubtful: set[str] = set()  # tensors whose finding needs others beside it
        self.known: dict[str, list[str]] = {}  # by part of the model: mistakes found before

    def explain(self, local: Local) -> Finding:
        """Find the causes of one tensor's error."""
        name, kind = local.node.name, part(local.node.where) + tower(local.node.where)
        finding = self._finding(local)
        finding.note = whereabouts(local, self.margin)
        if local.exact is None:
            finding.note = self._shape_note(local)
        trials = list(_trials([*finding.gap, name], self.graph))
        seen_before = self.known.get(kind, [])
        quick = [t for t in trials if t.name in seen_before] if len(seen_before) > 2 else []
        finding.causes, finding.tried = self._causes(local, quick), len(quick)
        if not finding.causes:
            left_out = self._affordable(trials, local)
            finding.tried = len(trials) - left_out
            finding.causes = self._causes(local, trials[: finding.tried])
            if left_out:
                said = f"{left_out} of {len(trials)} hypotheses were left out as too costly"
                finding.note = _and(finding.note, said)
        finding.causes += signatures(local, self.margin)
        finding.causes.sort(key=by_merit)
        if finding.causes:
            self.known.setdefault(kind, []).append(finding.causes[0].hypothesis)
        else:
            finding.note = _and(finding.note, size_note(local))
        return finding

    def weak(self, local: Local) -> Finding | None:
        """Find another eps whose effect is not far above the noise.

        Right layer norms stay below `SUSPECT` floors; where one is above, and one eps leaves at
        most half of its error, that eps is the cause. In a token or two chance does as much; see
        `confirmed`.
        """
        if local.node.kind != "layer_norm" or local.multiples <= SUSPECT:
            return None
        if local.precision not in ("float32", "float64") or local.floor is None:
            return None
        name, finding = local.node.name, self._finding(local)
        trials = [t for t in _trials([name], self.graph) if t.name.startswith("eps ")]
        finding.causes = sorted(self._causes(local, trials), key=by_merit)
        if finding.causes and local.found.size < FEW_TOKENS * local.found.shape[-1]:
            self.doubtful.add(name)
        return finding if finding.causes else None

    def _finding(self, local: Local) -> Finding:
        gap = [other for other in self.graph.nodes if other in local.gap]
        return Finding(local.node.name, local.multiples, gap=gap)

    def confirmed(self, findings: list[Finding]) -> list[Finding]:
        """Leave out a weak sign of another eps in one token, unless several norms show the same."""
        eps = Counter(f.causes[0].hypothesis for f in findings if f.causes)
        return [
            f for f in findings if f.name not in self.doubtful or eps[f.causes[0].hypothesis] > 2
        ]

    def _affordable(self, trials: list[_Trial], local: Local) -> int:
        """Put the likely first; return how many of the last ones cost too much."""
        trials.sort(key=lambda trial: (not trial.everywhere, trial.rank))
        inside = {*local.gap, local.node.name}
        branches = {self.graph.nodes[name].parameters for name in inside} - {""}
        sizes = (
            self.graph.parameters[f"{branch}.weight"].size
            for branch in branches
            if f"{branch}.weight" in self.graph.parameters
        )
        tokens = max(1, local.found.size // local.found.shape[-1])
        each = float(sum(sizes)) * tokens + OVERHEAD * len(inside)
        return max(0, len(trials) - max(LEAST_TRIALS, int(self.effort / each)))

    def _causes(self, local: Local, trials: Iterable[_Trial]) -> list[Cause]:
        causes = []
        for t in trials:
            residual = self._residual(local, t.changes)
            if residual is not None and residual <= self.margin:
                causes.append(Cause(t.text, t.name, residual, t.node, t.rank, t.everywhere))
        return causes

    def _residual(self, local: Local, changes: Mapping[str, Change]) -> float | None:
        """What is left of the error under a hypothesis; None where it cannot be or is far off."""
        values = local.view.values
        coarse = View(self.graph, values, local.coarse.precision, changes, base=local.coarse)
        rough = self._fitting(coarse, local)
        if rough is None:
            return None
        floor, right = local.floor, local.exact
        if floor is not None and right is not None and rough[0].shape == right.shape:
            # what makes it no better needs no second look, which costs the most
            least = error_in_floors(*comparable(local.node, local.view, *rough), floor)
            if least > max(local.multiples, 4 * self.margin):
                return None
        view = View(self.graph, values, "float64", changes, base=local.view)
        exact = self._fitting(view, local)
        if exact is None:
            return None
        expected, found = comparable(local.node, local.view, *exact)
        if right is not None and np.array_equal(expected, right):
            return None  # what changes nothing explains nothing
        # its own floor may be so high that it hides the error; the right one it cannot raise
        most = EXPLAINED * local.multiples
        if floor is not None and error_in_floors(expected, found, floor) > most:
            return None
        own = operation_floor(rough[0], exact[0], local.precision)
        slack = SLACK.get(local.node.kind, 1.0)
        return error_in_floors(expected, found, own.times(slack))

    def _fitting(self, view: View, local: Local) -> tuple[Any, Any] | None:
        """The tensor under a hypothesis beside the other's, in float64; None for another shape."""
        made = _tried(view, local.node.name)
        return None if made is None else pair(local.node, made.astype(np.float64), local.found)

    def _shape_note(self, local: Local) -> str:
        exact = _tried(View(self.graph, local.view.values), local.node.name)
        expected = "another" if exact is None else f"{exact.shape}"
        return f"its shape is {local.found.shape}; expected {expected}"


@dataclass(frozen=True)
class _Trial:
    """A hypothesis at one node, or the same at several."""

    name: str
    text: str
    node: str
    rank: int
    changes: Mapping[str, Change]
    everywhere: bool = False


def _trials(names: list[str], graph: Graph) -> Iterator[_Trial]:
    """One mistake at a time, then the same mistake at all places in the gap."""
    families: dict[tuple[str, str], list[Hypothesis]] = {}
    for name in names:
        where = graph.nodes[name].where
        one_part = f"{tower(where)}, {part(where)}"
        groups = dict.fromkeys((one_part, tower(where), side(where), "everywhere"))
        inside = "" if name == names[-1] else f"{part(where)}: "
        for h in hypotheses_for(graph.nodes[name], graph):
            yield _Trial(h.name, f"{inside}{h.text}", h.node, h.rank, {h.node: h.recipe})
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
            yield _Trial(name, text, first.node, first.rank, changes, everywhere=True)


def _tried(view: View, name: str) -> Any:
    try:
        return view.recompute(name)
    except (MissingTensorError, ValueError, IndexError):
        return None


def _and(one: str, other: str) -> str:
    return "; ".join(said for said in (one, other) if said)
