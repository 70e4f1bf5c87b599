"""Changing a model's shape: vocabulary, heads, backend, dtype."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refgit import GitConfig, GitForCausalLM, GitModel, GitVisionModel, testing, to_numpy
from refgit.demo import demo_path
from refgit.generation import GenerationConfig
from refgit_backends import Backend

LAYERS, HEADS = testing.CONFIG.num_hidden_layers, testing.CONFIG.num_attention_heads


def model(config: GitConfig = testing.CONFIG, **options: object) -> GitForCausalLM:
    return GitForCausalLM(config, seed=4, **options)


def logits(m: GitForCausalLM, **options: object) -> np.ndarray:
    return to_numpy(m(testing.tokens(1, 5), pixel_values=testing.pixels(), **options).logits)


def test_new_words_start_as_the_mean_and_old_ones_stay(backend: Backend) -> None:
    m = model(backend=backend)
    before, words = logits(m), to_numpy(m.get_input_embeddings())
    rows = to_numpy(m.resize_token_embeddings(words.shape[0] + 3))
    np.testing.assert_array_equal(rows[:-3], words)
    np.testing.assert_allclose(rows[-3:], np.tile(words.mean(0), (3, 1)), rtol=1e-5, atol=1e-7)
    assert m.config.vocab_size == words.shape[0] + 3
    after = logits(m)
    np.testing.assert_allclose(after[..., :-3], before, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after[..., -1], before.mean(-1), rtol=1e-4, atol=1e-5)


def test_fewer_words_keep_the_first_and_a_number_may_be_rounded_up() -> None:
    m = model()
    before, size = logits(m), testing.CONFIG.vocab_size
    m.resize_token_embeddings(size - 2)
    np.testing.assert_allclose(
        m(testing.tokens(1, 5) % (size - 2), pixel_values=testing.pixels()).logits.shape[-1],
        size - 2,
    )
    assert before.shape[-1] == size
    m.resize_token_embeddings(pad_to_multiple_of=8)
    assert m.config.vocab_size % 8 == 0
    assert m.get_output_embeddings().shape[0] == m.config.vocab_size
    with pytest.raises(ValueError, match="vocab_size"):
        m.resize_token_embeddings(0)


def test_tied_embeddings_stay_one_array_when_resized() -> None:
    m = model(testing.CONFIG.replace(tie_word_embeddings=True))
    assert m.get_output_embeddings() is m.get_input_embeddings()
    m.resize_token_embeddings(40)
    assert m.get_output_embeddings() is m.get_input_embeddings()
    m.tie_weights()
    assert m.get_output_embeddings() is m.get_input_embeddings()


def test_pruning_heads_is_masking_them(backend: Backend, tmp_path: Path) -> None:
    m = model(backend=backend)
    mask = np.ones((LAYERS, HEADS), np.float32)
    mask[0, [1, 3]] = mask[2, 0] = 0
    wanted, parameters = logits(m, head_mask=mask), m.num_parameters()
    m.prune_heads({0: [1]})
    m.prune_heads({0: [3, 1], 2: [0]})  # counted as in the unpruned model
    assert m.config.pruned_heads == {0: {1, 3}, 2: {0}}
    np.testing.assert_allclose(logits(m), wanted, rtol=1e-4, atol=1e-5)
    assert m.num_parameters() < parameters
    assert {k: tuple(x.shape) for k, x in m.state_dict().items()} == m.shapes(m.config)
    m.save_pretrained(tmp_path)
    again = GitForCausalLM.from_pretrained(tmp_path, backend=backend)
    np.testing.assert_array_equal(logits(again), logits(m))
    ids = to_numpy(again.generate(testing.pixels(), max_length=8))
    assert ids.shape[1] <= 8


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ({LAYERS: [0]}, f"layer {LAYERS}"),
        ({0: [HEADS]}, f"head {HEADS}"),
        ({0: range(HEADS)}, f"all {HEADS} heads"),
    ],
)
def test_heads_that_cannot_be_pruned_are_named(heads: dict[int, list[int]], said: str) -> None:
    m = model()
    before = copy.copy(m.state_dict())
    with pytest.raises(ValueError, match=said):
        m.prune_heads(heads)
    assert m.state_dict().keys() == before.keys()
    assert not m.config.pruned_heads


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ("x", "heads_to_prune is 'x'; expected a mapping"),
        ({0: 1}, "heads of layer 0 are 1; expected a list"),
        ({0: "1"}, "heads of layer 0 are '1'; expected a list"),
        ({0: [[1]]}, r"heads of layer 0 are \[\[1\]\]; expected a list"),
        ({0: ["a", 99]}, "heads of layer 0 are .*; expected a list"),
        ({0: [True]}, "heads of layer 0 are .*; expected a list"),
        ({True: [0]}, "layer True"),
        ({1.0: [0]}, "layer 1.0"),
        ({"0": [0]}, "layer '0'"),
    ],
)
def test_heads_that_are_none_are_refused(heads: Any, said: str) -> None:
    m = model()
    with pytest.raises(ValueError, match=said):
        m.prune_heads(heads)
    assert not m.config.pruned_heads


def test_heads_of_numpy_are_pruned() -> None:
    m, other = model(), model()
    m.prune_heads({np.int64(0): np.array([1, 3]), 1: range(1), 2: {np.int32(2)}})
    other.prune_heads({0: [1, 3], 1: [0], 2: [2]})
    assert m.config == other.config
    np.testing.assert_array_equal(logits(m), logits(other))


def test_a_head_mask_for_a_pruned_model_is_refused() -> None:
    m = model()
    m.prune_heads({1: [2]})
    with pytest.raises(ValueError, match="pruned"):
        logits(m, head_mask=np.ones(HEADS))


def test_a_model_moves_to_another_dtype_and_backend() -> None:
    m = model()
    double = m.astype("float64")
    assert double.dtype == "float64"
    assert double.get_input_embeddings().dtype == np.float64
    np.testing.assert_allclose(logits(double), logits(m), rtol=1e-4, atol=1e-5)
    there = m.to("strict")
    assert there.backend.name == "strict"
    np.testing.assert_allclose(logits(there), logits(m), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logits(there.to("numpy", "float32")), logits(m))
    assert m.to().get_input_embeddings() is m.get_input_embeddings()  # nothing to convert


@pytest.mark.parametrize("dtype", [np.float64, np.dtype("float64"), np.dtype("<f8"), "float64"])
def test_what_numpy_takes_for_a_dtype_a_model_takes(dtype: Any) -> None:
    assert model(dtype=dtype).dtype == "float64"
    assert model().astype(dtype).get_input_embeddings().dtype == np.float64
    assert GitForCausalLM.from_pretrained(demo_path(), dtype=dtype).dtype == "float64"


@pytest.mark.parametrize("dtype", ["float8", "float", "<f8", np.int64, int, "", 3, object()])
def test_what_is_no_dtype_of_a_model_is_refused(dtype: Any) -> None:
    words = "dtype is .*; expected one of float16, float32"
    with pytest.raises(ValueError, match=words):
        model(dtype=dtype)
    with pytest.raises(ValueError, match=words):
        model().to(dtype=dtype)
    with pytest.raises(ValueError, match=words):
        model(dtype=None)


@pytest.mark.parametrize("seed", ["x", -1, 1.5, None, True])
def test_a_seed_is_an_integer(seed: Any) -> None:
    with pytest.raises(ValueError, match=rf"seed is {seed!r}; expected an integer of at least 0"):
        GitForCausalLM(testing.CONFIG, seed=seed)
    assert GitForCausalLM(testing.CONFIG, seed=np.int64(4)).num_parameters()  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [3, None, b"folder", ["folder"]])
def test_a_checkpoint_is_a_path_or_a_name(path: Any) -> None:
    for kind in (GitForCausalLM, GitVisionModel, GitConfig):
        with pytest.raises(TypeError, match=r"path is .*; expected .*directory"):
            kind.from_pretrained(path)


def test_a_moved_model_keeps_its_generation_config_and_its_choice_of_kernels() -> None:
    m = model(kernels="off")
    m.generation_config = GenerationConfig(max_length=7, bos_token_id=1)
    for moved in (m.astype("float64"), m.to("numpy"), m.to("strict")):
        assert moved.generation_config == m.generation_config
        assert moved is not m
        assert not moved.backend.kernels
    assert m.dtype == "float32"


def test_the_input_embeddings_of_each_model_are_its_first_weights() -> None:
    assert model().get_input_embeddings().shape == (
        testing.CONFIG.vocab_size,
        testing.CONFIG.hidden_size,
    )
    assert GitModel(testing.CONFIG).get_input_embeddings().shape[0] == testing.CONFIG.vocab_size
    assert GitVisionModel(testing.VISION).get_input_embeddings().ndim == 4


def test_options_of_config_json_are_the_defaults_of_a_call() -> None:
    extra = {"output_attentions": True, "output_hidden_states": True, "return_dict": False}
    m = model(testing.CONFIG.replace(extra=extra, use_cache=False))
    out = m(testing.tokens(1, 3), pixel_values=testing.pixels())
    assert isinstance(out, tuple)
    assert len(out) == 3
    assert len(out[1]) == LAYERS + 1
    named = m(testing.tokens(1, 3), pixel_values=testing.pixels(), return_dict=True)
    assert named.keys() == ["logits", "hidden_states", "attentions"]
    written = m.generate(testing.pixels(), max_length=5)  # as transformers, all that was asked for
    assert written.sequences.shape[1] <= 5
    assert len(written.attentions) == len(written.hidden_states) == written.sequences.shape[1] - 1
