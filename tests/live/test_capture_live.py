"""Traces captured from transformers, and from torch models that are not a GIT, against refgit.

Tensor by tensor, in order: whatever refgit names, the hooks find, in one forward pass and in the
steps of generation. Where a version of transformers is known to be wrong (docs/differences.md) the
first tensor that differs is the one that is wrong: in 5 a decode step that is written by hand and
gives no position_ids counts the image tokens into the default positions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.capture_cases import (
    FRAMES,
    STEPS,
    VIDEO,
    Arrays,
    assert_agrees,
    captured,
    error,
    first_difference,
    generated,
    image_call,
    names_of,
    padded_call,
    pair,
    video_call,
)
from helpers.oracle import IN_4, IN_5, MAJOR, VERSION, at_work, tensors, torch
from refgit import testing
from refgit.parity import compare, diagnose
from refgit.parity.numerics.noise import NoiseFloor
from refgit.traces.capture.torch import capture_torch
from refgit.traces.container import Trace
from refgit.traces.recorder import record

pytestmark = [pytest.mark.oracle]
POSITIONS = "step.1.git.embeddings.position_embeddings"


def stepwise(
    model: Any, call: Arrays, tokens: int = STEPS, *, positions: bool = True, **options: Any
) -> Trace:
    """A decoding loop as one writes it by hand: the new token and the cache.

    transformers 4 wants the image at every step, and 5 the positions.
    """
    image = {"pixel_values": torch.from_numpy(call["pixel_values"])} if MAJOR == "4" else {}
    length = call["input_ids"].shape[1]
    with at_work(), capture_torch(model) as found:
        out = model(**tensors(call), use_cache=True)
        for step in range(tokens):
            new = out.logits[:, -1].argmax(-1)[:, None]
            place = {"position_ids": torch.tensor([[length + step]])} if positions else {}
            more = image if MAJOR == "4" else place
            out = model(new, past_key_values=out.past_key_values, **more, **options)
    return found


# ---- one forward pass


@pytest.mark.parametrize("call", [image_call(), padded_call(), image_call(1, 1)])
def test_every_tensor_of_a_call_on_images_agrees(call: Arrays) -> None:
    ours, theirs = pair()
    assert_agrees(record(ours, **call), captured(theirs, call))


def test_every_tensor_of_a_call_on_videos_agrees() -> None:
    ours, theirs = pair(VIDEO)
    found = captured(theirs, video_call())
    assert_agrees(record(ours, **video_call()), found)
    rows = found["git.image_encoder.vision_model.post_layernorm"].shape[0]
    assert rows == 2 * FRAMES  # the frames of a video one after the other


@IN_4
@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_scores_with_relative_positions_agree(kind: str) -> None:
    ours, theirs = pair(testing.CONFIG.replace(position_embedding_type=kind))
    found = captured(theirs, image_call(), use_cache=False)
    assert "git.embeddings.sum" in found  # the words alone, which refgit does not name
    rest = [name for name in found if name != "git.embeddings.sum"]
    assert_agrees(record(ours, **image_call()), Trace({name: found[name] for name in rest}))


def test_pictures_of_other_sizes_agree() -> None:
    ours, theirs = pair()
    call = image_call()
    call["pixel_values"] = np.random.default_rng(1).standard_normal((2, 3, 12, 20)).astype("f4")
    found = captured(theirs, call, interpolate_pos_encoding=True)
    assert_agrees(record(ours, **call, interpolate_pos_encoding=True), found)


def test_several_texts_below_one_image_agree() -> None:
    ours, theirs = pair()
    call = {"pixel_values": testing.pixels(1), "input_ids": testing.tokens(3)}
    assert_agrees(record(ours, **call), captured(theirs, call))


def test_a_text_without_an_image_agrees() -> None:
    ours, theirs = pair()
    call = {"input_ids": testing.tokens(2)}
    assert_agrees(record(ours, **call), captured(theirs, call, use_cache=False))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept(dtype: str) -> None:
    ours, theirs = pair()
    call = image_call()
    theirs.to(getattr(torch, dtype))
    pixels = torch.from_numpy(call["pixel_values"]).to(getattr(torch, dtype))
    with at_work(), capture_torch(theirs) as found:
        theirs(input_ids=torch.from_numpy(call["input_ids"]), pixel_values=pixels)
    assert found.meta["dtype"] == dtype
    computed = [name for name in found if name != "input.input_ids"]
    assert {found.dtype_of(name) for name in computed} == {dtype}
    assert first_difference(record(ours, **call), found, 0.1) is None


def test_the_parts_of_a_model_have_the_names_of_refgits_parts() -> None:
    ours, theirs = pair()
    whole = record(ours, **image_call())
    found = captured(theirs.git, image_call())
    inner = [n.removeprefix("git.") for n in names_of(whole) if n != "output"]
    assert names_of(found) == inner
    tower = captured(theirs.git.image_encoder, {"pixel_values": testing.pixels(2)})
    for name in names_of(tower)[1:]:
        assert error(tower[name], whole[f"git.image_encoder.{name}"]) <= 2e-5


# ---- steps


@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_agrees_step_by_step(use_cache: bool) -> None:
    ours, theirs = pair()
    found = generated(theirs, image_call(), use_cache=use_cache)
    assert_agrees(record(ours, **image_call(), tokens=STEPS), found)
    assert found.meta["producer"] == f"transformers {VERSION}"


def test_generation_runs_the_image_again_and_only_the_new_word_is_kept() -> None:
    ours, theirs = pair()
    found = generated(theirs, image_call())
    assert_agrees(record(ours, **image_call(), tokens=STEPS), found)
    assert found.meta["calls"] == str(STEPS)
    assert found.meta["prompt_length"] == "4"


def test_generation_without_a_cache_agrees_step_by_step() -> None:
    ours, theirs = pair()
    found = generated(theirs, image_call(), use_cache=False)
    assert_agrees(record(ours, **image_call(), tokens=STEPS), found)


def test_generation_below_videos_agrees_step_by_step() -> None:
    ours, theirs = pair(VIDEO)
    assert_agrees(record(ours, **video_call(), tokens=STEPS), generated(theirs, video_call()))


@IN_4
def test_a_loop_written_by_hand_agrees_step_by_step() -> None:
    ours, theirs = pair()
    assert_agrees(record(ours, **image_call(), tokens=STEPS), stepwise(theirs, image_call()))


@IN_5
def test_a_loop_that_gives_positions_agrees_step_by_step() -> None:
    ours, theirs = pair()
    found = stepwise(theirs, image_call(), positions=True)
    assert_agrees(record(ours, **image_call(), tokens=STEPS), found)


@pytest.mark.parametrize(
    ("config", "call"), [(testing.CONFIG, image_call()), (VIDEO, video_call())]
)
def test_no_tensor_of_generation_is_over_the_noise_floor(config: Any, call: Arrays) -> None:
    ours, theirs = pair(config)
    reference = record(ours, **call, tokens=STEPS)
    noise = NoiseFloor.measure(ours, reference)
    comparison = compare(reference, generated(theirs, call), noise=noise)
    assert comparison.ok, comparison.sentence
    assert {row.name: row.matched for row in comparison.rows if "input." not in row.name} == {
        name: name for name in reference if "input." not in name
    }


@IN_4
def test_padding_that_is_forgotten_while_decoding_shows_in_the_probabilities() -> None:
    """Quirk 5 of transformers 4: with a cache the attention mask is computed and not used."""
    ours, theirs = pair()
    found = generated(theirs, padded_call())
    wrong = first_difference(record(ours, **padded_call(), tokens=STEPS), found)
    assert wrong == "step.1.git.encoder.layer.0.attention.self.probabilities"


@IN_4
def test_the_distances_of_a_cached_prompt_show_in_the_scores() -> None:
    """Quirk 2 of transformers 4: every query stands at the last position."""
    ours, theirs = pair(testing.CONFIG.replace(position_embedding_type="relative_key"))
    found = captured(theirs, image_call(), use_cache=True)
    wrong = first_difference(record(ours, **image_call()), found)
    assert wrong == "git.encoder.layer.0.attention.self.scores"


@IN_5
def test_a_step_without_positions_differs_first_in_its_position_embedding() -> None:
    ours, theirs = pair()
    found = stepwise(theirs, image_call(), positions=False)
    reference = record(ours, **image_call(), tokens=STEPS)
    assert first_difference(reference, found) == POSITIONS
    # it is the embedding of a place that lies as many further on as there are image tokens
    table = ours.state_dict()["git.embeddings.position_embeddings.weight"]
    assert error(found[POSITIONS][0, 0], table[4 + testing.IMAGE_TOKENS]) == 0.0
    assert error(reference[POSITIONS][0, 0], table[4]) == 0.0


@IN_5
@pytest.mark.parametrize("hidden", ["", "position_embeddings", "embeddings.", "git."])
def test_the_diagnosis_of_that_step_names_the_image_tokens(hidden: str) -> None:
    """Also where the other implementation does not show the embedding itself."""
    ours, theirs = pair()
    found = stepwise(theirs, image_call(), positions=False, tokens=1)
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


@IN_5
def test_words_that_follow_from_a_wrong_step_do_not_hide_it() -> None:
    ours, theirs = pair()
    found = stepwise(theirs, image_call(), positions=False)
    diagnosis = diagnose(record(ours, **image_call(), tokens=STEPS), found, ours)
    assert diagnosis.located == POSITIONS


def test_a_call_that_continues_nothing_is_a_call_of_its_own() -> None:
    _, theirs = pair()
    with at_work(), capture_torch(theirs) as found:
        for seed in range(2):
            pixels = torch.from_numpy(testing.pixels(1, seed))
            theirs(input_ids=torch.from_numpy(testing.tokens(1)), pixel_values=pixels)
    assert {name for name in found if name.endswith("output")} == {"output", "call.1.output"}
    assert found.meta["calls"] == "0"


# ---- what capturing does to the model, and to memory


def test_results_are_the_same_and_nothing_stays_on_the_model() -> None:
    _, theirs = pair()
    with at_work():
        plain = theirs(**tensors(image_call())).logits
        with capture_torch(theirs) as found:
            watched = theirs(**tensors(image_call())).logits
        size = len(found)
        theirs(**tensors(image_call()))
    assert torch.equal(plain, watched)
    assert len(found) == size
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in theirs.modules())


def test_only_what_is_selected_is_kept() -> None:
    _, theirs = pair()
    found = captured(theirs, image_call(), ["*.probabilities", "git.encoder.layer.1.output"])
    kinds = {name.rpartition(".")[2] for name in found if not name.startswith("input.")}
    assert kinds == {"probabilities", "dense", "residual", "LayerNorm"}
    assert len(found) == 2 + 5 + 3


def test_what_an_error_left_is_there_and_the_hooks_are_gone() -> None:
    _, theirs = pair()
    theirs.git.encoder.layer[1].intermediate.dense = torch.nn.Linear(7, 7)
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        at_work(),
        capture_torch(theirs) as found,
    ):
        theirs(**tensors(image_call()))
    assert list(found)[-1] == "git.encoder.layer.1.attention.output.LayerNorm"
    assert all(not m._forward_hooks for m in theirs.modules())


def test_the_file_comes_back_with_order_config_and_producer(tmp_path: Path) -> None:
    ours, theirs = pair()
    found = generated(theirs, image_call())
    found.save(tmp_path / "theirs.safetensors")
    again = Trace.load(tmp_path / "theirs.safetensors")
    assert list(again) == list(found)
    assert again.meta["producer"] == f"transformers {VERSION}"
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
    ours, theirs = pair()
    wrapped = Wrapped(theirs)
    with at_work(), capture_torch(wrapped) as found:
        wrapped(tensors(image_call()))
    reference = record(ours, **image_call())
    computed = [n for n in names_of(reference) if not n.startswith("input.")]
    assert [n for n in found if n in reference and not n.startswith("input.")] == computed
    assert first_difference(reference, found) is None


def test_an_activation_that_is_a_plain_function_is_seen_behind_it() -> None:
    ours, theirs = pair()
    for layer in theirs.git.encoder.layer:
        del layer.intermediate.intermediate_act_fn
        layer.intermediate.intermediate_act_fn = lambda x: torch.nn.functional.gelu(x)
    assert_agrees(record(ours, **image_call()), captured(theirs, image_call()))


def test_a_module_that_git_has_not_is_named_by_its_path() -> None:
    ours, theirs = pair()
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

    ours, theirs = pair()
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
