"""A GIT small enough to run in milliseconds, with seeded random weights, and inputs for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgit import GitConfig, GitForCausalLM, GitVisionConfig

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
    initializer_range=0.5,  # wide, so that the words differ and what was read before matters
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
IMAGE_TOKENS = CONFIG.num_image_tokens()  # 5


def tiny_model(seed: int = 0, config: GitConfig = CONFIG, **options: Any) -> GitForCausalLM:
    """A model whose weights the seed decides."""
    return GitForCausalLM(config, seed=seed, **options)


def pixels(images: int = 1, seed: int = 0) -> np.ndarray:
    """Images (B, 3, 8, 8) as a processor would make them."""
    return np.random.default_rng(seed).standard_normal((images, 3, 8, 8)).astype(np.float32)


def tokens(rows: int = 1, length: int = 4, seed: int = 0) -> np.ndarray:
    """Texts (B, T) that start with the opening token."""
    ids = np.random.default_rng(seed).integers(3, CONFIG.vocab_size, (rows, length))
    ids[:, 0] = int(CONFIG.bos_token_id or 0)
    return ids
