"""Vocabulary, texts, image sizes and settings that tests of the processor draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a cat ##s the dog is . , ? ! ' - n t s m ve re don ##n e é"


VOCAB = [
    *WORDS.split(),
    "##e",
    "ä",
    "漢",
    "字",
    "日",
    "🙂",
    "##b",
    "b",
    "##a",
    "2",
    "##0",
    "İ",
    "ß",
]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """A colour array (H, W, 3) or (3, H, W) whose layout is not ambiguous, of any dtype."""
    sides = st.integers(1, 40).filter(lambda n: n not in (1, 3))
    height, width = draw(sides), draw(st.integers(1, 40))
    shape = (height, width, 3)
    if draw(st.booleans()):
        shape = (3, width, height)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(["u1", "i2", "i8", "f2", "f4", "f8", "?"]))
    if dtype == "?":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("f") and draw(st.booleans()):
        return rng.random(shape).astype(dtype)
    whole = rng.integers(0, 256, shape).astype(dtype)
    if dtype in ("f4", "f8") and draw(st.booleans()):
        return whole * (1 + 4e-6 * rng.random(shape).astype(dtype)) * (whole < 255)
    return whole


sizes = st.one_of(
    st.builds(lambda n: {"shortest_edge": n}, st.integers(1, 40)),
    st.builds(lambda h, w: {"height": h, "width": w}, st.integers(1, 40), st.integers(1, 40)),
)


squares = st.builds(lambda h, w: {"height": h, "width": w}, st.integers(1, 45), st.integers(1, 45))


CONFIGS = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
    {"bos_token": "<s>", "additional_special_tokens": ["<x>", "dog"], "mask_token": "<m>"},
    {"padding_side": "left", "truncation_side": "left", "model_max_length": 9},
    {"split_special_tokens": True},
]


ODDITIES = ["cats", "CATS", "Élan", "don't", " ", "\t", "\n", "\u00a0", "<s>", "<x>", "<m>", "i'm"]


pieces = st.sampled_from([*VOCAB, *ODDITIES])


texts = st.one_of(
    st.text(max_size=40),
    st.lists(pieces, max_size=12).map("".join),
    st.lists(pieces, max_size=12).map(" ".join),
)
