"""Names of tensors: read, asked, and written as they were."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import golden_cases as golden
from refgit import testing
from refgit.traces.names import TensorName, natural_order
from refgit.traces.recorder import record

PARTS = st.sampled_from(
    ["call", "step", "layer", "layers", "git", "input", "output", "encoder", "", "0", "1", "07"]
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "call.1.step.2.git.encoder.layer.0.attention.self.query",
            (1, 2, "git.encoder.layer", 0, "attention.self.query"),
        ),
        ("git.encoder.layer.3", (None, None, "git.encoder.layer", 3, "")),
        ("step.10.layers.11.mlp.fc1", (None, 10, "layers", 11, "mlp.fc1")),
        ("output", (None, None, "", None, "output")),
        ("call.2.output", (2, None, "", None, "output")),
        ("input.pixel_values", (None, None, "input", None, "pixel_values")),
        (
            "git.visual_projection.visual_projection.1",
            (None, None, "git.visual_projection.visual_projection", None, "1"),
        ),
        (
            "git.image_encoder.vision_model.embeddings",
            (None, None, "git.image_encoder.vision_model", None, "embeddings"),
        ),
        ("layer.07.x", (None, None, "layer.07", None, "x")),
    ],
)
def test_a_name_has_a_call_a_step_a_module_a_layer_and_a_leaf(text: str, parts: tuple) -> None:
    name = TensorName.parse(text)
    assert name == TensorName(*parts)
    assert str(name) == text


@given(st.text() | st.lists(PARTS).map(".".join))
def test_any_text_is_written_as_it_was_read(text: str) -> None:
    name = TensorName.parse(text)
    assert str(name) == text
    assert name.prefix + name.path == text


@given(
    st.none() | st.integers(0, 20),
    st.none() | st.integers(0, 20),
    st.sampled_from(["git.encoder.layer", "layers", "vision_model.encoder.layers"]),
    st.integers(0, 99),
    st.sampled_from(["", "mlp.fc1", "attention.output.LayerNorm"]),
)
def test_the_parts_of_a_name_come_back(
    call: int | None, step: int | None, module: str, layer: int, leaf: str
) -> None:
    name = TensorName(call, step, module, layer, leaf)
    assert TensorName.parse(str(name)) == name
    assert replace(replace(name, call=None, step=None), call=call, step=step) == name
    assert name.block == f"{name.prefix}{module}.{layer}"
    assert name.kind == f"{module}.*" + (f".{leaf}" if leaf else "")


@pytest.mark.parametrize("case", golden.FORWARD_CASES)
def test_every_stored_name_of_a_golden_case_is_written_as_it_was_read(case: str) -> None:
    for stored in golden.tensors(case):
        name = TensorName.parse(stored.removeprefix("tap."))
        assert str(name) == stored.removeprefix("tap.")


def test_the_names_of_a_trace_say_where_they_are_computed() -> None:
    found = record(testing.tiny_model(), testing.pixels(), testing.tokens(), tokens=2)
    names = [TensorName.parse(name) for name in found]
    assert [str(name) for name in names] == list(found)
    assert {name.step for name in names} == {None, 1, 2}
    assert {name.call for name in names} == {None}
    assert {name.layer for name in names if name.is_decoder} == {0, 1, 2}
    assert {name.layer for name in names if name.is_image} == {None, 0, 1}
    inputs = [name.leaf for name in names if name.is_input and name.step is None]
    assert inputs == ["pixel_values", "input_ids", "position_ids"]
    assert not any(name.is_input and name.is_image for name in names)


def test_a_pattern_means_a_tensor_or_all_of_a_module_in_every_step() -> None:
    name = TensorName.parse("step.1.git.encoder.layer.0.attention.self.query")
    for pattern in (str(name), "git.encoder.layer.0", "*.query", "step.1", "git.*.self.*"):
        assert name.matches(pattern)
    for pattern in ("git.encoder.layer.1", "step.2", "query", "git.encoder.layer.0.attention.sel"):
        assert not name.matches(pattern)


def test_numbers_in_names_are_counted() -> None:
    assert natural_order(["layer.10", "layer.2", "a", "layer"]) == [
        "a", "layer", "layer.2", "layer.10",
    ]  # fmt: skip


@given(numbers=st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_counts_numbers(numbers: list[int]) -> None:
    names = [f"layer.{n}.x" for n in numbers]
    assert natural_order(names) == [f"layer.{n}.x" for n in sorted(numbers)]
