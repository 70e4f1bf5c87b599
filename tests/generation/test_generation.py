"""Greedy generation: where texts end, how long they are, and what is computed only once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers.strategies import few, seeds
from helpers.texts import BOS, EOS, PAD, with_eos
from refgit import GitConfig, GitForCausalLM, KeyValueCache, testing, to_numpy
from refgit.generation import GenerationConfig
from refgit.generation.search.beam import highest
from refgit.model import git as model_module
from refgit_backends import Backend

MODEL = testing.tiny_model()
LONGEST = testing.CONFIG.max_position_embeddings


def endless(model: GitForCausalLM, pixels: np.ndarray, **options: Any) -> np.ndarray:
    """What the model writes where no word ends a text."""
    return to_numpy(with_eos(model, None).generate(pixels, **options))


def uneven(config: GitConfig = testing.CONFIG) -> tuple[GitForCausalLM, np.ndarray, int]:
    """A model, images, and a word that ends the first text before one of the others."""
    for seed in range(50):
        model, pixels = testing.tiny_model(seed, config), testing.pixels(3, seed)
        free = endless(model, pixels, max_length=12)
        for word in set(free[0, 1:8].tolist()) - {BOS, PAD}:
            stops = [next(iter(np.flatnonzero(row == word)), 12) for row in free]
            if stops[0] < max(stops):
                return with_eos(model, word), pixels, word
    raise AssertionError("no random model ends its texts unevenly")


def uncached(model: GitForCausalLM, pixels: np.ndarray, ids: np.ndarray, steps: int) -> np.ndarray:
    """The definition: the whole forward pass for each word, no cache, no end."""
    for _ in range(steps):
        logits = model(ids, pixel_values=pixels, use_cache=False).logits[:, -1]
        ids = np.concatenate([ids, to_numpy(logits).argmax(-1)[:, None]], axis=1)
    return ids


@few
@given(seed=seeds, length=st.integers(1, 8), images=st.integers(1, 3))
def test_every_word_is_the_likeliest_of_a_whole_forward_pass(
    seed: int, length: int, images: int
) -> None:
    model, pixels = testing.tiny_model(seed), testing.pixels(images, seed)
    prompt = testing.tokens(images, length, seed)
    found = endless(model, pixels, input_ids=prompt, max_length=length + 6)
    np.testing.assert_array_equal(found, uncached(model, pixels, prompt, 6))


@few
@given(seed=seeds)
def test_a_text_stops_at_the_end_token_and_is_padded_after_it(seed: int) -> None:
    model, pixels = testing.tiny_model(seed), testing.pixels(3, seed)
    free = endless(model, pixels, max_length=14)
    ends = int(free[0, 1 + seed % 8])  # so that the first row ends before the others, or not
    found = to_numpy(with_eos(model, ends).generate(pixels, max_length=14))
    assert found.dtype == np.int64
    longest = 0
    for row, wanted in zip(found, free, strict=True):
        stops = np.flatnonzero(wanted[1:] == ends)
        stop = int(stops[0]) + 2 if len(stops) else 14
        longest = max(longest, stop)
        np.testing.assert_array_equal(row[:stop], wanted[:stop])
        np.testing.assert_array_equal(row[stop:], PAD)
    assert found.shape[1] == longest


@pytest.mark.slow
def test_rows_end_at_different_lengths_in_the_test_above() -> None:
    """Else it would not show what stands after the end token."""
    padded = 0
    for seed in range(20):
        model, pixels = testing.tiny_model(seed), testing.pixels(3, seed)
        ends = int(endless(model, pixels, max_length=14)[0, 3])
        found = to_numpy(with_eos(model, ends).generate(pixels, max_length=14))
        lengths = {int(np.argmax(row[1:] == ends)) for row in found}
        padded += len(lengths) > 1
    assert padded >= 5


def test_without_a_pad_token_the_end_token_fills() -> None:
    model, pixels, ends = uneven(testing.CONFIG.replace(pad_token_id=None))
    found = to_numpy(model.generate(pixels, max_length=12))
    stop = int(np.flatnonzero(found[0] == ends)[0])
    assert stop < found.shape[1] - 1
    np.testing.assert_array_equal(found[0, stop:], ends)


@few
@given(seed=seeds, shortest=st.integers(0, 12))
def test_the_end_token_is_not_chosen_before_min_length(seed: int, shortest: int) -> None:
    model, pixels = testing.tiny_model(seed), testing.pixels(1, seed)
    ends = int(endless(model, pixels, max_length=14)[0, 2])
    assume(ends != BOS)
    model = with_eos(model, ends)
    found = to_numpy(model.generate(pixels, max_length=14, min_length=shortest))
    assert ends not in found[0, :shortest]
    if shortest <= 1:
        assert found.shape[1] <= 3  # it ended where it would have
    logits = to_numpy(model(found[:, :-1], pixel_values=pixels).logits)[0, testing.IMAGE_TOKENS :]
    for word, scores, position in zip(found[0, 1:], logits, range(1, 14), strict=False):
        allowed = np.delete(scores, ends) if position < shortest else scores
        np.testing.assert_allclose(scores[word], allowed.max(), atol=1e-4)


def test_min_length_counts_the_prompt() -> None:
    prompt = testing.tokens(1, 5)
    ends = int(endless(MODEL, testing.pixels(), input_ids=prompt, max_length=9)[0, 5])
    model = with_eos(MODEL, ends)
    options = {"pixel_values": testing.pixels(), "input_ids": prompt, "max_length": 9}
    assert model.generate(**options, min_length=5).shape == (1, 6)
    assert model.generate(**options, min_length=6).shape[1] > 6


def test_an_end_token_that_is_no_word_never_ends_a_text() -> None:
    model = with_eos(MODEL, [102, 103])  # the default of git-base in a smaller vocabulary
    free = endless(MODEL, testing.pixels(), max_length=9)
    np.testing.assert_array_equal(model.generate(testing.pixels(), max_length=9), free)
    found = model.generate(testing.pixels(), max_length=9, min_length=7)
    np.testing.assert_array_equal(found, free)


@pytest.mark.parametrize("prompt", [1, 3, 7])
def test_max_new_tokens_does_not_count_the_prompt_and_max_length_does(prompt: int) -> None:
    ids, pixels = testing.tokens(1, prompt), testing.pixels()
    for new in (1, 2, 9):
        by_new = endless(MODEL, pixels, input_ids=ids, max_new_tokens=new)
        by_length = endless(MODEL, pixels, input_ids=ids, max_length=prompt + new)
        assert by_new.shape == (1, prompt + new)
        np.testing.assert_array_equal(by_new, by_length)


def test_two_answers_to_how_long_a_text_may_be_are_refused() -> None:
    for pair in ({"max_length": 3, "max_new_tokens": 5}, {"min_length": 2, "min_new_tokens": 1}):
        with pytest.raises(ValueError, match="expected one of the two"):
            MODEL.generate(testing.pixels(), **pair)
    with pytest.raises(ValueError, match=r"min_new_tokens is 9, .* at least 10 tokens"):
        MODEL.generate(testing.pixels(), min_new_tokens=9, max_length=4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 2},
        {"do_sample": True},
        {"penalty_alpha": 0.5, "top_k": 3},
        {"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"num_beams": 2, "force_words_ids": [[5]]},
    ],
)
def test_where_no_word_is_left_every_search_says_so(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="leave no token with a finite score"):
        MODEL.generate(testing.pixels(), max_length=6, suppress_tokens=list(range(23)), **options)


def test_groups_and_forced_words_that_a_criterion_stops_are_closed_as_in_transformers() -> None:
    stop = [lambda ids, scores: np.full(len(ids), ids.shape[1] >= 5)]
    for options in (
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"num_beams": 3, "force_words_ids": [[7]]},
    ):
        found = MODEL.generate(testing.pixels(), max_length=9, stopping_criteria=stop, **options)
        assert found.shape == (1, 6)
        assert found[0, -1] == EOS


def test_a_text_reaches_the_last_position() -> None:
    """The word behind the last position is still written, since it is never read."""
    found = endless(MODEL, testing.pixels(), max_length=LONGEST + 1)
    assert found.shape == (1, LONGEST + 1)
    np.testing.assert_array_equal(
        found, uncached(MODEL, testing.pixels(), np.array([[BOS]]), LONGEST)
    )


def test_a_shorter_text_is_the_beginning_of_a_longer_one() -> None:
    whole = endless(MODEL, testing.pixels(2), max_length=20)
    for length in range(2, 20):
        part = endless(MODEL, testing.pixels(2), max_length=length)
        np.testing.assert_array_equal(part, whole[:, :length])


# ---- batches


@few
@given(seed=seeds, images=st.integers(2, 4))
def test_a_batch_of_images_gives_what_each_gives_alone(seed: int, images: int) -> None:
    pixels = testing.pixels(images, seed)
    together = endless(MODEL, pixels, max_length=10)
    for b in range(images):
        alone = endless(MODEL, pixels[b : b + 1], max_length=10)
        np.testing.assert_array_equal(together[b : b + 1], alone)


def test_captions_depend_on_the_image() -> None:
    """Else equal captions of a batch would show nothing."""
    found = endless(MODEL, testing.pixels(8), max_length=10)
    assert len({tuple(row) for row in found}) >= 3


@few
@given(seed=seeds, images=st.integers(1, 3), texts=st.integers(1, 3))
def test_text_b_belongs_to_image_b_modulo_the_number_of_images(
    seed: int, images: int, texts: int
) -> None:
    pixels, prompts = testing.pixels(images, seed), testing.tokens(images * texts, 3, seed)
    together = endless(MODEL, pixels, input_ids=prompts, max_length=9)
    for b, prompt in enumerate(prompts):
        image = pixels[b % images][None]
        alone = endless(MODEL, image, input_ids=prompt[None], max_length=9)
        np.testing.assert_array_equal(together[b : b + 1], alone)


def test_a_prompt_stands_in_front_of_what_is_written() -> None:
    prompts = testing.tokens(2, 5)
    found = MODEL.generate(testing.pixels(2), prompts, max_length=9)
    np.testing.assert_array_equal(found[:, :5], prompts)
    as_list = MODEL.generate(testing.pixels(2), prompts.tolist(), max_length=9)
    np.testing.assert_array_equal(found, as_list)


def test_without_a_prompt_each_text_starts_with_the_opening_token() -> None:
    found = MODEL.generate(testing.pixels(3), max_length=5)
    np.testing.assert_array_equal(found[:, 0], BOS)
    prompts = np.full((3, 1), BOS)
    np.testing.assert_array_equal(found, MODEL.generate(testing.pixels(3), prompts, max_length=5))


def test_without_an_image_the_text_is_continued() -> None:
    prompt = testing.tokens(2, 3)
    found = to_numpy(with_eos(MODEL, None).generate(input_ids=prompt, max_length=8))
    ids = prompt
    for _ in range(5):
        best = to_numpy(MODEL(ids).logits)[:, -1].argmax(-1)
        ids = np.concatenate([ids, best[:, None]], axis=1)
    np.testing.assert_array_equal(found, ids)
    assert MODEL.generate(max_length=4).shape[0] == 1


@few
@given(seed=seeds, padding=st.integers(1, 4), side=st.sampled_from(["left", "right", "middle"]))
def test_below_a_padded_prompt_each_text_becomes_what_it_becomes_alone(
    seed: int, padding: int, side: str
) -> None:
    prompts = testing.tokens(2, 3 + padding, seed)
    first = {"left": 0, "right": 3, "middle": 1}[side]
    mask = np.ones_like(prompts)
    mask[0, first : first + padding] = 0
    found = endless(
        MODEL, testing.pixels(2), input_ids=prompts, attention_mask=mask, max_new_tokens=6
    )
    for row in range(2):
        prompt = prompts[row : row + 1, mask[row] != 0]
        alone = endless(MODEL, testing.pixels(2)[row:][:1], input_ids=prompt, max_new_tokens=6)
        np.testing.assert_array_equal(found[row, -6:], alone[0, -6:])
    np.testing.assert_array_equal(found[:, :-6], prompts)  # as they were given


def test_lengths_count_a_texts_own_tokens_without_padding() -> None:
    prompts = testing.tokens(2, 6)
    mask = np.ones_like(prompts)
    mask[0, :4] = 0
    options: dict[str, Any] = {"input_ids": prompts, "attention_mask": mask, "max_length": 9}
    found = endless(MODEL, testing.pixels(2), **options)
    assert found.shape == (2, 6 + 7)
    assert (found[1, 9:] == PAD).all()
    alone = endless(MODEL, testing.pixels(2)[:1], input_ids=prompts[:1, 4:], max_length=9)
    np.testing.assert_array_equal(found[0, 6:], alone[0, 2:])


def test_a_prompt_of_padding_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 of input_ids is nothing but padding"):
        MODEL.generate(
            testing.pixels(2),
            testing.tokens(2, 3),
            attention_mask=[[1, 1, 1], [0, 0, 0]],
            max_length=9,
        )


# ---- generation_config.json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with_eos(MODEL, None).save_pretrained(tmp_path)
    return tmp_path


def loaded(folder: Path, **values: Any) -> GitForCausalLM:
    """The model with this generation_config.json."""
    (folder / "generation_config.json").write_text(json.dumps(values))
    return GitForCausalLM.from_pretrained(folder)


def test_by_default_twenty_words_follow_the_prompt_as_in_transformers(folder: Path) -> None:
    assert loaded(folder).generate(testing.pixels(), [[BOS]]).shape == (1, 21)
    assert endless(MODEL, testing.pixels()).shape == (1, 21)
    assert endless(MODEL, testing.pixels(), input_ids=testing.tokens(1, 3)).shape == (1, 23)


def test_the_default_length_does_not_go_beyond_the_positions() -> None:
    for prompt in (6, LONGEST - 1):
        found = endless(MODEL, testing.pixels(), input_ids=testing.tokens(1, prompt))
        assert found.shape == (1, LONGEST)


def test_lengths_come_from_generation_config_json_unless_given(folder: Path) -> None:
    free = endless(MODEL, testing.pixels(), max_length=12)
    ends = int(free[0, 2])
    model = loaded(folder, max_length=7, min_length=5, bos_token_id=BOS, eos_token_id=ends)
    found = model.generate(testing.pixels())
    assert ends not in found[0, :5]
    assert found.shape[1] <= 7
    assert model.generate(testing.pixels(), min_length=0).shape[1] <= 3
    assert loaded(folder, max_length=7, bos_token_id=BOS).generate(testing.pixels()).shape == (1, 7)
    for given_length in ({"max_length": 9}, {"max_new_tokens": 8}):
        longer = loaded(folder, max_length=7, bos_token_id=BOS)
        assert longer.generate(testing.pixels(), **given_length).shape == (1, 9)


def test_ids_come_from_generation_config_json(folder: Path) -> None:
    found = loaded(folder, bos_token_id=5, max_length=4).generate(testing.pixels())
    assert found[0, 0] == 5
    model, pixels, ends = uneven()
    model.save_pretrained(folder)
    ids = {"bos_token_id": BOS, "eos_token_id": ends, "pad_token_id": 9}
    found = loaded(folder, **ids, max_length=12).generate(pixels)
    stop = int(np.flatnonzero(found[0] == ends)[0])
    assert stop < found.shape[1] - 1
    np.testing.assert_array_equal(found[0, stop + 1 :], 9)


def test_any_of_several_end_tokens_ends_a_text(folder: Path) -> None:
    free = endless(MODEL, testing.pixels(), max_length=12)[0]
    late, early = int(free[6]), int(free[3])
    first = min(int(np.flatnonzero(free[1:] == word)[0]) + 2 for word in (late, early))
    for ends in ([late, early], [early, late], [late, early, 102]):
        found = loaded(folder, bos_token_id=BOS, eos_token_id=ends).generate(testing.pixels())
        np.testing.assert_array_equal(found, free[None, :first])


def test_without_the_file_the_ids_of_config_json_serve(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    model = GitForCausalLM.from_pretrained(folder)
    assert model.generation_config == GenerationConfig.of(model.config)
    assert model.generate(testing.pixels())[0, 0] == BOS


def test_lengths_in_an_old_config_json_serve_without_the_file(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    testing.CONFIG.replace(extra={"max_length": 6}, eos_token_id=None).save_pretrained(folder)
    model = GitForCausalLM.from_pretrained(folder)
    assert model.generate(testing.pixels()).shape == (1, 6)


def test_the_file_is_written_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    values = {
        "_from_model_config": True,
        "bos_token_id": BOS,
        "eos_token_id": [2, 3],
        "max_length": 9,
        "min_length": 2,
        "pad_token_id": 0,
        "transformers_version": "4.56.2",
    }
    loaded(folder, **values).save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text()) == values


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("bad_words_ids", [[10]], None),
        ("repetition_penalty", 3.0, 1.0),
        ("no_repeat_ngram_size", 1, 0),
        ("suppress_tokens", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12], None),
        ("forced_bos_token_id", 4, None),
    ],
)
def test_what_a_file_asks_for_is_done_unless_the_caller_says_otherwise(
    name: str, value: Any, plain: Any, folder: Path
) -> None:
    model = loaded(folder, bos_token_id=BOS, **{name: value})
    found = model.generate(testing.pixels(), max_length=12)
    asked = endless(MODEL, testing.pixels(), max_length=12, **{name: value})
    np.testing.assert_array_equal(found, asked)
    found = model.generate(testing.pixels(), max_length=12, **{name: plain})
    greedy = endless(MODEL, testing.pixels(), max_length=12)
    np.testing.assert_array_equal(found, greedy)
    assert asked.shape != greedy.shape or (asked != greedy).any()


def test_max_new_tokens_of_a_file_count_unless_the_caller_says_otherwise(folder: Path) -> None:
    # the end token is not chosen before 20 tokens, so the lengths alone decide
    model = loaded(folder, bos_token_id=BOS, max_new_tokens=5, min_length=20)
    assert model.generate(testing.pixels()).shape == (1, 6)
    assert model.generate(testing.pixels(), [[BOS, 4, 5]]).shape == (1, 8)
    assert model.generate(testing.pixels(), max_length=4).shape == (1, 4)
    assert model.generate(testing.pixels(), max_new_tokens=2).shape == (1, 3)


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_with_relative_positions_image_and_text_share_the_room(kind: str) -> None:
    config = testing.CONFIG.replace(position_embedding_type=kind, eos_token_id=None)
    model = GitForCausalLM(config, seed=1)
    n_image = config.vision_config.num_positions
    room = config.max_position_embeddings - n_image
    ids = model.generate(testing.pixels(), max_length=room + 1)  # the last is never read
    assert ids.shape == (1, room + 1)
    assert model.generate(testing.pixels()).shape == (1, min(21, room))
    calls: list[str] = []
    model.next_token_logits = lambda *_args, **_options: calls.append("a step")  # type: ignore
    with pytest.raises(ValueError, match="relative positions"):
        model.generate(testing.pixels(), max_length=room + 2)
    assert not calls


def test_an_encoded_image_serves_many_texts_and_is_left_as_it_was(backend: Backend) -> None:
    model = GitForCausalLM(testing.CONFIG, seed=1, backend=backend)
    pixels = testing.pixels(2)
    image = model.encode_image(pixels)
    prompts = testing.tokens(4, 3)  # two texts for each of two images
    direct = to_numpy(model.generate(pixels, prompts, max_new_tokens=6))
    for _ in range(2):
        again = model.generate(past_key_values=image, input_ids=prompts, max_new_tokens=6)
        np.testing.assert_array_equal(to_numpy(again), direct)
    captions = to_numpy(model.generate(past_key_values=image, max_length=7))
    np.testing.assert_array_equal(captions, to_numpy(model.generate(pixels, max_length=7)))
    assert image.text_length == 0
    assert image.fork().nbytes == image.nbytes


def test_an_image_given_twice_or_a_cache_with_text_is_refused() -> None:
    image = MODEL.encode_image(testing.pixels())
    with pytest.raises(ValueError, match="together"):
        MODEL.generate(testing.pixels(), past_key_values=image)
    with pytest.raises(TypeError, match="encode_image"):
        MODEL.generate(past_key_values=[1])
    MODEL.next_token_logits(testing.tokens(1, 2), image)
    with pytest.raises(ValueError, match="2 text tokens"):
        MODEL.generate(past_key_values=image)


def test_images_of_other_sizes_and_silenced_heads_are_served() -> None:
    pixels = np.random.default_rng(0).standard_normal((1, 3, 12, 20)).astype(np.float32)
    heads = np.array([1.0, 0, 1, 0])
    options = {"interpolate_pos_encoding": True}
    ids = MODEL.generate(pixels, max_length=6, head_mask=heads, **options)
    whole = MODEL(ids[:, :-1], pixel_values=pixels, head_mask=heads, **options).logits
    n_text = ids.shape[1] - 1
    np.testing.assert_array_equal(np.argmax(whole[:, -n_text:], -1), ids[:, 1:])


def test_a_file_that_spells_out_the_defaults_is_taken(folder: Path) -> None:
    model = loaded(
        folder, bos_token_id=BOS, max_length=8, num_beams=1, do_sample=False, temperature=0.7
    )
    found = model.generate(testing.pixels())
    np.testing.assert_array_equal(found, endless(MODEL, testing.pixels(), max_length=8))


# ---- backends, and what is computed


@pytest.mark.parametrize("seed", range(4))
def test_backends_agree(seed: int, backend: Backend) -> None:
    pixels, prompts = testing.pixels(2, seed), testing.tokens(4, 3, seed)
    wanted = testing.tiny_model(seed)
    found = testing.tiny_model(seed, backend=backend)
    for ids in (None, prompts):
        ours = found.generate(backend.asarray(pixels), ids, max_length=12)
        assert backend.owns(ours)
        np.testing.assert_array_equal(to_numpy(ours), wanted.generate(pixels, ids, max_length=12))


def test_generating_twice_gives_the_same() -> None:
    first = MODEL.generate(testing.pixels(2), max_length=10)
    np.testing.assert_array_equal(first, MODEL.generate(testing.pixels(2), max_length=10))


@pytest.mark.parametrize(("texts", "new"), [(1, 1), (1, 9), (6, 9)])
def test_the_image_is_encoded_once(texts: int, new: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str) -> None:
        real = getattr(model_module, name)

        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(model_module, name, call)

    for name in ("image_encoder", "visual_projection", "read_image", "continue_text", "decode"):
        counted(name)
    prompts = testing.tokens(texts, 2)
    endless(MODEL, testing.pixels(), input_ids=prompts, max_new_tokens=new)
    assert calls == {
        "image_encoder": 1, "visual_projection": 1, "read_image": 1, "continue_text": new
    }  # fmt: skip


def test_each_step_reads_one_new_token(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = model_module.continue_text

    def watched(x: Any, p: Any, config: Any, cache: KeyValueCache, **options: Any) -> Any:
        read.append((x.shape[1], cache.text_length))
        return real(x, p, config, cache, **options)

    monkeypatch.setattr(model_module, "continue_text", watched)
    endless(MODEL, testing.pixels(), input_ids=testing.tokens(1, 4), max_new_tokens=5)
    assert read == [(4, 0), (1, 4), (1, 5), (1, 6), (1, 7)]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_last_layer_computes_only_keys_and_values_of_the_image(layers: int) -> None:
    model = testing.tiny_model(config=testing.CONFIG.replace(num_hidden_layers=layers))
    hooks: dict[str, Any] = {}
    model.encode_image(testing.pixels(2), hook=hooks.__setitem__)
    of_layer: dict[int, set[str]] = {i: set() for i in range(layers)}
    for name in hooks:
        if name.startswith("git.encoder.layer."):
            number, _, rest = name.removeprefix("git.encoder.layer.").partition(".")
            of_layer[int(number)].add(rest)
    assert of_layer.pop(layers - 1) == {"attention.self.key", "attention.self.value"}
    for names in of_layer.values():
        assert {"attention.self.query", "attention.self.probabilities", "output.LayerNorm"} <= names
    last = hooks[f"git.encoder.layer.{layers - 1}.attention.self.key"]
    assert last.shape == (2, testing.IMAGE_TOKENS, 16)


def test_image_keys_and_values_stand_in_the_cache_once_per_image() -> None:
    cache = MODEL.encode_image(testing.pixels(2))
    of_image = cache.nbytes
    assert (
        of_image == 2 * 3 * 2 * testing.IMAGE_TOKENS * 16 * 4
    )  # K and V, layers, images, N, D, bytes
    assert (cache.image_length, cache.num_images, cache.text_length) == (5, 2, 0)
    MODEL(testing.tokens(8, 1), past_key_values=cache)
    assert cache.nbytes - of_image == 2 * 3 * 8 * 16 * 4


def test_without_a_cache_the_ids_are_the_same() -> None:
    plain = MODEL.generate(testing.pixels(2), max_length=9)
    np.testing.assert_array_equal(
        MODEL.generate(testing.pixels(2), max_length=9, use_cache=False), plain
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 3000),
    k=st.integers(1, 40),
    kind=st.sampled_from(["all different", "many equal", "all equal", "most lost"]),
)
def test_the_highest_scores_are_those_of_sorting(seed: int, size: int, k: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(size).astype(np.float32)
    if kind == "many equal":
        scores = np.round(scores)
    elif kind == "all equal":
        scores[:] = 0
    elif kind == "most lost":
        scores[rng.random(size) < 0.9] = -np.inf
    wanted = np.argsort(-scores, kind="stable")[:k]
    np.testing.assert_array_equal(highest(scores, k), wanted)
