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


def whole_page(package: str, name: str, parts: Mapping[str, str]) -> str:
    """Return a page with its parts filled in; what is put in is not searched for more marks.

    Parameters
    ----------
    package : str
        Such as "refgit.parity.report".
    name : str
        Of the page's files, without the suffix.
    parts : mapping of str to str
        All that are marked but "style", "script" and "size", the page's own, which are made here.
    """
    style, script = (
        _read(__package__, f"base.{suffix}") + _read(package, f"{name}.{suffix}")
        for suffix in ("css", "js")
    )
    start, *pieces = _read(package, f"{name}.html").split("<!--@")

    def filled(size: str) -> str:
        known = {"style": style, "script": script, "size": size, **parts}
        marks = (piece.partition("-->") for piece in pieces)
        return start + "".join(known[mark] + rest for mark, _, rest in marks)

    size = len(filled("1,000 kB").encode())
    return filled(f"{math.ceil(size / 1000):,} kB")


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
