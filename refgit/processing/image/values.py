"""The values a setting of an image processor may have, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refgit.validation import expect, is_integer, is_number, is_size, plain


def size_of(name: str, value: Any, square: bool) -> dict[str, int]:
    """Bring the ways to write a size to one: a dict with the keys this module reads."""
    value = plain(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    accepted: list[set[str]] = [{"height", "width"}]
    if not square:
        # "longest_edge" may be there; the CLIP processor of transformers does not look at it.
        accepted += [{"shortest_edge"}, {"shortest_edge", "longest_edge"}]
    wanted = '{"height": h, "width": w}' + ("" if square else ' or {"shortest_edge": n}')
    known = isinstance(value, Mapping) and set(value) in accepted
    expect(name, value, known, f"a number or {wanted}")
    for key, number in value.items():
        expect(f"{name}[{key!r}]", number, is_size(number), "a whole number of pixels")
    return dict(value)


def resample_of(value: Any) -> int:
    """Check a `PIL.Image.Resampling` value."""
    known = "0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box or 5 hamming"
    expect("resample", value, is_integer(value) and value <= 5, known)
    return int(value)


def number_of(name: str, value: Any) -> float:
    """Check a finite number."""
    expect(name, value, is_number(value), "a finite number")
    number: float = plain(value)
    return number


def per_channel(name: str, value: Any, channels: int = 3) -> float | tuple[float, ...]:
    """Check a number, or one for each channel."""
    value = plain(value)
    if not isinstance(value, (list, tuple)):
        return number_of(name, value)
    if len(value) != channels:
        raise ValueError(
            f"{name} has {len(value)} values, {value!r}; expected {channels}, one per channel."
        )
    return tuple(float(number_of(name, number)) for number in value)


def check_divisor(name: str, value: Any) -> None:
    """Refuse a standard deviation of 0."""
    if 0.0 in np.ravel(value):
        raise ValueError(f"{name} is {value!r}; no value may be 0, it is divided by.")
