"""What a model does with arguments that do not fit: one clear sentence, and nothing is lost."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from refgit import (
    GitConfig,
    GitForCausalLM,
    GitModel,
    GitVisionConfig,
    GitVisionModel,
    KeyValueCache,
    testing,
)
from refgit.layers.activation import ACTIVATIONS
from refgit_backends import Backend

MODEL = testing.tiny_model()
TRUNK = GitModel(testing.CONFIG)
ENCODER = GitVisionModel(testing.VISION)
PIXELS, IDS = testing.pixels(), testing.tokens()
LONGEST = testing.CONFIG.max_position_embeddings


def with_one(x: np.ndarray, value: Any) -> np.ndarray:
    """A copy of `x` that holds `value` once."""
    changed = x.copy()
    changed[..., -1] = value
    return changed


# ---- one argument wrong: (changed arguments, error, words of the message)

WRONG_PIXELS: list[tuple[Any, type[Exception], list[str]]] = [
    (PIXELS[0], ValueError, ["(3, 8, 8)", "(batch, 3, 8, 8)", "batch axis"]),
    (PIXELS[0, 0], ValueError, ["(8, 8)"]),
    (np.float32(1), ValueError, ["()"]),
    (PIXELS[:, :1], ValueError, ["1 channels", "expected 3"]),
    (PIXELS.transpose(0, 2, 3, 1), ValueError, ["8 channels", "channels first"]),
    (testing.pixels()[..., :7], ValueError, ["8 x 7", "8 x 8"]),
    (np.zeros((1, 3, 16, 16), np.float32), ValueError, ["16 x 16", "8 x 8", "GitProcessor"]),
    (PIXELS[:0], ValueError, ["empty batch"]),
    ((PIXELS * 50).astype(np.uint8), TypeError, ["uint8", "floating point"]),
    (PIXELS.astype(np.int64), TypeError, ["int64", "floating point"]),
    (PIXELS > 0, TypeError, ["bool"]),
    (PIXELS.astype(np.complex64), TypeError, ["complex64"]),
    ("photo.jpg", ValueError, ["pixel_values", "()"]),
    ([[1.0], [1.0, 2.0]], TypeError, ["rows of equal length"]),
    (object(), TypeError, ["object"]),
    (PIXELS[None], ValueError, ["(1, 1, 3, 8, 8)", "(batch, 3, 8, 8)"]),
]

WRONG_TEXT: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"input_ids": with_one(IDS, 23)}, ValueError, ["23", "0 to 22", "tokenizer"]),
    ({"input_ids": with_one(IDS, -1)}, ValueError, ["-1", "0 to 22"]),
    ({"input_ids": with_one(IDS, 2**40)}, ValueError, [str(2**40)]),
    ({"input_ids": [[2**70]]}, TypeError, []),
    ({"input_ids": IDS.astype(np.float32)}, TypeError, ["float32", "integers"]),
    ({"input_ids": IDS > 0}, TypeError, ["bool", "integers"]),
    ({"input_ids": [["a", "b"]]}, TypeError, ["integers"]),
    ({"input_ids": "a cat"}, ValueError, ["()", "(batch, tokens)"]),
    ({"input_ids": IDS[0]}, ValueError, ["(4,)", "(batch, tokens)"]),
    ({"input_ids": IDS[None]}, ValueError, ["(1, 1, 4)"]),
    ({"input_ids": IDS[:0]}, ValueError, ["(0, 4)", "at least one"]),
    ({"input_ids": IDS[:, :0]}, ValueError, ["(1, 0)", "at least one"]),
    ({"input_ids": [[1, 2], [1]]}, TypeError, ["rows of equal length"]),
    ({"input_ids": testing.tokens(1, LONGEST + 1)}, ValueError, ["24", "max_position_embeddings"]),
    ({"input_ids": None}, ValueError, ["neither", "inputs_embeds"]),
    ({"inputs_embeds": np.zeros((1, 4, 16), np.float32)}, ValueError, ["both", "inputs_embeds"]),
]

WRONG_EMBEDS: list[tuple[Any, type[Exception], list[str]]] = [
    (np.zeros((1, 4, 12), np.float32), ValueError, ["(1, 4, 12)", "16"]),
    (np.zeros((4, 16), np.float32), ValueError, ["(4, 16)"]),
    (np.zeros((1, 0, 16), np.float32), ValueError, ["(1, 0, 16)"]),
    (np.zeros((1, LONGEST + 1, 16), np.float32), ValueError, ["max_position_embeddings"]),
    (np.zeros((1, 4, 16), np.int64), TypeError, ["int64", "floating point"]),
    (np.zeros((1, 4, 16), np.complex64), TypeError, ["complex64", "floating point"]),
    ([[["a"] * 16]], TypeError, ["floating point"]),
]

WRONG_BESIDE_TEXT: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"attention_mask": np.ones((1, 5), int)}, ValueError, ["(1, 5)", "(1, 4)"]),
    ({"attention_mask": np.ones((2, 4), int)}, ValueError, ["(2, 4)", "(1, 4)"]),
    ({"attention_mask": np.ones(4, int)}, ValueError, ["(4,)", "(1, 4)"]),
    ({"attention_mask": np.ones((1, 1, 4, 4), int)}, ValueError, ["(1, 1, 4, 4)"]),
    ({"attention_mask": with_one(np.ones((1, 4)), -np.inf)}, ValueError, ["-inf", "0 for padding"]),
    ({"attention_mask": with_one(np.ones((1, 4)), np.nan)}, ValueError, ["nan"]),
    ({"attention_mask": with_one(np.ones((1, 4), int), 7)}, ValueError, ["7"]),
    ({"attention_mask": [["1", "1", "1", "1"]]}, TypeError, ["integers or booleans"]),
    ({"attention_mask": object()}, TypeError, ["object"]),
    ({"position_ids": np.arange(5)[None]}, ValueError, ["(1, 5)", "(1, 4)"]),
    ({"position_ids": np.zeros((2, 4), int)}, ValueError, ["(2, 4)"]),
    ({"position_ids": np.arange(4)}, ValueError, ["(4,)"]),
    ({"position_ids": np.arange(4)[None] * 1.5}, TypeError, ["float64", "integers"]),
    ({"position_ids": with_one(np.arange(4)[None], LONGEST)}, ValueError, ["24", "0 to 23"]),
    ({"position_ids": with_one(np.arange(4)[None], -1)}, ValueError, ["-1", "0 to 23"]),
]

WRONG_LABELS: list[tuple[Any, type[Exception], list[str]]] = [
    (IDS[:, :3], ValueError, ["(1, 3)", "(1, 4)"]),
    (IDS[0], ValueError, ["(4,)", "(1, 4)"]),
    (testing.tokens(2), ValueError, ["(2, 4)"]),
    (with_one(IDS, 23), ValueError, ["23", "0 to 22"]),
    (with_one(IDS, -1), ValueError, ["-1", "-100"]),
    (IDS.astype(np.float32), TypeError, ["float32", "integers"]),
    ([["a", "b", "c", "d"]], TypeError, ["integers"]),
]


def refused(call: Callable[[], Any], error: type[Exception], words: list[str]) -> None:
    """The call raises this error, by refgit's own hand, with all the words in its message."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)
    raised_in = caught.traceback[-1].path
    assert "refgit" in str(raised_in), f"raised by {raised_in}: {caught.value}"


@pytest.mark.parametrize(("pixels", "error", "words"), WRONG_PIXELS)
def test_wrong_pixels_are_refused(pixels: Any, error: type[Exception], words: list[str]) -> None:
    words = ["pixel_values", *words]
    refused(lambda: ENCODER(pixels), error, words)
    refused(lambda: TRUNK(IDS, pixel_values=pixels), error, words)
    refused(lambda: MODEL(IDS, pixel_values=pixels), error, words)
    refused(lambda: MODEL.encode_image(pixels), error, words)
    refused(lambda: MODEL.generate(pixels), error, words)
    refused(lambda: MODEL.generate(pixels, IDS), error, words)


@pytest.mark.parametrize(("changes", "error", "words"), WRONG_TEXT + WRONG_BESIDE_TEXT)
def test_a_wrong_text_is_refused(
    changes: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    arguments = {"input_ids": IDS, "pixel_values": PIXELS, **changes}
    name = next(iter(changes))
    words = words if "max_position_embeddings" in words else [name, *words]
    if name == "position_ids" and "0 to 23" in words:
        words = ["position", "0 to 23"]
    refused(lambda: MODEL(**arguments), error, words)
    refused(lambda: TRUNK(**arguments), error, words)
    del arguments["pixel_values"]
    refused(lambda: MODEL(**arguments), error, words)


@pytest.mark.parametrize(("embeds", "error", "words"), WRONG_EMBEDS)
def test_wrong_word_vectors_are_refused(
    embeds: Any, error: type[Exception], words: list[str]
) -> None:
    words = words if "max_position_embeddings" in words else ["inputs_embeds", *words]
    refused(lambda: MODEL(inputs_embeds=embeds, pixel_values=PIXELS), error, words)


@pytest.mark.parametrize(("labels", "error", "words"), WRONG_LABELS)
def test_wrong_labels_are_refused(labels: Any, error: type[Exception], words: list[str]) -> None:
    words = ["labels", *words]
    refused(lambda: MODEL(IDS, pixel_values=PIXELS, labels=labels), error, words)
    refused(lambda: MODEL(IDS, labels=labels), error, words)


@pytest.mark.parametrize(("texts", "images"), [(3, 2), (1, 2), (5, 4)])
def test_texts_that_images_cannot_be_dealt_to_are_refused(texts: int, images: int) -> None:
    words = [f"{texts} texts", f"{images} images", "multiple"]
    ids, pixels = testing.tokens(texts), testing.pixels(images)
    refused(lambda: MODEL(ids, pixel_values=pixels), ValueError, words)
    refused(lambda: MODEL.generate(pixels, ids), ValueError, words)
    cache = MODEL.encode_image(pixels)
    refused(lambda: MODEL(ids, past_key_values=cache), ValueError, words)


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (np.ones(3, np.float32), ValueError, ["(3,)", "(4,)", "(3, 4)"]),
        (np.ones((4, 3), np.float32), ValueError, ["(4, 3)", "(3, 4)"]),
        (np.ones((1, 4, 1, 1)), ValueError, ["(1, 4, 1, 1)"]),
        ([], ValueError, ["(0,)"]),
        (["a", "b", "c", "d"], TypeError, ["numbers"]),
        (object(), TypeError, ["object"]),
    ],
)
def test_wrong_head_masks_are_refused(mask: Any, error: type[Exception], words: list[str]) -> None:
    for model in (MODEL, TRUNK):
        call = lambda: model(IDS, pixel_values=PIXELS, head_mask=mask)  # noqa: B023, E731
        refused(call, error, ["head_mask", *words])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_that_a_config_may_name_runs(name: str) -> None:
    vision = testing.VISION.replace(hidden_act=name)
    model = testing.tiny_model(config=testing.CONFIG.replace(hidden_act=name, vision_config=vision))
    assert np.isfinite(model(IDS, pixel_values=PIXELS).logits).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_give_a_warning_and_a_result(value: float) -> None:
    pixels = testing.pixels(2)
    pixels[0, 0, 0, 0] = value
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out = MODEL(testing.tokens(2), pixel_values=pixels)
    ours = [w for w in caught if "pixel_values holds NaN or infinite" in str(w.message)]
    assert [w.category for w in ours] == [RuntimeWarning]
    assert np.isnan(out.logits[0]).any()
    clean = MODEL(testing.tokens(2)[1:], pixel_values=testing.pixels(2)[1:]).logits[0]
    # a batch of one is rounded otherwise than one of two; how far depends on the processor
    np.testing.assert_allclose(out.logits[1], clean, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x.tolist(),
        lambda x: x.astype(np.float64),
        lambda x: np.asfortranarray(x),
        lambda x: x[::-1][::-1],
    ],
    ids=["array", "list", "float64", "fortran", "strided"],
)
def test_every_form_of_the_same_input_gives_the_same(make: Callable[[Any], Any]) -> None:
    wanted = MODEL(testing.tokens(2), pixel_values=testing.pixels(2)).logits
    found = MODEL(testing.tokens(2).tolist(), pixel_values=make(testing.pixels(2))).logits
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_arguments_are_left_as_they_are() -> None:
    """And are not written to: read-only arrays do."""
    arguments = {
        "input_ids": testing.tokens(2),
        "pixel_values": testing.pixels(2),
        "attention_mask": np.array([[0, 1, 1, 1], [1, 1, 1, 1]]),
        "labels": testing.tokens(2),
        "position_ids": np.arange(4)[None],
    }
    for x in arguments.values():
        x.flags.writeable = False
    MODEL(**arguments)


# ---- the cache


def other_model(**changes: Any) -> GitForCausalLM:
    return testing.tiny_model(config=testing.CONFIG.replace(**changes))


@pytest.mark.parametrize("past", [(), [], 3, "cache", ((PIXELS, PIXELS),)])
def test_what_is_no_cache_is_refused(past: Any) -> None:
    words = ["past_key_values", type(past).__name__, "KeyValueCache"]
    refused(lambda: MODEL(IDS, past_key_values=past), TypeError, words)


def filled_cache(
    model: GitForCausalLM = MODEL, rows: int = 2, images: int = 1, *, padded: bool = False
) -> KeyValueCache:
    """A cache that holds images and the first three tokens of some texts."""
    cache = model.encode_image(testing.pixels(images))
    mask = np.ones((rows, 3), int)
    mask[0, 0] = 0
    model(testing.tokens(rows, 3), attention_mask=mask if padded else None, past_key_values=cache)
    return cache


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 2}, ["2 layers", "3"]),
        ({"num_hidden_layers": 4}, ["4 layers", "3"]),
        ({"hidden_size": 32}, ["another model"]),
        ({"hidden_size": 8}, ["another model"]),
        ({"num_attention_heads": 2}, ["another model"]),
        ({"num_attention_heads": 1, "hidden_size": 4}, ["another model"]),
    ],
)
@pytest.mark.parametrize("text", [True, False], ids=["text and image", "image alone"])
def test_a_cache_of_another_model_is_refused(
    text: bool, changes: dict[str, Any], words: list[str]
) -> None:
    other = other_model(**changes)
    cache = filled_cache(other) if text else other.encode_image(PIXELS)
    length = cache.text_length
    ids = testing.tokens(2, 1)
    refused(lambda: MODEL(ids, past_key_values=cache), ValueError, ["past_key_values", *words])
    assert cache.text_length == length
    assert other(ids, past_key_values=cache).logits.shape == (2, 1, 23)


@pytest.mark.parametrize("padded", [False, True])
def test_another_number_of_texts_than_in_the_cache_is_refused(padded: bool) -> None:
    for rows in (1, 3, 4):
        cache = filled_cache(padded=padded)
        words = [f"{rows} rows", "past_key_values 2"]
        refused(lambda: MODEL(testing.tokens(rows, 1), past_key_values=cache), ValueError, words)  # noqa: B023


def test_an_image_on_top_of_a_filled_cache_is_refused() -> None:
    cache = filled_cache()
    refused(
        lambda: MODEL(testing.tokens(2), pixel_values=testing.pixels(2), past_key_values=cache),
        ValueError,
        ["pixel_values", "past_key_values"],
    )


def test_labels_beside_a_cache_are_refused() -> None:
    call = lambda: MODEL(IDS, labels=IDS, past_key_values=MODEL.encode_image(PIXELS))  # noqa: E731
    refused(call, ValueError, ["labels", "past_key_values"])


def test_the_longest_text_is_the_same_with_a_cache() -> None:
    ids = testing.tokens(1, LONGEST)
    whole = MODEL(ids, pixel_values=PIXELS)
    assert whole.logits.shape == (1, testing.IMAGE_TOKENS + LONGEST, 23)
    cache = MODEL.encode_image(PIXELS)
    for start in range(0, LONGEST, 5):
        MODEL(ids[:, start : start + 5], past_key_values=cache)
    words = ["position 24", "max_position_embeddings", "Shorten"]
    refused(lambda: MODEL(ids[:, :1], past_key_values=cache), ValueError, words)
    assert cache.text_length == LONGEST


class StoppedError(Exception):
    """Raised by a hook, as an interrupt would be."""


def stop_at(name: str) -> Callable[[str, Any], None]:
    def listen(hook: str, x: Any) -> None:
        if hook == name:
            raise StoppedError

    return listen


BAD_CALLS: dict[str, dict[str, Any]] = {
    "token": {"input_ids": [[1, 99], [1, 1]]},
    "rows": {"input_ids": testing.tokens(3, 2)},
    "rows with a mask": {"input_ids": testing.tokens(3, 2), "attention_mask": np.ones((3, 2), int)},
    "rows with padding": {
        "input_ids": testing.tokens(4, 2),
        "attention_mask": np.zeros((4, 5), int),
    },
    "mask": {"attention_mask": np.ones((2, 4), int)},
    "mask value": {"attention_mask": np.full((2, 2), 3)},
    "positions": {"position_ids": [[3, 99]]},
    "too long": {"input_ids": testing.tokens(2, LONGEST + 1)},
    "image": {"pixel_values": testing.pixels(2)},
    "head_mask": {"head_mask": np.ones(5)},
    "in the first layer": {"hook": stop_at("git.encoder.layer.0.attention.self.probabilities")},
    "between layers": {"hook": stop_at("git.encoder.layer.1.output.LayerNorm")},
    "at the very end": {"hook": stop_at("output")},
    "padding, then a stop": {
        "attention_mask": np.array([[0, 1], [1, 1]]),
        "hook": stop_at("git.encoder.layer.1.attention.self.context"),
    },
}


@pytest.mark.parametrize("name", BAD_CALLS)
@pytest.mark.parametrize("state", ["text", "padded text", "image alone"])
def test_a_refused_call_leaves_the_cache_as_it_was(name: str, state: str) -> None:
    fresh = state == "image alone"

    def cache() -> KeyValueCache:
        return MODEL.encode_image(PIXELS) if fresh else filled_cache(padded="padded" in state)

    good: dict[str, Any] = {"input_ids": testing.tokens(2, 2, seed=5)}
    bad = {**good, **BAD_CALLS[name]}
    if fresh and name.startswith("rows"):  # a text of any number of rows begins here
        bad["position_ids"] = [[1, -1]]
    if fresh and name == "rows with padding":
        bad["attention_mask"] = np.zeros((4, 2), int)
    untouched, tried = cache(), cache()
    with pytest.raises((ValueError, TypeError, NotImplementedError, StoppedError)):
        MODEL(**bad, past_key_values=tried)
    assert tried.text_length == untouched.text_length
    assert tried.image_length == untouched.image_length
    assert tried.batch_size == untouched.batch_size
    for seed in (5, 6, 7):  # long enough for the cache to grow
        ids = testing.tokens(2, 2, seed=seed)
        found = MODEL(ids, past_key_values=tried).logits
        np.testing.assert_array_equal(found, MODEL(ids, past_key_values=untouched).logits)


@pytest.mark.parametrize(
    "bad",
    [
        {"pixel_values": testing.pixels()[:, :2]},
        {"pixel_values": testing.pixels(3)},
        {"attention_mask": np.ones((2, 3), int)},
        {"input_ids": [[1, 99]]},
        {"hook": stop_at("git.encoder.layer.0.output.LayerNorm")},
        {"hook": stop_at("output"), "pixel_values": testing.pixels(2)},
        {"attention_mask": [[0, 1], [1, 1]], "pixel_values": testing.pixels()[..., :3]},
        {
            "attention_mask": [[0, 1], [1, 1]],
            "hook": stop_at("git.visual_projection.visual_projection.1"),
        },
    ],
)
@pytest.mark.parametrize("image", [True, False], ids=["image and text", "text alone"])
def test_a_refused_call_leaves_an_empty_cache_empty(bad: dict[str, Any], image: bool) -> None:
    good = {"input_ids": testing.tokens(2, 2)} | ({"pixel_values": PIXELS} if image else {})
    bad = {**good, **bad}
    if "hook" in bad:
        bad["pixel_values"] = bad.get("pixel_values", PIXELS)
    cache = KeyValueCache(3)
    with pytest.raises((ValueError, StoppedError)):
        MODEL(**bad, past_key_values=cache)
    assert (cache.text_length, cache.image_length) == (0, 0)
    found = MODEL(**good, past_key_values=cache)
    np.testing.assert_array_equal(found.logits, MODEL(**good).logits)
    more = testing.tokens(2, 3, seed=9)
    wanted = MODEL(more, past_key_values=MODEL(**good, use_cache=True).past_key_values)
    np.testing.assert_array_equal(MODEL(more, past_key_values=cache).logits, wanted.logits)


# ---- generate


class Streamer:
    """What `generate` shows its words to."""

    def put(self, ids: np.ndarray) -> None: ...

    def end(self) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"temperature": 0.7}, ValueError, ["temperature is 0.7", "do_sample=True"]),
        ({"num_return_sequences": 2}, ValueError, ["num_return_sequences is 2", "do_sample"]),
        ({"length_penalty": 2.0}, ValueError, ["length_penalty is 2.0", "num_beams above 1"]),
        ({"output_scores": True}, ValueError, ["output_scores", "return_dict_in_generate"]),
        ({"num_beams": 2, "num_return_sequences": 3}, ValueError, ["num_return_sequences is 3"]),
        ({"num_beams": 2, "streamer": Streamer()}, ValueError, ["streamer", "num_beams=1"]),
        ({"streamer": print}, TypeError, ["streamer is a builtin_function", "put", "end"]),
        ({"inputs_embeds": np.zeros((1, 2, 16))}, TypeError, ["no argument 'inputs_embeds'"]),
        ({"position_ids": np.arange(4)[None]}, TypeError, ["no argument 'position_ids'"]),
        ({"num_beams": np.array([1, 1])}, ValueError, ["num_beams is [1, 1]"]),
        ({"max_lenght": 7}, TypeError, ["max_lenght", "did you mean max_length"]),
        ({"assistant_model": MODEL}, ValueError, ["assistant_model", "speculative"]),
        ({"preset": "magazine"}, ValueError, ["preset is 'magazine'"]),
        ({"seed": "seven"}, TypeError, ["seed is 'seven'", "integer"]),
        ({"seed": -1}, TypeError, ["seed is -1", "integer"]),
        ({"seed": 3}, ValueError, ["seed is 3", "do_sample=True"]),
        ({"num_beams": 3, "force_words_ids": [[99]]}, ValueError, ["force_words_ids", "[99]"]),
        ({"pad_token_id": 99}, ValueError, ["pad_token_id", "[99]"]),
        ({"prefix_allowed_tokens_fn": 3}, TypeError, ["prefix_allowed_tokens_fn is 3"]),
        ({"logits_processor": print}, TypeError, ["logits_processor", "a list of callables"]),
        ({"logits_processor": [3]}, TypeError, ["logits_processor is [3]"]),
        ({"stopping_criteria": [3]}, TypeError, ["stopping_criteria is [3]"]),
        ({"generation_config": {}}, TypeError, ["generation_config is a dict"]),
        ({"stop_strings": "x", "tokenizer": 3}, TypeError, ["tokenizer is a int"]),
    ],
)
def test_arguments_of_generate_without_meaning_are_refused_before_the_image_is_read(
    arguments: dict[str, Any],
    error: type[Exception],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GitForCausalLM, "encode_checked", None)
    refused(lambda: MODEL.generate(PIXELS, **arguments), error, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prefix_allowed_tokens_fn": lambda b, ids: [[1], [1, 2]]}, ["[[1], [1, 2]]", "token id"]),
        ({"logits_processor": [lambda ids, scores: scores.astype(str)]}, ["<lambda>", "(1, 23)"]),
    ],
)
def test_functions_that_answer_nonsense_are_named(
    arguments: dict[str, Any], words: list[str]
) -> None:
    refused(lambda: MODEL.generate(PIXELS, max_length=5, **arguments), ValueError, words)


def test_a_wrong_head_mask_is_refused_before_the_image_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GitModel, "_image_tokens", None)
    refused(lambda: MODEL.generate(PIXELS, head_mask=[1, 2]), ValueError, ["head_mask", "(2,)"])


def test_ragged_text_beside_labels_is_refused() -> None:
    refused(lambda: MODEL([[1, 2], [3]], labels=[[1, 2]]), TypeError, ["input_ids"])


def test_arguments_that_ask_for_greedy_search_are_taken() -> None:
    plain = MODEL.generate(PIXELS, max_length=6)
    same = MODEL.generate(
        PIXELS, max_length=6, num_beams=1, do_sample=False, use_cache=True, temperature=None
    )
    np.testing.assert_array_equal(plain, same)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ({"max_length": 4}, ["4 tokens", "max_length is 4", "max_new_tokens"]),
        ({"max_length": 1}, ["4 tokens", "max_length is 1"]),
        ({"max_length": 0}, ["max_length is 0", "a positive integer"]),
        ({"max_length": -3}, ["max_length is -3"]),
        ({"max_length": 7.5}, ["max_length is 7.5"]),
        ({"max_length": "7"}, ["max_length is '7'"]),
        ({"max_length": True}, ["max_length is True"]),
        ({"max_length": LONGEST + 2}, ["26 tokens", "24", "max_position_embeddings"]),
        ({"max_new_tokens": 0}, ["max_new_tokens is 0", "a positive integer"]),
        ({"max_new_tokens": -1}, ["max_new_tokens is -1"]),
        ({"max_new_tokens": LONGEST}, ["28 tokens", "max_position_embeddings"]),
        ({"min_length": -1}, ["min_length is -1"]),
        ({"min_length": 1.5}, ["min_length is 1.5"]),
    ],
)
def test_impossible_lengths_are_refused(lengths: dict[str, Any], words: list[str]) -> None:
    refused(lambda: MODEL.generate(PIXELS, IDS, **lengths), ValueError, words)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"input_ids": with_one(IDS, 23)}, ValueError, ["input_ids", "23"]),
        ({"input_ids": IDS * 1.0}, TypeError, ["input_ids", "float64"]),
        ({"input_ids": IDS[0]}, ValueError, ["input_ids", "(4,)"]),
        ({"input_ids": IDS, "attention_mask": np.ones((1, 3))}, ValueError, ["attention_mask"]),
        ({"attention_mask": np.ones((1, 4), int)}, ValueError, ["attention_mask", "(1, 1)"]),
    ],
)
def test_a_wrong_prompt_is_refused(
    arguments: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    refused(lambda: MODEL.generate(PIXELS, **arguments), error, words)


def test_generating_without_a_start_is_refused() -> None:
    model = testing.tiny_model(config=testing.CONFIG.replace(bos_token_id=None))
    refused(lambda: model.generate(PIXELS), ValueError, ["input_ids", "bos_token_id"])
    assert model.generate(PIXELS, IDS, max_length=6).shape[1] in (5, 6)


# ---- building a model


@pytest.mark.parametrize("dtype", ["int8", "float", None, np.int64])
def test_a_wrong_dtype_is_named(dtype: Any) -> None:
    refused(lambda: testing.tiny_model(dtype=dtype), ValueError, ["dtype", repr(dtype), "float32"])


def test_a_wrong_backend_is_named() -> None:
    with pytest.raises(ValueError, match=re.escape("'abacus'")):
        testing.tiny_model(backend="abacus")


def test_every_backend_refuses_alike(backend: Backend) -> None:
    model = testing.tiny_model(backend=backend)
    ids, images = backend.asarray(testing.tokens(3)), backend.asarray(testing.pixels(2))
    refused(lambda: model(ids, pixel_values=images), ValueError, ["3 texts"])
    refused(lambda: model(images, pixel_values=images), ValueError, ["input_ids"])
    refused(lambda: model(ids, pixel_values=ids), ValueError, ["pixel_values"])
    cache = model.encode_image(images)
    refused(lambda: model(ids, past_key_values=cache), ValueError, ["3 texts"])
    assert cache.text_length == 0


def test_default_configs_build() -> None:
    """The argument checks know sizes by the config alone, whatever they are."""
    config = GitConfig(
        vision_config=GitVisionConfig(
            hidden_size=12, num_hidden_layers=1, image_size=32, intermediate_size=8
        ),
        vocab_size=200,
        hidden_size=12,
        num_hidden_layers=1,
        intermediate_size=8,
    )
    pixels = np.zeros((1, 3, 32, 32), np.float32)
    assert GitForCausalLM(config)([[101]], pixel_values=pixels).logits.shape == (1, 6, 200)
