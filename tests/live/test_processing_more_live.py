"""Live parity of the processor's further functions with transformers 4.56.2.

Pairs of texts, overflowing pieces, offsets, padding afterwards, the vocabulary; pixels in either
layout and one step at a time. Needs torch and transformers (the `oracle` extra).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import AddedToken

from helpers.oracle import only, torch, transformers
from helpers.processing_draws import CONFIGS, VOCAB, arrays, pieces, sizes, squares, texts
from refgit.processing import (
    BertTokenizer,
    CLIPImageProcessor,
    GitProcessor,
    VideoMAEImageProcessor,
)

only("4")

pytestmark = [
    pytest.mark.oracle,
    # transformers says that a max_length without truncation is ignored
    pytest.mark.filterwarnings("ignore:.max_length. is ignored"),
]


def write(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    config = {"model_input_names": ["input_ids", "attention_mask"], **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def read(folder: Path) -> tuple[BertTokenizer, Any]:
    """The same files, read by refgit and by the oracle."""
    return (
        BertTokenizer.from_pretrained(folder),
        transformers.BertTokenizerFast.from_pretrained(folder),
    )


@pytest.fixture(scope="module", params=range(len(CONFIGS)))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return read(write(tmp_path_factory.mktemp("tokenizer"), CONFIGS[request.param]))


@pytest.fixture
def fresh(tmp_path: Path) -> Any:
    """A pair of tokenizers that a test may change."""
    return read(write(tmp_path / "fresh", {}))


# -- texts -----------------------------------------------------------------------------------------


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Options of a call, in any combination that has a meaning."""
    padding = draw(st.sampled_from([False, True, "longest", "max_length", "do_not_pad"]))
    strategies = ["longest_first", "only_first", "only_second", "do_not_truncate"]
    return {
        "padding": padding,
        "truncation": draw(st.sampled_from([None, True, False, *strategies])),
        "max_length": draw(st.sampled_from([None, 3, 4, 5, 7, 12])),
        "stride": draw(st.sampled_from([0, 0, 1, 2])),
        "add_special_tokens": draw(st.booleans()),
        "padding_side": draw(st.sampled_from([None, "left", "right"])),
        "return_token_type_ids": draw(st.sampled_from([None, True])),
        "return_attention_mask": draw(st.sampled_from([None, True, False])),
        "return_overflowing_tokens": draw(st.booleans()),
        "return_special_tokens_mask": draw(st.booleans()),
        "return_offsets_mapping": draw(st.booleans()),
        "return_length": draw(st.booleans()),
        "verbose": draw(st.booleans()),
        "split_special_tokens": draw(st.booleans()),
    }


def outcome(function: Any, *args: Any, **options: Any) -> Any:
    """What a call returns as plain values, or None if it is refused."""
    try:
        found = function(*args, **options)
    except Exception:  # the library raises plain ones, too
        return None
    if not hasattr(found, "items"):
        return found
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}


def assert_same(ours: Any, theirs: Any, *args: Any, **options: Any) -> Any:
    """Both functions return the same, or both refuse."""
    try:
        ours(*args, **options)
    except (ValueError, TypeError) as error:
        if "stride is" not in str(error):  # the library panics then, at length
            with pytest.raises(BaseException):  # noqa: B017, PT011  (a panic is no Exception)
                theirs(*args, **options)
        return None
    found = outcome(ours, *args, **options)
    assert found == outcome(theirs, *args, **options)
    return found


def has_room(ours: BertTokenizer, options: dict[str, Any], pairs: bool) -> bool:
    """Whether special tokens fit, and with them the stride.

    Where not, transformers does not truncate at all, or refuses what it need not truncate.
    """
    limit = options["max_length"] or ours.model_max_length
    return limit - (3 if pairs else 2) >= options["stride"]


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_every_option_of_a_call_gives_the_oracles_result(pair: Any, data: st.DataObject) -> None:
    ours, theirs = pair
    options = data.draw(calls())
    batch = data.draw(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
    firsts, seconds = [list(column) for column in zip(*batch, strict=True)]
    with_pair = data.draw(st.booleans())
    assume(has_room(ours, options, with_pair))
    assert_same(ours, theirs, firsts, seconds if with_pair else None, **options)
    first, second = firsts[0], seconds[0] if with_pair else None
    assert_same(ours, theirs, first, second, **options)
    assert_same(ours.encode_plus, theirs.encode_plus, first, second, **options)
    if has_room(ours, options, True):
        pairs = list(zip(firsts, seconds, strict=True))
        assert_same(ours, theirs, pairs, **options)
        assert_same(ours.batch_encode_plus, theirs.batch_encode_plus, pairs, **options)


def test_a_stride_that_repeats_whole_pieces_is_refused_where_the_oracle_panics(fresh: Any) -> None:
    options = {"truncation": True, "max_length": 4, "stride": 2, "return_overflowing_tokens": True}
    with pytest.raises(ValueError, match="stride is 2, and a text is cut into pieces of 2 tokens"):
        fresh[0]("a cat is a dog", **options)
    with pytest.raises(BaseException, match="must be strictly less than"):
        fresh[1]("a cat is a dog", **options)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_arrays_hold_the_oracles_values(pair: Any, data: st.DataObject) -> None:
    ours, theirs = pair
    options = {**data.draw(calls()), "padding": "max_length", "max_length": 12}
    options |= {"truncation": True, "return_tensors": "np"}
    batch = data.draw(st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
    for text, second in ((batch, None), batch[0], (batch[0][0], None)):
        found, wanted = ours(text, second, **options), theirs(text, second, **options)
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value, strict=True)


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(st.lists(pieces, max_size=6), min_size=1, max_size=3),
    more=st.lists(st.lists(pieces, max_size=6), min_size=3, max_size=3),
    options=calls(),
)
def test_pairs_split_into_words_give_the_oracles_result(
    pair: Any, words: list[list[str]], more: list[list[str]], options: dict[str, Any]
) -> None:
    ours, theirs = pair
    assume(has_room(ours, options, True))
    options = {**options, "is_split_into_words": True}
    more = more[: len(words)]
    assert_same(ours, theirs, words, more, **options)
    assert_same(ours, theirs, words[0], more[0], **options)


@settings(max_examples=100, deadline=None)
@given(text=texts, target=texts, second=texts, options=calls())
def test_targets_become_labels_as_in_the_oracle(
    pair: Any, text: str, target: str, second: str, options: dict[str, Any]
) -> None:
    ours, theirs = pair
    assume(has_room(ours, options, True))
    for call in (
        {"text": text, "text_target": target},
        {"text": [text, second], "text_target": [target, text]},
        {"text_target": target, "text_pair_target": second},
        {"text": text, "text_pair": second, "text_target": target, "text_pair_target": second},
    ):
        assert_same(ours, theirs, **call, **options)


@settings(max_examples=100, deadline=None)
@given(text=texts, second=texts, options=calls())
def test_tokens_and_single_ids_are_the_oracles(
    pair: Any, text: str, second: str, options: dict[str, Any]
) -> None:
    ours, theirs = pair
    assume(has_room(ours, options, True))
    names = ("padding", "truncation", "max_length", "add_special_tokens", "padding_side")
    options = {name: options[name] for name in names}
    for more in (None, second):
        assert_same(ours.encode, theirs.encode, text, more, **options)
        tokens = assert_same(ours.tokenize, theirs.tokenize, text, more, **options)
        if tokens is not None:
            joined = theirs.convert_tokens_to_string(tokens)
            assert ours.convert_tokens_to_string(tokens) == joined


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_padding_afterwards_is_the_oracles(pair: Any, data: st.DataObject) -> None:
    ours, theirs = pair
    batch = data.draw(st.lists(texts, min_size=1, max_size=4))
    kept = {
        "return_token_type_ids": data.draw(st.booleans()),
        "return_special_tokens_mask": data.draw(st.booleans()),
        "return_attention_mask": data.draw(st.booleans()),
    }
    options = {
        "padding": data.draw(st.sampled_from([False, True, "longest", "max_length"])),
        "max_length": data.draw(st.sampled_from([None, 5, 30])),
        "pad_to_multiple_of": data.draw(st.sampled_from([None, 4])),
        "padding_side": data.draw(st.sampled_from([None, "left", "right"])),
        "return_attention_mask": data.draw(st.sampled_from([None, True, False])),
        "return_tensors": data.draw(st.sampled_from([None, "np"])),
    }
    whole, one = dict(theirs(batch, **kept)), dict(theirs(batch[0], **kept))
    singles = [dict(theirs(text, **kept)) for text in batch]
    as_arrays = [{k: np.array(v) for k, v in single.items()} for single in singles]
    for features in (whole, one, singles, as_arrays):
        # The oracle writes into what it is given.
        copies = [dict(f) for f in features] if isinstance(features, list) else dict(features)
        wanted = theirs.pad(copies, **options)
        if any(isinstance(x, np.ndarray) and x.dtype.hasobject for x in wanted.values()):
            with pytest.raises(ValueError, match="cannot form one array"):
                ours.pad(features, **options)
        else:
            assert outcome(ours.pad, features, **options) == outcome(dict, wanted)


def test_one_array_is_padded_as_the_oracle_pads_one_tensor(pair: Any) -> None:
    """A single NumPy array of one axis is refused by the oracle, a single tensor is not."""
    ours, theirs = pair
    options = {"padding": "max_length", "max_length": 8}
    wanted = theirs.pad({"input_ids": torch.tensor([2, 5, 3])}, **options)
    found = ours.pad({"input_ids": np.array([2, 5, 3])}, **options)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value.numpy(), strict=True)


# -- vocabulary ------------------------------------------------------------------------------------

SPECIAL = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"]


def assert_same_vocabulary(ours: BertTokenizer, theirs: Any) -> None:
    assert ours.get_vocab() == ours.vocab == theirs.get_vocab()
    assert (len(ours), ours.vocab_size) == (len(theirs), theirs.vocab_size)
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.all_special_tokens == theirs.all_special_tokens
    assert ours.all_special_ids == theirs.all_special_ids
    assert ours.additional_special_tokens == theirs.additional_special_tokens
    assert ours.additional_special_tokens_ids == theirs.additional_special_tokens_ids
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert ours.added_tokens_decoder == theirs.added_tokens_decoder
    for name in SPECIAL:
        for attribute in (f"{name}_token", f"{name}_token_id"):
            assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    for name in ("padding_side", "truncation_side", "model_max_length", "model_input_names"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("is_fast", "pad_token_type_id", "split_special_tokens"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("max_len_single_sentence", "max_len_sentences_pair"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_attributes_are_the_oracles(pair: Any) -> None:
    assert_same_vocabulary(*pair)


NEW = ["cat", "kitty", "<n>", "Kitty", "漢字", "[CLS]", "##s", "a b", "[SEP]", "ß", ""]
new_tokens = st.one_of(
    st.sampled_from(NEW),
    st.builds(
        lambda text, **how: AddedToken(text, **how),
        st.sampled_from(NEW),
        lstrip=st.booleans(),
        rstrip=st.booleans(),
        single_word=st.booleans(),
        normalized=st.booleans(),
        special=st.booleans(),
    ),
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_added_tokens_are_the_oracles(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ours, theirs = read(
        write(tmp_path_factory.mktemp("added"), data.draw(st.sampled_from(CONFIGS)))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            tokens: Any = data.draw(st.lists(new_tokens, max_size=3))
            special = data.draw(st.booleans())
            found = ours.add_tokens(tokens, special_tokens=special)
            assert found == theirs.add_tokens(tokens, special_tokens=special)
        else:
            names = st.sampled_from([f"{name}_token" for name in SPECIAL])
            named = data.draw(st.dictionaries(names, new_tokens.filter(str), max_size=2))
            if data.draw(st.booleans()):
                named["additional_special_tokens"] = data.draw(
                    st.lists(
                        new_tokens.filter(str), max_size=3, unique_by=str
                    )  # the oracle keeps doubles
                )
            replace = data.draw(st.booleans())
            found = ours.add_special_tokens(named, replace)
            assert found == theirs.add_special_tokens(named, replace)
        assert_same_vocabulary(ours, theirs)
    text = data.draw(st.lists(st.one_of(pieces, st.sampled_from(NEW)), max_size=9).map(" ".join))
    options = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    assert dict(ours(text, **options)) == dict(theirs(text, **options))
    assert ours.tokenize(text) == theirs.tokenize(text)
    ids = ours.encode(text)
    for skip in (True, False):
        assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
            ids, skip_special_tokens=skip
        )


def test_settings_may_be_changed_as_in_the_oracle(fresh: Any) -> None:
    ours, theirs = fresh
    for name, value in (
        ("padding_side", "left"),
        ("truncation_side", "left"),
        ("model_max_length", 7),
        ("model_input_names", ["input_ids", "token_type_ids"]),
        ("clean_up_tokenization_spaces", False),
        ("split_special_tokens", True),
        ("pad_token", "dog"),
        ("cls_token_id", 6),
        ("bos_token", "a"),
        ("additional_special_tokens", ["cat"]),
    ):
        for tokenizer in fresh:
            setattr(tokenizer, name, value)
        batch = ["a cat is [SEP] the dog . a cat", "a cat"]
        for options in ({"padding": True}, {"truncation": True, "padding": True}):
            assert dict(ours(batch, **options)) == dict(theirs(batch, **options)), name
        assert ours.decode([6, 12, 12]) == theirs.decode([6, 12, 12])
        assert_same_vocabulary(ours, theirs)


@settings(max_examples=60, deadline=None)
@given(
    first=st.lists(st.integers(0, len(VOCAB) - 1), max_size=6),
    second=st.none() | st.lists(st.integers(0, len(VOCAB) - 1), max_size=6),
)
def test_special_tokens_are_put_around_ids_as_in_the_oracle(
    pair: Any, first: list[int], second: list[int] | None
) -> None:
    ours, theirs = pair
    for name in ("build_inputs_with_special_tokens", "create_token_type_ids_from_sequences"):
        wanted = getattr(theirs, name)(first, second)
        assert getattr(ours, name)(first, second) == wanted
        assert getattr(ours, name)(np.array(first, np.int32), second) == wanted
    found = ours.get_special_tokens_mask(first, already_has_special_tokens=True)
    assert found == theirs.get_special_tokens_mask(first, already_has_special_tokens=True)
    with pytest.raises(AssertionError):
        theirs.get_special_tokens_mask(first)
    for with_pair in (True, False):
        found_number = ours.num_special_tokens_to_add(with_pair)
        assert found_number == theirs.num_special_tokens_to_add(with_pair)


def test_sides_stride_and_length_stored_in_tokenizer_json_are_read_as_in_the_oracle(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "stored", {})
    stored = transformers.BertTokenizerFast.from_pretrained(folder)
    stored.truncation_side = "left"
    options = {"truncation": True, "max_length": 5, "stride": 1, "padding": "max_length"}
    stored("a", padding_side="left", **options)
    stored.save_pretrained(folder)
    ours, theirs = read(folder)
    assert (ours.padding_side, ours.truncation_side) == ("left", "left")
    assert_same_vocabulary(ours, theirs)
    texts = ["a cat is the dog . a cat", "a"]
    call = {"text": texts, "padding": True, "truncation": True, "return_overflowing_tokens": True}
    assert dict(ours(**call, max_length=5)) == dict(theirs(**call, max_length=5))
    processors = (
        GitProcessor(CLIPImageProcessor(), ours),
        transformers.GitProcessor(transformers.CLIPImageProcessor(), theirs),
    )
    found, wanted = (dict(processor(**call)) for processor in processors)
    assert found == wanted


# -- images ----------------------------------------------------------------------------------------

layouts = st.sampled_from(["channels_first", "channels_last"])
KINDS = {"CLIPImageProcessor": CLIPImageProcessor, "VideoMAEImageProcessor": VideoMAEImageProcessor}


def pixels_of(processor: Any, images: Any, **options: Any) -> np.ndarray[Any, Any]:
    return np.asarray(processor(images, return_tensors="np", **options)["pixel_values"])


@settings(max_examples=100, deadline=None)
@given(image=arrays(), data_format=layouts, size=sizes, crop=squares)
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_stand_in_the_layout_asked_for(
    kind: str, image: np.ndarray[Any, Any], data_format: str, size: Any, crop: Any
) -> None:
    ours = KINDS[kind](size=size, crop_size=crop)
    theirs = getattr(transformers, kind)(size=size, crop_size=crop)
    picture = Image.fromarray(np.full((8, 9, 3), 70, np.uint8))
    for given_image in (image, picture):
        images: Any = given_image if kind == "CLIPImageProcessor" else [[given_image]]
        found = pixels_of(ours, images, data_format=data_format)
        wanted = pixels_of(theirs, images, data_format=data_format)
        np.testing.assert_array_equal(found, wanted.astype(np.float32), strict=True)


@st.composite
def channels(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """A picture with three channels or one, in either layout."""
    image = draw(arrays())
    if draw(st.booleans()):
        return image
    grey = image[:1] if image.shape[0] == 3 else image[:, :, :1]
    assume(1 not in grey.shape[:2] or grey.shape[2] != 1)
    return np.ascontiguousarray(grey)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_single_steps_are_the_oracles(kind: str, data: st.DataObject) -> None:
    ours, theirs = KINDS[kind](), getattr(transformers, kind)()
    image = data.draw(channels())
    count = image.shape[0] if image.shape[0] in (1, 3) else image.shape[2]
    options: dict[str, Any] = {"data_format": data.draw(st.none() | layouts)}
    if data.draw(st.booleans()):
        options["input_data_format"] = (
            "channels_first" if image.shape[0] in (1, 3) else "channels_last"
        )
    filters = st.sampled_from([{}, {"resample": 0}, {"resample": 3}, {"resample": 1}])
    statistics = data.draw(st.sampled_from([0.5, [0.1, 0.2, 0.3][:count]]))
    for name, arguments, more in (
        ("resize", (data.draw(sizes),), data.draw(filters)),
        ("center_crop", (data.draw(squares),), {}),
        ("rescale", (data.draw(st.sampled_from([1 / 255, 2, 0.3])),), {}),
        ("normalize", (statistics, statistics), {}),
    ):
        found = getattr(ours, name)(image, *arguments, **options, **more)
        wanted = getattr(theirs, name)(image, *arguments, **options, **more)
        np.testing.assert_array_equal(found, wanted, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_as_text_are_the_oracles(kind: str) -> None:
    options = {"size": 20, "crop_size": {"height": 18, "width": 16}, "image_mean": [0.1, 0.2, 0.3]}
    for given_options in ({}, options):
        ours, theirs = KINDS[kind](**given_options), getattr(transformers, kind)(**given_options)
        assert json.loads(ours.to_json_string()) == json.loads(theirs.to_json_string())
        wanted = {k: v for k, v in theirs.to_dict().items() if k != "_processor_class"}
        assert ours.to_dict() == wanted
        assert KINDS[kind].from_dict(wanted).to_dict() == ours.to_dict()


# -- both ------------------------------------------------------------------------------------------


def test_further_options_reach_their_part_as_in_the_oracles_processor(tmp_path: Path) -> None:
    tokenizers = read(write(tmp_path / "both", {}))
    size = {"size": 8, "crop_size": 6}
    ours = GitProcessor(CLIPImageProcessor(**size), tokenizers[0])
    theirs = transformers.GitProcessor(transformers.CLIPImageProcessor(**size), tokenizers[1])
    image = np.random.default_rng(5).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    call: dict[str, Any] = {
        "images": image,
        "text": ["a cat is the dog", "a"],
        "text_pair": ["the dog is a cat .", "is"],
        "text_target": ["a cat", "dog"],
        "padding": True,
        "truncation": "only_second",
        "max_length": 11,
        "stride": 1,
        "return_overflowing_tokens": True,
        "return_special_tokens_mask": True,
        "return_offsets_mapping": True,
        "return_length": True,
        "return_token_type_ids": True,
        "verbose": False,
        "data_format": "channels_last",
        "audio": None,
        "videos": None,
        "return_tensors": "np",
    }
    found, wanted = ours(**call), theirs(**call)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, strict=True)
