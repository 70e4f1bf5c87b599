"""A tiny processor and model with a picture to explain, and the explanation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from helpers.command_line import ROOT, VOCABULARY
from refgit import (
    BertTokenizer,
    CLIPImageProcessor,
    GitForCausalLM,
    GitProcessor,
    VideoMAEImageProcessor,
    testing,
)
from refgit.explain import Explanation, explain

FACES = ROOT / "docs" / "images"


FRAMES = 3


def processor(**settings: Any) -> GitProcessor:
    options = {"size": 8, "crop_size": 8} | settings
    return GitProcessor(CLIPImageProcessor(**options), BertTokenizer.from_vocab(VOCABULARY))


def image(seed: int = 0, size: tuple[int, int] = (40, 32)) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def video_model() -> GitForCausalLM:
    return testing.tiny_model(7, testing.CONFIG.replace(num_image_with_embedding=FRAMES))


def video() -> Explanation:
    frames = [np.asarray(image(i, (8, 8))) for i in range(FRAMES)]
    reader = GitProcessor(
        VideoMAEImageProcessor(size=8, crop_size=8), BertTokenizer.from_vocab(VOCABULARY)
    )
    return explain(video_model(), reader, frames, max_length=6)


# Whatever GIT can be: each is explained by all tests that take a case.
CASES: dict[str, Callable[[], tuple[GitForCausalLM, GitProcessor, Any]]] = {
    "plain": lambda: (testing.tiny_model(7), processor(), image()),
    "float16": lambda: (testing.tiny_model(7, dtype="float16"), processor(), image()),
    "strict": lambda: (testing.tiny_model(7, backend="strict"), processor(), image()),
    "interpolated": lambda: (
        testing.tiny_model(7),
        processor(respect_ratio_max=40),
        image(size=(40, 10)),
    ),
    "relative_key": lambda: (relative("relative_key"), processor(), image()),
    "relative_key_query": lambda: (relative("relative_key_query"), processor(), image()),
    "pruned": lambda: (pruned(), processor(), image()),
    "one layer, one head": lambda: (small(), processor(), image()),
    "video": lambda: (video_model(), processor(), [image(i) for i in range(FRAMES)]),
}


def relative(kind: str) -> GitForCausalLM:
    return testing.tiny_model(7, testing.CONFIG.replace(position_embedding_type=kind))


def pruned() -> GitForCausalLM:
    model = testing.tiny_model(7)
    model.prune_heads({0: [1, 2], 2: [0]})
    return model


def small() -> GitForCausalLM:
    return testing.tiny_model(7, testing.CONFIG.replace(num_hidden_layers=1, num_attention_heads=1))
