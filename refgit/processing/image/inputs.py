"""From what a caller may pass as `images` to a list of (H, W, 3) arrays.

Everything about Pillow modes, EXIF, channel order and nesting is here; `steps.py` sees none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from refgit.validation import expect
from refgit_backends import to_numpy

Layout: TypeAlias = Literal["channels_first", "channels_last"]

logger = logging.getLogger(__name__)

_CHANNEL_COUNTS = (1, 3)  # grey, RGB
_ARRAY_WAYS = ("array", "cuda_array_interface", "dlpack")  # of handing an array over


class Picture(NamedTuple):
    """One picture that was read: `pixels` (H, W, C), and where its channels were."""

    pixels: NDArray[Any]
    layout: Layout


def read_images(
    images: Any,
    *,
    convert_rgb: bool,
    layout: Layout | None,
    exif_transpose: bool = False,
    called: str = "images",
) -> list[Picture]:
    """Turn one image, a batch array, or (nested) lists of them into (H, W, 3) arrays.

    Parameters
    ----------
    images : PIL image, array, or list of them
        Arrays: (H, W), (H, W, C), (C, H, W), or a batch of the latter two; C is 1 or 3.
    convert_rgb : bool
        Whether Pillow images are converted to RGB first.
    layout : "channels_first", "channels_last" or None
        Where arrays have their channels; None infers it from the shape. The first image decides
        for the batch, as in transformers, unless a later image cannot be read that way.
    exif_transpose : bool
        Whether Pillow images are turned as their EXIF orientation says.
    called : str
        What errors call `images`.

    Returns
    -------
    list of Picture
        Their pixels (H, W, 3); grey pictures have three equal channels.

    Raises
    ------
    TypeError
        If something is not an image.
    ValueError
        If an image has the wrong rank or channel count, no pixels, or values that are not finite.
    """
    check_layout("input_data_format", layout)
    pictures = []
    previous: Layout | None = None
    for name, image in _flatten(images, called):
        is_picture = isinstance(image, Image.Image)
        if is_picture:
            array = _picture_to_array(image, name, convert_rgb, exif_transpose)
        else:
            array = _check_array(image, name)
        here: Layout = "channels_last"  # also of (H, W), where there are none
        if array.ndim == 3:
            here = _layout_of(array.shape, name, is_picture, layout, previous)
            previous = previous or here
            if here == "channels_first":
                array = array.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
        else:
            array = array[:, :, None]  # (H, W) -> (H, W, 1)
        if array.shape[2] == 1:
            array = np.repeat(array, 3, axis=2)  # (H, W, 1) -> (H, W, 3)
        pictures.append(Picture(array, here))
    if not pictures:
        raise ValueError(f"{called} is empty; expected at least one image.")
    return pictures


def read_array(image: Any, layout: Layout | None) -> Picture:
    """Turn one colour or grey array, (H, W, C) or (C, H, W), into (H, W, C), C as it is.

    Raises
    ------
    TypeError
        If it is not an array; a Pillow image has a mode, which an array has not.
    ValueError
        As for `read_images`, or if there is no axis of channels.
    """
    check_layout("input_data_format", layout)
    if isinstance(image, Image.Image):
        raise TypeError("image is a PIL image; expected an array: pass numpy.asarray(image).")
    if not _is_array(image):
        raise TypeError(f"image is of type {type(image).__name__}; expected an array.")
    array = _check_array(_to_array(image, "image"), "image")
    if array.ndim != 3:
        raise ValueError(
            f"image has {array.ndim} dimensions, shape {array.shape}; expected (H, W, C) or "
            "(C, H, W), C 1 or 3."
        )
    here = _layout_of(array.shape, "image", False, layout, None)
    return Picture(array.transpose(1, 2, 0) if here == "channels_first" else array, here)


def check_layout(name: str, layout: Any) -> None:
    """Refuse what is neither None nor the name of a layout."""
    known = layout in (None, "channels_first", "channels_last")
    expect(name, layout, known, '"channels_first", "channels_last" or None')


def in_layout(pixels: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Bring (H, W, C) to a layout."""
    return pixels.transpose(2, 0, 1) if layout == "channels_first" else pixels


def sides_of(array: NDArray[Any], layout: Layout) -> tuple[int, ...]:
    """Return the height and width of an array in a layout."""
    return array.shape[1:] if layout == "channels_first" else array.shape[:2]


def _flatten(images: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each single image with the name it has in the caller's expression."""
    if isinstance(images, (list, tuple)):
        for index, item in enumerate(images):
            yield from _flatten(item, f"{name}[{index}]")
    elif isinstance(images, Image.Image):
        yield name, images
    elif _is_array(images):
        array = _to_array(images, name)
        if array.ndim == 4:
            for index, item in enumerate(array):
                yield f"{name}[{index}]", item
        else:
            yield name, array
    else:
        is_path = isinstance(images, (str, bytes, os.PathLike))
        hint = " Open files with refgit.processing.load_image." if is_path else ""
        raise TypeError(
            f"{name} is of type {type(images).__name__}; expected a PIL image, an array, "
            f"or a list of them.{hint}"
        )


def _is_array(value: Any) -> bool:
    return any(hasattr(value, f"__{way}__") for way in _ARRAY_WAYS)


def _to_array(value: Any, name: str) -> NDArray[Any]:
    try:
        return to_numpy(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} cannot be read as a NumPy array: {error}") from error


def _check_array(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Refuse arrays that are not pictures: dtype, rank, size, and values that are not finite."""
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} has dtype {array.dtype}; expected booleans, integers or floats.")
    if array.ndim not in (2, 3):
        raise ValueError(
            f"{name} has {array.ndim} dimensions, shape {array.shape}; expected (H, W), (H, W, C), "
            "(C, H, W), or a batch of (H, W, C) or (C, H, W)."
        )
    if array.size == 0:
        raise ValueError(f"{name} has no pixels: its shape is {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values; expected finite pixel values.")
    return array


def _picture_to_array(
    image: Image.Image, name: str, convert_rgb: bool, exif_transpose: bool
) -> NDArray[Any]:
    """Decode a Pillow image into (H, W, 3), or (H, W) if it is grey and stays unconverted."""
    mode = image.mode
    if 0 in image.size:
        raise ValueError(f"{name} has no pixels: its width and height are {image.size}.")
    try:
        if exif_transpose:
            image = ImageOps.exif_transpose(image)
        if convert_rgb and image.mode != "RGB":
            image = _to_rgb(image)
        array = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{name}, a PIL image of mode {mode}, cannot be read as RGB: {error}."
        ) from error
    if mode in ("P", "PA") and not convert_rgb:
        raise ValueError(f"{name} has mode {mode}: a palette needs do_convert_rgb=True.")
    if array.ndim == 3 and array.shape[2] != 3:
        raise ValueError(
            f"{name} has mode {mode}, {array.shape[2]} channels; expected 1 or 3. "
            "Pass do_convert_rgb=True."
        )
    return _check_array(array, name)


def _to_rgb(image: Image.Image) -> Image.Image:
    if isinstance(image.info.get("transparency"), bytes):
        # Pillow warns that the palette's alpha is lost. It is meant to be, and is not used below.
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _layout_of(
    shape: tuple[int, ...],
    name: str,
    is_picture: bool,
    stated: Layout | None,
    previous: Layout | None,
) -> Layout:
    """Decide where the channels of a rank-3 array are: stated, as before in the batch, inferred."""
    # A picture is known to have three channels, so a height of 1 is not a channel axis.
    counts = (3,) if is_picture else _CHANNEL_COUNTS
    if stated is not None and is_picture:
        return "channels_last"
    if stated is not None:
        channels = shape[0] if stated == "channels_first" else shape[2]
        if channels not in counts:
            raise ValueError(
                f"{name} has shape {shape}, so {channels} channels as input_data_format={stated!r} "
                "has it; expected 1 or 3 channels."
            )
        return stated
    first, last = shape[0] in counts, shape[2] in counts
    if previous is not None and (first if previous == "channels_first" else last):
        return previous
    if not first and not last:
        raise ValueError(
            f"{name} has shape {shape}: neither its first nor its last axis has 1 or 3 channels. "
            "Convert the image to grey or RGB first."
        )
    if first and last:
        logger.warning(
            "%s has shape %s, whose channels may be first or last; they are taken to be first. "
            "Pass input_data_format to say so.",
            name,
            shape,
        )
    return "channels_first" if first else "channels_last"
