"""What a diagnosis says: findings with their causes, and the sentences made of them.

A *noise floor* is what rounding by itself does to a tensor: see `local.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from refgit.parity.diagnosis.places import digits, gap_words, in_floors, part, place, tower
from refgit.traces.names import TensorName


@dataclass(frozen=True)
class Cause:
    """A mistake that gives the other implementation's tensor.

    Attributes
    ----------
    text : str
        A sentence about "your" implementation.
    hypothesis : str
        The mistake's short name.
    residual : float
        The error that is left once the mistake is taken into account, in multiples of the noise
        floor; where it is about 1, the mistake explains all of the error.
    node : str
        Where it is made: the name of a tensor.
    rank : int
        How far-fetched it is; of equally good ones the lower comes first.
    everywhere : bool
        Whether it is made at every place of its kind between the given tensors, not at one.
    """

    text: str
    hypothesis: str
    residual: float
    node: str
    rank: int = 1
    everywhere: bool = False


@dataclass
class Finding:
    """A tensor that does not follow from the other implementation's own inputs to it.

    Attributes
    ----------
    name : str
        Of the tensor.
    multiples : float
        Its error in multiples of the noise floor; infinite for another shape or for NaN.
    causes : list of Cause
        Best first; may be empty.
    gap : list of str
        Operations in between that the other implementation does not show.
    note : str
        What else is to be said.
    lead : str
        What is to be said first.
    tried : int
        How many hypotheses were tried.
    untried : dict of str to int
        What there was no time for: the mistakes' short names, the likeliest first, and at how many
        places or groups of places each was still to be tried.
    """

    name: str
    multiples: float
    causes: list[Cause] = field(default_factory=list)
    gap: list[str] = field(default_factory=list)
    note: str = ""
    lead: str = ""
    tried: int = 0
    untried: dict[str, int] = field(default_factory=dict)


@dataclass
class Diagnosis:
    """All that was found, in the order of execution.

    Attributes
    ----------
    findings : list of Finding
    checked : int
        Tensors that were recomputed from the other's own inputs.
    unchecked : list of str
        Tensors of the other implementation that could not be.
    unreached : list of str
        Tensors that there was no time for.
    seconds : float
        How much time there was; infinite where there was no limit.
    """

    findings: list[Finding]
    checked: int = 0
    unchecked: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    seconds: float = math.inf

    @property
    def ok(self) -> bool:
        """Whether every tensor that was recomputed follows from its inputs."""
        return not self.findings

    @property
    def complete(self) -> bool:
        """Whether there was time for all of it."""
        return not self.unreached and not any(finding.untried for finding in self.findings)

    @property
    def located(self) -> str | None:
        """The first tensor that is wrong by itself; None where all follow from their inputs."""
        return self.findings[0].name if self.findings else None

    @property
    def causes(self) -> list[Cause]:
        """The causes of the first finding, best first."""
        return self.findings[0].causes if self.findings else []

    @property
    def sentences(self) -> list[str]:
        """The diagnosis in words, a line a mistake; one mistake in several layers is one line.

        What would let it say more comes first where no cause was found, and last where one was.
        """
        if not self.findings:
            each = f"Each of {self.checked} tensors follows" if self.checked else ""
            said = [f"{each} from your own inputs to it, within the noise of rounding."]
            return [*(said if each else []), *self._unfinished()]
        said = [*map(_sentence, _groups(self.findings)), *self._unfinished()]
        if not any(len(finding.gap) > WIDE for finding in self.findings):
            return said
        known = self.causes or TensorName.parse(self.findings[0].name).is_input
        return [*said, _MORE, _HIDDEN] if known else [_MORE, *said, _HIDDEN]

    def _unfinished(self) -> list[str]:
        """What there was no time for, in a sentence; none where there was time for all."""
        if self.complete:
            return []
        left = []
        untried: Counter[str] = Counter()
        for finding in self.findings:
            untried.update(finding.untried)
        if untried:
            names = ", ".join(list(untried)[:_LISTED])
            more = len(untried) - _LISTED
            others = f" and {more} other mistakes" if more > 0 else ""
            left.append(f"{untried.total():,} trials of hypotheses ({names}{others})")
        if self.unreached:
            tensors = "1 tensor" if len(self.unreached) == 1 else f"{len(self.unreached)} tensors"
            left.append(f"{tensors} from {self.unreached[0]} on")
        time = f"{self.seconds:g} s were up" if math.isfinite(self.seconds) else "the time was up"
        return [f"Not reached when {time}: {'; '.join(left)}. --time gives it longer."]

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as JSON takes it; what is infinite becomes None."""

        def finite(x: float) -> float | None:
            return x if math.isfinite(x) else None

        return {
            "ok": self.ok,
            "located": self.located,
            "checked": self.checked,
            "unchecked": list(self.unchecked),
            "unreached": list(self.unreached),
            "complete": self.complete,
            "seconds": finite(self.seconds),
            "sentences": self.sentences,
            "findings": [
                {
                    "name": finding.name,
                    "place": place(TensorName.parse(finding.name)),
                    "multiples": finite(finding.multiples),
                    "gap": list(finding.gap),
                    "tried": finding.tried,
                    "untried": dict(finding.untried),
                    "note": "; ".join(filter(None, (finding.lead, finding.note))),
                    "causes": [
                        {
                            "text": cause.text,
                            "hypothesis": cause.hypothesis,
                            "residual": finite(cause.residual),
                            "node": cause.node,
                            "everywhere": cause.everywhere,
                        }
                        for cause in finding.causes
                    ],
                }
                for finding in self.findings
            ],
        }


def by_merit(cause: Cause) -> tuple[int, int, float]:
    """Best first: by residual in coarse steps, then the simple before the far-fetched."""
    step = 0 if cause.residual < 3 else 1 + int(math.log2(cause.residual / 3))
    return step, cause.rank, cause.residual


def _groups(findings: list[Finding]) -> list[list[Finding]]:
    """Findings of one part with one cause, over the layers, together."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        cause = finding.causes[0].text if finding.causes else finding.note
        name = TensorName.parse(finding.name)
        outside = "" if name.layer is not None else finding.name
        skipped = "skipped" if finding.untried and not finding.tried else ""
        key = (name.prefix, tower(name), part(name), cause, outside, skipped)
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


_LISTED = 5  # mistakes that a sentence names
WIDE = 20  # operations: more than a layer
_MORE = "The output of each layer in your trace would say more."
_HIDDEN = (
    "More than a layer lies between the tensors that are there: a mistake at one place, and the "
    "same mistake everywhere, were tried; two different mistakes cannot be told apart."
)


def _sentence(group: list[Finding]) -> str:
    """One line: where, what, how well it explains the error."""
    first = group[0]
    names = [TensorName.parse(finding.name) for finding in group]
    if names[0].is_input:
        why = "; ".join(cause.text for cause in first.causes) or first.note
        return f"Your {first.name} already differs: {why or 'give both the same inputs'}."
    where = "; ".join(filter(None, (first.lead, place(*names)))) + gap_words(first.gap)
    error = in_floors(max(f.multiples for f in group))
    off = f"by itself, on your own inputs, it is off by {error}"
    hidden = _effort(first)
    if not first.causes:
        note = f"; {first.note}" if first.note else ""
        if first.untried and not first.tried:
            return f"{where}: {off}; there was no time to look for the cause{note}."
        none = "none of the hypotheses tried so far" if first.untried else "no hypothesis"
        return f"{where}: {off}, and {none} reproduces it{note}.{hidden}"
    cause = first.causes[0]
    residual = digits(max(f.causes[0].residual for f in group))
    others = [c for c in first.causes[1:] if by_merit(c)[:1] == by_merit(cause)[:1] and c.rank < 9]
    also = " or: ".join(c.text for c in others[:2])
    more = f" ({len(others) - 2} other explanations fit as well)" if len(others) > 2 else ""
    also = f" It may also be: {also}{more}." if also else ""
    return f"{where}: {cause.text} ({off}; with this cause {residual} remain).{also}{hidden}"


def _effort(finding: Finding) -> str:
    """How many hypotheses were tried, where they were many or not all."""
    if len(finding.gap) <= WIDE and not finding.untried:
        return ""
    rest = f" of {finding.tried + sum(finding.untried.values())}" if finding.untried else ""
    return f" {finding.tried}{rest} hypotheses were tried."
