"""The settings both image processors share: preprocessor_config.json read, checked and written.

`image.py` adds what turns pictures into `pixel_values`, `video_image.py` what does so with videos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from refgit.errors import CheckpointError
from refgit.files import check_directory, read_json, write_json
from refgit.hub import find_checkpoint
from refgit.processing.image import steps
from refgit.processing.image.inputs import Layout, in_layout
from refgit.processing.image.methods import ImageMethods
from refgit.processing.image.values import (
    check_divisor,
    number_of,
    per_channel,
    resample_of,
    size_of,
)
from refgit.validation import expect, is_flag

FILE_NAME = "preprocessor_config.json"
TYPE_KEYS = ("image_processor_type", "feature_extractor_type")


@dataclass(frozen=True)
class ImageSettings(ImageMethods):
    """Which steps bring a picture to the model's pixels, and with which numbers.

    Attributes
    ----------
    do_resize, do_center_crop, do_rescale, do_normalize : bool
        Which steps are taken.
    size, crop_size : int or dict
        Where resizing and cropping lead.
    resample : int
        A `PIL.Image.Resampling` value.
    rescale_factor : float
        Usually 1/255.
    image_mean, image_std : float or three floats
        Statistics for normalization; None takes those of the class, MEAN and STD.
    extra : dict
        Keys of preprocessor_config.json that mean nothing here; they are written back.

    Raises
    ------
    ValueError
        If a setting has a wrong type or value; the message names it.
    """

    # What the file may call this processor; the first name is written.
    TYPES: ClassVar[tuple[str, ...]] = ()
    MEAN: ClassVar[tuple[float, ...]]
    STD: ClassVar[tuple[float, ...]]

    do_resize: bool = True
    size: Any = None
    resample: int = 3
    do_center_crop: bool = True
    crop_size: Any = None
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Any = None
    image_std: Any = None
    extra: dict[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        for name in self.setting_names():
            if name.startswith("do_"):
                expect(name, getattr(self, name), is_flag(getattr(self, name)), "True or False")
        settings: dict[str, Any] = {
            "size": size_of("size", 224 if self.size is None else self.size, square=False),
            "crop_size": size_of(
                "crop_size", 224 if self.crop_size is None else self.crop_size, square=True
            ),
            "resample": resample_of(self.resample),
            "rescale_factor": number_of("rescale_factor", self.rescale_factor),
            "image_mean": per_channel(
                "image_mean", self.MEAN if self.image_mean is None else self.image_mean
            ),
            "image_std": per_channel(
                "image_std", self.STD if self.image_std is None else self.image_std
            ),
        }
        check_divisor("image_std", settings["image_std"])
        for name, value in settings.items():
            object.__setattr__(self, name, value)  # the one moment a frozen instance is written

    @property
    def model_input_names(self) -> list[str]:
        """The keys this processor produces."""
        return ["pixel_values"]

    @classmethod
    def setting_names(cls) -> tuple[str, ...]:
        """Return the names of the settings, in the order in which they are written."""
        return tuple(f.name for f in fields(cls) if f.name != "extra")

    # -- files ---------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Build from the content of preprocessor_config.json; unknown keys go to `extra`.

        Raises
        ------
        ValueError
            If it describes another processor, or a setting is wrong.
        """
        kind = type_of(config) or cls.TYPES[0]
        if kind not in cls.TYPES:
            raise ValueError(
                f"The image processor type is {kind!r}; {cls.__name__} expects one of "
                f"{', '.join(cls.TYPES)}."
            )
        names = cls.setting_names()
        known = {key: value for key, value in config.items() if key in names}
        extra = {key: value for key, value in config.items() if key not in names}
        return cls(**known, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of preprocessor_config.json, `extra` included."""
        config: dict[str, Any] = {"image_processor_type": self.TYPES[0], **self.extra}
        for name in self.setting_names():
            value = getattr(self, name)
            config[name] = dict(value) if isinstance(value, dict) else value
            if isinstance(value, tuple):
                config[name] = list(value)
        return config

    def to_json_string(self) -> str:
        """Return the text of preprocessor_config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Read `preprocessor_config.json` of a checkpoint.

        A directory without it may hold the same settings in `processor_config.json`, under
        "image_processor", as transformers 5 writes them.

        Parameters
        ----------
        directory : str or Path
            A checkpoint directory, or the id of a repository on the model hub, of which the small
            files are downloaded.
        revision, token : optional
            Which version to download, and with what right; see `refgit.hub`.

        Raises
        ------
        CheckpointError
            If the file is missing, not JSON, or describes something else; or if the download
            failed.
        """
        directory = find_checkpoint(directory, weights=False, revision=revision, token=token)
        path, config = read_image_settings(directory)
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

    # -- one picture ---------------------------------------------------------------------------

    def _with(self, overrides: Mapping[str, Any]) -> Self:
        unknown = sorted(set(overrides) - set(self.setting_names()))
        if unknown:
            raise TypeError(
                f"{', '.join(unknown)}: not a setting of the image processor; "
                f"its settings are {', '.join(self.setting_names())}."
            )
        given = {name: value for name, value in overrides.items() if value is not None}
        return replace(self, **given) if given else self

    def _pixel_values(self, image: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
        """Take one picture (H, W, 3) through the steps; bring the result to a layout."""
        if self.do_resize:
            height, width = self._resized(image.shape[0], image.shape[1])
            image = steps.resize(image, height, width, self.resample)
        if self._crops():
            image = steps.center_crop(image, self.crop_size["height"], self.crop_size["width"])
        if self.do_rescale:
            image = steps.rescale(image, self.rescale_factor)
        if self.do_normalize:
            image = steps.normalize(image, self.image_mean, self.image_std)
        return np.ascontiguousarray(in_layout(image, layout), np.float32)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that `size` gives a picture."""
        return steps.size_for(height, width, self.size)

    def _crops(self) -> bool:
        return self.do_center_crop


def read_image_settings(directory: str | Path) -> tuple[Path, dict[str, Any]]:
    """Read the settings of a checkpoint's image processor, whichever it is.

    Returns
    -------
    tuple of Path and dict
        The file they stand in, and its content.

    Raises
    ------
    CheckpointError
        If the file is missing or not JSON.
    """
    folder = check_directory(directory)
    path = folder / FILE_NAME
    combined = folder / "processor_config.json"
    if path.exists() or not combined.exists():
        return path, read_json(path)
    config = read_json(combined).get("image_processor", {})
    if not isinstance(config, dict):
        raise CheckpointError(
            f'{combined}: "image_processor" holds no named settings; expected an object of them.'
        )
    return combined, config


def type_of(config: Mapping[str, Any]) -> Any:
    """Return what the settings call their image processor; None if they do not say."""
    return next((config[key] for key in TYPE_KEYS if config.get(key)), None)


def looks_rescaled(image: NDArray[Any]) -> bool:
    """Tell whether the values lie between 0 and 1 already; bytes never count as such."""
    return image.dtype != np.uint8 and bool(image.min() >= 0 and image.max() <= 1)
