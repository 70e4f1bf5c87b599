"""Capturing traces, as far as it goes without torch and onnxruntime: names, steps, messages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refgit import testing
from refgit.traces.capture.call import in_order, join_calls, text_rows, tokens_last
from refgit.traces.capture.names import Names
from refgit.traces.capture.onnx import capture_onnx
from refgit.traces.capture.torch import capture_torch
from refgit.traces.names import TensorName, is_wanted
from refgit.traces.recorder import record

BLOCK = "git.encoder.layer.0"
TOWER = "git.image_encoder.vision_model"
# what a GIT of transformers has modules for
TREE = [
    "",
    "git",
    "git.embeddings",
    "git.embeddings.word_embeddings",
    "git.embeddings.position_embeddings",
    "git.embeddings.LayerNorm",
    "git.embeddings.dropout",
    "git.image_encoder",
    TOWER,
    f"{TOWER}.embeddings",
    f"{TOWER}.embeddings.patch_embedding",
    f"{TOWER}.embeddings.position_embedding",
    f"{TOWER}.pre_layrnorm",
    f"{TOWER}.encoder",
    *(
        f"{TOWER}.encoder.layers.{i}{part}"
        for i in range(testing.VISION.num_hidden_layers)
        for part in (
            "",
            ".self_attn",
            *(f".self_attn.{name}_proj" for name in ("k", "v", "q", "out")),
            ".layer_norm1",
            ".mlp",
            *(f".mlp.{name}" for name in ("activation_fn", "fc1", "fc2")),
            ".layer_norm2",
        )
    ),
    f"{TOWER}.post_layernorm",
    "git.encoder",
    *(
        f"git.encoder.layer.{i}{part}"
        for i in range(testing.CONFIG.num_hidden_layers)
        for part in (
            "",
            ".attention",
            ".attention.self",
            *(f".attention.self.{name}" for name in ("query", "key", "value", "dropout")),
            *(f".attention.output{name}" for name in ("", ".dense", ".LayerNorm", ".dropout")),
            *(f".intermediate{name}" for name in ("", ".dense", ".intermediate_act_fn")),
            *(f".output{name}" for name in ("", ".dense", ".LayerNorm", ".dropout")),
        )
    ),
    "git.visual_projection",
    "git.visual_projection.visual_projection",
    "git.visual_projection.visual_projection.0",
    "git.visual_projection.visual_projection.1",
    "output",
]


def all_names(names: Names, tree: list[str]) -> set[str]:
    found = {names.at_output(path) for path in tree} | {names.at_input(path) for path in tree}
    inside = {names.attention(path) for path in tree} - {None}
    shown = {f"{path}.{kind}" for path in inside for kind in ("scores", "probabilities")}
    return {name for name in found if name is not None} | shown


def test_the_modules_of_transformers_give_every_name_that_refgit_has() -> None:
    trace = record(testing.tiny_model(), testing.pixels(), testing.tokens())
    computed = {name for name in trace if not name.startswith("input.")}
    assert all_names(Names(TREE), TREE) == computed


@pytest.mark.parametrize("prefix", ["model.", "student.inner."])
def test_a_tree_inside_another_has_the_same_names(prefix: str) -> None:
    tree = [prefix + path for path in TREE if path]
    assert all_names(Names(tree), tree) == all_names(Names(TREE), TREE)


def test_a_tree_without_its_top_is_named_as_a_part_of_the_whole_if_asked() -> None:
    tree = [path.removeprefix("git.") for path in TREE if path not in ("", "git")]
    assert all_names(Names(tree, whole=True), tree) == all_names(Names(TREE), TREE)
    plain = {name.removeprefix("git.") for name in all_names(Names(TREE), TREE)}
    assert all_names(Names(tree), tree) == plain
    tower = [path.removeprefix("git.image_encoder.") for path in TREE if TOWER in path]
    assert all_names(Names(tower, whole=True), tower) < all_names(Names(TREE), TREE)


def test_an_activation_without_a_module_is_named_where_it_is_read() -> None:
    tree = [path for path in TREE if not path.endswith(("activation_fn", "act_fn"))]
    assert all_names(Names(tree), tree) == all_names(Names(TREE), TREE)
    assert Names(TREE).at_input(f"{BLOCK}.output.dense") is None


def test_modules_that_refgit_does_not_know_are_named_by_their_paths() -> None:
    assert Names(TREE).at_output(f"{BLOCK}.intermediate.adapter") == (
        f"{BLOCK}.intermediate.adapter.output"
    )
    other = Names(["", "0", "0.attention"])
    assert not other.is_git
    assert [other.at_output(path) for path in ("", "0.attention")] == [
        "output",
        "0.attention.output",
    ]
    assert other.at_input("0.attention") is other.attention("0.attention") is None


def test_frames_that_go_through_the_tower_one_by_one_stand_as_rows_of_a_video() -> None:
    frames = [np.full((2, 5, 4), i) for i in range(3)]
    joined = join_calls(f"{TOWER}.pre_layrnorm", frames)[f"{TOWER}.pre_layrnorm"]
    assert joined.shape == (6, 5, 4)
    assert joined[:, 0, 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert list(join_calls("head.output", frames)) == [
        "head.output",
        "head.output#2",
        "head.output#3",
    ]


def test_a_step_keeps_the_rows_of_its_token() -> None:
    x = np.arange(24).reshape(1, 6, 4)
    assert text_rows(f"{BLOCK}.output.dense", x, 1).tolist() == [[[20, 21, 22, 23]]]
    scores = np.zeros((1, 2, 6, 9))
    assert text_rows(f"{BLOCK}.attention.self.scores", scores, 1).shape == (1, 2, 1, 9)
    assert text_rows(f"{TOWER}.pre_layrnorm", x, 1) is x
    assert TensorName.parse("step.1.git.visual_projection.visual_projection.0").is_image


def test_patches_are_rows_of_tokens() -> None:
    x = np.arange(12).reshape(1, 2, 2, 3)  # (B, D, rows, columns)
    found = tokens_last(f"{TOWER}.embeddings.patch_embedding", x)
    assert found.tolist() == [[[i, 6 + i] for i in range(6)]]
    assert tokens_last("conv.output", x) is x


def test_a_call_is_told_from_image_to_text() -> None:
    names = ["output", "git.embeddings.sum", "input.input_ids", f"{TOWER}.pre_layrnorm"]
    found = in_order({name: np.zeros(1) for name in [*names, "input.pixel_values"]})
    assert list(found) == ["input.pixel_values", *(names[i] for i in (2, 3, 1, 0))]


def test_patterns_mean_what_they_mean_for_a_trace() -> None:
    assert is_wanted("step.2.output", None)
    assert is_wanted("step.2.output", ["output"])
    assert is_wanted("input.input_ids", ["output"])
    assert not is_wanted("git.embeddings.sum", ["output"])


# ---- what is missing is named, with the remedy


def test_torch_that_is_missing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    message = "torch is not installed: pip install torch"
    with pytest.raises(ImportError, match=message), capture_torch(object()):
        pass


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_onnx_that_is_missing_is_asked_for(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in: Any = object()
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else stand_in)
    message = rf"{missing} is not installed: pip install onnx onnxruntime"
    with pytest.raises(ImportError, match=message):
        capture_onnx(tmp_path / "model.onnx", {})


def test_an_onnx_file_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in: Any = object()
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, stand_in)
    with pytest.raises(ValueError, match=r"nowhere\.onnx is not there; expected an \.onnx file"):
        capture_onnx(tmp_path / "nowhere.onnx", {})
