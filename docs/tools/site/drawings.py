"""Drawings whose parts are links, put into the page itself: in an <img> nothing can be clicked.

A drawing is meant where Markdown shows an SVG that leads to itself: [![alt](x.svg)](x.svg).
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

_SHOWN = re.compile(
    r'<a href="(?P<to>[^"]+\.svg)">\s*<img alt="(?P<alt>[^"]*)" src="(?P=to)" ?/?>\s*</a>'
)
_OUTSIDE = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>\s*", re.S)


def put_in(content: str, docs: Path, page: str) -> str:
    """Return a page's HTML with its drawings in it; `page` is its path in the site."""
    folder = posixpath.dirname(page)

    def inline(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found["to"]))
        svg = (docs / path).read_text(encoding="utf-8")
        if "xlink:href" not in svg:
            return found[0]
        return _drawing(svg, found["alt"], posixpath.dirname(path), folder)

    return _SHOWN.sub(inline, content)


def _drawing(svg: str, alt: str, here: str, folder: str) -> str:
    """Return an SVG file as an element of a page, its links leading from `folder`.

    It counts as one picture with one text. Its links are for the mouse and the finger: a keyboard
    would stop at every line of every box, and finds the same links in the text.
    """

    def link(found: re.Match[str]) -> str:
        target = posixpath.relpath(
            posixpath.normpath(posixpath.join(here, found[1])), folder or "."
        )
        return f'<a href="{target}" tabindex="-1"'

    svg = re.sub(r'<a xlink:href="([^"#]+)"(?: target="_blank")?', link, _OUTSIDE.sub("", svg))
    svg = svg.replace("*{", ".drawing *{", 1)  # a style of the drawing, not of the page
    return re.sub(
        r'<svg([^>]*?) width="[^"]*" height="[^"]*"',
        lambda found: f'<svg class="drawing" role="img" aria-label="{alt}"{found[1]}',
        svg,
        count=1,
    )
