"""Take the pictures of the site in docs/images/docs-*.png.

    mkdocs build --strict -f docs/tools/site/mkdocs.yml && python docs/tools/screenshots/site.py

Needs the built site, Pillow and Chromium. The pages are opened as files, as a reader without a
network would; whatever one of them asks of a network, and every error of its console, stops this.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from picture import ROOT, Browser, browser, take

PAGES = {
    "start": "index.html",
    "model": "model/04-attention.html",
    "reference": "reference/cli.html",
}
DESK, PHONE = (1280, 900), (390, 844)
MOST_BYTES = 150_000


def main() -> None:
    """Take them all, and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--site", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--phone", action="store_true", help="take them at a phone's width as well")
    parser.add_argument("pages", nargs="*", help="other pages of the site, such as choices.html")
    arguments = parser.parse_args()
    pages = {Path(p).stem: p for p in arguments.pages} or PAGES
    with browser() as window:
        for name, page in pages.items():
            for scheme in ("light", "dark"):
                out = arguments.out / f"docs-{name}-{scheme}.png"
                take_page(window, arguments.site / page, out, DESK, scheme)
            if arguments.phone:
                out = arguments.out / f"docs-{name}-phone.png"
                take_page(window, arguments.site / page, out, PHONE, "light")
    if window.problems:
        sys.exit("\n".join(window.problems))


def take_page(window: Browser, page: Path, out: Path, size: tuple[int, int], scheme: str) -> None:
    """Open a page, and store what is to be seen in few colours."""
    window.look(*size, scheme)
    window.open(page)
    window.ask("localStorage.clear()")  # the site remembers the colours that it was seen in
    window.open(page)
    window.look(*size, scheme)  # waits until it is drawn
    wide = window.ask("document.documentElement.scrollWidth")
    if wide > size[0]:
        sys.exit(f"{page} is {wide} pixels wide; a window of {size[0]} scrolls sideways")
    take(window, out, 160)
    if out.stat().st_size > MOST_BYTES:
        sys.exit(f"{out} is larger than {MOST_BYTES} bytes")


if __name__ == "__main__":
    main()
