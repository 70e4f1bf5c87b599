"""The course of a diagnosis: first which tensors are wrong by themselves, then why, until a time.

So what is wrong is known even where there is no time left for the causes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from refgit.parity.deadline import Deadline, TimeIsUpError
from refgit.parity.diagnosis.local import Local, measure
from refgit.parity.diagnosis.result import WIDE, Finding
from refgit.parity.diagnosis.search import Search
from refgit.parity.numerics.floor import SUSPECT

_LOOK = 1 / 3  # of the time, for measuring alone where that takes long
_FIRST = 0.5  # of the time that is left, for a finding that others follow


class Examination:
    """Measures tensors and has their causes looked for, as far as there is time.

    Parameters
    ----------
    search : Search
    values : mapping of str to array
        The other implementation's tensors and inputs.
    precisions : mapping of str to str
        What each of its tensors is computed in.
    deadline : Deadline

    Attributes
    ----------
    checked : int
        Tensors that were recomputed.
    unchecked, unreached : list of str
        Those that cannot be, and those that there was no time for.
    """

    def __init__(
        self,
        search: Search,
        values: Mapping[str, Any],
        precisions: Mapping[str, str],
        deadline: Deadline,
    ) -> None:
        self.search, self.values, self.precisions = search, values, precisions
        self.graph, self.deadline = search.graph, deadline
        self.checked = 0
        self.unchecked: list[str] = []
        self.unreached: list[str] = []
        self._kept: dict[str, Local] = {}  # the first: measuring logits alone takes long

    def findings(self, names: Sequence[str]) -> list[Finding]:
        """Measure tensors in this order, and look for the causes of what is wrong."""
        found = self.explained(self.doubtful(names, self.deadline.share(_LOOK)))
        if self.unreached and not self.deadline.passed:
            rest, self.unreached = self.unreached, []
            found += self.explained(self.doubtful(rest, self.deadline))
        return self.search.confirmed(found)

    def doubtful(self, names: Sequence[str], until: Deadline) -> dict[str, float]:
        """Return the errors of those that may be wrong.

        Where the whole model lies between the tensors, one takes as long as many trials: then no
        more of them are measured after `until` than one that is wrong.
        """
        self.graph.deadline = self.deadline
        found: dict[str, float] = {}
        long = False
        for i, name in enumerate(names):
            if long and until.passed:
                self.unreached = list(names[i:])
                break
            self.search.show("recomputing your tensors", i, len(names))
            try:
                local = self._measured(name)
            except TimeIsUpError:
                self.unreached = list(names[i:])
                break
            if local is None:
                self.unchecked.append(name)
                continue
            self.checked += 1
            if local.multiples > self.search.margin or self._is_weak(local):
                found[name] = local.multiples
                long = long or len(local.gap) > WIDE
                if len(found) == 1:
                    self._kept[name] = local
        return found

    def explained(self, doubtful: Mapping[str, float]) -> list[Finding]:
        """Look for the causes in the order of execution; a finding each, as far as it is one."""
        findings = []
        names = [name for name in self.graph.nodes if name in doubtful]
        for i, name in enumerate(names):
            last = i == len(names) - 1 and not self.unreached
            self.graph.deadline = self.deadline if last else self.deadline.share(_FIRST)
            finding = self._explained(name, doubtful[name])
            if finding is not None:
                findings.append(finding)
        return findings

    def _explained(self, name: str, multiples: float) -> Finding | None:
        with suppress(TimeIsUpError):
            local = self._kept.pop(name, None) or self._measured(name)
            assert local is not None  # it was measured before
            explain = self.search.explain if multiples > self.search.margin else self.search.weak
            return explain(local)
        if multiples <= self.search.margin:
            return None
        return self.search.skipped(name, multiples)

    def _measured(self, name: str) -> Local | None:
        return measure(self.graph, self.graph.nodes[name], self.values, self.precisions[name])

    def _is_weak(self, local: Local) -> bool:
        return local.node.kind == "layer_norm" and local.multiples > SUSPECT
