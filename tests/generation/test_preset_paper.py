"""`generate(..., preset="paper")` against Microsoft's decoding, described here in plain Python.

The description was written from microsoft/GenerativeImage2Text and shares nothing with refgit:
lists, `math`, and a function from texts to the scores of their next words. Its parts:

- the beam search that Microsoft's `get_git_model` chooses, 4 beams and a length penalty of 0.6;
- the search by the likeliest word that stands beside it there, used with one beam;
- of the latter the rule that no word is written twice in a row, which the preset gives to both.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refgit import GitForCausalLM, testing, to_numpy
from refgit.generation import GenerationConfig
from refgit.generation.logits.repetition import NoImmediateRepeat
from refgit.generation.resolve import PRESETS, with_preset

Text = list[int]
NextScores = Callable[[list[Text]], list[list[float]]]  # logits of the word after each text

CONFIG = testing.CONFIG.replace(num_hidden_layers=1)
PAD, BOS = 0, 1
LONGEST = CONFIG.max_position_embeddings  # 24


# ---- the description


def log_softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    total = math.log(math.fsum(math.exp(s - top) for s in scores))
    return [s - top - total for s in scores]


def after_rule(texts: list[Text], next_scores: NextScores, start: int) -> list[list[float]]:
    """Log-probabilities of next words; a written word is put to -10000 before the softmax."""
    rows = next_scores(texts)
    for text, row in zip(texts, rows, strict=True):
        if len(text) > start:
            row[text[-1]] = -10000.0
    return [log_softmax(row) for row in rows]


@dataclass
class Kept:
    """The `size` best finished texts, as (score, ids without the end token)."""

    size: int
    alpha: float
    found: list[tuple[float, Text]] = field(default_factory=list)

    def norm(self, length: int) -> float:
        return (5 + length) ** self.alpha / (5 + 1) ** self.alpha

    def add(self, text: Text, total: float) -> None:
        score = total / self.norm(len(text))
        if len(self.found) < self.size:
            self.found.append((score, text))
        elif score > min(self.found)[0]:
            self.found.remove(min(self.found))
            self.found.append((score, text))

    def beyond_reach(self, best_total: float, longest: int) -> bool:
        full = len(self.found) == self.size
        return full and min(self.found)[0] >= best_total / self.norm(longest - 1)


def microsoft_beams(
    next_scores: NextScores,
    prompt: Text,
    *,
    end: int,
    longest: int,
    beams: int = 4,
    alpha: float = 0.6,
    results: int = 1,
    rule: bool = True,
) -> list[tuple[float, Text]]:
    """The best texts with their end token, best first, and their scores."""
    kept = Kept(results, alpha)
    running = [list(prompt) for _ in range(beams)]
    totals = [0.0] + [-1e9] * (beams - 1)
    length = len(prompt)
    while length < longest:
        rows = after_rule(running, next_scores, len(prompt) if rule else longest)
        candidates = [
            (totals[b] + p, b, word) for b, row in enumerate(rows) for word, p in enumerate(row)
        ]
        candidates.sort(key=lambda c: -c[0])
        candidates = candidates[: 2 * beams]
        if kept.beyond_reach(candidates[0][0], longest):
            break
        going: list[tuple[float, Text]] = []
        for total, b, word in candidates:
            if word == end or length + 1 == longest:
                kept.add(running[b], total)
            else:
                going.append((total, [*running[b], word]))
            if len(going) == beams:
                break
        totals, running = [total for total, _ in going], [text for _, text in going]
        length += 1
    best_first = sorted(kept.found, key=lambda pair: -pair[0])
    return [(score, [*text, end]) for score, text in best_first]


def microsoft_greedy(
    next_scores: NextScores, prompt: Text, *, end: int, longest: int, rule: bool = True
) -> Text:
    text = list(prompt)
    while len(text) < longest:
        (row,) = after_rule([text], next_scores, len(prompt) if rule else longest)
        text.append(row.index(max(row)))
        if text[-1] == end:
            break
    return text


# ---- the expected results


def uncached(model: GitForCausalLM, pixels: np.ndarray) -> NextScores:
    """The definition of the next word's scores: the whole forward pass, nothing kept."""

    def next_scores(texts: list[Text]) -> list[list[float]]:
        logits = model(texts, pixel_values=pixels[None], use_cache=False).logits
        rows: list[list[float]] = to_numpy(logits)[:, -1].astype(float).tolist()
        return rows

    return next_scores


@functools.cache
def model_of(seed: int, end: int | None = None) -> GitForCausalLM:
    """A random model; in float64, so that no two beams are equal but for rounding."""
    config = CONFIG.replace(eos_token_id=end)
    return testing.tiny_model(seed % 50, config, dtype="float64")


def decoded(model: GitForCausalLM, images: np.ndarray, **options: Any) -> Any:
    return model.generate(
        images, preset="paper", return_dict_in_generate=True, output_scores=True, **options
    )


def padded(text: Text, length: int, filler: int) -> Text:
    return text + [filler] * (length - len(text))


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Any]:
    """A model, images, prompts, an end token that is likely to come, and a length."""
    seed = draw(st.integers(0, 49))
    images = draw(st.integers(1, 3))
    texts = images * draw(st.integers(1, 2))
    words = st.integers(3, CONFIG.vocab_size - 1)
    prompts = [[BOS, *draw(st.lists(words, max_size=4))] for _ in range(texts)]
    pixels = testing.pixels(images, seed)
    scores = uncached(model_of(seed), pixels[0])
    free = microsoft_greedy(scores, prompts[0], end=-1, longest=len(prompts[0]) + 6, rule=False)
    written = sorted(set(free[len(prompts[0]) :]) - {PAD, BOS})
    return {
        "seed": seed,
        "pixels": pixels,
        "prompts": prompts,
        "end": draw(st.sampled_from([2, *written])),
        "longest": draw(st.integers(6, 14)),
        "beams": draw(st.integers(2, 5)),
    }


def read(task: dict[str, Any]) -> tuple[GitForCausalLM, dict[str, Any], list[NextScores]]:
    """The model, arguments of `generate`, and the next scores below each prompt's image."""
    model, prompts = model_of(task["seed"], task["end"]), task["prompts"]
    length = max(map(len, prompts))
    options = {
        "input_ids": [[PAD] * (length - len(p)) + p for p in prompts],
        "attention_mask": [[0] * (length - len(p)) + [1] * len(p) for p in prompts],
        "max_length": task["longest"],
    }
    pixels = task["pixels"]
    scores = [uncached(model, pixels[b % len(pixels)]) for b in range(len(prompts))]
    return model, options, scores


@pytest.mark.slow
@settings(max_examples=200)
@given(task=tasks(), alpha=st.sampled_from([0.6, 0.6, 0.0, 1.0, 2.0]), data=st.data())
def test_ids_and_scores_are_those_of_microsofts_beam_search(
    task: dict[str, Any], alpha: float, data: st.DataObject
) -> None:
    results = data.draw(st.integers(1, task["beams"]))
    model, options, next_scores = read(task)
    found = decoded(
        model, task["pixels"], num_beams=task["beams"], length_penalty=alpha,
        num_return_sequences=results, **options,
    )  # fmt: skip
    wanted = [
        (score, text[len(prompt) :])
        for scores, prompt in zip(next_scores, task["prompts"], strict=True)
        for score, text in microsoft_beams(
            scores, prompt, end=task["end"], longest=task["longest"], beams=task["beams"],
            alpha=alpha, results=results,
        )
    ]  # fmt: skip
    length = max(len(text) for _, text in wanted)
    start = len(options["input_ids"][0])
    written = to_numpy(found.sequences)[:, start:].tolist()
    assert written == [padded(text, length, task["end"]) for _, text in wanted]
    np.testing.assert_allclose(found.sequences_scores, [score for score, _ in wanted], rtol=1e-6)


@pytest.mark.slow
@settings(max_examples=50)
@given(task=tasks())
def test_with_one_beam_ids_are_those_of_microsofts_search_by_the_likeliest_word(
    task: dict[str, Any],
) -> None:
    model, options, next_scores = read(task)
    found = to_numpy(model.generate(task["pixels"], preset="paper", num_beams=1, **options))
    wanted = [
        microsoft_greedy(scores, prompt, end=task["end"], longest=task["longest"])[len(prompt) :]
        for scores, prompt in zip(next_scores, task["prompts"], strict=True)
    ]
    length = max(map(len, wanted))
    start = len(options["input_ids"][0])
    assert found[:, start:].tolist() == [padded(text, length, PAD) for text in wanted]


@pytest.mark.slow
@settings(max_examples=60)
@given(task=tasks())
def test_without_the_rule_it_is_the_search_that_microsoft_runs(task: dict[str, Any]) -> None:
    model, options, next_scores = read(task)
    found = decoded(model, task["pixels"], no_immediate_repeat=False, **options)
    wanted = [
        microsoft_beams(scores, prompt, end=task["end"], longest=task["longest"], rule=False)[0]
        for scores, prompt in zip(next_scores, task["prompts"], strict=True)
    ]
    start = len(options["input_ids"][0])
    for row, (_, text), prompt in zip(
        to_numpy(found.sequences)[:, start:].tolist(), wanted, task["prompts"], strict=True
    ):
        assert row == padded(text[len(prompt) :], len(row), task["end"])
    np.testing.assert_allclose(found.sequences_scores, [score for score, _ in wanted], rtol=1e-6)


# ---- the cases of the tests above, one by one, so that they are sure to occur


def repeats(text: Text) -> int:
    return sum(a == b for a, b in itertools.pairwise(text))


@pytest.mark.parametrize("beams", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_words_that_would_come_twice_in_a_row_do_not(beams: int) -> None:
    without, first = 0, 0
    for seed in range(50):
        model, pixels = model_of(seed), testing.pixels(1, seed)
        options: dict[str, Any] = {"preset": "paper", "num_beams": beams, "max_length": 12}
        (plain,) = to_numpy(model.generate(pixels, **options, no_immediate_repeat=False)).tolist()
        (ruled,) = to_numpy(model.generate(pixels, **options)).tolist()
        assert repeats(ruled[1:]) == 0
        without += repeats(plain[1:]) > 0
        first += ruled[1] == ruled[0]
    assert without >= 10  # else the rule had nothing to do
    assert first >= 1  # the end of the prompt may be repeated


def test_the_rule_leaves_the_first_step_as_it_was() -> None:
    rule, scores = NoImmediateRepeat(prompt_length=2), np.zeros((1, 4))
    np.testing.assert_array_equal(rule(np.array([[3, 1]]), scores), [[0, 0, 0, 0]])
    np.testing.assert_array_equal(rule(np.array([[3, 1, 1]]), scores), [[0, -10000, 0, 0]])


def likeliest_first_word(seed: int, pixels: np.ndarray) -> int:
    (row,) = uncached(model_of(seed), pixels[0])([[BOS]])
    return row.index(max(row))


@pytest.mark.slow
def test_a_text_may_end_at_its_first_word() -> None:
    empty = 0
    for seed in range(50):
        pixels = testing.pixels(1, seed)
        end = likeliest_first_word(seed, pixels)
        if end in (PAD, BOS):
            continue
        model = model_of(seed, end)
        (greedy,) = to_numpy(model.generate(pixels, preset="paper", num_beams=1)).tolist()
        assert greedy == [BOS, end]
        found = decoded(model, pixels, max_length=12)
        ((score, text),) = microsoft_beams(uncached(model, pixels[0]), [BOS], end=end, longest=12)
        (row,) = to_numpy(found.sequences).tolist()
        assert row == text
        if row == [BOS, end]:
            empty += 1
            first = log_softmax(uncached(model, pixels[0])([[BOS]])[0])[end]
            assert score == pytest.approx(first)  # (5 + 1) / 6 to any power is 1
    assert empty >= 10


@pytest.mark.parametrize("longest", [2, 3, 9, LONGEST + 1])
def test_at_the_greatest_length_the_end_token_stands_in_the_place_of_the_last_word(
    longest: int,
) -> None:
    reached = 0
    for seed in range(12):
        model, pixels = model_of(seed, 2), testing.pixels(1, seed)
        found = decoded(model, pixels, max_length=longest)
        ((score, text),) = microsoft_beams(
            uncached(model, pixels[0]), [BOS], end=2, longest=longest
        )
        assert to_numpy(found.sequences).tolist() == [text]
        np.testing.assert_allclose(found.sequences_scores, [score], rtol=1e-6)
        assert text[-1] == 2
        reached += len(text) == longest
    assert reached >= 4


def test_the_preset_writes_as_far_as_the_model_has_positions() -> None:
    lengths = set()
    for seed in range(12):
        model, pixels = model_of(seed, 2), testing.pixels(1, seed)
        (found,) = to_numpy(model.generate(pixels, preset="paper")).tolist()
        ((_, text),) = microsoft_beams(uncached(model, pixels[0]), [BOS], end=2, longest=LONGEST)
        assert found == text
        lengths.add(len(found))
    assert max(lengths) == LONGEST
    free = to_numpy(model_of(0).generate(testing.pixels(1), preset="paper", num_beams=1))
    assert free.shape == (1, LONGEST)


@pytest.mark.slow
def test_1024_tokens_are_written_where_there_are_positions_for_more() -> None:
    config = CONFIG.replace(eos_token_id=None, max_position_embeddings=1100, num_hidden_layers=1)
    model = testing.tiny_model(0, config)
    found = model.generate(testing.pixels(1), preset="paper", num_beams=1)
    assert found.shape == (1, 1024)


def test_a_length_of_the_caller_counts_and_is_not_cut() -> None:
    model, pixels = model_of(0), testing.pixels(1)
    prompt = [[BOS, 5, 6]]
    for length, longest in (({"max_length": 9}, 9), ({"max_new_tokens": 9}, 12)):
        found = model.generate(pixels, prompt, preset="paper", num_beams=1, **length)
        assert found.shape == (1, longest)
    with pytest.raises(ValueError, match="30 tokens were asked for"):
        model.generate(pixels, preset="paper", max_length=30)
    with pytest.raises(ValueError, match=r"30 tokens were asked for"):
        model.generate(pixels, preset="paper", max_new_tokens=29)


def test_without_an_end_token_there_is_none_in_the_last_place() -> None:
    found = decoded(model_of(0), testing.pixels(1), max_length=8)
    assert found.sequences.shape == (1, 7)
    assert found.beam_indices.shape == (1, 6)


def test_several_end_tokens_all_end_texts() -> None:
    """Microsoft has one; of more, each ends a text and the first closes those cut off."""
    ended = set()
    for seed in range(50):
        model = GitForCausalLM(
            CONFIG.replace(eos_token_id=[2, 7, 9, 11]),
            dtype="float64",
            _parameters=dict(model_of(seed).state_dict()),
        )
        (row,) = to_numpy(model.generate(testing.pixels(1, seed), preset="paper")).tolist()
        assert not {2, 7, 9, 11} & set(row[1:-1])
        ended.add(row[-1])
    assert ended <= {2, 7, 9, 11}
    assert len(ended) >= 2


def test_scores_of_the_words_add_up_to_the_score_of_a_text_that_ended() -> None:
    summed = 0
    for seed in range(20):
        pixels = testing.pixels(1, seed)
        model = model_of(seed, max(3, likeliest_first_word(seed, pixels)))
        found = decoded(model, pixels, max_length=LONGEST)
        length = found.sequences.shape[1]
        if length == LONGEST:
            continue
        words = model.compute_transition_scores(
            found.sequences, found.scores, found.beam_indices
        ).sum()
        norm = ((5 + length - 1) / 6) ** 0.6
        np.testing.assert_allclose(words / norm, found.sequences_scores[0], rtol=1e-6)
        summed += 1
    assert summed >= 5


@pytest.mark.slow
def test_early_stopping_takes_the_first_texts_that_end() -> None:
    differ = 0
    for seed in range(50):
        pixels = testing.pixels(1, seed)
        model = model_of(seed, max(3, likeliest_first_word(seed, pixels)))
        early = decoded(model, pixels, early_stopping=True, max_length=12)
        patient = decoded(model, pixels, max_length=12)
        assert early.sequences_scores[0] <= patient.sequences_scores[0] + 1e-12
        assert len(early.scores) <= len(patient.scores)
        differ += len(early.scores) < len(patient.scores)
    assert differ >= 10


@pytest.mark.slow
def test_the_scoring_is_microsofts_and_not_that_of_transformers() -> None:
    differ = 0
    for seed in range(50):
        model, pixels = model_of(seed, 2), testing.pixels(1, seed)
        options = {"num_beams": 4, "length_penalty": 0.6, "max_length": 12}
        options |= {"no_immediate_repeat": True, "renormalize_logits": True}
        theirs = to_numpy(model.generate(pixels, **options)).tolist()
        differ += theirs != to_numpy(model.generate(pixels, preset="paper", max_length=12)).tolist()
    assert differ >= 10


# ---- the preset and the caller's own arguments


@pytest.mark.parametrize("preset", ["magazine", "", "Paper", 1, ["paper"]])
def test_an_unknown_preset_is_refused_with_the_names_of_those_there_are(preset: Any) -> None:
    with pytest.raises(ValueError, match=r'preset is .*expected "paper", or None'):
        with_preset(preset, {})
    with pytest.raises(ValueError, match='"paper"'):
        testing.tiny_model().generate(testing.pixels(), preset=preset)


def test_the_callers_arguments_count_before_the_presets() -> None:
    paper = dict(PRESETS["paper"])
    assert with_preset("paper", {}) == paper
    assert with_preset("paper", {"num_beams": 2, "top_k": None}) == paper | {
        "num_beams": 2,
        "top_k": None,
    }
    assert with_preset("paper", {"num_beams": None}) == paper  # not given
    assert with_preset(None, {"num_beams": None}) == {"num_beams": None}
    assert "max_length" not in with_preset("paper", {"max_new_tokens": 3})
    assert PRESETS["paper"] == paper


@pytest.mark.parametrize("one", [1, np.int64(1), np.array(1)])
def test_one_beam_takes_no_settings_of_beams_but_the_callers(one: Any) -> None:
    found = with_preset("paper", {"num_beams": one})
    assert set(PRESETS["paper"]) - set(found) == {
        "length_penalty",
        "beam_scoring",
        "early_stopping",
    }
    model, pixels = model_of(3), testing.pixels()
    model.generate(pixels, preset="paper", num_beams=one, max_length=4)
    with pytest.raises(ValueError, match=r"length_penalty is 0\.7.*num_beams above 1"):
        model.generate(pixels, preset="paper", num_beams=one, length_penalty=0.7)


def test_fewer_beams_and_another_length_penalty_can_be_had() -> None:
    model, pixels = model_of(4, 2), testing.pixels(1, 4)
    options = {"num_beams": 2, "length_penalty": 1.5, "max_length": 10}
    found = decoded(model, pixels, **options)
    ((score, text),) = microsoft_beams(
        uncached(model, pixels[0]), [BOS], end=2, longest=10, beams=2, alpha=1.5
    )
    assert to_numpy(found.sequences).tolist() == [text]
    np.testing.assert_allclose(found.sequences_scores, [score], rtol=1e-6)
    assert found.scores[0].shape == (2, CONFIG.vocab_size)


def test_the_checkpoints_own_settings_do_not_change_the_preset() -> None:
    model, pixels = testing.tiny_model(6, CONFIG), testing.pixels(1, 6)
    wanted = to_numpy(model.generate(pixels, preset="paper"))
    assert wanted.shape[1] > 4  # longer than by the settings below
    model.generation_config = model.generation_config.replace(
        do_sample=True, num_beams=2, max_new_tokens=3, early_stopping=True, length_penalty=2.0
    )
    np.testing.assert_array_equal(model.generate(pixels, preset="paper"), wanted)


def test_with_one_beam_words_can_be_drawn_under_the_rule() -> None:
    found = to_numpy(
        model_of(6).generate(
            testing.pixels(3, 6), preset="paper", num_beams=1, do_sample=True, seed=1, max_length=20
        )
    )
    assert all(repeats(row[1:]) == 0 for row in found.tolist())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"do_sample": True}, "microsoft.*sampling.*do_sample=False"),
        ({"num_beam_groups": 2, "diversity_penalty": 1.0}, "microsoft.*groups of beams"),
        ({"force_words_ids": [[5]]}, "microsoft.*forced words"),
        ({"length_penalty": -0.5}, r"length_penalty is -0\.5 and beam_scoring"),
        ({"num_return_sequences": 5}, "num_return_sequences is 5"),
    ],
)
def test_what_microsofts_beam_search_cannot_do_is_refused(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        model_of(0).generate(testing.pixels(), preset="paper", **arguments)


def test_beam_scoring_can_be_had_without_the_preset_and_is_refused_without_beams() -> None:
    model, pixels = model_of(7, 2), testing.pixels(1, 7)
    found = to_numpy(
        model.generate(pixels, num_beams=3, beam_scoring="microsoft", length_penalty=0.6)
    )
    ((_, text),) = microsoft_beams(
        uncached(model, pixels[0]), [BOS], end=2, longest=21, beams=3, rule=False
    )
    assert found.tolist() == [text]
    with pytest.raises(ValueError, match=r"beam_scoring is 'microsoft'.*num_beams above 1"):
        model.generate(pixels, beam_scoring="microsoft")
    with pytest.raises(ValueError, match=r"beam_scoring is 'paper'"):
        GenerationConfig(beam_scoring="paper")
