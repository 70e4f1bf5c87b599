"""Pages that are one HTML file: a template with marks, and data for their scripts.

A page is three files beside each other in a package, NAME.html, NAME.css and NAME.js. What all
pages share, colours and maps of cells among it, is in base.css and base.js here, which come first.
``<!--@name-->`` in the HTML marks the place of a part.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np


class Template:
    """The files of a page, by the package that they are in.

    Parameters
    ----------
    package : str
        Such as "refgit.parity.report".
    name : str
        Of the page's files, without the suffix.
    """

    def __init__(self, package: str, name: str) -> None:
        self.package = package
        self.name = name

    def page(self, parts: Mapping[str, str]) -> str:
        """Fill in `parts`, the style, the script, and the page's own size as the part "size"."""
        both = {"style": self._with_base("css"), "script": self._with_base("js"), **parts}
        size = len(self._filled({**both, "size": "1,000 kB"}).encode())
        return self._filled({**both, "size": f"{math.ceil(size / 1000):,} kB"})

    def _with_base(self, suffix: str) -> str:
        return _read(__package__, f"base.{suffix}") + _read(self.package, f"{self.name}.{suffix}")

    def _filled(self, parts: Mapping[str, str]) -> str:
        """Fill in `parts` for the marks; what is put in is not searched for more."""
        start, *pieces = _read(self.package, f"{self.name}.html").split("<!--@")
        filled = [start]
        for piece in pieces:
            name, _, rest = piece.partition("-->")
            filled += [parts[name], rest]
        return "".join(filled)


def _read(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def script_safe(data: Any) -> str:
    """Return JSON that cannot end the script element that it is in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def base64_of(data: bytes | np.ndarray[Any, Any]) -> str:
    """Return bytes, or those of an array in row-major order, as base64."""
    raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
    return base64.b64encode(raw).decode("ascii")
