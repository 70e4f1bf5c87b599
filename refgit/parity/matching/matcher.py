"""Which tensor of another implementation is which of ours: by a map, by names, by shape and order.

Every match says how it was found. Where names do not decide, values may: a tensor that is nearly
equal to one of ours is that one. Where values differ too, only shapes in their order are left.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from refgit.errors import TraceError
from refgit.parity.matching.families import loose_keys, plain_keys
from refgit.parity.matching.layouts import Layout, best_layout, possible_layouts, unlikeness
from refgit.parity.matching.maps import mapped
from refgit.parity.matching.result import (
    BY_MAP,
    BY_NAME,
    BY_ORDER,
    BY_RULE,
    BY_VALUES,
    Match,
    Matching,
    Misfit,
)
from refgit.traces.container import Trace
from refgit.traces.names import is_input

# How near two tensors must be, relative to their size, to be taken for the same by their values.
_NEAR, _ALIKE = 0.01, 0.3
# Unnamed tensors: this share must be near by value, or this share be paired at all.
_SUPPORT, _COMPLETE = 0.5, 0.9
# With this share of names known the others are not guessed.
_NAMED = 0.5

Likeness = Mapping[tuple[int, int], float]


def match(reference: Trace, other: Trace, names: Mapping[str, str] | None = None) -> Matching:
    """Find the counterparts of our tensors.

    Parameters
    ----------
    reference, other : Trace
    names : mapping of str to str, optional
        Their names to ours; see `maps.read_map`.

    Returns
    -------
    Matching

    Raises
    ------
    TraceError
        No line of the map names a tensor of theirs and one of ours.
    """
    matcher = _Matcher(reference, other)
    if names:
        matcher.by_map(names)
    matcher.by_name()
    matcher.by_rule()
    matcher.by_values()
    return matcher.matching()


class _Matcher:
    """Pairs tensors of two traces, the surest way first; each tensor is paired once."""

    def __init__(self, reference: Trace, other: Trace) -> None:
        self.ours, self.theirs = reference, other
        self.found: dict[str, Match] = {}  # by our name
        self.taken: set[str] = set()  # their names
        self.misfits: dict[str, Misfit] = {}
        self.notes: list[str] = []

    def free(self) -> tuple[list[str], list[str]]:
        """Names of ours and theirs that are not matched yet."""
        ours = [name for name in self.ours if name not in self.found]
        return ours, [name for name in self.theirs if name not in self.taken]

    def pair(self, ours: str, theirs: str, how: str) -> None:
        """Match two tensors if some layout fits; remember their shapes otherwise."""
        a, b = self.theirs[theirs], self.ours[ours]
        best = best_layout(a, b, not is_input(ours))
        if best is None:
            self.misfits.setdefault(ours, Misfit(ours, theirs, how, a.shape, b.shape))
            return
        self.found[ours] = Match(ours, theirs, how, *best)
        self.taken.add(theirs)
        self.misfits.pop(ours, None)

    # ---- names

    def by_map(self, names: Mapping[str, str]) -> None:
        """Match what a map of names says, and note the lines that say nothing."""
        used = 0
        for pattern, target in names.items():
            hits = list(mapped(pattern, target, self.theirs))
            if not hits:
                self.notes.append(f"the map's {pattern!r} fits none of your names.")
            for theirs, ours in hits:
                if ours in self.ours:
                    used += 1
                    if ours not in self.found:
                        self.pair(ours, theirs, BY_MAP)
                    continue
                near = difflib.get_close_matches(ours, list(self.ours), 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                self.notes.append(
                    f"the map sends {theirs!r} to {ours!r}, which the reference does not "
                    f"hold.{hint}"
                )
        if not used:
            raise TraceError(
                "no line of the map names one of your tensors and one of the reference: "
                + " ".join(self.notes[:3])
            )

    def by_name(self) -> None:
        for name in self.free()[0]:
            if name in self.theirs and name not in self.taken:
                self.pair(name, name, BY_NAME)

    def by_rule(self) -> None:
        """Match names that are ours but for prefixes, separators and known synonyms."""
        for keys in (plain_keys, loose_keys):
            ours, theirs = self.free()
            owners: dict[str, list[str]] = {}
            for name in ours:
                for key in dict.fromkeys(keys(name, ours=True)):
                    owners.setdefault(key, []).append(name)
            candidates: dict[str, list[str]] = {}
            for name in theirs:
                hits = (owners.get(key, []) for key in keys(name, ours=False))
                owner = next((hit[0] for hit in hits if len(hit) == 1), None)
                if owner is not None:
                    candidates.setdefault(owner, []).append(name)
            for name, several in candidates.items():
                self.pair(name, self._best_of(name, several), BY_RULE)

    def _best_of(self, ours: str, candidates: Sequence[str]) -> str:
        """Of several with one name, such as a product and its sum with the bias, the likeliest.

        That is the last that fits, unless the values say otherwise.
        """
        errors = {
            name: min(unlikeness(self.theirs[name], self.ours[ours], layout) for layout in fitting)
            for name in candidates
            if (fitting := self._layouts(ours, name))
        }
        if not errors:
            return candidates[-1]
        likely, nearest = list(errors)[-1], min(errors, key=errors.__getitem__)
        return nearest if errors[nearest] < 0.1 * errors[likely] else likely

    def _layouts(self, ours: str, theirs: str) -> tuple[Layout, ...]:
        a, b = self.theirs[theirs], self.ours[ours]
        return possible_layouts(a.shape, b.shape, not is_input(ours))

    # ---- shapes, order and values

    def by_values(self) -> None:
        """Align what is left: the same shapes in the same order, near values first."""
        # an unknown name among known ones is something of their own: a dropout, a copy
        if len(self.taken) >= _NAMED * min(len(self.ours), len(self.theirs)):
            return
        ours, theirs = self.free()
        ours = [name for name in ours if name not in self.misfits]
        likeness = self._likeness(ours, theirs)
        known = self.theirs.order_known
        pairs = _in_order(len(ours), len(theirs), likeness) if known else _greedy(likeness)
        for i, j in self._supported(pairs, likeness):
            near = likeness[i, j] > 1
            if near or (known and not is_input(ours[i])):
                self.pair(ours[i], theirs[j], BY_VALUES if near else BY_ORDER)

    def _likeness(self, ours: Sequence[str], theirs: Sequence[str]) -> dict[tuple[int, int], float]:
        """Score each pair of one shape: 1, and more where the values are near."""
        found = {}
        for j, other in enumerate(theirs):
            for i, name in enumerate(ours):
                a, b = self.theirs[other], self.ours[name]
                # an integer is a token, a few numbers are alike by chance
                if (a.dtype.kind == "f") != (b.dtype.kind == "f") or b.size < 8:
                    continue
                fitting = self._layouts(name, other)
                if not fitting or (fitting[0].part is not None and b.size > 50 * a.size):
                    continue
                error = min(unlikeness(a, b, layout) for layout in fitting)
                near = 100.0 if error < _NEAR else 40.0 if error < _ALIKE else 1.0
                if near > 1.0 or fitting[0].part is None:
                    found[i, j] = near - min(error, 1.0) * 0.5
        return found

    def _supported(self, pairs: list[tuple[int, int]], likeness: Likeness) -> list[tuple[int, int]]:
        """Drop all pairs where most of them have only the shape in common."""
        rows, columns = {i for i, _ in likeness}, {j for _, j in likeness}
        near = sum(likeness[pair] > 1 for pair in pairs)
        if near >= _SUPPORT * min(len(rows), len(columns)):
            return pairs
        if len(pairs) >= _COMPLETE * max(len(rows), len(columns)):
            return pairs
        self.notes.append(
            f"{len(columns)} of your tensors have names that are not known here, and {near} have "
            "values near one of the reference's, too few to tell which is which: give a map of "
            "names (--map)."
        )
        return []

    def matching(self) -> Matching:
        ours, theirs = self.free()
        misfits = {
            name: self.misfits[name]
            for name in ours
            if name in self.misfits and self.misfits[name].theirs in theirs
        }
        known = {misfit.theirs for misfit in misfits.values()}
        return Matching(
            {name: self.found[name] for name in self.ours if name in self.found},
            [name for name in ours if name not in misfits],
            [name for name in theirs if name not in known],
            misfits,
            self.notes,
        )


def _in_order(n: int, m: int, likeness: Likeness) -> list[tuple[int, int]]:
    """Pairs (i, j), both rising, of the greatest likeness in all."""
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    for i in range(n - 1, -1, -1):
        row, below = best[i], best[i + 1]
        for j in range(m - 1, -1, -1):
            here = likeness.get((i, j))
            row[j] = max(below[j], row[j + 1], 0.0 if here is None else here + below[j + 1])
    pairs, i, j = [], 0, 0
    while i < n and j < m:
        here = likeness.get((i, j))
        if here is not None and best[i][j] == here + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _greedy(likeness: Likeness) -> list[tuple[int, int]]:
    """Pairs of the greatest likeness, each tensor once, whatever the order."""
    rows, columns, pairs = set(), set(), []
    for i, j in sorted(likeness, key=lambda pair: (-likeness[pair], pair)):
        if i not in rows and j not in columns and likeness[i, j] > 1:
            rows.add(i)
            columns.add(j)
            pairs.append((i, j))
    return sorted(pairs)
