"""Adapters of peft 0.21, merged on loading: equal to its own merge_and_unload."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refgit import GitForCausalLM, GitModel, GitVisionModel, testing
from tests.helpers.oracle import IN_4, at_work, torch, transformers

peft = pytest.importorskip(
    "peft", reason="adapters need peft: pip install torch==2.13.0 transformers==4.56.2"
)
pytestmark = [pytest.mark.oracle, IN_4]

DRAWS = 30
LINEAR = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
IMAGE = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
OTHERS = ("word_embeddings", "position_embedding", "patch_embedding", "visual_projection.0")


def draw_config(seed: int) -> dict[str, Any]:
    """Options of a LoraConfig, any of them with any other."""
    draw = random.Random(seed)
    targets = draw.sample([*LINEAR, *IMAGE, *OTHERS, "output"], draw.randint(1, 6))
    options: dict[str, Any] = {
        "r": draw.randint(1, 6),
        "lora_alpha": draw.randint(1, 24),
        "target_modules": targets,
        "use_rslora": draw.random() < 0.3,
        "use_dora": draw.random() < 0.3,
        "bias": draw.choice(["none", "none", "all", "lora_only"]),
        "fan_in_fan_out": draw.random() < 0.1,
        "init_lora_weights": False,
    }
    if draw.random() < 0.4:
        named = ["encoder.layer.1.attention.self.query", "fc1", r"layers\.0\..*_proj", "value"]
        options["rank_pattern"] = {name: draw.randint(1, 7) for name in draw.sample(named, 2)}
    if draw.random() < 0.4:
        options["alpha_pattern"] = {name: draw.randint(1, 30) for name in draw.sample(targets, 1)}
    if draw.random() < 0.3:
        free = [name for name in ("post_layernorm", "word_embeddings") if name not in targets]
        if {*targets} <= {*IMAGE}:  # it ends the names of parts of each layer, too
            free.append("output")
        options["modules_to_save"] = draw.sample(free, 1)
    inner = {*targets} & {*LINEAR[:3], *IMAGE}
    if draw.random() < 0.3 and inner == {*targets}:
        options["layers_to_transform"] = [draw.randint(0, 1)]
    if "output" in targets:  # as it stands, it would also be the end of other names
        whole = ("output" if name == "output" else rf".*\.{name}" for name in targets)
        options["target_modules"] = "|".join(whole)
    plain = not options["use_dora"] and not {*targets} & {*OTHERS}
    if plain and draw.random() < 0.2:
        options["lora_bias"] = True
        options["bias"] = "none"
    return options


def adapter_of(options: dict[str, Any], base: Path, folder: Path, seed: int, **how: Any) -> Any:
    """Save an adapter with random numbers; return the model that peft merges it into."""
    kind = how.pop("kind", transformers.GitForCausalLM)
    with at_work():
        model = kind.from_pretrained(base, attn_implementation="eager")
        torch.manual_seed(seed)
        tuned = peft.get_peft_model(model, peft.LoraConfig(**options))
        for name, x in tuned.named_parameters():
            if "magnitude" in name:
                x.mul_(torch.rand_like(x) + 0.5)
            elif x.requires_grad:
                x.add_(torch.randn_like(x) * 0.1)
        tuned.save_pretrained(folder, **how)
        again = kind.from_pretrained(base, attn_implementation="eager")
        return peft.PeftModel.from_pretrained(again, folder).merge_and_unload().eval()


def logits_of(theirs: Any) -> np.ndarray:
    """In float64, so that only the weights decide."""
    inputs = {name: torch.from_numpy(x) for name, x in testing.tiny_inputs().items()}
    inputs["pixel_values"] = inputs["pixel_values"].double()
    with at_work("float64"):
        return theirs.double()(**inputs).logits.numpy()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    testing.tiny_model().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("seed", range(DRAWS))
def test_a_drawn_lora_gives_the_logits_of_pefts_merge(
    seed: int, base: Path, tmp_path: Path
) -> None:
    options = draw_config(seed)
    theirs = adapter_of(options, base, tmp_path, seed)
    ours = GitForCausalLM.from_pretrained(tmp_path)
    plain = GitForCausalLM.from_pretrained(base)
    state = {name: x.numpy().copy() for name, x in theirs.state_dict().items()}
    found = ours.astype("float64")(**testing.tiny_inputs()).logits
    np.testing.assert_allclose(found, logits_of(theirs), rtol=0, atol=1e-5)
    for name, x in ours.state_dict().items():
        np.testing.assert_allclose(x, state[name], rtol=1e-5, atol=1e-5, err_msg=name)
    before = plain.state_dict()
    assert any(not np.array_equal(x, before[name]) for name, x in ours.state_dict().items())


def test_an_adapter_saved_by_pickle_is_read(base: Path, tmp_path: Path) -> None:
    options = {"target_modules": ["query", "word_embeddings"], "init_lora_weights": False}
    theirs = adapter_of(options, base, tmp_path, 0, safe_serialization=False)
    assert (tmp_path / "adapter_model.bin").exists()
    ours = GitForCausalLM.from_pretrained(tmp_path, dtype="float64")
    found = ours(**testing.tiny_inputs()).logits
    np.testing.assert_allclose(found, logits_of(theirs), rtol=0, atol=1e-5)


def test_parts_of_the_model_take_what_is_theirs(base: Path, tmp_path: Path) -> None:
    options = {"target_modules": r"output|.*\.(query|fc1)", "init_lora_weights": False}
    theirs = adapter_of(options, base, tmp_path, 0).state_dict()
    for kind, prefix in ((GitModel, "git."), (GitVisionModel, "git.image_encoder.")):
        for name, x in kind.from_pretrained(tmp_path).state_dict().items():
            np.testing.assert_allclose(x, theirs[prefix + name].numpy(), rtol=1e-5, atol=1e-5)


def test_an_adapter_of_a_git_model_fits_the_whole(base: Path, tmp_path: Path) -> None:
    options = {"target_modules": ["query", "fc1"], "init_lora_weights": False}
    theirs = adapter_of(options, base, tmp_path, 0, kind=transformers.GitModel).state_dict()
    ours = GitForCausalLM.from_pretrained(tmp_path).git.state_dict()
    for name, x in ours.items():
        np.testing.assert_allclose(x, theirs[name].numpy(), rtol=1e-5, atol=1e-5)
