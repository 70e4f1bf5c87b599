"""docs/surface.md against transformers 4.56.2: nothing is left out, and what only it can tell.

OMP_NUM_THREADS=1 python -m pytest tests/live/test_surface_live.py
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from helpers.golden_cases import make_weights
from helpers.oracle import only, torch, transformers
from helpers.surface import ROWS, names
from refgit import (
    GitConfig,
    GitForCausalLM,
    GitModel,
    GitProcessor,
    GitVisionConfig,
    GitVisionModel,
    testing,
    to_numpy,
)
from refgit.demo import demo_path

only("4")

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::FutureWarning")]

KINDS = {"GitVisionModel": GitVisionModel, "GitModel": GitModel, "GitForCausalLM": GitForCausalLM}
CONFIGS = {"GitVisionConfig": GitVisionConfig, "GitConfig": GitConfig}
PIXELS, IDS = testing.pixels(2), testing.tokens(2, 5)


def parameters(function: Any) -> set[str]:
    """The parameters of a function of the oracle, `self` excepted."""
    found = {
        "**kwargs" if p.kind is inspect.Parameter.VAR_KEYWORD else name
        for name, p in inspect.signature(function).parameters.items()
    }
    return found - {"self"}


# -- completeness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_argument_of_the_oracles_forward_has_a_row(kind: str) -> None:
    wanted = parameters(getattr(transformers, kind).forward)
    assert len(wanted) >= 5
    assert wanted <= names(kind, "Arguments")


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_field_of_the_oracles_config_has_a_row(kind: str) -> None:
    wanted = parameters(getattr(transformers, kind).__init__)
    assert len(wanted) >= 12
    assert wanted <= names(kind, "Fields")


def test_every_argument_of_the_oracles_processor_has_a_row() -> None:
    assert parameters(transformers.GitProcessor.__init__) <= names("GitProcessor", "Class")
    assert parameters(transformers.GitProcessor.__call__) == {
        "images",
        "text",
        "audio",
        "videos",
        "**kwargs",
    }
    assert parameters(transformers.GitProcessor.__call__) <= names("GitProcessor", "Arguments")


def test_every_option_of_the_oracles_tokenizer_and_image_processor_has_a_row() -> None:
    not_taken = names("GitProcessor", "Options not taken")
    text = parameters(transformers.BertTokenizerFast.__call__) - {"text"}
    image = parameters(transformers.CLIPImageProcessor.preprocess) - {"images"}
    arguments = names("GitProcessor", "Arguments")
    assert text <= names("GitProcessor", "Text options") | not_taken | arguments
    assert image <= names("GitProcessor", "Image options") | not_taken | arguments
    assert not_taken <= text | image


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("GitVisionModel", ["BaseModelOutput"]),
        # the document names the one, the code returns the other
        ("GitModel", ["BaseModelOutputWithPooling", "BaseModelOutputWithPast"]),
        ("GitForCausalLM", ["CausalLMOutputWithPast"]),
    ],
)
def test_every_field_of_the_oracles_outputs_has_a_row(kind: str, outputs: list[str]) -> None:
    wanted = {
        f.name for name in outputs for f in fields(getattr(transformers.modeling_outputs, name))
    }
    assert wanted == names(kind, "Returns")


def test_what_the_oracles_processor_returns_has_a_row() -> None:
    assert set(oracle_processor().model_input_names) <= names("GitProcessor", "Returns")


def test_the_completeness_tests_have_rows_to_look_at() -> None:
    assert len(ROWS) > 100


# -- configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_default_is_the_oracles(kind: str) -> None:
    ours, theirs = CONFIGS[kind](), getattr(transformers, kind)()
    for name in parameters(type(theirs).__init__) - {"**kwargs", "vision_config"}:
        found, wanted = getattr(ours, name), getattr(theirs, name)
        assert (type(found), found) == (type(wanted), wanted), name
    if kind == "GitConfig":
        nested = theirs.vision_config.to_dict()
        assert all(nested[k] == v for k, v in ours.vision_config.to_dict().items())


def pair(kind: str, seed: int = 3, **changes: Any) -> tuple[Any, Any]:
    """refgit's tiny model and the oracle's, with the same weights."""
    config: Any = testing.VISION if kind == "GitVisionModel" else testing.CONFIG
    config = config.replace(**changes)
    weights = make_weights(KINDS[kind].shapes(config), seed)
    ours = KINDS[kind](config, _parameters=weights)
    their_config = getattr(transformers, type(config).__name__)(
        **config.to_dict(), attn_implementation="eager"
    )
    theirs = getattr(transformers, kind)(their_config).eval()
    theirs.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
    return ours, theirs


def first(out: Any) -> np.ndarray:
    return to_numpy(out[0].detach() if isinstance(out[0], torch.Tensor) else out[0])


def assert_equal(ours: Any, theirs: Any, **call: Any) -> None:
    tensors = {
        k: torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x for k, x in call.items()
    }
    found, wanted = first(ours(**call)), first(theirs(**tensors))
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("rate", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_does_nothing_at_inference_in_the_oracle_either(rate: str) -> None:
    vision = testing.VISION.replace(attention_dropout=0.9)
    ours, theirs = pair("GitForCausalLM", **{rate: 0.9, "vision_config": vision})
    assert getattr(theirs.config, rate) == theirs.config.vision_config.attention_dropout == 0.9
    assert_equal(ours, theirs, input_ids=IDS, pixel_values=PIXELS)


@pytest.mark.parametrize("eps", [1e-12, 0.3])
@pytest.mark.parametrize("vision_eps", [1e-5, 0.7])
def test_each_half_has_its_own_eps_as_in_the_oracle(eps: float, vision_eps: float) -> None:
    vision = testing.VISION.replace(layer_norm_eps=vision_eps)
    ours, theirs = pair("GitForCausalLM", layer_norm_eps=eps, vision_config=vision)
    assert_equal(ours, theirs, input_ids=IDS, pixel_values=PIXELS)


def test_options_of_the_config_are_the_oracles_defaults_of_a_call() -> None:
    extra = {"output_attentions": True, "output_hidden_states": True}
    for kind, call in (
        ("GitVisionModel", {"pixel_values": PIXELS}),
        ("GitModel", {"input_ids": IDS}),
    ):
        ours, theirs = pair(kind, extra=extra)
        tensors = {k: torch.from_numpy(x) for k, x in call.items()}
        assert ours(**call).keys() == list(theirs(**tensors).keys())
        ours, theirs = pair(kind, extra={"return_dict": False})
        assert isinstance(ours(**call), tuple)
        assert isinstance(theirs(**tensors), tuple)


# -- models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (12, 20), (4, 4), (21, 9)])
def test_the_image_encoder_interpolates_positions_as_the_oracle_does(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).standard_normal((2, 3, *size)).astype(np.float32)
    ours, theirs = pair("GitVisionModel")
    assert_equal(ours, theirs, pixel_values=pixels, interpolate_pos_encoding=True)


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
@pytest.mark.parametrize("kind", ["GitModel", "GitForCausalLM"])
def test_head_masks_of_both_shapes_count_as_in_the_oracle(
    kind: str, shape: tuple[int, ...]
) -> None:
    mask = np.random.default_rng(2).integers(0, 2, shape).astype(np.float32)
    ours, theirs = pair(kind)
    assert_equal(ours, theirs, input_ids=IDS, pixel_values=PIXELS, head_mask=mask)


@pytest.mark.parametrize("kind", ["GitModel", "GitForCausalLM"])
def test_a_cached_step_equals_the_oracles_cached_step(kind: str) -> None:
    """The oracle's cache holds the text alone, so it is given the image again."""
    ours, theirs = pair(kind)
    image, ids = torch.from_numpy(PIXELS), torch.from_numpy(IDS)
    found = ours(IDS[:, :3], pixel_values=PIXELS)
    wanted = theirs(ids[:, :3], pixel_values=image)
    for start in (3, 4):
        found = ours(IDS[:, start : start + 1], past_key_values=found.past_key_values)
        wanted = theirs(
            ids[:, start : start + 1], pixel_values=image, past_key_values=wanted.past_key_values
        )
        assert found.past_key_values.get_seq_length() == start + 1
        assert wanted.past_key_values.get_seq_length() == start + 1
        new = first(wanted)[:, -1:]
        assert np.abs(first(found) - new).max() <= 2e-5 * np.abs(new).max()


def test_the_oracle_has_no_pooler_output_either() -> None:
    """The document says GitModel returns one; there are no weights to compute it with."""
    ours, theirs = pair("GitModel")
    out = theirs(torch.from_numpy(IDS))
    assert not hasattr(out, "pooler_output")
    assert not [name for name in theirs.state_dict() if "pool" in name]
    assert ours(IDS).keys() == list(out.keys())


def test_padding_without_a_mask_is_seen_in_the_oracle_too() -> None:
    """The document says padding is ignored by default; that holds for what it follows."""
    ours, theirs = pair("GitForCausalLM")
    for padded in (np.pad(IDS, ((0, 0), (0, 3))), np.pad(IDS, ((0, 0), (3, 0)))):
        assert_equal(ours, theirs, input_ids=padded, pixel_values=PIXELS)


def test_an_activation_given_as_a_function_is_used_as_in_the_oracle() -> None:
    """In the decoder; the oracle's image encoder takes names alone."""
    ours, theirs = pair("GitForCausalLM", hidden_act="relu")
    weights = ours.state_dict()
    called = GitForCausalLM(
        testing.CONFIG.replace(hidden_act=lambda x: np.maximum(x, 0)), _parameters=weights
    )
    theirs.config.hidden_act = torch.nn.functional.relu
    again = transformers.GitForCausalLM(theirs.config).eval()
    again.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
    assert_equal(called, again, input_ids=IDS, pixel_values=PIXELS)


# -- processor -------------------------------------------------------------------------------------


def oracle_processor() -> Any:
    return transformers.GitProcessor(
        transformers.CLIPImageProcessor.from_pretrained(demo_path()),
        transformers.BertTokenizerFast.from_pretrained(
            demo_path(), model_input_names=["input_ids", "attention_mask"]
        ),
    )


def test_torch_tensors_are_pictures_as_in_the_oracle() -> None:
    ours, theirs = GitProcessor.from_pretrained(demo_path()), oracle_processor()
    image = np.random.default_rng(4).integers(0, 256, (3, 40, 50), dtype=np.uint8)
    for tensors in (
        torch.from_numpy(image),
        [torch.from_numpy(image), torch.from_numpy(image[:, ::2].copy())],
        torch.from_numpy(image.transpose(1, 2, 0).copy()),
    ):
        found = ours(images=tensors, return_tensors="np").pixel_values
        wanted = theirs(images=tensors, return_tensors="np").pixel_values
        np.testing.assert_array_equal(found, wanted)


def test_the_masks_of_the_processor_are_the_oracles() -> None:
    ours, theirs = GitProcessor.from_pretrained(demo_path()), oracle_processor()
    for text in ("a red apple", ["a red apple", "a star"]):
        for wanted in (None, True, False):
            options = {"text": text, "padding": True, "return_attention_mask": wanted}
            assert dict(ours(**options)) == dict(theirs(**options))
