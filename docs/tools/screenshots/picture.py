"""Store what a window of Chromium shows as a PNG of few colours."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "tests")]

from helpers.browser import Browser, browser  # noqa: E402

__all__ = ["HEAT_MAP", "ROOT", "Browser", "browser", "take"]

# How to choose the colours where a heat map is among what is shown.
HEAT_MAP = {"method": Image.Quantize.MAXCOVERAGE, "kmeans": 2}


def take(window: Browser, out: Path, colours: int, **options: Any) -> None:
    """Write the picture, and say how large it is."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.png"
        window.picture(raw)
        with Image.open(raw) as picture:
            few = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE, **options)
            few.save(out, optimize=True)
    print(f"{out}: {out.stat().st_size} bytes")
