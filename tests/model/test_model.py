"""Facts about the composed model: cache, batches, image tokens, on every backend."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.backends import make_backend
from helpers.models import CONFIG, draw_inputs
from helpers.strategies import few, seeds
from refgit import GitForCausalLM, GitModel, GitVisionModel, to_numpy
from refgit_backends import Backend

N_IMAGE = CONFIG.vision_config.num_positions


@cache
def model_on(name: str) -> GitForCausalLM:
    return GitForCausalLM(CONFIG, seed=3, backend=make_backend(name), dtype="float64")


def logits_of(model: GitForCausalLM, *args: object, **kwargs: object) -> np.ndarray:
    return to_numpy(model(*args, **kwargs).logits)


@pytest.mark.parametrize("name", ["numpy", pytest.param("strict", marks=pytest.mark.slow)])
@given(
    seed=seeds,
    images=st.integers(0, 2),
    repeat=st.integers(1, 2),
    chunks=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    encode_first=st.booleans(),
)
def test_cached_equals_uncached_whatever_the_chunks(
    name: str, seed: int, images: int, repeat: int, chunks: list[int], encode_first: bool
) -> None:
    model = model_on(name)
    pixels, ids = draw_inputs(seed, max(images, 1), max(images, 1) * repeat, sum(chunks))
    picture = {"pixel_values": pixels} if images else {}
    whole = logits_of(model, ids, **picture, use_cache=False)[:, -ids.shape[1] :]
    cache, found = None, []
    if encode_first and images:
        cache, picture = model.encode_image(pixels), {}
    for start, size in zip(np.cumsum([0, *chunks]), chunks, strict=False):
        out = model(ids[:, start : start + size], past_key_values=cache, **picture)
        cache, picture = out.past_key_values, {}
        found.append(to_numpy(out.logits)[:, -size:])
    assert cache.text_length == ids.shape[1]
    assert cache.image_length == (N_IMAGE if images else 0)
    np.testing.assert_allclose(np.concatenate(found, 1), whole, rtol=1e-9, atol=1e-10)


@few
@given(seed=seeds, split=st.integers(1, 5), side=st.sampled_from(["left", "right"]))
def test_padding_changes_nothing_cached_or_not(seed: int, split: int, side: str) -> None:
    model = model_on("numpy")
    pixels, ids = draw_inputs(seed, 1, 1, 6)
    padded, mask = np.zeros((1, 9), int), np.zeros((1, 9), int)
    place = slice(3, 9) if side == "left" else slice(0, 6)
    padded[:, place], mask[:, place] = ids, 1
    positions = np.clip(np.cumsum(mask, 1) - 1, 0, None)
    alone = logits_of(model, ids, pixel_values=pixels)[:, N_IMAGE:]
    whole = logits_of(
        model, padded, attention_mask=mask, position_ids=positions, pixel_values=pixels
    )[:, N_IMAGE:]
    np.testing.assert_allclose(whole[:, place], alone, atol=1e-10)
    first = model(padded[:, :split], mask[:, :split], positions[:, :split], pixel_values=pixels)
    for given_mask in (mask, mask[:, split:]):  # all the text's mask, or the new tokens' alone
        cache = model(
            padded[:, :split], mask[:, :split], positions[:, :split], pixel_values=pixels
        ).past_key_values
        rest = logits_of(
            model, padded[:, split:], given_mask, positions[:, split:], past_key_values=cache
        )
        joined = np.concatenate([to_numpy(first.logits)[:, N_IMAGE:], rest], 1)
        np.testing.assert_allclose(joined[:, place], alone, atol=1e-10)


@few
@given(seed=seeds, batch=st.integers(1, 4))
def test_batching_changes_no_row(seed: int, batch: int) -> None:
    model = model_on("numpy")
    pixels, ids = draw_inputs(seed, batch, batch, 4)
    together = logits_of(model, ids, pixel_values=pixels)
    for b in range(batch):
        alone = logits_of(model, ids[b : b + 1], pixel_values=pixels[b : b + 1])
        np.testing.assert_allclose(together[b : b + 1], alone, rtol=1e-9, atol=1e-10)


def test_image_tokens_do_not_see_text(backend: Backend) -> None:
    model = GitForCausalLM(CONFIG, seed=3, backend=backend)
    pixels, ids = draw_inputs(0, 1, 1, 4)
    one = logits_of(model, ids, pixel_values=pixels)
    other = logits_of(model, (ids + 1) % 23, pixel_values=pixels)
    np.testing.assert_array_equal(one[:, :N_IMAGE], other[:, :N_IMAGE])
    assert not np.allclose(one[:, N_IMAGE:], other[:, N_IMAGE:])


def test_text_does_not_see_its_future(backend: Backend) -> None:
    model = GitForCausalLM(CONFIG, seed=3, backend=backend)
    pixels, ids = draw_inputs(0, 1, 1, 4)
    changed = ids.copy()
    changed[:, 2] = (changed[:, 2] + 1) % 23
    one, other = (logits_of(model, i, pixel_values=pixels) for i in (ids, changed))
    np.testing.assert_array_equal(one[:, : N_IMAGE + 2], other[:, : N_IMAGE + 2])
    assert not np.allclose(one[:, N_IMAGE + 2 :], other[:, N_IMAGE + 2 :])


def test_every_text_token_sees_the_image() -> None:
    model = model_on("numpy")
    pixels, ids = draw_inputs(0, 1, 1, 4)
    one, other = (logits_of(model, ids, pixel_values=p) for p in (pixels, pixels + 0.1))
    assert (np.abs(one - other).max(-1) > 1e-6).all()


def test_more_texts_than_images_are_dealt_out_in_turn(backend: Backend) -> None:
    model = GitForCausalLM(CONFIG, seed=3, backend=backend)
    pixels, ids = draw_inputs(5, 2, 4, 3)
    together = logits_of(model, ids, pixel_values=pixels)
    for text, image in enumerate([0, 1, 0, 1]):
        alone = logits_of(model, ids[text : text + 1], pixel_values=pixels[image : image + 1])
        np.testing.assert_allclose(together[text : text + 1], alone, rtol=1e-5, atol=1e-5)


def test_word_vectors_may_take_the_place_of_ids(backend: Backend) -> None:
    model = GitForCausalLM(CONFIG, seed=3, backend=backend)
    pixels, ids = draw_inputs(1, 1, 1, 4)
    table = to_numpy(model.state_dict()["git.embeddings.word_embeddings.weight"])
    by_ids = logits_of(model, ids, pixel_values=pixels)
    by_vectors = logits_of(model, inputs_embeds=table[ids], pixel_values=pixels)
    np.testing.assert_array_equal(by_ids, by_vectors)


def test_outputs_index_unpack_and_flatten(backend: Backend) -> None:
    model = GitForCausalLM(CONFIG, seed=3, backend=backend)
    pixels, ids = draw_inputs(1, 1, 1, 4)
    out = model(ids, pixel_values=pixels, labels=ids, output_attentions=True)
    assert out.keys() == ["loss", "logits", "attentions"]
    loss, logits, attentions = out
    assert out[0] is loss is out["loss"] is out.loss
    assert out[1] is logits
    assert out[2:] == (attentions,)
    assert "hidden_states" not in out
    flat = model(ids, pixel_values=pixels, labels=ids, output_attentions=True, return_dict=False)
    assert isinstance(flat, tuple)
    assert len(flat) == 3
    with_cache = model(ids, pixel_values=pixels, return_dict=False)
    assert len(with_cache) == 2


def test_taps_do_not_change_the_result_and_results_stay_on_the_backend(backend: Backend) -> None:
    model = GitForCausalLM(CONFIG, seed=3, backend=backend)
    pixels, ids = draw_inputs(1, 1, 1, 4)
    names: list[str] = []
    hooked = model(ids, pixel_values=pixels, hook=lambda name, _: names.append(name)).logits
    plain = model(ids, pixel_values=pixels).logits
    assert backend.owns(plain)
    np.testing.assert_array_equal(to_numpy(hooked), to_numpy(plain))
    assert len(names) == len(set(names))
    assert "git.encoder.layer.2.attention.self.probabilities" in names
    assert names[-1] == "output"


def test_the_smaller_models_are_parts_of_the_larger() -> None:
    whole = model_on("numpy")
    state = whole.state_dict()
    pixels, ids = draw_inputs(1, 2, 2, 4)
    trunk = GitModel(
        CONFIG,
        dtype="float64",
        _parameters={k.removeprefix("git."): v for k, v in state.items() if k.startswith("git.")},
    )
    out = trunk(ids, pixel_values=pixels, output_hidden_states=True)
    head = state["output.weight"], state["output.bias"]
    np.testing.assert_allclose(
        out.last_hidden_state @ head[0].T + head[1], logits_of(whole, ids, pixel_values=pixels)
    )
    prefix = "git.image_encoder."
    eye = GitVisionModel(
        CONFIG.vision_config,
        dtype="float64",
        _parameters={k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)},
    )
    seen = eye(pixels, output_hidden_states=True, output_attentions=True)
    assert seen.last_hidden_state.shape == (2, N_IMAGE, 12)
    assert len(seen.hidden_states) == 3
    assert len(seen.attentions) == 2
    np.testing.assert_allclose(seen.attentions[0].sum(-1), 1)


def test_the_cache_keeps_one_copy_of_an_image_however_many_texts() -> None:
    model = model_on("numpy")
    pixels, _ = draw_inputs(1, 1, 1, 4)
    cache = model.encode_image(pixels)
    d = CONFIG.hidden_size
    before = cache.nbytes
    assert before == 2 * CONFIG.num_hidden_layers * N_IMAGE * d * 8
    model.next_token_logits(np.ones((5, 2), int), cache)
    assert cache.num_images == 1
    assert cache.batch_size == 5
    assert cache.nbytes == before + 2 * CONFIG.num_hidden_layers * 5 * 2 * d * 8


def test_seeds_decide_the_random_weights() -> None:
    one, same, other = (GitForCausalLM(CONFIG, seed=s).state_dict() for s in (1, 1, 2))
    assert all((one[k] == same[k]).all() for k in one)
    assert not np.array_equal(one["output.weight"], other["output.weight"])
    assert (one["git.embeddings.word_embeddings.weight"][CONFIG.pad_token_id] == 0).all()


def test_num_parameters_counts_them() -> None:
    assert GitForCausalLM(CONFIG).num_parameters() == sum(
        int(np.prod(s)) for s in GitForCausalLM.shapes(CONFIG).values()
    )


def test_a_forward_pass_stores_each_image_once_too(backend: Backend) -> None:
    model = GitForCausalLM(CONFIG, seed=3, backend=backend)
    pixels, ids = draw_inputs(2, 2, 4, 3)
    out = model(ids, pixel_values=pixels)
    cache = out.past_key_values
    assert cache.num_images == 2
    assert cache.batch_size == 4
    encoded = model.encode_image(pixels)
    per_text = 2 * CONFIG.num_hidden_layers * 4 * 3 * CONFIG.hidden_size * 4
    assert cache.nbytes == encoded.nbytes + per_text
    more = (ids + 1) % 23
    whole = logits_of(model, np.concatenate([ids, more], 1), pixel_values=pixels)[:, -3:]
    rest = logits_of(model, more, past_key_values=cache)
    np.testing.assert_allclose(rest, whole, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused_before_the_image_is_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = GitForCausalLM(CONFIG, seed=3)
    pixels, ids = draw_inputs(2, 2, 3, 3)
    monkeypatch.setattr(model.git, "_image_tokens", lambda *_: pytest.fail("the image was encoded"))
    with pytest.raises(ValueError, match="3 texts for 2 images"):
        model(ids, pixel_values=pixels)
    with pytest.raises(ValueError, match="labels"):
        model(ids[:2], pixel_values=pixels, labels=ids[:2, :2])


def test_a_fork_of_a_cache_goes_its_own_way() -> None:
    model = model_on("numpy")
    pixels, ids = draw_inputs(2, 1, 1, 6)
    cache = model(ids[:, :3], pixel_values=pixels).past_key_values
    fork = cache.fork()
    one = logits_of(model, ids[:, 3:], past_key_values=cache)
    other = logits_of(model, ids[:, 3:], past_key_values=fork)
    np.testing.assert_array_equal(one, other)
    assert cache.text_length == fork.text_length == 6
