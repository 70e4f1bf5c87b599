"""Traces captured from transformers 4.56.2, and from torch models that are no GIT, against refgit.

Tensor by tensor, in order: whatever refgit names, the hooks find, in one forward pass and in the
steps of generation. Where transformers 4 is known to be wrong (docs/differences.md) the first
tensor that differs is the one that is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.capture_cases import (
    FRAMES,
    VIDEO,
    Arrays,
    assert_agrees,
    at_work,
    error,
    first_difference,
    image_call,
    names_of,
    padded_call,
    pair,
    video_call,
)
from helpers.oracle import torch, transformers
from refgit import testing as tiny
from refgit.parity import compare
from refgit.parity.numerics.noise import NoiseFloor
from refgit.traces.capture.torch import capture_torch
from refgit.traces.container import Trace, record

pytestmark = [pytest.mark.oracle]
STEPS = 3


def tensors(call: Arrays) -> dict[str, Any]:
    return {name: torch.from_numpy(x) for name, x in call.items()}


def captured(model: Any, call: Arrays, select: list[str] | None = None, **options: Any) -> Trace:
    with at_work(transformers, torch), capture_torch(model, select=select) as found:
        model(**tensors(call), **options)
    return found


def generated(model: Any, call: Arrays, tokens: int = STEPS, **options: Any) -> Trace:
    limits = {"max_new_tokens": tokens + 1, "min_new_tokens": tokens + 1, "do_sample": False}
    with at_work(transformers, torch), capture_torch(model) as found:
        model.generate(**tensors(call), **limits, **options)
    return found


def stepwise(model: Any, call: Arrays, tokens: int = STEPS, **options: Any) -> Trace:
    """A decoding loop as one writes it by hand; this cache wants the image at every step."""
    pixels = torch.from_numpy(call["pixel_values"])
    with at_work(transformers, torch), capture_torch(model) as found:
        out = model(**tensors(call), use_cache=True)
        for _ in range(tokens):
            words = out.logits[:, -1].argmax(-1)[:, None]
            past = out.past_key_values
            out = model(words, pixel_values=pixels, past_key_values=past, **options)
    return found


# ---- one forward pass


@pytest.mark.parametrize("call", [image_call(), padded_call(), image_call(1, 1)])
def test_every_tensor_of_a_call_on_images_agrees(call: Arrays) -> None:
    ours, theirs = pair(transformers)
    assert_agrees(record(ours, **call), captured(theirs, call))


def test_every_tensor_of_a_call_on_videos_agrees() -> None:
    ours, theirs = pair(transformers, VIDEO)
    found = captured(theirs, video_call())
    assert_agrees(record(ours, **video_call()), found)
    rows = found["git.image_encoder.vision_model.post_layernorm"].shape[0]
    assert rows == 2 * FRAMES  # the frames of a video one after the other


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_scores_with_relative_positions_agree(kind: str) -> None:
    ours, theirs = pair(transformers, tiny.CONFIG.replace(position_embedding_type=kind))
    found = captured(theirs, image_call(), use_cache=False)
    assert "git.embeddings.sum" in found  # the words alone, which refgit does not name
    rest = [name for name in found if name != "git.embeddings.sum"]
    assert_agrees(record(ours, **image_call()), Trace({name: found[name] for name in rest}))


def test_pictures_of_other_sizes_agree() -> None:
    ours, theirs = pair(transformers)
    call = image_call()
    call["pixel_values"] = np.random.default_rng(1).standard_normal((2, 3, 12, 20)).astype("f4")
    found = captured(theirs, call, interpolate_pos_encoding=True)
    assert_agrees(record(ours, **call, interpolate_pos_encoding=True), found)


def test_several_texts_below_one_image_agree() -> None:
    ours, theirs = pair(transformers)
    call = {"pixel_values": tiny.pixels(1), "input_ids": tiny.tokens(3)}
    assert_agrees(record(ours, **call), captured(theirs, call))


def test_a_text_without_an_image_agrees() -> None:
    ours, theirs = pair(transformers)
    call = {"input_ids": tiny.tokens(2)}
    assert_agrees(record(ours, **call), captured(theirs, call, use_cache=False))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept(dtype: str) -> None:
    ours, theirs = pair(transformers)
    call = image_call()
    theirs.to(getattr(torch, dtype))
    pixels = torch.from_numpy(call["pixel_values"]).to(getattr(torch, dtype))
    with at_work(transformers, torch), capture_torch(theirs) as found:
        theirs(input_ids=torch.from_numpy(call["input_ids"]), pixel_values=pixels)
    assert found.meta["dtype"] == dtype
    computed = [name for name in found if name != "input.input_ids"]
    assert {found.dtype_of(name) for name in computed} == {dtype}
    assert first_difference(record(ours, **call), found, 0.1) is None


def test_the_parts_of_a_model_have_the_names_of_refgits_parts() -> None:
    ours, theirs = pair(transformers)
    whole = record(ours, **image_call())
    found = captured(theirs.git, image_call())
    inner = [n.removeprefix("git.") for n in names_of(whole) if n != "output"]
    assert names_of(found) == inner
    tower = captured(theirs.git.image_encoder, {"pixel_values": tiny.pixels(2)})
    for name in names_of(tower)[1:]:
        assert error(tower[name], whole[f"git.image_encoder.{name}"]) <= 2e-5


# ---- steps


def test_generation_runs_the_image_again_and_only_the_new_word_is_kept() -> None:
    ours, theirs = pair(transformers)
    found = generated(theirs, image_call())
    assert_agrees(record(ours, **image_call(), tokens=STEPS), found)
    assert found.meta["calls"] == str(STEPS)
    assert found.meta["prompt_length"] == "4"


def test_generation_without_a_cache_agrees_step_by_step() -> None:
    ours, theirs = pair(transformers)
    found = generated(theirs, image_call(), use_cache=False)
    assert_agrees(record(ours, **image_call(), tokens=STEPS), found)


def test_generation_below_videos_agrees_step_by_step() -> None:
    ours, theirs = pair(transformers, VIDEO)
    assert_agrees(record(ours, **video_call(), tokens=STEPS), generated(theirs, video_call()))


def test_a_loop_written_by_hand_agrees_step_by_step() -> None:
    ours, theirs = pair(transformers)
    assert_agrees(record(ours, **image_call(), tokens=STEPS), stepwise(theirs, image_call()))


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


def test_padding_that_is_forgotten_while_decoding_shows_in_the_probabilities() -> None:
    """Quirk 5 of transformers 4: with a cache the attention mask is computed and not used."""
    ours, theirs = pair(transformers)
    found = generated(theirs, padded_call())
    wrong = first_difference(record(ours, **padded_call(), tokens=STEPS), found)
    assert wrong == "step.1.git.encoder.layer.0.attention.self.probabilities"


def test_the_distances_of_a_cached_prompt_show_in_the_scores() -> None:
    """Quirk 2 of transformers 4: every query stands at the last position."""
    ours, theirs = pair(transformers, tiny.CONFIG.replace(position_embedding_type="relative_key"))
    found = captured(theirs, image_call(), use_cache=True)
    wrong = first_difference(record(ours, **image_call()), found)
    assert wrong == "git.encoder.layer.0.attention.self.scores"


def test_a_call_that_continues_nothing_is_a_call_of_its_own() -> None:
    _, theirs = pair(transformers)
    with at_work(transformers, torch), capture_torch(theirs) as found:
        for seed in range(2):
            pixels = torch.from_numpy(tiny.pixels(1, seed))
            theirs(input_ids=torch.from_numpy(tiny.tokens(1)), pixel_values=pixels)
    assert {name for name in found if name.endswith("output")} == {"output", "call.1.output"}
    assert found.meta["calls"] == "0"


# ---- what capturing does to the model, and to memory


def test_results_are_the_same_and_nothing_stays_on_the_model() -> None:
    _, theirs = pair(transformers)
    with at_work(transformers, torch):
        plain = theirs(**tensors(image_call())).logits
        with capture_torch(theirs) as found:
            watched = theirs(**tensors(image_call())).logits
        size = len(found)
        theirs(**tensors(image_call()))
    assert torch.equal(plain, watched)
    assert len(found) == size
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in theirs.modules())


def test_only_what_is_selected_is_kept() -> None:
    _, theirs = pair(transformers)
    found = captured(theirs, image_call(), ["*.probabilities", "git.encoder.layer.1.output"])
    kinds = {name.rpartition(".")[2] for name in found if not name.startswith("input.")}
    assert kinds == {"probabilities", "dense", "residual", "LayerNorm"}
    assert len(found) == 2 + 5 + 3


def test_what_an_error_left_is_there_and_the_hooks_are_gone() -> None:
    _, theirs = pair(transformers)
    theirs.git.encoder.layer[1].intermediate.dense = torch.nn.Linear(7, 7)
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        at_work(transformers, torch),
        capture_torch(theirs) as found,
    ):
        theirs(**tensors(image_call()))
    assert list(found)[-1] == "git.encoder.layer.1.attention.output.LayerNorm"
    assert all(not m._forward_hooks for m in theirs.modules())


def test_the_file_comes_back_with_order_config_and_producer(tmp_path: Path) -> None:
    ours, theirs = pair(transformers)
    found = generated(theirs, image_call())
    found.save(tmp_path / "theirs.safetensors")
    again = Trace.load(tmp_path / "theirs.safetensors")
    assert list(again) == list(found)
    assert again.meta["producer"] == "transformers 4.56.2"
    assert again.config is not None
    assert again.config.replace(extra={}).hidden_size == ours.config.hidden_size
    assert_agrees(record(ours, **image_call(), tokens=STEPS), again)


# ---- models that somebody changed, and models that are no GIT


class Wrapped(torch.nn.Module):
    """A training wrapper: the model is not at the root of the tree."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Any]) -> Any:
        return self.model(**batch).logits


def test_a_model_inside_another_has_the_names_of_the_model() -> None:
    ours, theirs = pair(transformers)
    wrapped = Wrapped(theirs)
    with at_work(transformers, torch), capture_torch(wrapped) as found:
        wrapped(tensors(image_call()))
    reference = record(ours, **image_call())
    computed = [n for n in names_of(reference) if not n.startswith("input.")]
    assert [n for n in found if n in reference and not n.startswith("input.")] == computed
    assert first_difference(reference, found) is None


def test_an_activation_that_is_a_plain_function_is_seen_behind_it() -> None:
    ours, theirs = pair(transformers)
    for layer in theirs.git.encoder.layer:
        del layer.intermediate.intermediate_act_fn
        layer.intermediate.intermediate_act_fn = lambda x: torch.nn.functional.gelu(x)
    assert_agrees(record(ours, **image_call()), captured(theirs, image_call()))


def test_a_module_that_git_has_not_is_named_by_its_path() -> None:
    ours, theirs = pair(transformers)
    layer = theirs.git.encoder.layer[1].intermediate
    layer.adapter = torch.nn.Linear(24, 24)
    layer.register_forward_hook(lambda module, args, output: module.adapter(output))
    found = captured(theirs, image_call())
    reference = record(ours, **image_call())
    # the hook runs before ours, so what is new stands behind the activation
    assert "git.encoder.layer.1.intermediate.adapter.output" in found
    assert first_difference(reference, found) == "git.encoder.layer.1.output.dense"


@pytest.mark.parametrize("way", ["in place", "masked_fill", "where"])
def test_scores_are_told_from_what_the_mask_is_added_to(way: str) -> None:
    """Attention as another would write it: the scores are what stands before the mask."""

    def forward(self: Any, x: Any, attention_mask: Any = None, *rest: Any) -> Any:
        heads, width = self.num_attention_heads, self.attention_head_size
        parts = (f(x).view(*x.shape[:2], heads, width) for f in (self.query, self.key, self.value))
        q, k, v = (part.transpose(1, 2) for part in parts)
        scores = torch.einsum("bhqd,bhkd->bhqk", q * width**-0.5, k)
        if way == "in place":
            scores += attention_mask
        elif way == "masked_fill":
            scores = scores.masked_fill(attention_mask < 0, float("-inf"))
        else:
            scores = torch.where(attention_mask < 0, torch.tensor(float("-inf")), scores)
        weights = scores.softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2), weights

    ours, theirs = pair(transformers)
    for layer in theirs.git.encoder.layer:
        attention = layer.attention.self
        attention.forward = forward.__get__(attention)
    found = captured(theirs, image_call(), use_cache=False)
    assert_agrees(record(ours, **image_call()), found)


class Branching(torch.nn.Module):
    """Returns what is nested; calls one of its modules twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4)

    def forward(self, x: Any, *, scale: Any = None) -> Any:
        x = self.first(x)
        return {"sum": self.twice(self.twice(x)), "both": (x, x * scale)}


def test_a_module_that_is_no_git_is_named_by_its_paths() -> None:
    model, x = Branching(), torch.ones(2, 3)
    with torch.no_grad(), capture_torch(model) as found:
        model(x, scale=torch.tensor(2.0))
        model(x, scale=torch.tensor(3.0))
    first = [name for name in found if not name.startswith("step.")]
    assert first == [
        "input.x",
        "input.scale",
        "first.output",
        "twice.output",
        "twice.output#2",
        "output.sum",
        "output.both.0",
        "output.both.1",
    ]
    assert [n.removeprefix("step.1.") for n in found if n.startswith("step.")] == first
    np.testing.assert_array_equal(found["step.1.output.both.1"], 3 * found["output.both.0"])


def test_what_is_no_module_is_refused() -> None:
    with (
        pytest.raises(TypeError, match=r"model is a dict; expected a torch\.nn\.Module"),
        capture_torch({}),
    ):
        pass
