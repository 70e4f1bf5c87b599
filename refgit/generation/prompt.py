"""What texts start with, without padding, and how long they may become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refgit.generation.config import DEFAULT_LENGTH, GenerationConfig
from refgit.generation.logits.scores import Ids, Mask
from refgit.model import checks
from refgit.model.cache import KeyValueCache
from refgit.model.config import GitConfig

if TYPE_CHECKING:
    from refgit.model.git import GitForCausalLM


@dataclass(frozen=True)
class Prompts:
    """The beginnings of texts.

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
    model: GitForCausalLM,
    input_ids: Any,
    attention_mask: Any,
    config: GenerationConfig,
    n_images: int,
) -> Prompts:
    """Check what was given, and leave padding out.

    Without `input_ids` each image has a text that starts with ``bos_token_id``. Without
    `attention_mask` the padding token is padding wherever it stands, unless it also ends texts, as
    in transformers.

    Raises
    ------
    ValueError, TypeError
        The ids are no (B, T) of words, or do not fit the images; or a row is nothing but padding.
    """
    if input_ids is None:
        if config.bos_token_id is None:
            raise ValueError(
                "neither input_ids nor a bos_token_id in the config, the token that opens a text; "
                "expected one of them."
            )
        ids = np.full((n_images, 1), config.bos_token_id, np.int64)
        checks.input_ids(ids, model.config)
    else:
        found = model.numbers("input_ids", input_ids)
        checks.input_ids(found, model.config)
        ids = found.astype(np.int64)
    checks.batches(len(ids), n_images)
    mask = _mask(model, ids, attention_mask, None if input_ids is None else config)
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        raise ValueError(
            f"attention_mask says that row {empty[0]} of input_ids is nothing but padding; "
            "expected at least one token to start from, such as bos_token_id."
        )
    return Prompts(ids, [row[here] for row, here in zip(ids, mask, strict=True)])


def _mask(
    model: GitForCausalLM, ids: Ids, attention_mask: Any, config: GenerationConfig | None
) -> Mask:
    """Say which tokens are none of the padding, bool (B, T)."""
    if attention_mask is not None:
        mask = model.numbers("attention_mask", attention_mask)
        checks.attention_mask(mask, ids.shape[0], ids.shape[1], past=0)
        return np.asarray(mask != 0)
    everything = np.ones(ids.shape, bool)
    if config is None or config.pad_token_id in (None, *config.eos_ids):
        return everything
    mask = np.asarray(ids != config.pad_token_id)
    mask[~mask.any(axis=1)] = True  # a row of that token alone can only be meant
    return mask


def check_images_alone(past: KeyValueCache | None, pixel_values: Any) -> None:
    """Refuse past_key_values that hold no images alone, or come besides images."""
    if past is None:
        return
    if not isinstance(past, KeyValueCache):
        raise TypeError(
            f"past_key_values is a {type(past).__name__}; expected the KeyValueCache that "
            "model.encode_image returned."
        )
    if pixel_values is not None:
        raise ValueError(
            "pixel_values and past_key_values were given together; the cache holds the images "
            "already, so leave pixel_values out."
        )
    if past.text_length:
        raise ValueError(
            f"past_key_values holds {past.text_length} text tokens; expected images alone, as "
            "model.encode_image returns them. Give the text as a prompt."
        )


def text_room(config: GitConfig, n_image: int) -> int:
    """Text tokens a model has positions for, below an image of `n_image` tokens.

    Absolute positions are the text's alone; relative distances run over image and text.
    """
    absolute = config.position_embedding_type == "absolute"
    return config.max_position_embeddings - (0 if absolute else n_image)


def with_lengths(
    config: GenerationConfig, prompt: int, room: int, *, chosen: bool
) -> GenerationConfig:
    """Settle how long and how short a text is to become, for a prompt of so many tokens.

    Parameters
    ----------
    config : GenerationConfig
    prompt : int
        Tokens of the prompt.
    room : int
        Text tokens that the model has positions for.
    chosen : bool
        Whether the caller gave `max_length`; where nobody did, 20 tokens are written after the
        prompt, positions permitting.

    Returns
    -------
    GenerationConfig
        `max_length` and `min_length` count the prompt and hold.

    Raises
    ------
    ValueError
        The prompt leaves no room for a word, or the model has not so many positions.
    """
    longest = config.max_length
    if config.max_new_tokens is not None:
        longest = prompt + config.max_new_tokens
    elif not chosen and longest == DEFAULT_LENGTH:
        # transformers takes the default for the number of new tokens
        longest = max(prompt + 1, min(prompt + DEFAULT_LENGTH, room))
    if prompt >= longest:
        raise ValueError(
            f"input_ids has {prompt} tokens and max_length is {longest}; expected a larger "
            "max_length, or max_new_tokens in its place."
        )
    if longest > room + 1:  # the last word written is never read
        raise ValueError(
            f"texts of {longest} tokens were asked for; this model has learned positions for "
            f"{max(room, 0)} (config.max_position_embeddings, less the image's tokens with "
            "relative positions). Lower max_length or max_new_tokens."
        )
    shortest = config.min_length
    if config.min_new_tokens is not None:
        shortest = prompt + config.min_new_tokens
    return config.replace(max_length=longest, min_length=shortest)
