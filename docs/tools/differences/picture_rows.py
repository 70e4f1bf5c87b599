"""Differences in preparing pictures: docs/differences.md, "Pictures"."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pairs import numbers
from PIL import Image

from refgit.processing import load_image
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


def encoded(image: Image.Image, **options: Any) -> io.BytesIO:
    """A PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream


def bytes_seen(image: Image.Image) -> dict[str, np.ndarray]:
    """What both make of a picture before it is normalised: (H, W, 3)."""
    bare = {f"do_{step}": False for step in ("resize", "center_crop", "rescale", "normalize")}
    found = {}
    for name, processor in both(**bare).items():
        values = processor(image, return_tensors="np", input_data_format="channels_last")
        found[name] = numbers(values.pixel_values)[0].transpose(1, 2, 0).astype(int)
    return found


def wide_grey() -> list[str]:
    """A PNG of 16 bits; 65535 is white."""
    wide = np.array([[0, 257, 16448, 32896, 65535]] * 4, np.uint16)
    file = encoded(Image.fromarray(wide))
    other = bytes_seen(Image.open(file))["transformers"]
    mine = bytes_seen(load_image(file))["refgit"]
    return [
        f"stored: {wide[0].tolist()}",
        f"Image.open, transformers: {other[0, :, 0].tolist()}",
        f"load_image, refgit: {mine[0, :, 0].tolist()}",
    ]


def transparency() -> list[str]:
    """Three pixels: red, half transparent red, and nothing."""
    row = [[200, 0, 0, 255], [200, 0, 0, 128], [0, 0, 0, 0]]
    file = encoded(Image.fromarray(np.array([row] * 4, np.uint8)))
    lines = [
        f"Image.open, transformers: {bytes_seen(Image.open(file))['transformers'][0].tolist()}"
    ]
    for more in ({}, {"background": "oracle"}):
        name = ", ".join(["load_image", *(f"{k}={v!r}" for k, v in more.items())])
        seen = bytes_seen(load_image(file, **more))["refgit"][0]
        lines.append(f"{name}, refgit: {seen.tolist()}")
    return lines


def orientation() -> list[str]:
    """An upright photograph of 40 x 24 pixels that the sensor saw lying."""
    import transformers.image_utils

    exif = Image.Exif()
    exif[0x0112] = 6
    upright = picture(40, 24)
    file = encoded(Image.fromarray(np.rot90(upright).copy()), exif=exif)
    images = {
        "Image.open, transformers": Image.open(file),
        "transformers.image_utils.load_image": transformers.image_utils.load_image(
            Image.open(file)
        ),
        "load_image, refgit": load_image(file),
        "load_image, exif_transpose=False, refgit": load_image(file, exif_transpose=False),
    }
    lines = []
    for name, image in images.items():
        seen = bytes_seen(image)["refgit" if "refgit" in name else "transformers"]
        same = seen.shape == upright.shape and bool((seen == upright).all())
        lines.append(f"{name}: {seen.shape[0]} x {seen.shape[1]}, {'upright' if same else 'lying'}")
    return lines


ROWS = {
    "pixel-dtype": pixel_dtype,
    "thin-pictures": thin_pictures,
    "wide-grey": wide_grey,
    "transparency": transparency,
    "orientation": orientation,
}
