"""The parts of a page that are written by `write_pages.py`: found, taken out, put in.

A region stands between two HTML comments, which neither a code host nor the site shows:

    <!-- source refgit.layers.softmax.softmax -->    what `{{ source NAMES }}` asks for, and so
    ...                                              command NAME, fields NAME
    <!-- end -->

    <!-- printed -->                                 what the block above printed, if anything
    ...
    <!-- end -->

A block that prints is one that begins with ```python exec="on".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

MADE = "source|command|fields"
_ASKED = re.compile(rf"^\{{\{{ (?P<kind>{MADE}) (?P<names>[^{{}}\n]+?) \}}\}}$", re.M)
_STORED = re.compile(
    rf"^<!-- (?P<kind>{MADE}) (?P<names>[^\n]+?) -->\n(?P<text>.*?)^<!-- end -->$", re.M | re.S
)
_PRINTED = re.compile(r"\n\n<!-- printed -->\n\n(?P<text>.*?)\n\n<!-- end -->$", re.M | re.S)
_PYTHON = re.compile(r"^```python(?P<options>[^\n]*)\n(?P<code>.*?)^```[ ]*$", re.M | re.S)
_FENCED = re.compile(r"^(?P<mark>`{3,})text\n(?P<text>.*?)^(?P=mark)$", re.M | re.S)


def bare(page: str) -> str:
    """Return a page as it was written by hand: requests for its regions, nothing printed."""
    page = _STORED.sub(lambda found: f"{{{{ {found['kind']} {found['names']} }}}}", page)
    return _PRINTED.sub("", page)


def with_made(page: str, make: Callable[[str, str], str]) -> str:
    """Return a page whose requests are answered by `make(kind, names)`, between the comments."""

    def region(found: re.Match[str]) -> str:
        kind, names = found["kind"], found["names"]
        return f"<!-- {kind} {names} -->\n\n{make(kind, names).strip()}\n\n<!-- end -->"

    return _ASKED.sub(region, page)


def blocks(page: str) -> Iterator[tuple[int, str, bool]]:
    """Yield line, code and whether its output is shown, of each Python block written by hand."""
    page = bare(page)
    for found in _PYTHON.finditer(page):
        line = page.count("\n", 0, found.start()) + 1
        yield line, found["code"], "exec=" in found["options"]


def with_printed(page: str, outputs: Mapping[int, str]) -> str:
    """Return a bare page with the output of each block behind it, by the block's place."""
    number = -1

    def region(found: re.Match[str]) -> str:
        nonlocal number
        number += 1
        text = "\n".join(line.rstrip() for line in outputs.get(number, "").splitlines()).rstrip()
        if "exec=" not in found["options"] or not text:
            return found[0]
        mark = "````" if "```" in text else "```"
        return f"{found[0]}\n\n<!-- printed -->\n\n{mark}text\n{text}\n{mark}\n\n<!-- end -->"

    return _PYTHON.sub(region, page)


def printed(page: str) -> list[str]:
    """Return what is stored behind each block that prints, in their order."""
    page = with_made(bare_of_made(page), lambda *_: "")
    found = []
    for block in _PYTHON.finditer(page):
        if "exec=" in block["options"]:
            region = _PRINTED.match(page, block.end())
            text = _FENCED.search(region["text"]) if region is not None else None
            found.append(text["text"] if text is not None else "")
    return found


def bare_of_made(page: str) -> str:
    """Return a page without what was made of the library, its outputs kept."""
    return _STORED.sub(lambda found: f"{{{{ {found['kind']} {found['names']} }}}}", page)


def for_site(page: str, make: Callable[[str, str], str]) -> str:
    """Return a page for the site: no comments, no options behind ```python."""
    page = _PRINTED.sub(lambda found: f"\n\n{found['text']}", bare_of_made(page))
    page = _ASKED.sub(lambda found: make(found["kind"], found["names"]), page)
    return re.sub(r"^```python exec=[^\n]*$", "```python", page, flags=re.M)


def shown_outputs(page: str) -> Iterator[str]:
    """Yield all that a page shows as printed, by Python or by a command."""
    for found in _FENCED.finditer(bare_of_made(page)):
        yield found["text"]
