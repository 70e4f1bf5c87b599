"""Checks of what a caller hands to a model, before any arithmetic.

Each message names the argument, what was found, what was expected and what to do.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from refgit.model.config import GitConfig, GitVisionConfig


def pixel_values(
    pixels: np.ndarray[Any, Any],
    config: GitVisionConfig,
    *,
    any_size: bool = False,
    frames: int | None = None,
) -> None:
    """Refuse pixels that are not (B, C, S, S); warn of values that are no numbers.

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
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(
            f"pixel_values is of dtype {pixels.dtype}; expected floating point, rescaled and "
            "normalised. Let GitProcessor prepare the image."
        )
    if not np.isfinite(whole).all():
        warnings.warn(
            "pixel_values holds NaN or infinite values; so will everything computed from them.",
            RuntimeWarning,
            stacklevel=3,
        )


def _require_integers(name: str, x: np.ndarray[Any, Any]) -> None:
    if not np.issubdtype(x.dtype, np.integer):
        raise TypeError(f"{name} is of dtype {x.dtype}; expected integers.")


def input_ids(ids: np.ndarray[Any, Any], config: GitConfig) -> None:
    """Refuse ids that are no (B, T) integers of the vocabulary."""
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
    _require_integers("input_ids", ids)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= config.vocab_size:
        found = low if low < 0 else high
        raise ValueError(
            f"input_ids holds {found}; expected ids from 0 to {config.vocab_size - 1} "
            "(config.vocab_size - 1). Does the tokenizer belong to this model?"
        )


def inputs_embeds(words: np.ndarray[Any, Any], config: GitConfig) -> None:
    """Refuse word vectors that are not (B, T, D) floating point."""
    shape = tuple(words.shape)
    if len(shape) != 3 or shape[2] != config.hidden_size or 0 in shape:
        raise ValueError(
            f"inputs_embeds has shape {shape}; expected (batch, tokens, {config.hidden_size}), "
            "the last being config.hidden_size."
        )
    if not np.issubdtype(words.dtype, np.floating):
        raise TypeError(f"inputs_embeds is of dtype {words.dtype}; expected floating point.")


def positions(ids: np.ndarray[Any, Any], shape: tuple[int, int], config: GitConfig) -> None:
    """Refuse positions that are not (B or 1, T) or have no learned vector."""
    batch, length = shape
    if ids.ndim != 2 or ids.shape[0] not in (1, batch) or ids.shape[1] != length:
        raise ValueError(
            f"position_ids has shape {tuple(ids.shape)}; expected ({batch}, {length}) or "
            f"(1, {length}), one position for each text token."
        )
    _require_integers("position_ids", ids)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= config.max_position_embeddings:
        raise ValueError(
            f"the text reaches position {high if low >= 0 else low}; this model has learned "
            f"positions 0 to {config.max_position_embeddings - 1} "
            "(config.max_position_embeddings). Shorten the text."
        )


def joint_length(length: int, config: GitConfig) -> None:
    """Refuse image and text that together reach beyond the learned distances."""
    if config.position_embedding_type != "absolute" and length > config.max_position_embeddings:
        raise ValueError(
            f"image and text are {length} tokens together; this model has learned distances "
            f"within {config.max_position_embeddings} (config.max_position_embeddings, with "
            f"position_embedding_type {config.position_embedding_type!r}). Shorten the text."
        )


def head_mask(mask: np.ndarray[Any, Any], config: GitConfig) -> None:
    """Refuse head masks that are neither (H,) nor (layers, H)."""
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    if mask.shape not in ((heads,), (layers, heads)):
        raise ValueError(
            f"head_mask has shape {tuple(mask.shape)}; expected ({heads},) or ({layers}, {heads}):"
            " 1 for heads of the text decoder that count, 0 for heads to silence."
        )
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"head_mask is of dtype {mask.dtype}; expected numbers.")


def attention_mask(mask: np.ndarray[Any, Any], batch: int, new: int, past: int) -> None:
    """Refuse masks that do not cover the text tokens."""
    lengths = {new, past + new}
    if mask.ndim != 2 or mask.shape[0] != batch or mask.shape[1] not in lengths:
        expected = " or ".join(f"({batch}, {n})" for n in sorted(lengths))
        raise ValueError(
            f"attention_mask has shape {tuple(mask.shape)}; expected {expected}: one value for "
            "each text token, 1 for text and 0 for padding (image tokens are never masked)."
        )
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"attention_mask is of dtype {mask.dtype}; expected integers or booleans.")
    strange = mask[(mask != 0) & (mask != 1)]
    if strange.size:
        raise ValueError(
            f"attention_mask holds {strange[0]}; expected 1 for text and 0 for padding."
        )


def labels(ids: np.ndarray[Any, Any], shape: tuple[int, int], config: GitConfig) -> None:
    """Refuse labels that do not fit the text."""
    if ids.shape != shape:
        raise ValueError(
            f"labels has shape {tuple(ids.shape)}; expected {shape}, one for each text token "
            "(-100 for those that do not count)."
        )
    _require_integers("labels", ids)
    wrong = (ids != -100) & ((ids < 0) | (ids >= config.vocab_size))
    if wrong.any():
        raise ValueError(
            f"labels holds {int(ids[wrong][0])}; expected -100 or an id from 0 to "
            f"{config.vocab_size - 1}."
        )


def batches(text: int, images: int) -> None:
    """Refuse text batches that images cannot be dealt out to."""
    if text % images:
        raise ValueError(
            f"{text} texts for {images} images; expected as many texts as images, or a multiple "
            "(text b then belongs to image b modulo the number of images)."
        )
