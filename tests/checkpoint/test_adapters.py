"""Adapters of peft, built here by hand: what is merged is what their formulas say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from refgit import CheckpointError, GitConfig, GitForCausalLM, GitModel, testing
from refgit.checkpoint.headers import read_adapter_headers
from refgit.errors import CheckpointWarning
from refgit.parts import find_parts
from tests.helpers.torch_files import dense
from tests.helpers.torch_files import write as write_torch

QUERY = "git.encoder.layer.0.attention.self.query"
KEY = "git.encoder.layer.1.attention.self.key"
WORDS = "git.embeddings.word_embeddings"
PATCHES = "git.image_encoder.vision_model.embeddings.patch_embedding"
NORM = "git.image_encoder.vision_model.post_layernorm"


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    testing.tiny_model().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def weights(base: Path) -> dict[str, np.ndarray]:
    return load_file(base / "model.safetensors")


def adapter(
    folder: Path, tensors: Mapping[str, np.ndarray], base: Path | str | None, **options: Any
) -> Path:
    """A directory as peft writes it."""
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "base_model_name_or_path": str(base)}
    config |= {"base_model_name_or_path": None} if base is None else {}
    (folder / "adapter_config.json").write_text(json.dumps(config | options))
    named = {f"base_model.model.{name}": x for name, x in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    return folder


def lora(layer: str, outputs: int, inputs: int, rank: int = 2) -> dict[str, np.ndarray]:
    return {
        f"{layer}.lora_A.weight": draw(rank, inputs),
        f"{layer}.lora_B.weight": draw(outputs, rank),
    }


def loaded(folder: Path, **options: Any) -> dict[str, np.ndarray]:
    model = GitForCausalLM.from_pretrained(folder, **options)
    return {name: np.asarray(x) for name, x in model.state_dict().items()}


def assert_changed(
    found: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    changed: Mapping[str, np.ndarray],
) -> None:
    for name, x in weights.items():
        expected = changed.get(name, x)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


def refused(folder: Path, *words: str, **options: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        GitForCausalLM.from_pretrained(folder, **options)
    for word in words:
        assert word in str(caught.value)


# ---- what is merged


@pytest.mark.parametrize("rslora", [False, True])
def test_a_lora_adds_its_scaled_product(
    rslora: bool, base: Path, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    tensors = lora(QUERY, 16, 16)
    folder = adapter(tmp_path / "a", tensors, base, use_rslora=rslora)
    scale = 6 / math.sqrt(2) if rslora else 3
    a, b = tensors.values()
    expected = {f"{QUERY}.weight": weights[f"{QUERY}.weight"] + scale * b @ a}
    assert_changed(loaded(folder), weights, expected)


def test_patterns_give_layers_ranks_and_scales_of_their_own(
    base: Path, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    one, two = lora(QUERY, 16, 16, rank=4), lora(KEY, 16, 16)
    patterns = {
        "rank_pattern": {r"layer\.0\.attention.*": 4},
        "alpha_pattern": {"layer.1.attention.self.key": 10, "key": 99},
    }
    folder = adapter(tmp_path / "a", one | two, base, **patterns)
    (a, b), (c, d) = one.values(), two.values()
    expected = {
        f"{QUERY}.weight": weights[f"{QUERY}.weight"] + 6 / 4 * b @ a,
        f"{KEY}.weight": weights[f"{KEY}.weight"] + 10 / 2 * d @ c,
    }
    assert_changed(loaded(folder), weights, expected)


def test_an_embedding_a_convolution_a_bias_and_a_whole_module_are_merged(
    base: Path, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    a, b = draw(2, 23), draw(16, 2)
    c, d = draw(2, 3, 4, 4), draw(12, 2, 1, 1)
    tensors = {
        f"{WORDS}.lora_embedding_A": a,
        f"{WORDS}.lora_embedding_B": b,
        f"{PATCHES}.lora_A.weight": c,
        f"{PATCHES}.lora_B.weight": d,
        f"{KEY}.base_layer.bias": draw(16),
        f"{NORM}.weight": draw(12),  # of modules_to_save
        f"{NORM}.modules_to_save.default.bias": draw(12),  # as older versions of peft write it
    }
    folder = adapter(tmp_path / "a", tensors, base, fan_in_fan_out=True)
    patches = np.einsum("or,rchw->ochw", d[:, :, 0, 0], c)
    expected = {
        f"{WORDS}.weight": weights[f"{WORDS}.weight"] + 3 * (b @ a).T,
        f"{PATCHES}.weight": weights[f"{PATCHES}.weight"] + 3 * patches,
        f"{KEY}.bias": tensors[f"{KEY}.base_layer.bias"],
        f"{NORM}.weight": tensors[f"{NORM}.weight"],
        f"{NORM}.bias": tensors[f"{NORM}.modules_to_save.default.bias"],
    }
    assert_changed(loaded(folder), weights, expected)


def test_dora_gives_each_output_the_length_that_was_trained(
    base: Path, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    lengths = np.abs(draw(16)) + 1
    tensors = lora(QUERY, 16, 16) | {f"{QUERY}.lora_magnitude_vector": lengths}
    folder = adapter(tmp_path / "a", tensors, base, use_dora=True)
    found = loaded(folder)[f"{QUERY}.weight"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), lengths, rtol=1e-5)
    a, b, _ = tensors.values()
    direction = weights[f"{QUERY}.weight"] + 3 * b @ a
    np.testing.assert_allclose(
        found / lengths[:, None],
        direction / np.linalg.norm(direction, axis=1, keepdims=True),
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


def test_a_part_of_the_model_takes_what_is_its_own(
    base: Path, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    tensors = lora(QUERY, 16, 16) | lora("output", 23, 16)
    folder = adapter(tmp_path / "a", tensors, base)
    found = GitModel.from_pretrained(folder).state_dict()
    a, b, *_ = tensors.values()
    expected = weights[f"{QUERY}.weight"] + 3 * b @ a
    np.testing.assert_allclose(
        found[f"{QUERY}.weight".removeprefix("git.")], expected, rtol=1e-5, atol=1e-5
    )


def test_an_adapter_in_torchs_format_is_read(
    base: Path, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    tensors = lora(QUERY, 16, 16)
    folder = adapter(tmp_path / "a", tensors, base)
    (folder / "adapter_model.safetensors").unlink()
    named = {f"base_model.model.{name}": dense(x) for name, x in tensors.items()}
    write_torch(folder / "adapter_model.bin", named)
    a, b = tensors.values()
    expected = {f"{QUERY}.weight": weights[f"{QUERY}.weight"] + 3 * b @ a}
    assert_changed(loaded(folder), weights, expected)
    file, headers = read_adapter_headers(folder)
    assert file.name == "adapter_model.bin"
    assert headers[f"{QUERY}.lora_A.weight"].shape == (2, 16)


# ---- bases


def test_the_base_that_is_passed_comes_before_the_one_that_is_named(
    base: Path, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "a", lora(QUERY, 16, 16), "/home/somebody/git-base")
    refused(folder, "/home/somebody/git-base", "adapter_config.json", "--base")
    assert loaded(folder, base=base).keys() == weights.keys()
    assert GitConfig.from_pretrained(folder, base=base) == GitConfig.from_pretrained(base)


def test_an_adapter_without_a_base_says_how_to_name_it(base: Path, tmp_path: Path) -> None:
    refused(adapter(tmp_path / "a", lora(QUERY, 16, 16), None), "names no base model", "--base")


def test_a_base_that_is_an_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    first = adapter(tmp_path / "first", lora(QUERY, 16, 16), base)
    second = adapter(tmp_path / "second", lora(KEY, 16, 16), first)
    refused(second, str(first), "an adapter itself", "refgit convert")


def test_a_base_for_what_is_not_an_adapter_is_refused(base: Path) -> None:
    refused(base, "is not an adapter", base=base)


def test_an_adapter_of_a_training_run_is_found(base: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "checkpoint-9", lora(QUERY, 16, 16), base)
    with pytest.warns(CheckpointWarning, match="checkpoint-9, is taken"):
        found = find_parts(tmp_path)
    assert found.adapter == tmp_path / "checkpoint-9"
    assert found.model == base


# ---- what is refused


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "ADALORA", "OFT"])
def test_another_type_is_named_with_what_to_do(kind: str, base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", {}, base, peft_type=kind)
    refused(folder, kind, "merge_and_unload", "save_pretrained")


def test_a_type_that_cannot_be_merged_is_said_to_be_one(base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", {}, base, peft_type="PROMPT_TUNING")
    refused(folder, "PROMPT_TUNING", "cannot be merged")


@pytest.mark.parametrize(
    "option",
    [
        {"init_lora_weights": "pissa_niter_4"}, {"use_qalora": True},
        {"layer_replication": [[0, 2]]}, {"trainable_token_indices": [1]},
    ],
)  # fmt: skip
def test_an_option_that_is_not_merged_is_named(
    option: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "a", lora(QUERY, 16, 16), base, **option)
    refused(folder, *option, "merge_and_unload")


@pytest.mark.parametrize(
    ("tensors", "options", "words"),
    [
        ({f"{QUERY}.lora_A.weight": draw(2, 16)}, {}, ["lacks its B", QUERY]),
        (lora(QUERY, 16, 16), {"use_dora": True}, ["lacks its m"]),
        (lora(QUERY, 16, 16, rank=3), {}, ["rank 2", "have 3"]),
        (lora(QUERY, 16, 8), {}, ["(2, 8)", "(16, 16)"]),
        (lora("git.encoder.layer.7.attention.self.query", 16, 16), {}, ["layer.7", "no such"]),
        ({f"{WORDS}.weight": draw(30, 16)}, {}, ["(30, 16)", "(23, 16)", "vocabulary"]),
        ({f"{QUERY}.lora_E": draw(2, 1)}, {}, ["lora_E"]),
        (lora(QUERY, 16, 16), {"rank_pattern": {"(": 2}}, ["regular expression"]),
        (lora(QUERY, 16, 16), {"r": 0}, ["not positive numbers"]),
    ],
)
def test_what_does_not_fit_is_named(
    tensors: dict[str, np.ndarray],
    options: dict[str, Any],
    words: list[str],
    base: Path,
    tmp_path: Path,
) -> None:
    refused(adapter(tmp_path / "a", tensors, base, **options), *words)


def test_an_adapter_without_its_tensors_is_named(base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", lora(QUERY, 16, 16), base)
    (folder / "adapter_model.safetensors").unlink()
    refused(folder, "adapter_model.safetensors", str(folder))


def test_a_model_saved_with_its_lora_inside_is_refused(
    base: Path, weights: dict[str, np.ndarray]
) -> None:
    spoiled = {f"base_model.model.{name}": x for name, x in weights.items()}
    weight = spoiled.pop(f"base_model.model.{QUERY}.weight")
    spoiled[f"base_model.model.{QUERY}.base_layer.weight"] = weight
    spoiled |= {f"base_model.model.{name}": x for name, x in lora(QUERY, 16, 16).items()}
    save_file(spoiled, base / "model.safetensors")
    refused(base, "LoRA", f"{QUERY}.lora_A.weight", "merge_and_unload")
