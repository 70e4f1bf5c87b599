"""The single steps of an image processor as methods of it: resize, crop, rescale, normalize.

They take and return one array, its channels first or last; the arithmetic is in `steps.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refgit.processing.image import steps
from refgit.processing.image.inputs import Layout, Picture, check_layout, in_layout, read_array
from refgit.processing.image.values import (
    check_divisor,
    number_of,
    per_channel,
    resample_of,
    size_of,
)


class ImageMethods:
    """One step at a time, with the values that are passed: the processor's settings are not used.

    Every method takes `data_format`, where the result has its channels (None: where the image has
    them), and `input_data_format`, where the image has them (None: inferred from the shape); either
    is "channels_first", (C, H, W), or "channels_last", (H, W, C).

    Source: transformers 4.56.2, the methods of these names. Images are arrays (H, W, C) or
    (C, H, W) here, C 1 or 3; pixels are finite.
    """

    resample: int  # what `resize` uses unless told otherwise: the default of the class

    def resize(
        self,
        image: Any,
        size: Any,
        resample: int | None = None,
        data_format: Layout | None = None,
        input_data_format: Layout | None = None,
    ) -> NDArray[Any]:
        """Resize an image as `steps.resize` does.

        Parameters
        ----------
        image : array (H, W, C) or (C, H, W)
            Whole numbers from 0 to 255, or fractions from 0 to 1.
        size : int or dict
            {"shortest_edge": n}, or only n, keeps the aspect ratio; {"height": h, "width": w}
            does not.
        resample : int, optional
            A `PIL.Image.Resampling` value; by default bicubic for CLIP, bilinear for VideoMAE.
        data_format, input_data_format : str, optional
            See the class.

        Returns
        -------
        uint8 array, or float32 where the image holds fractions
            The resized image.

        Raises
        ------
        TypeError, ValueError
            If the image or a value has the wrong form.
        """
        wanted = size_of("size", size, square=False)
        resample = resample_of(type(self).resample if resample is None else resample)
        picture = _read(image, data_format, input_data_format)
        height, width = steps.size_for(picture.pixels.shape[0], picture.pixels.shape[1], wanted)
        return _written(steps.resize(picture.pixels, height, width, resample), picture, data_format)

    def center_crop(
        self,
        image: Any,
        size: Any,
        data_format: Layout | None = None,
        input_data_format: Layout | None = None,
    ) -> NDArray[Any]:
        """Cut out the middle, or surround the image with zeros, as `steps.center_crop` does.

        Parameters
        ----------
        image : array (H, W, C) or (C, H, W)
            The image.
        size : int or dict
            {"height": h, "width": w}, or one number for a square.
        data_format, input_data_format : str, optional
            See the class.

        Returns
        -------
        array of the same dtype
            The crop.

        Raises
        ------
        TypeError, ValueError
            If the image or a value has the wrong form.
        """
        wanted = size_of("size", size, square=True)
        picture = _read(image, data_format, input_data_format)
        cropped = steps.center_crop(picture.pixels, wanted["height"], wanted["width"])
        return _written(cropped, picture, data_format)

    def rescale(
        self,
        image: Any,
        scale: float,
        data_format: Layout | None = None,
        input_data_format: Layout | None = None,
    ) -> NDArray[np.float32]:
        """Multiply an image by a number, as `steps.rescale` does.

        Parameters
        ----------
        image : array (H, W, C) or (C, H, W)
            The image.
        scale : float
            Usually 1/255.
        data_format, input_data_format : str, optional
            See the class.

        Returns
        -------
        float32 array
            The product.

        Raises
        ------
        TypeError, ValueError
            If the image or a value has the wrong form.
        """
        factor = number_of("scale", scale)
        picture = _read(image, data_format, input_data_format)
        return _written(steps.rescale(picture.pixels, factor), picture, data_format)

    def normalize(
        self,
        image: Any,
        mean: Any,
        std: Any,
        data_format: Layout | None = None,
        input_data_format: Layout | None = None,
    ) -> NDArray[Any]:
        """Centre and scale each channel, as `steps.normalize` does.

        Parameters
        ----------
        image : array (H, W, C) or (C, H, W)
            The image.
        mean, std : float or C floats
            What is subtracted, and what is divided by.
        data_format, input_data_format : str, optional
            See the class.

        Returns
        -------
        floating array
            Of the image's dtype; float32 where that is not floating.

        Raises
        ------
        TypeError, ValueError
            If the image or a value has the wrong form.
        """
        picture = _read(image, data_format, input_data_format)
        channels = picture.pixels.shape[2]
        centre = per_channel("mean", mean, channels)
        scale = per_channel("std", std, channels)
        check_divisor("std", scale)
        return _written(steps.normalize(picture.pixels, centre, scale), picture, data_format)


def _read(image: Any, data_format: Layout | None, input_data_format: Layout | None) -> Picture:
    check_layout("data_format", data_format)
    return read_array(image, input_data_format)


def _written(pixels: NDArray[Any], picture: Picture, data_format: Layout | None) -> NDArray[Any]:
    return np.ascontiguousarray(in_layout(pixels, data_format or picture.layout))
