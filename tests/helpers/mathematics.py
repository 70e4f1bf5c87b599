"""Shared by test_backends and other tests."""

from __future__ import annotations

from helpers.backends import ROOT

MATHEMATICS = [
    *sorted((ROOT / "refgit/layers").glob("*.py")),
    *(ROOT / "refgit" / f"{name}.py" for name in ("vision", "decoder", "cache", "model")),
]
