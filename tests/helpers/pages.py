"""Shared by tests of pages that are one HTML file: reading them, and opening them in a browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from helpers.browser import EXECUTABLE, Browser, browser

VOID = {"meta", "link", "input", "br", "img", "hr"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if EXECUTABLE is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with browser() as started:
        # the Tab key may lead out of the page, after which nothing in it would be told of a focus
        started.send("Emulation.setFocusEmulationEnabled", enabled=True)
        yield started


def until(window: Browser, condition: str) -> None:
    """Wait for something that the page does by itself."""
    end = time.monotonic() + 60
    while not window.ask(condition):
        assert time.monotonic() < end, f"never came: {condition}"
        time.sleep(0.02)


def without_scripts(window: Browser, path: Path, *questions: str) -> list[Any]:
    """What a page with JavaScript switched off answers."""
    window.look(1280, 900)
    window.scripts(on=False)
    try:
        window.open(path)
        return [window.ask(question) for question in questions]
    finally:
        window.scripts(on=True)


class Reader(HTMLParser):
    """Elements with their attributes, text, and whatever is not well-formed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.faults.append(f"an attribute twice in {tag}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open[-1:] in (["script"], ["style"]) else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


# Texts whose contrast is too low (WCAG AA), by element and class.
CONTRASTS = """
(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0)
      return c.slice(0, 3); } return [255, 255, 255]; };
  const found = {};
  for (const e of document.querySelectorAll('body *')) {
    const own = Array.from(e.childNodes).some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !e.offsetParent || e.closest('.k6')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found[e.tagName + '.' + e.className] = ratio;
  }
  return found;
})()
"""

# What can be pressed or read and has no name.
NAMELESS = """
Array.from(document.querySelectorAll('button, canvas, svg, input, select, a, summary')).filter(
  e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.getAttribute('aria-hidden')
    || e.closest('label')?.textContent.trim())).map(e => e.outerHTML)
"""
