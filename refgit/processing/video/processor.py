"""The VideoMAE image processor: frames in, `pixel_values` with a frame axis out.

Its output goes to the image encoder of video checkpoints (GIT paper, section 3), whose
preprocessor_config.json names it. The arithmetic is in `steps.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from refgit.processing.feature import BatchFeature, check_return_tensors, on_device
from refgit.processing.image.inputs import Layout, Picture, check_layout, read_images
from refgit.processing.image.settings import ImageSettings, check_one_size


@dataclass(frozen=True)
class VideoMAEImageProcessor(ImageSettings):
    """Resize, centre-crop, rescale and normalize each frame of a video.

    pixel_values = (crop(resize(frame)) * rescale_factor - image_mean) / image_std

    Parameters
    ----------
    do_resize, do_center_crop, do_rescale, do_normalize : bool
        Which steps are taken.
    size : int or dict
        The size after resizing: {"shortest_edge": n} (or n alone) keeps the aspect ratio,
        {"height": h, "width": w} does not.
    resample : int
        A `PIL.Image.Resampling` value; 2, the default, is bilinear.
    crop_size : int or dict
        {"height": h, "width": w}, or one number for a square.
    rescale_factor : float
        Usually 1/255.
    image_mean, image_std : float or three floats
        Statistics for normalization; 0.5 each unless the file says otherwise.
    extra : dict
        Keys of preprocessor_config.json that mean nothing here; they are written back.

    Raises
    ------
    ValueError
        If a setting has a wrong type or value; the message names it.

    Notes
    -----
    Source: transformers 4.56.2, `VideoMAEImageProcessor`; `pixel_values` are equal to its bit for
    bit wherever it returns three channels. That includes its oddities: frames of the modes YCbCr,
    HSV and LAB, whose three channels are not red, green and blue, are taken as they are; and a
    shape that may be channels-first or -last is taken as first.

    It differs where transformers raises or returns something the model cannot take:

    - the result is always float32 with three channels;
    - frames of all other modes (grey, palette, with alpha, CMYK) are converted to RGB, and grey
      arrays become three equal channels; transformers raises;
    - PIL images 1 pixel high are read as pictures; transformers raises;
    - an array (F, H, W, C) or (F, C, H, W) is one video, one with a further axis before that is
      several; transformers takes lists only;
    - input_data_format concerns arrays only: a PIL image has its channels last;
    - NaN, empty lists, frames without pixels and unknown arguments are refused with a sentence.
    """

    TYPES: ClassVar[tuple[str, ...]] = ("VideoMAEImageProcessor", "VideoMAEFeatureExtractor")
    MEAN: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    STD: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)

    resample: int = 2

    def __call__(
        self,
        videos: Any,
        return_tensors: str | None = "np",
        input_data_format: Layout | None = None,
        data_format: Layout | None = "channels_first",
        **overrides: Any,
    ) -> BatchFeature:
        """Turn videos into `pixel_values`.

        Parameters
        ----------
        videos : list of frames, list of such lists, or array
            One video or several. A frame is a PIL image or an array (H, W), (H, W, C) or
            (C, H, W), C 1 or 3, values 0..255, or 0..1 with do_rescale=False. A single frame is
            a video of one frame.
        return_tensors : "np", the name of a backend, or None
            As for `CLIPImageProcessor`, but None: a list with one list of arrays per video.
        input_data_format, data_format : "channels_first", "channels_last" or None
            As for `CLIPImageProcessor`, with frames for pictures.
        **overrides
            Any setting of the class, for this call; None means unchanged.

        Returns
        -------
        BatchFeature
            `pixel_values` float32 (B, F, 3, H, W), F the frames of a video; or (B, F, H, W, 3)
            with the channels last.

        Raises
        ------
        TypeError
            If something is not a frame, or an override is not a setting.
        ValueError
            If a frame or an override has a wrong shape or value, or if videos differ in their
            number of frames, or frames in size, as arrays.
        """
        check_return_tensors(return_tensors)
        check_layout("data_format", data_format)
        settings = self._with(overrides)
        batch = [
            [_read_frame(frame, name, input_data_format) for name, frame in video]
            for video in _as_videos(videos)
        ]
        frames = [frame for video in batch for frame in video]
        prepared, layout = settings._pixel_values(frames, "the first frame", data_format)
        following = iter(prepared)
        arrays = [list(islice(following, len(video))) for video in batch]
        if return_tensors is None:
            return BatchFeature(pixel_values=arrays)
        lengths = sorted({len(video) for video in arrays})
        if len(lengths) > 1:
            raise ValueError(
                f"The videos have different numbers of frames, {lengths}, and cannot form one "
                "array; sample as many from each, or pass return_tensors=None."
            )
        check_one_size(prepared, layout, "frames", "do_center_crop=True")
        stacked = np.stack([np.stack(video) for video in arrays])  # (B, F, 3, H, W)
        return on_device(BatchFeature(pixel_values=stacked), return_tensors)

    preprocess = __call__


Named = list[tuple[str, Any]]  # frames, each with the name it has in the caller's expression


def _as_videos(videos: Any) -> list[Named]:
    """Bring one frame, one video or several to a list of videos."""
    depth = _depth(videos)
    if depth == 0:
        return [[("videos", videos)]]
    if len(videos) == 0:
        raise ValueError("videos is empty; expected at least one frame.")
    if depth == 1 and not any(_depth(item) for item in videos):
        return [[(f"videos[{i}]", frame) for i, frame in enumerate(videos)]]
    batch = []
    for i, video in enumerate(videos):
        if _depth(video) != 1:
            raise TypeError(
                f"videos[{i}] is of type {type(video).__name__}; expected a list of frames, as "
                "another item of videos is one."
            )
        if len(video) == 0:
            raise ValueError(f"videos[{i}] is empty; expected at least one frame.")
        batch.append([(f"videos[{i}][{j}]", frame) for j, frame in enumerate(video)])
    return batch


def _depth(value: Any) -> int:
    """Return 0 for a frame, 1 for what holds frames or videos, 2 for an array of videos."""
    if isinstance(value, (list, tuple)):
        return 1
    return max(0, getattr(value, "ndim", 0) - 3)


def _read_frame(frame: Any, name: str, layout: Layout | None) -> Picture:
    if isinstance(frame, (list, tuple)):
        raise TypeError(f"{name} is a {type(frame).__name__}; expected a frame of a video.")
    # Three channels stay what they are, as in transformers, which converts no frame at all.
    convert = isinstance(frame, Image.Image) and len(frame.getbands()) != 3
    (picture,) = read_images(frame, convert_rgb=convert, layout=layout, called=name)
    return picture
