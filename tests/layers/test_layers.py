"""Properties of the layers that hold for any numbers, on every backend."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers.backends import make_backend
from refgit import layers as L
from refgit import to_numpy
from refgit.layers._operations import DEFINITIONS, Operations
from refgit.layers.attention import attention_scores, merge_heads, split_heads, weighted_values
from refgit.layers.patch_embedding import prepend_class_token
from refgit.layers.position import (
    RelativePositions,
    bicubic_weights,
    interpolate_positions,
    relative_scores,
)
from refgit_backends import Backend, get_backend

BACKENDS = ["numpy", "strict"]
finite = {"allow_nan": False, "allow_infinity": False}


@pytest.fixture(params=BACKENDS)
def on(request: pytest.FixtureRequest) -> Iterator[Backend]:
    return make_backend(request.param)


def floats(shape: tuple[int, ...] | st.SearchStrategy, size: float = 30) -> st.SearchStrategy:
    return hnp.arrays(np.float32, shape, elements=st.floats(-size, size, width=32, **finite))


rows = hnp.array_shapes(min_dims=2, max_dims=3, max_side=7)


@pytest.mark.parametrize("name", BACKENDS)
@given(x=floats(rows))
def test_softmax_rows_sum_to_one(name: str, x: np.ndarray) -> None:
    p = to_numpy(L.softmax(make_backend(name).asarray(x)))
    assert p.dtype == np.float32
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)


@given(x=floats(rows), shift=st.floats(-100, 100, width=32))
def test_softmax_does_not_change_under_a_shift(x: np.ndarray, shift: float) -> None:
    np.testing.assert_allclose(L.softmax(x + np.float32(shift)), L.softmax(x), rtol=2e-4, atol=1e-6)


def test_softmax_of_extreme_scores_has_no_overflow(on: Backend) -> None:
    x = np.array([[1e38, -1e38, 0], [-np.inf, 5, -np.inf], [-3.4e38] * 3], np.float32)
    found = to_numpy(L.softmax(on.asarray(x)))
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 0], [1 / 3] * 3], rtol=1e-6)


def test_softmax_of_float16_sums_in_float32() -> None:
    x = np.zeros((1, 5000), np.float16)
    p = L.softmax(x)
    assert p.dtype == np.float16
    assert p[0, 0] == np.float16(1 / 5000)


@given(x=floats(st.tuples(st.integers(1, 4), st.integers(2, 40))))
def test_layer_norm_gives_mean_zero_and_variance_one(x: np.ndarray) -> None:
    width = x.shape[-1]
    one, zero = np.ones(width, np.float32), np.zeros(width, np.float32)
    y = L.layer_norm(x, one, zero, eps=1e-5)
    # a row of equal numbers has variance 0: its rounding error is divided by sqrt(eps)
    np.testing.assert_allclose(y.mean(-1), 0, atol=5e-3)
    true_variance = x.astype(np.float64).var(-1)
    np.testing.assert_allclose(y.var(-1), true_variance / (true_variance + 1e-5), atol=1e-3)


@given(x=floats((3, 8), 5), scale=floats(8, 5), shift=floats(8, 5))
def test_layer_norm_scales_and_shifts_by_channel(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray
) -> None:
    one, zero = np.ones(8, np.float32), np.zeros(8, np.float32)
    plain = L.layer_norm(x, one, zero, eps=1e-5)
    np.testing.assert_allclose(
        L.layer_norm(x, scale, shift, eps=1e-5), plain * scale + shift, atol=1e-5
    )


def test_eps_stands_inside_the_root() -> None:
    x = np.zeros((1, 4))
    x[0, 0] = 4.0  # mean 1, variance 3
    y = L.layer_norm(x, np.ones(4), np.zeros(4), eps=6.0)
    np.testing.assert_allclose(y[0], [1, -1 / 3, -1 / 3, -1 / 3])  # (4 - 1) / sqrt(3 + 6) = 1


@given(x=floats(rows, 2.0**127))
def test_activations_survive_extreme_values(x: np.ndarray) -> None:
    for activation in (L.gelu, L.quick_gelu):
        y = activation(x)
        assert y.dtype == x.dtype
        assert np.isfinite(y).all()
        assert (y <= np.maximum(x, 0)).all()
        assert (y >= -0.2).all()


@pytest.mark.parametrize("x", [-40.0, -5.0, -1.0, -0.1, 0.0, 0.3, 2.0, 30.0])
def test_activations_equal_their_formulas(x: float, on: Backend) -> None:
    value = on.asarray(np.array([x]))
    exact = x / 2 * math.erfc(-x / math.sqrt(2))
    np.testing.assert_allclose(to_numpy(L.gelu(value)), [exact], rtol=1e-13, atol=1e-14)
    quick = x / (1 + math.exp(-1.702 * x))
    np.testing.assert_allclose(to_numpy(L.quick_gelu(value)), [quick], rtol=1e-13)


@pytest.mark.parametrize("x", [-40.0, -5.0, -1.0, -0.1, 0.0, 0.3, 2.0, 30.0])
def test_the_other_activations_equal_their_formulas(x: float, on: Backend) -> None:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    formulas = {
        "gelu_new": x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "relu": max(x, 0.0),
        "selu": scale * (x if x > 0 else alpha * math.expm1(x)),
        "silu": x / (1 + math.exp(-x)),
    }
    for name, wanted in formulas.items():
        activation = DEFINITIONS.activation(name)
        found = to_numpy(activation(on.asarray(np.array([x]))))
        np.testing.assert_allclose(found, [wanted], rtol=1e-13, atol=1e-15, err_msg=name)


def test_only_activations_are_found_by_name() -> None:
    """The names of other operations, and of what has a kernel, are refused as any other."""
    for ops in (DEFINITIONS, Operations.with_kernels(get_backend("numpy").kernels)):
        for name in ("linear", "layer_norm", "softmax", "attention", "run", "hook", "GELU", ""):
            with pytest.raises(ValueError, match=f"'{name}'; expected one of .*gelu, gelu_new, "):
                ops.activation(name)


def test_an_activation_may_be_a_function() -> None:
    assert DEFINITIONS.activation(math.sqrt) is math.sqrt


@given(st.integers(2, 7), st.integers(1, 12))
def test_bicubic_rows_sum_to_one_and_keep_linear_ramps(n_in: int, n_out: int) -> None:
    weights = bicubic_weights(n_in, n_out, like=np.zeros(1))
    assert weights.shape == (n_out, n_in)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    if n_in == n_out:
        np.testing.assert_allclose(weights, np.eye(n_in), atol=1e-12)
    np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-12)  # left is like right


def test_interpolation_keeps_the_class_token_and_the_learned_grid(on: Backend) -> None:
    table = np.random.default_rng(0).standard_normal((10, 5))
    same = to_numpy(interpolate_positions(on.asarray(table), 3, 3))
    np.testing.assert_allclose(same, table, atol=1e-12)
    other = to_numpy(interpolate_positions(on.asarray(table), 2, 5))
    assert other.shape == (11, 5)
    np.testing.assert_array_equal(other[0], table[0])


@given(st.integers(0, 4), st.integers(1, 4), st.integers(1, 5), st.booleans(), st.integers(0, 99))
def test_relative_scores_are_products_with_the_vector_of_the_distance(
    first_query: int, n_query: int, n_key: int, with_keys: bool, seed: int
) -> None:
    rng, reach, first_key = np.random.default_rng(seed), 12, 1
    query, key = rng.standard_normal((4, 2, n_query, 3)), rng.standard_normal((2, 2, n_key, 3))
    table = rng.standard_normal((2 * reach - 1, 3))
    positions = RelativePositions(table, with_keys, first_query)
    found = relative_scores(query, key, positions, first_key=first_key)
    for b, h, q, k in np.ndindex(found.shape):
        distance = table[reach - 1 + (first_query + q) - (first_key + k)]
        wanted = query[b, h, q] @ distance + with_keys * key[b % 2, h, k] @ distance
        np.testing.assert_allclose(found[b, h, q, k], wanted, atol=1e-12)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.data())
def test_patch_embedding_is_a_convolution_with_stride_p(
    c: int, p: int, rows: int, columns: int, data: st.DataObject
) -> None:
    pixels = data.draw(floats((2, c, rows * p, columns * p), 3)).astype(np.float64)
    weight = data.draw(floats((5, c, p, p), 3)).astype(np.float64)
    found = L.patch_embedding(pixels, weight)
    for n in range(rows * columns):
        r, s = divmod(n, columns)
        patch = pixels[:, :, r * p : (r + 1) * p, s * p : (s + 1) * p]
        wanted = np.einsum("bcij,dcij->bd", patch, weight)
        np.testing.assert_allclose(found[:, n], wanted, atol=1e-9)


def test_the_class_token_stands_first(on: Backend) -> None:
    tokens = on.asarray(np.ones((2, 3, 4), np.float32))
    joined = to_numpy(prepend_class_token(tokens, on.asarray(np.arange(4, dtype=np.float32))))
    assert joined.shape == (2, 4, 4)
    np.testing.assert_array_equal(joined[:, 0], [[0, 1, 2, 3]] * 2)
    np.testing.assert_array_equal(joined[:, 1:], np.ones((2, 3, 4)))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 4))
def test_splitting_heads_and_merging_them_is_nothing(b: int, h: int, t: int, d: int) -> None:
    x = np.arange(b * t * h * d, dtype=np.float32).reshape(b, t, h * d)
    heads = split_heads(x, h)
    assert heads.shape == (b, h, t, d)
    np.testing.assert_array_equal(heads[0, -1, 0], x[0, 0, (h - 1) * d :])
    np.testing.assert_array_equal(merge_heads(heads), x)


@given(st.integers(0, 4), st.integers(1, 5), st.data())
def test_attention_over_segments_equals_attention_over_all(
    first: int, second: int, data: st.DataObject
) -> None:
    q = data.draw(floats((2, 3, 2, 4), 2)).astype(np.float64)
    k = data.draw(floats((2, 3, first + second, 4), 2)).astype(np.float64)
    v = data.draw(floats((2, 3, first + second, 4), 2)).astype(np.float64)
    cut = [slice(0, first), slice(first, None)]
    whole, p = L.attention(q, [k], [v])
    parts, p_parts = L.attention(q, [k[:, :, c] for c in cut], [v[:, :, c] for c in cut])
    np.testing.assert_allclose(parts, whole, atol=1e-12)
    np.testing.assert_allclose(p_parts, p, atol=1e-12)


def test_texts_are_dealt_out_to_images_in_turn(on: Backend) -> None:
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((4, 1, 1, 2)), rng.standard_normal((2, 1, 3, 2))
    scores = to_numpy(attention_scores(on.asarray(q), on.asarray(k)))
    for text, image in enumerate([0, 1, 0, 1]):
        np.testing.assert_allclose(scores[text, 0, 0], k[image, 0] @ q[text, 0, 0])
    p = rng.random((4, 1, 1, 3))
    values = to_numpy(weighted_values(on.asarray(p), on.asarray(k)))
    for text, image in enumerate([0, 1, 0, 1]):
        np.testing.assert_allclose(values[text, 0, 0], p[text, 0, 0] @ k[image, 0])


@given(st.integers(0, 5), st.integers(1, 6))
def test_the_mask_is_the_papers_figure(n_image: int, n_text: int) -> None:
    n = n_image + n_text
    allowed = L.image_text_mask(n_image, n, like=np.zeros(1))
    for q in range(n):
        for k in range(n):
            image_sees_image = q < n_image and k < n_image
            text_sees_image = q >= n_image and k < n_image
            text_sees_its_past = q >= n_image and n_image <= k <= q
            assert allowed[q, k] == (image_sees_image or text_sees_image or text_sees_its_past)


@given(st.integers(0, 5), st.integers(1, 6), st.data())
def test_the_mask_of_a_cached_step_is_the_last_rows(
    n_image: int, n_text: int, data: st.DataObject
) -> None:
    n = n_image + n_text
    first = data.draw(st.integers(n_image, n - 1))
    whole = L.image_text_mask(n_image, n, like=np.zeros(1))
    part = L.image_text_mask(n_image, n, first_query=first, like=np.zeros(1))
    np.testing.assert_array_equal(part, whole[first:])


def test_padding_is_hidden_and_never_gives_nan(on: Backend) -> None:
    like = on.asarray(np.zeros((1,), np.float32))
    allowed = L.image_text_mask(0, 3, like=like)
    bias = L.attention_bias(allowed, on.asarray(np.array([[0, 1, 1], [1, 1, 0]])), like=like)
    p = to_numpy(L.softmax(bias))[:, 0]
    np.testing.assert_allclose(p[0], [[1, 0, 0], [0, 1, 0], [0, 0.5, 0.5]])
    np.testing.assert_allclose(p[1], [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]])


@given(st.data())
def test_the_loss_is_the_mean_surprise_of_the_labelled_words(data: st.DataObject) -> None:
    n_image, length, words = 2, data.draw(st.integers(2, 5)), 6
    logits = data.draw(floats((2, n_image + length, words), 20)).astype(np.float64)
    labels = data.draw(hnp.arrays(np.int64, (2, length), elements=st.integers(0, words - 1)))
    ignored = data.draw(hnp.arrays(np.bool_, (2, length)))
    ignored[0, 1] = False  # at least one word counts
    labels = np.where(ignored, -100, labels)
    surprises = []
    for b in range(2):
        for t in range(1, length):
            if labels[b, t] != -100:
                scores = logits[b, n_image + t - 1]
                p = np.exp(scores - scores.max())
                surprises.append(-np.log(p[labels[b, t]] / p.sum()))
    found = L.language_model_loss(logits, labels, n_image=n_image)
    np.testing.assert_allclose(found, np.mean(surprises), rtol=1e-9, atol=1e-9)


def test_a_large_loss_does_not_overflow(on: Backend) -> None:
    logits = on.asarray(np.array([[[1e30, -1e30], [0, 0]]], np.float32))
    loss = L.language_model_loss(logits, on.asarray(np.array([[0, 1]])), n_image=0)
    assert float(to_numpy(loss)) == pytest.approx(2e30)


@given(st.data())
def test_embedding_looks_up_rows(data: st.DataObject) -> None:
    table = np.arange(12.0).reshape(4, 3)
    ids = data.draw(hnp.arrays(np.int64, (2, 5), elements=st.integers(0, 3)))
    np.testing.assert_array_equal(L.embed(ids, table), table[ids])


def test_linear_rows_of_the_weight_are_outputs(on: Backend) -> None:
    weight, bias = np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([10.0, 20, 30])
    y = L.linear(on.asarray(np.array([[[1.0, -1]]])), on.asarray(weight), on.asarray(bias))
    np.testing.assert_array_equal(to_numpy(y), [[[9, 19, 29]]])
