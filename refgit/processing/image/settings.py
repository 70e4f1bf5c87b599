"""The settings both image processors share: preprocessor_config.json read, checked and written.

`CLIPImageProcessor` turns pictures into `pixel_values` with them, `VideoMAEImageProcessor` videos.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from refgit.errors import CheckpointError, CheckpointWarning
from refgit.files import check_directory, json_text, read_json, write_json
from refgit.hub import find_checkpoint
from refgit.processing.image import steps
from refgit.processing.image.inputs import Layout, Picture, in_layout, sides_of
from refgit.processing.image.methods import ImageMethods
from refgit.processing.image.values import (
    check_divisor,
    number_of,
    per_channel,
    resample_of,
    size_of,
)
from refgit.validation import expect, is_flag

logger = logging.getLogger(__name__)

FILE_NAME = "preprocessor_config.json"
COMBINED_NAME = "processor_config.json"
TYPE_KEYS = ("image_processor_type", "feature_extractor_type")


@dataclass(frozen=True)
class ImageSettings(ImageMethods):
    """Which steps bring a picture to the model's pixels, and with which numbers.

    Its subclasses say what each setting means. Of `image_mean` and `image_std`, None takes the
    statistics of the class, MEAN and STD.
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
            "size": size_of("size", self._or_default("size", 224), square=False),
            "crop_size": size_of("crop_size", self._or_default("crop_size", 224), square=True),
            "resample": resample_of(self.resample),
            "rescale_factor": number_of("rescale_factor", self.rescale_factor),
            "image_mean": per_channel("image_mean", self._or_default("image_mean", self.MEAN)),
            "image_std": per_channel("image_std", self._or_default("image_std", self.STD)),
        }
        check_divisor("image_std", settings["image_std"])
        for name, value in settings.items():
            object.__setattr__(self, name, value)  # the one moment a frozen instance is written

    def _or_default(self, name: str, default: Any) -> Any:
        value = getattr(self, name)
        return default if value is None else value

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
        return json_text(self.to_dict(), ascii_only=False)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Read `preprocessor_config.json` of a checkpoint.

        A directory may hold the same settings in `processor_config.json`, under
        "image_processor", as transformers 5 writes them; these are taken where there are both.

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

        Warns
        -----
        CheckpointWarning
            Both files are there and disagree.
        """
        directory = find_checkpoint(directory, weights=False, revision=revision, token=token)
        path, config = read_image_settings(directory)
        try:
            found = cls.from_dict(config)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
        if path.name == COMBINED_NAME:
            found._tell_disagreement(path)
        return found

    def _tell_disagreement(self, path: Path) -> None:
        """Warn where an older program's file beside this one says something else."""
        other = path.with_name(FILE_NAME)
        if not other.exists():
            return
        try:
            old = type(self).from_dict(read_json(other))
            names = [n for n in self.setting_names() if getattr(self, n) != getattr(old, n)]
        except ValueError:  # broken, or of another type
            names = ["image_processor_type"]
        if names:
            warnings.warn(
                f"{other} and {path.name} beside it disagree on {', '.join(names)}; the latter is "
                "taken, which transformers 5 has written and reads first. Delete the wrong one.",
                CheckpointWarning,
                stacklevel=3,
            )

    def save_pretrained(self, directory: str | Path, processor_class: str | None = None) -> None:
        """Write `preprocessor_config.json`, creating the directory if need be."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.to_dict()
        if processor_class is not None:
            config["processor_class"] = processor_class
        write_json(folder / FILE_NAME, config)
        combined = folder / COMBINED_NAME  # of transformers 5, which would be read first
        if combined.exists():
            content = read_json(combined)
            if "image_processor" in content:
                write_json(combined, {**content, "image_processor": config})

    # -- pictures ------------------------------------------------------------------------------

    def _with(self, overrides: Mapping[str, Any]) -> Self:
        unknown = sorted(set(overrides) - set(self.setting_names()))
        if unknown:
            raise TypeError(
                f"{', '.join(unknown)}: not a setting of the image processor; "
                f"its settings are {', '.join(self.setting_names())}."
            )
        given = {name: value for name, value in overrides.items() if value is not None}
        return replace(self, **given) if given else self

    def _pixel_values(
        self, pictures: Sequence[Picture], first: str, data_format: Layout | None
    ) -> tuple[list[NDArray[np.float32]], Layout]:
        """Take pictures through the steps; return their pixels and where the channels are.

        `first` is what the warning calls the first picture, which decides for all.
        """
        if self.do_rescale and looks_rescaled(pictures[0].pixels):
            logger.warning(
                "The pixel values of %s lie between 0 and 1 and will be rescaled again; pass "
                "do_rescale=False if they are rescaled already.",
                first,
            )
        layout = data_format or pictures[0].layout
        return [self._prepared(picture.pixels, layout) for picture in pictures], layout

    def _prepared(self, image: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
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
        return steps.size_for(height, width, self.size)

    def _crops(self) -> bool:
        return self.do_center_crop


def read_image_settings(directory: str | Path) -> tuple[Path, dict[str, Any]]:
    """Read the settings of a checkpoint's image processor, whichever it is.

    Returns
    -------
    tuple of Path and dict
        The file they are in, and its content.

    Raises
    ------
    CheckpointError
        If the file is missing or not JSON.
    """
    folder = check_directory(directory)
    path = folder / FILE_NAME
    combined = folder / COMBINED_NAME
    config = read_json(combined).get("image_processor") if combined.exists() else None
    if config is None:  # transformers 4 writes processor_config.json without it
        if path.exists() or not combined.exists():
            return path, read_json(path)
        config = {}
    if not isinstance(config, dict):
        raise CheckpointError(
            f'{combined}: "image_processor" is not an object; expected one with the settings.'
        )
    return combined, config


def type_of(config: Mapping[str, Any]) -> Any:
    """Return what the settings call their image processor; None if they do not say."""
    return next((config[key] for key in TYPE_KEYS if config.get(key)), None)


def check_one_size(arrays: Iterable[NDArray[Any]], layout: Layout, what: str, crop: str) -> None:
    """Refuse arrays of different sizes, which cannot form one; `crop` is the remedy."""
    sizes = sorted({sides_of(array, layout) for array in arrays})
    if len(sizes) > 1:
        raise ValueError(
            f"The processed {what} have different sizes {sizes} and cannot form one array; use "
            f"{crop}, a size with height and width, or return_tensors=None."
        )


def looks_rescaled(image: NDArray[Any]) -> bool:
    """Whether the values are between 0 and 1 already; bytes never count as such."""
    return image.dtype != np.uint8 and bool(image.min() >= 0 and image.max() <= 1)
