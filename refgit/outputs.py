"""Base of what a model or a search returns: a dataclass that is also indexed and unpacked.

It indexes, iterates and unpacks as transformers' outputs do: fields that are None are left out of
the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any


@dataclass
class ModelOutput:
    """Base of the outputs: index by position or by field name, iterate, unpack."""

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not None, in order."""
        return tuple(value for _, value in self.items())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield (field name, value) of the fields that are not None, in order."""
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                yield f.name, value

    def keys(self) -> list[str]:
        """Return the names of the fields that are not None, in order."""
        return [name for name, _ in self.items()]

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            return dict(self.items())[key]
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.to_tuple())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()
