"""Pages that are one HTML file: a template with marks, and data for their scripts.

A template stands in a package beside its style sheet and its script. ``<!--@name-->`` marks the
place of a part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any


class Template:
    """The files of a page, by the package they stand in.

    Parameters
    ----------
    package : str
        Such as "refgit.parity".
    page : str
        The HTML file with the marks.
    """

    def __init__(self, package: str, page: str) -> None:
        self.package = package
        self.page = page

    def read(self, name: str) -> str:
        """Return the text of a file of the package."""
        return files(self.package).joinpath(name).read_text(encoding="utf-8")

    def sized(self, parts: Mapping[str, str]) -> str:
        """Fill in `parts`, and the page's own size as the part "size"."""
        size = len(self.filled({**parts, "size": "1,000 kB"}).encode())
        return self.filled({**parts, "size": f"{math.ceil(size / 1000):,} kB"})

    def filled(self, parts: Mapping[str, str]) -> str:
        """Fill in `parts` for the marks; what is put in is not looked through for more."""
        start, *pieces = self.read(self.page).split("<!--@")
        filled = [start]
        for piece in pieces:
            name, _, rest = piece.partition("-->")
            filled += [parts[name], rest]
        return "".join(filled)


def script_safe(data: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
