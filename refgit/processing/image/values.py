"""The values a setting of an image processor may have, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def size_of(name: str, value: Any, square: bool) -> dict[str, int]:
    """Bring the ways to write a size to one: a dict with the keys this module reads."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    accepted: list[set[str]] = [{"height", "width"}]
    if not square:
        # "longest_edge" may stand there; the CLIP processor of transformers does not look at it.
        accepted += [{"shortest_edge"}, {"shortest_edge", "longest_edge"}]
    if not isinstance(value, Mapping) or set(value) not in accepted:
        wanted = '{"height": h, "width": w}' + ("" if square else ' or {"shortest_edge": n}')
        raise ValueError(f"{name} is {value!r}; expected a number or {wanted}.")
    for key, number in value.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"{name}[{key!r}] is {number!r}; expected a whole number of pixels.")
    return dict(value)


def resample_of(value: Any) -> int:
    """Check a `PIL.Image.Resampling` value."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 5:
        raise ValueError(
            f"resample is {value!r}; expected 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box "
            "or 5 hamming."
        )
    return int(value)


def number_of(name: str, value: Any) -> float:
    """Check a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{name} is {value!r}; expected a finite number.")
    return value


def per_channel(name: str, value: Any, channels: int = 3) -> float | tuple[float, ...]:
    """Check a number, or one for each channel."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        return number_of(name, value)
    if len(value) != channels:
        raise ValueError(
            f"{name} has {len(value)} values, {value!r}; expected {channels}, one per channel."
        )
    return tuple(float(number_of(name, number)) for number in value)
