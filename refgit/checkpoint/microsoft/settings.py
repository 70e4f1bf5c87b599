"""What Microsoft's code is told about each of its GIT models, beyond the weights.

The settings are in a parameter.yaml (aux_data/models/NAME of the repository
microsoft/GenerativeImage2Text); the table here holds the same for every model of its README.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from refgit.checkpoint.microsoft.yaml import Scalar
from refgit.errors import CheckpointError
from refgit.validation import expect, integer


@dataclass(frozen=True)
class MicrosoftSettings:
    """The keys of parameter.yaml; None where nothing is said.

    Attributes
    ----------
    image_encoder_type : str or None
        Which CLIP the image encoder began as: one of ENCODERS.
    visual_feature_size : int or None
        Width of the image encoder's tokens.
    test_crop_size : int or None
        Side of the image in pixels, or its short side.
    test_respect_ratio_max : int or None
        Longest side in pixels, of an image that is resized and not cropped.
    num_image_with_embedding : int or None
        Frames of a video that have a learned time embedding; 0 is none.

    Raises
    ------
    ValueError
        A value is of the wrong type; the message names the key.
    """

    image_encoder_type: str | None = None
    visual_feature_size: int | None = None
    test_crop_size: int | None = None
    test_respect_ratio_max: int | None = None
    num_image_with_embedding: int | None = None

    def __post_init__(self) -> None:
        encoder = self.image_encoder_type
        known = encoder in (None, *ENCODERS)
        expect("image_encoder_type", encoder, known, f"one of {', '.join(ENCODERS)}")
        for name in KEYS[1:]:
            value, least = getattr(self, name), int(name != "num_image_with_embedding")
            if value is not None:
                integer(name, value, least)


KEYS = tuple(f.name for f in fields(MicrosoftSettings))


# CLIP's vision transformers: side P of a patch, width D, layers.
ENCODERS = {
    "CLIPViT_B_16": {"patch_size": 16, "hidden_size": 768, "num_hidden_layers": 12},
    "CLIPViT_L_14": {"patch_size": 14, "hidden_size": 1024, "num_hidden_layers": 24},
}


def _base(crop: int = 224, longest: int | None = None, frames: int = 0) -> MicrosoftSettings:
    return MicrosoftSettings("CLIPViT_B_16", 768, crop, longest, frames)


def _large(crop: int = 224, longest: int | None = None, frames: int = 0) -> MicrosoftSettings:
    return MicrosoftSettings("CLIPViT_L_14", 1024, crop, longest, frames)


# Every model of the README. Captions: 224 pixels, cropped. Questions about images: larger, and
# whole. Videos: 6 frames.
MODELS: Mapping[str, MicrosoftSettings] = {
    "GIT_BASE": _base(),
    "GIT_BASE_COCO": _base(),
    "GIT_BASE_TEXTCAPS": _base(),
    "GIT_BASE_VQAv2": _base(480, 640),
    "GIT_BASE_TEXTVQA": _base(480, 640),
    "GIT_BASE_VATEX": _base(frames=6),
    "GIT_BASE_MSRVTT": _base(frames=6),
    "GIT_BASE_MSRVTT_QA": _base(frames=6),
    "GIT_LARGE": _large(),
    "GIT_LARGE_COCO": _large(),
    "GIT_LARGE_TEXTCAPS": _large(),
    "GIT_LARGE_VQAv2": _large(420, 560),
    "GIT_LARGE_TEXTVQA": _large(420, 560),
    "GIT_LARGE_VATEX": _large(frames=6),
    "GIT_LARGE_MSRVTT": _large(frames=6),
    "GIT_LARGE_MSRVTT_QA": _large(frames=6),
    "GIT_LARGE_R": _large(),
    "GIT_LARGE_R_COCO": _large(),
    "GIT_LARGE_R_TEXTCAPS": _large(),
}


def settings_of(name: str) -> MicrosoftSettings:
    """Look a model up by its name, GIT_BASE_VQAv2, or its name on the hub, git-base-vqav2.

    Raises
    ------
    CheckpointError
        There is no such model.
    """
    wanted = name.upper().replace("-", "_")
    for known, settings in MODELS.items():
        if known.upper() == wanted:
            return settings
    raise CheckpointError(
        f"{name} is none of Microsoft's GIT models; expected one of {', '.join(MODELS)}."
    )


def settings_in(parameters: Mapping[str, Scalar]) -> tuple[MicrosoftSettings, list[str]]:
    """Take up the content of a parameter.yaml.

    Returns
    -------
    MicrosoftSettings, list of str
        The settings, and the keys that mean nothing here. Microsoft's code passes over such keys,
        and so does refgit; they are for the user to hear of.

    Raises
    ------
    ValueError
        A value is of the wrong type, or the file builds on another one.
    """
    if "_base_" in parameters:
        raise ValueError(
            f"_base_ is {parameters['_base_']!r}, so the file builds on another one; expected all "
            "settings in one file: copy them into it."
        )
    known = {key: value for key, value in parameters.items() if key in KEYS}
    settings = MicrosoftSettings(**known)  # type: ignore[arg-type]  # checked as it is built
    return settings, [key for key in parameters if key not in KEYS]


def agree(
    one: MicrosoftSettings, other: MicrosoftSettings, sources: tuple[str, str]
) -> MicrosoftSettings:
    """Join two sets of settings, of which neither need say everything.

    Raises
    ------
    CheckpointError
        They say different things; the message names the key and both sources.
    """
    joined = {}
    for key in KEYS:
        first, second = getattr(one, key), getattr(other, key)
        if None not in (first, second) and first != second:
            raise CheckpointError(
                f"{key} is {first!r} after {sources[0]} and {second!r} after {sources[1]}; "
                "expected them to agree. Leave out the wrong one."
            )
        joined[key] = second if first is None else first
    return MicrosoftSettings(**joined)
