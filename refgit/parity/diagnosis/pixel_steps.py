"""Ways from a picture to what is rescaled and normalised, and from there to pixel values.

The first of each is the processor's own; the others are what other implementations do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from refgit.layers._array_api import Array
from refgit.parity.numerics.resampling import Kernel, antialiased, cubic, interpolating, triangle
from refgit.processing.image.steps import center_crop, resize, shortest_edge_size

FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
Weights: TypeAlias = Callable[[int, int], Array]  # the matrix (n_out, n_in) of n_in and n_out


@dataclass(frozen=True)
class Way:
    """One half of the preprocessing, as the processor or as another implementation does it.

    A geometry goes from a picture (H, W, 3) of bytes to one (h, w, 3) with values from 0 to 255;
    values go from there to pixel values in the layout that the model takes.
    """

    name: str
    text: str
    make: Callable[[Array], Array]
    cost: int = 1
    near: bool = False  # another implementation of it rounds differently


# ---- geometry


def geometries_of(processor: Any) -> Iterator[Way]:
    """The right geometry, and what else people do."""
    crop = (processor.crop_size["height"], processor.crop_size["width"])
    own = FILTERS.get(int(processor.resample), "another filter")

    def through(**settings: Any) -> Callable[[Array], Array]:
        def make(picture: Array) -> Array:
            values = processor(
                picture,
                input_data_format="channels_last",
                data_format="channels_last",
                do_rescale=False,
                do_normalize=False,
                **settings,
            )["pixel_values"]
            return np.asarray(values)[0]

        return make

    plain = through()
    yield Way("", "", plain, 0)
    for number, name in FILTERS.items():
        if name != own:
            text = f"your resize is {name}; it should be {own}"
            yield Way(f"resize {name}", text, through(resample=number))
    yield Way("no resize", "your picture is not resized", through(do_resize=False))
    yield Way("no crop", "your picture is not cropped", through(do_center_crop=False))
    for name, text, weights, rounds in _RESIZES:

        def by_matrix(x: Array, weights: Weights = weights, rounds: bool = rounds) -> Array:
            size = processor._resized(*x.shape[:2])
            return center_crop(_matrix_resize(x, size, weights, rounds), *crop)

        yield Way(name, text, by_matrix, near=True)

    def resized(x: Array, height: int, width: int) -> Array:
        return resize(x, height, width, int(processor.resample))

    def uncropped(x: Array) -> Array:
        return resized(x, *processor._resized(*x.shape[:2]))

    yield Way("squashed", "your picture is resized to a square; the short side should be resized "
              "and the rest cropped", lambda x: resized(x, *crop))  # fmt: skip
    yield Way("crop first", "your picture is cropped to a square before it is resized",
              lambda x: resized(_middle_square(x), *crop))  # fmt: skip
    yield Way("crop from the corner", "your crop is the top left corner; it should be the middle",
              lambda x: uncropped(x)[: crop[0], : crop[1]])  # fmt: skip
    for name, rounding in (("up", math.ceil), ("to even", round)):
        yield Way(
            f"crop rounds {name}",
            f"the start of your crop is rounded {name}; it should be rounded down",
            lambda x, r=rounding: _cropped(uncropped(x), crop, r),  # type: ignore[misc]
        )
        yield Way(
            f"long side rounds {name}",
            f"the long side is rounded {name} in your resize; it should be rounded down",
            lambda x, r=rounding: center_crop(resized(x, *_rounded_size(x, processor, r)), *crop),  # type: ignore[misc]
        )
    for side in (round(crop[0] * 256 / 224), crop[0]):
        if processor.size.get("shortest_edge") not in (None, side):
            yield Way(
                f"short side {side}",
                f"your short side is resized to {side} pixels; it should be "
                f"{processor.size['shortest_edge']}",
                through(size={"shortest_edge": side}),
            )
    yield Way("mirrored", "your picture is mirrored", lambda x: plain(x)[:, ::-1])
    yield Way("upside down", "your picture is upside down", lambda x: plain(x)[::-1])
    yield Way("transposed", "rows and columns of your picture are swapped",
              lambda x: np.swapaxes(plain(x), 0, 1))  # fmt: skip


def _middle_square(picture: Array) -> Array:
    side = min(picture.shape[:2])
    return center_crop(picture, side, side)


def _rounded_size(
    picture: Array, processor: Any, rounding: Callable[[float], int]
) -> tuple[int, int]:
    height, width = picture.shape[:2]
    short = processor.size.get("shortest_edge")
    if short is None:
        raise ValueError("the size is fixed.")
    longer = int(rounding(short * max(height, width) / min(height, width)))
    if longer == max(shortest_edge_size(height, width, short)):
        raise ValueError("both ways of rounding agree.")
    return (longer, short) if width <= height else (short, longer)


def _cropped(x: Array, crop: tuple[int, int], rounding: Callable[[float], int]) -> Array:
    starts = [int(rounding((n - c) / 2)) for n, c in zip(x.shape, crop, strict=False)]
    if min(starts) < 0:
        raise ValueError("the picture is smaller than the crop.")
    return x[starts[0] : starts[0] + crop[0], starts[1] : starts[1] + crop[1]]


def _matrix_resize(picture: Array, size: tuple[int, int], weights: Weights, rounds: bool) -> Array:
    x = picture.astype(np.float64)
    x = np.einsum("ri,iwc->rwc", weights(picture.shape[0], size[0]), x)
    x = np.einsum("sj,rjc->rsc", weights(picture.shape[1], size[1]), x)
    return np.clip(np.round(x), 0, 255) if rounds else x


def _narrow(kernel: Kernel) -> Weights:
    return lambda n_in, n_out: interpolating(n_in, n_out, kernel)


def _wide(kernel: Kernel) -> Weights:
    return lambda n_in, n_out: antialiased(n_in, n_out, kernel)


_RESIZES: tuple[tuple[str, str, Weights, bool], ...] = (
    ("bicubic without antialias", "your bicubic resize does not antialias (a = -0.75)",
     _narrow(cubic(-0.75)), True),
    ("bicubic -0.5 without antialias", "your bicubic resize does not antialias (a = -0.5)",
     _narrow(cubic(-0.5)), True),
    ("bilinear without antialias", "your resize is bilinear and does not antialias; it should be "
     "bicubic with antialiasing", _narrow(triangle), True),
    ("resize in floats", "your resize does not round to bytes", _wide(cubic(-0.5)), False),
    ("bicubic -0.75", "your bicubic kernel has a = -0.75; it should be -0.5",
     _wide(cubic(-0.75)), True),
    ("bicubic in floats without antialias", "your bicubic resize neither antialiases nor rounds to "
     "bytes", _narrow(cubic(-0.75)), False),
    ("bilinear in floats without antialias", "your resize is bilinear and neither antialiases nor "
     "rounds to bytes", _narrow(triangle), False),
    ("bilinear in floats", "your resize is bilinear and does not round to bytes",
     _wide(triangle), False),
)  # fmt: skip


# ---- values


def values_of(processor: Any) -> Iterator[Way]:
    """The right rescaling and normalising, and what else people do."""
    factor = processor.rescale_factor if processor.do_rescale else 1.0
    mean, std = (
        np.broadcast_to(np.asarray(x, np.float64), (3,))
        for x in (processor.image_mean, processor.image_std)
    )
    if not processor.do_normalize:
        mean, std = np.zeros(3), np.ones(3)

    def at(name: str, text: str, make: Callable[[Array], Array], cost: int = 1) -> Way:
        # (h, w, 3) -> (3, h, w)
        return Way(name, text, lambda x: np.moveaxis(make(x.astype(np.float64)), -1, 0), cost)

    def normal(x: Array, m: Any = mean, s: Any = std) -> Array:
        return (x - np.asarray(m)) / np.asarray(s)

    ways: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
        ("BGR", "your colours are BGR; they should be RGB",
         lambda x: normal(x * factor)[..., ::-1]),
        ("BGR before normalising", "your colours are BGR when they are normalised",
         lambda x: normal(x[..., ::-1] * factor)),
        ("BGR statistics", "mean and std are in the order BGR",
         lambda x: normal(x * factor, mean[::-1], std[::-1])),
        ("no rescale", "your pixels are not rescaled by 1/255", lambda x: normal(x)),
        ("rescale twice", "your pixels are rescaled twice",
         lambda x: normal(x * factor * factor)),
        ("rescale by 1/256", "your pixels are divided by 256; it should be 255",
         lambda x: normal(x / 256)),
        ("no normalising", "mean and std are missing", lambda x: x * factor),
        ("no mean", "the mean is not subtracted", lambda x: normal(x * factor, 0)),
        ("no std", "the pixels are not divided by std", lambda x: normal(x * factor, mean, 1)),
        ("normalised twice", "mean and std are applied twice",
         lambda x: normal(normal(x * factor))),
        ("times std", "the pixels are multiplied by std, not divided",
         lambda x: normal(x * factor, mean, 1 / std)),
        ("variance for std", "the pixels are divided by the square of std",
         lambda x: normal(x * factor, mean, std * std)),
        ("ImageNet statistics", "mean and std are ImageNet's; they should be the processor's",
         lambda x: normal(x * factor, *IMAGENET)),
        ("mean and std 0.5", "the pixels are brought to -1 .. 1 (mean and std 0.5)",
         lambda x: normal(x * factor, *HALVES)),
        ("raw bytes", "your pixels are neither rescaled nor normalised", lambda x: x),
    )  # fmt: skip
    yield at("", "", lambda x: normal(x * factor), 0)
    for name, text, make in ways:
        yield at(name, text, make)
    yield Way("channels last", "your pixels have the channels last; the model takes them first",
              lambda x: normal(x.astype(np.float64) * factor))  # fmt: skip
