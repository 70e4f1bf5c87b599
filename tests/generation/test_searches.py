"""The registry of searches: each is chosen there, and a new one needs no other file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.texts import with_eos
from refgit import testing, to_numpy
from refgit.generation.config import DEFAULTS, NAMES, GenerationConfig
from refgit.generation.config.constraints import DisjunctiveConstraint
from refgit.generation.search import SEARCHES, choose
from refgit.generation.search.base import HEEDED
from refgit.generation.search.beam import BeamSearch
from refgit.generation.search.beams import BeamsSearch
from refgit.generation.search.token_by_token import TokenSearch, choosing

MODEL = with_eos(testing.tiny_model(), None)  # no token ends a text
PIXELS = testing.pixels(2)


def second_likeliest(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, axis=-1, kind="stable")[:, 1]


SECOND = TokenSearch(name="second", steps=choosing(lambda call: second_likeliest))


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEARCHES, SECOND.name, SECOND)


@pytest.mark.usefixtures("second")
def test_a_new_search_is_run_by_its_name() -> None:
    ids = to_numpy(MODEL.generate(PIXELS, max_length=8, search="second"))
    for length in range(1, 8):
        logits = MODEL(ids[:, :length], pixel_values=PIXELS, use_cache=False).logits
        wanted = second_likeliest(to_numpy(logits)[:, -1])
        np.testing.assert_array_equal(ids[:, length], wanted)


@pytest.mark.usefixtures("second")
def test_a_new_search_streams_and_keeps_scores_as_the_others_do() -> None:
    ids = to_numpy(MODEL.generate(PIXELS, max_length=6, search="second"))
    tokens = [t for t in MODEL.stream(PIXELS, max_length=6, search="second") if t.row == 1]
    assert [t.token_id for t in tokens] == ids[1, 1:].tolist()
    found = MODEL.generate(
        PIXELS, max_length=6, search="second", return_dict_in_generate=True, output_scores=True
    )
    chosen = np.stack([second_likeliest(to_numpy(scores)) for scores in found.scores], axis=1)
    np.testing.assert_array_equal(chosen, ids[:, 1:])


def test_a_new_search_by_beams_is_run_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def beams(prompt: Any, rules: Any, config: GenerationConfig, random: Any) -> BeamSearch:
        return BeamSearch(prompt, rules, config.replace(length_penalty=0.0), random)

    unscaled = BeamsSearch(name="unscaled", kind="sums", beams=beams)
    monkeypatch.setitem(SEARCHES, "unscaled", unscaled)
    model = testing.tiny_model()
    found = model.generate(PIXELS, num_beams=3, max_length=9, search="unscaled")
    wanted = model.generate(PIXELS, num_beams=3, max_length=9, length_penalty=0.0)
    np.testing.assert_array_equal(to_numpy(found), to_numpy(wanted))


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "third"}, r"search is 'third'; expected one of .*greedy, .*second, or None"),
        ({"search": "second", "num_beams": 3}, r"search is 'second' and .* ask for 'beam'"),
        ({"search": "second", "do_sample": True}, r"search is 'second' and .* ask for 'sample'"),
        ({"search": "beam"}, r"search is 'beam' and the other arguments ask for 'greedy'"),
        ({"search": "second", "top_k": 3}, r"top_k is 3, which has no effect without do_sample"),
        ({"search": "second", "num_return_sequences": 2}, "num_return_sequences is 2"),
    ],
)
def test_a_name_that_does_not_go_with_the_other_arguments_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MODEL.generate(PIXELS, **options)


def test_one_of_several_phrases_can_be_required_of_each_text() -> None:
    constraint = DisjunctiveConstraint([[3], [4, 5]])
    (ids,) = to_numpy(MODEL.generate(PIXELS[:1], num_beams=2, constraints=[constraint]))
    pairs = list(zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True))
    assert 3 in ids or (4, 5) in pairs
    outside = DisjunctiveConstraint([[3], [4, 999]])
    with pytest.raises(ValueError, match=r"constraints has the token ids \[999\]"):
        MODEL.generate(PIXELS, num_beams=2, constraints=[outside])


def test_naming_the_search_that_is_asked_for_changes_nothing() -> None:
    np.testing.assert_array_equal(
        to_numpy(MODEL.generate(PIXELS, num_beams=2, search="beam")),
        to_numpy(MODEL.generate(PIXELS, num_beams=2)),
    )


def test_every_entry_is_under_its_name_and_heeds_fields_that_exist() -> None:
    for name, search in SEARCHES.items():
        assert search.name == name
        assert search.heeds <= set(HEEDED) <= set(NAMES)
    assert choose(GenerationConfig()).name == "greedy"
    for name, (harmless, _) in HEEDED.items():
        assert DEFAULTS[name] in harmless
