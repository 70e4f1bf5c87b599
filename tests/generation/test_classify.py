"""Tries of labels: exact probabilities, searches that write labels alone, `refgit classify`."""

from __future__ import annotations

import io
import json
import shutil
import sys
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.command_line import VOCABULARY, picture
from refgit import (
    BertTokenizer,
    CLIPImageProcessor,
    GitForCausalLM,
    GitProcessor,
    KeyValueCache,
    testing,
    to_numpy,
)
from refgit.cli import main as cli
from refgit.cli import terminal as terminal_module
from refgit.generation.classification.ranking import among_labels, classify, label_log_probabilities
from refgit.generation.classification.trie import LabelError, Trie
from refgit.processing import load_image
from refgit_backends import Backend

MODEL = testing.tiny_model()
DOUBLE = testing.tiny_model(dtype="float64")
BOS, END = 1, 2
WORDS = st.integers(3, testing.CONFIG.vocab_size - 1)
# Few words, so that labels often begin alike, stand twice, or begin another.
FEW = st.integers(3, 6)
LABELS = st.lists(st.lists(FEW, min_size=1, max_size=5), min_size=1, max_size=12)
RELATIVE = testing.CONFIG.replace(position_embedding_type="relative_key_query")


def one_by_one(
    model: GitForCausalLM,
    pixels: np.ndarray,
    labels: list[list[int]],
    prompt: list[int],
    end: int = END,
) -> np.ndarray:
    """Score each label alone by teacher forcing, nothing cached: (B', labels)."""
    scores = np.empty((len(pixels), len(labels)))
    for b in range(len(pixels)):
        for i, label in enumerate(labels):
            words = [*label, end]
            out = model([[*prompt, *label]], pixel_values=pixels[b : b + 1], use_cache=False)
            logits = to_numpy(out.logits)[0, -len(words) :].astype(np.float64)
            total = np.log(np.exp(logits).sum(axis=-1))
            scores[b, i] = (logits[np.arange(len(words)), words] - total).sum()
    return scores


def reads(monkeypatch: pytest.MonkeyPatch, model: GitForCausalLM) -> list[np.ndarray]:
    """The ids (R, Q) of each call of the decoder from now on."""
    seen: list[np.ndarray] = []
    real = type(model).next_token_logits

    def counted(self: Any, ids: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(np.asarray(ids))
        return real(self, ids, *arguments, **options)

    monkeypatch.setattr(type(model), "next_token_logits", counted)
    return seen


# ---- the trie


@given(LABELS)
def test_every_label_is_a_way_from_the_root_to_a_leaf(labels: list[list[int]]) -> None:
    trie = Trie(labels, END)
    for label, leaf in zip(labels, trie.leaf.tolist(), strict=True):
        way, node = [], leaf
        while node:
            way.append(int(trie.token[node]))
            node = int(trie.parent[node])
        assert way[::-1] == [*label, END]
        assert trie.find([*label, END]) == leaf
        assert trie.depth[leaf] == len(label) + 1
    assert trie.longest == max(map(len, labels)) + 1


@given(LABELS)
def test_every_beginning_stands_there_once(labels: list[list[int]]) -> None:
    trie = Trie(labels, END)
    beginnings = {tuple(label[:n]) for label in labels for n in range(1, len(label) + 1)}
    assert trie.inner == len(beginnings)
    assert len(trie) == 1 + len(beginnings) + len({tuple(label) for label in labels})
    nodes = [trie.find(way) for way in beginnings]
    assert None not in nodes
    assert len(set(nodes)) == len(beginnings)


@given(LABELS)
def test_below_a_node_stands_what_has_it_for_a_parent(labels: list[list[int]]) -> None:
    trie = Trie(labels, END)
    nodes = np.arange(len(trie))[::2]
    children, places = trie.below(nodes)
    np.testing.assert_array_equal(trie.parent[children], nodes[places])
    assert sorted(children) == np.flatnonzero(np.isin(trie.parent, nodes)).tolist()


@given(LABELS, st.lists(FEW, max_size=6))
def test_allowed_is_what_labels_go_on_with(labels: list[list[int]], prefix: list[int]) -> None:
    n = len(prefix)
    closed = [[*label, END] for label in labels]
    expected = {label[n] for label in closed if label[:n] == prefix and len(label) > n}
    allowed = Trie(labels, END).allowed(prefix).tolist()
    assert allowed == sorted(expected or {END})


def test_labels_that_stand_twice_share_a_leaf() -> None:
    trie = Trie([[5, 6], [5], [5, 6]], END)
    assert trie.leaf[0] == trie.leaf[2] != trie.leaf[1]
    assert trie.allowed([5]).tolist() == [END, 6]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([], "is empty"),
        (np.empty(0, np.int64), "is empty"),
        ([5, END, 6], f"holds {END}, the token that ends a text"),
        ([BOS, 5, END], f"holds {END}, the token that ends a text"),
        ([5, -1], "none below 0"),
        ([5.0, 6.0], "expected a list of token ids"),
        ([True], "expected a list of token ids"),
        ([[5, 6]], "expected a list of token ids"),
        ([[5, 6], [7]], "expected a list of token ids"),
        ("star", "'star'; expected a list of token ids"),
        (7, "is 7; expected a list of token ids"),
    ],
)
def test_a_label_that_is_none_is_named(label: Any, words: str) -> None:
    with pytest.raises(LabelError, match=f"label 1 .*{words}") as found:
        Trie([[5], label], END)
    assert found.value.label == 1


def test_no_labels_and_no_end_are_refused() -> None:
    with pytest.raises(ValueError, match="labels is empty"):
        Trie([], END)
    with pytest.raises(TypeError, match="labels is None"):
        Trie(None, END)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="end is None"):
        Trie([[5]], None)  # type: ignore[arg-type]


@pytest.mark.slow
def test_twenty_thousand_labels_are_no_matter() -> None:
    random = np.random.default_rng(0)
    labels = [random.integers(3, 30_000, random.integers(1, 11)).tolist() for _ in range(20_000)]
    trie = Trie(labels, END)
    for i in range(0, 20_000, 1999):
        assert trie.find([*labels[i], END]) == trie.leaf[i]


# ---- constrained search


@pytest.mark.slow
@settings(max_examples=200)
@given(
    LABELS,
    st.integers(1, 3),
    st.sampled_from(["greedy", "beam", "sample", "beam sample", "group beam"]),
    st.integers(0, 1000),
)
def test_a_constrained_search_writes_a_label(
    labels: list[list[int]], prompt_length: int, mode: str, seed: int
) -> None:
    options: dict[str, Any] = {
        "greedy": {},
        "beam": {"num_beams": 3},
        "sample": {"do_sample": True, "num_return_sequences": 2, "seed": seed},
        "beam sample": {"do_sample": True, "num_beams": 2, "seed": seed},
        "group beam": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    }[mode]
    trie = Trie(labels, END)
    prompt = [[BOS, 9, 4][:prompt_length]] * 2
    ids = MODEL.generate(
        testing.pixels(2, seed),
        prompt,
        prefix_allowed_tokens_fn=trie.allowed_after(prompt_length),
        max_new_tokens=trie.longest,
        **options,
    )
    for row in to_numpy(ids)[:, prompt_length:].tolist():
        label = row[: row.index(END)]
        assert label in labels
        assert set(row[len(label) + 1 :]) <= {testing.CONFIG.pad_token_id, END}  # what fills up


@pytest.mark.slow
@given(LABELS, st.integers(0, 1000))
def test_beams_for_all_labels_find_them_all_in_order_of_their_probability(
    labels: list[list[int]], seed: int
) -> None:
    """Beam search with its log probabilities unpenalised ranks as `classify` does."""
    labels = [list(label) for label in dict.fromkeys(map(tuple, labels))]
    trie, pixels = Trie(labels, END), testing.pixels(1, seed)
    k = max(2, len(labels))  # no beginning is ever left out
    ids = MODEL.generate(
        pixels,
        prefix_allowed_tokens_fn=trie.allowed_after(1),
        max_new_tokens=trie.longest,
        num_beams=k,
        num_return_sequences=len(labels),
        length_penalty=0.0,
        early_stopping=False,
    )
    found = [row[1 : row.index(END)] for row in to_numpy(ids).tolist()]
    log_p = to_numpy(label_log_probabilities(MODEL, pixels, trie))[0]
    assert sorted(found) == sorted(labels)
    scores = [log_p[labels.index(label)] for label in found]
    assert all(a >= b - 1e-4 for a, b in pairwise(scores))


# ---- probabilities


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_equal_those_of_each_label_alone(backend: Backend, dtype: str) -> None:
    model = testing.tiny_model(backend=backend, dtype=dtype)
    labels = [[5, 6, 7], [5, 6], [5], [8, 9, 10, 11], [5, 6, 7], [22], [8, 9]]
    prompt, pixels = [BOS, 12, 4], testing.pixels(2)
    found = label_log_probabilities(model, pixels, labels, prompt, batch_size=3)
    assert model.backend.owns(found)
    scores = to_numpy(found)
    assert (scores.shape, scores.dtype) == ((2, 7), np.float64)
    expected = one_by_one(model, pixels, labels, prompt)
    tolerance = 1e-10 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(scores, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@given(
    st.lists(st.lists(WORDS | FEW, min_size=1, max_size=5), min_size=1, max_size=10),
    st.lists(WORDS, max_size=4),
    st.integers(1, 3),
    st.integers(1, 20),
)
def test_neither_batch_size_nor_company_matters(
    labels: list[list[int]], prompt: list[int], images: int, batch_size: int
) -> None:
    prompt, pixels = [BOS, *prompt], testing.pixels(images)
    scores = label_log_probabilities(DOUBLE, pixels, labels, prompt, batch_size=batch_size)
    expected = one_by_one(DOUBLE, pixels, labels, prompt)
    np.testing.assert_allclose(scores, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@given(LABELS, st.integers(1, 5))
def test_relative_positions_count_from_the_image(labels: list[list[int]], batch_size: int) -> None:
    model = testing.tiny_model(1, RELATIVE, dtype="float64")
    scores = label_log_probabilities(model, testing.pixels(2), labels, batch_size=batch_size)
    expected = one_by_one(model, testing.pixels(2), labels, [BOS])
    np.testing.assert_allclose(scores, expected, rtol=1e-10, atol=1e-10)


def test_all_texts_of_one_word_and_those_that_go_on_have_probability_one() -> None:
    """The end right away, one word and the end, or two words of which no end follows."""
    size = testing.CONFIG.vocab_size
    words = [word for word in range(size) if word != END]
    single = label_log_probabilities(DOUBLE, testing.pixels(), [[word] for word in words])
    out = DOUBLE([[BOS]], pixel_values=testing.pixels())
    first = np.exp(to_numpy(out.logits)[0, -1])
    first /= first.sum()
    pairs = [[word, other] for word in words for other in words]
    out = DOUBLE([[BOS, word] for word in words], pixel_values=testing.pixels())
    second = np.exp(to_numpy(out.logits)[:, -1])
    second /= second.sum(axis=-1, keepdims=True)
    assert len(pairs) == (size - 1) ** 2
    goes_on = (first[words] * (1 - second[:, END])).sum()
    assert np.exp(single).sum() + first[END] + goes_on == pytest.approx(1, abs=1e-12)


@given(LABELS, st.integers(1, 3), st.integers(1, 7))
def test_the_decoder_reads_each_beginning_once(
    labels: list[list[int]], images: int, batch_size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        seen = reads(patch, MODEL)
        prompt = [BOS, 9]
        label_log_probabilities(
            MODEL, testing.pixels(images), labels, prompt, batch_size=batch_size
        )
    beginnings = {tuple(label[:n]) for label in labels for n in range(1, len(label) + 1)}
    assert seen[0].tolist() == [prompt] * images
    assert all(ids.shape[1] == 1 for ids in seen[1:])
    assert sum(len(ids) for ids in seen[1:]) == len(beginnings) * images
    assert max(len(ids) for ids in seen) <= max(images, batch_size)


def test_the_image_is_read_once_and_the_cache_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = MODEL.encode_image(testing.pixels(2))
    monkeypatch.setattr(GitForCausalLM, "encode_checked", None)
    labels = [[5, 6], [5, 7], [8]]
    first = label_log_probabilities(MODEL, labels=labels, past_key_values=cache)
    again = label_log_probabilities(MODEL, labels=labels, past_key_values=cache)
    np.testing.assert_array_equal(first, again)
    assert (cache.text_length, cache.num_images) == (0, 2)
    monkeypatch.undo()
    np.testing.assert_array_equal(first, label_log_probabilities(MODEL, testing.pixels(2), labels))


def test_memory_is_bounded_by_depth_and_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any time about one batch of texts a level is kept, however many labels there are."""
    labels = [[a, b, c] for a in range(3, 23) for b in range(3, 9) for c in range(3, 6)]
    alive: weakref.WeakSet[KeyValueCache] = weakref.WeakSet()
    rows = []
    real_fork, real_select = KeyValueCache.fork, KeyValueCache.select

    def fork(self: KeyValueCache) -> KeyValueCache:
        other = real_fork(self)
        alive.add(other)
        return other

    def select(self: KeyValueCache, chosen: Any) -> None:
        real_select(self, chosen)
        rows.append(sum(cache.batch_size or 0 for cache in alive))

    monkeypatch.setattr(KeyValueCache, "fork", fork)
    monkeypatch.setattr(KeyValueCache, "select", select)
    label_log_probabilities(MODEL, testing.pixels(), labels, batch_size=10)
    assert len(rows) > 36
    assert 10 < max(rows) <= 5 * 10  # the root, three levels, and the one that is being left


def test_without_an_image_the_text_alone_counts() -> None:
    labels = [[5, 6], [7]]
    scores = label_log_probabilities(DOUBLE, labels=labels)
    for score, label in zip(to_numpy(scores)[0], labels, strict=True):
        words = [*label, END]
        logits = to_numpy(DOUBLE([[BOS, *label]]).logits)[0]
        total = np.log(np.exp(logits).sum(axis=-1))
        assert score == pytest.approx((logits[np.arange(len(words)), words] - total).sum())


def test_a_head_mask_counts_for_image_and_text() -> None:
    mask = [1, 0, 1, 1]
    labels, pixels = [[5, 6], [7]], testing.pixels()
    scores = label_log_probabilities(DOUBLE, pixels, labels, head_mask=mask)
    for score, label in zip(to_numpy(scores)[0], labels, strict=True):
        words = [*label, END]
        out = DOUBLE([[BOS, *label]], pixel_values=pixels, head_mask=mask)
        logits = to_numpy(out.logits)[0, -len(words) :]
        total = np.log(np.exp(logits).sum(axis=-1))
        assert score == pytest.approx((logits[np.arange(len(words)), words] - total).sum())
    assert not np.allclose(scores, label_log_probabilities(DOUBLE, pixels, labels))


def test_half_precision_is_summed_in_single() -> None:
    half = testing.tiny_model(dtype="float16")
    labels = [[5, 6], [7], [5, 8, 9]]
    found = to_numpy(label_log_probabilities(half, testing.pixels(), labels))
    expected = to_numpy(label_log_probabilities(MODEL, testing.pixels(), labels))
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_a_label_may_fill_all_positions_and_no_more() -> None:
    room = testing.CONFIG.max_position_embeddings - 1
    fits, longer = [5] * room, [5] * (room + 1)
    scores = label_log_probabilities(DOUBLE, testing.pixels(), [[6], fits])
    expected = one_by_one(DOUBLE, testing.pixels(), [[6], fits], [BOS])
    np.testing.assert_allclose(scores, expected, rtol=1e-10)
    with pytest.raises(LabelError, match=f"label 1 has {room + 1} tokens.* positions for {room}"):
        label_log_probabilities(MODEL, testing.pixels(), [[6], longer])
    with pytest.raises(LabelError, match=f"positions for {room - 1}"):
        label_log_probabilities(MODEL, testing.pixels(), [[6], fits], [BOS, 4])
    relative = testing.tiny_model(0, RELATIVE)
    room -= testing.IMAGE_TOKENS
    label_log_probabilities(relative, testing.pixels(), [[5] * room])
    with pytest.raises(LabelError, match=f"positions for {room}"):
        label_log_probabilities(relative, testing.pixels(), [[5] * (room + 1)])


def test_progress_counts_up_to_all_beginnings() -> None:
    seen: list[tuple[int, int]] = []
    labels = [[5, 6], [5, 7], [8], [9, 3]]
    label_log_probabilities(
        MODEL, testing.pixels(), labels, batch_size=2, progress=lambda *counts: seen.append(counts)
    )
    assert seen[-1] == (6, 6)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": [[5], [23]]}, "label 1 holds the token 23; expected ids from 0 to 22"),
        ({"labels": Trie([[5]], 23)}, "the trie's end is 23"),
        ({"labels": []}, "labels is empty"),
        ({"prompt": []}, "prompt is \\[\\]"),
        ({"prompt": [[1]]}, "prompt is \\[\\[1\\]\\]"),
        ({"prompt": [1, 23]}, "expected a list of token ids from 0 to 22"),
        ({"prompt": [1.5]}, "expected a list of token ids from 0 to 22"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"top": 0}, "top is 0"),
        ({"length_penalty": np.nan}, "length_penalty is nan"),
        ({"length_penalty": True}, "length_penalty is True"),
        ({"progress": 3}, "progress is 3; expected a function"),
        ({"past_key_values": MODEL.encode_image(testing.pixels())}, "given together"),
        ({"pixel_values": testing.pixels()[:, :2]}, "2 channels"),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], words: str) -> None:
    chosen: dict[str, Any] = {"pixel_values": testing.pixels(), "labels": [[5]]} | options
    with pytest.raises(ValueError, match=words):
        classify(MODEL, **chosen)


def test_numbers_of_numpy_are_as_good_as_pythons() -> None:
    labels, pixels = [[5, 6], [7]], testing.pixels()
    expected = classify(MODEL, pixels, labels, top=2, length_penalty=1.0, batch_size=4)
    found = classify(
        MODEL,
        pixels,
        labels,
        top=np.int64(2),  # type: ignore[arg-type]
        length_penalty=np.float32(1),  # type: ignore[arg-type]
        batch_size=np.int64(4),
    )
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.shares, expected.shares)


def test_a_cache_that_holds_text_or_is_none_is_refused() -> None:
    used = MODEL.encode_image(testing.pixels())
    MODEL.next_token_logits(np.array([[BOS]]), used)
    with pytest.raises(ValueError, match="holds 1 text tokens"):
        classify(MODEL, labels=[[5]], past_key_values=used)
    with pytest.raises(TypeError, match="past_key_values is a tuple"):
        classify(MODEL, labels=[[5]], past_key_values=())  # type: ignore[arg-type]


def ending(model: GitForCausalLM, ends: Any) -> GitForCausalLM:
    """The same model with other end tokens."""
    other = model.to()
    other.config = model.config.replace(eos_token_id=ends)
    other.generation_config = model.generation_config.replace(eos_token_id=ends)
    return other


def test_a_model_without_an_end_token_asks_for_a_trie() -> None:
    model = ending(MODEL, None)
    with pytest.raises(ValueError, match=r"eos_token_id is None.* Pass Trie"):
        classify(model, testing.pixels(), [[5]])
    found = label_log_probabilities(model, testing.pixels(), Trie([[5]], END))
    np.testing.assert_array_equal(found, label_log_probabilities(MODEL, testing.pixels(), [[5]]))


# ---- several end tokens


@pytest.mark.slow
@given(
    st.lists(st.lists(st.integers(5, 9), min_size=1, max_size=4), min_size=1, max_size=9),
    st.sampled_from([[2, 3], [4, 2, 3], [3], [22, 2]]),
    st.integers(1, 2),
    st.integers(1, 9),
)
def test_any_end_token_may_end_a_label(
    labels: list[list[int]], ends: list[int], images: int, batch_size: int
) -> None:
    pixels, prompt = testing.pixels(images), [BOS, 12]
    model = ending(DOUBLE, ends)
    scores = label_log_probabilities(model, pixels, labels, prompt, batch_size=batch_size)
    alone = [one_by_one(DOUBLE, pixels, labels, prompt, end) for end in ends]
    expected = np.log(np.exp(alone).sum(axis=0))
    np.testing.assert_allclose(scores, expected, rtol=1e-10, atol=1e-10)


def test_end_tokens_that_stand_twice_count_once(backend: Backend) -> None:
    model = ending(testing.tiny_model(backend=backend), [2, 3])
    twice = Trie([[5], [6, 7]], [2, 3, 2])
    assert twice.ends == (2, 3)
    np.testing.assert_array_equal(
        to_numpy(label_log_probabilities(model, testing.pixels(), twice)),
        to_numpy(label_log_probabilities(model, testing.pixels(), [[5], [6, 7]])),
    )


def test_every_end_token_is_allowed_behind_a_label() -> None:
    trie = Trie([[5, 6], [5]], [9, 2])
    assert trie.allowed([5]).tolist() == [2, 6, 9]
    assert trie.allowed([5, 6]).tolist() == [2, 9]
    assert trie.allowed([7]).tolist() == [2, 9]
    assert trie.find([5, 2]) == trie.find([5, 9]) == trie.leaf[1]
    with pytest.raises(LabelError, match="label 1 holds 2, the token that ends a text"):
        Trie([[5], [5, 2]], [9, 2])
    for end in ([], [2, -1], [2, True], "ab", 2.0, True, [2**31]):
        with pytest.raises(TypeError, match="end is "):
            Trie([[5]], end)  # type: ignore[arg-type]


def test_a_constrained_search_may_end_a_label_with_any_end_token() -> None:
    ends = [2, 3]
    model, labels = ending(MODEL, ends), [[5, 6], [5], [7, 8, 9]]
    trie = Trie(labels, model.generation_config.eos_ids)
    ids = model.generate(
        testing.pixels(8),
        prefix_allowed_tokens_fn=trie.allowed_after(1),
        max_new_tokens=trie.longest,
        do_sample=True,
        num_return_sequences=8,
        seed=0,
    )
    last = set()
    for row in to_numpy(ids)[:, 1:].tolist():
        place = next(i for i, word in enumerate(row) if word in ends)
        assert row[:place] in labels
        last.add(row[place])
    assert last == set(ends)


def test_ids_too_large_to_be_tokens_are_refused() -> None:
    with pytest.raises(LabelError, match=f"label 0 .*none below 0 or above {2**31 - 1}"):
        Trie([[2**62, 5], [2**62, 6]], END)


# ---- ranks


@given(LABELS, st.integers(1, 15), st.sampled_from([0.0, 0.6, 1.0]))
def test_the_best_labels_come_first(
    labels: list[list[int]], top: int, length_penalty: float
) -> None:
    pixels = testing.pixels(2)
    found = classify(MODEL, pixels, labels, top=top, length_penalty=length_penalty)
    log_p = to_numpy(label_log_probabilities(MODEL, pixels, labels))
    lengths = np.array([len(label) + 1 for label in labels])
    scores = log_p / lengths**length_penalty
    count = min(top, len(labels))
    for b in range(2):
        order = sorted(range(len(labels)), key=lambda i: -scores[b, i])[:count]
        assert found.labels[b].tolist() == order
        np.testing.assert_array_equal(found.log_probabilities[b], log_p[b, order])
        shares = np.exp(scores[b] - scores[b].max())
        np.testing.assert_allclose(found.shares[b], shares[order] / shares.sum(), rtol=1e-9)


def test_ranks_lie_on_the_models_backend(backend: Backend) -> None:
    model = testing.tiny_model(backend=backend)
    found = classify(model, testing.pixels(2), [[5], [6, 7], [8]], top=2)
    for array in (found.labels, found.log_probabilities, found.shares):
        assert model.backend.owns(array)
        assert array.shape == (2, 2)
    assert to_numpy(found.labels).dtype == np.int64


@given(st.lists(st.floats(-1000, 0), min_size=1, max_size=9))
def test_shares_add_up_to_one(log_p: list[float]) -> None:
    shares = among_labels(np.array([log_p]))
    assert shares.sum() == pytest.approx(1)
    expected = np.exp(np.array(log_p) - max(log_p))
    np.testing.assert_allclose(shares[0] / shares.max(), expected, atol=1e-300)


def test_the_model_classifies() -> None:
    labels, pixels, prompt = [[5], [6, 7], [8]], testing.pixels(2), [BOS, 4]
    found = MODEL.classify(pixels, labels, prompt, top=2)
    expected = classify(MODEL, pixels, labels, prompt, top=2)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.shares, expected.shares)
    cache = MODEL.encode_image(pixels)
    found = MODEL.classify(labels=labels, prompt=prompt, past_key_values=cache)
    np.testing.assert_array_equal(found.labels[:, :2], expected.labels)


# ---- refgit classify

STAR = str(Path(__file__).parents[2] / "docs" / "images" / "star.png")
Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, lines of stdout, lines of stderr."""

    def run_it(*arguments: object) -> tuple[int, list[str], list[str]]:
        try:
            code = cli.main(["classify", *map(str, arguments)])
        except SystemExit as end:  # of argparse
            code = int(str(end.code))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        err = "\n".join(line for line in err.split("\n") if "using the bundled model" not in line)
        return code, out.split("\n")[:-1], err.split("\n")[:-1]

    return run_it


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint whose words are letters."""
    folder = tmp_path_factory.mktemp("model")
    testing.tiny_model(3).save_pretrained(folder)
    image_processor = CLIPImageProcessor(size=8, crop_size=8)
    GitProcessor(image_processor, BertTokenizer.from_vocab(VOCABULARY)).save_pretrained(folder)
    return folder


def label_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_bundled_model_knows_a_star(run: Run, tmp_path: Path) -> None:
    labels = label_file(tmp_path, "red apple\nstar\ncrescent moon\ngreen apple\n")
    code, out, err = run(STAR, "--labels", labels, "--top", 3)
    assert (code, err) == (0, [])
    numbers, names = zip(*(line.split("\t") for line in out), strict=True)
    assert names[0] == "star"
    assert len(out) == 3
    assert 0.5 < float(numbers[0]) <= 1
    assert list(map(float, numbers)) == sorted(map(float, numbers), reverse=True)


def test_a_prompt_stands_before_the_label(run: Run, tmp_path: Path) -> None:
    labels = label_file(tmp_path, "food and drink\ntravel and places\nstar\n")
    code, out, _ = run(STAR, "--labels", labels, "--prompt", "what kind of thing is this?")
    assert code == 0
    assert out[0].endswith("\ttravel and places")
    assert run(STAR, "--labels", labels)[1][0].endswith("\tstar")


def test_what_is_printed_is_what_the_model_says(run: Run, letters: Path, tmp_path: Path) -> None:
    names = ["a b", "c", "a b c", "d e"]
    labels, file = label_file(tmp_path, "\n".join(names)), picture(tmp_path / "a.png")
    model = GitForCausalLM.from_pretrained(letters)
    processor = GitProcessor.from_pretrained(letters)
    pixels = processor(images=load_image(file), return_tensors="np").pixel_values
    ids = processor.tokenizer(names, add_special_tokens=False).input_ids
    prompt = [BOS, *processor.tokenizer("e f", add_special_tokens=False).input_ids]
    found = classify(model, pixels, ids, prompt, top=3)
    shown = [names[i] for i in found.labels[0]]
    options = ["--labels", labels, "--model", letters, "--prompt", "e f", "--top", 3]
    probabilities = np.exp(found.log_probabilities[0])
    for extra, numbers in (([], probabilities), (["--share"], found.shares[0])):
        lines = [f"{p:.4g}\t{name}" for p, name in zip(numbers, shown, strict=True)]
        assert run(file, *options, *extra) == (0, lines, [])
    code, (line,), err = run(file, *options, "--json")
    assert (code, err) == (0, [])
    said = json.loads(line)
    assert said["image"] == str(file)
    assert [entry["label"] for entry in said["labels"]] == shown
    keys = ("log_probability", "share")
    assert [[entry[key] for key in keys] for entry in said["labels"]] == [
        list(pair) for pair in zip(found.log_probabilities[0], found.shares[0], strict=True)
    ]
    assert [entry["probability"] for entry in said["labels"]] == pytest.approx(probabilities)


def test_several_images_print_the_file_first_and_one_that_fails_stops_nobody(
    run: Run, letters: Path, tmp_path: Path
) -> None:
    labels = label_file(tmp_path, "a\nb c\nd\n")
    first, last = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 1)
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    options = ["--labels", labels, "--model", letters, "--top", 2]
    alone = [run(file, *options)[1] for file in (first, last)]
    assert alone[0] != alone[1]
    lines = [f"{first}\t{line}" for line in alone[0]] + [f"{last}\t{line}" for line in alone[1]]
    code, out, (why,) = run(first, bad, last, *options)
    assert (code, out) == (1, lines)
    assert str(bad) in why
    code, out, _ = run(first, bad, last, *options, "--json")
    entries = [json.loads(line) for line in out]
    assert [entry["image"] for entry in entries] == [str(first), str(bad), str(last)]
    assert {tuple(entry) for entry in entries} == {("index", "image", "labels", "error")}
    assert [entry["index"] for entry in entries] == [0, 1, 2]
    assert [entry["labels"] is None for entry in entries] == [False, True, False]
    assert [entry["error"] is None for entry in entries] == [True, False, True]


def test_a_directory_of_one_image_prints_the_file(run: Run, letters: Path, tmp_path: Path) -> None:
    labels = label_file(tmp_path, "a\n")
    file = picture(tmp_path / "pictures" / "a.png")
    ((line,),) = [run(file.parent, "--labels", labels, "--model", letters)[1]]
    assert line.split("\t")[0] == str(file)


def test_files_of_directories_are_chosen_as_for_captions(
    run: Run, letters: Path, tmp_path: Path
) -> None:
    labels = label_file(tmp_path, "a\n")
    for name in ("a.png", "in/b.png", "in/b_mask.png", "thumbs/c.png"):
        picture(tmp_path / "pictures" / name)
    chosen = ("--recursive", "--exclude", "thumbs", "--exclude", "*_mask.*")
    _, lines, _ = run(tmp_path / "pictures", "--labels", labels, "--model", letters, *chosen)
    files = [tmp_path / "pictures" / name for name in ("a.png", "in/b.png")]
    assert [line.split("\t")[0] for line in lines] == list(map(str, files))


def test_batch_size_and_backend_do_not_matter(run: Run, letters: Path, tmp_path: Path) -> None:
    labels = label_file(tmp_path, "a b\na c\nd e f\na b c\ng\n")
    file = picture(tmp_path / "a.png")
    options = [file, "--labels", labels, "--model", letters, "--dtype", "float64"]
    plain = run(*options)
    assert plain[0] == 0
    assert run(*options, "--batch-size", 1) == plain
    assert run(*options, "--backend", "strict") == plain


def test_blank_lines_and_duplicates_are_skipped_with_a_note(
    run: Run, letters: Path, tmp_path: Path
) -> None:
    file = picture(tmp_path / "a.png")
    clean = run(file, "--model", letters, "--labels", label_file(tmp_path, "a\nb c\n"))
    assert (clean[0], clean[2]) == (0, [])
    messy = "\ufeffa\r\n\r\n  b c \r\nB  C\r\n \t\na\r\n"
    code, out, err = run(file, "--model", letters, "--labels", label_file(tmp_path, messy))
    assert (code, out) == clean[:2]
    blank, again = err
    assert "labels.txt: 2 blank lines skipped" in blank
    assert "'B  C' on line 4, as on line 3, and 1 more" in again


def test_unknown_words_are_warned_of(run: Run, letters: Path, tmp_path: Path) -> None:
    labels = label_file(tmp_path, "a\nb ☃\n☃ b\n")
    file = picture(tmp_path / "a.png")
    code, out, (note,) = run(file, "--model", letters, "--labels", labels)
    assert (code, len(out)) == (0, 3)
    assert "'b ☃' on line 2, and 1 more" in note
    assert "does not know" in note


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no labels"),
        ("\n \n\n", "holds no labels"),
        (b"a\n\xff\n", "not a text in UTF-8 (byte 2 is 0xff)"),
        ("star\n".encode("utf-16"), "not a text in UTF-8"),
        (b"a\0b\n", "zero bytes"),
        ("a\n\nb [SEP] c\n", "labels.txt:3: 'b [SEP] c' holds 2, the token that ends a text"),
        ("a\n\u200b\n", r"labels.txt:2: '\u200b' has no words"),
        ("a\nb\n" + "c " * 24, "labels.txt:3: 'c c c c c c c c c c c c c c c c c c c...' has 24"),
    ],
)
def test_a_bad_file_of_labels_is_one_line_and_exit_code_2(
    content: str | bytes, words: str, run: Run, letters: Path, tmp_path: Path
) -> None:
    labels = label_file(tmp_path, content)
    code, out, err = run(picture(tmp_path / "a.png"), "--model", letters, "--labels", labels)
    assert (code, out) == (2, [])
    assert words in err[-1]
    assert "labels.txt" in err[-1]


def test_labels_that_cannot_be_read_are_named(run: Run, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.txt", "No such file"), (tmp_path, "directory")):
        code, out, (line,) = run(STAR, "--labels", path)
        assert (code, out) == (2, [])
        assert f"{path} cannot be read" in line
        assert words in line


def test_wrong_arguments_are_one_line_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    labels = label_file(tmp_path, "a\n")
    for arguments, words in (
        ([STAR], "--labels"),
        ([STAR, "--labels", labels, "--top", 0], "--top"),
        ([STAR, "--labels", labels, "--batch-size", "x"], "--batch-size"),
        ([STAR, "--labels", labels, "--prompt", " "], "--prompt"),
    ):
        code, out, (line,) = run(*arguments)
        assert (code, out) == (2, [])
        assert words in line


def test_progress_is_for_terminals_alone(
    run: Run, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, file = label_file(tmp_path, "a\nb c\n"), picture(tmp_path / "a.png")
    plain = run(file, "--labels", labels, "--model", letters)
    assert plain[2] == []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(terminal_module, "DELAY", 0.0)
    monkeypatch.setitem(sys.modules, "rich.console", None)  # a plain line, which is read below
    monkeypatch.setenv("TERM", "xterm")
    assert run(file, "--labels", labels, "--model", letters, "--batch-size", 1)[1] == plain[1]
    written = terminal.getvalue()
    assert "classifying" in written
    assert " 67%" in written  # two of three beginnings
    assert written.endswith(" \r")  # and it is gone


def test_a_model_with_several_end_tokens_just_works(
    run: Run, letters: Path, tmp_path: Path
) -> None:
    model = GitForCausalLM.from_pretrained(letters)
    folder = tmp_path / "model"
    shutil.copytree(letters, folder)
    several = model.generation_config.replace(eos_token_id=[2, 22])
    several.save_pretrained(folder)
    labels, file = label_file(tmp_path, "a b\nc\n"), picture(tmp_path / "a.png")
    code, (line,), err = run(file, "--labels", labels, "--model", folder, "--json")
    assert (code, err) == (0, [])
    found = {entry["label"]: entry["probability"] for entry in json.loads(line)["labels"]}
    (one,) = run(file, "--labels", labels, "--model", letters, "--json")[1]
    for entry in json.loads(one)["labels"]:
        assert found[entry["label"]] > entry["probability"]


def test_a_model_without_an_end_token_is_one_line_without_advice_for_python(
    run: Run, tmp_path: Path, letters: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(letters, folder)
    (folder / "generation_config.json").write_text('{"bos_token_id": 1, "pad_token_id": 0}')
    labels, file = label_file(tmp_path, "a\n"), picture(tmp_path / "a.png")
    code, out, (line,) = run(file, "--labels", labels, "--model", folder)
    assert (code, out) == (2, [])
    assert "eos_token_id" in line
    assert "Trie" not in line


def test_an_output_that_cannot_be_written_ends_all_with_one_message(
    run: Run, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    labels, file = label_file(tmp_path, "a\n"), picture(tmp_path / "a.png")
    gone = tmp_path / "gone.png"
    for extra in ([], ["--json"]):
        monkeypatch.setattr(sys, "stdout", Full())
        files = [gone, file, gone] if extra else [file, gone]
        code, _, err = run(*files, "--labels", labels, "--model", letters, *extra)
        assert code == 2
        assert "No space left on device" in err[-1]
        assert sum("No space" in line for line in err) == 1
        assert sum("gone.png" in line for line in err) == len(extra)
