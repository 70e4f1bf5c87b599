"""What texts start with: the images, and the prompts without padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refgit.generation.config import GenerationConfig
from refgit.generation.logits.scores import Ids, Mask
from refgit.generation.protocol import Cache, CaptionModel


class Prompts(NamedTuple):
    """What texts start with.

    Attributes
    ----------
    ids : int64 array (B, T)
        As they were given, padding included.
    rows : list of int64 arrays (T_b,)
        What is read: without padding, wherever it stood.
    """

    ids: Ids
    rows: list[Ids]


def read_prompts(
    model: CaptionModel,
    input_ids: Any,
    attention_mask: Any,
    config: GenerationConfig,
    n_images: int,
) -> Prompts:
    """Check what was given, and leave padding out.

    Without `input_ids` each image has a text that starts with ``bos_token_id``. Without
    `attention_mask` the padding token is padding wherever it occurs, unless it also ends texts, as
    in transformers.

    Raises
    ------
    ValueError, TypeError
        The ids are not (B, T) of the vocabulary, or do not fit the images; or a row is nothing but
        padding.
    """
    if input_ids is None:
        input_ids = np.full((n_images, 1), opening_token(config, "input_ids"), np.int64)
    ids, mask = model.checked_text(input_ids, attention_mask, num_images=n_images)
    ids = ids.astype(np.int64)
    kept = _text_of(ids, config) if mask is None else mask != 0
    empty = np.flatnonzero(~kept.any(axis=1))
    if len(empty):
        raise ValueError(
            f"attention_mask says that row {empty[0]} of input_ids is nothing but padding; "
            "expected at least one token to start from, such as bos_token_id."
        )
    return Prompts(ids, [row[here] for row, here in zip(ids, kept, strict=True)])


def opening_token(config: GenerationConfig, name: str) -> int:
    """Return ``bos_token_id``, in the place of an argument that was not given."""
    if config.bos_token_id is None:
        raise ValueError(
            f"neither {name} nor a bos_token_id in the config, the token that opens a text; "
            "expected one of them."
        )
    return config.bos_token_id


def _text_of(ids: Ids, config: GenerationConfig) -> Mask:
    """Which tokens (B, T) are not padding, told by the padding token."""
    if config.pad_token_id in (None, *config.eos_ids):
        return np.ones(ids.shape, bool)
    mask = np.asarray(ids != config.pad_token_id)
    mask[~mask.any(axis=1)] = True  # a row of nothing but that token can only be meant
    return mask


class Images(NamedTuple):
    """The images of a call, checked and not yet read.

    Attributes
    ----------
    length : int
        Tokens of each, N; 0 without images.
    number : int
        Images B', 1 without images.
    read : callable
        Reads them: a cache that holds them, or nothing, and no text. ``head_mask`` is an argument.
    """

    length: int
    number: int
    read: Callable[[Any], Cache]


def check_images(
    model: CaptionModel, pixel_values: Any, past_key_values: Any, *, any_size: bool
) -> Images:
    """Check the images that texts are written below, before any of them is read.

    Raises
    ------
    ValueError, TypeError
        The pixels do not fit the model; or `past_key_values` belongs to another model, holds text,
        or comes besides pixels.
    """
    if past_key_values is not None:
        past = model.checked_cache(past_key_values)
        if pixel_values is not None:
            raise ValueError(
                "pixel_values and past_key_values were given together; the cache holds the images "
                "already, so leave pixel_values out."
            )
        if past.text_length:
            raise ValueError(
                f"past_key_values holds {past.text_length} text tokens; expected only images, as "
                "model.encode_image returns them. Give the text as a prompt."
            )
        return Images(past.image_length, past.num_images or 1, lambda head_mask: past)
    if pixel_values is None:
        return Images(0, 1, lambda head_mask: model.empty_cache())
    pixels = model.checked_pixels(pixel_values, any_size=any_size)
    return Images(
        model.count_image_tokens(pixels),
        pixels.shape[0],
        lambda head_mask: model.encode_checked(pixels, head_mask=head_mask),
    )
