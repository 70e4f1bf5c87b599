"""A GIT small enough to run in milliseconds, for tests: of refgit, and of code that uses it.

    >>> from refgit import testing
    >>> model, inputs = testing.tiny_model(), testing.tiny_inputs()
    >>> model(**inputs).logits.shape
    (1, 9, 23)

Its weights are random; the seeds decide everything. For the letters of shapes see
refgit.layers; B texts, B' images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit.model.causal_lm import GitForCausalLM
from refgit.model.config import GitConfig, GitVisionConfig

VISION = GitVisionConfig(
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=8,
    patch_size=4,
    initializer_range=0.5,
)
CONFIG = GitConfig(
    vision_config=VISION,
    vocab_size=23,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=24,
    initializer_range=0.5,  # large, so that the logits differ and what was read before matters
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
IMAGE_TOKENS = CONFIG.num_image_tokens()  # N = 5: four patches and the class token


def tiny_config(**changes: Any) -> GitConfig:
    """Return `CONFIG`: images of 8 x 8 pixels, N = 5, D = 16, H = 4, V = 23, at most 24 tokens.

    Parameters
    ----------
    **changes
        Fields of GitConfig to change; `vision_config` may be a mapping of changes to `VISION`.
    """
    vision = changes.pop("vision_config", VISION)
    if not isinstance(vision, GitVisionConfig):
        vision = VISION.replace(**vision)
    return CONFIG.replace(vision_config=vision, **changes)


def tiny_model(seed: int = 0, config: GitConfig = CONFIG, **options: Any) -> GitForCausalLM:
    """Return a model with random weights.

    Parameters
    ----------
    seed : int
        Of the weights.
    config : GitConfig
        See `tiny_config`.
    **options
        Of GitForCausalLM: backend, dtype, kernels.
    """
    return GitForCausalLM(config, seed=seed, **options)


def tiny_inputs(images: int = 1, length: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Return what a call of the model takes: images, and a text below each.

    Returns
    -------
    dict
        ``pixel_values`` (B', 3, 8, 8) of `pixels` and ``input_ids`` (B', T) of `tokens`.
    """
    return {
        "pixel_values": pixels(images, seed),
        "input_ids": tokens(images, length, seed),
    }


def pixels(images: int = 1, seed: int = 0, *, frames: int | None = None) -> np.ndarray:
    """Return images as a processor would make them.

    Parameters
    ----------
    images : int
        B'.
    seed : int
    frames : int, optional
        Of each, for a model with ``num_image_with_embedding``.

    Returns
    -------
    array (B', 3, 8, 8) or (B', frames, 3, 8, 8), float32
    """
    videos = () if frames is None else (frames,)
    shape = (images, *videos, VISION.num_channels, VISION.image_size, VISION.image_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tokens(texts: int = 1, length: int = 4, seed: int = 0) -> np.ndarray:
    """Return texts that start with the opening token and do not end.

    Returns
    -------
    array (B, T), int64
    """
    ids = np.random.default_rng(seed).integers(3, CONFIG.vocab_size, (texts, length))
    ids[:, 0] = int(CONFIG.bos_token_id or 0)
    return ids
