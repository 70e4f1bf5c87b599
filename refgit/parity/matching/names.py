"""Which tensor of another implementation is which of ours: by a map, by names, by shape and order.

Every match says how it was found. What names cannot tell, values may: a tensor that is nearly
equal to one of ours is that one. Where values differ too, shapes in their order are all there is.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from refgit.parity.matching.families import loose_keys, plain_keys
from refgit.parity.matching.layouts import Layout, best_layout, layouts, unlikeness
from refgit.traces.container import Tensor, Trace, TraceError, is_input, split_call

# How near two tensors must be, relative to their size, to be taken for the same by their values.
_NEAR, _ALIKE = 0.01, 0.3
# Unnamed tensors: so many must be near by value, or as good as all must have their places.
_SUPPORT, _COMPLETE = 0.5, 0.9
# With so many names known there is no guessing about the others.
_NAMED = 0.5

BY_MAP, BY_NAME, BY_RULE, BY_VALUES, BY_ORDER = (
    "the map",
    "same name",
    "a naming pattern",
    "shape, order and values",
    "shape and order alone",
)


@dataclass(frozen=True)
class Match:
    """One of their tensors, and which of ours it is.

    Attributes
    ----------
    ours, theirs : str
        Names.
    how : str
        How it was found.
    layout : Layout
        How it lies.
    certain : bool
        False where several layouts were possible and the values favour none.
    """

    ours: str
    theirs: str
    how: str
    layout: Layout
    certain: bool = True


@dataclass(frozen=True)
class Misfit:
    """One of their tensors that is ours by its name, and by its shape is not.

    Attributes
    ----------
    ours, theirs : str
        Names.
    how : str
        How it was found.
    shape, expected : tuple of int
        Of theirs and of ours.
    """

    ours: str
    theirs: str
    how: str
    shape: tuple[int, ...]
    expected: tuple[int, ...]

    @property
    def sentence(self) -> str:
        """What does not fit."""
        return (
            f"{self.ours}: yours ({self.theirs}) has shape {self.shape}, the reference "
            f"{self.expected}, and no known layout makes one of the other."
        )


@dataclass
class Matching:
    """What was matched to what.

    Attributes
    ----------
    matches : dict of str to Match
        By our name, in our order.
    missing : list of str
        Ours that have no counterpart.
    extra : list of str
        Theirs that have none.
    misfits : dict of str to Misfit
        By our name, where names agree and shapes do not.
    notes : list of str
        Sentences about the map, and about tensors that need one.
    """

    matches: dict[str, Match] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misfits: dict[str, Misfit] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def match(reference: Trace, other: Trace, names: Mapping[str, str] | None = None) -> Matching:
    """Find the counterparts of our tensors.

    Parameters
    ----------
    reference, other : Trace
    names : mapping of str to str, optional
        Their names to ours; see `read_map`.

    Returns
    -------
    Matching
    """
    matcher = _Matcher(reference, other)
    if names:
        matcher.by_map(names)
    matcher.by_name()
    matcher.by_rule()
    matcher.by_values()
    return matcher.matching()


class _Matcher:
    def __init__(self, reference: Trace, other: Trace) -> None:
        self.ours, self.theirs = reference, other
        self.found: dict[str, Match] = {}
        self.taken: set[str] = set()
        self.misfits: dict[str, Misfit] = {}
        self.notes: list[str] = []

    def free(self) -> tuple[list[str], list[str]]:
        """Names of ours and theirs that are not matched yet."""
        ours = [name for name in self.ours if name not in self.found]
        return ours, [name for name in self.theirs if name not in self.taken]

    def join(self, ours: str, theirs: str, how: str) -> bool:
        """Match two tensors if some layout fits, and say why not otherwise."""
        a, b = self.theirs[theirs], self.ours[ours]
        best = best_layout(a, b, not is_input(ours))
        if best is None:
            self.misfits.setdefault(ours, Misfit(ours, theirs, how, a.shape, b.shape))
            return False
        layout, certain = best
        self.found[ours] = Match(ours, theirs, how, layout, certain)
        self.taken.add(theirs)
        self.misfits.pop(ours, None)
        return True

    # ---- names

    def by_map(self, names: Mapping[str, str]) -> None:
        used = 0
        for pattern, target in names.items():
            hits = list(_expand(pattern, target, self.theirs))
            if not hits:
                self.notes.append(f"the map's {pattern!r} fits none of your names.")
            for theirs, ours in hits:
                if ours not in self.ours:
                    near = difflib.get_close_matches(ours, list(self.ours), 1)
                    hint = f" Did you mean {near[0]!r}?" if near else ""
                    self.notes.append(
                        f"the map sends {theirs!r} to {ours!r}, which the reference does not "
                        f"hold.{hint}"
                    )
                    continue
                used += 1
                if ours not in self.found:
                    self.join(ours, theirs, BY_MAP)
        if not used:
            raise TraceError(
                "no line of the map names one of your tensors and one of the reference: "
                + " ".join(self.notes[:3])
            )

    def by_name(self) -> None:
        for name in self.free()[0]:
            if name in self.theirs and name not in self.taken:
                self.join(name, name, BY_NAME)

    def by_rule(self) -> None:
        """Match names that are ours but for prefixes, separators and known synonyms."""
        for keys in (plain_keys, loose_keys):
            ours, theirs = self.free()
            homes = _index((key, name) for name in ours for key in keys(name, ours=True))
            wanted: dict[str, list[str]] = {}
            for name in theirs:
                homes_of = (homes[key] for key in keys(name, ours=False) if key in homes)
                home = next((h[0] for h in homes_of if len(h) == 1), None)
                if home is not None:
                    wanted.setdefault(home, []).append(name)
            for name, candidates in wanted.items():
                self.join(name, self._best_of(name, candidates), BY_RULE)

    def _best_of(self, ours: str, candidates: Sequence[str]) -> str:
        """Of several with one name, such as a product and its sum with the bias, the likeliest.

        That is the last that fits, unless the values say otherwise.
        """
        fitting = [name for name in candidates if self._layouts(ours, name)]
        if not fitting:
            return candidates[-1]
        likely = fitting[-1]
        errors = {name: self._unlikeness(ours, name) for name in fitting}
        nearest = min(fitting, key=lambda name: errors[name])
        return nearest if errors[nearest] < 0.1 * errors[likely] else likely

    def _unlikeness(self, ours: str, theirs: str) -> float:
        a, b = self.theirs[theirs], self.ours[ours]
        return min(unlikeness(a, b, layout) for layout in self._layouts(ours, theirs))

    def _layouts(self, ours: str, theirs: str) -> tuple[Layout, ...]:
        return layouts(self.theirs[theirs].shape, self.ours[ours].shape, not is_input(ours))

    # ---- shapes, order and values

    def by_values(self) -> None:
        """Align what is left: the same shapes in the same order, near values first."""
        # a name that nobody knows among known ones is their own affair: a dropout, a copy
        if len(self.taken) >= _NAMED * min(len(self.ours), len(self.theirs)):
            return
        ours, theirs = self.free()
        ours = [name for name in ours if name not in self.misfits]
        likeness = self._likeness(ours, theirs)
        if self.theirs.order_known:
            pairs = _aligned(len(ours), len(theirs), likeness)
        else:
            pairs = _paired(likeness)
        pairs = self._supported(pairs, likeness)
        for i, j in pairs:
            near = likeness[i, j] > 1
            if near or (self.theirs.order_known and not is_input(ours[i])):
                self.join(ours[i], theirs[j], BY_VALUES if near else BY_ORDER)

    def _supported(
        self, pairs: list[tuple[int, int]], likeness: Mapping[tuple[int, int], float]
    ) -> list[tuple[int, int]]:
        """Drop all where nothing but the shape speaks for most."""
        rows, columns = {i for i, _ in likeness}, {j for _, j in likeness}
        near = sum(likeness[pair] > 1 for pair in pairs)
        enough = near >= _SUPPORT * min(len(rows), len(columns))
        if enough or len(pairs) >= _COMPLETE * max(len(rows), len(columns)):
            return pairs
        self.notes.append(
            f"{len(columns)} of your tensors have names that are not known here, and {near} have "
            "values near one of the reference's, too few to tell which is which: give a map of "
            "names (--map)."
        )
        return []

    def _likeness(self, ours: Sequence[str], theirs: Sequence[str]) -> dict[tuple[int, int], float]:
        """How much speaks for each pair: 1 for the shape, more for the values."""
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
                if near == 1.0 and fitting[0].part is not None:
                    continue
                found[i, j] = near - min(error, 1.0) * 0.5
        return found

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


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, name in pairs:
        if name not in found.setdefault(key, []):
            found[key].append(name)
    return found


def _aligned(n: int, m: int, likeness: Mapping[tuple[int, int], float]) -> list[tuple[int, int]]:
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


def _paired(likeness: Mapping[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Pairs of the greatest likeness, each tensor once, whatever the order."""
    rows, columns, pairs = set(), set(), []
    for i, j in sorted(likeness, key=lambda pair: (-likeness[pair], pair)):
        if i not in rows and j not in columns and likeness[i, j] > 1:
            rows.add(i)
            columns.add(j)
            pairs.append((i, j))
    return sorted(pairs)


# ---- the map


def read_map(path: str | Path) -> dict[str, str]:
    """Read a map of names: a TOML file with ``"their.name" = "our.name"`` a line.

    A ``*`` or ``{i}`` on the left stands for a part of a name, and on the right for the same.

    Raises
    ------
    TraceError
        The file is missing, no TOML, or holds something else than names.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TraceError(
            f'{path} is no TOML file of lines such as "their.name" = "our.name": {error}.'
        ) from error
    found = dict(_flat(content, "", path))
    if not found:
        raise TraceError(f'{path} is empty; expected lines such as "their.name" = "our.name".')
    return found


def _flat(table: Mapping[str, object], prefix: str, path: Path) -> Iterator[tuple[str, str]]:
    """Names without quotes make tables inside tables; a table called names holds names."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            inside = "" if not prefix and key == "names" else f"{prefix}{key}."
            yield from _flat(value, inside, path)
        elif isinstance(value, str):
            yield prefix + key, value
        else:
            raise TraceError(f"{path}: {prefix}{key} is {value!r}; expected a name in quotes.")


def _expand(pattern: str, target: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Apply one line of a map to all names that it fits."""
    parts = re.split(r"(\*|\{\w+\})", pattern)
    groups = parts[1::2]
    regex = "".join(
        re.escape(part) if i % 2 == 0 else (r"(.+?)" if part == "*" else r"([^./]+)")
        for i, part in enumerate(parts)
    )
    for name in names:
        hit = re.fullmatch(regex, name)
        if hit:
            values = list(zip(groups, hit.groups(), strict=True))
            stars = iter([value for part, value in values if part == "*"])
            named = {part: value for part, value in values if part != "*"}
            filled = re.sub(
                r"\*|\{\w+\}",
                lambda m, named=named, stars=stars: (  # type: ignore[misc]
                    next(stars, m[0]) if m[0] == "*" else named.get(m[0], m[0])
                ),
                target,
            )
            yield name, filled


def canonical(matching: Matching, other: Trace) -> Trace:
    """Return their tensors under our names and in our layout.

    Those that are whole, and the logits of the last positions.
    """
    tensors: dict[str, Tensor] = {}
    dtypes: dict[str, str] = {}
    for name, found in matching.matches.items():
        part = found.layout.part
        if part is None or (split_call(name)[1] == "output" and part[1] > 0):
            tensors[name] = found.layout.to_ours(other[found.theirs])
            dtypes[name] = other.dtype_of(found.theirs)
    meta = {key: value for key, value in other.meta.items() if key != "order"}
    return Trace(tensors, meta=meta, order_known=True, dtypes=dtypes)
