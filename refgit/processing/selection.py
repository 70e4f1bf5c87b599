"""Which files of a folder are meant: patterns such as *.png, as a shell writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

_LITERAL_SUFFIX = re.compile(r"\.[^][.*?/]+$")  # of *.dat, but neither of a* nor of *.p?g


@dataclass(frozen=True)
class Selection:
    """Patterns that choose among files.

    In a pattern ``*`` stands for any letters but ``/``, ``?`` for one, ``[ab]`` for one of them,
    and ``**`` for any folders. A pattern with ``/`` is compared with the path within the folder
    that is searched, one without with the name alone. Capitals do not matter, as in suffixes.

    Attributes
    ----------
    glob : tuple of str
        Files in folders count if one of these fits; all, where there are none.
    exclude : tuple of str
        Files do not count if one of these fits them or a folder they are in.

    Examples
    --------
    >>> from refgit.processing.selection import Selection
    >>> chosen = Selection(glob=("*.png",), exclude=("*_mask.png", "thumbs"))
    >>> [chosen.takes(path) for path in ("a.PNG", "in/b.png", "a_mask.png", "in/thumbs/c.png")]
    [True, True, False, False]
    """

    glob: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether a file counts; `path` is the one within the folder, with / between names."""
        return (not self.glob or _fits_any(self.glob, path)) and not self.excludes(path)

    def excludes(self, path: str) -> bool:
        """Whether `exclude` fits a path, or a folder on the way to it."""
        names = path.split("/")
        ways = ("/".join(names[:end]) for end in range(1, len(names) + 1))
        return bool(self.exclude) and any(_fits_any(self.exclude, way) for way in ways)

    def leaves_out(self, file: str) -> bool:
        """Whether `exclude` fits a file that was named: its name, or all of its path."""
        path = file.replace(os.sep, "/")
        name = path.rpartition("/")[2]
        return any(_fits_any([x], path if "/" in x else name) for x in self.exclude)

    def names_suffix_of(self, path: str) -> bool:
        """Whether a pattern of `glob` that fits spells the suffix, as ``*.dat`` does.

        Such a file counts whatever its suffix otherwise says.
        """
        return _fits_any([x for x in self.glob if _LITERAL_SUFFIX.search(x)], path)


def _fits_any(patterns: Sequence[str], path: str) -> bool:
    names = path.casefold().split("/")
    return any(_fits(_parts(pattern), names) for pattern in patterns)


@lru_cache(maxsize=256)
def _parts(pattern: str) -> tuple[str, ...]:
    pattern = pattern.casefold().removesuffix("/")
    parts = tuple(pattern.removeprefix("./").strip("/").split("/"))
    return parts if "/" in pattern else ("**", *parts)  # a name, wherever it is


def _fits(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(parts[1:], names[i:]) for i in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _fits(parts[1:], names[1:])
