"""Traces captured from transformers 5 against refgit, and the defect that they bring to light.

Tensor by tensor as in tests/live/test_capture_live.py. A decode step that is written by hand and
gives no position_ids counts the image tokens into the default positions (docs/differences.md).

It needs the environment of tests/live/test_transformers5_live.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from helpers.capture_cases import (
    VIDEO,
    Arrays,
    assert_agrees,
    at_work,
    error,
    first_difference,
    image_call,
    padded_call,
    pair,
    video_call,
)
from refgit import testing as tiny
from refgit.parity import compare
from refgit.parity.diagnosis.procedure import diagnose
from refgit.parity.numerics.noise import NoiseFloor
from refgit.traces.capture.torch import capture_torch
from refgit.traces.container import Trace, record

INSTALL = "pip install torch==2.13.0 transformers==5.23.0 (see test_transformers5_live.py)"
torch = pytest.importorskip("torch", reason=f"needs torch: {INSTALL}")
transformers = pytest.importorskip("transformers", reason=f"needs transformers 5: {INSTALL}")
if not transformers.__version__.startswith("5."):
    found_version = f"needs transformers 5, found {transformers.__version__}: {INSTALL}"
    pytest.skip(found_version, allow_module_level=True)

pytestmark = [pytest.mark.oracle]
STEPS = 3
POSITIONS = "step.1.git.embeddings.position_embeddings"


def tensors(call: Arrays) -> dict[str, Any]:
    return {name: torch.from_numpy(x) for name, x in call.items()}


def captured(model: Any, call: Arrays, **options: Any) -> Trace:
    with at_work(transformers, torch), capture_torch(model) as found:
        model(**tensors(call), **options)
    return found


def generated(model: Any, call: Arrays, **options: Any) -> Trace:
    limits = {"max_new_tokens": STEPS + 1, "min_new_tokens": STEPS + 1, "do_sample": False}
    with at_work(transformers, torch), capture_torch(model) as found:
        model.generate(**tensors(call), **limits, **options)
    return found


def stepwise(model: Any, call: Arrays, positions: bool, steps: int = STEPS) -> Trace:
    """A decoding loop as one writes it by hand: the new word and the cache."""
    length = call["input_ids"].shape[1]
    with at_work(transformers, torch), capture_torch(model) as found:
        out = model(**tensors(call), use_cache=True)
        for step in range(steps):
            words = out.logits[:, -1].argmax(-1)[:, None]
            told = {"position_ids": torch.tensor([[length + step]])} if positions else {}
            out = model(words, past_key_values=out.past_key_values, **told)
    return found


@pytest.mark.parametrize("call", [image_call(), padded_call(), image_call(1, 1)])
def test_every_tensor_of_a_call_on_images_agrees(call: Arrays) -> None:
    ours, theirs = pair(transformers)
    assert_agrees(record(ours, **call), captured(theirs, call))


def test_every_tensor_of_a_call_on_videos_agrees() -> None:
    ours, theirs = pair(transformers, VIDEO)
    assert_agrees(record(ours, **video_call()), captured(theirs, video_call()))


@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_agrees_step_by_step(use_cache: bool) -> None:
    ours, theirs = pair(transformers)
    found = generated(theirs, image_call(), use_cache=use_cache)
    assert_agrees(record(ours, **image_call(), tokens=STEPS), found)
    assert found.meta["producer"] == f"transformers {transformers.__version__}"


def test_generation_below_videos_agrees_step_by_step() -> None:
    ours, theirs = pair(transformers, VIDEO)
    reference = record(ours, **video_call(), tokens=STEPS)
    assert_agrees(reference, generated(theirs, video_call()))


def test_a_loop_that_gives_positions_agrees_step_by_step() -> None:
    ours, theirs = pair(transformers)
    found = stepwise(theirs, image_call(), positions=True)
    assert_agrees(record(ours, **image_call(), tokens=STEPS), found)


@pytest.mark.parametrize(("config", "call"), [(tiny.CONFIG, image_call()), (VIDEO, video_call())])
def test_no_tensor_of_generation_is_over_the_noise_floor(config: Any, call: Arrays) -> None:
    ours, theirs = pair(transformers, config)
    reference = record(ours, **call, tokens=STEPS)
    noise = NoiseFloor.measure(ours, reference)
    comparison = compare(reference, generated(theirs, call), noise=noise)
    assert comparison.ok, comparison.sentence
    assert {row.name: row.matched for row in comparison.rows if "input." not in row.name} == {
        name: name for name in reference if "input." not in name
    }


# ---- the defect


def test_a_step_without_positions_differs_first_in_its_position_embedding() -> None:
    ours, theirs = pair(transformers)
    found = stepwise(theirs, image_call(), positions=False)
    reference = record(ours, **image_call(), tokens=STEPS)
    assert first_difference(reference, found) == POSITIONS
    # it is the embedding of a place that lies as many further on as there are image tokens
    table = ours.state_dict()["git.embeddings.position_embeddings.weight"]
    assert error(found[POSITIONS][0, 0], table[4 + tiny.IMAGE_TOKENS]) == 0.0
    assert error(reference[POSITIONS][0, 0], table[4]) == 0.0


@pytest.mark.parametrize("hidden", ["", "position_embeddings", "embeddings.", "git."])
def test_the_diagnosis_of_that_step_names_the_image_tokens(hidden: str) -> None:
    """Also where the other implementation does not show the embedding itself."""
    ours, theirs = pair(transformers)
    found = stepwise(theirs, image_call(), positions=False, steps=1)
    if hidden:
        found = Trace({n: x for n, x in found.items() if hidden not in n}, meta=found.meta)
    diagnosis = diagnose(record(ours, **image_call(), tokens=1), found, ours)
    assert (
        diagnosis.located
        == {
            "": POSITIONS,
            "position_embeddings": "step.1.git.embeddings.sum",
            "embeddings.": "step.1.git.encoder.layer.0.attention.self.query",
            "git.": "step.1.output",
        }[hidden]
    )
    assert diagnosis.causes[0].hypothesis == "positions behind the image"
    assert "image tokens counted in" in diagnosis.causes[0].text
    assert diagnosis.causes[0].residual <= 8.0


def test_words_that_follow_from_a_wrong_step_do_not_hide_it() -> None:
    ours, theirs = pair(transformers)
    found = stepwise(theirs, image_call(), positions=False)
    diagnosis = diagnose(record(ours, **image_call(), tokens=STEPS), found, ours)
    assert diagnosis.located == POSITIONS
