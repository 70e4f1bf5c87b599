"""The kit's own vocabulary: the special tokens, and a few words and pieces made up for it."""

from __future__ import annotations

_WORDS = """
[PAD] [UNK] [CLS] [SEP] [MASK]
a the cat dog bird tree cafe red blue green small big sits runs on under and with two what is
colour how many ? . , ! ' - 1 2 3 don t
##s ##ing ##n ##ed ##ty ##0 ##2 ##b run play b x
"""
VOCABULARY: list[str] = [*_WORDS.split(), "漢", "字", "猫", "🙂", "ß", "é", "##é", "…", "&"]
PAD, UNK, CLS, SEP = 0, 1, 2, 3
