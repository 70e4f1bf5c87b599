"""Calls of the tokenizer beyond one text: pairs, pieces cut off, offsets, targets, padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgit.processing import BertTokenizer
from refgit.processing.text.truncation import kept_lengths

DATA = Path(__file__).parents[2] / "golden" / "data"
VOCAB: list[str] = json.loads((DATA / "processing.json").read_text(encoding="utf-8"))["vocab"]
TOKENIZER = BertTokenizer.from_vocab(VOCAB)
CLS, SEP, PAD = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.pad_token_id
WORDS = ["a", "cat", "the", "dog", "is"]

sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


def ids_of(text: str) -> list[int]:
    return [VOCAB.index(word) for word in text.split()]


# -- pairs -----------------------------------------------------------------------------------------


@given(sentences, sentences)
def test_a_pair_is_two_texts_each_with_its_end_and_its_type(first: str, second: str) -> None:
    found = TOKENIZER(first, second, return_token_type_ids=True)
    a, b = ids_of(first), ids_of(second)
    assert found.input_ids == [CLS, *a, SEP, *b, SEP]
    assert found.token_type_ids == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert found.input_ids == TOKENIZER.build_inputs_with_special_tokens(a, b)
    assert found.token_type_ids == TOKENIZER.create_token_type_ids_from_sequences(a, b)
    assert TOKENIZER.encode(first, second) == found.input_ids
    assert TOKENIZER.tokenize(first, second) == [*first.split(), *second.split()]


def test_pairs_may_be_given_in_two_lists_or_one_by_one() -> None:
    pairs = [("a cat", "the dog"), ("is", "a")]
    options: dict[str, Any] = {"padding": True, "return_tensors": "np"}
    wanted = TOKENIZER(["a cat", "is"], ["the dog", "a"], **options).input_ids
    assert wanted.shape == (2, 7)
    for found in (TOKENIZER(pairs, **options), TOKENIZER.batch_encode_plus(pairs, **options)):
        np.testing.assert_array_equal(found.input_ids, wanted)
    words = [(first.split(), second.split()) for first, second in pairs]
    found = TOKENIZER.batch_encode_plus(words, is_split_into_words=True, **options)
    np.testing.assert_array_equal(found.input_ids, wanted)
    mixed = TOKENIZER(["a cat", ("is", "a")])
    assert mixed.input_ids == [TOKENIZER.encode("a cat"), TOKENIZER.encode("is", "a")]


def test_an_empty_second_text_counts_only_in_a_batch() -> None:
    assert TOKENIZER("a cat", "").input_ids == TOKENIZER("a cat").input_ids
    assert TOKENIZER(["a cat"], [""]).input_ids == [[*TOKENIZER.encode("a cat"), SEP]]


lengths = st.integers(0, 12)


@given(lengths, lengths, lengths)
def test_the_longer_text_is_cut_first(first: int, second: int, room: int) -> None:
    """One token at a time from the longer, the second one of two equal ones kept longer."""
    kept = [first, second]
    while sum(kept) > room:
        kept[0 if kept[0] >= kept[1] and kept[0] > 0 else 1] -= 1
    found = kept_lengths(first, second, room, "longest_first")
    assert sum(found) == min(first + second, room)
    assert sorted(found) == sorted(kept)
    assert all(n <= limit for n, limit in zip(found, (first, second), strict=True))


@given(sentences, sentences, st.integers(4, 12), st.sampled_from(["left", "right"]))
def test_a_strategy_cuts_its_own_text_at_its_own_side(
    first: str, second: str, limit: int, side: str
) -> None:
    tokenizer = BertTokenizer.from_vocab(VOCAB, {"truncation_side": side})
    a, b = ids_of(first), ids_of(second)
    room = limit - 3

    def cut(ids: list[int], length: int) -> list[int]:
        return ids[:length] if side == "right" else ids[len(ids) - length :]

    if room > len(b):
        found = tokenizer.encode(first, second, truncation="only_first", max_length=limit)
        kept = cut(a, min(len(a), room - len(b)))
        assert found == [CLS, *kept, SEP, *b, SEP]
    if room > len(a):
        found = tokenizer.encode(first, second, truncation="only_second", max_length=limit)
        kept = cut(b, min(len(b), room - len(a)))
        assert found == [CLS, *a, SEP, *kept, SEP]


# -- what else a call returns ----------------------------------------------------------------------


@given(st.lists(sentences, min_size=1, max_size=3), st.integers(4, 7), st.integers(0, 1))
def test_the_pieces_cut_off_put_the_texts_together_again(
    batch: list[str], limit: int, stride: int
) -> None:
    found = TOKENIZER(
        batch,
        truncation=True,
        max_length=limit,
        stride=stride,
        return_overflowing_tokens=True,
        return_length=True,
    )
    assert found.length == [len(ids) for ids in found.input_ids]
    assert max(found.length) <= limit
    for index, text in enumerate(batch):
        pieces = [
            ids[1:-1]
            for ids, owner in zip(found.input_ids, found.overflow_to_sample_mapping, strict=True)
            if owner == index
        ]
        joined = pieces[0]
        for piece in pieces[1:]:
            assert piece[:stride] == joined[len(joined) - stride :]
            joined = joined + piece[stride:]
        assert joined == ids_of(text)


def test_a_single_text_with_its_pieces_is_a_batch() -> None:
    options: dict[str, Any] = {"truncation": True, "max_length": 4}
    found = TOKENIZER("a cat is the dog", return_overflowing_tokens=True, **options)
    assert len(found.input_ids) == 3
    assert found.overflow_to_sample_mapping == [0, 0, 0]
    arrays = TOKENIZER(
        "a cat is the dog",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_tensors="np",
        padding="max_length",
        **options,
    )
    assert arrays.input_ids.shape == (3, 4)
    assert arrays.offset_mapping.shape == (3, 4, 2)
    assert arrays.overflow_to_sample_mapping.tolist() == [0, 0, 0]


@given(sentences)
def test_offsets_are_where_tokens_stand_in_the_text(sentence: str) -> None:
    found = TOKENIZER(sentence, return_offsets_mapping=True, return_special_tokens_mask=True)
    spans = [sentence[start:end] for start, end in found.offset_mapping]
    assert spans == ["", *sentence.split(), ""]
    assert found.special_tokens_mask == [1] + [0] * len(sentence.split()) + [1]
    arrays = TOKENIZER("", return_offsets_mapping=True, return_tensors="np")
    assert arrays.offset_mapping.shape == (1, 2, 2)
    empty = TOKENIZER(
        "", add_special_tokens=False, return_offsets_mapping=True, return_tensors="np"
    )
    assert empty.offset_mapping.shape == (1, 0, 2)


def test_padding_is_special_and_stands_nowhere() -> None:
    found = TOKENIZER(
        ["a", "a cat is"],
        padding=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_length=True,
    )
    assert found.special_tokens_mask == [[1, 0, 1, 1, 1], [1, 0, 0, 0, 1]]
    assert found.offset_mapping[0] == [(0, 0), (0, 1), (0, 0), (0, 0), (0, 0)]
    assert found.length == [5, 5]


def test_entries_come_in_a_fixed_order_and_only_when_asked_for() -> None:
    found = TOKENIZER(
        "a cat",
        text_target="the dog",
        return_token_type_ids=True,
        return_overflowing_tokens=True,
        return_special_tokens_mask=True,
        return_offsets_mapping=True,
        return_length=True,
        verbose=False,
    )
    assert list(found) == [
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "special_tokens_mask",
        "offset_mapping",
        "length",
        "overflow_to_sample_mapping",
        "labels",
    ]
    assert list(TOKENIZER("a cat", verbose=True)) == ["input_ids", "attention_mask"]


def test_targets_become_labels_and_alone_are_the_text() -> None:
    found = TOKENIZER(["a", "a cat"], text_target=["the dog", "is"], padding=True)
    assert found.labels == TOKENIZER(["the dog", "is"], padding=True).input_ids
    assert found.input_ids == TOKENIZER(["a", "a cat"], padding=True).input_ids
    alone = TOKENIZER(text_target="the dog", text_pair_target="is")
    assert alone == TOKENIZER("the dog", "is")


def test_special_tokens_in_a_text_are_split_only_when_asked() -> None:
    assert TOKENIZER.tokenize("a [SEP]") == ["a", "[SEP]"]
    split = TOKENIZER.tokenize("a [SEP]", split_special_tokens=True)
    assert split[0] == "a"
    assert "[SEP]" not in split
    assert TOKENIZER("a [SEP]", split_special_tokens=True).input_ids != TOKENIZER.encode("a [SEP]")
    assert TOKENIZER.tokenize("a [SEP]") == ["a", "[SEP]"]  # the call alone was meant
    with pytest.raises(ValueError, match="max_length"):
        TOKENIZER("a", truncation=True, max_length=1, split_special_tokens=True)
    assert TOKENIZER.tokenize("a [SEP]") == ["a", "[SEP]"]


def test_tokens_are_cut_and_padded_as_ids_are() -> None:
    options: dict[str, Any] = {"truncation": True, "max_length": 4, "padding": "max_length"}
    assert TOKENIZER.tokenize("a", add_special_tokens=True, **options) == [
        "[CLS]",
        "a",
        "[SEP]",
        "[PAD]",
    ]
    assert TOKENIZER.tokenize("a cat is the dog", **options) == ["a", "cat", "is", "the"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"text": ["a"], "text_pair": "b"}, TypeError, "text_pair is of type str; expected a list"),
        ({"text": ["a"], "text_pair": ["b", "c"]}, ValueError, "text has 1 texts and text_pair 2"),
        ({"text": "a", "text_pair": ["b"]}, TypeError, "text_pair is of type list"),
        ({"text": ["a"], "text_pair": [3]}, TypeError, r"text_pair\[0\] is of type int"),
        ({"text": [("a", 3)]}, TypeError, r"text\[0\]\[1\] is of type int"),
        ({"text_target": 3}, TypeError, "text_target is of type int"),
        ({"text_target": "a", "text_pair_target": 3}, TypeError, "text_pair_target is of type int"),
        ({"text": "a", "stride": -1}, ValueError, "stride is -1"),
        (
            {"text": "a cat is", "truncation": True, "max_length": 4, "stride": 2},
            ValueError,
            "stride is 2, and a text is cut into pieces of 2 tokens",
        ),
        (
            {"text": "a cat", "truncation": "only_second", "max_length": 3},
            ValueError,
            "1 tokens must go from the second text, and there is none",
        ),
        (
            {"text": "a", "text_pair": "a cat is", "truncation": "only_first", "max_length": 6},
            ValueError,
            "1 tokens must go from the first text, and it has 1 tokens",
        ),
        (
            {"text": "a", "text_pair": "a", "truncation": True, "max_length": 2},
            ValueError,
            "no room for the 3 special tokens",
        ),
    ],
)
def test_calls_without_meaning_are_refused_in_a_sentence(
    call: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        TOKENIZER(**call)


def test_a_batch_and_a_single_text_are_not_taken_for_each_other() -> None:
    with pytest.raises(TypeError, match="encode takes one text, or a pair; found list"):
        TOKENIZER.encode_plus(["a", "cat"])
    with pytest.raises(TypeError, match="tokenize takes one text"):
        TOKENIZER.tokenize(["a", "cat", "is"])
    for batch in ("a cat", [], None):
        with pytest.raises(TypeError, match="expected a list of texts or of pairs"):
            TOKENIZER.batch_encode_plus(batch)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a list of texts or of pairs"):
        TOKENIZER.batch_encode_plus(["a", "cat"], is_split_into_words=True)


# -- padding afterwards ----------------------------------------------------------------------------


@given(st.lists(sentences, min_size=1, max_size=4), st.sampled_from(["left", "right"]))
def test_padding_afterwards_is_padding_in_the_call(batch: list[str], side: str) -> None:
    asked: dict[str, Any] = {"return_token_type_ids": True, "return_special_tokens_mask": True}
    wanted = TOKENIZER(batch, padding=True, padding_side=side, **asked)
    singles = [TOKENIZER(text, **asked) for text in batch]
    for features in (TOKENIZER(batch, **asked), singles):
        assert TOKENIZER.pad(features, padding_side=side) == wanted
    arrays = [{name: np.array(ids) for name, ids in single.items()} for single in singles]
    found = TOKENIZER.pad(arrays, padding_side=side)
    for name, rows in wanted.items():
        np.testing.assert_array_equal(found[name], np.array(rows, np.int64), strict=True)
    assert singles == [TOKENIZER(text, **asked) for text in batch]  # what was given is left alone


def test_padding_afterwards_of_one_text_keeps_its_form() -> None:
    one = TOKENIZER("a cat")
    ids = [*one.input_ids, PAD, PAD]
    assert TOKENIZER.pad(one, "max_length", 6).input_ids == ids
    assert TOKENIZER.pad(one).input_ids == one.input_ids
    assert TOKENIZER.pad(one, pad_to_multiple_of=3).input_ids == ids
    found = TOKENIZER.pad({"input_ids": np.array(one.input_ids)}, "max_length", max_length=6)
    assert found.input_ids.tolist() == ids
    assert found.attention_mask.tolist() == [1, 1, 1, 1, 0, 0]
    assert list(TOKENIZER.pad(one, return_attention_mask=False)) == ["input_ids", "attention_mask"]
    bare = {"input_ids": one.input_ids}
    assert list(TOKENIZER.pad(bare, return_attention_mask=False)) == ["input_ids"]
    assert TOKENIZER.pad(bare, return_tensors="np").input_ids.shape == (4,)


def test_entries_that_are_none_of_the_tokenizers_are_kept_when_padding() -> None:
    features = [{"input_ids": [2, 5, 3], "label": 1}, {"input_ids": [2, 3], "label": 0}]
    found = TOKENIZER.pad(features, return_tensors="np")
    assert found.label.tolist() == [1, 0]
    assert found.input_ids.tolist() == [[2, 5, 3], [2, 3, PAD]]
    assert TOKENIZER.pad({"input_ids": []}) == {"input_ids": [], "attention_mask": []}


@pytest.mark.parametrize(
    ("features", "options", "error", "words"),
    [
        ({"ids": [1]}, {}, ValueError, "have ids; expected input_ids among them"),
        ([], {}, TypeError, "found list"),
        ("a cat", {}, TypeError, "found str"),
        ([{"input_ids": [2]}, {"ids": [2]}], {}, ValueError, "Feature 1 lacks input_ids"),
        ({"input_ids": [[2]], "x": []}, {}, ValueError, "x is of 0 texts and input_ids of 1"),
        ({"input_ids": [[2], [2, 3]]}, {"padding": False, "return_tensors": "np"}, ValueError,
         "input_ids has different lengths.*padding=True"),
        ({"input_ids": [[2], [2, 3]], "labels": [[1], [1, 2]]}, {"return_tensors": "np"},
         ValueError, "labels has different lengths"),
        ({"input_ids": [2]}, {"padding": "widest"}, ValueError, "padding is 'widest'"),
        ({"input_ids": [2]}, {"padding_side": "up"}, ValueError, "padding_side is 'up'"),
        ({"input_ids": [2]}, {"return_tensors": "pt"}, ValueError, "'pt'"),
    ],
)  # fmt: skip
def test_features_that_cannot_be_padded_are_refused_in_a_sentence(
    features: Any, options: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        TOKENIZER.pad(features, **options)


def test_padding_without_a_padding_token_is_refused() -> None:
    tokenizer = BertTokenizer.from_vocab(VOCAB)
    tokenizer.pad_token = None
    for pad in (lambda: tokenizer("a", padding=True), lambda: tokenizer.pad({"input_ids": [2]})):
        with pytest.raises(ValueError, match="no padding token"):
            pad()
    assert tokenizer.encode("a") == TOKENIZER.encode("a")
