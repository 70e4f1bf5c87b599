"""What a caller hands to a model: found to fit, or refused, and brought to the backend.

Each message names the argument, what was found, what was expected and what to do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.model.cache import KeyValueCache
from refgit.model.config import GitConfig, GitVisionConfig
from refgit_backends import Backend
from refgit_backends.base import BackendError, host_array

Host = np.ndarray[Any, Any]


def to_host(backend: Backend, name: str, x: Any) -> Host:
    """Return an argument as an array of NumPy's, for checks and bookkeeping."""
    if backend.owns(x):
        return backend.to_numpy(x)
    try:
        return host_array(x)
    except BackendError as error:
        raise TypeError(f"{name}: {error}") from error


def to_device(backend: Backend, dtype: str, given: Any, host: Host) -> Array:
    """Return an argument in a dtype; one that is on the device already does not travel."""
    return backend.asarray(given if backend.owns(given) else host, dtype)


def check_pixels(
    pixels: Host, config: GitVisionConfig, *, any_size: bool, frames: int | None = None
) -> None:
    """Refuse pixels that are not (B, C, S, S); warn of values that are not finite.

    `any_size` allows other heights and widths, for interpolated positions. `frames` allows rank
    5, (B, up to so many frames, C, S, S).
    """
    side, channels, patch = config.image_size, config.num_channels, config.patch_size
    size = "height, width" if any_size else f"{side}, {side}"
    expected = f"(batch, {channels}, {size})"
    whole = pixels
    if pixels.ndim == 5:
        if frames is None:
            raise ValueError(
                f"pixel_values has shape {tuple(pixels.shape)}, a video; this model has no time "
                f"embeddings (config.num_image_with_embedding is None). Pass images, {expected}."
            )
        expected = f"(batch, frames, {channels}, {size})"
        if not 1 <= pixels.shape[1] <= frames:
            raise ValueError(
                f"pixel_values has {pixels.shape[1]} frames; this model has time embeddings for 1 "
                f"to {frames} (config.num_image_with_embedding). Choose some of the frames."
            )
        pixels = pixels[:, 0]
    elif pixels.ndim != 4:
        raise ValueError(
            f"pixel_values has shape {tuple(pixels.shape)}; expected {expected}. "
            "A single image needs a batch axis in front: pixels[None]."
        )
    if pixels.shape[0] == 0:
        raise ValueError(f"pixel_values is an empty batch; expected {expected} with batch >= 1.")
    if pixels.shape[1] != channels:
        raise ValueError(
            f"pixel_values has {pixels.shape[1]} channels; expected {channels}, channels first: "
            f"{expected}."
        )
    height, width = pixels.shape[2:]
    if not any_size and (height, width) != (side, side):
        raise ValueError(
            f"pixel_values is {height} x {width} pixels; this model takes {side} x {side}. Let "
            "GitProcessor prepare the image, or pass interpolate_pos_encoding=True."
        )
    if min(height, width) < patch:
        raise ValueError(
            f"pixel_values is {height} x {width} pixels, smaller than one patch of {patch} x "
            f"{patch}; expected at least one patch."
        )
    processed = "floating point, rescaled and normalised. Let GitProcessor prepare the image"
    _require_kind("pixel_values", pixels, "f", processed)
    if not np.isfinite(whole).all():
        warnings.warn(
            "pixel_values holds NaN or infinite values; so will everything computed from them.",
            RuntimeWarning,
            stacklevel=3,
        )


@dataclass(frozen=True)
class Arguments:
    """What a call of a model with a text decoder is given.

    Attributes
    ----------
    config : GitConfig
    backend : Backend
    dtype : str
        Of the model that is called.
    """

    config: GitConfig
    backend: Backend
    dtype: str

    def pixel_values(self, given: Any, *, any_size: bool) -> Array:
        """Return images (B', C, S, S) or videos (B', frames, C, S, S)."""
        host = to_host(self.backend, "pixel_values", given)
        frames = self.config.num_image_with_embedding
        check_pixels(host, self.config.vision_config, any_size=any_size, frames=frames)
        return to_device(self.backend, self.dtype, given, host)

    def text(self, input_ids: Any, inputs_embeds: Any) -> Array:
        """Return the text as ids (B, T) or as embeddings (B, T, D)."""
        if (input_ids is None) == (inputs_embeds is None):
            found = "neither" if input_ids is None else "both"
            raise ValueError(
                f"{found} of input_ids and inputs_embeds given; expected exactly one of them."
            )
        if input_ids is None:
            return self.inputs_embeds(inputs_embeds)
        return self.backend.asarray(self.input_ids(input_ids), "int64")

    def input_ids(self, given: Any) -> Host:
        """Return ids (B, T) of the vocabulary, on the host."""
        ids = to_host(self.backend, "input_ids", given)
        if ids.ndim != 2:
            raise ValueError(
                f"input_ids has shape {tuple(ids.shape)}; expected (batch, tokens). "
                "A single text needs a batch axis in front: [ids]."
            )
        if 0 in ids.shape:
            raise ValueError(
                f"input_ids has shape {tuple(ids.shape)}; expected at least one row and one token "
                "(a caption starts with the token of id config.bos_token_id)."
            )
        _require_kind("input_ids", ids, "iu", "integers")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.config.vocab_size:
            found = low if low < 0 else high
            raise ValueError(
                f"input_ids holds {found}; expected ids from 0 to {self.config.vocab_size - 1} "
                "(config.vocab_size - 1). Does the tokenizer belong to this model?"
            )
        return ids

    def inputs_embeds(self, given: Any) -> Array:
        """Return embeddings (B, T, D) in the place of ids."""
        host = to_host(self.backend, "inputs_embeds", given)
        shape, width = tuple(host.shape), self.config.hidden_size
        if len(shape) != 3 or shape[2] != width or 0 in shape:
            raise ValueError(
                f"inputs_embeds has shape {shape}; expected (batch, tokens, {width}), the last "
                "being config.hidden_size."
            )
        _require_kind("inputs_embeds", host, "f", "floating point")
        return to_device(self.backend, self.dtype, given, host)

    def position_ids(self, given: Any, batch: int, length: int, past: int) -> Array | None:
        """Return positions (B or 1, T) that have a learned vector; None where none is added.

        Text counts from 0, on from the `past` tokens in the cache; the image takes none.
        """
        if given is None:
            ids = np.arange(past, past + length)[None]
        else:
            ids = to_host(self.backend, "position_ids", given)
        if self.config.position_embedding_type != "absolute":
            return None
        if ids.ndim != 2 or ids.shape[0] not in (1, batch) or ids.shape[1] != length:
            raise ValueError(
                f"position_ids has shape {tuple(ids.shape)}; expected ({batch}, {length}) or "
                f"(1, {length}), one position for each text token."
            )
        _require_kind("position_ids", ids, "iu", "integers")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.config.max_position_embeddings:
            raise ValueError(
                f"the text reaches position {high if low >= 0 else low}; this model has learned "
                f"positions 0 to {self.config.max_position_embeddings - 1} "
                "(config.max_position_embeddings). Shorten the text."
            )
        return self.backend.asarray(ids, "int64")

    def attention_mask(self, given: Any, batch: int, length: int, past: int = 0) -> Host | None:
        """Return the padding mask, (B, T) or (B, past + T), on the host; None without padding."""
        if given is None:
            return None
        mask = to_host(self.backend, "attention_mask", given)
        lengths = {length, past + length}
        if mask.ndim != 2 or mask.shape[0] != batch or mask.shape[1] not in lengths:
            expected = " or ".join(f"({batch}, {n})" for n in sorted(lengths))
            raise ValueError(
                f"attention_mask has shape {tuple(mask.shape)}; expected {expected}: one value for "
                "each text token, 1 for text and 0 for padding (image tokens are never masked)."
            )
        _require_kind("attention_mask", mask, "biuf", "integers or booleans")
        strange = mask[(mask != 0) & (mask != 1)]
        if strange.size:
            raise ValueError(
                f"attention_mask holds {strange[0]}; expected 1 for text and 0 for padding."
            )
        return mask

    def head_mask(self, given: Any) -> Array | None:
        """Return the head mask as (layers, H), or None where all heads count."""
        if given is None:
            return None
        mask = to_host(self.backend, "head_mask", given)
        if self.config.pruned_heads:
            raise ValueError(
                f"head_mask was given to a model whose heads {self.config.pruned_heads} are "
                "pruned; prune the others too, or mask the heads of the unpruned model."
            )
        layers, heads = self.config.num_hidden_layers, self.config.num_attention_heads
        if mask.shape not in ((heads,), (layers, heads)):
            raise ValueError(
                f"head_mask has shape {tuple(mask.shape)}; expected ({heads},) or ({layers}, "
                f"{heads}): 1 for heads of the text decoder that count, 0 for heads to silence."
            )
        _require_kind("head_mask", mask, "biuf", "numbers")
        whole = np.broadcast_to(mask, (layers, heads)).copy()
        return self.backend.asarray(whole, self.dtype)

    def labels(self, given: Any, input_ids: Any, inputs_embeds: Any) -> Array:
        """Return labels (B, T) for the text."""
        name = "input_ids" if input_ids is not None else "inputs_embeds"
        text = input_ids if input_ids is not None else inputs_embeds
        ids = to_host(self.backend, "labels", given)
        rows = () if text is None else to_host(self.backend, name, text).shape[:2]
        shape = rows if len(rows) == 2 else ids.shape
        if ids.shape != shape:
            raise ValueError(
                f"labels has shape {tuple(ids.shape)}; expected {shape}, one for each text token "
                "(-100 for those that do not count)."
            )
        _require_kind("labels", ids, "iu", "integers")
        wrong = (ids != -100) & ((ids < 0) | (ids >= self.config.vocab_size))
        if wrong.any():
            raise ValueError(
                f"labels holds {int(ids[wrong][0])}; expected -100 or an id from 0 to "
                f"{self.config.vocab_size - 1}."
            )
        return self.backend.asarray(ids, "int64")

    def past_key_values(self, given: Any) -> KeyValueCache:
        """Return the caller's cache, if a model of this shape made it."""
        if not isinstance(given, KeyValueCache):
            raise TypeError(
                f"past_key_values is a {type(given).__name__}; expected the KeyValueCache that an "
                "earlier call, such as model.encode_image, returned."
            )
        if given.num_layers != self.config.num_hidden_layers:
            raise ValueError(
                f"past_key_values has {given.num_layers} layers; this model has "
                f"{self.config.num_hidden_layers}. It belongs to another model."
            )
        width = self.config.hidden_size // self.config.num_attention_heads
        own = (self.config.heads_of(0), width)
        if given.head_shape not in (None, own):
            raise ValueError(
                f"past_key_values has (heads, width of each) {given.head_shape}; this model has "
                f"{own}. It belongs to another model."
            )
        return given

    def cache(
        self, past: KeyValueCache | None, use_cache: bool | None, pixel_values: Any
    ) -> KeyValueCache | None:
        """Return the cache of this call: the caller's, a new one, or none."""
        if past is None:
            wanted = self.config.use_cache if use_cache is None else use_cache
            return KeyValueCache(self.config.num_hidden_layers) if wanted else None
        self.past_key_values(past)
        if pixel_values is not None and past.image_length + past.text_length > 0:
            raise ValueError(
                "pixel_values was given together with past_key_values that has been filled; the "
                "cache already holds what comes before the new text, so leave pixel_values out."
            )
        return past

    def num_past(self, batch: int, num_images: int, cache: KeyValueCache | None) -> int:
        """Return the tokens in the cache, whose rows and images must fit the text's."""
        if num_images:
            check_batches(batch, num_images)
        if cache is None:
            return 0
        rows, images = cache.batch_size, cache.num_images
        if rows is not None and rows != batch:
            raise ValueError(
                f"the text has {batch} rows, past_key_values {rows}; expected equally many."
            )
        if images is not None:
            check_batches(batch, images)
        return cache.image_length + cache.text_length

    def joint_length(self, length: int) -> None:
        """Refuse image and text that together reach beyond the learned distances."""
        kind, longest = self.config.position_embedding_type, self.config.max_position_embeddings
        if kind != "absolute" and length > longest:
            raise ValueError(
                f"image and text are {length} tokens together; this model has learned distances "
                f"within {longest} (config.max_position_embeddings, with position_embedding_type "
                f"{kind!r}). Shorten the text."
            )


def check_batches(text: int, images: int) -> None:
    """Refuse text batches that are not a multiple of the images."""
    if text % images:
        raise ValueError(
            f"{text} texts for {images} images; expected as many texts as images, or a multiple "
            "(text b then belongs to image b modulo the number of images)."
        )


def _require_kind(name: str, x: Host, kinds: str, expected: str) -> None:
    if x.dtype.kind not in kinds:
        raise TypeError(f"{name} is of dtype {x.dtype}; expected {expected}.")
