"""A comparison that fails, and an HTML report taken apart."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from refgit.parity import Comparison, compare
from refgit.parity.diagnosis.procedure import Cause, Diagnosis, Finding
from refgit.parity.report.write import html_report
from refgit.testing import pixels, tiny_model, tokens
from refgit.traces.container import Trace, record

VOID = {"meta", "link", "input", "br", "img", "hr"}


EVIL = "<img src=x onerror='hacked=1'>\"&amp;</script><script>hacked=1</script>"


VALUE = "git.image_encoder.vision_model.encoder.layers.1.self_attn.v_proj"


PROBABILITIES = "git.image_encoder.vision_model.encoder.layers.1.self_attn.probabilities"


WRONG = ("git.encoder.layer.0.intermediate.dense", "step.1.output")


@pytest.fixture(scope="module")
def reference() -> Trace:
    return record(tiny_model(dtype="float64"), pixels(2), tokens(2), tokens=1)


@pytest.fixture(scope="module")
def other(reference: Trace) -> Trace:
    """The same, but for a patch of one tensor, one number, one NaN, a head, and hostile names."""
    arrays = {name: np.array(x) for name, x in reference.items()}
    arrays[VALUE][1, 2, :6] += 1e-3
    arrays[PROBABILITIES][:, 2] = arrays[PROBABILITIES][:, 1]
    arrays[WRONG[0]][0, 7, 3] += 1.0
    arrays[WRONG[1]][1, 0, 4] = np.nan
    arrays = {EVIL if name == WRONG[0] else name: x for name, x in arrays.items()}
    arrays["nobody's <i>"] = np.zeros((3, 7, 7, 7))
    del arrays["git.encoder.layer.2.output.dense"]
    return Trace(arrays, meta={"producer": f"port {EVIL}"})


@pytest.fixture(scope="module")
def comparison(reference: Trace, other: Trace) -> Comparison:
    return compare(reference, other, names={EVIL: WRONG[0]})


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    causes = [Cause(f"your bias is missing {EVIL}", "bias", 1.2, WRONG[0])]
    return Diagnosis([Finding(VALUE, 5e4, causes), Finding(WRONG[0], math.inf)], 90)


@pytest.fixture(scope="module")
def page(reference: Trace, other: Trace, comparison: Comparison, diagnosis: Diagnosis) -> str:
    return html_report(comparison, diagnosis, reference, other)


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
