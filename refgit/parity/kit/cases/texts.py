"""The kit's cases of texts: words to ids with the kit's own vocabulary, and ids to words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from refgit.parity.kit.case import TextCase
from refgit.parity.kit.vocabulary import CLS, PAD, SEP, UNK, VOCABULARY
from refgit.processing import BertTokenizer

# name: (what it shows, texts, options of the call)
TEXTS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "words": (
        "Words and pieces: the longest piece first, ## inside a word; capitals become small.",
        ["a red cat sits under the tree", "Two DOGS running", "twoty birds 120", "the playing dog"],
        {},
    ),
    "punctuation": (
        "Every punctuation mark is a word of its own.",
        ["what is on the tree?", "don't! a cat, a dog.", "red-blue 'cat'", "...", "a&b"],
        {},
    ),
    "accents": (
        "Accents are stripped, whether a letter with accent is one character or two; what has "
        "none (sharp s) is kept.",
        ["Café", "cafe\u0301", "CAFÉ ßß", "é"],
        {},
    ),
    "chinese": (
        "Each Chinese character is a word of its own; unknown ones become [UNK].",
        ["漢字", "a漢cat字b", "猫 狗"],
        {},
    ),
    "emoji": (
        "An emoji in the vocabulary, one that is not, one stuck to a word.",
        ["🙂", "a 🙂 🐟", "cat🙂"],
        {},
    ),
    "unknown": (
        "A word of which one piece is missing becomes [UNK] as a whole; so does one of more than "
        "100 characters.",
        ["zebra cat", "catz", "b" * 100, "b" * 101],
        {},
    ),
    "spaces": (
        "Any white space parts words; control characters and the replacement character are "
        "dropped; a text may be empty.",
        ["", "  \t\n ", "a\u00a0cat\tdog\r\nbird", "c\x00a\ufffdt do\u200bg", "a\u3000cat"],
        {},
    ),
    "special": (
        "Special tokens in a text are found as they stand, capitals and all.",
        ["[MASK] cat", "a[SEP]cat", "[mask] [Pad]", "the[CLS]"],
        {},
    ),
    "no-special": (
        "Without [CLS] and [SEP], as in front of an answer.",
        ["what colour is the cat?", ""],
        {"add_special_tokens": False},
    ),
    "padded": (
        "Filled up with [PAD] behind, to the longest; attention_mask is 0 there.",
        ["a cat", "what colour is the big dog?", "cat"],
        {"padding": True},
    ),
    "padded-in-front": (
        "Filled up in front.",
        ["a cat", "what colour is the big dog?", "cat"],
        {"padding": True, "padding_side": "left"},
    ),
    "truncated": (
        "Cut to 6 tokens, [CLS] and [SEP] included, and filled up to 6.",
        ["a cat", "what colour is the big dog?", "a red bird"],
        {"padding": "max_length", "truncation": True, "max_length": 6},
    ),
}


def text_cases() -> Iterator[TextCase]:
    """Texts to ids, then ids to texts."""
    tokenizer = BertTokenizer.from_vocab(VOCABULARY)
    for name, (what, texts, options) in TEXTS.items():
        encoded = tokenizer(texts, **options)
        yield TextCase(
            f"tokenize-{name}",
            "tokenize",
            "tokenize",
            what,
            {"texts": texts},
            {key: [list(map(int, row)) for row in encoded[key]] for key in encoded},
            {"add_special_tokens": True, "padding": False, "truncation": False, **options},
        )
    ids = {word: i for i, word in enumerate(VOCABULARY)}
    sentences = ["a cat ##s . .", "don ' t run ##ing !", "what is two ##ty ?", "🙂 漢 字 , b"]
    rows = [
        *([CLS, *(ids[word] for word in sentence.split()), SEP, PAD] for sentence in sentences),
        [CLS, UNK, ids["##s"], ids["cat"], SEP],
        [CLS, SEP],
        [],
    ]
    for skip, clean in ((True, True), (False, False)):
        yield TextCase(
            f"detokenize-{'clean' if clean else 'raw'}",
            "tokenize",
            "detokenize",
            "Ids to text: words are joined by spaces, a piece with ## goes to the word before it, "
            "and no space stands in front of the tokens . ? ! ,; special tokens are "
            + ("left out" if skip else "kept")
            + (
                ". Then the text is cleaned: spaces around a lone ' and in front of 'm 's 've "
                "'re n't go."
                if clean
                else "."
            ),
            {"ids": rows},
            {"texts": tokenizer.batch_decode(rows, skip, clean)},
            {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean},
        )
