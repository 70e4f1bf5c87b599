"""Rows of text below images: whatever rows go on, scores are those of reading each text alone.

And nothing is computed or kept for rows that have left, nor for images that nobody looks at; an
image's keys and values stand once, however many rows look at them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refgit import GitForCausalLM, KeyValueCache, testing, to_numpy
from refgit.generation.decoding import Decoding
from refgit_backends import Backend

KINDS = ("absolute", "relative_key", "relative_key_query")
LAYERS, WIDTH = testing.CONFIG.num_hidden_layers, testing.CONFIG.hidden_size


@cache
def model(positions: str = "absolute", eos: int | None = None) -> GitForCausalLM:
    config = testing.CONFIG.replace(position_embedding_type=positions, eos_token_id=eos)
    return GitForCausalLM(config, seed=4, dtype="float64")  # it is not rounding that is tested


class Watched(Decoding):
    """A decoding that notes what each call of the decoder was given, and what is kept."""

    def __init__(self, net: GitForCausalLM, images: KeyValueCache, *args: Any, **more: Any) -> None:
        self.calls: list[tuple[int, int, KeyValueCache]] = []  # rows, images, cache
        super().__init__(_Noting(net, self.calls), images, *args, **more)  # type: ignore[arg-type]


class _Noting:
    def __init__(self, net: GitForCausalLM, calls: list[Any]) -> None:
        self.net, self.calls = net, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def next_token_logits(self, ids: Any, cache: KeyValueCache, **options: Any) -> Any:
        self.calls.append((len(ids), cache.num_images or 0, cache))
        return self.net.next_token_logits(ids, cache, **options)


def alone(net: GitForCausalLM, pixels: np.ndarray | None, ids: list[int], image: int) -> Any:
    """One whole forward pass over one text."""
    picture = None if pixels is None else pixels[image][None]
    return net([ids], pixel_values=picture, use_cache=False, output_attentions=True,
               output_hidden_states=True)  # fmt: skip


def close(found: Any, wanted: Any) -> None:
    wanted = to_numpy(wanted)
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * scale)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    positions=st.sampled_from(KINDS),
    images=st.integers(0, 3),
    per_image=st.integers(1, 3),
    ragged=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_walk_equals_reading_each_text_alone(
    positions: str, images: int, per_image: int, ragged: bool, seed: int
) -> None:
    rng, net = np.random.default_rng(seed), model(positions)
    n = max(1, images)
    pixels = testing.pixels(images, seed) if images else None
    lengths = rng.integers(1, 6, n * per_image) if ragged else np.full(n * per_image, 3)
    prompts = [rng.integers(0, testing.CONFIG.vocab_size, length) for length in lengths]
    held = KeyValueCache(LAYERS) if pixels is None else net.encode_image(pixels)
    decoding = Watched(net, held.fork(), prompts, output_attentions=True, output_hidden_states=True)
    texts = [(b % n, prompt.tolist()) for b, prompt in enumerate(prompts)]
    origins = list(range(len(texts)))  # of each row, its prompt
    scores = decoding.read_prompts()
    for step in range(6):
        assert len(scores) == len(texts)
        for r, (image, ids) in enumerate(texts):
            wanted = alone(net, pixels, ids, image)
            close(scores[r], wanted.logits[0, -1])
            queries = len(ids) if step == 0 else 1
            compare_layers(decoding, wanted, r, queries, len(ids))
        groups = calls_of(texts, [len(prompts[o]) for o in origins], apart=positions != "absolute")
        assert [(rows, kept) for rows, kept, _ in decoding.calls] == [
            (rows, kept if images else 0) for rows, kept in groups
        ]
        decoding.calls.clear()
        size = int(rng.integers(1, 8)) if step < 5 else 1
        parents = rng.integers(0, len(texts), size)
        words = rng.integers(0, testing.CONFIG.vocab_size, size)
        texts = [(texts[p][0], [*texts[p][1], w])
                 for p, w in zip(parents.tolist(), words.tolist(), strict=True)]  # fmt: skip
        origins = [origins[p] for p in parents.tolist()]
        scores = decoding.step(parents, words)
    assert held.text_length == 0
    assert held.num_images == (images or None)


def calls_of(
    texts: list[tuple[int, list[int]]], lengths: list[int], *, apart: bool
) -> list[tuple[int, int]]:
    """Rows and images of each call: as many rows for each image left as the busiest has."""
    groups = sorted(set(lengths)) if apart else [None]
    calls = []
    for group in groups:
        owners = [t[0] for t, length in zip(texts, lengths, strict=True) if group in (None, length)]
        counts = np.bincount(owners)
        calls.append((int((counts > 0).sum() * counts.max()), int((counts > 0).sum())))
    return calls


def compare_layers(decoding: Decoding, wanted: Any, r: int, queries: int, length: int) -> None:
    """The text's own queries and keys stand on the right, the image's keys on the left."""
    n_image = wanted.logits.shape[1] - length
    for x, y in zip(decoding.attentions or (), wanted.attentions, strict=True):
        y = to_numpy(y)[0, :, -queries:]  # (H, Q, K)
        mine = x[r, :, -queries:]
        close(mine[..., :n_image], y[..., :n_image])
        close(mine[..., mine.shape[-1] - length :], y[..., n_image:])
        assert not mine[..., n_image : mine.shape[-1] - length].any()
        assert not x[r, :, : x.shape[2] - queries].any()
    for x, y in zip(decoding.hidden_states or (), wanted.hidden_states, strict=True):
        close(x[r, -queries:], to_numpy(y)[0, -queries:])
        assert not x[r, : x.shape[1] - queries].any()


# ---- rows leave


def watch(net: GitForCausalLM, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, Any, int]]:
    """Note rows, images, the first layer's image keys, and bytes of the cache after each call."""
    calls: list[tuple[int, int, Any, int]] = []
    real = type(net).next_token_logits

    def noted(self: Any, ids: Any, cache: KeyValueCache, **options: Any) -> Any:
        out = real(self, ids, cache, **options)
        key = cache._image[0]
        calls.append((len(ids), cache.num_images or 0, None if key is None else key[0],
                      cache.nbytes))  # fmt: skip
        return out

    monkeypatch.setattr(type(net), "next_token_logits", noted)
    return calls


@pytest.mark.parametrize("positions", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_texts_that_have_ended_and_their_images_cost_nothing(
    positions: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = testing.pixels(4, seed)
    free = to_numpy(model(positions).generate(pixels, max_length=12))
    ends = int(free[0, 2])
    net = model(positions, ends)
    calls = watch(net, monkeypatch)
    net.generate(pixels, max_length=12)
    last = [int(np.flatnonzero(row[1:] == ends)[0]) if ends in row[1:] else 10 for row in free]
    expected = [sum(n >= step for n in last) for step in range(max(last) + 1)]
    assert [rows for rows, *_ in calls] == expected
    assert [images for _, images, *_ in calls] == expected


def test_batches_do_shrink_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing would be shown."""
    shrunk = 0
    for seed in range(6):
        pixels = testing.pixels(4, seed)
        ends = int(to_numpy(model().generate(pixels, max_length=12))[0, 2])
        with monkeypatch.context() as patch:
            calls = watch(model("absolute", ends), patch)
            model("absolute", ends).generate(pixels, max_length=12)
        shrunk += len({rows for rows, *_ in calls}) > 1
    assert shrunk >= 3


def test_an_image_is_dropped_once_none_of_its_texts_goes_on() -> None:
    net = model()
    decoding = Watched(net, net.encode_image(testing.pixels(3)), list(testing.tokens(6, 2)))
    decoding.read_prompts()
    decoding.step(np.array([0, 2, 3, 5]), np.full(4, 7))  # images 0, 2, 0, 2
    decoding.step(np.array([1, 3]), np.full(2, 8))  # image 2 twice
    assert [(rows, images) for rows, images, _ in decoding.calls] == [(6, 3), (4, 2), (2, 1)]
    bytes_left = decoding.calls[-1][2].nbytes
    one_image = net.encode_image(testing.pixels(1)).nbytes
    assert bytes_left < one_image + 2 * LAYERS * WIDTH * 8 * 2 * 9  # two short texts


# ---- images stand once


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 5},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"num_beams": 3, "force_words_ids": [[4, 5]]},
        {"num_beams": 3, "do_sample": True, "seed": 1},
        {"do_sample": True, "num_return_sequences": 5, "seed": 1},
        {"penalty_alpha": 0.5, "top_k": 5},
    ],
    ids=lambda options: next(iter(options)) + str(len(options)),
)
@pytest.mark.parametrize("positions", KINDS)
def test_keys_and_values_of_an_image_are_never_copied(
    options: dict[str, Any], positions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for a beam nor for a text; text takes its room, doubled when it is full."""
    net = model(positions)
    images = net.encode_image(testing.pixels(2))
    of_images, key = images.nbytes, images._image[0][0]  # type: ignore[index]
    calls = watch(net, monkeypatch)
    net.generate(past_key_values=images, input_ids=testing.tokens(4, 3), max_length=10, **options)
    assert len(calls) >= 7
    for rows, n_images, held, size in calls:
        assert n_images == 2
        assert np.shares_memory(held, key)
        assert size - of_images <= 2 * LAYERS * WIDTH * 8 * rows * 2 * 10
    assert images.text_length == 0
    assert images.nbytes == of_images


def test_prompts_of_one_length_are_read_in_one_call_and_of_several_too() -> None:
    """With relative positions each length by itself: distances would count padding in."""
    for positions, ragged_calls in (("absolute", 1), ("relative_key", 3)):
        net = model(positions)
        for lengths, calls in (([3, 3, 3], 1), ([1, 4, 2], ragged_calls)):
            prompts = [np.arange(3, 3 + length) for length in lengths]
            decoding = Watched(net, net.encode_image(testing.pixels(1)), prompts)
            decoding.read_prompts()
            assert len(decoding.calls) == calls


def test_backends_walk_alike(backend: Backend) -> None:
    rng = np.random.default_rng(5)
    for positions in KINDS:
        config = testing.CONFIG.replace(position_embedding_type=positions)
        found = GitForCausalLM(config, seed=4, backend=backend, dtype="float64")
        wanted = model(positions)
        prompts = [rng.integers(0, 20, length) for length in (2, 4, 2, 1)]
        pixels = testing.pixels(2)
        both = [Decoding(net, net.encode_image(pixels), prompts) for net in (found, wanted)]
        close(*(decoding.read_prompts() for decoding in both))
        for parents in ([3, 0, 0, 2, 1], [4, 1, 1], [0, 0, 2, 1], [1]):
            words = rng.integers(0, 20, len(parents))
            close(*(decoding.step(np.array(parents), words) for decoding in both))


def test_a_failing_block_takes_back_a_crop_and_what_was_appended_to_it() -> None:
    model = testing.tiny_model()
    cache = model.encode_image(testing.pixels())
    model.next_token_logits(np.array([[1, 5, 6, 7]]), cache)
    before = to_numpy(model.next_token_logits(np.array([[8]]), cache.fork()).logits)

    def fail() -> None:
        with cache.all_or_nothing():
            cache.crop(2)
            model.next_token_logits(np.array([[9, 9]]), cache)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    after = to_numpy(model.next_token_logits(np.array([[8]]), cache.fork()).logits)
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
        {"num_beams": 4, "force_words_ids": [[5]]},
    ],
)
def test_beams_that_all_must_end_are_refused_in_a_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"of \d beams have a token to go on with"):
        testing.tiny_model().generate(
            testing.pixels(), max_length=9, eos_token_id=list(range(23)), **options
        )


def test_beam_scores_may_overflow_without_a_word_on_stderr() -> None:
    testing.tiny_model(1).generate(
        testing.pixels(),
        max_length=8,
        num_beams=4,
        forced_eos_token_id=2,
        remove_invalid_values=True,
        length_penalty=-1.0,
    )
