"""Files between refgit and transformers 5, both ways: no key left over, equal results.

Drawn models as in tests/live, in float32 to 2e-5 and float64 to 1e-10 of the largest magnitude;
greedy ids equal; processors equal. Where transformers 5 loses something, the test says so.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.golden_cases import make_weights
from helpers.oracle import ACTIVATIONS, RESPELL, at_work, only, tensors, torch, transformers
from refgit import GitConfig, GitForCausalLM, GitModel, GitProcessor, GitVisionModel, to_numpy

only("5")

pytestmark = [pytest.mark.oracle]
WEIGHTS = "model.safetensors"
TOLERANCES = {"float32": 2e-5, "float64": 1e-10}
KINDS = pytest.mark.parametrize("kind", [GitForCausalLM, GitModel, GitVisionModel])
quickly = list(HealthCheck)
Arrays = dict[str, Any]


# -- the other side --------------------------------------------------------------------------------


def load(kind: Any, folder: Path | str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The model that transformers 5 makes of a directory, and the keys it has no use for."""
    with at_work():
        model, report = getattr(transformers, kind.__name__).from_pretrained(
            folder, attn_implementation="eager", output_loading_info=True, **options
        )
    return model.eval(), {what: set(keys) for what, keys in report.items() if keys}


def save(model: Any, folder: Path | str, **options: Any) -> None:
    with at_work():
        model.save_pretrained(folder, **options)


def ask(model: Any, call: Arrays, **options: Any) -> Any:
    """A forward pass; with a cache its default positions would start behind the image."""
    if "input_ids" in call:
        options.setdefault("use_cache", False)
    with at_work(str(call["pixel_values"].dtype)):
        return model(**tensors(call), **options)


def error(found: Any, expected: Any) -> float:
    """Largest difference, relative to the largest magnitude; NaN where either is."""
    found, expected = to_numpy(found), expected.numpy()
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# -- models ----------------------------------------------------------------------------------------


@st.composite
def configs(draw: st.DrawFn) -> GitConfig:
    """A small model for images."""

    def tower() -> Arrays:
        heads = draw(st.integers(1, 3))
        return {
            "num_attention_heads": heads,
            "hidden_size": 8 * heads,
            "intermediate_size": draw(st.integers(4, 24)),
            "num_hidden_layers": draw(st.integers(1, 3)),
            "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
            "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-5, 0.02])),
        }

    patch = draw(st.integers(2, 4))
    image = {"patch_size": patch, "image_size": patch * draw(st.integers(1, 3))}
    return GitConfig(
        vision_config={**tower(), **image},
        **tower(),
        vocab_size=31,
        max_position_embeddings=40,
        tie_word_embeddings=draw(st.booleans()),
        use_cache=draw(st.booleans()),
        bos_token_id=1,
        eos_token_id=2,
    )


SMALL = GitConfig(
    vision_config={
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 6,
        "patch_size": 3,
    },
    vocab_size=31,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=40,
    bos_token_id=1,
    eos_token_id=2,
)
FRAMES = 3
VIDEO = SMALL.replace(num_image_with_embedding=FRAMES)


def build(kind: Any, config: GitConfig, seed: int, dtype: str = "float32") -> Any:
    """refgit's model with weights that matter, the time embeddings included."""
    own = config.vision_config if kind is GitVisionModel else config
    weights = make_weights(kind.shapes(own), seed)
    weights |= {name: weights[other] for name, other in kind.tied(own).items()}
    return kind(own, dtype=dtype, _parameters=weights)


def inputs(model: Any, seed: int, dtype: str = "float32") -> Arrays:
    """Images or videos, and texts where the model takes them."""
    rng = np.random.default_rng(seed)
    vision = model.config if isinstance(model, GitVisionModel) else model.config.vision_config
    frames = getattr(model.config, "num_image_with_embedding", None)
    shape = (2, *([frames] if frames else []), 3, vision.image_size, vision.image_size)
    call: Arrays = {"pixel_values": rng.standard_normal(shape).astype(dtype)}
    if not isinstance(model, GitVisionModel):
        call["input_ids"] = rng.integers(0, model.config.vocab_size, (2, 5))
    return call


def assert_equal_outputs(ours: Any, theirs: Any, dtype: str, seed: int = 0) -> None:
    call = inputs(ours, seed, dtype)
    assert error(ours(**call)[0], ask(theirs, call)[0]) <= TOLERANCES[dtype]


def fields_of(config: Any) -> Arrays:
    """What refgit knows of a config, without the keys it only keeps."""
    if isinstance(config, GitConfig):
        vision = config.vision_config.replace(extra={})
        return config.replace(extra={}, vision_config=vision).to_dict()
    return config.replace(extra={}).to_dict()


@KINDS
@pytest.mark.parametrize("dtype", list(TOLERANCES))
@settings(max_examples=25, deadline=None, suppress_health_check=quickly)
@given(config=configs(), seed=st.integers(0, 2**31 - 1))
def test_transformers_5_loads_what_refgit_writes(
    kind: Any, dtype: str, config: GitConfig, seed: int
) -> None:
    ours = build(kind, config, seed, dtype)
    with tempfile.TemporaryDirectory() as folder:
        ours.save_pretrained(folder)
        theirs, left_over = load(kind, folder)  # in the dtype that config.json names
    assert left_over == {}
    assert theirs.dtype == getattr(torch, dtype)
    assert_equal_outputs(ours, theirs, dtype, seed)


@KINDS
@pytest.mark.parametrize("dtype", list(TOLERANCES))
@settings(max_examples=25, deadline=None, suppress_health_check=quickly)
@given(config=configs(), seed=st.integers(0, 2**31 - 1), sharded=st.booleans())
def test_refgit_loads_what_transformers_5_writes(
    kind: Any, dtype: str, config: GitConfig, seed: int, sharded: bool
) -> None:
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as folder:
        first = build(kind, config, seed, dtype)
        first.save_pretrained(source)
        theirs, _ = load(kind, source)
        save(theirs, folder, **({"max_shard_size": "5KB"} if sharded else {}))
        ours = kind.from_pretrained(folder, dtype=dtype)
        for name, x in first.state_dict().items():
            np.testing.assert_array_equal(ours.state_dict()[name], x, err_msg=name)
    assert fields_of(ours.config) == fields_of(first.config)
    assert_equal_outputs(ours, theirs, dtype, seed)


@pytest.mark.parametrize("kind", [GitModel, GitVisionModel])
def test_parts_load_from_a_whole_that_transformers_5_wrote(kind: Any, tmp_path: Path) -> None:
    whole = build(GitForCausalLM, SMALL, 4)
    whole.save_pretrained(tmp_path / "first")
    theirs, _ = load(GitForCausalLM, tmp_path / "first")
    save(theirs, tmp_path / "second")
    part = theirs.git if kind is GitModel else theirs.git.image_encoder
    assert_equal_outputs(kind.from_pretrained(tmp_path / "second"), part, "float32")


@pytest.mark.parametrize("tied", [True, False])
def test_tied_words_are_one_tensor_in_both(tied: bool, tmp_path: Path) -> None:
    ours = build(GitForCausalLM, SMALL.replace(tie_word_embeddings=tied), 5)
    ours.save_pretrained(tmp_path)
    theirs, left_over = load(GitForCausalLM, tmp_path)
    assert left_over == {}
    words = theirs.git.embeddings.word_embeddings.weight
    assert (theirs.output.weight.data_ptr() == words.data_ptr()) is tied
    assert ("output.weight" in safetensors.numpy.load_file(tmp_path / WEIGHTS)) is not tied


def test_the_loss_equals_that_of_transformers_5(tmp_path: Path) -> None:
    ours = build(GitForCausalLM, SMALL, 6)
    ours.save_pretrained(tmp_path)
    theirs, _ = load(GitForCausalLM, tmp_path)
    call = inputs(ours, 6)
    call["labels"] = call["input_ids"].copy()
    call["labels"][0, 2:] = -100
    assert error(ours(**call).loss, ask(theirs, call).loss) <= TOLERANCES["float32"]


# -- generation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_ids_equal_those_of_transformers_5(use_cache: bool) -> None:
    ended: set[bool] = set()

    @settings(max_examples=60, deadline=None, suppress_health_check=quickly)
    @given(
        seed=st.integers(0, 2**31 - 1),
        prompt=st.sampled_from([None, 1, 4]),
        tied=st.booleans(),
        video=st.booleans(),
    )
    def check(seed: int, prompt: int | None, tied: bool, video: bool) -> None:
        config = (VIDEO if video else SMALL).replace(tie_word_embeddings=tied)
        ours = build(GitForCausalLM, config, seed)
        with tempfile.TemporaryDirectory() as folder:
            ours.save_pretrained(folder)
            theirs, left_over = load(GitForCausalLM, folder, key_mapping=RESPELL)
        assert left_over == {}
        call: Arrays = {"pixel_values": inputs(ours, seed)["pixel_values"]}
        if prompt:
            rng = np.random.default_rng(seed)
            call["input_ids"] = rng.integers(3, config.vocab_size, (2, prompt))
        options = {"max_new_tokens": 10, "do_sample": False, "use_cache": use_cache}
        with at_work():
            expected = theirs.generate(**tensors(call), **options)
        written = to_numpy(ours.generate(**call, max_new_tokens=10))
        np.testing.assert_array_equal(written, expected.numpy())
        ended.add(bool((written[:, (prompt or 1) :] == config.eos_token_id).any()))

    check()
    assert ended == {True, False}


# -- videos: transformers 4.57 and later spell the time embeddings otherwise -----------------------

HUB = {f"img_temperal_embedding.{i}" for i in range(FRAMES)}
THEIRS = {f"img_temporal_embedding.{i}" for i in range(FRAMES)}
VIDEO_KINDS = pytest.mark.parametrize(("kind", "root"), [(GitForCausalLM, "git."), (GitModel, "")])


def one_file(model: Any, folder: Path, *spellings: str) -> Path:
    """A checkpoint in one file, with the time embeddings under each of the spellings."""
    weights = {}
    for name, x in model.state_dict().items():
        names = [name.replace("temperal", spelling) for spelling in spellings]
        weights |= {each: x.copy() for each in names}
    folder.mkdir()
    safetensors.numpy.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    return folder


@VIDEO_KINDS
def test_transformers_5_does_not_find_the_hubs_time_embeddings(
    kind: Any, root: str, tmp_path: Path
) -> None:
    """It has no rule that renames them, and leaves its own as they come out of memory."""
    _, left_over = load(kind, one_file(build(kind, VIDEO, 7), tmp_path / "hub", "temperal"))
    assert left_over == {
        "missing_keys": {root + name for name in THEIRS},
        "unexpected_keys": {root + name for name in HUB},
    }


@VIDEO_KINDS
def test_both_spellings_in_one_file_are_one_too_many(kind: Any, root: str, tmp_path: Path) -> None:
    ours = build(kind, VIDEO, 8)
    theirs, left_over = load(kind, one_file(ours, tmp_path / "both", "temperal", "temporal"))
    assert left_over == {"unexpected_keys": {root + name for name in HUB}}
    assert_equal_outputs(ours, theirs, "float32")


@VIDEO_KINDS
def test_a_key_mapping_makes_the_hubs_videos_load(kind: Any, root: str, tmp_path: Path) -> None:
    ours = build(kind, VIDEO, 9)
    hub = one_file(ours, tmp_path / "hub", "temperal")
    theirs, left_over = load(kind, hub, key_mapping=RESPELL)
    assert left_over == {}
    assert_equal_outputs(ours, theirs, "float32")


@VIDEO_KINDS
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_refgit_loads_the_videos_that_transformers_5_writes(
    kind: Any, root: str, dtype: str, tmp_path: Path
) -> None:
    first = build(kind, VIDEO, 10, dtype)
    theirs, left_over = load(kind, one_file(first, tmp_path / "source", "temporal"))
    assert left_over == {}
    save(theirs, tmp_path / "saved")
    assert root + min(THEIRS) in safetensors.numpy.load_file(tmp_path / "saved" / WEIGHTS)
    ours = kind.from_pretrained(tmp_path / "saved", dtype=dtype)
    assert_equal_outputs(ours, theirs.to(getattr(torch, dtype)), dtype)


@VIDEO_KINDS
def test_transformers_5_loads_the_videos_that_refgit_writes(
    kind: Any, root: str, tmp_path: Path
) -> None:
    ours = build(kind, VIDEO, 11)
    ours.save_pretrained(tmp_path)
    theirs, left_over = load(kind, tmp_path)
    assert left_over == {}
    assert_equal_outputs(ours, theirs, "float32")


# -- what transformers 5 has given up --------------------------------------------------------------


def test_transformers_5_drops_relative_positions_and_says_so(tmp_path: Path) -> None:
    ours = build(GitForCausalLM, SMALL.replace(position_embedding_type="relative_key"), 12)
    ours.save_pretrained(tmp_path)
    _, left_over = load(GitForCausalLM, tmp_path)
    (names,) = left_over.values()
    assert list(left_over) == ["unexpected_keys"]
    assert all("distance_embedding" in name for name in names)


# -- processors ------------------------------------------------------------------------------------

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [*SPECIAL, "a", "the", "cat", "dog", "mat", "is", "on", "what", "##s", "?", "."]
TEXTS = ["a cat", "What is on the mats?"]


def processor_of(theirs: str, folder: Path, **options: Any) -> Any:
    """A GitProcessor of transformers 5 with an image processor that needs Pillow alone."""
    with at_work():
        tokenizer = transformers.BertTokenizer(
            vocab={token: i for i, token in enumerate(VOCAB)},
            model_input_names=["input_ids", "attention_mask"],
        )
        kind = getattr(transformers, f"{theirs}Pil", None) or getattr(transformers, theirs)
        processor = transformers.GitProcessor(kind(**options), tokenizer)
        processor.save_pretrained(folder)
    return processor


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_refgit_reads_the_processor_that_transformers_5_writes(tmp_path: Path) -> None:
    """The image processor's settings then stand in processor_config.json."""
    size = {"size": {"shortest_edge": 20}, "crop_size": {"height": 18, "width": 18}}
    theirs = processor_of("CLIPImageProcessor", tmp_path, **size)
    assert not (tmp_path / "preprocessor_config.json").exists()
    written = json.loads((tmp_path / "processor_config.json").read_text())
    assert written["image_processor"]["size"] == {"shortest_edge": 20}
    ours = GitProcessor.from_pretrained(tmp_path)
    images = [picture(30, 25), picture(21, 40)]
    call: Arrays = {"images": images, "text": TEXTS, "padding": True, "return_tensors": "np"}
    found = ours(**call)
    with at_work():
        expected = theirs(**call)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-6, err_msg=name)
    ids = found["input_ids"]
    for options in ({"skip_special_tokens": True}, {}):
        assert ours.batch_decode(ids, **options) == theirs.batch_decode(ids, **options)


def test_transformers_5_reads_the_processor_that_refgit_writes(tmp_path: Path) -> None:
    theirs = processor_of("CLIPImageProcessor", tmp_path / "theirs", size={"shortest_edge": 20})
    GitProcessor.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    with at_work():
        again = transformers.AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
        found = again(images=picture(30, 25), text=TEXTS[1], return_tensors="np")
        expected = theirs(images=picture(30, 25), text=TEXTS[1], return_tensors="np")
    assert type(again).__name__ == "GitProcessor"
    assert again.image_processor.size == theirs.image_processor.size
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_refgit_reads_the_video_processor_that_transformers_5_writes(tmp_path: Path) -> None:
    size = {"size": {"shortest_edge": 20}, "crop_size": {"height": 18, "width": 18}}
    theirs = processor_of("VideoMAEImageProcessor", tmp_path, **size).image_processor
    ours = GitProcessor.from_pretrained(tmp_path).image_processor
    assert type(ours).__name__ == "VideoMAEImageProcessor"
    frames = [picture(30, 25, seed) for seed in range(3)]
    with at_work():
        expected = theirs(frames, return_tensors="np")["pixel_values"]
    found = ours(frames)["pixel_values"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
