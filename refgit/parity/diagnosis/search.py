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
FEW_ROWS = 4  # tokens: with fewer, another eps may fit by chance


class Search:
    """Tries hypotheses at what does not follow from its inputs."""

    def __init__(self, graph: Graph, margin: float, effort: float) -> None:
        self.graph, self.margin, self.effort = graph, margin, effort
        self.doubtful: set[str] = set()  # tensors whose finding needs others beside it
        self.known: dict[str, list[str]] = {}  # by part of the model: mistakes found before

    def explain(self, local: Local) -> Finding:
        """Find the causes of one tensor's error."""
        name = local.node.name
        gap = [other for other in self.graph.nodes if other in local.gap]
        finding = Finding(name, local.multiples, gap=gap, note=whereabouts(local, self.margin))
        if local.exact is None:
            finding.note = self._shape_note(local)
        trials = list(_trials([*gap, name], self.graph))
        seen_before = self.known.get(part(name) + tower(name), [])
        quick = [t for t in trials if t.name in seen_before] if len(seen_before) > 2 else []
        finding.causes, finding.tried = self._causes(local, quick), len(quick)
        if not finding.causes:
            left_out = self._affordable(trials, local)
            finding.tried = len(trials) - left_out
            finding.causes = self._causes(local, trials[: finding.tried])
            if left_out:
                said = f"{left_out} of {len(trials)} hypotheses were left out as too costly"
                finding.note = _and(finding.note, said)
        for sign in signatures(local, self.graph, self.margin):
            cause = Cause(sign.text, sign.name, sign.residual, name, sign.rank)
            finding.causes.append(cause)
        finding.causes.sort(key=by_merit)
        if not finding.causes:
            finding.note = _and(finding.note, size_note(local))
        if finding.causes:
            self.known.setdefault(part(name) + tower(name), []).append(finding.causes[0].hypothesis)
        return finding

    def faint(self, local: Local) -> Finding | None:
        """Find another eps whose effect is not far above the noise.

        Right layer norms stay below `SUSPECT` floors; where one is above, and one eps leaves at
        most half of its error, that eps is what it is. In a token or two chance does as much; see
        `sure`.
        """
        if local.node.kind != "layer_norm" or local.multiples <= SUSPECT:
            return None
        if local.precision not in ("float32", "float64") or local.floor is None:
            return None
        name = local.node.name
        trials = [t for t in _trials([name], self.graph) if t.name.startswith("eps ")]
        causes = self._causes(local, trials)
        causes.sort(key=by_merit)
        gap = [other for other in self.graph.nodes if other in local.gap]
        if causes and local.found.size < FEW_ROWS * local.found.shape[-1]:
            self.doubtful.add(name)
        return Finding(name, local.multiples, causes, gap) if causes else None

    def sure(self, findings: list[Finding]) -> list[Finding]:
        """Leave out another eps seen faintly in one token, unless several norms show the same."""
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
        for trial in trials:
            residual = self._residual(local, trial.changes)
            if residual is not None and residual <= self.margin:
                causes.append(
                    Cause(
                        trial.text, trial.name, residual, trial.node, trial.rank, trial.everywhere
                    )
                )
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
        for h in hypotheses_for(graph.nodes[name], graph):
            inside = "" if name == names[-1] else f"{part(name)}: "
            yield _Trial(h.name, f"{inside}{h.text}", h.node, h.rank, {h.node: h.recipe})
            one_part = f"{tower(name)}, {part(name)}"
            for group in dict.fromkeys((one_part, tower(name), side(name), "everywhere")):
                families.setdefault((h.name, group), []).append(h)
    seen = set()
    for (name, group), members in families.items():
        places = tuple(h.node for h in members)
        if len(members) > 1 and (name, places) not in seen:
            seen.add((name, places))
            first = members[0]
            where = f"{group}, " if group not in ("", "everywhere") else ""
            text = f"{where}at {len(members)} places, such as {place(first.node)}: {first.text}"
            changes = {h.node: h.recipe for h in members}
            yield _Trial(name, text, first.node, first.rank, changes, everywhere=True)


def _tried(view: View, name: str) -> Any:
    """A tensor under a hypothesis, or None where the hypothesis does not apply."""
    try:
        return view.recompute(name)
    except (MissingTensorError, ValueError, IndexError):
        return None


def _and(one: str, other: str) -> str:
    return "; ".join(said for said in (one, other) if said)
