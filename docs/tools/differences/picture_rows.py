"""Differences in preparing pictures: docs/differences.md, "Pictures"."""

from __future__ import annotations

from typing import Any

import numpy as np
from pairs import numbers
from PIL import Image

from refgit.processing.image.processor import CLIPImageProcessor

SMALL: dict[str, Any] = {
    "size": {"shortest_edge": 8},
    "crop_size": {"height": 8, "width": 8},
}


def both(**options: Any) -> dict[str, Any]:
    """The image processors of both."""
    import transformers

    return {
        "transformers": transformers.CLIPImageProcessor(**SMALL, **options),
        "refgit": CLIPImageProcessor(**SMALL, **options),
    }


def outcome(processor: Any, image: Any) -> str:
    """Dtype and shape of the pixel values, or the name of the error."""
    try:
        found = processor(image, return_tensors="np")
    except Exception as error:
        return type(error).__name__
    values = numbers(found.pixel_values)
    return f"{values.dtype} {values.shape}"


def picture(height: int, width: int) -> np.ndarray:
    """A colour picture of noise."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixel_dtype() -> list[str]:
    """The dtype of pixel values where a step is left out."""
    none = {f"do_{step}": False for step in ("resize", "center_crop", "rescale", "normalize")}
    cases: dict[str, tuple[dict[str, Any], Any]] = {
        "all steps": ({}, picture(8, 8)),
        "neither rescaled nor normalised": (
            {"do_rescale": False, "do_normalize": False},
            picture(8, 8),
        ),
        "no step, given float64": (none, picture(8, 8) / 255),
    }
    return [
        f"{case}: {name} {outcome(processor, image)}"
        for case, (options, image) in cases.items()
        for name, processor in both(**options).items()
    ]


def thin_pictures() -> list[str]:
    """A picture one pixel high, and grey arrays."""
    thin, grey = Image.fromarray(picture(1, 12)), picture(9, 12)[..., :1]
    cases: dict[str, tuple[dict[str, Any], Any]] = {
        "one pixel high": ({}, thin),
        "grey, 9 x 12 x 1": ({}, grey),
        "the same, one mean for all channels": ({"image_mean": 0.5, "image_std": 0.5}, grey),
    }
    return [
        f"{case}: {name} {outcome(processor, image)}"
        for case, (options, image) in cases.items()
        for name, processor in both(**options).items()
    ]


ROWS = {"pixel-dtype": pixel_dtype, "thin-pictures": thin_pictures}
