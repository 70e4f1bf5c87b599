"""The tokenizer's vocabulary: special tokens, added tokens, and settings that may be changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken

from refgit.processing import BertTokenizer, CLIPImageProcessor, VideoMAEImageProcessor

DATA = Path(__file__).parents[2] / "golden" / "data"
VOCAB: list[str] = json.loads((DATA / "processing.json").read_text(encoding="utf-8"))["vocab"]


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return BertTokenizer.from_vocab(VOCAB)


def test_special_tokens_are_known_by_name_text_and_id(tokenizer: BertTokenizer) -> None:
    named = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
    for name, text in named.items():
        assert getattr(tokenizer, f"{name}_token") == text
        assert getattr(tokenizer, f"{name}_token_id") == VOCAB.index(text)
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == (None, None)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == (None, None)
    assert set(tokenizer.all_special_tokens) == set(named.values())
    assert tokenizer.all_special_ids == [VOCAB.index(t) for t in tokenizer.all_special_tokens]
    assert tokenizer.additional_special_tokens == []
    assert tokenizer.pad_token_type_id == 0
    assert tokenizer.is_fast


def test_another_token_may_be_named(tokenizer: BertTokenizer) -> None:
    tokenizer.bos_token = "cat"
    tokenizer.pad_token_id = VOCAB.index("dog")
    tokenizer.additional_special_tokens = ["the", AddedToken("is")]
    assert tokenizer.bos_token_id == VOCAB.index("cat")
    assert tokenizer.pad_token == "dog"
    assert tokenizer.additional_special_tokens_ids == [VOCAB.index("the"), VOCAB.index("is")]
    assert tokenizer("a", padding="max_length", max_length=4).input_ids[-1] == VOCAB.index("dog")
    assert tokenizer.convert_ids_to_tokens([8, 6], skip_special_tokens=True) == []
    tokenizer.bos_token_id = None
    assert tokenizer.bos_token is None
    with pytest.raises(ValueError, match="cls_token_id is 9999, which is not the id of a token"):
        tokenizer.cls_token_id = 9999
    with pytest.raises(TypeError, match="cls_token is of type int"):
        tokenizer.cls_token = 3  # type: ignore[assignment]


def test_added_tokens_are_found_as_a_whole_and_survive_their_files(
    tokenizer: BertTokenizer, tmp_path: Path
) -> None:
    size = len(tokenizer)
    assert tokenizer.add_tokens(["kitty", AddedToken("<n>"), "kitty"]) == 2
    assert tokenizer.add_tokens("<s>", special_tokens=True) == 1
    assert tokenizer.add_tokens([]) == 0
    assert (len(tokenizer), tokenizer.vocab_size) == (size + 3, size)
    assert tokenizer.get_vocab() == tokenizer.vocab
    added = {"kitty": size, "<n>": size + 1, "<s>": size + 2}
    assert added.items() <= tokenizer.get_added_vocab().items()
    assert tokenizer.added_tokens_decoder[size].content == "kitty"
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, BertTokenizer.from_pretrained(tmp_path)):
        assert each.tokenize("a kitty<n><s>") == ["a", "kitty", "<n>", "<s>"]
        ids = each.encode("a kitty <s>")
        assert each.decode(ids, skip_special_tokens=True) == "a kitty"


def test_special_tokens_may_be_added_under_their_names(tokenizer: BertTokenizer) -> None:
    added = tokenizer.add_special_tokens(
        {"eos_token": "<e>", "additional_special_tokens": ["<x>", "<y>"]}
    )
    assert added == 3
    assert tokenizer.eos_token_id == len(VOCAB)
    assert tokenizer.additional_special_tokens == ["<x>", "<y>"]
    more: dict[str, Any] = {"additional_special_tokens": ["<y>", "<z>"]}
    assert tokenizer.add_special_tokens(more, replace_additional_special_tokens=False) == 1
    assert tokenizer.additional_special_tokens == ["<x>", "<y>", "<z>"]
    assert tokenizer.add_special_tokens(more) == 0
    assert tokenizer.additional_special_tokens == ["<y>", "<z>"]
    assert tokenizer.tokenize("a <x>") == ["a", "<x>"]  # it stays in the vocabulary
    assert tokenizer.add_special_tokens({}) == 0


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"head_token": "x"}, ValueError, "head_token: not the name of a special token"),
        ({"cls_token": None}, TypeError, "cls_token is of type NoneType"),
        ({"additional_special_tokens": "x"}, TypeError, "is of type str; expected a list"),
        ({"additional_special_tokens": [3]}, TypeError, "is of type int"),
    ],
)
def test_what_is_no_special_token_is_refused_in_a_sentence(
    tokenizer: BertTokenizer, given: dict[str, Any], error: Any, words: str
) -> None:
    before = tokenizer.get_vocab()
    with pytest.raises(error, match=words):
        tokenizer.add_special_tokens(given)
    assert tokenizer.get_vocab() == before
    with pytest.raises(TypeError, match=r"new_tokens\[1\] is of type int"):
        tokenizer.add_tokens(["x", 3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.add_tokens("\ud800")
    assert tokenizer.get_vocab() == before


def test_settings_may_be_changed(tokenizer: BertTokenizer) -> None:
    tokenizer.padding_side = "left"
    assert tokenizer(["a", "a cat"], padding=True).input_ids[0] == [0, *tokenizer.encode("a")]
    tokenizer.truncation_side = "left"
    cat = VOCAB.index("cat")
    assert tokenizer.encode("a cat", truncation=True, max_length=3) == [2, cat, 3]
    tokenizer.model_max_length = 4
    assert (tokenizer.max_len_single_sentence, tokenizer.max_len_sentences_pair) == (2, 1)
    assert len(tokenizer.encode("a a a a", truncation=True)) == 4
    tokenizer.model_input_names = ["input_ids"]
    assert list(tokenizer("a")) == ["input_ids"]
    tokenizer.split_special_tokens = True
    assert "[SEP]" not in tokenizer.tokenize("a [SEP]")
    quoted = tokenizer.convert_tokens_to_ids(["a", "'", "cat"])
    assert tokenizer.decode(quoted) == "a'cat"
    tokenizer.clean_up_tokenization_spaces = False
    assert tokenizer.decode(quoted) == "a ' cat"
    for side in ("padding_side", "truncation_side"):
        with pytest.raises(ValueError, match=f"{side} is 'up'"):
            setattr(tokenizer, side, "up")


def test_tokens_join_to_a_text(tokenizer: BertTokenizer) -> None:
    assert tokenizer.convert_tokens_to_string(["the", "cat", "##s"]) == "the cats"
    assert tokenizer.convert_tokens_to_string([]) == ""


def test_special_tokens_are_counted_and_put_around_ids(tokenizer: BertTokenizer) -> None:
    assert tokenizer.num_special_tokens_to_add() == 2
    assert tokenizer.num_special_tokens_to_add(pair=True) == 3
    assert tokenizer.build_inputs_with_special_tokens(np.array([5, 6])) == [2, 5, 6, 3]
    assert tokenizer.create_token_type_ids_from_sequences([5], [6]) == [0, 0, 0, 1, 1]
    mask = tokenizer.get_special_tokens_mask([2, 5, 3], already_has_special_tokens=True)
    assert mask == [1, 0, 1]
    for wrong in ({}, {"token_ids_1": [5], "already_has_special_tokens": True}):
        with pytest.raises(ValueError, match="return_special_tokens_mask=True"):
            tokenizer.get_special_tokens_mask([5], **wrong)


@pytest.mark.parametrize("part", [BertTokenizer, CLIPImageProcessor, VideoMAEImageProcessor])
def test_a_part_is_downloaded_by_name_without_weights(
    part: Any, tokenizer: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is a stand-in here; tests/checkpoint/test_hub.py has the real one."""
    original = tokenizer if part is BertTokenizer else part(size=9)
    original.save_pretrained(tmp_path)
    asked: list[Any] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(tmp_path)

    client = SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    found = part.from_pretrained("someone/git", revision="v1", token="secret")
    if part is BertTokenizer:
        assert found.get_vocab() == original.get_vocab()
    else:
        assert found.to_dict() == original.to_dict()
    ((name, options),) = asked
    assert (name, options["revision"], options["token"]) == ("someone/git", "v1", "secret")
    assert not [pattern for pattern in options["allow_patterns"] if "safetensors" in pattern]
