"""The files that contain the model's mathematics: layers, and what composes them."""

from __future__ import annotations

from helpers.backends import ROOT

MATHEMATICS = [
    *sorted((ROOT / "refgit/layers").glob("*.py")),
    *(
        ROOT / "refgit/model" / f"{name}.py"
        for name in ("vision", "decoder", "cache", "git", "causal_lm")
    ),
]
