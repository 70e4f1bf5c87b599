"""Transparent pictures: the colour behind them, and the file's own ways to say what is transparent.

The oracle drops the transparency, which shows the colours that happen to be stored there: black as
a rule.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageColor

from refgit.processing.image.depth import to_bytes

ORACLE = "oracle"  # in the place of a colour: what `convert("RGB")` does
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_EXPECTED = 'a colour such as "white", "#rrggbb" or "rgb(255, 255, 255)", or "oracle"'
# Pillow leaves the transparent colour of a PNG as the file has it, and scales the pixels; that of
# one bit is 1 up to Pillow 12, and 255 in 13.
_KEY_FACTORS = {"1": 255, "L;2": 255 / 3, "L;4": 255 / 15, "RGB;16B": 1 / 256}

Colour: TypeAlias = tuple[int, int, int]


def colour_of(name: str) -> Colour | None:
    """Return red, green and blue of a colour as Pillow names it; None for "oracle".

    Raises
    ------
    ValueError
        There is no such colour, or it is transparent itself.
    """
    if name == ORACLE:
        return None
    try:
        red, green, blue, *alpha = ImageColor.getrgb(name)
    except (ValueError, AttributeError, TypeError) as error:
        near = near_colour(str(name))
        meant = f" Did you mean {near}?" if near else ""
        raise ValueError(f"background is {name!r}; expected {_EXPECTED}.{meant}") from error
    if alpha and alpha != [255]:
        raise ValueError(f"background is {name!r}, which is transparent; expected {_EXPECTED}.")
    return red, green, blue


def near_colour(name: str) -> str:
    """The colour that a mistyped name may have meant, or ""."""
    return next(iter(get_close_matches(name, [*ImageColor.colormap, ORACLE], 1)), "")


def has_transparency(image: Image.Image) -> bool:
    """Whether a picture may have transparent pixels."""
    palette = image.palette.mode if image.mode == "P" and image.palette else ""
    return image.mode in _WITH_ALPHA or "transparency" in image.info or palette.endswith("A")


def on_background(image: Image.Image, colour: Colour, raw: str = "") -> Image.Image:
    """Put a picture on a colour.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode, transparent or not.
    colour : tuple of three int
    raw : str
        How a PNG stores the pixels, as Pillow calls it.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB.
    """
    with_alpha = image if image.mode == "RGBA" else _with_alpha(image, raw)
    picture = Image.new("RGB", image.size, colour)
    picture.paste(with_alpha, mask=with_alpha)  # where it is opaque, exactly its colours
    return picture


def _with_alpha(image: Image.Image, raw: str) -> Image.Image:
    """Convert to RGBA, whichever way the picture is transparent."""
    key = image.info.get("transparency")
    if image.mode.startswith("I"):  # a grey of 16 bits, which conversion would compare as a byte
        clear = np.asarray(image) == key
        alpha = Image.fromarray(np.where(clear, 0, 255).astype(np.uint8))
        return Image.merge("LA", (to_bytes(image, "PNG"), alpha)).convert("RGBA")
    if raw in _KEY_FACTORS and key is not None:
        image = image.copy()
        scaled = np.minimum(np.asarray(key) * _KEY_FACTORS[raw], 255)
        image.info["transparency"] = tuple(map(int, scaled)) if scaled.ndim else int(scaled)
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode[:-1] + "A")
    return image.convert("RGBA")
