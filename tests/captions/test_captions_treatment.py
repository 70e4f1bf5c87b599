"""`Treatment`: the steps and their order, and what is refused."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgit.captions import Treatment, close_up
from refgit.captions.endings import INVENTED_ENDINGS
from refgit.captions.treatment import INVENTED, split_patterns

ENDINGS = {
    "a red car with the words fast and free on it": "a red car",
    'a sign that says " stop " on a street': "a sign",
    'a mug saying " good morning "': "a mug",
    "a girl with the words love on her shirt standing on a beach": "a girl standing on a beach",
    "a man with a sign that says stop": "a man with a sign",
    "a poster that has the words ' hello ' written on it": "a poster",
    "a car with the license plate number abc 123": "a car",
    "a shirt with the number 5 on the back of it and a bird": "a shirt and a bird",
    "a drawing of a girl and the word cat": "a drawing of a girl",
    "a book titled the sea": "a book",
    "a man named bob sitting on a bench": "a man sitting on a bench",
    "a shirt with writing on the front": "a shirt",
}
KEPT = (
    "a woman reading a book on a sofa", "a man with the name tag bob", "the words love",
    "a woman with the letter blocks on a table", "a dog running on the beach",
    "a sign and a street with words", "a person with words of wisdom",
)  # fmt: skip


@pytest.mark.parametrize("text", ENDINGS)
def test_invented_endings_are_taken_out(text: str) -> None:
    assert Treatment(remove=INVENTED)(text) == ENDINGS[text]


@pytest.mark.parametrize("text", KEPT)
def test_other_endings_stay(text: str) -> None:
    assert Treatment(remove=INVENTED)(text) == text


def test_each_pattern_of_invented_endings_takes_out_that_of_its_example() -> None:
    for pattern, example in INVENTED_ENDINGS:
        found = Treatment(remove=(pattern,))(example)
        assert example.startswith(found[:5])
        assert len(found) < len(example)


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, "it ' s , well", "it's, well"),
        ({"raw": True}, "it ' s , well", "it ' s , well"),
        ({"remove": ("stock",)}, "a Stock photo of stockings", "a photo of stockings"),
        ({"remove": ("colou?r",)}, "a color , a colour , colours", "a, a, colours"),
        ({"remove": ("dog",)}, "cat , dog , bird", "cat, bird"),
        ({"remove": ("dog",)}, "dog , bird", "bird"),
        ({"remove": (r", \w+",)}, "cat , dog , bird", "cat"),
        ({"remove": ("x*",)}, "a  cat", "a  cat"),
        ({"remove": (".*",)}, "a cat", ""),
        ({"replace": (("cat", "dog"), ("dog", "cow"))}, "a cat and a dog", "a cow and a cow"),
        ({"replace": (("a.", "b"),)}, "a. ab", "b ab"),
        ({"replace": ((" big", ""), ("very", ""))}, "a very big dog", "a dog"),
        ({"replace": ((r"(\w+)s\b", r"\1z"),), "regex": True}, "dogs", "dogz"),
        ({"prefix": "photo of ", "suffix": ", 4k"}, " a cat ", "photo of a cat, 4k"),
    ],
)
def test_a_treatment_does_what_its_fields_say(
    options: dict[str, Any], text: str, expected: str
) -> None:
    assert Treatment(**options)(text) == expected


def test_the_steps_come_in_their_order() -> None:
    """Closing up, removing, replacing, looking for phrases, prefix and suffix."""
    chosen = Treatment(
        remove=("t-shirt",), replace=(("a dog", "a t-shirt"),), prefix="no dog: ", suffix=".",
        fail_phrases=("t-shirt",),
    )  # fmt: skip
    assert chosen("a dog t - shirt") == "no dog: a t-shirt."
    assert chosen.failing(chosen("a dog")) == "t-shirt"
    framed = Treatment(prefix="no dog: ", suffix=" dog", fail_phrases=("no dog", "dog"))
    assert framed.failing(framed("a cat")) is None
    assert framed.failing(framed("a dog")) == "dog"


def test_a_phrase_fails_as_whole_words_and_capitals_do_not_matter() -> None:
    chosen = Treatment(fail_phrases=("Cat", "it's"))
    assert chosen.failing("a cat") == "Cat"
    assert chosen.failing(chosen("it ' s a dog")) == "it's"
    assert chosen.failing("a category") is None
    assert Treatment().failing("a cat") is None


def test_a_growing_caption_lacks_the_suffix_alone() -> None:
    chosen = Treatment(prefix="<", suffix=">")
    assert chosen.so_far("it ' s") + ">" == chosen("it ' s") == "<it's>"
    assert chosen.punctuated("it ' s") == "it's"
    assert Treatment(raw=True).punctuated("it ' s") == "it ' s"


@given(st.text())
def test_by_default_a_caption_is_closed_up_and_stripped(text: str) -> None:
    assert Treatment()(text) == close_up(text).strip()
    assert Treatment(raw=True)(text) == text.strip()


def test_a_treatment_goes_into_json_and_to_other_processes() -> None:
    chosen = Treatment(remove=("a",), replace=(("b", "c"),), prefix="é")
    stored = json.loads(json.dumps(chosen.to_dict()))
    assert stored == chosen.to_dict()
    assert stored["replace"] == [["b", "c"]]
    assert Treatment().changes() == {}
    assert chosen.changes() == {"remove": ["a"], "replace": [["b", "c"]], "prefix": "é"}
    assert pickle.loads(pickle.dumps(chosen)) == chosen


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"remove": ("(",)}, ValueError, r"remove: '\(' is not a regular expression: missing \)"),
        ({"remove": ("(?i)a",)}, ValueError, "begins with flags; expected none"),
        ({"remove": "abc"}, TypeError, "expected a tuple of texts"),
        ({"remove": ("",)}, ValueError, "expected texts that are not empty"),
        ({"fail_phrases": (1,)}, TypeError, "fail_phrases is .* expected a tuple of texts"),
        ({"replace": (("", "a"),)}, ValueError, "expected a text to find and another one"),
        ({"replace": (("[", "a"),), "regex": True}, ValueError, r"replace: '\[' is not a reg"),
        ({"replace": (("(a)", r"\2"),), "regex": True}, ValueError, "cannot take the place of"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Treatment(**options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b", ("a", "b")),
        (r"x{1,3},(a,b),[,],\,y", ("x{1,3}", "(a,b)", "[,]", r"\,y")),
        (" a , , b ", ("a", "b")),
        (r"\(,b", (r"\(", "b")),
        (",", ()),
    ],
)
def test_patterns_are_split_at_commas_outside_brackets(
    text: str, expected: tuple[str, ...]
) -> None:
    assert split_patterns(text) == expected
