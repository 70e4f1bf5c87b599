"""Make docs/images/explorer-light.png, -dark.png and -phone.png: the explorer in Chromium.

    apt-get install chromium
    python docs/tools/screenshots/explorer.py

The bundled model and a picture of docs/images.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from picture import HEAT_MAP, ROOT, Browser, browser, take  # first: it finds refgit

from refgit import GitForCausalLM, GitProcessor
from refgit.demo import NAME, demo_path
from refgit.explain import explain
from refgit.processing import load_image

PICTURE = "red-apple.png"
SHOTS = (
    # name, width, height, scheme, pixels a point
    ("light", 1280, 1690, "light", 1),
    ("dark", 1280, 1690, "dark", 1),
    ("phone", 390, 1180, "light", 2),
)
COLOURS = 200  # enough for text, charts and heat map
APPLE = '.word[data-k="1"]'


def example(path: Path) -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    found = explain(model, processor, load_image(ROOT / "docs" / "images" / PICTURE))
    found.save(path, model_name=NAME, image_name=PICTURE)


def look(window: Browser, width: int, height: int, scheme: str, scale: int) -> None:
    window.look(width, height, scheme)
    window.send(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=scale,
        mobile=False,
    )
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    window.send("Emulation.setEmulatedMedia", features=features)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, browser() as window:
        report = Path(folder, "report.html")
        example(report)
        for name, width, height, scheme, scale in SHOTS:
            look(window, width, height, scheme, scale)
            window.open(report)
            while not window.ask("document.getElementById('said').textContent"):
                time.sleep(0.05)
            window.ask(f"document.querySelector('{APPLE}').click()")
            target = ROOT / "docs" / "images" / f"explorer-{name}.png"
            take(window, target, COLOURS, **HEAT_MAP)


if __name__ == "__main__":
    main()
