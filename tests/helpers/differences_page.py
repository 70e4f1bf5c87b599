"""docs/differences.md taken apart: its table, its sections, and what it quotes of show.py."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from dataclasses import dataclass
from functools import cached_property

from helpers.backends import ROOT

# without what its Python printed when it was stored
PAGE = re.sub(
    r"\n\n<!-- printed -->\n.*?<!-- end -->$",
    "",
    (ROOT / "docs" / "differences.md").read_text(),
    flags=re.S | re.M,
)
SCRIPTS = ROOT / "docs" / "tools" / "differences"


@dataclass(frozen=True)
class Section:
    """One difference: its heading's anchor and its text."""

    anchor: str
    text: str

    @cached_property
    def blocks(self) -> list[str]:
        """The Python that runs with refgit alone."""
        return re.findall(r"^```python[^\n]*\n(.*?)^```", self.text, re.S | re.M)

    @cached_property
    def quoted(self) -> str:
        """All that it quotes of show.py."""
        return "\n".join(re.findall(r"^```text\n(.*?)^```", self.text, re.S | re.M))


def anchor_of(heading: str) -> str:
    """The anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def sections() -> list[Section]:
    """The numbered sections, in order."""
    parts = re.split(r"^#{2,3} ", PAGE, flags=re.M)[1:]
    pairs = [part.partition("\n") for part in parts]
    return [Section(anchor_of(head), text) for head, _, text in pairs if head[:1].isdigit()]


def quotes() -> dict[str, list[str]]:
    """Name of a demonstration to the lines that the page quotes of it."""
    found: dict[str, list[str]] = {}
    pattern = r"^python docs/tools/differences/show\.py ([a-z0-9 -]+)\n```\n\n```text\n(.*?)^```"
    for names, output in re.findall(pattern, PAGE, re.S | re.M):
        several = names.split()
        texts = re.split(r"^# .*\n", output, flags=re.M)
        for name, text in zip(several, texts[1:] if len(several) > 1 else texts, strict=True):
            found[name] = text.splitlines()
    return found


QUOTES = quotes()


def table() -> list[tuple[str, str]]:
    """Of each row of the table at the top: the effect, and the anchor it leads to."""
    return re.findall(r"^\|[^|]*\|[^|]*\|([^|]*)\| \[\d+\]\(#([^)]*)\) \|$", PAGE, re.M)


def names() -> set[str]:
    """All demonstrations that show.py has."""
    return set(_show().ROWS)


def show(name: str) -> list[str]:
    """What show.py prints of a demonstration."""
    with contextlib.redirect_stderr(io.StringIO()):
        return _show().ROWS[name]()


def _show() -> object:
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    return importlib.import_module("show")
