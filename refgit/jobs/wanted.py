"""Which image is whose row: every image of a job has a key, by which its row is found again.

Files are known by their names, so that a folder may grow, shrink or be sorted anew, and each row
stays with its image; a name that comes twice is numbered. Rows of a table often have no name of
their own, so a job that reads tables knows its images by their position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from refgit.jobs.parquet import Table
from refgit.jobs.rows import Row
from refgit.jobs.sources import Item, Part, items

Key: TypeAlias = int | str


class Wanted:
    """The images of a job, with their keys.

    Parameters
    ----------
    parts : sequence of Part
    named : callable, optional
        What a file is known by, from its name; the name itself by default.
    once : bool
        Whether what comes twice is wanted once.

    Attributes
    ----------
    by_position : bool
        Whether the keys are positions.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        named: Callable[[str], str] = lambda name: name,
        *,
        once: bool = False,
    ) -> None:
        self.parts, self._named, self._once = parts, named, once
        self.by_position = any(isinstance(part, Table) for part in parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def names(self) -> Iterator[str]:
        """The names of all images; none is read, but for those in tables."""
        return (item.name for item in items(self.parts))

    def key(self, row: Row, again: int = 0) -> Key:
        """The key of a row whose image has come so many times before."""
        if self.by_position:
            return int(row["index"])
        name = self._named(row["image"])
        return f"{name}\0{again}" if again else name

    def keys(self) -> Iterator[Key]:
        """The keys of all images, in order; no image is read."""
        if self.by_position:
            yield from range(len(self))
        else:
            yield from (key for key, _ in self.items(lambda key: False))

    def items(self, has: Callable[[Key], bool]) -> Iterator[tuple[Key, Item]]:
        """The images whose rows are not there yet, in order.

        Parameters
        ----------
        has : callable
            Whether the row of a key is there.
        """
        if self.by_position:
            start = next((i for i in range(len(self)) if not has(i)), len(self))
            pairs: Iterator[tuple[Key, Item]] = (
                (item.index, item) for item in items(self.parts, start)
            )
        else:
            pairs = self._numbered()
        return ((key, item) for key, item in pairs if not has(key))

    def _numbered(self) -> Iterator[tuple[Key, Item]]:
        seen: dict[str, int] = {}
        for item in items(self.parts):
            name = self._named(item.name)
            again = seen.get(name, 0)
            seen[name] = again + 1
            if again and self._once:
                continue
            yield (f"{name}\0{again}" if again else name), item
