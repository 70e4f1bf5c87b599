"""Greedy search: at each step the likeliest word, until the end token.

The image is read once into the cache; each step then costs one token a row. (GIT paper, section
3.1: "the caption is predicted in an auto-regressive manner".)
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from refgit import checks
from refgit.cache import KeyValueCache
from refgit.config import GitConfig
from refgit.generation.config import DEFAULT_LENGTH, GenerationDefaults
from refgit.layers.array_api import Array

if TYPE_CHECKING:
    from refgit.model import GitForCausalLM

Ids = np.ndarray[Any, Any]

# Arguments that ask for what greedy search does anyway, with the values that do.
_HARMLESS = {
    "num_beams": 1,
    "do_sample": False,
    "num_return_sequences": 1,
    "use_cache": True,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
# What generation_config.json may ask for that changes the text, and refgit cannot do yet.
_CHANGES_THE_TEXT = (
    *_HARMLESS,
    "bad_words_ids",
    "begin_suppress_tokens",
    "constraints",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "exponential_decay_length_penalty",
    "force_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "max_time",
    "min_new_tokens",
    "num_beam_groups",
    "penalty_alpha",
    "sequence_bias",
    "stop_strings",
    "suppress_tokens",
)


def generate(
    model: GitForCausalLM,
    pixel_values: Any = None,
    input_ids: Any = None,
    *,
    attention_mask: Any = None,
    head_mask: Any = None,
    past_key_values: KeyValueCache | None = None,
    interpolate_pos_encoding: bool = False,
    max_length: int | None = None,
    max_new_tokens: int | None = None,
    min_length: int | None = None,
    **unsupported: Any,
) -> Array:
    r"""Write a text below each image.

    .. math:: y_t = \arg\max_v \text{logits}_{t-1,v}

    Parameters
    ----------
    model : GitForCausalLM
    pixel_values : array (B', C, S, S) or (B', frames, C, S, S), floating point, optional
        The images or videos.
    input_ids : array (B, T), integer, optional
        What each text starts with; B is a multiple of B'. By default the token
        ``bos_token_id``, once for each image.
    attention_mask : array (B, T), optional
        1 for text, 0 for padding in `input_ids`; padding is seen by no later token. By default
        ``pad_token_id`` is padding wherever it stands in `input_ids`.
    head_mask : array (H,) or (layers, H), optional
        1 for heads of the text decoder that count, 0 for heads to silence.
    past_key_values : KeyValueCache, optional
        From `model.encode_image`, in the place of `pixel_values`; it is left as it was, for
        further texts below the same images.
    interpolate_pos_encoding : bool
        Take images of any height and width.
    max_length : int, optional
        Longest text in tokens, `input_ids` included; generation_config.json's by default. Where
        that sets none, 20 tokens are written after `input_ids`, positions permitting.
    max_new_tokens : int, optional
        Longest continuation in tokens; takes the place of `max_length`.
    min_length : int, optional
        The end token is not chosen before the text has so many tokens, `input_ids` included.

    Returns
    -------
    array (B, length), int64, on the model's backend
        `input_ids` and what was written, to the end token; ``pad_token_id`` after it.

    Raises
    ------
    ValueError, TypeError
        An argument does not fit.
    NotImplementedError
        An argument of transformers' `generate` that is not supported yet; the message names it.

    Notes
    -----
    Source: GIT paper, section 3.1. Ids equal those of transformers 4.56's greedy search.
    """
    defaults = model.generation_defaults
    _refuse(unsupported, defaults.extra)
    cache = _images(model, pixel_values, past_key_values, head_mask, interpolate_pos_encoding)
    ids = _prompt(model, input_ids, cache.num_images or 1)
    room = text_room(model.config, cache.image_length)
    longest = _longest(defaults, ids.shape[1], max_length, max_new_tokens, room)
    shortest = defaults.min_length if min_length is None else _count("min_length", min_length)
    ends = np.atleast_1d([] if defaults.eos_token_id is None else defaults.eos_token_id)
    ends = ends.astype(np.int64)
    writable = ends[ends < model.config.vocab_size]
    finished = np.zeros(len(ids), bool)
    filler = defaults.pad_token_id if defaults.pad_token_id is not None else next(iter(ends), 0)
    new, mask = ids, attention_mask
    if mask is None and input_ids is not None and defaults.pad_token_id not in (None, *ends):
        mask = ids != defaults.pad_token_id
    while True:
        logits = model.next_token_logits(new, cache, attention_mask=mask, head_mask=head_mask)
        scores = model.backend.to_numpy(logits)  # (B, V)
        chosen = _likeliest(scores, writable if ids.shape[1] < shortest else None)
        chosen = np.where(finished, filler, chosen)
        ids = np.concatenate([ids, chosen[:, None]], axis=1)
        finished |= np.isin(chosen, ends)
        if finished.all() or ids.shape[1] >= longest:
            return model.backend.asarray(ids)
        new, mask = chosen[:, None], None


def _refuse(arguments: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Refuse what greedy search does not do, whether the caller or the checkpoint asks for it."""

    def matters(name: str, value: Any) -> bool:
        harmless = name in _HARMLESS and np.ndim(value) == 0 and value == _HARMLESS[name]
        return value is not None and not harmless

    for name, value in arguments.items():
        if matters(name, value):
            raise NotImplementedError(
                f"generate does not support {name}={reprlib.repr(value)} yet; leave the argument "
                "out."
            )
    for name in _CHANGES_THE_TEXT:
        if name not in arguments and matters(name, stored.get(name)):
            raise NotImplementedError(
                f"the checkpoint's generation_config.json asks for {name}="
                f"{reprlib.repr(stored[name])}, which generate does not support yet; pass "
                f"{name}={_HARMLESS.get(name)} for plain greedy search."
            )


def _likeliest(scores: Ids, forbidden: Ids | None) -> Ids:
    """Pick the best word of each row (B, V) -> (B,), the first among equals."""
    if forbidden is not None:
        scores = scores.copy()
        scores[:, forbidden] = -np.inf
    best: Ids = np.argmax(scores, axis=-1)
    return best


def _images(
    model: GitForCausalLM,
    pixel_values: Any,
    past: KeyValueCache | None,
    head_mask: Any,
    any_size: bool,
) -> KeyValueCache:
    """A cache that holds the images and nothing else, for this call alone."""
    if past is None and pixel_values is None:
        return KeyValueCache(model.config.num_hidden_layers)
    if past is None:
        return model.encode_image(
            pixel_values, head_mask=head_mask, interpolate_pos_encoding=any_size
        )
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
            "model.encode_image returns them. Give the text as input_ids."
        )
    return past.fork()


def _prompt(model: GitForCausalLM, input_ids: Any, n_images: int) -> Ids:
    """What the texts start with, on the host."""
    if input_ids is not None:
        ids = model.numbers("input_ids", input_ids)
        checks.input_ids(ids, model.config)
        return ids.astype(np.int64)
    start = model.generation_defaults.bos_token_id
    if start is None:
        raise ValueError("neither input_ids nor a bos_token_id in the config; expected one.")
    return np.full((n_images, 1), start, np.int64)


def text_room(config: GitConfig, n_image: int) -> int:
    """Text tokens a model has positions for, below an image of `n_image` tokens.

    Absolute positions are the text's alone; relative distances run over image and text.
    """
    absolute = config.position_embedding_type == "absolute"
    return config.max_position_embeddings - (0 if absolute else n_image)


def _longest(
    defaults: GenerationDefaults,
    prompt: int,
    max_length: int | None,
    max_new_tokens: int | None,
    room: int,
) -> int:
    """Tokens at which to stop, prompt included."""
    if max_new_tokens is not None:
        longest = prompt + _count("max_new_tokens", max_new_tokens, least=1)
    elif max_length is not None:
        longest = _count("max_length", max_length, least=1)
    elif defaults.max_new_tokens is not None:
        longest = prompt + defaults.max_new_tokens
    elif defaults.max_length == DEFAULT_LENGTH:
        # transformers takes the default for the number of new tokens
        longest = max(prompt + 1, min(prompt + DEFAULT_LENGTH, room))
    else:
        longest = defaults.max_length
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
    return longest


def _count(name: str, value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; expected an integer of at least {least}.")
    return int(value)
