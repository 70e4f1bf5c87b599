"""Recording: what a trace holds and in which order, and how it is cut to size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from helpers.backends import make_backend
from refgit import GitForCausalLM, GitModel, GitVisionModel
from refgit.errors import TraceError
from refgit.testing import CONFIG, IMAGE_TOKENS, VISION, pixels, tiny_model, tokens
from refgit.traces.cap import capped
from refgit.traces.container import Trace
from refgit.traces.names import TensorName, is_input
from refgit.traces.recorder import record, trace


def recorded(**options: Any) -> Trace:
    return record(tiny_model(), pixels(2), tokens(2), **options)


# ---- what is recorded


def test_a_trace_holds_every_tap_and_the_inputs() -> None:
    model, seen = tiny_model(), {}
    model(tokens(2), pixel_values=pixels(2), hook=lambda name, x: seen.update({name: np.array(x)}))
    found = recorded()
    assert set(found) - set(seen) == {
        "input.pixel_values",
        "input.input_ids",
        "input.position_ids",
    }
    for name, x in seen.items():
        np.testing.assert_array_equal(found[name], x)
    np.testing.assert_array_equal(found["input.pixel_values"], pixels(2))
    np.testing.assert_array_equal(found["input.input_ids"], tokens(2))
    np.testing.assert_array_equal(found["input.position_ids"], [[0, 1, 2, 3]])


def test_inputs_come_first_then_image_text_decoder_and_logits() -> None:
    parts = [name.removeprefix("git.").split(".")[0] for name in recorded()]
    assert list(dict.fromkeys(parts)) == [
        "input", "image_encoder", "visual_projection", "embeddings", "encoder", "output",
    ]  # fmt: skip


def test_a_tensor_is_recorded_after_what_it_is_made_of() -> None:
    order = recorded().order
    steps = ("query", "key", "value", "scores", "probabilities", "context")
    places = [order.index(f"git.encoder.layer.1.attention.self.{step}") for step in steps]
    assert places == sorted(places)


def test_decode_steps_read_the_likeliest_word_on_top_of_the_cache() -> None:
    found = recorded(tokens=3)
    written = tiny_model().generate(
        pixels(2), tokens(2), max_new_tokens=3, eos_token_id=None, pad_token_id=None
    )
    for step in range(1, 4):
        words = found[f"step.{step}.input.input_ids"]
        np.testing.assert_array_equal(words, written[:, 3 + step : 4 + step])
        np.testing.assert_array_equal(found[f"step.{step}.input.position_ids"], [[3 + step]])
        heads, keys = CONFIG.num_attention_heads, IMAGE_TOKENS + 4 + step
        scores = found[f"step.{step}.git.encoder.layer.0.attention.self.scores"]
        assert scores.shape == (2, heads, 1, keys)
    assert (found.meta["calls"], found.meta["prompt_length"]) == ("3", "4")


def test_a_step_has_the_logits_of_the_whole_text_read_at_once() -> None:
    found = recorded(tokens=2, dtype="float64")
    steps = [found[f"step.{step}.input.input_ids"] for step in (1, 2)]
    whole = tiny_model(dtype="float64")(
        np.concatenate([tokens(2), *steps], 1), pixel_values=pixels(2)
    ).logits
    np.testing.assert_allclose(found["step.2.output"][:, 0], whole[:, -1], rtol=1e-10, atol=1e-12)


def test_padding_and_positions_are_recorded_and_reach_the_steps() -> None:
    mask = np.array([[1, 1, 1, 1], [0, 1, 1, 1]])
    positions = np.array([[0, 1, 2, 3], [0, 0, 1, 2]])
    found = record(tiny_model(), pixels(2), tokens(2), mask, position_ids=positions, tokens=1)
    np.testing.assert_array_equal(found["input.attention_mask"], mask)
    np.testing.assert_array_equal(found["input.position_ids"], positions)
    np.testing.assert_array_equal(found["step.1.input.position_ids"], [[4], [3]])
    unseen = found["step.1.git.encoder.layer.0.attention.self.probabilities"]
    assert (unseen[1, :, 0, IMAGE_TOKENS] == 0).all()


def test_without_a_prompt_the_text_is_the_opening_token() -> None:
    found = record(tiny_model(), pixels(2))
    np.testing.assert_array_equal(found["input.input_ids"], [[CONFIG.bos_token_id]] * 2)


def test_a_trace_without_image_is_of_the_text_alone() -> None:
    found = record(tiny_model(), input_ids=tokens(1))
    assert not [name for name in found if "image_encoder" in name or "pixel" in name]


def test_videos_and_relative_positions_are_recorded() -> None:
    config = CONFIG.replace(position_embedding_type="relative_key", num_image_with_embedding=2)
    frames = pixels(2)[None]
    found = record(tiny_model(config=config), frames, tokens(1), tokens=1)
    assert found["input.pixel_values"].shape == frames.shape
    assert found["git.image_encoder.vision_model.post_layernorm"].shape[0] == 2
    assert "input.position_ids" not in found


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_trace_is_of_the_dtype_asked_for(dtype: str) -> None:
    found = recorded(dtype=dtype)
    assert {str(found[name].dtype) for name in found if found[name].dtype.kind == "f"} == {dtype}
    assert found.meta["dtype"] == dtype
    assert found.config == CONFIG


def test_the_metadata_of_a_vision_model_gives_no_git_config() -> None:
    with trace(GitVisionModel(VISION)) as found:
        GitVisionModel(VISION)  # another model is not listened to
    assert found.config is None
    assert len(found) == 0


def test_more_steps_than_positions_are_refused_before_the_first() -> None:
    with pytest.raises(ValueError, match=r"tokens is 30 and the prompt has 4.*positions for 24"):
        recorded(tokens=30)


def test_a_record_of_nothing_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="needs input_ids, or pixel_values"):
        record(tiny_model())


@pytest.mark.parametrize("name", ["numpy-definitions", "strict"])
def test_other_backends_record_the_same(name: str) -> None:
    model = tiny_model(backend=make_backend(name), dtype="float64")
    found = record(model, pixels(2), tokens(2), tokens=1)
    wanted = recorded(tokens=1, dtype="float64")
    assert found.order == wanted.order
    for tensor in wanted:
        np.testing.assert_allclose(found[tensor], wanted[tensor], rtol=1e-9, atol=1e-12)


def test_errors_of_the_model_are_the_models() -> None:
    with pytest.raises(ValueError, match="input_ids"):
        record(tiny_model(), pixels(1), np.array([[99]]))
    with pytest.raises(ValueError, match="input_ids"):
        record(tiny_model(), pixels(1), np.array([1, 2]), tokens=2)


# ---- listening to calls of one's own


def test_a_block_listens_and_leaves_model_and_results_as_they_were() -> None:
    model = tiny_model()
    operations = model.operations
    plain = model(tokens(1), pixel_values=pixels(1)).logits
    with trace(model) as found:
        logits = model(tokens(1), pixel_values=pixels(1)).logits
        assert isinstance(model, GitForCausalLM)
    assert type(model) is GitForCausalLM
    assert model.operations is operations
    np.testing.assert_array_equal(logits, plain)
    np.testing.assert_array_equal(found["output"], plain)
    before = len(found)
    model(tokens(1), pixel_values=pixels(1))
    assert len(found) == before


def test_an_error_inside_a_block_stops_the_listening() -> None:
    model = tiny_model()
    operations = model.operations
    with pytest.raises(ValueError, match="input_ids"), trace(model):
        model(np.array([[99]]))
    assert type(model) is GitForCausalLM
    assert model.operations is operations


def test_a_tap_and_a_trace_are_both_told() -> None:
    model, seen = tiny_model(), []
    with trace(model) as found:
        model(tokens(1), pixel_values=pixels(1), hook=lambda name, x: seen.append(name))
    assert set(seen) == {name for name in found if not is_input(name)}


def test_one_trace_inside_another_records_the_same() -> None:
    model = tiny_model()
    with trace(model) as outer, trace(model) as inner:
        model(tokens(1), pixel_values=pixels(1))
    assert outer.order == inner.order


def test_calls_that_begin_anew_and_steps_that_continue_them_are_told_apart() -> None:
    model = tiny_model()
    with trace(model) as found:
        cache = model(tokens(1), pixel_values=pixels(1)).past_key_values
        model([[5]], past_key_values=cache)
        cache = model(tokens(1), pixel_values=pixels(1)).past_key_values
        model([[5]], past_key_values=cache)
        model([[6]], past_key_values=cache)
    prefixes = list(dict.fromkeys(TensorName.parse(name).prefix for name in found))
    assert prefixes == ["", "step.1.", "call.1.", "call.1.step.1.", "call.1.step.2."]
    np.testing.assert_array_equal(found["step.1.input.position_ids"], [[4]])
    assert found.meta["calls"] == "1"


def test_generate_is_recorded_as_the_image_and_its_steps() -> None:
    model = tiny_model()
    with trace(model) as found:
        model.generate(pixels(1), tokens(1), max_new_tokens=2, eos_token_id=None)
    assert {name for name in found if is_input(name)} == {
        "input.pixel_values",
        "step.1.input.input_ids",
        "step.1.input.position_ids",
        "step.2.input.input_ids",
        "step.2.input.position_ids",
    }


def test_other_models_can_be_traced_by_their_own_names() -> None:
    vision, trunk = GitVisionModel(VISION), GitModel(CONFIG)
    with trace(vision) as found:
        vision(pixels(1))
    assert found.order[:2] == ["input.pixel_values", "vision_model.embeddings.patch_embedding"]
    with trace(trunk) as found:
        trunk(tokens(1), pixel_values=pixels(1))
    assert found.order[-1] == "encoder.layer.2.output.LayerNorm"


def test_a_copy_made_inside_the_block_is_not_listened_to() -> None:
    model = tiny_model()
    with trace(model) as found:
        model.to(dtype="float64")(tokens(1), pixel_values=pixels(1))
    assert len(found) == 0


def test_what_is_recorded_is_a_copy() -> None:
    image = pixels(1)
    found = record(tiny_model(), image, tokens(1))
    image[:] = 0
    assert found["input.pixel_values"].any()


# ---- parts


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("output", {"output", "step.1.output"}),
        ("git.encoder.layer.1.attention.output", None),
        ("*.layer.2.*dense", None),
        ("step.1.output", {"step.1.output"}),
        ("git.embeddings", None),
    ],
)
def test_patterns_select_tensors_modules_and_steps(pattern: str, wanted: set[str] | None) -> None:
    whole = recorded(tokens=1)
    found = recorded(tokens=1, select=[pattern])
    assert found.order == whole.select([pattern]).order
    chosen = {name for name in found if not is_input(name)}
    assert 0 < len(chosen) < len(whole)
    assert {n for n in found if is_input(n)} == {n for n in whole if is_input(n)}
    if wanted is not None:
        assert chosen == wanted
    elif "*" not in pattern:
        assert all(TensorName.parse(name).path.startswith(pattern) for name in chosen)


def test_a_trace_is_cut_to_size_by_whole_kinds_the_largest_first() -> None:
    whole = recorded(tokens=1)
    sizes: dict[str, int] = {}
    for name in whole:
        sizes[TensorName.parse(name).kind] = (
            sizes.get(TensorName.parse(name).kind, 0) + whole[name].nbytes
        )
    small = recorded(tokens=1, max_bytes=whole.nbytes - 1)
    assert small.nbytes < whole.nbytes
    gone = json.loads(small.meta["left_out"])
    assert len(gone) == 1
    last = ("layers.*", "LayerNorm", "post_layernorm", "projection.1")
    rest = [k for k in sizes if not k.endswith(last) and k != "output" and "input." not in k]
    assert sizes[gone[0]] == max(sizes[kind] for kind in rest)


def test_a_trace_of_any_size_keeps_its_inputs_and_an_impossible_one_is_refused() -> None:
    whole = recorded()
    inputs = sum(x.nbytes for x in whole.inputs.values())
    assert capped(whole, inputs).order == list(whole.inputs)
    assert capped(whole, whole.nbytes).order == whole.order
    few = capped(whole, inputs + 2 * whole["output"].nbytes)
    assert len(few) > len(whole.inputs)
    assert not [name for name in few if "probabilities" in name or "dense" in name]
    with pytest.raises(TraceError, match=rf"inputs alone take {inputs} bytes.*may take 10"):
        recorded(max_bytes=10)
