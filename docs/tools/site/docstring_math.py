"""Docstrings are written for a terminal; on the site `.. math::` becomes an equation.

A Griffe extension, which mkdocstrings loads: it rewrites each docstring before it is parsed. It
also gives each of several parameters described together a line of its own, with its own type.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

# The directive, its first line, and the lines indented below it.
_DIRECTIVE = re.compile(r"^( *)\.\. math::(.*\n(?:\1[ ]+.*\n|[ ]*\n(?=\1[ ]+\S))*)", re.M)
# A section of parameters, and in it several that share one description.
_PARAMETERS = re.compile(r"^(?:Parameters|Attributes)\n-+\n(?:.*\n)+?(?=\S.*\n-+\n|\Z)", re.M)
_SHARED = re.compile(r"^(\w+(?:, \w+)+)( : .*)?\n((?:[ ]+.*\n)*)", re.M)
_ROLE = re.compile(r":math:`([^`]+)`")


class DocstringMath(griffe.Extension):
    """Turns reStructuredText's mathematics into dollars."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of anything that was found."""
        if obj.docstring is not None:
            obj.docstring.value = in_markdown(obj.docstring.value)


def in_markdown(text: str) -> str:
    """Return a docstring with its mathematics, and its names, as Markdown."""

    def display(found: re.Match[str]) -> str:
        indent, latex = found[1], " ".join(found[2].split())
        return f"{indent}$$\n{indent}{latex}\n{indent}$$\n\n"

    text = _DIRECTIVE.sub(display, text + "\n")
    text = _PARAMETERS.sub(lambda section: _SHARED.sub(_apart, section[0]), text).rstrip("\n")
    return _ROLE.sub(r"$\1$", text).replace("``", "`")


def _apart(found: re.Match[str]) -> str:
    names, kind, meaning = found[1].split(", "), found[2] or "", found[3]
    return "".join(f"{name}{kind}\n{meaning}" for name in names)
