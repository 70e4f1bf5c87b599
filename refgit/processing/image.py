"""The CLIP image processor: pictures in, `pixel_values` out, as preprocessor_config.json says.

It stands before the image encoder; the arithmetic is in `image_steps.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refgit.errors import CheckpointError
from refgit.json_file import check_directory, read_json, write_json

from .feature import BatchFeature, check_return_tensors
from .image_input import Layout, read_images
from .image_steps import center_crop, normalize, rescale, resize, shortest_edge_size

logger = logging.getLogger(__name__)

FILE_NAME = "preprocessor_config.json"
# Statistics of CLIP's training images (CLIP repository, `clip/clip.py`).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_CLIP_TYPES = ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPFeatureExtractor")
_TYPE_KEYS = ("image_processor_type", "feature_extractor_type")


@dataclass(frozen=True)
class CLIPImageProcessor:
    """Resize, centre-crop, rescale and normalize pictures.

    pixel_values = (crop(resize(RGB)) * rescale_factor - image_mean) / image_std

    Parameters
    ----------
    do_resize, do_center_crop, do_rescale, do_normalize, do_convert_rgb : bool
        Which steps are taken.
    size : int or dict
        The size after resizing: {"shortest_edge": n} (or n alone) keeps the aspect ratio,
        {"height": h, "width": w} does not.
    resample : int
        A `PIL.Image.Resampling` value; 3 is bicubic.
    crop_size : int or dict
        {"height": h, "width": w}, or one number for a square.
    rescale_factor : float
        Usually 1/255.
    image_mean, image_std : float or three floats
        Statistics for normalization.
    extra : dict
        Keys of preprocessor_config.json that mean nothing here; they are written back.

    Raises
    ------
    ValueError
        If a setting has a wrong type or value; the message names it.

    Notes
    -----
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

    do_resize: bool = True
    size: Any = None
    resample: int = 3
    do_center_crop: bool = True
    crop_size: Any = None
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Any = CLIP_MEAN
    image_std: Any = CLIP_STD
    do_convert_rgb: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected True or False.")
        settings: dict[str, Any] = {
            "size": _size("size", 224 if self.size is None else self.size, square=False),
            "crop_size": _size(
                "crop_size", 224 if self.crop_size is None else self.crop_size, square=True
            ),
            "resample": _resample(self.resample),
            "rescale_factor": _number("rescale_factor", self.rescale_factor),
            "image_mean": _per_channel(
                "image_mean", CLIP_MEAN if self.image_mean is None else self.image_mean
            ),
            "image_std": _per_channel(
                "image_std", CLIP_STD if self.image_std is None else self.image_std
            ),
        }
        if 0.0 in np.ravel(settings["image_std"]):
            raise ValueError(
                f"image_std is {self.image_std!r}; no value may be 0, it is divided by."
            )
        for name, value in settings.items():
            object.__setattr__(self, name, value)  # the one moment a frozen instance is written

    @property
    def model_input_names(self) -> list[str]:
        """The keys this processor produces."""
        return ["pixel_values"]

    # -- files ---------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> CLIPImageProcessor:
        """Build from the content of preprocessor_config.json; unknown keys go to `extra`.

        Raises
        ------
        NotImplementedError
            If it describes a VideoMAE processor.
        ValueError
            If it describes another processor, or a setting is wrong.
        """
        kind = next((config[key] for key in _TYPE_KEYS if config.get(key)), _CLIP_TYPES[0])
        if str(kind).startswith("VideoMAE"):
            raise NotImplementedError(
                f"The image processor type is {kind!r}: refgit does not read VideoMAE processors "
                "yet; expected CLIPImageProcessor."
            )
        if kind not in _CLIP_TYPES:
            raise ValueError(
                f"The image processor type is {kind!r}; expected one of {', '.join(_CLIP_TYPES)}."
            )
        known = {key: value for key, value in config.items() if key in _SETTINGS}
        extra = {key: value for key, value in config.items() if key not in _SETTINGS}
        return cls(**known, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of preprocessor_config.json, `extra` included."""
        config: dict[str, Any] = {"image_processor_type": _CLIP_TYPES[0], **self.extra}
        for name in _SETTINGS:
            value = getattr(self, name)
            config[name] = dict(value) if isinstance(value, dict) else value
            if isinstance(value, tuple):
                config[name] = list(value)
        return config

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> CLIPImageProcessor:
        """Read `preprocessor_config.json` of a checkpoint directory.

        A directory without it may hold the same settings in `processor_config.json`, under
        "image_processor", as transformers 5 writes them.

        Raises
        ------
        CheckpointError
            If the file is missing, not JSON, or describes something else.
        NotImplementedError
            If it describes a VideoMAE processor.
        """
        folder = check_directory(directory)
        path = folder / FILE_NAME
        combined = folder / "processor_config.json"
        if path.exists() or not combined.exists():
            config = read_json(path)
        else:
            path = combined
            config = read_json(path).get("image_processor", {})
            if not isinstance(config, dict):
                raise CheckpointError(f'{path}: "image_processor" should hold named settings.')
        try:
            return cls.from_dict(config)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def save_pretrained(self, directory: str | Path, processor_class: str | None = None) -> None:
        """Write `preprocessor_config.json`, creating the directory if need be."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.to_dict()
        if processor_class is not None:
            config["processor_class"] = processor_class
        write_json(folder / FILE_NAME, config)

    # -- pixels --------------------------------------------------------------------------------

    def __call__(
        self,
        images: Any,
        return_tensors: str | None = "np",
        input_data_format: Layout | None = None,
        exif_transpose: bool = False,
        **overrides: Any,
    ) -> BatchFeature:
        """Turn pictures into `pixel_values`.

        Parameters
        ----------
        images : PIL image, array, or list of them
            Arrays: (H, W), (H, W, C), (C, H, W) or a batch of the latter two, C 1 or 3, values
            0..255, or 0..1 with do_rescale=False.
        return_tensors : "np" or None
            "np": one array; None: a list with one array per picture.
        input_data_format : "channels_first", "channels_last" or None
            Where arrays have their channels; None infers it from the shape.
        exif_transpose : bool
            Whether PIL images are turned as their EXIF orientation says. Off by default.
        **overrides
            Any setting of the class, for this call; None means unchanged.

        Returns
        -------
        BatchFeature
            `pixel_values` float32 (B, 3, H, W).

        Raises
        ------
        TypeError
            If something is not an image, or an override is not a setting.
        ValueError
            If an image or an override has a wrong shape or value, or sizes differ under "np".
        """
        check_return_tensors(return_tensors)
        settings = self._with(overrides)
        pictures = read_images(
            images,
            convert_rgb=settings.do_convert_rgb,
            layout=input_data_format,
            exif_transpose=exif_transpose,
        )
        if settings.do_rescale and _looks_rescaled(pictures[0]):
            logger.warning(
                "The pixel values of images[0] lie between 0 and 1 and will be rescaled again; "
                "pass do_rescale=False if they are rescaled already."
            )
        arrays = [settings._pixel_values(picture) for picture in pictures]
        if return_tensors is None:
            return BatchFeature(pixel_values=arrays)
        sizes = sorted({array.shape[1:] for array in arrays})
        if len(sizes) > 1:
            raise ValueError(
                f"The processed images have different sizes {sizes} and cannot form one array; use "
                "do_center_crop=True, a size with height and width, or return_tensors=None."
            )
        return BatchFeature(pixel_values=np.stack(arrays))

    preprocess = __call__

    def _with(self, overrides: Mapping[str, Any]) -> CLIPImageProcessor:
        unknown = sorted(set(overrides) - set(_SETTINGS))
        if unknown:
            raise TypeError(
                f"{', '.join(unknown)}: not a setting of the image processor; "
                f"its settings are {', '.join(_SETTINGS)}."
            )
        given = {name: value for name, value in overrides.items() if value is not None}
        return replace(self, **given) if given else self

    def _pixel_values(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Take one picture through the steps."""
        if self.do_resize:
            if "shortest_edge" in self.size:
                edge = self.size["shortest_edge"]
                height, width = shortest_edge_size(image.shape[0], image.shape[1], edge)
            else:
                height, width = self.size["height"], self.size["width"]
            image = resize(image, height, width, self.resample)
        if self.do_center_crop:
            image = center_crop(image, self.crop_size["height"], self.crop_size["width"])
        if self.do_rescale:
            image = rescale(image, self.rescale_factor)
        if self.do_normalize:
            image = normalize(image, self.image_mean, self.image_std)
        return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)  # (H, W, 3) -> (3, H, W)


_SETTINGS = tuple(f.name for f in fields(CLIPImageProcessor) if f.name != "extra")
_SWITCHES = tuple(name for name in _SETTINGS if name.startswith("do_"))


def _looks_rescaled(image: NDArray[Any]) -> bool:
    return image.dtype != np.uint8 and bool(image.min() >= 0 and image.max() <= 1)


def _size(name: str, value: Any, square: bool) -> dict[str, int]:
    """Bring the ways to write a size to one: a dict with the keys this module reads."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    accepted: list[set[str]] = [{"height", "width"}]
    if not square:
        # "longest_edge" may stand there; the CLIP processor of transformers does not look at it.
        accepted += [{"shortest_edge"}, {"shortest_edge", "longest_edge"}]
    if not isinstance(value, Mapping) or set(value) not in accepted:
        wanted = '{"height": h, "width": w}' + ("" if square else ' or {"shortest_edge": n}')
        raise ValueError(f"{name} is {value!r}; expected a number or {wanted}.")
    for key, number in value.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"{name}[{key!r}] is {number!r}; expected a whole number of pixels.")
    return dict(value)


def _resample(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 5:
        raise ValueError(
            f"resample is {value!r}; expected 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box "
            "or 5 hamming."
        )
    return int(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{name} is {value!r}; expected a finite number.")
    return value


def _per_channel(name: str, value: Any) -> float | tuple[float, ...]:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        return _number(name, value)
    if len(value) != 3:
        raise ValueError(f"{name} has {len(value)} values, {value!r}; expected 3, one per channel.")
    return tuple(float(_number(name, number)) for number in value)
