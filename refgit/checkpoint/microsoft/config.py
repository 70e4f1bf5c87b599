"""The config of one of Microsoft's GIT models: read off the shapes of its tensors.

Shapes tell every width, depth and size. Heads cannot be seen; CLIP's and BERT's are 64 wide. What
the settings say as well must agree with the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from refgit.checkpoint.microsoft.names import FRAMES, TEXT_LAYERS, VISION_LAYERS, count
from refgit.checkpoint.microsoft.settings import ENCODERS, MicrosoftSettings
from refgit.model.config import GitConfig

Shapes = Mapping[str, tuple[int, ...]]

HEAD_WIDTH = 64
# Microsoft's code adds this to the variance of the text embeddings, and 1e-12 in the BERT layers,
# 1e-5 in CLIP and behind the projection of the image.
EMBEDDING_EPS = 1e-8
# Of bert-base-uncased: [PAD], [CLS], [SEP].
PAD_ID, OPENING_ID, CLOSING_ID = 0, 101, 102


def config_from(shapes: Shapes, settings: MicrosoftSettings, source: str) -> GitConfig:
    """Build the config that tensors of these shapes belong to.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        By Microsoft's names, without a prefix.
    settings : MicrosoftSettings
        What is known besides.
    source : str
        What to call `settings` in messages.

    Returns
    -------
    GitConfig

    Raises
    ------
    ValueError
        A tensor that is needed is missing or has an impossible shape, or the settings contradict
        the shapes; the message names the tensor or the setting.
    """
    width, channels, patch, _ = _shape(shapes, "image_encoder.conv1.weight", "D C P P")
    positions, _ = _shape(shapes, "image_encoder.positional_embedding", "N D")
    grid = math.isqrt(max(positions - 1, 0))
    if grid**2 + 1 != positions or grid == 0:
        raise ValueError(
            f"image_encoder.positional_embedding has {positions} rows; expected one for the class "
            "token and one for each patch of a square image."
        )
    inner, _ = _shape(shapes, f"{VISION_LAYERS}0.mlp.c_fc.weight", "F D")
    words, text_width = _shape(shapes, "textual.embedding.words.weight", "V D")
    longest, _ = _shape(shapes, "textual.embedding.positions.weight", "T D")
    text_inner, _ = _shape(shapes, f"{TEXT_LAYERS}0.intermediate.dense.weight", "F D")
    if words <= CLOSING_ID:
        raise ValueError(
            f"textual.embedding.words.weight has {words} rows; expected more than {CLOSING_ID}, "
            "the id of the closing token."
        )
    config = GitConfig.from_dict(
        {
            "architectures": ["GitForCausalLM"],
            "vision_config": {
                "hidden_size": width,
                "intermediate_size": inner,
                "num_hidden_layers": count(shapes, VISION_LAYERS),
                "num_attention_heads": _heads(width, "image_encoder.conv1.weight"),
                "num_channels": channels,
                "image_size": grid * patch,
                "patch_size": patch,
                "hidden_act": "quick_gelu",
                "layer_norm_eps": 1e-5,
            },
            "vocab_size": words,
            "hidden_size": text_width,
            "num_hidden_layers": count(shapes, TEXT_LAYERS),
            "num_attention_heads": _heads(text_width, "textual.embedding.words.weight"),
            "intermediate_size": text_inner,
            "max_position_embeddings": longest,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "embedding_layer_norm_eps": EMBEDDING_EPS,
            "num_image_with_embedding": count(shapes, FRAMES) or None,
            "pad_token_id": PAD_ID,
            "bos_token_id": OPENING_ID,
            "eos_token_id": CLOSING_ID,
        }
    )
    _compare(config, settings, source)
    return config


def _shape(shapes: Shapes, name: str, letters: str) -> tuple[int, ...]:
    """The shape of a tensor that must be there; a letter that stands twice is one number."""
    if name not in shapes:
        raise ValueError(
            f"the tensor {name} is missing; expected all weights of a GIT model, as Microsoft's "
            "code saves them."
        )
    shape, wanted = shapes[name], letters.split()
    square = len(set(zip(wanted, shape, strict=False))) == len(set(wanted))
    if len(shape) != len(wanted) or not square or 0 in shape:
        raise ValueError(f"{name} has shape {shape}; expected ({', '.join(wanted)}).")
    return shape


def _heads(width: int, name: str) -> int:
    if width % HEAD_WIDTH:
        raise ValueError(
            f"{name} says that the model is {width} wide; expected a multiple of {HEAD_WIDTH}, "
            "the width of a head."
        )
    return width // HEAD_WIDTH


def _compare(config: GitConfig, settings: MicrosoftSettings, source: str) -> None:
    """Refuse settings that the shapes contradict."""
    vision = config.vision_config
    found: dict[str, Any] = {
        "visual_feature_size": vision.hidden_size,
        "test_crop_size": vision.image_size,
        "num_image_with_embedding": config.num_image_with_embedding or 0,
    }
    for key, value in found.items():
        said = getattr(settings, key)
        if said not in (None, value):
            raise ValueError(f"{key} is {said} after {source}, and {value} after the tensors.")
    if settings.image_encoder_type is not None:
        encoder = ENCODERS[settings.image_encoder_type]
        for key in ("patch_size", "hidden_size", "num_hidden_layers"):
            if getattr(encoder, key) != getattr(vision, key):
                raise ValueError(
                    f"image_encoder_type is {settings.image_encoder_type} after {source}, whose "
                    f"{key} is {getattr(encoder, key)}; the tensors' is {getattr(vision, key)}."
                )
    if settings.test_respect_ratio_max is not None and config.num_image_with_embedding:
        raise ValueError(
            f"test_respect_ratio_max is {settings.test_respect_ratio_max} after {source}, and the "
            "tensors are those of a video model; expected one or the other, since the frames of a "
            "video are cropped."
        )
