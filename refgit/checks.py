"""Checks of what a caller hands to a model, before any arithmetic.

Each message names the argument, what was found, what was expected and what to do.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from refgit.config import GitConfig, GitVisionConfig


def pixel_values(pixels: np.ndarray[Any, Any], config: GitVisionConfig) -> None:
    """Refuse pixels that are not (B, C, S, S); warn of values that are no numbers."""
    side, channels = config.image_size, config.num_channels
    expected = f"(batch, {channels}, {side}, {side})"
    if pixels.ndim == 5:
        raise NotImplementedError(
            "pixel_values of rank 5 (video frames) are not supported yet; pass one frame as "
            f"{expected}."
        )
    if pixels.ndim != 4:
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
    if pixels.shape[2:] != (side, side):
        raise ValueError(
            f"pixel_values is {pixels.shape[2]} x {pixels.shape[3]} pixels; this model takes "
            f"{side} x {side}. Let GitProcessor prepare the image."
        )
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(
            f"pixel_values is of dtype {pixels.dtype}; expected floating point, rescaled and "
            "normalised. Let GitProcessor prepare the image."
        )
    if not np.isfinite(pixels).all():
        warnings.warn(
            "pixel_values holds NaN or infinite values; so will everything computed from them.",
            RuntimeWarning,
            stacklevel=3,
        )


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
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"input_ids is of dtype {ids.dtype}; expected integers.")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= config.vocab_size:
        found = low if low < 0 else high
        raise ValueError(
            f"input_ids holds {found}; expected ids from 0 to {config.vocab_size - 1} "
            "(config.vocab_size - 1). Does the tokenizer belong to this model?"
        )


def inputs_embeds(shape: tuple[int, ...], config: GitConfig) -> None:
    """Refuse word vectors that are not (B, T, D)."""
    if len(shape) != 3 or shape[2] != config.hidden_size or 0 in shape:
        raise ValueError(
            f"inputs_embeds has shape {shape}; expected (batch, tokens, {config.hidden_size}), "
            "the last being config.hidden_size."
        )


def positions(ids: np.ndarray[Any, Any], shape: tuple[int, int], config: GitConfig) -> None:
    """Refuse positions that are not (B or 1, T) or have no learned vector."""
    batch, length = shape
    if ids.ndim != 2 or ids.shape[0] not in (1, batch) or ids.shape[1] != length:
        raise ValueError(
            f"position_ids has shape {tuple(ids.shape)}; expected ({batch}, {length}) or "
            f"(1, {length}), one position for each text token."
        )
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= config.max_position_embeddings:
        raise ValueError(
            f"the text reaches position {high if low >= 0 else low}; this model has learned "
            f"positions 0 to {config.max_position_embeddings - 1} "
            "(config.max_position_embeddings). Shorten the text."
        )


def attention_mask(mask: np.ndarray[Any, Any], batch: int, new: int, past: int) -> None:
    """Refuse masks that do not cover the text tokens."""
    lengths = {new, past + new}
    if mask.ndim != 2 or mask.shape[0] != batch or mask.shape[1] not in lengths:
        expected = " or ".join(f"({batch}, {n})" for n in sorted(lengths))
        raise ValueError(
            f"attention_mask has shape {tuple(mask.shape)}; expected {expected}: one value for "
            "each text token, 1 for text and 0 for padding (image tokens are never masked)."
        )


def labels(ids: np.ndarray[Any, Any], shape: tuple[int, int], config: GitConfig) -> None:
    """Refuse labels that do not fit the text."""
    if ids.shape != shape:
        raise ValueError(
            f"labels has shape {tuple(ids.shape)}; expected {shape}, one for each text token "
            "(-100 for those that do not count)."
        )
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
