"""The kit's cases of whole models: image and text in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.parity.kit.case import Case, Checkpoint, Part, Tensors
from refgit.parity.kit.cases.checkpoints import CONFIG, FRAMES, pixels, text


def model_case(
    name: str,
    checkpoint: Checkpoint,
    what: str,
    inputs: Tensors,
    **options: Any,
) -> Case:
    """Image and text in one call: logits of the text tokens, and the loss where there are labels.

    Rows of the logits at padding are not compared.
    """
    mask = inputs.get("attention_mask")
    length = inputs["input_ids"].shape[1]

    def computed(part: Part) -> dict[str, Array]:
        out = checkpoint.model(part.evaluation)(**part.given, use_cache=False, **options)
        assert not isinstance(out, tuple)
        found = {"logits": out.logits[:, -length:, :]}
        return found if out.loss is None else {**found, "loss": out.loss}

    return Case(
        name,
        "model",
        "model",
        f"{what} Logits of the text tokens alone, (texts, T, V).",
        inputs,
        computed,
        {},
        checkpoint,
        "",
        ("logits", "loss") if "labels" in inputs else ("logits",),
        {} if mask is None else {"logits": mask.astype(np.uint8)},
    )


def model_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """Every kind of model and of input, one at a time."""
    image = models["image"]
    images, ids = pixels(41, 2, 3, 16, 16), text(42, 2, 6, CONFIG.vocab_size)
    labels = ids.copy()
    labels[0, :3] = labels[1, 5] = -100
    both = {"pixel_values": images, "input_ids": ids}
    yield model_case("model", image, "Two images, two texts, labels.", {**both, "labels": labels})
    for kind in ("relative_key", "relative_key_query"):
        name, what = f"model-{kind.replace('_', '-')}", f"The same with {kind} positions."
        yield model_case(name, models[kind], what, both)
    behind = np.array([[1] * 6, [1, 1, 1, 1, 0, 0]], np.int64)
    what = "Padding behind the second text."
    yield model_case("model-padding-behind", image, what, {**both, "attention_mask": behind})
    front = behind[:, ::-1].copy()
    places = np.maximum(np.cumsum(front, axis=1) - 1, 0)
    what = "Padding in front of the second text, whose positions count from its first word."
    padded = {**both, "attention_mask": front, "position_ids": places}
    yield model_case("model-padding-in-front", image, what, padded)
    what = "Two images, four texts: text b belongs to image b modulo 2."
    four = {"pixel_values": images, "input_ids": text(43, 4, 5, CONFIG.vocab_size)}
    yield model_case("model-texts-per-image", image, what, four)
    what = "An image 12 pixels high and 24 wide: 3 x 6 patches, positions stretched (bicubic)."
    wide = {"pixel_values": pixels(44, 1, 3, 12, 24), "input_ids": ids[:1]}
    yield model_case("model-wide-image", image, what, wide, interpolate_pos_encoding=True)
    what = "Two videos of two frames, (videos, frames, 3, 16, 16)."
    videos = {"pixel_values": pixels(45, 2, FRAMES, 3, 16, 16), "input_ids": ids}
    yield model_case("model-video", models["video"], what, videos)
