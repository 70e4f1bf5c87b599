"""Logits processors, warpers, stopping criteria and constraints against their definitions.

The definitions are written out here in plain Python, word by word.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.processors import processors as lp
from refgit.generation.config import GenerationConfig
from refgit.generation.config.constraints import (
    Constraint,
    ConstraintListState,
    DisjunctiveConstraint,
    PhrasalConstraint,
    forced_words,
)
from refgit.generation.logits.scores import kth_highest, log_probabilities, probabilities
from refgit.generation.stopping import (
    EosToken,
    MaxLength,
    MaxTime,
    StopStrings,
    build_stopping,
    done,
)
from refgit.processing.text.tokenizer import BertTokenizer

INF = math.inf
Step = tuple[np.ndarray, np.ndarray]


@st.composite
def steps(draw: st.DrawFn, words: int = 12, ties: bool = False) -> Step:
    """Ids (B, T) and scores (B, V), float32 or float64, some of them -inf."""
    vocab, batch = draw(st.integers(3, words)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    ids = rng.integers(0, draw(st.integers(2, vocab)), (batch, draw(st.integers(1, 8))))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = (rng.standard_normal((batch, vocab)) * 3).astype(dtype)
    if ties:
        scores = np.round(scores)
    if draw(st.booleans()):
        out = rng.random(scores.shape) < 0.3
        out[:, rng.integers(vocab)] = False
        scores[out] = -INF
    return ids, scores


def check(
    processor: Callable[..., Any], step: Step, define: Callable[[list[int], list[float]], Any]
) -> None:
    """Each row is what the definition makes of it; the arguments stay, and the dtype."""
    ids, scores = step
    before = ids.copy(), scores.copy()
    found = processor(ids, scores)
    np.testing.assert_array_equal(ids, before[0])
    np.testing.assert_array_equal(scores, before[1])
    wanted = [define(i, s) for i, s in zip(ids.tolist(), scores.tolist(), strict=True)]
    assert found.dtype == scores.dtype
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(wanted))
    tolerance = 1e-5 if scores.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def strike(scores: list[float], out: Callable[[int], bool]) -> list[float]:
    return [-INF if out(word) else score for word, score in enumerate(scores)]


def only(scores: list[float], kept: set[int]) -> list[float]:
    return [0.0 if word in kept else -INF for word in range(len(scores))]


def shares(scores: list[float]) -> list[float]:
    top = max(scores)
    weights = [math.exp(s - top) for s in scores]
    return [w / math.fsum(weights) for w in weights]


def entropy(p: list[float]) -> float:
    return -math.fsum(x * math.log(x) for x in p if x > 0)


# ---- shared arithmetic


@given(step=steps())
def test_probabilities_and_their_logarithms(step: Step) -> None:
    scores = step[1]
    wanted = [shares(row) for row in scores.tolist()]
    np.testing.assert_allclose(probabilities(scores), wanted, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(np.exp(log_probabilities(scores)), wanted, rtol=1e-5, atol=1e-12)
    for k in (1, 2, 99):
        kth = [[sorted(row)[-min(k, len(row))]] for row in scores.tolist()]
        np.testing.assert_array_equal(kth_highest(scores, k), kth)


# ---- length


@given(step=steps(), least=st.integers(0, 9), end=st.integers(0, 14))
def test_no_end_before_the_least_length(step: Step, least: int, end: int) -> None:
    ends = {end, 1}

    def define(ids: list[int], scores: list[float]) -> list[float]:
        return strike(scores, lambda word: len(ids) < least and word in ends)

    check(lp.MinLength(least, sorted(ends)), step, define)
    check(lp.MinNewTokens(0, least, sorted(ends)), step, define)
    check(lp.MinNewTokens(min(2, least), least - min(2, least), sorted(ends)), step, define)


@given(step=steps(), length=st.integers(1, 10))
def test_forced_first_and_last_tokens(step: Step, length: int) -> None:
    check(lp.ForcedBos(2), step, lambda ids, s: only(s, {2}) if len(ids) == 1 else s)
    forced = lp.ForcedEos(length, [0, 2])
    check(forced, step, lambda ids, s: only(s, {0, 2}) if len(ids) == length - 1 else s)


@given(step=steps(), start=st.integers(0, 4), factor=st.floats(0.5, 2))
def test_the_end_grows_likelier(step: Step, start: int, factor: float) -> None:
    def define(ids: list[int], scores: list[float]) -> list[float]:
        late = len(ids) - start - 1
        if late <= 0 or math.isinf(scores[1]):  # what was struck out stays so
            return scores
        scores[1] += abs(scores[1]) * (factor**late - 1)
        return scores

    check(lp.ExponentialDecayLengthPenalty((start, factor), 1, 1), step, define)


# ---- repetition


def last(step: Step) -> np.ndarray:
    return step[0][:, -1]


@given(step=steps())
def test_microsofts_rule_forbids_the_same_token_twice_in_a_row(step: Step) -> None:
    def define(ids: list[int], scores: list[float]) -> list[float]:
        scores[ids[-1]] = -10000.0
        return scores

    check(lp.NoImmediateRepeat(), step, define)
    found = lp.NoImmediateRepeat()(*step)
    others = np.isfinite(step[1]).sum(axis=1) > np.isfinite(step[1])[range(len(found)), last(step)]
    assert ((found.argmax(axis=1) != last(step)) | ~others).all()


@given(step=steps(), penalty=st.floats(0.2, 4))
def test_words_of_the_text_and_of_the_prompt_are_penalised(step: Step, penalty: float) -> None:
    def scaled(words: list[int], scores: list[float], by: float) -> list[float]:
        return [
            (s * by if s < 0 else s / by) if word in words else s for word, s in enumerate(scores)
        ]

    check(lp.RepetitionPenalty(penalty), step, lambda ids, s: scaled(ids, s, penalty))
    prompt = np.array([[0, 1]])
    of_prompt = lp.PromptRepetitionPenalty(penalty, prompt)
    check(of_prompt, step, lambda _ids, s: scaled([0, 1], s, 1 / penalty))


def test_each_beam_has_the_prompt_of_its_image() -> None:
    prompts, ids = np.array([[0], [1]]), np.zeros((6, 1), np.int64)
    found = lp.PromptRepetitionPenalty(2.0, prompts)(ids, np.ones((6, 3)))
    np.testing.assert_array_equal(found, [[2, 1, 1]] * 3 + [[1, 2, 1]] * 3)
    found = lp.PromptNoRepeatNGram(1, prompts)(ids, np.zeros((6, 3)))
    np.testing.assert_array_equal(np.isinf(found), [[1, 0, 0]] * 3 + [[0, 1, 0]] * 3)


@given(step=steps(), size=st.integers(1, 4))
def test_no_ngram_comes_twice(step: Step, size: int) -> None:
    def of(source: list[int], ids: list[int], scores: list[float]) -> list[float]:
        grams = {tuple(source[i : i + size]) for i in range(len(source) - size + 1)}
        end = ids[len(ids) - size + 1 :] if len(ids) >= size - 1 else None
        return strike(scores, lambda word: end is not None and (*end, word) in grams)

    check(lp.NoRepeatNGram(size), step, lambda ids, s: of(ids, ids, s))
    prompt = [0, 1, 0, 0, 1, 1]
    of_prompt = lp.PromptNoRepeatNGram(size, np.array([prompt]))
    check(of_prompt, step, lambda ids, s: of(prompt, ids, s))


@given(seed=st.integers(0, 99), groups=st.integers(2, 3), size=st.integers(1, 3))
def test_what_earlier_groups_chose_is_less_likely(seed: int, groups: int, size: int) -> None:
    rng, batch, beams = np.random.default_rng(seed), 2, groups * size
    tokens = rng.integers(0, 4, batch * beams)
    ids, scores = np.zeros((batch * size, 1), np.int64), rng.standard_normal((batch * size, 4))
    penalise = lp.HammingDiversity(0.5, beams, groups)
    for group in range(groups):
        found = penalise(ids, scores, tokens, group)
        for row in range(batch * size):
            image = tokens[row // size * beams :][: group * size].tolist()
            wanted = [s - 0.5 * image.count(word) for word, s in enumerate(scores[row])]
            np.testing.assert_allclose(found[row], wanted)


# ---- words


@given(step=steps(), data=st.data())
def test_biases_add_up_where_a_sequence_would_be_complete(step: Step, data: Any) -> None:
    vocab = step[1].shape[1]
    sequence = st.lists(st.integers(0, min(vocab, 3) - 1), min_size=1, max_size=3).map(tuple)
    number = st.floats(-4, 4, width=16)
    biases = data.draw(st.dictionaries(sequence, number, min_size=1, max_size=6))

    def applies(sequence: tuple[int, ...], ids: list[int], word: int) -> bool:
        *before, last = sequence
        return word == last and len(before) < len(ids) and ids[len(ids) - len(before) :] == before

    def define(ids: list[int], scores: list[float]) -> list[float]:
        return [
            score + sum(b for q, b in biases.items() if applies(q, ids, word))
            for word, score in enumerate(scores)
        ]

    check(lp.SequenceBias(biases), step, define)
    bad = [list(sequence) for sequence in biases]
    kept = [q for q in biases if q != (1,)]
    check(
        lp.NoBadWords(bad, [1]),
        step,
        lambda ids, s: strike(s, lambda word: any(applies(q, ids, word) for q in kept)),
    )


@given(step=steps(), words=st.lists(st.integers(0, 20)), begin=st.integers(0, 5))
def test_suppressed_words_are_struck_out(step: Step, words: list[int], begin: int) -> None:
    check(lp.SuppressTokens(words), step, lambda _ids, s: strike(s, words.__contains__))
    check(
        lp.SuppressTokensAtBegin(words, begin),
        step,
        lambda ids, s: strike(s, lambda word: len(ids) == begin and word in words),
    )


@given(step=steps())
def test_a_function_says_what_may_follow(step: Step) -> None:
    asked = []

    def allowed(image: int, ids: np.ndarray) -> list[int]:
        asked.append(image)
        return [int(ids[-1]), 1]

    check(
        lp.PrefixConstrained(allowed, 1),
        step,
        lambda ids, s: strike(s, lambda word: word not in (ids[-1], 1)),
    )
    assert asked == list(range(len(step[0])))
    asked.clear()
    lp.PrefixConstrained(allowed, 3)(np.zeros((6, 2), np.int64), np.zeros((6, 4)))
    assert asked == [0, 0, 0, 1, 1, 1]


# ---- the whole distribution


@given(step=steps(), scale=st.floats(0, 3))
def test_guidance_moves_away_from_what_is_written_without_the_image(
    step: Step, scale: float
) -> None:
    ids, scores = step[0], np.maximum(step[1], -20)
    without = scores[:, ::-1].copy()

    def define(_ids: list[int], s: list[float]) -> list[float]:
        p, u = shares(s), shares(s[::-1])
        return [
            math.log(y) + scale * (math.log(x) - math.log(y)) for x, y in zip(p, u, strict=True)
        ]

    check(lp.ClassifierFreeGuidance(scale, lambda _: without), (ids, scores), define)


def test_without_the_image_the_prompt_is_its_last_token() -> None:
    seen: list[Any] = []

    def unconditional(ids: np.ndarray) -> np.ndarray:
        seen.append(ids.tolist())
        return np.zeros((1, 9))

    made = lp.build_processors(
        GenerationConfig(guidance_scale=2.0),
        prompt_ids=np.array([[1, 5]]),
        vocab_size=9,
        unconditional=unconditional,
    )
    for ids in ([[1, 5]], [[1, 5, 6]], [[1, 5, 6, 7]]):
        lp.process(made, np.array(ids), np.zeros((1, 9)))
    assert seen == [[[5]], [[5, 6]], [[5, 6, 7]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_number_is_replaced(dtype: Any) -> None:
    limits = np.finfo(dtype)
    scores = np.array([[np.nan, INF, -INF, 1.5]], dtype)
    found = lp.InfNanRemove()(np.zeros((1, 1), np.int64), scores)
    np.testing.assert_array_equal(found, np.array([[0, limits.max, limits.min, 1.5]], dtype))
    assert np.isnan(scores[0, 0])


@given(step=steps())
def test_normalised_scores_are_log_probabilities(step: Step) -> None:
    check(
        lp.LogitNormalization(),
        step,
        lambda _ids, s: [math.log(x) if x else -INF for x in shares(s)],
    )


# ---- warpers


@given(step=steps(), temperature=st.floats(0.2, 5))
def test_temperature_divides(step: Step, temperature: float) -> None:
    check(lp.Temperature(temperature), step, lambda _ids, s: [x / temperature for x in s])


@given(step=steps(ties=True), k=st.integers(1, 14), kept=st.integers(1, 3))
def test_top_k_keeps_the_k_likeliest_and_ties(step: Step, k: int, kept: int) -> None:
    def define(_ids: list[int], scores: list[float]) -> list[float]:
        limit = sorted(scores, reverse=True)[min(max(k, kept), len(scores)) - 1]
        return strike(scores, lambda word: scores[word] < limit)

    check(lp.TopK(k, kept), step, define)


def far_from_the_edge(value: float, edge: float) -> bool:
    return abs(value - edge) > 1e-5


@given(step=steps(), top_p=st.floats(0.05, 0.95), kept=st.integers(1, 3))
def test_top_p_keeps_the_smallest_set_with_that_probability(
    step: Step, top_p: float, kept: int
) -> None:
    clear = []

    def define(_ids: list[int], scores: list[float]) -> list[float]:
        order, p, nucleus, mass = sorted(range(len(scores)), key=lambda w: -scores[w]), [], [], 0.0
        p = shares(scores)
        for word in order:
            clear.append(far_from_the_edge(mass, top_p))
            if mass < top_p or len(nucleus) < kept:
                nucleus.append(word)
            mass += p[word]
        return strike(scores, lambda word: word not in nucleus)

    for row in step[1].tolist():
        define([], row)
    if all(clear):
        check(lp.TopP(top_p, kept), step, define)


@given(step=steps(ties=True), min_p=st.floats(0.01, 0.9), kept=st.integers(1, 3))
def test_min_p_keeps_what_is_likely_beside_the_likeliest(
    step: Step, min_p: float, kept: int
) -> None:
    def define(_ids: list[int], scores: list[float]) -> list[float]:
        p = shares(scores)
        best = sorted(range(len(p)), key=lambda word: (-scores[word], word))[:kept]
        return strike(scores, lambda word: p[word] < min_p * max(p) and word not in best)

    ratios = [x / max(shares(row)) for row in step[1].tolist() for x in shares(row)]
    if all(far_from_the_edge(x, min_p) for x in ratios):
        check(lp.MinP(min_p, kept), step, define)


@given(step=steps(), typical_p=st.floats(0.05, 0.95), kept=st.integers(1, 3))
def test_typical_sampling_keeps_the_least_surprising_surprises(
    step: Step, typical_p: float, kept: int
) -> None:
    clear = []

    def define(_ids: list[int], scores: list[float]) -> list[float]:
        p = shares(scores)
        h = entropy(p)
        far = [abs(-math.log(x) - h) if x else INF for x in p]
        order, mass, typical = sorted(range(len(p)), key=lambda word: far[word]), 0.0, []
        for word in order:
            clear.append(far_from_the_edge(mass, typical_p))
            if mass < typical_p or len(typical) < kept:
                typical.append(word)
            mass += p[word]
        return strike(scores, lambda word: word not in typical)

    for row in step[1].tolist():
        define([], row)
    if all(clear):
        check(lp.Typical(typical_p, kept), step, define)


@given(step=steps(), cutoff=st.floats(0.001, 0.5), kept=st.integers(1, 3))
def test_cutoffs_strike_out_the_unlikely(step: Step, cutoff: float, kept: int) -> None:
    edges = []

    def below(scores: list[float], limit: float) -> list[float]:
        p = shares(scores)
        edges.extend(far_from_the_edge(x, limit) for x in p)
        best = sorted(scores, reverse=True)[min(kept, len(p)) - 1]
        return strike(scores, lambda word: p[word] < limit and scores[word] < best)

    def eta(_ids: list[int], scores: list[float]) -> list[float]:
        h = entropy(shares(scores))
        return below(scores, min(cutoff, math.sqrt(cutoff) * math.exp(-h)))

    for row in step[1].tolist():
        eta([], row)
        below(row, cutoff)
    if all(edges):
        check(lp.EpsilonCutoff(cutoff, kept), step, lambda _ids, s: below(s, cutoff))
        check(lp.EtaCutoff(cutoff, kept), step, eta)


@pytest.mark.parametrize("kept", [1, 2, 3])
@pytest.mark.parametrize("name", ["TopP", "MinP", "Typical", "EpsilonCutoff", "EtaCutoff"])
def test_some_words_always_stay_and_others_never_do(name: str, kept: int) -> None:
    scores = np.array([[0.0, 9, 1, 2, 3, -1, 4, 5]])
    value = 0.001 if name in ("TopP", "Typical") else 0.99
    found = getattr(lp, name)(value, kept)(np.zeros((1, 1), np.int64), scores)
    assert np.isfinite(found).sum() == kept
    assert np.isfinite(found[0, 1])


def test_of_equal_words_the_first_are_struck_out_by_top_p_and_kept_by_min_p() -> None:
    ids, scores = np.zeros((1, 1), np.int64), np.zeros((1, 4))
    found = lp.TopP(0.5)(ids, scores)
    np.testing.assert_array_equal(found, [[-INF, -INF, 0, 0]])
    scores = np.array([[0.0, -9, -9, -9]])
    found = lp.MinP(0.5, 2)(ids, scores)
    np.testing.assert_array_equal(found, [[0, -9, -INF, -INF]])


# ---- lists


def names_of(config: GenerationConfig, **options: Any) -> list[str]:
    made = lp.build_processors(config, prompt_ids=np.array([[1]]), vocab_size=9, **options)
    return [type(processor).__name__ for processor in made]


def test_a_plain_config_asks_for_nothing() -> None:
    assert names_of(GenerationConfig()) == []
    assert names_of(GenerationConfig(do_sample=True)) == ["TopK"]


def test_processors_stand_in_the_order_of_transformers() -> None:
    config = GenerationConfig(
        do_sample=True, guidance_scale=1.5, no_immediate_repeat=True, sequence_bias={(1,): 1.0},
        encoder_repetition_penalty=1.1, repetition_penalty=1.1, no_repeat_ngram_size=2,
        encoder_no_repeat_ngram_size=2, bad_words_ids=[[3]], min_length=2, min_new_tokens=2,
        forced_bos_token_id=1, forced_eos_token_id=2, remove_invalid_values=True, eos_token_id=2,
        exponential_decay_length_penalty=(3, 1.1), suppress_tokens=[4], begin_suppress_tokens=[5],
        temperature=0.5, top_p=0.9, min_p=0.1, typical_p=0.9, epsilon_cutoff=0.1, eta_cutoff=0.1,
        renormalize_logits=True,
    )  # fmt: skip
    found = names_of(config, prefix_allowed_tokens_fn=len, unconditional=len, user=[Plain()])
    assert found == [
        "ClassifierFreeGuidance", "NoImmediateRepeat", "SequenceBias", "PromptRepetitionPenalty",
        "RepetitionPenalty", "NoRepeatNGram", "PromptNoRepeatNGram", "NoBadWords", "MinLength",
        "MinNewTokens", "PrefixConstrained", "ForcedBos", "ForcedEos", "InfNanRemove",
        "ExponentialDecayLengthPenalty", "SuppressTokens", "SuppressTokensAtBegin", "Plain",
        "Temperature", "TopK", "TopP", "MinP", "Typical", "EpsilonCutoff", "EtaCutoff",
        "LogitNormalization",
    ]  # fmt: skip


class Plain:
    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return scores * 2


def test_the_callers_own_processor_takes_the_place_of_one_of_its_type() -> None:
    own = lp.RepetitionPenalty(3.0)
    made = lp.build_processors(
        GenerationConfig(repetition_penalty=1.1, suppress_tokens=[1]),
        prompt_ids=np.array([[1]]),
        vocab_size=9,
        user=[Plain(), own],
    )
    assert made[0] is own
    assert [type(x).__name__ for x in made] == ["RepetitionPenalty", "SuppressTokens", "Plain"]


def test_without_an_end_token_there_is_no_least_length() -> None:
    assert names_of(GenerationConfig(min_length=3, min_new_tokens=3)) == []


def test_beams_keep_a_word_besides_the_end_tokens() -> None:
    scores, ids = np.array([[9.0, 1, 2, 3, 4]]), np.array([[1]])
    for ends, beams, kept in ((None, 1, 1), (None, 2, 2), (3, 2, 2), ([3, 4], 2, 3), ([3], 1, 1)):
        config = GenerationConfig(do_sample=True, top_k=1, eos_token_id=ends, num_beams=beams)
        made = lp.build_processors(config, prompt_ids=ids, vocab_size=5)
        assert np.isfinite(lp.process(made, ids, scores)).sum() == kept


def test_processors_run_one_after_the_other_and_get_what_they_ask_for() -> None:
    seen = []

    def more(input_ids: Any, scores: Any, beam_group_idx: int, other: int = 7) -> Any:
        seen.append((beam_group_idx, other))
        return scores + 1

    ids, scores = np.array([[1]]), np.array([[1.0, 2.0]])
    found = lp.process([Plain(), more, Plain()], ids, scores, beam_group_idx=3, current_tokens=ids)
    np.testing.assert_array_equal(found, [[6, 10]])
    assert seen == [(3, 7)]
    with pytest.raises(ValueError, match=r"more takes beam_group_idx.*\(input_ids, scores\)"):
        lp.process([more], ids, scores)
    with pytest.raises(ValueError, match=r"Short returned shape \(2,\).*\(1, 2\)"):
        lp.process([Short()], ids, scores)


class Short:
    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return scores[0]


# ---- bad input

NO_IDS = np.array([[1]])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: lp.MinLength(-1, 2), "min_length"),
        (lambda: lp.MinLength(1, -2), "eos_token_id"),
        (lambda: lp.MinLength(1, []), "eos_token_id"),
        (lambda: lp.MinNewTokens(1, 1.5, 2), "min_new_tokens"),
        (lambda: lp.MinNewTokens(-1, 1, 2), "prompt_length"),
        (lambda: lp.ForcedBos(True), "forced_bos_token_id"),
        (lambda: lp.ForcedEos(0, 2), "max_length"),
        (lambda: lp.ForcedEos(3, "a"), "forced_eos_token_id"),
        (lambda: lp.ExponentialDecayLengthPenalty((1,), 2, 1), "exponential_decay_length_penalty"),
        (lambda: lp.ExponentialDecayLengthPenalty((1, 0), 2, 1), "exponential_decay_length"),
        (lambda: lp.RepetitionPenalty(0), "repetition_penalty"),
        (lambda: lp.RepetitionPenalty(math.nan), "repetition_penalty"),
        (lambda: lp.PromptRepetitionPenalty(-1, NO_IDS), "encoder_repetition_penalty"),
        (lambda: lp.NoRepeatNGram(0), "no_repeat_ngram_size"),
        (lambda: lp.PromptNoRepeatNGram(1.0, NO_IDS), "encoder_no_repeat_ngram_size"),
        (lambda: lp.HammingDiversity(0, 4, 2), "diversity_penalty"),
        (lambda: lp.HammingDiversity(1, 1, 2), "num_beams"),
        (lambda: lp.HammingDiversity(1, 4, 1), "num_beam_groups"),
        (lambda: lp.HammingDiversity(1, 4, 5), "num_beam_groups"),
        (lambda: lp.SequenceBias({}), "sequence_bias"),
        (lambda: lp.SequenceBias({1: 1.0}), "sequence_bias"),
        (lambda: lp.SequenceBias([[[1], "a"]]), "sequence_bias"),
        (lambda: lp.NoBadWords([]), "bad_words_ids"),
        (lambda: lp.NoBadWords([[]]), "bad_words_ids"),
        (lambda: lp.NoBadWords([1]), "bad_words_ids"),
        (lambda: lp.SuppressTokens(3), "suppress_tokens"),
        (lambda: lp.SuppressTokensAtBegin([-1], 0), "begin_suppress_tokens"),
        (lambda: lp.SuppressTokensAtBegin([1], -1), "begin"),
        (lambda: lp.PrefixConstrained(3, 1), "prefix_allowed_tokens_fn"),
        (lambda: lp.PrefixConstrained(len, 0), "num_beams"),
        (lambda: lp.ClassifierFreeGuidance("a", len), "guidance_scale"),
        (lambda: lp.Temperature(0), "temperature"),
        (lambda: lp.Temperature(1e-300), "temperature is 1e-300"),
        (lambda: lp.TopK(0), "top_k"),
        (lambda: lp.TopK(1, 0), "min_tokens_to_keep"),
        (lambda: lp.TopP(1.5), "top_p"),
        (lambda: lp.MinP(-0.1), "min_p"),
        (lambda: lp.Typical(1.0), "typical_p"),
        (lambda: lp.EpsilonCutoff(0), "epsilon_cutoff"),
        (lambda: lp.EtaCutoff(1), "eta_cutoff"),
        (lambda: MaxLength(0), "max_length"),
        (lambda: MaxTime(-1), "max_time"),
        (lambda: EosToken([]), "eos_token_id"),
        (lambda: StopStrings("", None), "stop_strings"),
        (lambda: StopStrings(["a", 3], None), "stop_strings"),
        (lambda: PhrasalConstraint([]), "token_ids"),
        (lambda: DisjunctiveConstraint([[1], []]), "nested_token_ids"),
        (lambda: DisjunctiveConstraint([[1], [1, 2]]), "nested_token_ids"),
        (lambda: DisjunctiveConstraint([[1], [1]]), "nested_token_ids"),
        (lambda: ConstraintListState([]), "constraints"),
        (lambda: ConstraintListState(["a"]), "constraints"),
        (lambda: forced_words([[1], 2]), "force_words_ids"),
        (lambda: forced_words([]), "force_words_ids"),
    ],
)
def test_a_bad_value_is_refused_by_name(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*expected"):
        make()


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"bad_words_ids": [[1, 9]]}, {}, r"bad_words_ids.*\[9\].*vocab_size, 9"),
        ({"sequence_bias": {(12, 1): 1.0}}, {}, r"sequence_bias.*\[12\]"),
        ({"forced_bos_token_id": 9}, {}, "forced_bos_token_id"),
        ({"forced_eos_token_id": [1, 10]}, {}, "forced_eos_token_id"),
        ({"guidance_scale": 2.0}, {}, "guidance_scale.*unconditional"),
        ({"exponential_decay_length_penalty": (1, 1.1)}, {}, "decay.*eos_token_id"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    values: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        names_of(GenerationConfig(**values), **options)


@pytest.mark.parametrize("answer", [[], [9], [-1], [0.5], ["a"], None])
def test_a_function_that_allows_nothing_or_no_words_is_refused(answer: Any) -> None:
    processor = lp.PrefixConstrained(lambda _image, _ids: answer, 1)
    with pytest.raises(ValueError, match=r"prefix_allowed_tokens_fn.*image 0.*from 0 to 8"):
        processor(np.array([[1]]), np.zeros((1, 9)))


# ---- stopping


def test_lengths_times_and_end_tokens_stop() -> None:
    ids = np.array([[1, 2, 3], [1, 3, 4]])
    assert MaxLength(3)(ids, None).tolist() == [True, True]
    assert MaxLength(4)(ids, None).tolist() == [False, False]
    assert EosToken(3)(ids, None).tolist() == [True, False]
    assert EosToken([3, 4])(ids, None).tolist() == [True, True]
    assert MaxTime(3600)(ids, None).tolist() == [False, False]
    soon = MaxTime(0)
    time.sleep(0.001)
    assert soon(ids, None).tolist() == [True, True]


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "stop", "##per", "st", "##op", "##opper",
         "a", ".", "non", "##stop"]  # fmt: skip
TOKENIZER = BertTokenizer.from_vocab(WORDS)


@pytest.mark.parametrize(
    ("words", "stops"),
    [
        ("a stop", True),
        ("st ##op", True),
        ("st ##opper", True),
        ("non ##stop", True),
        ("stop ##per", False),  # it had stopped a token earlier
        ("stop a", False),
        ("st op", False),
        ("##op", False),
        ("a st", False),
    ],
)
def test_a_stop_string_ends_a_text_at_the_token_that_completes_it(words: str, stops: bool) -> None:
    ids = np.array([[WORDS.index(w) if w in WORDS else 99 for w in words.split()]])
    assert StopStrings("stop", TOKENIZER)(ids, None).tolist() == [stops]
    assert StopStrings(["xyz", "stop"], TOKENIZER)(ids, None).tolist() == [stops]


def test_spaces_full_stops_and_special_tokens_are_part_of_the_text() -> None:
    def stops(string: str, words: str) -> bool:
        ids = np.array([[WORDS.index(w) for w in words.split()]])
        return bool(StopStrings(string, TOKENIZER)(ids, None)[0])

    assert stops("a stop", "a stop")
    assert not stops("astop", "a stop")
    assert stops("stop.", "stop .")
    assert not stops("stop .", "stop .")
    assert stops("[SEP]", "a [SEP]")


def test_criteria_of_a_config_and_of_the_caller() -> None:
    config = GenerationConfig(max_length=7, max_time=9.0, stop_strings="stop", eos_token_id=3)
    own = MaxTime(5.0)

    def never(input_ids: Any, scores: Any) -> bool:
        return False

    made = build_stopping(config, TOKENIZER, [never, own])
    assert made[1] is own
    assert made[4] is never
    assert [type(x) for x in made[:4]] == [MaxLength, MaxTime, StopStrings, EosToken]
    ids = np.array([[10, 5], [10, 3], [10, 10]])
    assert done(made, ids, None).tolist() == [True, True, False]
    assert len(build_stopping(GenerationConfig(max_length=7))) == 1
    with pytest.raises(ValueError, match=r"stop_strings is 'stop'.*tokenizer="):
        build_stopping(config)


@pytest.mark.parametrize("answer", [[True], 1, [0, 1, 0], None])
def test_a_criterion_that_answers_with_something_else_is_refused(answer: Any) -> None:
    def wrong(input_ids: Any, scores: Any) -> Any:
        return answer

    with pytest.raises(ValueError, match=r"wrong returned.*booleans of shape \(3,\)"):
        done([wrong], np.zeros((3, 2), np.int64), None)


# ---- constraints

TOKEN = st.integers(0, 3)


@given(phrase=st.lists(TOKEN, min_size=1, max_size=3), walk=st.lists(TOKEN, max_size=9))
def test_a_phrase_is_complete_once_its_tokens_came_in_a_row(
    phrase: list[int], walk: list[int]
) -> None:
    constraint, came = PhrasalConstraint(phrase), 0
    for token in walk:
        assert constraint.remaining() == len(phrase) - came
        wanted = phrase[came] if came < len(phrase) else None
        assert constraint.advance() == wanted
        assert constraint.does_advance(token) == (token == wanted)
        came = came + 1 if token == wanted else 0
        complete = came == len(phrase)
        assert constraint.update(token) == (came > 0, complete, came == 0)
        assert constraint.completed == complete
    assert constraint.copy(stateful=True).remaining() == len(phrase) - came
    assert constraint.copy().remaining() == len(phrase)
    constraint.reset()
    assert constraint.remaining() == len(phrase)


def test_one_of_several_phrases_is_enough() -> None:
    constraint = DisjunctiveConstraint([[1, 2, 3], [1, 4]])
    assert (constraint.advance(), constraint.remaining()) == ([1], 3)
    assert constraint.update(1) == (True, False, False)
    assert (constraint.advance(), constraint.remaining()) == ([2, 4], 2)
    other = constraint.copy(stateful=True)
    assert other.update(4) == (True, True, False)
    assert (other.completed, other.remaining(), other.advance()) == (True, 0, None)
    fresh = constraint.copy()
    assert fresh.update(2) == (False, False, True)
    assert fresh.advance() == [1]


def test_progress_is_shared_by_stateful_copies_as_in_transformers() -> None:
    constraint = DisjunctiveConstraint([[1, 2], [1, 3]])
    constraint.update(1)
    constraint.copy(stateful=True).update(2)
    assert constraint.copy(stateful=True).update(3) == (False, False, True)


def test_a_beam_has_one_constraint_in_progress_and_counts_what_is_fulfilled() -> None:
    state = ConstraintListState(forced_words([[1, 2], [3]]))
    assert (state.advance(), state.get_bank()) == ([1, 3], 0)
    assert state.add(0) == (False, False)
    assert state.add(1) == (False, True)
    assert (state.advance(), state.get_bank()) == ([2], 1)
    assert state.add(3) == (False, False)  # the phrase is broken off, and 3 does not count
    assert (state.advance(), state.get_bank()) == ([3, 1], 0)
    assert state.add(3) == (True, True)
    assert (state.advance(), state.get_bank(), state.completed) == ([1], 2, False)
    copy = state.copy()
    assert (copy.advance(), copy.get_bank()) == ([1], 2)
    for token in (1, 2):
        state.add(token)
    assert (state.completed, state.advance(), state.get_bank()) == (True, None, 4)
    assert state.add(1) == (True, False)
    assert state.copy().completed
    assert not state.copy(stateful=False).completed
    assert not copy.completed
    state.reset([1, 2])
    assert (state.completed, state.get_bank()) == (False, 2)


@given(
    words=st.lists(st.lists(TOKEN, min_size=1, max_size=2), min_size=1, max_size=3),
    walk=st.lists(TOKEN, max_size=12),
)
def test_reading_a_text_at_once_is_taking_its_tokens_one_by_one(
    words: list[list[int]], walk: list[int]
) -> None:
    one, other = ConstraintListState(forced_words(words)), ConstraintListState(forced_words(words))
    one.reset(walk)
    for token in walk:
        other.add(token)
    assert (one.get_bank(), one.advance(), one.completed) == (
        other.get_bank(), other.advance(), other.completed,
    )  # fmt: skip
    if one.completed:  # then the text has each phrase
        text = ",".join(map(str, walk))
        assert all(",".join(map(str, word)) in text for word in words)


@pytest.mark.parametrize("token", [1.0, "1", True, None, -1])
def test_constraints_take_token_ids_alone(token: Any) -> None:
    for machine in (PhrasalConstraint([1]), DisjunctiveConstraint([[1]])):
        with pytest.raises(TypeError, match="token_id"):
            machine.update(token)
    with pytest.raises(TypeError, match="token_id"):
        ConstraintListState([PhrasalConstraint([1])]).add(token)


class Liar(PhrasalConstraint):
    def does_advance(self, token_id: int) -> bool:
        return True

    def update(self, token_id: int) -> tuple[bool, bool, bool]:
        return False, False, True


def test_a_constraint_that_contradicts_itself_is_refused() -> None:
    assert issubclass(Liar, Constraint)
    with pytest.raises(ValueError, match="Liar"):
        ConstraintListState([Liar([1])]).add(1)
