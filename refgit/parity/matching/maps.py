"""The map of names: what a porter writes where refgit cannot tell which tensor is which."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from refgit.errors import TraceError


def read_map(path: str | Path) -> dict[str, str]:
    """Read a map of names: a TOML file with ``"their.name" = "our.name"`` a line.

    A ``*`` or ``{i}`` on the left means a part of a name, and on the right the same.

    Raises
    ------
    TraceError
        The file is missing, is not TOML, or holds something else than names.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TraceError(
            f'{path} is not a TOML file of lines such as "their.name" = "our.name": {error}.'
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


def mapped(pattern: str, target: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Apply one line of a map: yield each name that it fits, and what it becomes."""
    parts = re.split(r"(\*|\{\w+\})", pattern)
    groups = parts[1::2]
    regex = "".join(
        re.escape(part) if i % 2 == 0 else (r"(.+?)" if part == "*" else r"([^./]+)")
        for i, part in enumerate(parts)
    )
    for name in names:
        hit = re.fullmatch(regex, name)
        if hit:
            yield name, _filled(target, list(zip(groups, hit.groups(), strict=True)))


def _filled(target: str, values: list[tuple[str, str]]) -> str:
    """Put what the wildcards of the left side matched into the right side."""
    stars = iter([value for part, value in values if part == "*"])
    named = {part: value for part, value in values if part != "*"}

    def fill(wildcard: re.Match[str]) -> str:
        part = wildcard[0]
        return next(stars, part) if part == "*" else named.get(part, part)

    return re.sub(r"\*|\{\w+\}", fill, target)
