"""What the tests of capturing share: refgit's tiny model as a model of transformers, and calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from helpers.oracle import at_work, tensors, theirs_of
from refgit import GitConfig, testing
from refgit.traces.capture.torch import capture_torch
from refgit.traces.container import Trace
from refgit.traces.names import TensorName

TOLERANCE = 2e-5  # float32, relative to a tensor's largest magnitude
FRAMES = 3
STEPS = 3
VIDEO = testing.CONFIG.replace(num_image_with_embedding=FRAMES)
# what one side may store and the other not: the default positions, a mask of ones
OPTIONAL = ("input.position_ids", "input.attention_mask")
Arrays = dict[str, np.ndarray]


def pair(config: GitConfig = testing.CONFIG, **options: Any) -> tuple[Any, Any]:
    """refgit's tiny model, and that of transformers with the same weights."""
    ours = testing.tiny_model(config=config, **options)
    return ours, theirs_of(ours)


def image_call(rows: int = 2, length: int = 4) -> Arrays:
    return {"pixel_values": testing.pixels(rows), "input_ids": testing.tokens(rows, length)}


def video_call(rows: int = 2) -> Arrays:
    return {"pixel_values": testing.pixels(rows, frames=FRAMES), "input_ids": testing.tokens(rows)}


def padded_call() -> Arrays:
    return {**image_call(), "attention_mask": np.array([[1, 1, 1, 1], [0, 0, 1, 1]])}


def captured(model: Any, call: Arrays, select: list[str] | None = None, **options: Any) -> Trace:
    """What the hooks see in one forward pass."""
    with at_work(), capture_torch(model, select=select) as found:
        model(**tensors(call), **options)
    return found


def generated(model: Any, call: Arrays, tokens: int = STEPS, **options: Any) -> Trace:
    """What the hooks see while so many tokens are generated behind the prompt."""
    limits = {"max_new_tokens": tokens + 1, "min_new_tokens": tokens + 1, "do_sample": False}
    with at_work(), capture_torch(model) as found:
        model.generate(**tensors(call), **limits, **options)
    return found


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest magnitude; infinite for other shapes."""
    if found.shape != np.broadcast_shapes(found.shape, expected.shape):
        return float("inf")
    apart = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
    return float(apart / max(np.abs(expected).max(), 1e-30))


def names_of(trace: Mapping[str, Any]) -> list[str]:
    return [name for name in trace if TensorName.parse(name).path not in OPTIONAL]


def first_difference(reference: Trace, other: Trace, tolerance: float = TOLERANCE) -> str | None:
    """The first tensor of both that differs."""
    both = [name for name in names_of(reference) if name in other]
    return next((n for n in both if not error(other[n], reference[n]) <= tolerance), None)


def assert_agrees(reference: Trace, other: Trace, tolerance: float = TOLERANCE) -> None:
    """All tensors are there, in the same order, of the same shapes and values."""
    assert names_of(other) == names_of(reference)
    assert first_difference(reference, other, tolerance) is None
