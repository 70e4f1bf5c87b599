"""The config of one of Microsoft's GIT models: read off the shapes of its tensors.

Shapes tell every width, depth and size. Heads cannot be seen; CLIP's and BERT's are 64 wide. What
the settings say as well must agree with the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from refgit.checkpoint.microsoft.names import FRAMES, TEXT_LAYERS, VISION_LAYERS, count, tensors
from refgit.checkpoint.microsoft.settings import ENCODERS, MicrosoftSettings

Shapes = Mapping[str, tuple[int, ...]]

HEAD_WIDTH = 64
# Microsoft's code adds this to the variance of the text embeddings, and 1e-12 in the BERT layers,
# 1e-5 in CLIP and behind the projection of the image.
EMBEDDING_EPS = 1e-8
# The tensors that define the sizes; every other tensor is compared with these.
_SIZED = (
    "image_encoder.conv1.weight",
    "image_encoder.positional_embedding",
    f"{VISION_LAYERS}0.mlp.c_fc.weight",
    "textual.embedding.words.weight",
    "textual.embedding.positions.weight",
    f"{TEXT_LAYERS}0.intermediate.dense.weight",
)
# Of bert-base-uncased: [PAD], [CLS], [SEP].
PAD_ID, OPENING_ID, CLOSING_ID = 0, 101, 102


def sizes_of(shapes: Shapes) -> dict[str, int]:
    """Read the sizes of the model off the shapes of the tensors that define them.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        By Microsoft's names, without a prefix.

    Returns
    -------
    dict of str to int
        By the letters of `refgit.checkpoint.microsoft.names`.

    Raises
    ------
    ValueError
        One of these tensors is missing or has an impossible shape; the message names it.
    """
    known = tensors(1, 1, 0)
    sizes: dict[str, int] = {}
    for name in _SIZED:
        wanted = known[name].shape.split()
        if name not in shapes:
            raise ValueError(
                f"the tensor {name} is missing; expected all weights of a GIT model, as "
                "Microsoft's code saves them."
            )
        shape = shapes[name]
        square = len(set(zip(wanted, shape, strict=False))) == len(set(wanted))
        if len(shape) != len(wanted) or not square or 0 in shape:
            raise ValueError(f"{name} has shape {shape}; expected ({', '.join(wanted)}).")
        # The first tensor with a letter decides; where another differs, its shape is refused later.
        sizes = dict(zip(wanted, shape, strict=True)) | sizes
    return sizes


def config_from(
    shapes: Shapes, sizes: Mapping[str, int], settings: MicrosoftSettings, source: str
) -> dict[str, Any]:
    """Build the config.json that tensors of these shapes belong to.

    Parameters
    ----------
    shapes, sizes : mapping
        Every tensor's, and what `sizes_of` read off them.
    settings : MicrosoftSettings
        What else is known.
    source : str
        What to call `settings` in messages.

    Returns
    -------
    dict
        The entries of config.json that the tensors or Microsoft's code decide.

    Raises
    ------
    ValueError
        A size is impossible, or the settings contradict the shapes; the message names the tensor
        or the setting.
    """
    positions, words = sizes["N"], sizes["V"]
    grid = math.isqrt(max(positions - 1, 0))
    if grid**2 + 1 != positions or grid == 0:
        raise ValueError(
            f"image_encoder.positional_embedding has {positions} rows; expected one for the class "
            "token and one for each patch of a square image."
        )
    if words <= CLOSING_ID:
        raise ValueError(
            f"textual.embedding.words.weight has {words} rows; expected more than {CLOSING_ID}, "
            "the id of the closing token."
        )
    config = {
        "model_type": "git",
        "architectures": ["GitForCausalLM"],
        "vision_config": {
            "hidden_size": sizes["D"],
            "intermediate_size": sizes["F"],
            "num_hidden_layers": count(shapes, VISION_LAYERS),
            "num_attention_heads": _heads(sizes["D"], "image_encoder.conv1.weight"),
            "num_channels": sizes["C"],
            "image_size": grid * sizes["P"],
            "patch_size": sizes["P"],
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
        "vocab_size": words,
        "hidden_size": sizes["E"],
        "num_hidden_layers": count(shapes, TEXT_LAYERS),
        "num_attention_heads": _heads(sizes["E"], "textual.embedding.words.weight"),
        "intermediate_size": sizes["G"],
        "max_position_embeddings": sizes["T"],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "embedding_layer_norm_eps": EMBEDDING_EPS,
        "num_image_with_embedding": count(shapes, FRAMES) or None,
        "pad_token_id": PAD_ID,
        "bos_token_id": OPENING_ID,
        "eos_token_id": CLOSING_ID,
    }
    _compare(config, settings, source)
    return config


def _heads(width: int, name: str) -> int:
    if width % HEAD_WIDTH:
        raise ValueError(
            f"{name} says that the model is {width} wide; expected a multiple of {HEAD_WIDTH}, "
            "the width of a head."
        )
    return width // HEAD_WIDTH


def _compare(config: Mapping[str, Any], settings: MicrosoftSettings, source: str) -> None:
    """Refuse settings that the shapes contradict."""
    vision, frames = config["vision_config"], config["num_image_with_embedding"]
    found: dict[str, Any] = {
        "visual_feature_size": vision["hidden_size"],
        "test_crop_size": vision["image_size"],
        "num_image_with_embedding": frames or 0,
    }
    for key, value in found.items():
        said = getattr(settings, key)
        if said not in (None, value):
            raise ValueError(f"{key} is {said} after {source}, and {value} after the tensors.")
    if settings.image_encoder_type is not None:
        for key, value in ENCODERS[settings.image_encoder_type].items():
            if value != vision[key]:
                raise ValueError(
                    f"image_encoder_type is {settings.image_encoder_type} after {source}, whose "
                    f"{key} is {value}; the tensors' is {vision[key]}."
                )
    if settings.test_respect_ratio_max is not None and frames:
        raise ValueError(
            f"test_respect_ratio_max is {settings.test_respect_ratio_max} after {source}, and the "
            "tensors are those of a video model; expected one or the other, since the frames of a "
            "video are cropped."
        )
