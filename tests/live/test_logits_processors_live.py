"""Live parity of what generation is made of with transformers 4.56.2: drawn examples.

Each logits processor and the list a config asks for, the constraints' machines, stop strings,
the config's files, and which search a config means.

    OMP_NUM_THREADS=1 python -m pytest tests/live/test_logits_processors_live.py
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.oracle import only, torch, transformers
from helpers.processors import processors as ours
from refgit.generation.config import NAMES, GenerationConfig
from refgit.generation.config import constraints as ours_constraints
from refgit.generation.resolve import check_combination, fill
from refgit.generation.search import choose
from refgit.generation.stopping import EosToken, MaxLength, StopStrings
from refgit.model.config import GitConfig
from refgit.processing.text.tokenizer import BertTokenizer

only("4")

theirs = transformers.generation.logits_process
their_constraints = transformers.generation.beam_constraints
their_stopping = transformers.generation.stopping_criteria

pytestmark = [pytest.mark.oracle]

INF = float("inf")
OURS = ("beam_scoring", "no_immediate_repeat")  # what transformers does not have
SEEN: Counter[str] = Counter()  # what the draws came to
DTYPES = st.sampled_from(["float32", "float64"])


@st.composite
def steps(
    draw: st.DrawFn, *, words: int = 20, rows: int = 4, struck: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Ids (B, T) and scores (B, V), no two of a row equal; some words may be struck out."""
    vocab, batch = draw(st.integers(4, words)), draw(st.integers(1, rows))
    length, seed = draw(st.integers(1, 9)), draw(st.integers(0, 2**31))
    scale, dtype = draw(st.sampled_from([0.3, 2.0, 9.0])), draw(DTYPES)
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, draw(st.integers(2, vocab)), (batch, length))
    scores = (rng.standard_normal((batch, vocab)) * scale).astype(dtype)
    if struck and draw(st.booleans()):
        out = rng.random(scores.shape) < 0.3
        out[:, rng.integers(vocab)] = False
        scores[out] = -INF
    return ids, scores


def run_theirs(processor: Any, ids: np.ndarray, scores: np.ndarray, *more: Any) -> np.ndarray:
    return processor(torch.from_numpy(ids), torch.from_numpy(scores.copy()), *more).numpy()


def assert_equal(found: np.ndarray, wanted: np.ndarray) -> None:
    """The same words struck out, the same scores to rounding."""
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(wanted))
    tolerance = 1e-5 if found.dtype == np.float32 else 1e-10
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def check(mine: Any, other: Any, step: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    ids, scores = step
    before = ids.copy(), scores.copy()
    found = mine(ids, scores)
    assert_equal(found, run_theirs(other, ids, scores))
    np.testing.assert_array_equal(ids, before[0])
    np.testing.assert_array_equal(scores, before[1])
    return found


def ids_below(vocab: int, **options: Any) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, vocab - 1), min_size=1, **options)


# ---- each processor


@given(step=steps(), least=st.integers(0, 10), ends=ids_below(30, max_size=3), data=st.data())
def test_the_end_before_a_least_length(
    step: Any, least: int, ends: list[int], data: st.DataObject
) -> None:
    check(ours.MinLength(least, ends), theirs.MinLengthLogitsProcessor(least, ends), step)
    prompt = data.draw(st.integers(0, step[0].shape[1]))
    check(
        ours.MinNewTokens(prompt, least, ends),
        theirs.MinNewTokensLengthLogitsProcessor(prompt, least, ends),
        step,
    )


@given(step=steps(), length=st.integers(1, 11), data=st.data())
def test_forced_ends(step: Any, length: int, data: st.DataObject) -> None:
    tokens = data.draw(ids_below(step[1].shape[1], max_size=3))
    check(ours.ForcedBos(tokens[0]), theirs.ForcedBOSTokenLogitsProcessor(tokens[0]), step)
    first = step[0][:, :1], step[1]
    check(ours.ForcedBos(tokens[0]), theirs.ForcedBOSTokenLogitsProcessor(tokens[0]), first)
    check(
        ours.ForcedEos(length, tokens), theirs.ForcedEOSTokenLogitsProcessor(length, tokens), step
    )


@given(
    step=steps(struck=False),
    start=st.integers(0, 5),
    factor=st.floats(0.5, 2),
    prompt=st.integers(0, 5),
    data=st.data(),
)
def test_a_decay_towards_the_end(
    step: Any, start: int, factor: float, prompt: int, data: st.DataObject
) -> None:
    ends = data.draw(ids_below(step[1].shape[1], max_size=3))
    check(
        ours.ExponentialDecayLengthPenalty((start, factor), ends, prompt),
        theirs.ExponentialDecayLengthPenalty((start, factor), ends, prompt),
        step,
    )


@given(step=steps(), penalty=st.floats(0.1, 5))
def test_a_penalty_of_repetition(step: Any, penalty: float) -> None:
    check(ours.RepetitionPenalty(penalty), theirs.RepetitionPenaltyLogitsProcessor(penalty), step)
    prompt = step[0][:, :2]
    check(
        ours.PromptRepetitionPenalty(penalty, prompt),
        theirs.EncoderRepetitionPenaltyLogitsProcessor(penalty, torch.from_numpy(prompt)),
        step,
    )


@given(step=steps(), size=st.integers(1, 5), beams=st.integers(1, 3))
def test_no_repeated_ngrams(step: Any, size: int, beams: int) -> None:
    check(ours.NoRepeatNGram(size), theirs.NoRepeatNGramLogitsProcessor(size), step)
    ids, scores = (np.repeat(x, beams, axis=0) for x in step)
    prompts = np.random.default_rng(size).permuted(step[0], axis=1)
    check(
        ours.PromptNoRepeatNGram(size, prompts),
        theirs.EncoderNoRepeatNGramLogitsProcessor(size, torch.from_numpy(prompts)),
        (ids, scores),
    )


def test_ngrams_do_repeat_in_the_draws_above() -> None:
    """Else nothing would have been struck out."""
    rng = np.random.default_rng(0)
    ids, scores = rng.integers(0, 3, (4, 9)), rng.standard_normal((4, 6))
    for size in (1, 2, 3):
        found = check(ours.NoRepeatNGram(size), theirs.NoRepeatNGramLogitsProcessor(size),
                      (ids, scores))  # fmt: skip
        assert np.isneginf(found).any()


# Biases that float32 holds: transformers rounds them, float64 scores or not.
BIASES = st.integers(-40, 40).map(lambda x: x / 4)


@st.composite
def phrases(draw: st.DrawFn, vocab: int, ids: np.ndarray) -> list[list[int]]:
    """Sequences of words, some of which the texts are about to write."""
    found = draw(st.lists(ids_below(vocab, max_size=3), min_size=1, max_size=5))
    for _ in range(draw(st.integers(0, 3))):
        row, length = draw(st.integers(0, len(ids) - 1)), draw(st.integers(0, 3))
        end = ids[row, ids.shape[1] - min(length, ids.shape[1]) :].tolist()
        found.append([*end, draw(st.integers(0, vocab - 1))])
    return found


@given(step=steps(), data=st.data())
def test_biases_of_sequences_and_bad_words(step: Any, data: st.DataObject) -> None:
    ids, scores = step
    words = data.draw(phrases(scores.shape[1], ids))
    bias = {tuple(ids): data.draw(BIASES) for ids in words}
    check(ours.SequenceBias(bias), theirs.SequenceBiasLogitsProcessor(bias), step)
    pairs = [[list(ids), value] for ids, value in bias.items()]
    np.testing.assert_array_equal(ours.SequenceBias(pairs)(*step), ours.SequenceBias(bias)(*step))
    ends = data.draw(st.none() | ids_below(scores.shape[1], max_size=2))
    check(ours.NoBadWords(words, ends), theirs.NoBadWordsLogitsProcessor(words, ends), step)


@given(step=steps(), tokens=ids_below(30, max_size=5), begin=st.integers(0, 9))
def test_suppressed_words(step: Any, tokens: list[int], begin: int) -> None:
    check(ours.SuppressTokens(tokens), theirs.SuppressTokensLogitsProcessor(tokens), step)
    check(
        ours.SuppressTokensAtBegin(tokens, begin),
        theirs.SuppressTokensAtBeginLogitsProcessor(tokens, begin),
        step,
    )


@given(step=steps(), beams=st.integers(1, 3))
def test_allowed_words(step: Any, beams: int) -> None:
    ids, scores = (np.repeat(x, beams, axis=0) for x in step)
    vocab, seen = scores.shape[1], []

    def allowed(image: int, text: Any) -> list[int]:
        seen.append((image, text.tolist()))
        return [image % vocab, int(text[-1]) % vocab]

    check(
        ours.PrefixConstrained(allowed, beams),
        theirs.PrefixConstrainedLogitsProcessor(allowed, beams),
        (ids, scores),
    )
    assert seen[: len(ids)] == seen[len(ids) :]


@given(step=steps(struck=False), data=st.data())
def test_invalid_values_and_normalisation(step: Any, data: st.DataObject) -> None:
    scores = step[1]
    check(ours.LogitNormalization(), theirs.LogitNormalization(), step)
    places = data.draw(st.lists(st.integers(0, scores.size - 1), max_size=5))
    scores.flat[places] = data.draw(st.sampled_from([np.nan, INF, -INF]))
    check(ours.InfNanRemove(), theirs.InfNanRemoveLogitsProcessor(), step)


@given(
    seed=st.integers(0, 99),
    groups=st.integers(2, 4),
    size=st.integers(1, 3),
    rest=st.integers(0, 1),
    batch=st.integers(1, 3),
    penalty=st.integers(1, 24).map(lambda x: x / 8),  # that float32 holds, see BIASES
    dtype=DTYPES,
)
def test_diversity_between_groups(
    seed: int, groups: int, size: int, rest: int, batch: int, penalty: float, dtype: str
) -> None:
    rng, beams = np.random.default_rng(seed), groups * size + rest
    tokens = rng.integers(0, 5, batch * beams)
    mine = ours.HammingDiversity(penalty, beams, groups)
    other = theirs.HammingDiversityLogitsProcessor(penalty, beams, groups)
    for group in range(groups):
        scores = rng.standard_normal((batch * size, 5)).astype(dtype)
        ids = rng.integers(0, 5, (batch * size, 3))
        found = mine(ids, scores, tokens, group)
        assert_equal(found, run_theirs(other, ids, scores, torch.from_numpy(tokens), group))


@given(step=steps(), scale=st.floats(-1, 4))
def test_guidance(step: Any, scale: float) -> None:
    ids, scores = step[0], np.where(np.isneginf(step[1]), -30, step[1])
    without = np.random.default_rng(0).standard_normal(scores.shape).astype(scores.dtype)

    class Model:
        def __call__(self, *_args: Any, **_options: Any) -> Any:
            logits = torch.from_numpy(without)[:, None]
            return transformers.utils.ModelOutput(logits=logits)

    check(
        ours.ClassifierFreeGuidance(scale, lambda _: without),
        theirs.UnbatchedClassifierFreeGuidanceLogitsProcessor(scale, Model()),
        (ids, scores),
    )


# ---- each warper

KEPT = st.integers(1, 4)


@given(step=steps(words=60), temperature=st.floats(0.1, 5), k=st.integers(1, 70), kept=KEPT)
def test_temperature_and_top_k(step: Any, temperature: float, k: int, kept: int) -> None:
    check(ours.Temperature(temperature), theirs.TemperatureLogitsWarper(temperature), step)
    check(ours.TopK(k, kept), theirs.TopKLogitsWarper(k, min_tokens_to_keep=kept), step)


@given(step=steps(words=60), share=st.floats(0.001, 0.999), kept=KEPT)
def test_top_p_min_p_and_typical_p(step: Any, share: float, kept: int) -> None:
    for name, other in (
        ("TopP", theirs.TopPLogitsWarper),
        ("MinP", theirs.MinPLogitsWarper),
        ("Typical", theirs.TypicalLogitsWarper),
    ):
        check(getattr(ours, name)(share, kept), other(share, min_tokens_to_keep=kept), step)


# Cutoffs that float32 holds: transformers rounds eta, float64 scores or not.
@given(step=steps(words=60), cutoff=st.integers(1, 255).map(lambda x: x / 256), kept=KEPT)
def test_cutoffs(step: Any, cutoff: float, kept: int) -> None:
    for name, other in (
        ("EpsilonCutoff", theirs.EpsilonLogitsWarper),
        ("EtaCutoff", theirs.EtaLogitsWarper),
    ):
        check(getattr(ours, name)(cutoff, kept), other(cutoff, min_tokens_to_keep=kept), step)


@given(
    seed=st.integers(0, 999),
    vocab=st.integers(2, 60),
    share=st.floats(0.01, 0.99),
    kept=KEPT,
    dtype=DTYPES,
)
def test_among_equal_scores_as_many_stay(
    seed: int, vocab: int, share: float, kept: int, dtype: str
) -> None:
    """Which of them is up to torch's sort, which is not stable."""
    rng = np.random.default_rng(seed)
    ids, scores = rng.integers(0, vocab, (3, 2)), rng.integers(0, 3, (3, vocab)).astype(dtype)
    for name, other in (
        ("TopK", theirs.TopKLogitsWarper),
        ("TopP", theirs.TopPLogitsWarper),
        ("MinP", theirs.MinPLogitsWarper),
    ):
        value = 1 + seed % vocab if name == "TopK" else share
        found = getattr(ours, name)(value, kept)(ids, scores)
        wanted = run_theirs(other(value, min_tokens_to_keep=kept), ids, scores)
        np.testing.assert_array_equal(np.sort(found), np.sort(wanted))
        if vocab <= 16:  # there torch's sort is stable
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ["TopP", "MinP", "Typical", "EpsilonCutoff", "EtaCutoff"])
def test_with_the_vocabulary_of_bert(name: str) -> None:
    rng = np.random.default_rng(0)
    scores = (rng.standard_normal((8, 30522)) * 3).astype(np.float32)
    ids = rng.integers(0, 30522, (8, 5))
    other = {
        "TopP": "TopP", "MinP": "MinP", "Typical": "Typical", "EpsilonCutoff": "Epsilon",
        "EtaCutoff": "Eta",
    }[name]  # fmt: skip
    value = 0.9 if name in ("TopP", "Typical") else 0.0005
    wanted = run_theirs(getattr(theirs, f"{other}LogitsWarper")(value), ids, scores)
    found = getattr(ours, name)(value)(ids, scores)
    different = np.isneginf(found) != np.isneginf(wanted)
    assert different.sum(axis=1).max() <= 1  # a sum over so many words, at the edge
    assert 1 < np.isfinite(wanted).sum(axis=1).min() < 29000


# ---- all that a config asks for

OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "sequence_bias": st.dictionaries(
        ids_below(9, max_size=2).map(tuple), BIASES.filter(bool), min_size=1, max_size=4
    ),
    "repetition_penalty": st.floats(0.5, 2),
    "no_repeat_ngram_size": st.integers(0, 3),
    "encoder_repetition_penalty": st.floats(0.5, 2),
    "encoder_no_repeat_ngram_size": st.integers(0, 3),
    "bad_words_ids": st.lists(ids_below(9, max_size=2), min_size=1, max_size=3),
    "min_length": st.integers(0, 8),
    "min_new_tokens": st.integers(0, 8),
    "forced_bos_token_id": st.integers(0, 8),
    "forced_eos_token_id": st.integers(0, 8),
    "remove_invalid_values": st.booleans(),
    "suppress_tokens": ids_below(9, max_size=2),
    "begin_suppress_tokens": ids_below(9, max_size=2),
    "renormalize_logits": st.booleans(),
    "do_sample": st.booleans(),
    "temperature": st.sampled_from([0.5, 1.0, 2.0]),
    "top_k": st.integers(0, 9),
    "top_p": st.floats(0.1, 1),
    "min_p": st.floats(0, 0.5),
    "typical_p": st.floats(0.1, 1),
    "epsilon_cutoff": st.sampled_from([0.0, 1 / 64, 1 / 8]),
    "eta_cutoff": st.sampled_from([0.0, 1 / 64, 1 / 8]),
    "eos_token_id": st.none() | st.integers(0, 8) | st.lists(st.integers(0, 8), min_size=1),
    "num_beams": st.integers(1, 3),
}


class Oracle(transformers.generation.GenerationMixin):
    """As much of a model as it takes to make the list of processors."""

    def processors(
        self, values: dict[str, Any], prompt: np.ndarray, user: list[Any], allowed: Any
    ) -> Any:
        config = transformers.GenerationConfig(**values)
        ends = values.get("eos_token_id")
        config._eos_token_tensor = None if ends is None else torch.tensor(np.atleast_1d(ends))
        return self._get_logits_processor(
            generation_config=config,
            input_ids_seq_length=prompt.shape[1],
            encoder_input_ids=torch.from_numpy(prompt),
            prefix_allowed_tokens_fn=allowed,
            logits_processor=user,
            device="cpu",
        )


def subsets(options: dict[str, Any], most: int) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(options)), unique=True, max_size=most)
    return names.flatmap(lambda keys: st.fixed_dictionaries({k: options[k] for k in keys}))


class TheirHalf(theirs.LogitsProcessor):  # type: ignore[misc]
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return scores * 0.5


class OurHalf:
    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return scores * scores.dtype.type(0.5)


@settings(max_examples=400)
@given(
    values=subsets(OPTIONS, 8),
    length=st.integers(1, 3),
    more=st.integers(0, 5),
    seed=st.integers(0, 10**6),
    custom=st.sampled_from(["", "other", "same", "both"]),
    constrained=st.booleans(),
    dtype=DTYPES,
)
def test_the_processors_of_a_config(
    values: dict[str, Any],
    length: int,
    more: int,
    seed: int,
    custom: str,
    constrained: bool,
    dtype: str,
) -> None:
    values = {"max_length": 7, **values}
    rng, beams = np.random.default_rng(seed), values.get("num_beams", 1)
    batch = 1 if "encoder_repetition_penalty" in values else 2
    beams = 1 if "encoder_repetition_penalty" in values else beams  # see PromptRepetitionPenalty
    prompt = rng.integers(0, 9, (batch, length))
    new = rng.integers(0, 9, (batch * beams, more))
    ids = np.concatenate([np.repeat(prompt, beams, axis=0), new], axis=1)
    scores = (rng.standard_normal((batch * beams, 9)) * 2).astype(dtype)
    values["num_beams"] = beams

    def allowed(image: int, text: Any) -> list[int]:
        return [image, 3, 4, int(text[-1])]

    their_user, our_user = [], []
    if custom in ("same", "both"):
        their_user.append(theirs.RepetitionPenaltyLogitsProcessor(1.5))
        our_user.append(ours.RepetitionPenalty(1.5))
    if custom in ("other", "both"):
        their_user.append(TheirHalf())
        our_user.append(OurHalf())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = Oracle().processors(values, prompt, their_user, allowed if constrained else None)
    found = ours.build_processors(
        GenerationConfig(**values),
        prompt_ids=prompt,
        vocab_size=9,
        prefix_allowed_tokens_fn=allowed if constrained else None,
        user=our_user,
    )
    assert [type(x).__name__ for x in found] == [OUR_NAMES[type(x).__name__] for x in wanted]
    try:
        result = run_theirs(wanted, ids, scores)
    except ValueError:  # eta sampling, where all words are struck out
        return
    struck = np.isneginf(result)
    if struck.all(axis=1).any() or not (np.abs(result[~struck]) < 1e30).all():
        return  # no word is left, or infinite scores were made huge: what follows is rounding
    assert_equal(ours.process(found, ids, scores), result)
    SEEN["compared"] += 1
    SEEN["struck out"] += struck.any()


def test_most_lists_above_were_compared() -> None:
    assert SEEN["compared"] >= 200
    assert SEEN["struck out"] >= 100


OUR_NAMES = {
    "MinLengthLogitsProcessor": "MinLength",
    "MinNewTokensLengthLogitsProcessor": "MinNewTokens",
    "ForcedBOSTokenLogitsProcessor": "ForcedBos",
    "ForcedEOSTokenLogitsProcessor": "ForcedEos",
    "ExponentialDecayLengthPenalty": "ExponentialDecayLengthPenalty",
    "RepetitionPenaltyLogitsProcessor": "RepetitionPenalty",
    "EncoderRepetitionPenaltyLogitsProcessor": "PromptRepetitionPenalty",
    "NoRepeatNGramLogitsProcessor": "NoRepeatNGram",
    "EncoderNoRepeatNGramLogitsProcessor": "PromptNoRepeatNGram",
    "SequenceBiasLogitsProcessor": "SequenceBias",
    "NoBadWordsLogitsProcessor": "NoBadWords",
    "SuppressTokensLogitsProcessor": "SuppressTokens",
    "SuppressTokensAtBeginLogitsProcessor": "SuppressTokensAtBegin",
    "PrefixConstrainedLogitsProcessor": "PrefixConstrained",
    "InfNanRemoveLogitsProcessor": "InfNanRemove",
    "LogitNormalization": "LogitNormalization",
    "TemperatureLogitsWarper": "Temperature",
    "TopKLogitsWarper": "TopK",
    "TopPLogitsWarper": "TopP",
    "MinPLogitsWarper": "MinP",
    "TypicalLogitsWarper": "Typical",
    "EpsilonLogitsWarper": "EpsilonCutoff",
    "EtaLogitsWarper": "EtaCutoff",
    "TheirHalf": "OurHalf",
}


# ---- constraints


@st.composite
def alternatives(draw: st.DrawFn) -> list[list[int]]:
    """Phrases of which none begins another."""
    drawn = draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1))
    kept: list[list[int]] = []
    for phrase in drawn:
        if all(phrase[: len(x)] != x and x[: len(phrase)] != phrase for x in kept):
            kept.append(phrase)
    return kept


PHRASES = st.lists(st.integers(0, 3), min_size=1, max_size=3)
WALKS = st.lists(st.integers(0, 3), max_size=12)


def both_constraints(words: list[Any]) -> tuple[list[Any], list[Any]]:
    theirs_of = [
        their_constraints.DisjunctiveConstraint(x)
        if isinstance(x[0], list)
        else their_constraints.PhrasalConstraint(x)
        for x in words
    ]
    return ours_constraints.forced_words(words), theirs_of


@given(word=PHRASES | alternatives(), walk=WALKS)
def test_a_constraint_walks_as_in_transformers(word: Any, walk: list[int]) -> None:
    (mine,), (other,) = both_constraints([word])
    for token in walk:
        assert mine.advance() == other.advance()
        assert mine.remaining() == other.remaining()
        assert mine.seqlen == other.seqlen
        assert mine.completed == other.completed
        assert mine.does_advance(token) == other.does_advance(token)
        result = mine.update(token)
        assert result == other.update(token)
        if result[2]:  # what a phrase remembers after a reset is transformers' mistake
            mine, other = mine.copy(), other.copy(stateful=False)
        for stateful in (False, True):
            copies = mine.copy(stateful), other.copy(stateful)
            assert copies[0].remaining() == copies[1].remaining()
            assert copies[0].advance() == copies[1].advance()


@settings(max_examples=300)
@given(words=st.lists(PHRASES | alternatives(), min_size=1, max_size=3), walk=WALKS)
def test_the_constraints_of_a_beam_walk_as_in_transformers(
    words: list[Any], walk: list[int]
) -> None:
    mine, other = both_constraints(words)
    state = ours_constraints.ConstraintListState(mine)
    wanted = their_constraints.ConstraintListState(other)
    for end, token in enumerate(walk):
        assert state.advance() == wanted.advance()
        assert state.get_bank() == wanted.get_bank()
        assert state.completed == wanted.completed
        if not state.completed:  # as the search does: what if each of the next tokens came?
            for candidate in state.advance() or []:
                tried, their_try = state.copy(), wanted.copy(stateful=True)
                assert tried.add(candidate) == their_try.add(candidate)
                assert tried.get_bank() == their_try.get_bank()
            state.reset(walk[:end])  # the trials above leave traces, there as here
            wanted.reset(walk[:end])
        assert state.add(token) == wanted.add(token)
    state = ours_constraints.ConstraintListState(mine)
    wanted = their_constraints.ConstraintListState(other)  # reset does not take back `completed`
    state.reset(walk)
    wanted.reset(walk)
    assert (state.get_bank(), state.advance()) == (wanted.get_bank(), wanted.advance())


# ---- stopping

VOCAB = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b", "ab", "##ab", "##ba",
    "aba", ".", "##.", "!", "'", "s", "n't", "abcdef", "##", "do",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(VOCAB))
    return BertTokenizer.from_vocab(VOCAB), transformers.BertTokenizerFast(folder / "vocab.txt")


@settings(max_examples=400)
@given(
    strings=st.lists(st.text("ab .!'n", min_size=1, max_size=5) | st.just("[SEP]"), min_size=1,
                     max_size=3),
    seed=st.integers(0, 10**6),
    length=st.integers(1, 8),
)  # fmt: skip
def test_stop_strings(tokenizers: Any, strings: list[str], seed: int, length: int) -> None:
    ids = np.random.default_rng(seed).integers(0, len(VOCAB) + 2, (40, length))
    try:
        other = their_stopping.StopStringCriteria(tokenizers[1], strings)
    except ValueError:  # no token has an end of the string; refgit then never stops
        assert not StopStrings(strings, tokenizers[0])(ids, None).any()
        return
    found = StopStrings(strings, tokenizers[0])(ids, None)
    np.testing.assert_array_equal(found, other(torch.from_numpy(ids), None).numpy())
    SEEN["stopped"] += int(found.sum())


def test_some_texts_did_stop_above() -> None:
    assert SEEN["stopped"] > 100


@given(step=steps(), length=st.integers(1, 10), ends=ids_below(20, max_size=3))
def test_lengths_and_end_tokens(step: Any, length: int, ends: list[int]) -> None:
    ids = torch.from_numpy(step[0])
    for mine, other in (
        (MaxLength(length), their_stopping.MaxLengthCriteria(length)),
        (EosToken(ends), their_stopping.EosTokenCriteria(ends)),
    ):
        np.testing.assert_array_equal(mine(step[0], None), other(ids, None).numpy())


# ---- the config and its file

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **OPTIONS,
    "sequence_bias": st.lists(
        st.tuples(ids_below(9, max_size=2), BIASES).map(list), min_size=1, max_size=3
    ),
    "max_length": st.integers(1, 99),
    "max_new_tokens": st.none() | st.integers(1, 99),
    "early_stopping": st.sampled_from([True, False, "never"]),
    "max_time": st.none() | st.floats(0, 9),
    "stop_strings": st.none() | st.just("a") | st.just(["a", "b"]),
    "num_beams": st.integers(1, 4),
    "penalty_alpha": st.none() | st.floats(0, 1),
    "use_cache": st.booleans(),
    "top_k": st.none() | st.integers(0, 9),
    "temperature": st.none() | st.floats(0, 2),
    "length_penalty": st.floats(-2, 2),
    "force_words_ids": st.none() | st.lists(PHRASES | alternatives(), min_size=1, max_size=2),
    "exponential_decay_length_penalty": st.none() | st.just([3, 1.5]),
    "guidance_scale": st.none() | st.floats(1, 2),
    "output_scores": st.booleans(),
    "output_logits": st.sampled_from([None, True, False]),
    "output_attentions": st.booleans(),
    "return_dict_in_generate": st.booleans(),
    "pad_token_id": st.none() | st.integers(0, 8),
    "bos_token_id": st.none() | st.integers(0, 8),
    "forced_eos_token_id": st.none() | st.integers(0, 8) | ids_below(9, max_size=2),
    "num_assistant_tokens": st.integers(1, 5),
    "something_else": st.sampled_from([1, "a", [2]]),
}


def quietly(make: Any, *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **options)


def consistent(values: dict[str, Any]) -> bool:
    """Whether transformers takes these values."""
    try:
        quietly(transformers.GenerationConfig, **values)
    except ValueError:
        return False
    return True


def assert_same_values(mine: GenerationConfig, other: Any) -> None:
    for name, value in mine.to_dict().items():
        if name not in OURS and not name.startswith("_"):
            assert getattr(other, name) == value, name


@settings(max_examples=200)
@given(values=subsets(FIELDS, 9).filter(consistent))
def test_files_are_read_to_equal_values_both_ways(values: dict[str, Any]) -> None:
    theirs_of = quietly(transformers.GenerationConfig, **values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generation_config.json"
        path.write_text(theirs_of.to_json_string())
        mine = GenerationConfig.from_pretrained(folder, GitConfig())
        assert_same_values(mine, theirs_of)
        GenerationConfig.from_dict(values).save_pretrained(folder)
        again = quietly(transformers.GenerationConfig.from_pretrained, folder)
        assert again == theirs_of
        written = set(json.loads(path.read_text()))
        assert written == set(json.loads(theirs_of.to_json_string())) - {"transformers_version"}


def test_fields_and_defaults_are_those_of_transformers() -> None:
    assert_same_values(GenerationConfig(), transformers.GenerationConfig())
    named = set(vars(transformers.GenerationConfig()))
    assert set(NAMES) - set(OURS) <= named


@given(
    values=subsets(
        {
            "do_sample": st.booleans(),
            "num_beams": st.integers(1, 4),
            "num_beam_groups": st.integers(1, 4),
            "diversity_penalty": st.sampled_from([0.0, 0.5]),
            "penalty_alpha": st.sampled_from([None, 0.0, 0.6]),
            "top_k": st.sampled_from([None, 0, 1, 4]),
            "force_words_ids": st.sampled_from([None, [[1]]]),
            "num_return_sequences": st.integers(1, 4),
        },
        7,
    )
)
@settings(max_examples=300)
def test_the_search_a_config_means_and_what_contradicts_itself(values: dict[str, Any]) -> None:
    mine = GenerationConfig(**values)
    try:
        check_combination(mine)
    except ValueError:
        # transformers refuses some of these only once the search begins
        late = mine.num_beams == 1 and mine.force_words_ids is not None
        late |= mine.num_beam_groups == 1 and bool(mine.diversity_penalty)
        assert late or not consistent(values)
        SEEN["refused"] += 1
        return
    other = quietly(transformers.GenerationConfig, **values)
    modes = {
        "greedy": "greedy_search", "sample": "sample", "beam": "beam_search",
        "beam_sample": "beam_sample", "group_beam": "group_beam_search",
        "constrained_beam": "constrained_beam_search", "contrastive": "contrastive_search",
    }  # fmt: skip
    assert modes[choose(mine).name] == other.get_generation_mode().value
    SEEN[choose(mine).name] += 1


def test_every_search_was_seen_above() -> None:
    assert {
        "refused", "greedy", "sample", "beam", "beam_sample", "group_beam", "constrained_beam",
        "contrastive",
    } <= set(SEEN)  # fmt: skip


@given(values=subsets({k: v for k, v in FIELDS.items() if k != "sequence_bias"}, 9))
def test_what_an_old_config_says_of_generation_is_taken(values: dict[str, Any]) -> None:
    values = {k: v for k, v in values.items() if k in NAMES and v is not None}
    if not consistent(values):
        return
    model = transformers.GitConfig(**values)
    wanted = quietly(transformers.GenerationConfig.from_model_config, model)
    mine = GenerationConfig.of(GitConfig.from_dict(values))
    assert_same_values(mine, wanted)


@settings(max_examples=200)
@given(
    own=subsets(FIELDS, 5).filter(consistent),
    models=subsets(FIELDS, 5).filter(consistent),
    version=st.sampled_from(["4.56.2", "4.49.0", "4.50.0.dev0", "4.50.0"]),
    use=st.sampled_from([None, True, False]),
)
def test_a_calls_own_config_is_completed_from_the_models(
    own: dict[str, Any], models: dict[str, Any], version: str, use: bool | None
) -> None:
    models = {**models, "transformers_version": version}
    oracle = Oracle()
    oracle.generation_config = quietly(transformers.GenerationConfig, **models)
    config = quietly(transformers.GenerationConfig, **own)
    prepare = transformers.generation.GenerationMixin._prepare_generation_config
    try:
        wanted, rest = quietly(prepare, oracle, config, use)
    except ValueError:  # the two together contradict themselves
        return
    assert rest == {}
    mine = fill(GenerationConfig.from_dict(own), GenerationConfig.from_dict(models), use)
    values = mine.to_dict()
    values.pop("transformers_version", None)
    for name, value in values.items():
        if name not in OURS:
            assert getattr(wanted, name) == value, name
