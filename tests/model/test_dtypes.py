"""Numbers of every width: float64, float32, float16, and bfloat16, which is computed in float32.

How near float16 comes to the truth is measured in its unit roundoff u = 2^-11: the result of one
operation is off by at most u, relatively. Over 200 drawn models of 5 layers logits were off by
4 u in the median and 15 u at worst (8 and 35 u with 18 layers); the bounds leave room for that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers.backends import make_backend
from helpers.golden_cases import make_weights
from refgit import GitConfig, GitForCausalLM, GitModel, GitVisionModel, testing, to_numpy
from refgit.layers import (
    Operations,
    attention,
    attention_bias,
    language_model_loss,
    layer_norm,
    softmax,
)
from refgit.layers.activation import ACTIVATIONS
from refgit_backends import Backend

WEIGHTS = "model.safetensors"
DTYPES = ["float16", "float32", "float64"]
ROUNDOFF = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}


@pytest.fixture
def half(backend: Backend) -> Backend:
    """Every backend that computes in float16."""
    if "float16" not in backend.float_names:
        pytest.skip(f"the {backend.name} backend has no float16, nor has the array API standard")
    return backend


def supporting(backend: Backend, dtype: str) -> None:
    if dtype not in backend.float_names:
        pytest.skip(f"the {backend.name} backend has no {dtype}")


def pair(
    backend: Backend, dtype: str, seed: int, config: GitConfig = testing.CONFIG
) -> tuple[GitForCausalLM, GitForCausalLM]:
    """A model in `dtype`, and the same weights in float64 on NumPy."""
    weights = make_weights(GitForCausalLM.shapes(config), seed)
    weights = {name: x.astype(dtype) for name, x in weights.items()}
    model = GitForCausalLM(config, backend=backend, dtype=dtype, _parameters=weights)
    return model, GitForCausalLM(config, dtype="float64", _parameters=weights)


def error(found: Any, expected: Any) -> float:
    """Largest difference, relative to the largest magnitude; NaN where anything is."""
    found, expected = to_numpy(found).astype(np.float64), to_numpy(expected)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# -- the whole model -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["absolute", "relative_key_query"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_output_has_the_models_dtype_and_is_as_near_as_it_allows(
    dtype: str, kind: str, backend: Backend
) -> None:
    supporting(backend, dtype)
    config = testing.CONFIG.replace(position_embedding_type=kind)
    errors = []
    for seed in range(12):
        model, exact = pair(backend, dtype, seed, config)
        call = {"input_ids": testing.tokens(2, 6, seed)}
        pixels = testing.pixels(2, seed).astype(dtype)
        wanted = {"output_hidden_states": True, "output_attentions": True}
        found = model(**call, pixel_values=pixels, **wanted)
        expected = exact(**call, pixel_values=pixels, **wanted)
        for name in ("logits", "hidden_states", "attentions"):
            arrays, truth = found[name], expected[name]
            each = [(arrays, truth)] if name == "logits" else zip(arrays, truth, strict=True)
            for x, y in each:
                assert str(to_numpy(x).dtype) == dtype
                assert error(x, y) <= 64 * ROUNDOFF[dtype]
        errors.append(error(found.logits, expected.logits))
    assert 0 < np.median(errors) <= 12 * ROUNDOFF[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_of_any_dtype_are_taken_in_the_models(dtype: str, backend: Backend) -> None:
    supporting(backend, dtype)
    model, pixels = testing.tiny_model(backend=backend, dtype=dtype), testing.pixels()
    expected = to_numpy(model(testing.tokens(), pixel_values=pixels.astype(dtype)).logits)
    assert str(expected.dtype) == dtype
    for other in (pixels.astype("float64"), torn(pixels)):
        found = to_numpy(model(testing.tokens(), pixel_values=other).logits)
        np.testing.assert_array_equal(found, expected, strict=True)


def torn(x: np.ndarray) -> np.ndarray:
    """The same numbers, not contiguous in memory."""
    return np.stack([x, x], axis=-1)[..., 0]


def test_cached_words_of_float16_equal_uncached_ones(half: Backend) -> None:
    model, _ = pair(half, "float16", 3)
    ids, pixels = testing.tokens(2, 6), testing.pixels(2)
    expected = model(ids, pixel_values=pixels).logits
    cache = model.encode_image(pixels)
    parts = [model(ids[:, i : i + 2], past_key_values=cache).logits for i in (0, 2, 4)]
    found = np.concatenate([to_numpy(x) for x in parts], axis=1)
    assert found.dtype == np.float16
    assert error(found, to_numpy(expected)[:, -6:].astype(np.float64)) <= 64 * ROUNDOFF["float16"]
    # two bytes a number: the image's part exactly, the text's with its room to grow
    assert cache.nbytes < two_byte_cache(model, 2, testing.IMAGE_TOKENS + 2 * 6)


def two_byte_cache(model: GitModel, rows: int, tokens: int) -> int:
    """Keys and values of so many tokens at two bytes a number, and one more byte."""
    config = model.config
    return 2 * config.num_hidden_layers * rows * tokens * config.hidden_size * 2 + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("image", [True, False])
def test_a_text_that_is_all_padding_gives_numbers(
    dtype: str, image: bool, backend: Backend
) -> None:
    supporting(backend, dtype)
    model = testing.tiny_model(backend=backend, dtype=dtype)
    pixels = {"pixel_values": testing.pixels()} if image else {}
    mask = np.array([[0, 0, 0, 0], [0, 0, 1, 1]])
    for use_cache in (True, False):
        call = {"attention_mask": mask, "use_cache": use_cache, **pixels}
        logits = to_numpy(model(testing.tokens(2), **call).logits)
        assert str(logits.dtype) == dtype
        assert np.isfinite(logits).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_is_hidden_bit_for_bit(dtype: str, backend: Backend) -> None:
    supporting(backend, dtype)
    model = testing.tiny_model(backend=backend, dtype=dtype)
    mask, ids = np.array([[1, 0, 1, 1]]), testing.tokens()
    other = ids.copy()
    other[0, 1] += 1
    call = {"attention_mask": mask, "pixel_values": testing.pixels()}
    found, expected = (to_numpy(model(x, **call).logits) for x in (other, ids))
    seen = np.array([True] * testing.IMAGE_TOKENS + [True, False, True, True])
    np.testing.assert_array_equal(found[:, seen], expected[:, seen])
    assert (found[:, ~seen] != expected[:, ~seen]).any()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_every_word_written_is_the_best_one_or_as_good(dtype: str, backend: Backend) -> None:
    """As float64 judges it: a narrow type may choose between words that are equal to it."""
    supporting(backend, dtype)
    differ = 0
    for seed in range(8):
        model, exact = pair(backend, dtype, seed)
        pixels = testing.pixels(2, seed).astype(dtype)
        ids = to_numpy(model.generate(pixels, max_length=10))
        assert ids.dtype == np.int64
        scores = to_numpy(exact(ids, pixel_values=pixels).logits)[:, testing.IMAGE_TOKENS : -1]
        chosen = np.take_along_axis(scores, ids[:, 1:, None], axis=-1)[..., 0]
        before_end = np.cumsum(ids == testing.CONFIG.eos_token_id, axis=1)[:, :-1] == 0
        short = (scores.max(axis=-1) - chosen)[before_end]
        assert (short <= 64 * ROUNDOFF[dtype] * np.abs(scores).max()).all()
        differ += len(np.unique(ids)) > 4
    assert differ


# -- what needs more than float16 ------------------------------------------------------------------

halves = st.floats(-60000, 60000, width=16, allow_nan=False)


@pytest.mark.parametrize("name", ["numpy", "numpy-definitions"])
@given(data=st.data())
def test_layer_norm_of_float16_is_rounded_three_times_and_no_more(
    name: str, data: st.DataObject
) -> None:
    """Sums and squares of these numbers are far beyond 65504: an overflow would be a warning."""
    on = make_backend(name)
    x = data.draw(hnp.arrays(np.float16, (3, data.draw(st.integers(2, 40))), elements=halves))
    small = st.floats(-4, 4, width=16)
    weight, bias = (data.draw(hnp.arrays(np.float16, x.shape[-1:], elements=small)) for _ in "ab")
    eps = data.draw(st.sampled_from([1e-12, 1e-5]))
    norm = partial(Operations.with_kernels(on.kernels).run, layer_norm)
    found = to_numpy(norm(on.asarray(x), on.asarray(weight), on.asarray(bias), eps=eps))
    exact = [y.astype(np.float64) for y in (x, weight, bias)]
    expected = layer_norm(*exact, eps=eps)
    assert found.dtype == np.float16
    room = np.abs(expected - exact[2]) + np.abs(expected) + np.abs(exact[2])
    assert (np.abs(found - expected) <= 2 * ROUNDOFF["float16"] * room + 2.0**-23).all()


def test_layer_norm_of_long_rows_of_large_numbers_is_right(half: Backend) -> None:
    rng = np.random.default_rng(0)
    one, zero = np.ones(768, np.float16), np.zeros(768, np.float16)
    for scale, shift in [(20000, 0), (1, 1000), (0, 60000), (1e-6, 0), (0, 0)]:
        x = np.clip(rng.standard_normal((4, 768)) * scale + shift, -60000, 60000)
        x = x.astype(np.float16)
        norm = partial(Operations.with_kernels(half.kernels).run, layer_norm)
        found = to_numpy(norm(*map(half.asarray, (x, one, zero)), eps=1e-12))
        expected = layer_norm(*(y.astype(np.float64) for y in (x, one, zero)), eps=1e-12)
        assert found.dtype == np.float16
        # the mean is off by some roundoffs of float32, here up to 2^-24 of 1000
        np.testing.assert_allclose(found, expected, rtol=2.0**-10, atol=1e-4)
        if scale == 0:  # eps is no float16: 1e-12 would be 0, and the result no number
            assert not found.any()


@pytest.mark.parametrize("name", ["numpy", "numpy-definitions"])
@given(x=hnp.arrays(np.float16, st.tuples(st.integers(1, 3), st.integers(1, 60)), elements=halves))
def test_softmax_of_float16_is_rounded_once(name: str, x: np.ndarray) -> None:
    on = make_backend(name)
    found = to_numpy(Operations.with_kernels(on.kernels).run(softmax, on.asarray(x)))
    expected = softmax(x.astype(np.float64))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=1.01 * ROUNDOFF["float16"], atol=2.0**-25)


def test_softmax_of_float16_over_many_keys_sums_to_one(half: Backend) -> None:
    """In float16 a sum of ones stands still at 2048."""
    for keys in (2048, 4097, 20000):
        p = to_numpy(softmax(half.asarray(np.zeros((2, keys), np.float16))))
        np.testing.assert_array_equal(p, np.float16(1 / keys))
        assert abs(p.sum(axis=-1, dtype=np.float64) - 1).max() <= 2.0**-7


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("float16", "float32")] + [(d, d) for d in DTYPES[1:]]
)
def test_the_loss_is_summed_in_at_least_float32(dtype: str, wanted: str, backend: Backend) -> None:
    """1200 words of surprise 8 or so: float16 would count in steps of 8 up there."""
    supporting(backend, dtype)
    rng = np.random.default_rng(4)
    logits = (4 * rng.standard_normal((3, 405, 500))).astype(dtype)
    labels = rng.integers(0, 500, (3, 400))
    labels[1, 7:90] = -100
    loss = language_model_loss(backend.asarray(logits), backend.asarray(labels), n_image=5)
    found = to_numpy(loss)
    expected = language_model_loss(logits.astype(np.float64), labels, n_image=5)
    assert str(found.dtype) == wanted
    assert abs(found - expected) <= 20 * ROUNDOFF[wanted] * expected


def test_a_loss_beyond_float16_is_a_number(half: Backend) -> None:
    logits = np.full((1, 3, 5), -60000, np.float16)
    logits[..., 1] = 60000
    loss = language_model_loss(half.asarray(logits), half.asarray([[0, 2, 3]]), n_image=0)
    assert float(to_numpy(loss)) == 2 * float(np.float16(60000))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_models_loss_is_at_least_float32(dtype: str, backend: Backend) -> None:
    supporting(backend, dtype)
    model, exact = pair(backend, dtype, 5)
    ids, pixels = testing.tokens(2, 6), testing.pixels(2).astype(dtype)
    found = to_numpy(model(ids, pixel_values=pixels, labels=ids).loss)
    expected = to_numpy(exact(ids, pixel_values=pixels, labels=ids).loss)
    assert str(found.dtype) == ("float32" if dtype == "float16" else dtype)
    assert abs(found - expected) <= 64 * ROUNDOFF[dtype] * abs(expected)


# Every number that float16 has.
EVERY_HALF = np.arange(2**16, dtype=np.uint16).view(np.float16)
EVERY_HALF = np.sort(EVERY_HALF[np.isfinite(EVERY_HALF)])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("on", ["numpy", "numpy-definitions"])
def test_an_activation_takes_every_float16(name: str, on: str) -> None:
    """And is off by 8 u of its value or, near 0 and in the negative tail, of 1."""
    half = make_backend(on)
    limit = 62000 if name == "selu" else 65504  # selu is 1.05 x there
    x = EVERY_HALF[limit >= EVERY_HALF]
    found = to_numpy(Operations.with_kernels(half.kernels).activation(name)(half.asarray(x)))
    expected = ACTIVATIONS[name](x.astype(np.float64))
    assert found.dtype == np.float16
    room = 8 * ROUNDOFF["float16"] * np.maximum(np.abs(expected), 1)
    assert (np.abs(found.astype(np.float64) - expected) <= room).all()


def test_scores_of_float16_survive_the_mask(half: Backend) -> None:
    """Half the largest number is taken off a score; what is left must be a number."""
    like = half.asarray(np.zeros(1, np.float16))
    allowed, text = half.asarray(np.ones((4, 4), bool)), half.asarray(np.array([[0, 1]]))
    bias = to_numpy(attention_bias(allowed, text, like=like))
    assert bias.dtype == np.float16
    assert bias[0, 0, 0].tolist() == [0, 0, -32752, 0]
    p = softmax(half.asarray(bias + np.float16(-30000)))
    np.testing.assert_allclose(to_numpy(p)[0, 0, 0].astype(float), [1 / 3, 1 / 3, 0, 1 / 3], 1e-3)


def test_scores_that_fit_float16_once_scaled_give_no_nan(half: Backend) -> None:
    """64 products of 60 and 60 make 230400, scaled 28800."""
    q = np.full((1, 1, 1, 64), 60, np.float16)
    key = np.concatenate([q, -q], axis=2)
    context, p = attention(half.asarray(q), [half.asarray(key)], [half.asarray(key)])
    assert to_numpy(p).ravel().tolist() == [1, 0]
    assert (to_numpy(context) == 60).all()


# -- checkpoints -----------------------------------------------------------------------------------


def write(folder: Path, stored: str) -> dict[str, np.ndarray]:
    """The tiny model's checkpoint in a dtype, as float64 numbers for comparison."""
    model = testing.tiny_model()
    model.config.save_pretrained(folder)
    arrays = {name: np.asarray(x) for name, x in model.state_dict().items()}
    if stored == "bfloat16":
        return write_bfloat16(folder / WEIGHTS, arrays)
    cast = {name: x.astype(stored) for name, x in arrays.items()}
    safetensors.numpy.save_file(cast, folder / WEIGHTS)
    return {name: x.astype(np.float64) for name, x in cast.items()}


def write_bfloat16(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    header, data, kept = {}, b"", {}
    for name, x in arrays.items():
        bits, start = (x.view("<u4") >> 16).astype("<u2"), len(data)
        data += bits.tobytes()
        header[name] = {"dtype": "BF16", "shape": x.shape, "data_offsets": [start, len(data)]}
        kept[name] = (bits.astype("<u4") << 16).view("<f4").astype(np.float64)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return kept


def assert_weights(model: Any, expected: Mapping[str, np.ndarray], dtype: str) -> None:
    """Equal to the stored numbers, rounded to `dtype` at most."""
    assert model.dtype == dtype
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(to_numpy(x), expected[name].astype(dtype), strict=True)


@pytest.mark.parametrize("stored", [*DTYPES, "bfloat16"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_stored_dtype_loads_as_every_dtype(
    stored: str, dtype: str, backend: Backend, tmp_path: Path
) -> None:
    supporting(backend, dtype)
    expected = write(tmp_path, stored)
    model = GitForCausalLM.from_pretrained(tmp_path, dtype=dtype, backend=backend)
    assert_weights(model, expected, dtype)
    logits = model(testing.tokens(), pixel_values=testing.pixels()).logits
    assert str(to_numpy(logits).dtype) == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_saved_is_of_the_models_dtype_and_says_so(
    dtype: str, backend: Backend, tmp_path: Path
) -> None:
    supporting(backend, dtype)
    model = testing.tiny_model(backend=backend).astype(dtype)
    model.save_pretrained(tmp_path)
    stored = safetensors.numpy.load_file(tmp_path / WEIGHTS)
    assert {str(x.dtype) for x in stored.values()} == {dtype}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == dtype
    again = GitForCausalLM.from_pretrained(tmp_path, dtype=dtype, backend=backend)
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(to_numpy(again.state_dict()[name]), to_numpy(x), strict=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_saving_again_says_one_dtype_that_of_the_weights(dtype: str, tmp_path: Path) -> None:
    """transformers writes "dtype", in vision_config too, and obeys it before "torch_dtype"."""
    write(tmp_path, dtype)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | {"dtype": dtype}
    config["vision_config"]["dtype"] = dtype
    path.write_text(json.dumps(config))
    for kind in (GitForCausalLM, GitModel, GitVisionModel):
        folder = tmp_path / kind.__name__
        kind.from_pretrained(tmp_path).save_pretrained(folder)
        saved = json.loads((folder / "config.json").read_text())
        parts = [saved, saved.get("vision_config", {})]
        found = {part[key] for part in parts for key in ("dtype", "torch_dtype") if key in part}
        assert found == {"float32"}


# -- bfloat16 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_a_checkpoint_of_bfloat16_computes_in_float32_unless_told_otherwise(
    key: str, backend: Backend, tmp_path: Path
) -> None:
    expected = write(tmp_path, "bfloat16")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: "bfloat16"}))
    assert_weights(GitForCausalLM.from_pretrained(tmp_path, backend=backend), expected, "float32")


@pytest.mark.parametrize("stored", ["bfloat16", "float32", "float64", "float16"])
def test_bfloat16_asked_for_is_computed_in_float32_where_there_is_none(
    stored: str, backend: Backend, tmp_path: Path
) -> None:
    """What is stored more exactly is not rounded: the type is the narrowest that will do."""
    expected = write(tmp_path, stored)
    model = GitForCausalLM.from_pretrained(tmp_path, dtype="bfloat16", backend=backend)
    assert_weights(model, expected, "float32")
    plain = GitForCausalLM.from_pretrained(tmp_path, backend=backend)
    call = {"input_ids": testing.tokens(), "pixel_values": testing.pixels()}
    found, wanted = model(**call).logits, plain(**call).logits
    np.testing.assert_array_equal(to_numpy(found), to_numpy(wanted), strict=True)
    np.testing.assert_array_equal(
        to_numpy(model.generate(testing.pixels(), max_length=6)),
        to_numpy(plain.generate(testing.pixels(), max_length=6)),
    )


@pytest.mark.parametrize("kind", [GitForCausalLM, GitModel, GitVisionModel])
def test_a_model_is_built_and_moved_in_bfloat16(kind: Any, backend: Backend) -> None:
    config = testing.VISION if kind is GitVisionModel else testing.CONFIG
    built = kind(config, dtype="bfloat16", backend=backend)
    assert built.dtype == "float32"
    assert built.astype("bfloat16").dtype == "float32"
    assert kind(config, dtype="float64", backend=backend).to(dtype="bfloat16").dtype == "float32"
    state, again = built.state_dict(), built.astype("bfloat16").state_dict()
    assert all(again[name] is x for name, x in state.items())


def test_what_was_asked_for_in_bfloat16_is_saved_in_float32(tmp_path: Path) -> None:
    testing.tiny_model(dtype="bfloat16").save_pretrained(tmp_path)
    stored = safetensors.numpy.load_file(tmp_path / WEIGHTS)
    assert {str(x.dtype) for x in stored.values()} == {"float32"}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float32"


def test_a_wrong_dtype_is_told_that_bfloat16_is_one() -> None:
    with pytest.raises(ValueError, match=r"int8.*expected one of .*bfloat16"):
        testing.tiny_model(dtype="int8")
