"""A tiny config, and images and texts for models of it."""

from __future__ import annotations

import numpy as np

from refgit import GitConfig

CONFIG = GitConfig.from_dict(
    {
        "vision_config": {
            "hidden_size": 12,
            "intermediate_size": 20,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 12,
            "patch_size": 4,
            "initializer_range": 0.3,
        },
        "vocab_size": 23,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 24,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
)


def draw_inputs(seed: int, images: int, texts: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pixels = rng.standard_normal((images, 3, 12, 12))
    return pixels, rng.integers(0, 23, (texts, length))
