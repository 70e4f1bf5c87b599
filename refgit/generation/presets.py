"""Ways of decoding by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_preset(preset: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Put a call's arguments on top of what a preset sets."""
    if preset is None:
        return dict(arguments)
    raise ValueError(f"preset is {preset!r}; expected None.")
