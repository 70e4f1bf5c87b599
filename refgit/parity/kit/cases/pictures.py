"""The kit's cases of preprocessing: pictures drawn here, as raw RGB and as PNG, and their pixels.

Pillow resizes bytes and rounds twice, after the rows and after the columns. A port that resizes
in floating point differs by a step of a byte here and there. How much that makes is measured: the
same picture resized by the formula, without rounding.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from refgit.parity.kit.case import TextCase
from refgit.parity.numerics.floor import MULTIPLE
from refgit.parity.numerics.precision import UNIT_ROUNDOFF
from refgit.parity.numerics.resampling import antialiased, cubic, triangle
from refgit.processing import CLIPImageProcessor, VideoMAEImageProcessor
from refgit.processing.image.steps import center_crop, min_max_size, size_for
from refgit.traces.container import Tensor

# Tolerance over the distance to the formula; where nothing is resized, MULTIPLE over rounding.
RESIZE_MARGIN = 2.0
SQUARE: dict[str, Any] = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
WHOLE: dict[str, Any] = {"size": {"shortest_edge": 24}, "respect_ratio_max": 36}
# name: (mode of the PNG, width, height, settings, what it shows)
PICTURES: dict[str, tuple[str, int, int, dict[str, Any], str]] = {
    "wide": ("RGB", 70, 40, SQUARE, "wider than high"),
    "high": ("RGB", 33, 61, SQUARE, "higher than wide; odd sizes"),
    "square": ("RGB", 64, 64, SQUARE, "square"),
    "enlarged": ("RGB", 13, 9, SQUARE, "smaller than the model's image"),
    "strip": ("RGB", 120, 7, SQUARE, "a strip, of which the middle is kept"),
    "grey": ("L", 40, 30, SQUARE, "a grey PNG: three equal channels"),
    "alpha": ("RGBA", 40, 30, SQUARE, "a PNG with an alpha channel, which is dropped"),
    "palette": ("P", 40, 30, SQUARE, "a PNG with a palette"),
    "crop-only": (
        "RGB",
        31,
        28,
        {**SQUARE, "do_resize": False},
        "not resized: the crop starts at floor((extent - crop) / 2)",
    ),
    "padded": (
        "RGB",
        20,
        17,
        {**SQUARE, "do_resize": False},
        "not resized and smaller than the crop: zeros (before normalisation) around it, "
        "ceil(missing / 2) of them before",
    ),
    "whole-wide": ("RGB", 70, 40, WHOLE, "respect_ratio_max: the whole picture, no crop"),
    "whole-strip": ("RGB", 90, 31, WHOLE, "respect_ratio_max where the long side is the limit"),
}


def picture_cases() -> Iterator[TextCase]:
    """Pictures for CLIP's processor, and a video for VideoMAE's."""
    for seed, (name, (mode, width, height, settings, what)) in enumerate(PICTURES.items()):
        picture = draw(seed, width, height).convert(mode)
        processor = CLIPImageProcessor(**settings)
        raw = np.array(picture.convert("RGB"))
        yield _case(
            f"preprocess-{name}",
            f"CLIP's processor, {what}.",
            {"image": raw},
            processor,
            {f"{name}.png": picture},
        )
    frames = [draw(100 + i, 50, 38) for i in range(3)]
    yield _case(
        "preprocess-video",
        "VideoMAE's processor (bilinear, mean and deviation 0.5) on three frames; the result is "
        "(1, frames, 3, 24, 24).",
        {"frames": np.stack([np.array(frame) for frame in frames])},
        VideoMAEImageProcessor(**SQUARE),
        {f"video-{i}.png": frame for i, frame in enumerate(frames)},
    )


def draw(seed: int, width: int, height: int) -> Image.Image:
    """A picture with slopes, edges and grain, its colours all different."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    slopes = [x * 200 / width, y * 180 / height, 120 + 80 * np.sin((x + 2 * y) / 9)]
    pixels = np.stack(slopes, axis=-1) + random.randint(0, 30, (height, width, 3))
    top, left = height // 4, width // 3
    pixels[top : top + height // 3 + 1, left : left + width // 4 + 1] = (230, 40, 90)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _case(
    name: str,
    description: str,
    inputs: dict[str, Tensor],
    processor: CLIPImageProcessor | VideoMAEImageProcessor,
    pictures: dict[str, Image.Image],
) -> TextCase:
    (given,) = inputs.values()
    images = [Image.fromarray(x) for x in (given if given.ndim == 4 else given[None])]
    pixels = np.asarray(processor(images, return_tensors="np")["pixel_values"])
    exact = np.stack([by_formula(np.array(image), processor) for image in images])
    noise = float(np.abs(pixels - exact.reshape(pixels.shape)).max())
    return TextCase(
        name,
        "preprocess",
        "preprocess",
        description,
        inputs,
        {"pixel_values": pixels},
        processor.to_dict(),
        {"pixel_values": max(noise, UNIT_ROUNDOFF["float32"] * float(np.abs(pixels).max()))},
        RESIZE_MARGIN if processor.do_resize else MULTIPLE,
        {file: _png(picture) for file, picture in pictures.items()},
    )


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def by_formula(image: Tensor, settings: CLIPImageProcessor | VideoMAEImageProcessor) -> Tensor:
    """Preprocess in float64 without rounding on the way: (H, W, 3) bytes -> (3, H', W')."""
    x = image.astype(np.float64)
    longest = getattr(settings, "respect_ratio_max", None)
    if settings.do_resize:
        height, width = x.shape[:2]
        if longest is None:
            height, width = size_for(height, width, settings.size)
        else:
            height, width = min_max_size(height, width, settings.size["shortest_edge"], longest)
        bilinear = settings.resample == Image.Resampling.BILINEAR  # else bicubic
        kernel = triangle if bilinear else cubic(-0.5)
        rows = antialiased(x.shape[0], height, kernel)
        columns = antialiased(x.shape[1], width, kernel)
        x = np.clip(np.einsum("ri,ijc,sj->rsc", rows, x, columns), 0, 255)
    if settings.do_center_crop and longest is None:
        x = center_crop(x, settings.crop_size["height"], settings.crop_size["width"])
    x = (x * settings.rescale_factor - settings.image_mean) / np.asarray(settings.image_std)
    return np.moveaxis(x, -1, 0)
