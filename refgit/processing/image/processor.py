"""The CLIP image processor: pictures in, `pixel_values` out, as preprocessor_config.json says.

Its output goes to the image encoder; the arithmetic is in `steps.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgit.processing.feature import BatchFeature, check_return_tensors, on_device
from refgit.processing.image.inputs import Layout, check_layout, read_images
from refgit.processing.image.settings import ImageSettings, check_one_size
from refgit.processing.image.steps import min_max_size
from refgit.validation import expect, is_size

# Statistics of CLIP's training images (CLIP repository, `clip/clip.py`).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class CLIPImageProcessor(ImageSettings):
    """Resize, centre-crop, rescale and normalize pictures.

    pixel_values = (crop(resize(RGB)) * rescale_factor - image_mean) / image_std

    Parameters
    ----------
    do_resize, do_center_crop, do_rescale, do_normalize, do_convert_rgb : bool
        Which steps are taken.
    size : int or dict
        The size after resizing: {"shortest_edge": n} (or only n) keeps the aspect ratio,
        {"height": h, "width": w} does not.
    resample : int
        A `PIL.Image.Resampling` value; 3 is bicubic.
    crop_size : int or dict
        {"height": h, "width": w}, or one number for a square.
    rescale_factor : float
        Usually 1/255.
    image_mean, image_std : float or three floats
        Statistics for normalization.
    respect_ratio_max : int, optional
        Keep the whole picture: resize so that the short side has size["shortest_edge"], or less
        where the long side would pass this limit, and do not crop. The rule is
        `steps.min_max_size`. None, the default, crops.
    extra : dict
        Keys of preprocessor_config.json that mean nothing here; they are written back.

    Raises
    ------
    ValueError
        If a setting has a wrong type or value; the message names it.

    Notes
    -----
    Microsoft's TextVQA and VQAv2 models were evaluated with `respect_ratio_max` (640 at 480 pixels,
    560 at 420); pictures then differ in size, and the model interpolates its positions. Hub
    checkpoints crop.

    Source: transformers 4.56.2, `CLIPImageProcessor` (the slow one); `pixel_values` are equal to
    its bit for bit wherever it returns three channels. That includes two of its oddities: a shape
    that may be channels-first or -last is taken as first, even for a PIL image 3 pixels high
    (pass input_data_format="channels_last" to avoid that); and the first image decides the channel
    order of a batch.

    It differs where transformers raises or returns something the model cannot take:

    - the result is always float32 with three channels; transformers keeps other dtypes when
      neither rescaling nor normalizing, and one channel for grey arrays when not normalizing;
    - grey arrays (H, W), (1, H, W), (H, W, 1) become three equal channels; transformers raises;
    - PIL images 1 pixel high are read as pictures; transformers raises;
    - input_data_format concerns arrays only: a PIL image has its channels last;
    - paths and URLs are refused: open files with `refgit.processing.load_image`;
    - NaN, empty lists, pictures without pixels, unknown arguments and sizes beyond 2**28 pixels
      after resizing are refused with a sentence.
    """

    TYPES: ClassVar[tuple[str, ...]] = (
        "CLIPImageProcessor",
        "CLIPImageProcessorFast",
        "CLIPFeatureExtractor",
    )
    MEAN: ClassVar[tuple[float, ...]] = CLIP_MEAN
    STD: ClassVar[tuple[float, ...]] = CLIP_STD

    do_convert_rgb: bool = True
    respect_ratio_max: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        longest = self.respect_ratio_max
        right = longest is None or is_size(longest)
        expect("respect_ratio_max", longest, right, "a whole number of pixels or None")
        if longest is not None and "shortest_edge" not in self.size:
            raise ValueError(
                f"respect_ratio_max is {longest}, which keeps the aspect ratio, and size is "
                f'{self.size!r}, which does not; expected size={{"shortest_edge": n}}.'
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the content of preprocessor_config.json; `respect_ratio_max` only when set."""
        config = super().to_dict()
        if self.respect_ratio_max is None:
            del config["respect_ratio_max"]
        return config

    # -- pixels --------------------------------------------------------------------------------

    def __call__(
        self,
        images: Any,
        return_tensors: str | None = "np",
        input_data_format: Layout | None = None,
        exif_transpose: bool = False,
        data_format: Layout | None = "channels_first",
        **overrides: Any,
    ) -> BatchFeature:
        """Turn pictures into `pixel_values`.

        Parameters
        ----------
        images : PIL image, array, or list of them
            Arrays: (H, W), (H, W, C), (C, H, W) or a batch of the latter two, C 1 or 3, values
            0..255, or 0..1 with do_rescale=False.
        return_tensors : "np", the name of a backend, or None
            "np": one array; a backend's name, such as "cupy": one of its arrays, on its device;
            None: a list with one array per picture.
        input_data_format : "channels_first", "channels_last" or None
            Where arrays have their channels; None infers it from the shape.
        exif_transpose : bool
            Whether PIL images are turned as their EXIF orientation says. Off by default.
        data_format : "channels_first", "channels_last" or None
            Where the result has its channels; None: where the first picture has them, which of PIL
            images and (H, W) is last. The model takes channels first.
        **overrides
            Any setting of the class, for this call; None means unchanged.

        Returns
        -------
        BatchFeature
            `pixel_values` float32 (B, 3, H, W), or (B, H, W, 3) with the channels last.

        Raises
        ------
        TypeError
            If something is not an image, or an override is not a setting.
        ValueError
            If an image or an override has a wrong shape or value, or sizes differ as arrays.
        """
        check_return_tensors(return_tensors)
        check_layout("data_format", data_format)
        settings = self._with(overrides)
        pictures = read_images(
            images,
            convert_rgb=settings.do_convert_rgb,
            layout=input_data_format,
            exif_transpose=exif_transpose,
        )
        arrays, layout = settings._pixel_values(pictures, "images[0]", data_format)
        if return_tensors is None:
            return BatchFeature(pixel_values=arrays)
        check_one_size(arrays, layout, "images", "do_center_crop=True without respect_ratio_max")
        return on_device(BatchFeature(pixel_values=np.stack(arrays)), return_tensors)

    preprocess = __call__

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.respect_ratio_max is None:
            return super()._resized(height, width)
        return min_max_size(height, width, self.size["shortest_edge"], self.respect_ratio_max)

    def _crops(self) -> bool:
        return self.do_center_crop and self.respect_ratio_max is None
