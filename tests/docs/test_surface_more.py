"""Sentences of the document that no other test shows, and its examples in refgit's names.

docs/surface.md says which sentence each test proves.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.backends import ROOT
from refgit import (
    BertTokenizer,
    CLIPImageProcessor,
    GitConfig,
    GitForCausalLM,
    GitModel,
    GitProcessor,
    GitVisionConfig,
    GitVisionModel,
    KeyValueCache,
    VideoMAEImageProcessor,
    testing,
    to_numpy,
)
from refgit.demo import demo_path
from refgit.processing import load_image
from refgit.processing.video.file import read_video
from refgit.processing.video.sampling import sample_frame_indices

PIXELS, IDS = testing.pixels(2), testing.tokens(2, 5)
LAYERS, HEADS = testing.CONFIG.num_hidden_layers, testing.CONFIG.num_attention_heads
N, T, D = testing.IMAGE_TOKENS, IDS.shape[1], testing.CONFIG.hidden_size
DECODERS = [GitModel, GitForCausalLM]


def model(kind: Any, **changes: Any) -> Any:
    """A tiny model of a class; GitModel has the weights of GitForCausalLM."""
    if kind is GitVisionModel:
        return GitVisionModel(testing.VISION.replace(**changes))
    whole = testing.tiny_model(config=testing.CONFIG.replace(**changes))
    if kind is GitForCausalLM:
        return whole
    state = whole.state_dict().items()
    trunk = {k.removeprefix("git."): x for k, x in state if k.startswith("git.")}
    return GitModel(whole.config, _parameters=trunk)


def result(out: Any) -> np.ndarray:
    """The main output: logits, or the last hidden state."""
    return to_numpy(out.logits if "logits" in out else out.last_hidden_state)


def ask(kind: Any, *args: Any, changes: dict[str, Any] | None = None, **call: Any) -> np.ndarray:
    return result(model(kind, **(changes or {}))(*args, **call))


def equal(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def differ(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() > 1e-3)


# -- configuration: what each field decides --------------------------------------------------------

FOURTH = "vision_model.encoder.layers.1.mlp.fc1.weight"
VISION_SHAPES = [
    ("hidden_size", 24, FOURTH, (20, 24)),
    ("intermediate_size", 28, FOURTH, (28, 12)),
    ("num_hidden_layers", 4, "vision_model.encoder.layers.3.mlp.fc1.weight", (20, 12)),
    ("num_channels", 4, "vision_model.embeddings.patch_embedding.weight", (12, 4, 4, 4)),
    ("image_size", 16, "vision_model.embeddings.position_embedding.weight", (17, 12)),
    ("patch_size", 2, "vision_model.embeddings.position_embedding.weight", (17, 12)),
]
INSIDE = "git.encoder.layer.2.intermediate.dense.weight"
SHAPES = [
    ("vocab_size", 31, "output.weight", (31, 16)),
    ("vocab_size", 31, "git.embeddings.word_embeddings.weight", (31, 16)),
    ("hidden_size", 32, INSIDE, (24, 32)),
    ("intermediate_size", 40, INSIDE, (40, 16)),
    ("num_hidden_layers", 5, "git.encoder.layer.4.intermediate.dense.weight", (24, 16)),
    ("max_position_embeddings", 9, "git.embeddings.position_embeddings.weight", (9, 16)),
    ("num_image_with_embedding", 3, "git.img_temperal_embedding.2", (1, 1, 12)),
]


@pytest.mark.parametrize(("field", "value", "name", "shape"), VISION_SHAPES)
def test_a_field_of_the_image_encoders_config_gives_the_weights_their_shape(
    field: str, value: int, name: str, shape: tuple[int, ...]
) -> None:
    config = testing.VISION.replace(**{field: value})
    encoder = GitVisionModel(config)
    assert encoder.state_dict()[name].shape == shape
    assert name not in GitVisionModel.shapes(testing.VISION) or (
        GitVisionModel.shapes(testing.VISION)[name] != shape
    )
    pixels = np.zeros((1, config.num_channels, config.image_size, config.image_size), np.float32)
    patches = (config.image_size // config.patch_size) ** 2
    assert encoder(pixels).last_hidden_state.shape == (1, 1 + patches, config.hidden_size)


@pytest.mark.parametrize(("field", "value", "name", "shape"), SHAPES)
def test_a_field_of_the_config_gives_the_weights_their_shape(
    field: str, value: int, name: str, shape: tuple[int, ...]
) -> None:
    config = testing.CONFIG.replace(**{field: value})
    whole = GitForCausalLM(config)
    assert whole.state_dict()[name].shape == shape
    assert GitForCausalLM.shapes(testing.CONFIG).get(name) != shape
    assert whole(IDS, pixel_values=PIXELS).logits.shape == (2, N + T, config.vocab_size)


def test_the_number_of_heads_is_that_of_the_attentions() -> None:
    for heads in (1, 2, 4):
        eye = GitVisionModel(testing.VISION.replace(num_attention_heads=heads))
        assert eye(PIXELS, output_attentions=True).attentions[0].shape == (2, heads, N, N)
        out = model(GitModel, num_attention_heads=heads)(IDS, output_attentions=True)
        assert out.attentions[0].shape == (2, heads, T, T)
        assert differ(ask(GitModel, IDS, changes={"num_attention_heads": 8}), result(out))


def test_layer_norm_eps_damps_the_layer_norms_of_its_own_half() -> None:
    """A layer norm with weight 1 leaves variance v / (v + eps)."""
    damped = testing.VISION.replace(layer_norm_eps=1e6)
    for vision, least, most in ((testing.VISION, 0.9, 1.1), (damped, 0, 1e-2)):
        seen = GitVisionModel(vision)(PIXELS).last_hidden_state
        assert least <= seen.var(-1).mean() <= most
        hooks: dict[str, np.ndarray] = {}
        config = testing.CONFIG.replace(vision_config=vision)
        GitModel(config)(IDS, pixel_values=PIXELS, hook=hooks.__setitem__)
        projected = hooks["visual_projection.visual_projection.1"]
        assert least <= projected.var(-1).mean() <= most
    for eps, least, most in ((1e-12, 0.9, 1.1), (1e6, 0, 1e-2)):
        text = model(GitModel, layer_norm_eps=eps)(IDS).last_hidden_state
        assert least <= text.var(-1).mean() <= most


@pytest.mark.parametrize(
    ("half", "field"),
    [
        (GitVisionConfig, "attention_dropout"),
        (GitConfig, "hidden_dropout_prob"),
        (GitConfig, "attention_probs_dropout_prob"),
    ],
)
def test_a_dropout_rate_is_kept_and_changes_nothing(half: Any, field: str, tmp_path: Path) -> None:
    changes: Any = {field: 0.9}
    if half is GitVisionConfig:
        changes = {"vision_config": testing.VISION.replace(attention_dropout=0.9)}
    found = ask(GitForCausalLM, IDS, pixel_values=PIXELS, changes=changes)
    np.testing.assert_array_equal(found, ask(GitForCausalLM, IDS, pixel_values=PIXELS))
    model(GitForCausalLM, **changes).save_pretrained(tmp_path)
    assert getattr(half.from_pretrained(tmp_path), field) == 0.9


def test_initializer_range_is_the_deviation_of_the_random_weights_of_its_half() -> None:
    vision = GitVisionConfig(hidden_size=96, image_size=32, initializer_range=0.3)
    config = GitConfig(
        vision_config=vision, hidden_size=96, vocab_size=500, initializer_range=0.05
    ).replace(num_hidden_layers=1, vision_config=vision.replace(num_hidden_layers=1))
    deviations: dict[float, int] = {0.05: 0, 0.3: 0}
    for name, x in GitForCausalLM(config, seed=3).state_dict().items():
        if x.ndim < 2:
            continue
        wanted = 0.3 if "vision_model" in name else 0.05
        assert x.std() == pytest.approx(wanted, rel=5 / np.sqrt(2 * x.size)), name
        assert abs(x.mean()) < 5 * wanted / np.sqrt(x.size), name
        deviations[wanted] += 1
    assert min(deviations.values()) >= 6


def test_an_activation_given_as_a_function_is_the_one_that_is_used() -> None:
    def relu(x: Any) -> Any:
        return np.maximum(x, 0)

    def of(activation: Any) -> np.ndarray:
        vision = testing.VISION.replace(hidden_act=activation)
        changes = {"hidden_act": activation, "vision_config": vision}
        return ask(GitForCausalLM, IDS, pixel_values=PIXELS, changes=changes)

    equal(of(relu), of("relu"))
    assert differ(of(relu), of("gelu"))


def test_the_head_is_tied_only_when_the_config_says_so() -> None:
    tied, free = (model(GitForCausalLM, tie_word_embeddings=x) for x in (True, False))
    assert tied.get_output_embeddings() is tied.get_input_embeddings()
    assert differ(free.get_output_embeddings(), free.get_input_embeddings())
    assert tied.num_parameters() == free.num_parameters()


def test_a_video_may_have_as_many_frames_as_the_config_has_time_embeddings() -> None:
    video = np.stack([testing.pixels(2, seed) for seed in range(3)], 1)  # (2, 3, 3, 8, 8)
    changes = {"num_image_with_embedding": 3}
    for frames in (1, 2, 3):
        found = ask(GitModel, IDS, pixel_values=video[:, :frames], changes=changes)
        assert found.shape == (2, frames * N + T, D)
    more = np.concatenate([video, video], 1)
    with pytest.raises(ValueError, match=r"6 frames.*1 to 3"):
        ask(GitModel, IDS, pixel_values=more, changes=changes)
    with pytest.raises(ValueError, match="num_image_with_embedding is None"):
        ask(GitModel, IDS, pixel_values=video)


@pytest.mark.parametrize("kind", [GitVisionModel, *DECODERS])
def test_options_of_the_config_are_the_defaults_of_a_call(kind: Any) -> None:
    config = testing.VISION if kind is GitVisionModel else testing.CONFIG
    extra = {"output_attentions": True, "output_hidden_states": True}
    call = {"pixel_values": PIXELS} if kind is GitVisionModel else {"input_ids": IDS}
    out = kind(config.replace(extra=extra))(**call)
    assert len(out.attentions) == config.num_hidden_layers
    assert len(out.hidden_states) == config.num_hidden_layers + 1
    off = {"output_attentions": False, "output_hidden_states": False}
    assert not {"attentions", "hidden_states"} & set(
        kind(config.replace(extra=extra))(**call, **off).keys()
    )
    flat = kind(config.replace(extra={"return_dict": False}))
    assert isinstance(flat(**call), tuple)
    assert not isinstance(flat(**call, return_dict=True), tuple)


@pytest.mark.parametrize("kind", [GitConfig, GitVisionConfig])
def test_a_config_takes_the_options_that_every_config_has(kind: Any) -> None:
    for name in ("output_attentions", "output_hidden_states"):
        assert getattr(kind(**{name: True}), name) is True
        assert getattr(kind(), name) is False
    assert kind(return_dict=False).return_dict is False
    assert kind().return_dict is True
    assert kind(anything="else").to_dict()["anything"] == "else"


# -- the models ------------------------------------------------------------------------------------


def test_a_model_made_from_a_config_has_random_weights_and_that_config() -> None:
    for kind, config in (
        (GitVisionModel, testing.VISION),
        *((k, testing.CONFIG) for k in DECODERS),
    ):
        one, other = kind(config, seed=1), kind(config, seed=2)
        assert one.config is config
        name = next(k for k, x in one.state_dict().items() if x.ndim > 1)
        assert differ(one.state_dict()[name], other.state_dict()[name])


def test_an_image_encoder_without_pixels_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="pixel_values"):
        GitVisionModel(testing.VISION)()


@pytest.mark.parametrize("kind", [GitVisionModel, *DECODERS])
def test_calling_a_model_is_its_forward_method(kind: Any) -> None:
    call = {"pixel_values": PIXELS} if kind is GitVisionModel else {"input_ids": IDS}
    np.testing.assert_array_equal(result(model(kind).forward(**call)), ask(kind, **call))


def test_an_image_encoder_returns_what_is_documented() -> None:
    layers, heads = testing.VISION.num_hidden_layers, testing.VISION.num_attention_heads
    width = testing.VISION.hidden_size
    plain = model(GitVisionModel)(PIXELS)
    assert plain.keys() == ["last_hidden_state"]
    assert plain.last_hidden_state.shape == (2, N, width)
    out = model(GitVisionModel)(PIXELS, output_attentions=True, output_hidden_states=True)
    assert out.keys() == ["last_hidden_state", "hidden_states", "attentions"]
    assert [x.shape for x in out.hidden_states] == [(2, N, width)] * (layers + 1)
    assert [x.shape for x in out.attentions] == [(2, heads, N, N)] * layers
    for x in out.attentions:
        np.testing.assert_allclose(x.sum(-1), 1, rtol=1e-5)
    flat = model(GitVisionModel)(PIXELS, True, True, return_dict=False)
    assert isinstance(flat, tuple)
    np.testing.assert_array_equal(flat[0], out.last_hidden_state)
    assert [len(x) for x in flat[1:]] == [layers + 1, layers]


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_returns_what_is_documented(kind: Any) -> None:
    width = D if kind is GitModel else testing.CONFIG.vocab_size
    plain = model(kind)(IDS, pixel_values=PIXELS)
    assert plain.keys() == [next(iter(plain.keys())), "past_key_values"]
    assert result(plain).shape == (2, N + T, width)
    flags = {"output_attentions": True, "output_hidden_states": True, "use_cache": False}
    out = model(kind)(IDS, pixel_values=PIXELS, **flags)
    assert out.keys()[1:] == ["hidden_states", "attentions"]
    assert [x.shape for x in out.hidden_states] == [(2, N + T, D)] * (LAYERS + 1)
    assert [x.shape for x in out.attentions] == [(2, HEADS, N + T, N + T)] * LAYERS
    for x in out.attentions:
        np.testing.assert_allclose(x.sum(-1), 1, rtol=1e-5)
    if kind is GitModel:
        np.testing.assert_array_equal(out.hidden_states[-1], out.last_hidden_state)
    flat = model(kind)(IDS, pixel_values=PIXELS, **flags, return_dict=False)
    assert isinstance(flat, tuple)
    np.testing.assert_array_equal(flat[0], result(out))
    assert [len(x) for x in flat[1:]] == [LAYERS + 1, LAYERS]
    assert not hasattr(model(GitModel)(IDS), "pooler_output")


def test_the_head_on_git_models_output_gives_the_logits() -> None:
    """Whatever is passed: so an argument means the same to both classes."""
    rng = np.random.default_rng(0)
    calls: list[dict[str, Any]] = [
        {"pixel_values": PIXELS},
        {"attention_mask": [[0, 1, 1, 1, 1], [1, 1, 1, 1, 0]]},
        {"position_ids": rng.integers(0, 24, (2, T))},
        {"head_mask": rng.random((LAYERS, HEADS)).astype(np.float32)},
        {"pixel_values": rng.standard_normal((2, 3, 12, 20)), "interpolate_pos_encoding": True},
        {"past_key_values": None, "use_cache": False},
    ]
    head = model(GitForCausalLM).parameters["output"]
    plain = ask(GitForCausalLM, IDS)
    for call in calls:
        hidden = ask(GitModel, IDS, **call)
        logits = ask(GitForCausalLM, IDS, **call)
        equal(hidden @ head["weight"].T + head["bias"], logits)
        assert "use_cache" in call or differ(logits[:, -T:], plain)


@pytest.mark.parametrize("kind", DECODERS)
def test_positions_count_from_zero_unless_they_are_given(kind: Any) -> None:
    plain = ask(kind, IDS, pixel_values=PIXELS)
    for positions in (np.arange(T)[None], np.tile(np.arange(T), (2, 1))):
        np.testing.assert_array_equal(
            ask(kind, IDS, pixel_values=PIXELS, position_ids=positions), plain
        )
    moved = ask(kind, IDS, pixel_values=PIXELS, position_ids=np.arange(T)[None] + 3)
    np.testing.assert_array_equal(moved[:, :N], plain[:, :N])
    assert differ(moved[:, N:], plain[:, N:])


@pytest.mark.parametrize("kind", DECODERS)
def test_a_masked_token_is_seen_by_no_other(kind: Any) -> None:
    mask = np.ones_like(IDS)
    mask[:, 1] = 0
    other = IDS.copy()
    other[:, 1] = (other[:, 1] + 4) % 23
    seen, masked = (
        [ask(kind, ids, m, pixel_values=PIXELS) for ids in (IDS, other)] for m in (None, mask)
    )
    rest = [i for i in range(N + T) if i != N + 1]
    assert differ(seen[0][:, rest], seen[1][:, rest])
    np.testing.assert_array_equal(masked[0][:, rest], masked[1][:, rest])
    ones = ask(kind, IDS, np.ones_like(IDS), pixel_values=PIXELS)
    np.testing.assert_array_equal(ones, seen[0])


@pytest.mark.parametrize("kind", DECODERS)
def test_padding_on_the_right_is_ignored_without_a_mask(kind: Any) -> None:
    """No text sees what follows; padding elsewhere needs a mask."""
    padded = np.concatenate([IDS, np.zeros((2, 3), int)], 1)
    found = ask(kind, padded, pixel_values=PIXELS)[:, : N + T]
    equal(found, ask(kind, IDS, pixel_values=PIXELS))


@pytest.mark.parametrize("kind", DECODERS)
def test_a_head_mask_of_one_row_counts_for_every_layer(kind: Any) -> None:
    plain = ask(kind, IDS, pixel_values=PIXELS)
    row = np.array([1, 0, 1, 0.5], np.float32)
    by_row = ask(kind, IDS, pixel_values=PIXELS, head_mask=row)
    by_layer = ask(kind, IDS, pixel_values=PIXELS, head_mask=np.tile(row, (LAYERS, 1)))
    np.testing.assert_array_equal(by_row, by_layer)
    assert differ(by_row, plain)
    np.testing.assert_array_equal(ask(kind, IDS, pixel_values=PIXELS, head_mask=[1] * 4), plain)


@pytest.mark.parametrize("kind", DECODERS)
def test_word_vectors_stand_for_the_words_they_belong_to(kind: Any) -> None:
    vectors = model(kind).get_input_embeddings()[IDS]  # (B, T, D)
    np.testing.assert_array_equal(ask(kind, inputs_embeds=vectors), ask(kind, IDS))
    assert differ(ask(kind, inputs_embeds=2 * vectors), ask(kind, IDS))


@pytest.mark.parametrize("kind", DECODERS)
def test_a_returned_cache_is_passed_on_with_the_new_tokens_alone(kind: Any) -> None:
    whole = ask(kind, IDS, pixel_values=PIXELS, use_cache=False)
    out = model(kind)(IDS[:, :2], pixel_values=PIXELS)  # a cache is made where none is given
    past = out.past_key_values
    assert isinstance(past, KeyValueCache)
    assert (past.image_length, past.text_length) == (N, 2)
    for start in range(2, T):
        out = model(kind)(IDS[:, start : start + 1], past_key_values=past)
        assert out.past_key_values is past
        assert past.get_seq_length() == start + 1
        equal(result(out), whole[:, N + start : N + start + 1])


@pytest.mark.parametrize("kind", DECODERS)
def test_use_cache_says_whether_a_cache_is_returned(kind: Any) -> None:
    for default in (True, False):
        for asked in (True, False, None):
            out = model(kind, use_cache=default)(IDS, use_cache=asked)
            wanted = default if asked is None else asked
            assert ("past_key_values" in out) == wanted
            assert (out.past_key_values is not None) == wanted


@pytest.mark.parametrize("kind", [GitVisionModel, *DECODERS])
def test_images_of_another_size_need_interpolated_positions(kind: Any) -> None:
    text = {} if kind is GitVisionModel else {"input_ids": IDS}
    wide = np.random.default_rng(0).standard_normal((2, 3, 12, 20)).astype(np.float32)
    with pytest.raises(ValueError, match="interpolate_pos_encoding=True"):
        ask(kind, pixel_values=wide, **text)
    found = ask(kind, pixel_values=wide, interpolate_pos_encoding=True, **text)
    assert found.shape[1] == 1 + 3 * 5 + (T if text else 0)
    np.testing.assert_array_equal(
        ask(kind, pixel_values=PIXELS, interpolate_pos_encoding=True, **text),
        ask(kind, pixel_values=PIXELS, **text),
    )


def test_the_loss_is_of_the_next_words_that_are_not_minus_100() -> None:
    labels = IDS.copy()
    labels[0, 2] = labels[1, 4] = -100
    out = model(GitForCausalLM)(IDS, pixel_values=PIXELS, labels=labels)
    assert out.keys() == ["loss", "logits"]  # no cache with labels
    assert out.loss.shape == ()
    scores = out.logits[:, N:-1].astype(np.float64)
    surprise = np.log(np.exp(scores).sum(-1)) - np.take_along_axis(
        scores, IDS[:, 1:, None], -1
    ).squeeze(-1)
    assert float(out.loss) == pytest.approx(surprise[labels[:, 1:] != -100].mean(), rel=1e-5)
    assert model(GitForCausalLM)(IDS, pixel_values=PIXELS).loss is None
    flat = model(GitForCausalLM)(IDS, pixel_values=PIXELS, labels=labels, return_dict=False)
    np.testing.assert_array_equal(flat[0], out.loss)


@pytest.mark.parametrize("kind", [GitVisionModel, *DECODERS])
def test_an_unknown_argument_of_a_model_is_refused_by_name(kind: Any) -> None:
    call = {"pixel_values": PIXELS} if kind is GitVisionModel else {"input_ids": IDS}
    with pytest.raises(TypeError, match="head_masks"):
        model(kind)(**call, head_masks=[1])


def test_every_named_intermediate_goes_to_the_tap() -> None:
    for kind, last in ((GitVisionModel, "vision_model.post_layernorm"), (GitForCausalLM, "output")):
        hooks: dict[str, Any] = {}
        call = {"pixel_values": PIXELS} if kind is GitVisionModel else {"input_ids": IDS}
        out = model(kind)(**call, hook=hooks.__setitem__)
        np.testing.assert_array_equal(hooks[last], result(out))
    hooks = {}
    out = model(GitModel)(IDS, pixel_values=PIXELS, hook=hooks.__setitem__)
    np.testing.assert_array_equal(hooks["encoder.layer.2.output.LayerNorm"], result(out))


# -- the processor ---------------------------------------------------------------------------------

# Options of the tokenizer, with the entry by which each is known where it makes one.
FURTHER: list[tuple[dict[str, Any], str | None]] = [
    ({"text_pair": ["a star", "red"]}, None),
    ({"text_target": ["a star", "red"]}, "labels"),
    ({"return_overflowing_tokens": True, "stride": 1}, "overflow_to_sample_mapping"),
    ({"return_special_tokens_mask": True}, "special_tokens_mask"),
    ({"return_offsets_mapping": True}, "offset_mapping"),
    ({"return_length": True}, "length"),
    ({"split_special_tokens": True}, None),
    ({"verbose": False}, None),
]


@cache
def processor() -> GitProcessor:
    return GitProcessor.from_pretrained(demo_path())


def picture(name: str) -> Image.Image:
    return load_image(ROOT / f"docs/images/{name}.png")


@pytest.mark.parametrize(("options", "entry"), FURTHER, ids=lambda x: str(x))
def test_a_further_option_does_through_the_processor_what_it_does_to_the_tokenizer(
    options: dict[str, Any], entry: str | None
) -> None:
    text = ["a [SEP] red apple and a star", "a star"]
    call = {"padding": True, "truncation": True, "max_length": 8, "return_tensors": "np"}
    plain = processor()(text=text, **call)
    found = processor()(text=text, **call, **options)
    expected = processor().tokenizer(text, **call, **options)
    assert list(found) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    assert set(found) - set(plain) == ({entry} if entry else set())
    same = found.input_ids.tolist() == plain.input_ids.tolist()
    changing = {"text_pair", "split_special_tokens", "return_overflowing_tokens"}
    assert same == (not changing & set(options))


def test_sounds_and_videos_may_be_left_at_none() -> None:
    call = {"images": picture("star"), "text": "a star", "return_tensors": "np"}
    plain = processor()(**call)
    found = processor()(**call, audio=None, videos=None)
    assert list(found) == list(plain)
    assert list(processor()(picture("star"), "a star", None, None)) == list(plain)


def test_every_option_of_a_part_does_through_the_processor_what_it_does_to_the_part() -> None:
    text: dict[str, Any] = {
        "add_special_tokens": False,
        "padding": "max_length",
        "truncation": True,
        "max_length": 7,
        "padding_side": "left",
        "is_split_into_words": True,
        "pad_to_multiple_of": 4,
        "return_attention_mask": True,
        "return_token_type_ids": True,
    }
    words = [["a", "red", "apple"], ["a", "star"]]
    found = processor()(text=words, return_tensors="np", **text)
    expected = processor().tokenizer(words, return_tensors="np", **text)
    assert list(found) == ["input_ids", "token_type_ids", "attention_mask"]
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    assert found.attention_mask.tolist() == [[0] * 5 + [1] * 3, [0] * 6 + [1] * 2]


IMAGE_OPTIONS: list[dict[str, Any]] = [
    {"do_resize": False, "crop_size": 90},
    {"size": {"height": 20, "width": 30}, "do_center_crop": False},
    {"size": 50, "resample": 0},
    {"do_center_crop": False, "size": {"height": 9, "width": 9}},
    {"crop_size": 40},
    {"do_rescale": False},
    {"rescale_factor": 1 / 100},
    {"do_normalize": False},
    {"image_mean": 0.1},
    {"image_std": [0.2, 0.3, 0.4]},
    {"respect_ratio_max": 80},
]


@pytest.mark.parametrize("options", IMAGE_OPTIONS, ids=lambda x: ",".join(x))
def test_an_option_of_the_image_processor_counts_for_its_call_alone(
    options: dict[str, Any],
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    settings = {**processor().image_processor.to_dict(), **options}
    wanted = CLIPImageProcessor.from_dict(settings)(image).pixel_values
    plain = processor()(images=image, return_tensors="np").pixel_values
    found = processor()(images=image, return_tensors="np", **options).pixel_values
    np.testing.assert_array_equal(found, wanted)
    assert found.shape != plain.shape or differ(found, plain)
    again = processor()(images=image, return_tensors="np").pixel_values
    np.testing.assert_array_equal(again, plain)


def test_pixels_stand_in_the_layout_asked_for() -> None:
    first = processor()(images=picture("star"), return_tensors="np").pixel_values
    for layout in ("channels_last", None):  # a picture has its channels last
        call = {"images": picture("star"), "return_tensors": "np", "data_format": layout}
        last = processor()(**call).pixel_values
        np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), first)
        again = processor().image_processor.preprocess(**call).pixel_values
        np.testing.assert_array_equal(again, last)


def test_the_ways_to_read_a_picture_may_be_chosen() -> None:
    three = np.random.default_rng(1).integers(0, 256, (3, 20, 3), dtype=np.uint8)
    last = processor()(images=three, return_tensors="np", input_data_format="channels_last")
    equal(
        last.pixel_values,
        processor()(
            images=three.transpose(2, 0, 1), return_tensors="np", input_data_format="channels_first"
        ).pixel_values,
    )
    bands = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).convert("HSV")
    raw = processor()(images=bands, return_tensors="np", do_convert_rgb=False).pixel_values
    assert differ(raw, processor()(images=bands, return_tensors="np").pixel_values)
    turned = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    turned.getexif()[0x0112] = 3
    up = processor()(images=turned, return_tensors="np").pixel_values
    down = processor()(images=turned, return_tensors="np", exif_transpose=True).pixel_values
    assert differ(up, down)


# -- the document's examples -----------------------------------------------------------------------


def test_example_of_the_configs_builds_a_model_that_holds_its_config() -> None:
    """The defaults' shapes are those of git-base; the weights are drawn for a narrower one."""
    base = GitConfig()
    shapes = GitModel.shapes(base)
    assert shapes["embeddings.word_embeddings.weight"] == (30522, 768)
    assert shapes["embeddings.position_embeddings.weight"] == (1024, 768)
    eye = "image_encoder.vision_model."
    assert shapes[f"{eye}embeddings.position_embedding.weight"] == (197, 768)
    assert shapes[f"{eye}encoder.layers.11.mlp.fc1.weight"] == (3072, 768)
    assert f"{eye}encoder.layers.12.mlp.fc1.weight" not in shapes
    vision = GitVisionConfig(hidden_size=96, intermediate_size=96, num_hidden_layers=2)
    encoder = GitVisionModel(vision)
    assert encoder.config is vision
    config = GitConfig(vision_config=vision, vocab_size=99, hidden_size=96, intermediate_size=96)
    whole = GitModel(config)
    assert whole.config is config
    assert len(whole.parameters["encoder"]["layer"]) == base.num_hidden_layers


@pytest.mark.slow
def test_example_of_the_configs_holds_at_git_base_size() -> None:
    assert GitVisionModel(GitVisionConfig()).config == GitVisionConfig()
    assert GitModel(GitConfig()).config == GitConfig()


def test_example_of_the_image_encoder() -> None:
    encoder = GitVisionModel.from_pretrained(demo_path())
    inputs = processor()(images=picture("pencil"), return_tensors="np")
    outputs = encoder(**inputs)
    last_hidden_state = outputs.last_hidden_state
    assert last_hidden_state.shape == (1, 50, 160)  # 7 x 7 patches and the class token


def test_example_of_the_bare_model() -> None:
    bare = GitModel.from_pretrained(demo_path())
    text = "this is an image of two cats"
    inputs = processor()(images=picture("pencil"), text=text, return_tensors="np")
    outputs = bare(**inputs)
    tokens = inputs.input_ids.shape[1]
    assert outputs.last_hidden_state.shape == (1, 50 + tokens, 128)


def test_example_of_captioning() -> None:
    whole = GitForCausalLM.from_pretrained(demo_path())
    pixel_values = processor()(images=picture("red-apple"), return_tensors="np").pixel_values
    generated_ids = whole.generate(pixel_values=pixel_values, max_length=50)
    generated_caption = processor().batch_decode(generated_ids, skip_special_tokens=True)[0]
    assert generated_caption == "red apple"
    assert processor().decode(generated_ids[0]) == "[CLS] red apple [SEP]"


def test_example_of_visual_question_answering() -> None:
    whole = GitForCausalLM.from_pretrained(demo_path())
    image = picture("red-apple").convert("RGB")
    pixel_values = processor()(images=image, return_tensors="np").pixel_values
    question = "what kind of thing is this?"
    input_ids = processor()(text=question, add_special_tokens=False).input_ids
    input_ids = [processor().tokenizer.cls_token_id, *input_ids]
    input_ids = np.array(input_ids)[None]
    generated_ids = whole.generate(pixel_values=pixel_values, input_ids=input_ids, max_length=50)
    np.testing.assert_array_equal(generated_ids[:, : input_ids.shape[1]], input_ids)
    answer = processor().batch_decode(generated_ids, skip_special_tokens=True)
    assert answer == ["what kind of thing is this? food and drink"]


@pytest.fixture
def video_checkpoint(tmp_path: Path) -> Path:
    """A tiny model of videos of six frames with the demo model's words, and its processor."""
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = testing.CONFIG.replace(vocab_size=792, num_image_with_embedding=6, **special)
    GitForCausalLM(config.replace(max_position_embeddings=64), seed=1).save_pretrained(tmp_path)
    image_processor = VideoMAEImageProcessor(size=8, crop_size=8)
    GitProcessor(image_processor, BertTokenizer.from_pretrained(demo_path())).save_pretrained(
        tmp_path
    )
    return tmp_path


def captioned(folder: Path, frames: list[np.ndarray]) -> str:
    """The last lines of the document's example of videos."""
    whole = GitForCausalLM.from_pretrained(folder)
    own = GitProcessor.from_pretrained(folder)
    pixel_values = own(images=list(frames), return_tensors="np").pixel_values
    assert pixel_values.shape == (1, whole.config.num_image_with_embedding, 3, 8, 8)
    generated_ids = whole.generate(pixel_values=pixel_values, max_length=50)
    assert generated_ids[0, 0] == whole.config.bos_token_id
    assert generated_ids.shape[1] <= 50
    return own.batch_decode(generated_ids, skip_special_tokens=True)[0]


def grey(i: int) -> np.ndarray:
    return np.full((32, 48, 3), 4 * i, np.uint8)


def test_example_of_video_captioning_on_frames_at_hand(video_checkpoint: Path) -> None:
    """All but the decoding of the file, which needs PyAV."""
    num_frames = GitConfig.from_pretrained(video_checkpoint).num_image_with_embedding
    indices = sample_frame_indices(
        60, num_frames, sampling="document", rng=np.random.RandomState(45), frame_sample_rate=4
    )
    assert indices.shape == (6,)
    found = captioned(video_checkpoint, [grey(i) for i in indices])
    assert found
    assert found != captioned(video_checkpoint, [255 - grey(i) for i in indices])


def test_example_of_video_captioning_on_a_file(video_checkpoint: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="decoding needs PyAV: pip install av")
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        for i in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(i), format="rgb24")))
        container.mux(stream.encode(None))
    frames = read_video(path, 6, sampling="document", rng=np.random.RandomState(45))
    indices = sample_frame_indices(60, 6, "document", np.random.RandomState(45))
    assert [round(float(frame.mean()) / 4) for frame in frames] == indices.tolist()
    assert captioned(video_checkpoint, frames) == captioned(
        video_checkpoint, [grey(i) for i in indices]
    )
