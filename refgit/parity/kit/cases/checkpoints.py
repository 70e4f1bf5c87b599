"""The kit's small models, on weights drawn from seeds, and inputs for them."""

from __future__ import annotations

import numpy as np

from refgit.model.causal_lm import GitForCausalLM
from refgit.model.config import GitConfig, GitVisionConfig
from refgit.parity.kit.case import Checkpoint, Tensors
from refgit.parity.kit.vocabulary import CLS, PAD, SEP, VOCABULARY
from refgit.traces.container import Tensor

VISION = GitVisionConfig(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=16,
    patch_size=4,
)
CONFIG = GitConfig(
    vision_config=VISION,
    vocab_size=len(VOCABULARY),
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=64,
    pad_token_id=PAD,
    bos_token_id=CLS,
    eos_token_id=SEP,
)
N_IMAGE = VISION.num_positions
FRAMES = 2
ENDING = 5.0


def draw_weights(config: GitConfig, seed: int) -> Tensors:
    """Draw weights under which every parameter matters: no bias is zero, no norm plain.

    Matrices have variance 2 / inputs, so that attention is not an average and activations bend. The
    head is kept from special tokens, but likes to end, so that captions are words and end. What a
    seed gives never changes (`numpy.random.RandomState`).
    """
    random = np.random.RandomState(seed)
    weights = {}
    for name, shape in sorted(GitForCausalLM.shapes(config).items()):
        value = random.standard_normal(shape)
        if len(shape) == 1:
            value = 0.2 * value + name.endswith("weight")
        elif "embed" in name and len(shape) != 4:
            value = 0.7 * value
        else:
            value = value * np.sqrt(2 / np.prod(shape[1:]))
        weights[name] = value.astype(np.float32)
    weights["git.embeddings.position_embeddings.weight"] *= np.float32(3)  # words depend on it
    weights["output.bias"][:5] -= np.float32(4)
    weights["output.bias"][SEP] += np.float32(ENDING)
    return weights


def kit_checkpoints() -> dict[str, Checkpoint]:
    """The four small models: images, videos, and two with relative positions."""
    configs = {
        "image": (CONFIG, 117),
        "relative_key": (CONFIG.replace(position_embedding_type="relative_key"), 122),
        "relative_key_query": (CONFIG.replace(position_embedding_type="relative_key_query"), 122),
        "video": (CONFIG.replace(num_image_with_embedding=FRAMES), 101),
    }
    return {
        name: Checkpoint(name, config, draw_weights(config, seed))
        for name, (config, seed) in configs.items()
    }


def pixels(seed: int, *shape: int) -> Tensor:
    """Pixels (..., 3, H, W) as a processor might make them."""
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def text(seed: int, rows: int, length: int, vocabulary: int, opening: int = CLS) -> Tensor:
    """Texts (rows, length) that open with [CLS], without special tokens in them."""
    ids = np.random.RandomState(seed).randint(5, vocabulary, (rows, length))
    ids[:, 0] = opening
    return ids.astype(np.int64)
