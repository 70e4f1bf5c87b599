"""The tokenizer: golden ids and texts of the oracle, properties, files, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgit.errors import CheckpointError
from refgit.processing import BertTokenizer

DATA = Path(__file__).parents[2] / "golden" / "data"
CASES = json.loads((DATA / "processing.json").read_text(encoding="utf-8"))
VOCAB: list[str] = CASES["vocab"]
TEXTS: list[str] = CASES["texts"]
TOKENIZER = BertTokenizer.from_vocab(VOCAB)
WORDS = ["a", "cat", "the", "dog", "is", "cats"]


def write_vocab(folder: Path, config: dict[str, Any] | None = None) -> Path:
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


# -- golden ----------------------------------------------------------------------------------------


@pytest.fixture(params=CASES["tokenizers"], ids=lambda case: case["name"])
def case(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def tokenizer(case: Any, tmp_path: Path) -> BertTokenizer:
    """The case's tokenizer, from vocab.txt or from the files the oracle wrote."""
    if case["files"] is None:
        return BertTokenizer.from_pretrained(write_vocab(tmp_path, case["config"]))
    for name, content in case["files"].items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "vocab.txt").unlink()
    read = BertTokenizer.from_pretrained(tmp_path)
    # The files hold the side of the last call that was recorded; the first ones padded right.
    assert read.padding_side == "left"
    read.padding_side = "right"
    return read


def test_texts_give_the_oracles_ids(case: Any, tokenizer: BertTokenizer) -> None:
    for call in case["calls"]:
        assert tokenizer(TEXTS, **call["options"]) == call["output"], call["options"]


def test_ids_give_the_oracles_texts(case: Any, tokenizer: BertTokenizer) -> None:
    for decoded in case["decoded"]:
        texts = decoded.pop("texts")
        assert tokenizer.batch_decode(case["ids"], **decoded) == texts, decoded


def test_vocabulary_is_the_oracles(case: Any, tokenizer: BertTokenizer) -> None:
    assert tokenizer.get_vocab() == case["vocabulary"]
    assert len(tokenizer) == len(case["vocabulary"])


def test_saved_tokenizer_reads_back_the_same(
    case: Any, tokenizer: BertTokenizer, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path / "new")
    again = BertTokenizer.from_pretrained(tmp_path / "new")
    assert again(TEXTS) == tokenizer(TEXTS)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.decode([6, 12, 7, 11]) == tokenizer.decode([6, 12, 7, 11])
    files = {path.name for path in (tmp_path / "new").iterdir()}
    assert files == {
        "tokenizer.json",
        "vocab.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
    }


# -- properties ------------------------------------------------------------------------------------

sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


@given(sentences)
def test_known_words_survive_encoding_and_decoding(sentence: str) -> None:
    ids = TOKENIZER.encode(sentence)
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == sentence
    assert TOKENIZER.decode(ids) == f"[CLS] {sentence} [SEP]"


@given(st.text())
def test_every_id_is_in_the_vocabulary_and_special_tokens_stand_outside(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert (ids[0], ids[-1]) == (TOKENIZER.cls_token_id, TOKENIZER.sep_token_id)
    assert all(0 <= index < len(TOKENIZER) for index in ids)
    assert ids[1:-1] == TOKENIZER.encode(text, add_special_tokens=False)


@given(st.lists(sentences, min_size=1, max_size=4), st.sampled_from(["left", "right"]))
def test_padding_goes_to_its_side_and_is_masked(batch: list[str], side: str) -> None:
    padded = TOKENIZER(batch, padding=True, padding_side=side, return_tensors="np")
    assert padded.input_ids.dtype == padded.attention_mask.dtype == np.int64
    assert padded.input_ids.shape == padded.attention_mask.shape
    for text, ids, mask in zip(batch, padded.input_ids, padded.attention_mask, strict=True):
        alone = TOKENIZER.encode(text)
        assert ids[mask == 1].tolist() == alone
        assert set(ids[mask == 0].tolist()) <= {TOKENIZER.pad_token_id}
        kept = mask[::-1] if side == "left" else mask
        assert kept.tolist() == [1] * len(alone) + [0] * (len(mask) - len(alone))


@given(sentences, st.integers(2, 12))
def test_truncation_keeps_the_special_tokens_and_the_beginning(sentence: str, length: int) -> None:
    whole = TOKENIZER.encode(sentence)
    cut = TOKENIZER.encode(sentence, truncation=True, max_length=length)
    assert len(cut) == min(length, len(whole))
    assert cut == [*whole[:-1][: length - 1], TOKENIZER.sep_token_id]
    assert TOKENIZER.encode(sentence, max_length=length) == cut


@given(sentences, st.integers(2, 12))
def test_padding_to_max_length_rounds_up_to_the_multiple(sentence: str, multiple: int) -> None:
    options: dict[str, Any] = {"padding": "max_length", "max_length": 20, "truncation": True}
    ids = TOKENIZER(sentence, **options, pad_to_multiple_of=multiple).input_ids
    assert len(ids) % multiple == 0
    assert 20 <= len(ids) < 20 + multiple


@given(sentences)
def test_words_given_one_by_one_give_the_ids_of_the_sentence(sentence: str) -> None:
    split = TOKENIZER(sentence.split(), is_split_into_words=True)
    assert split == TOKENIZER(sentence)


# -- details ---------------------------------------------------------------------------------------


def test_token_types_come_only_when_asked_for() -> None:
    assert list(TOKENIZER("a cat")) == ["input_ids", "attention_mask"]
    assert TOKENIZER("a cat", return_token_type_ids=True).token_type_ids == [0, 0, 0, 0]
    assert list(TOKENIZER("a cat", return_attention_mask=False)) == ["input_ids"]
    named = BertTokenizer.from_vocab(VOCAB, {"model_input_names": ["input_ids", "token_type_ids"]})
    assert list(named("a cat")) == ["input_ids", "token_type_ids"]


def test_empty_text_without_special_tokens_is_an_empty_integer_array() -> None:
    ids = TOKENIZER("", add_special_tokens=False, return_tensors="np").input_ids
    assert (ids.shape, ids.dtype) == ((1, 0), np.int64)


def test_special_tokens_have_ids_and_begin_and_end_of_sequence_do_not() -> None:
    assert TOKENIZER.cls_token_id == VOCAB.index("[CLS]")
    assert TOKENIZER.sep_token_id == VOCAB.index("[SEP]")
    assert TOKENIZER.pad_token_id == VOCAB.index("[PAD]")
    assert TOKENIZER.unk_token_id == VOCAB.index("[UNK]")
    assert TOKENIZER.mask_token_id == VOCAB.index("[MASK]")
    assert (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (None, None)
    assert len(TOKENIZER) == TOKENIZER.vocab_size == len(VOCAB)


def test_special_token_outside_the_vocabulary_gets_the_next_id() -> None:
    tokenizer = BertTokenizer.from_vocab(VOCAB, {"bos_token": "<s>", "mask_token": "<m>"})
    assert (tokenizer.bos_token_id, tokenizer.mask_token_id) == (len(VOCAB), len(VOCAB) + 1)
    assert tokenizer.vocab_size == len(VOCAB)
    assert tokenizer.tokenize("a<m>cat") == ["a", "<m>", "cat"]


def test_tokens_and_ids_convert_to_each_other() -> None:
    assert TOKENIZER.convert_tokens_to_ids("cat") == 6
    assert TOKENIZER.convert_tokens_to_ids(["cat", "zebra"]) == [6, TOKENIZER.unk_token_id]
    assert TOKENIZER.convert_ids_to_tokens(6) == "cat"
    assert TOKENIZER.convert_ids_to_tokens([2, 6, 999]) == ["[CLS]", "cat", None]
    assert TOKENIZER.convert_ids_to_tokens([2, 6], skip_special_tokens=True) == ["cat"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
def test_ids_may_be_arrays_lists_or_lists_of_arrays(dtype: Any) -> None:
    class Wrapped:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return ids

    ids = np.array([[2, 5, 6, 3], [2, 8, 9, 3]], dtype)
    expected = ["a cat", "the dog"]
    for sequences in (ids, ids.tolist(), list(ids), [list(row) for row in ids], Wrapped()):
        assert TOKENIZER.batch_decode(sequences, skip_special_tokens=True) == expected
    assert TOKENIZER.batch_decode(ids[0]) == ["[CLS]", "a", "cat", "[SEP]"]
    assert TOKENIZER.decode(dtype(6)) == TOKENIZER.decode(6) == "cat"
    assert TOKENIZER.decode(np.array([])) == TOKENIZER.decode([]) == ""


def test_spaces_before_punctuation_are_cleaned_up_unless_told_otherwise() -> None:
    marked = BertTokenizer.from_vocab([*VOCAB, "'s"])
    ids = marked.convert_tokens_to_ids(["a", "cat", "'s", "dog", "."])
    assert marked.decode(ids) == "a cat's dog."
    assert marked.decode(ids, clean_up_tokenization_spaces=True) == "a cat's dog."
    quoted = TOKENIZER.convert_tokens_to_ids(["a", "'", "cat"])
    cleaned = TOKENIZER.decode(quoted, clean_up_tokenization_spaces=True)
    kept = TOKENIZER.decode(quoted, clean_up_tokenization_spaces=False)
    assert (cleaned, kept) == ("a'cat", "a ' cat")


def test_limit_of_the_model_is_the_default_length() -> None:
    tokenizer = BertTokenizer.from_vocab(VOCAB, {"model_max_length": 6})
    assert len(tokenizer.encode("a", padding="max_length")) == 6
    assert len(tokenizer.encode("a " * 9, truncation=True)) == 6
    assert len(TOKENIZER.encode("a " * 9, truncation=True, padding="max_length")) == 11


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "error", "words"),
    [
        ([], {}, ValueError, "text is an empty list"),
        (None, {}, ValueError, "Neither text nor text_target"),
        (3, {}, TypeError, "text is of type int"),
        (["a", 3], {}, TypeError, r"text\[1\] is of type int"),
        ([["a"]], {}, TypeError, r"text\[0\] is of type list"),
        ("a cat", {"is_split_into_words": True}, TypeError, "takes a list of words"),
        ([["a"], "b"], {"is_split_into_words": True}, TypeError, r"text\[1\] is of type str"),
        ([["a"], [3]], {"is_split_into_words": True}, TypeError, r"text\[1\]\[0\]"),
        ("a \ud800", {}, ValueError, "lone surrogate at position 2"),
        (["a", "a cat"], {"return_tensors": "np"}, ValueError, r"\[3, 4\].*padding=True"),
        ("a", {"return_tensors": "pt"}, ValueError, 'accepts "np"'),
        ("a", {"padding": "widest"}, ValueError, "padding is 'widest'"),
        ("a", {"padding": True, "padding_side": "up"}, ValueError, "padding_side is 'up'"),
        ("a", {"truncation": "last"}, ValueError, "truncation is 'last'"),
        ("a", {"truncation": True, "max_length": 1}, ValueError, "room for the 2 special tokens"),
        ("a", {"max_length": 0}, ValueError, "max_length is 0"),
        ("a", {"padding": True, "pad_to_multiple_of": 0}, ValueError, "pad_to_multiple_of is 0"),
    ],
)
def test_calls_without_meaning_are_refused_in_a_sentence(
    text: Any, options: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        TOKENIZER(text, **options)


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ([-100], ValueError, "-100"),
        ([2**32], ValueError, "4294967296"),
        ([1.5], TypeError, "1.5"),
        (np.array([1.0]), TypeError, "1.0"),
        (np.zeros((2, 2), int), ValueError, "batch_decode"),
        ("cat", TypeError, "whole number"),
        (None, TypeError, "whole number"),
    ],
)
def test_what_is_no_token_id_is_refused_in_a_sentence(ids: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        TOKENIZER.decode(ids)


def test_batch_decode_refuses_a_single_number() -> None:
    with pytest.raises(TypeError, match="batch_decode takes an array"):
        TOKENIZER.batch_decode(7)


def test_encode_refuses_a_batch() -> None:
    with pytest.raises(TypeError, match="encode takes one text"):
        TOKENIZER.encode(["a", "cat"])  # type: ignore[arg-type]


# -- files -----------------------------------------------------------------------------------------


def test_added_tokens_of_older_checkpoints_are_read(tmp_path: Path) -> None:
    write_vocab(tmp_path)
    special = {"additional_special_tokens": [{"content": "<x>"}], "cls_token": "[CLS]"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    added = {"<x>": len(VOCAB), "kitty": len(VOCAB) + 1}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    ids = tokenizer.encode("kitty <x>", add_special_tokens=False)
    assert ids == [len(VOCAB) + 1, len(VOCAB)]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "kitty"


def test_line_separators_are_tokens_of_vocab_txt_like_others(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n\u2028x\nlast\n", encoding="utf-8")
    assert BertTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("last") == 4


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (None, "", "expected tokenizer.json or vocab.txt"),
        ("tokenizer.json", "{", "tokenizer.json is not valid JSON"),
        ("tokenizer.json", "{}", "tokenizer.json is not a tokenizer"),
        ("vocab.txt", "", "vocab.txt is empty"),
        ("vocab.txt", "[CLS]\n[SEP]\n", "no '\\[UNK\\]', the unk_token"),
        ("vocab.txt", b"\xff\xfe", "vocab.txt cannot be read as UTF-8"),
        ("tokenizer_config.json", "[" * 99999, "tokenizer_config.json is not valid JSON"),
        ("tokenizer_config.json", "[1]", "tokenizer_config.json holds a JSON list"),
        ("tokenizer_config.json", '{"padding_side": "up"}', "padding_side is 'up'"),
        ("tokenizer_config.json", '{"cls_token": 3}', "A special token is 3"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}', "added tokens cannot"),
    ],
)
def test_unusable_tokenizer_file_is_named(
    tmp_path: Path, name: str | None, content: str | bytes, words: str
) -> None:
    if name == "tokenizer_config.json":
        write_vocab(tmp_path)
    if name is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=words):
        BertTokenizer.from_pretrained(tmp_path)
