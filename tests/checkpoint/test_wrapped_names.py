"""Weights whose names are wrapped, quantised or in excess: mapped by fit, or said and refused."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from refgit import CheckpointError, GitForCausalLM, GitModel, GitVisionModel, testing
from refgit.checkpoint.fit import fit_names
from refgit.errors import CheckpointWarning
from refgit.model.parameters import causal_lm_shapes
from tests.helpers.torch_files import dense
from tests.helpers.torch_files import write as write_torch

WEIGHTS = "model.safetensors"
SHAPES = causal_lm_shapes(testing.CONFIG)
QUERY = "git.encoder.layer.0.attention.self.query"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    testing.tiny_model().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def tensors(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / WEIGHTS)


WRAPPINGS: dict[str, Callable[[str], str]] = {
    "distributed": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "Lightning": lambda name: f"model.{name}",
    "of one's own": lambda name: f"captioner.net.{name}",
    "a compiled encoder": lambda name: name.replace("git.encoder.", "git.encoder._orig_mod."),
    "compiled layers": lambda name: name.replace("layer.1.", "layer.1._orig_mod."),
    "a known word in front": lambda name: f"encoder.{name}",
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_wrapped_names_are_found(
    wrap: Callable[[str], str], folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    save_file({wrap(name): x for name, x in tensors.items()}, folder / WEIGHTS)
    for kind in (GitForCausalLM, GitModel, GitVisionModel):
        for name, x in kind.from_pretrained(folder).state_dict().items():
            np.testing.assert_array_equal(x, tensors[kind.prefix + name])


def wrap_all(tensors: Mapping[str, np.ndarray]) -> dict[str, object]:
    return {name: dense(x) for name, x in tensors.items()}


@pytest.mark.parametrize("keys", [("state_dict",), ("model",), ("ema",), ("state", "weights")])
@pytest.mark.parametrize("before", ["", "module."])
def test_weights_in_dicts_of_a_torch_file_are_found(
    keys: tuple[str, ...], before: str, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    (folder / WEIGHTS).unlink()
    content: object = OrderedDict((before + name, dense(x)) for name, x in tensors.items())
    for key in reversed(keys):
        content = {"epoch": 3, key: content, "name": "best", "losses": [0.5, 0.25]}
    write_torch(folder / "pytorch_model.bin", content)
    for name, x in GitForCausalLM.from_pretrained(folder).state_dict().items():
        np.testing.assert_array_equal(x, tensors[name])


def test_of_two_copies_one_is_taken_and_both_are_said(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    (folder / WEIGHTS).unlink()
    other = {name: dense(x + 1) for name, x in tensors.items()}
    write_torch(folder / "pytorch_model.bin", {"model": wrap_all(tensors), "ema": other})
    with pytest.warns(CheckpointWarning, match=r"2 times.*'model\.' and 'ema\.'.*'model\.'"):
        found = GitForCausalLM.from_pretrained(folder).state_dict()
    np.testing.assert_array_equal(found["output.bias"], tensors["output.bias"])


def test_tensors_of_an_optimizer_are_said_and_left_out(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    (folder / WEIGHTS).unlink()
    state = {0: {"exp_avg": dense(np.zeros(3, np.float32)), "step": 7}}
    content = {"model": wrap_all(tensors), "optimizer": {"state": state}}
    write_torch(folder / "pytorch_model.bin", content)
    with pytest.warns(CheckpointWarning, match=r"optimizer\.state\.0\.exp_avg.*left out"):
        GitForCausalLM.from_pretrained(folder)


PART = st.text("abcdefgh_", min_size=1, max_size=6)


@given(st.lists(PART, max_size=3), st.lists(PART, max_size=2), st.integers(0, 99))
def test_any_wrapping_fits(before: list[str], inside: list[str], seed: int) -> None:
    """Whatever stands before all names, and within those of one layer."""
    vocabulary = {part for name in SHAPES for part in name.split(".")}
    before = [part for part in before if part not in vocabulary]
    inside = [part for part in inside if part not in vocabulary]
    layer = f"layer.{seed % 3}."
    wrapped = {
        ".".join([*before, name.replace(layer, layer + "".join(f"{x}." for x in inside))]): name
        for name in SHAPES
    }
    fit = fit_names({file: SHAPES[name] for file, name in wrapped.items()}, SHAPES)
    assert fit.names == {name: file for file, name in wrapped.items()}
    assert (fit.left, fit.others) == ([], [])


# ---- quantised weights

BY_NAME = {
    "bitsandbytes, in 8 bits": (np.int8, ["SCB", "weight_format"]),
    "bitsandbytes, in 4 bits": (
        np.uint8,
        ["weight.absmax", "weight.quant_map", "weight.quant_state.bitsandbytes__nf4"],
    ),
    "GPTQ": (np.int32, ["qweight", "qzeros", "scales", "g_idx"]),
    "AWQ": (np.int32, ["qweight", "qzeros", "scales"]),
    "torchao": (np.int8, ["_weight_qdata", "_weight_scale"]),
    "HQQ": (np.uint8, ["W_q", "meta"]),
}


@pytest.mark.parametrize("kind", BY_NAME)
def test_quantised_weights_are_told_by_their_names(
    kind: str, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    dtype, leaves = BY_NAME[kind]
    tensors[f"{QUERY}.weight"] = np.zeros((16, 16), dtype)
    save_file(tensors | {f"{QUERY}.{x}": np.zeros(4, dtype) for x in leaves}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"quantised by {kind}") as caught:
        GitForCausalLM.from_pretrained(folder)
    remedy = "dequantize" if "bitsandbytes" in kind else "checkpoint that it was made from"
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, in 4 bits"),
        ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ({"quant_method": "torchao"}, "torchao"),
        ({"quant_method": "quanto"}, "quanto"),
    ],
)
def test_quantised_weights_are_told_by_the_config(
    entry: dict[str, object], words: str, folder: Path
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": entry}))
    with pytest.raises(CheckpointError, match=f"quantised by {words}.*quantization_config"):
        GitForCausalLM.from_pretrained(folder)


# ---- relative positions


def test_lost_tables_of_relative_positions_are_explained(tmp_path: Path) -> None:
    config = testing.tiny_config(position_embedding_type="relative_key")
    testing.tiny_model(config=config).save_pretrained(tmp_path)
    kept = {k: x for k, x in load_file(tmp_path / WEIGHTS).items() if "distance" not in k}
    save_file({name: x.copy() for name, x in kept.items()}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="transformers 5 has dropped relative") as caught:
        GitForCausalLM.from_pretrained(tmp_path)
    assert '"position_embedding_type": "absolute"' in str(caught.value)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("best.pt", "pytorch_model.bin"),
        ("last.ckpt", "pytorch_model.bin"),
        ("x.safetensors", WEIGHTS),
    ],
)
def test_weights_under_another_name_are_pointed_at(name: str, wanted: str, folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / name)
    (folder / "optimizer.pt").touch()
    with pytest.raises(
        CheckpointError, match=f"If {name} holds the weights, rename it to {wanted}"
    ):
        GitForCausalLM.from_pretrained(folder)
