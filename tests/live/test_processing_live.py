"""Live parity of the processor with transformers 4.56.2: drawn images and texts, equal results.

Needs torch and transformers (the `oracle` extra); run with `pytest tests/live`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from helpers.oracle import only, transformers
from helpers.processing_draws import CONFIGS, ODDITIES, VOCAB, arrays, pieces, sizes, squares, texts
from refgit.processing import BertTokenizer, CLIPImageProcessor, GitProcessor

only("4")

pytestmark = pytest.mark.oracle

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
MODES += ["I", "I;16", "F"]


# -- images ----------------------------------------------------------------------------------------


@st.composite
def pictures(draw: st.DrawFn, modes: list[str] = MODES) -> Image.Image:
    """A PIL image of any mode and a size from 1 x 1, its pixels drawn from a seed."""
    mode = draw(st.sampled_from(modes))
    width, height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if mode in ("I", "I;16", "F"):
        dtype = {"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]
        limits = (0, 65536) if mode == "I;16" else (-300, 600)
        return Image.fromarray(rng.integers(*limits, (height, width)).astype(dtype))
    colours = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")
    if mode in ("HSV", "YCbCr", "LAB"):
        return Image.frombytes(mode, (width, height), colours.convert("RGB").tobytes())
    if mode == "RGBX":
        return Image.frombytes(mode, (width, height), colours.tobytes())
    if mode == "PA":
        return colours.convert("LA").convert("PA")
    if mode != "P":
        return (
            colours.convert("RGB").convert(mode) if mode in ("1", "CMYK") else colours.convert(mode)
        )
    indexed = colours.convert("RGB").quantize(draw(st.sampled_from([2, 7, 256])))
    transparency = draw(st.sampled_from([None, 1]))
    if transparency is not None:
        indexed.info["transparency"] = transparency
    return indexed


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of the image processor; often the defaults at a small size."""
    config: dict[str, Any] = {"size": draw(sizes), "crop_size": draw(squares)}
    for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        config[name] = draw(st.sampled_from([True, True, True, False]))
    config["resample"] = draw(st.sampled_from([3, 3, 3, 0, 1, 2, 4, 5]))
    if draw(st.booleans()):
        config["rescale_factor"] = draw(st.sampled_from([1 / 255, 1 / 127.5, 0.01, 2]))
        config["image_mean"] = draw(st.sampled_from([0.5, [0.1, 0.2, 0.3]]))
        config["image_std"] = draw(st.sampled_from([0.5, [0.1, 0.2, 0.3]]))
    return config


def oracle_pixels(images: Any, config: dict[str, Any], **options: Any) -> list[Any]:
    slow = transformers.CLIPImageProcessor(**config)
    return list(slow(images, return_tensors=None, **options)["pixel_values"])


def assert_equal_pixels(images: Any, config: dict[str, Any], **options: Any) -> None:
    expected = oracle_pixels(images, config, **options)
    found = CLIPImageProcessor(**config)(images, return_tensors=None, **options)["pixel_values"]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        # transformers keeps other dtypes where it neither rescales nor normalizes.
        np.testing.assert_array_equal(ours, np.asarray(theirs).astype(np.float32), strict=True)


@settings(max_examples=600, deadline=None)
@given(pictures(), configurations())
def test_pictures_of_any_mode_and_size_give_equal_pixels(
    picture: Image.Image, config: dict[str, Any]
) -> None:
    if picture.height == 1:
        # transformers takes the row for a channel; with the layout stated it reads the picture.
        assert_equal_pixels(picture, config, input_data_format="channels_last")
        stated = CLIPImageProcessor(**config)(picture, None, "channels_last")["pixel_values"]
        inferred = CLIPImageProcessor(**config)(picture, None)["pixel_values"]
        np.testing.assert_array_equal(inferred, stated)
    else:
        assert_equal_pixels(picture, config)


@settings(max_examples=600, deadline=None)
@given(arrays(), configurations())
def test_arrays_of_any_dtype_and_layout_give_equal_pixels(
    array: np.ndarray[Any, Any], config: dict[str, Any]
) -> None:
    assert_equal_pixels(array, config)


@settings(max_examples=100, deadline=None)
@given(st.lists(pictures(["RGB", "L", "P", "RGBA"]), min_size=1, max_size=4))
def test_batches_give_equal_pixels(batch: list[Image.Image]) -> None:
    batch = [picture for picture in batch if picture.height not in (1, 3)] or [
        Image.new("RGB", (5, 4), (1, 2, 3))
    ]
    config = {"size": 12, "crop_size": 9}
    assert_equal_pixels(batch, config)
    assert_equal_pixels([np.array(p.convert("RGB")) for p in batch], config)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 3), st.sampled_from([2, 4, 5, 8]), st.integers(1, 9), st.just(3)),
    )
)
def test_batch_arrays_give_equal_pixels(batch: np.ndarray[Any, Any]) -> None:
    assert_equal_pixels(batch, {"size": 6, "crop_size": 7})
    assert_equal_pixels(batch.transpose(0, 3, 1, 2), {"size": 6, "crop_size": 7})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(4, 8))
def test_grey_arrays_equal_the_one_channel_of_the_oracle(width: int, height: int) -> None:
    grey = np.arange(height * width, dtype=np.uint8).reshape(height, width, 1)
    config = {"size": 6, "crop_size": 7, "image_mean": 0.4, "image_std": 0.3}
    (expected,) = oracle_pixels(grey, config, input_data_format="channels_last")
    found = CLIPImageProcessor(**config)(grey, input_data_format="channels_last")["pixel_values"]
    np.testing.assert_array_equal(found[0], np.repeat(expected, 3, axis=0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_left_alone_as_in_the_oracle(orientation: int, tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert_equal_pixels(opened, {"size": 6, "crop_size": 6})


def test_image_settings_written_by_refgit_are_read_by_the_oracle(tmp_path: Path) -> None:
    CLIPImageProcessor(size=20, crop_size=18, resample=2).save_pretrained(tmp_path)
    slow = transformers.CLIPImageProcessor.from_pretrained(tmp_path)
    assert slow.size == {"shortest_edge": 20}
    assert slow.crop_size == {"height": 18, "width": 18}
    assert slow.resample == 2


# -- texts -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=range(2 * len(CONFIGS)))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same checkpoint read by refgit and by the oracle: from vocab.txt or tokenizer.json."""
    index, saved = divmod(request.param, 2)
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    config = {"model_input_names": ["input_ids", "attention_mask"], **CONFIGS[index]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = transformers.BertTokenizerFast.from_pretrained(folder)
    if saved:
        theirs.save_pretrained(folder)
        theirs = transformers.BertTokenizerFast.from_pretrained(folder)
    return BertTokenizer.from_pretrained(folder), theirs


ODDITIES += ["a" * 99, "a" * 101, "\u200d", "e\u0301", "👩\u200d🚀", "\ufffd", "\x00", "2020", "ﬁ"]
paddings = st.sampled_from([False, True, "longest", "max_length"])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_texts_give_equal_ids(pair: Any, data: st.DataObject) -> None:
    ours, theirs = pair
    batch = data.draw(st.lists(texts, min_size=1, max_size=4))
    options: dict[str, Any] = {
        "padding": data.draw(paddings),
        "truncation": data.draw(st.booleans()),
        "max_length": data.draw(st.sampled_from([None, 2, 3, 7, 30])),
        "add_special_tokens": data.draw(st.booleans()),
        "return_token_type_ids": data.draw(st.sampled_from([None, True])),
        "padding_side": data.draw(st.sampled_from([None, "left", "right"])),
    }
    if options["padding"] in (True, "longest") and not options["truncation"]:
        options["max_length"] = None  # transformers warns that it is ignored
    assert dict(ours(batch, **options)) == dict(theirs(batch, **options))
    assert dict(ours(batch[0], **options)) == dict(theirs(batch[0], **options))
    assert ours.encode(batch[0]) == theirs.encode(batch[0])
    assert ours.tokenize(batch[0]) == theirs.tokenize(batch[0])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_ids_give_equal_text(pair: Any, data: st.DataObject) -> None:
    ours, theirs = pair
    ids = st.lists(st.integers(0, len(VOCAB) + 5), max_size=20)
    batch = data.draw(st.lists(ids, max_size=3))
    options = {
        "skip_special_tokens": data.draw(st.booleans()),
        "clean_up_tokenization_spaces": data.draw(st.sampled_from([None, True, False])),
    }
    assert ours.batch_decode(batch, **options) == theirs.batch_decode(batch, **options)
    for sequence in batch:
        assert ours.decode(np.array(sequence, np.int32), **options) == theirs.decode(
            sequence, **options
        )
        assert ours.convert_ids_to_tokens(sequence) == theirs.convert_ids_to_tokens(sequence)


@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_decoding_an_encoded_text_gives_equal_text(pair: Any, text: str) -> None:
    ours, theirs = pair
    assert ours.decode(ours(text)["input_ids"]) == theirs.decode(theirs(text)["input_ids"])


@settings(max_examples=100, deadline=None)
@given(words=st.lists(st.lists(pieces, max_size=6), min_size=1, max_size=3))
def test_texts_split_into_words_give_equal_ids(pair: Any, words: list[list[str]]) -> None:
    ours, theirs = pair
    for given_words in (words, words[0]):
        found = ours(given_words, is_split_into_words=True)["input_ids"]
        assert found == theirs(given_words, is_split_into_words=True)["input_ids"]


def test_vocabularies_are_equal(pair: Any) -> None:
    ours, theirs = pair
    assert ours.get_vocab() == theirs.get_vocab()
    assert (len(ours), ours.vocab_size) == (len(theirs), theirs.vocab_size)
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.all_special_ids == theirs.all_special_ids
    assert ours.clean_up_tokenization_spaces == theirs.clean_up_tokenization_spaces
    for name in ("cls", "sep", "pad", "unk", "mask", "bos", "eos"):
        assert getattr(ours, f"{name}_token_id") == getattr(theirs, f"{name}_token_id")
    assert ours.convert_tokens_to_ids(["cat", "zzz"]) == theirs.convert_tokens_to_ids(
        ["cat", "zzz"]
    )


def test_tokenizer_written_by_refgit_is_read_by_the_oracle(pair: Any, tmp_path: Path) -> None:
    ours, theirs = pair
    ours.save_pretrained(tmp_path)
    again = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    slow = transformers.BertTokenizer.from_pretrained(tmp_path)
    text = "The cats [MASK] <x> don't é 漢字 zzz."
    assert again(text)["input_ids"] == theirs(text)["input_ids"] == ours(text)["input_ids"]
    assert again.get_vocab() == theirs.get_vocab() == slow.get_vocab()
    assert again.special_tokens_map == theirs.special_tokens_map


# -- both ------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint written by the oracle's own GitProcessor."""
    (tmp_path / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(
        str(tmp_path / "vocab.txt"), model_input_names=["input_ids", "attention_mask"]
    )
    image_processor = transformers.CLIPImageProcessor(size=20, crop_size=16)
    transformers.GitProcessor(image_processor, tokenizer).save_pretrained(tmp_path)
    return tmp_path


def oracle_processor(checkpoint: Path) -> Any:
    return transformers.GitProcessor(
        transformers.CLIPImageProcessor.from_pretrained(checkpoint),
        transformers.BertTokenizerFast.from_pretrained(checkpoint),
    )


def test_git_processor_returns_the_oracles_keys_and_values(checkpoint: Path) -> None:
    ours, theirs = GitProcessor.from_pretrained(checkpoint), oracle_processor(checkpoint)
    image = Image.fromarray(np.arange(30 * 25 * 3, dtype=np.uint8).reshape(30, 25, 3))
    call: dict[str, Any] = {
        "images": [image, image],
        "text": ["a cat", "the dogs is a cat."],
        "return_tensors": "np",
    }
    for options in ({"padding": True}, {"padding": "max_length", "max_length": 9}):
        found, expected = ours(**call, **options), theirs(**call, **options)
        assert list(found) == list(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, strict=True)
    nested = {"text_kwargs": {"padding": True}, "images_kwargs": {"crop_size": 9}}
    found, expected = ours(**call, **nested), theirs(**call, **nested)
    np.testing.assert_array_equal(found.pixel_values, expected.pixel_values)
    assert ours.model_input_names == theirs.model_input_names


def test_question_without_tensors_gives_the_oracles_list(checkpoint: Path) -> None:
    ours, theirs = GitProcessor.from_pretrained(checkpoint), oracle_processor(checkpoint)
    question = "is the cat a dog?"
    found = ours(text=question, add_special_tokens=False).input_ids
    assert found == theirs(text=question, add_special_tokens=False).input_ids


def test_length_limit_stored_in_tokenizer_json_is_applied_as_in_the_oracle(
    checkpoint: Path,
) -> None:
    stored = transformers.BertTokenizerFast.from_pretrained(checkpoint)
    stored("a", truncation=True, max_length=5)
    stored.save_pretrained(checkpoint)
    ours, theirs = GitProcessor.from_pretrained(checkpoint), oracle_processor(checkpoint)
    text = "a cat is the dog . a cat"
    assert ours(text=text).input_ids == theirs(text=text).input_ids
    assert ours.tokenizer(text).input_ids == theirs.tokenizer(text).input_ids


def test_processor_written_by_refgit_is_read_by_the_oracle(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("again")
    GitProcessor.from_pretrained(checkpoint).save_pretrained(folder)
    again = transformers.AutoProcessor.from_pretrained(folder, use_fast=False)
    assert type(again).__name__ == "GitProcessor"
    assert (
        again(text="the cats").input_ids == oracle_processor(checkpoint)(text="the cats").input_ids
    )
