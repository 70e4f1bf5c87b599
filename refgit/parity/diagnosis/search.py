"""The search for causes: every hypothesis about an operation, and about all in a gap at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

from refgit.parity.deadline import TimeIsUpError
from refgit.parity.diagnosis.hypotheses.trials import Trial, counted, likeliest_first, trials_of
from refgit.parity.diagnosis.local import SLACK, Local, comparable, error_in_floors, pair
from refgit.parity.diagnosis.places import part, place, tower
from refgit.parity.diagnosis.result import Cause, Finding, by_merit
from refgit.parity.diagnosis.signatures import signatures, size_note, whereabouts
from refgit.parity.graph.graph import Change, Graph, MissingTensorError, View
from refgit.parity.numerics.floor import SUSPECT, operation_floor

Progress: TypeAlias = Callable[[str, int, int | None], None]
EXPLAINED = 0.5  # of the error a cause may leave, by the floor of the right operation
FEW_TOKENS = 4  # with fewer, another eps may fit by chance


class Search:
    """Tries hypotheses at what does not follow from its inputs."""

    def __init__(
        self, graph: Graph, margin: float, most: int, show: Progress = lambda *said: None
    ) -> None:
        self.graph, self.margin, self.most, self.show = graph, margin, most, show
        self.doubtful: set[str] = set()  # tensors whose finding needs others beside it
        self.known: dict[str, list[str]] = {}  # by part of the model: mistakes found before

    def explain(self, local: Local) -> Finding:
        """Find the causes of one tensor's error, as far as there is time."""
        name, kind = local.node.name, part(local.node.where) + tower(local.node.where)
        finding = self._finding(local)
        finding.note = whereabouts(local, self.margin)
        if local.exact is None:
            finding.note = self._shape_note(local)
        with suppress(TimeIsUpError):
            finding.causes += signatures(local, self.margin)
        trials = list(trials_of([*finding.gap, name], self.graph))
        seen_before = self.known.get(kind, [])
        quick = [t for t in trials if t.name in seen_before] if len(seen_before) > 2 else []
        found = self._try(finding, local, quick)
        if not found:
            trials = likeliest_first(trials, self.graph)
            found = self._try(finding, local, trials[: self.most])
            left_out = len(trials) - self.most
            if left_out > 0 and not finding.untried:
                said = f"{left_out} of {len(trials)} hypotheses were left out as far-fetched"
                finding.note = _and(finding.note, said)
        finding.causes = sorted([*found, *finding.causes], key=by_merit)
        if finding.causes:
            self.known.setdefault(kind, []).append(finding.causes[0].hypothesis)
        else:
            with suppress(TimeIsUpError):
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
        trials = [t for t in trials_of([name], self.graph) if t.name.startswith("eps ")]
        finding.causes = sorted(self._causes(local, trials), key=by_merit)
        if finding.causes and local.found.size < FEW_TOKENS * local.found.shape[-1]:
            self.doubtful.add(name)
        return finding if finding.causes else None

    def skipped(self, name: str, multiples: float) -> Finding:
        """Return the finding of a tensor whose causes there is no time to look for."""
        return Finding(name, multiples, untried=counted([*trials_of([name], self.graph)]))

    def _finding(self, local: Local) -> Finding:
        gap = [other for other in self.graph.nodes if other in local.gap]
        return Finding(local.node.name, local.multiples, gap=gap)

    def confirmed(self, findings: list[Finding]) -> list[Finding]:
        """Leave out a weak sign of another eps in one token, unless several norms show the same."""
        eps = Counter(f.causes[0].hypothesis for f in findings if f.causes)
        return [
            f for f in findings if f.name not in self.doubtful or eps[f.causes[0].hypothesis] > 2
        ]

    def _try(self, finding: Finding, local: Local, trials: Sequence[Trial]) -> list[Cause]:
        """Try hypotheses in their order until the time is up; note how many, and the rest."""
        causes: list[Cause] = []
        finding.tried, finding.untried = len(trials), {}
        what = f"trying hypotheses at {place(local.node.where)}"
        for i, trial in enumerate(trials):
            self.show(what, i, len(trials))
            try:
                causes += self._causes(local, [trial])
            except TimeIsUpError:
                finding.tried, finding.untried = i, counted(trials[i:])
                break
        return causes

    def _causes(self, local: Local, trials: Iterable[Trial]) -> list[Cause]:
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
        exact = _tried(local.view, local.node.name)
        expected = "another" if exact is None else f"{exact.shape}"
        return f"its shape is {local.found.shape}; expected {expected}"


def _tried(view: View, name: str) -> Any:
    try:
        return view.recompute(name)
    except (MissingTensorError, ValueError, IndexError):
        return None


def _and(one: str, other: str) -> str:
    return "; ".join(said for said in (one, other) if said)
