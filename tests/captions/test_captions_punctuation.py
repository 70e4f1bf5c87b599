"""Closing up: an English writer's spaces, and nothing but spaces taken out."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refgit.captions import close_up

CLOSED = {
    "upside - down face": "upside-down face",
    "state - of - the - art , one - of - a - kind": "state-of-the-art, one-of-a-kind",
    "a black - and - white t - shirt": "a black-and-white t-shirt",
    "it ' s a dog ' s life": "it's a dog's life",
    "they ' re sure we ' ll see he ' d like what i ' ve got": (
        "they're sure we'll see he'd like what i've got"
    ),
    "don ' t , i ' m busy": "don't, i'm busy",
    "dogs ' toys": "dogs' toys",
    "at 5 o ' clock": "at 5 o'clock",
    "the ' 90s": "the '90s",
    "rock ' n ' roll": "rock 'n' roll",
    "the letter ' s '": "the letter 's'",
    "a sign that says ' stop ' .": "a sign that says 'stop'.",
    '" hello " , " world " .': '"hello", "world".',
    "“ hello ”": "“hello”",
    "a , b ; c : d ! e ?": "a, b; c: d! e?",
    "wait . . .": "wait...",
    "10 , 000 of 1 , 000 , 000": "10,000 of 1,000,000",
    "3 . 5 of 10": "3.5 of 10",
    "$ 5 or $ 1 , 299 . 99": "$5 or $1,299.99",
    "50 % off # 1": "50% off #1",
    "( x ) [ y ]": "(x) [y]",
    "at 10 : 30 or 5 p . m .": "at 10:30 or 5 p.m.",
    "the u . s . army": "the u.s. army",
    "and / or": "and/or",
    "www . example . com": "www.example.com",
}
# What cannot be told stays as it is, and so does what has been set well.
KEPT = (
    "a dog - a cat", "two dogs - the cat", "- 5", "dog - ", "a - ", "5 ' 10 \" tall",
    '5 " by 7 "', 'a " b', "the dogs ' toys and the cats ' toys", "says ' stop",
    "10, 200, 300", "in 2005. 5 people", "c # code", "b & w", "a .5 caliber", "sad :( face",
    "the 's' key", "rock 'n' roll", "pre- and post-war", "room 12: 3 dogs", "", " ", "'", '"', "-",
    "¿ qué ?".replace(" ?", "?"), "un chien – un chat", "2 + 2 = 4", "a @ b",
)  # fmt: skip


@pytest.mark.parametrize("text", CLOSED)
def test_punctuation_is_set_as_in_english(text: str) -> None:
    assert close_up(text) == CLOSED[text]


@pytest.mark.parametrize("text", [*KEPT, *CLOSED.values()])
def test_what_is_open_or_right_stays(text: str) -> None:
    assert close_up(text) == text


WORDS = st.sampled_from(
    [*"atsmo5", "the", "dog", "dogs", "it", "don", "i", "of", "n", "re", "ll", "10", "000", "90s",
     "2019", "com", "www", "été", "犬", "собака"]
)  # fmt: skip
MARKS = st.sampled_from([*"'’\"“”-–,.:;!?$#%&/()[]+@…"])
SPACED = st.lists(WORDS | MARKS, max_size=14).map(" ".join)
ANY = st.text() | SPACED | st.lists(WORDS | MARKS | st.just(" "), max_size=20).map("".join)


@given(ANY)
@example("1 , 0 , 0 . 5 . 5 , 000")
def test_closing_up_takes_out_spaces_only_and_those_beside_punctuation(text: str) -> None:
    closed = close_up(text)
    assert closed.replace(" ", "") == text.replace(" ", "")
    assert words_of(closed) == words_of(text)


def words_of(text: str) -> list[str]:
    """The runs of letters and digits."""
    return re.findall(r"\w+", text)


@given(ANY)
def test_closing_up_twice_is_closing_up_once(text: str) -> None:
    once = close_up(text)
    assert close_up(once) == once


@given(st.text(st.characters(categories=("L", "M", "N", "Zs"))))
def test_text_without_punctuation_stays(text: str) -> None:
    assert close_up(text) == text
