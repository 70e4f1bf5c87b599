"""Live parity of the models with transformers 4.56.2 on torch: drawn configs, equal results.

The golden tensors hold a few models; here hypothesis draws hundreds of small ones (unequal
widths, odd depths, heads, patch and vocabulary sizes, odd eps), gives both implementations the
weights of golden/weights.py and random inputs, and compares every output:

- the forward pass: logits, loss, hidden states, attentions, float32 to 2e-5 and float64 to 1e-10
  of each tensor's largest magnitude; with masks, positions, word vectors, several texts an image;
- refgit's cached decoding in chunks, against the oracle's uncached pass over the whole text;
- greedy generation: equal ids (all searches: test_generation_live.py);
- checkpoints that the one writes and the other reads; random initialisation; git-base size.

Run it with the `oracle` extra installed, one thread being enough:

    OMP_NUM_THREADS=1 python -m pytest -s tests/live/test_model_live.py

With `-s` it prints the largest errors it has seen. Where torch or this version of transformers is
missing, the module is skipped.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.golden_cases import make_weights
from helpers.oracle import at_work, only, tensors, torch, transformers
from refgit import GitConfig, GitForCausalLM, GitModel, GitVisionModel, to_numpy

only("4")

pytestmark = pytest.mark.oracle

Arrays = dict[str, Any]
FLOAT32, FLOAT64 = 2e-5, 1e-10
TOLERANCES = {"float32": FLOAT32, "float64": FLOAT64}
LARGEST: dict[tuple[str, str], float] = {}


@pytest.fixture(autouse=True, scope="module")
def report() -> Iterator[None]:
    """Print the largest errors at the end; pytest shows them with -s."""
    yield
    for (dtype, what), error in sorted(LARGEST.items()):
        print(f"\n{dtype} {what}: {error:.1e}", end="")


# -- what is drawn ---------------------------------------------------------------------------------


@st.composite
def configs(draw: st.DrawFn, positions: int = 12) -> GitConfig:
    """A small model; image encoder and decoder are drawn apart, so mostly of unequal width."""

    def tower() -> Arrays:
        heads = draw(st.integers(1, 4))
        least = -(-8 // heads)  # a layer norm over very few channels is ill conditioned
        return {
            "num_attention_heads": heads,
            "hidden_size": heads * draw(st.integers(least, least + 5)),
            "intermediate_size": draw(st.integers(1, 40)),
            "num_hidden_layers": draw(st.integers(1, 3)),
            "hidden_act": draw(st.sampled_from(["quick_gelu", "gelu"])),
            "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-8, 1e-5, 3e-4, 0.02, 1.7])),
        }

    patch = draw(st.integers(1, 7))
    image = {
        "patch_size": patch,
        "image_size": patch * draw(st.integers(1, 4)),
        "num_channels": draw(st.sampled_from([3, 3, 1, 4])),
    }
    vocabulary = draw(st.integers(5, 60))
    special = draw(st.permutations(range(vocabulary)))
    return GitConfig(
        vision_config={**tower(), **image},
        **tower(),
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        use_cache=draw(st.booleans()),
        pad_token_id=special[draw(st.sampled_from([0, 0, 2]))],
        bos_token_id=special[1],
        eos_token_id=special[2],
    )


seeds = st.integers(0, 2**32 - 1)

SMALL: Arrays = {
    "vision_config": {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 8,
        "patch_size": 4,
    },
    "vocab_size": 37,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def random_mask(draw: st.DrawFn, batch: int, length: int) -> np.ndarray:
    """Padding on the right, on the left, in the middle, or none; each row its own."""
    kind = draw(st.sampled_from(["none", "right", "left", "middle"]))
    mask = np.ones((batch, length), np.int64)
    for row in mask:
        start, stop = sorted((draw(st.integers(0, length)), draw(st.integers(0, length))))
        if kind == "right":
            row[max(1, start) :] = 0
        elif kind == "left":
            row[: min(stop, length - 1)] = 0
        elif kind == "middle":
            row[max(1, start) : stop] = 0
    return mask


@st.composite
def calls(draw: st.DrawFn, config: GitConfig, dtype: str, image: bool | None = None) -> Arrays:
    """Arguments of one forward pass, without labels."""
    rng = np.random.default_rng(draw(seeds))
    images, per_image = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    batch, length = images * per_image, draw(st.integers(1, 9))
    call: Arrays = {}
    if image if image is not None else draw(st.sampled_from([True, True, True, False])):
        vision = config.vision_config
        shape = (images, vision.num_channels, vision.image_size, vision.image_size)
        call["pixel_values"] = rng.standard_normal(shape).astype(dtype)
    if draw(st.sampled_from([True, True, False])):
        call["input_ids"] = rng.integers(0, config.vocab_size, (batch, length))
    else:
        words = rng.standard_normal((batch, length, config.hidden_size))
        call["inputs_embeds"] = words.astype(dtype)
    if draw(st.booleans()):
        call["attention_mask"] = random_mask(draw, batch, length)
    if draw(st.sampled_from([True, False, False])):
        rows = draw(st.sampled_from([1, batch]))
        call["position_ids"] = rng.integers(0, config.max_position_embeddings, (rows, length))
    return call


def random_labels(draw: st.DrawFn, config: GitConfig, call: Arrays) -> np.ndarray:
    """A label for each text token, some of them -100."""
    batch, length = text_shape(call)
    rng = np.random.default_rng(draw(seeds))
    labels = rng.integers(0, config.vocab_size, (batch, length))
    labels[rng.random((batch, length)) < draw(st.sampled_from([0, 0.4]))] = -100
    return labels


def text_shape(call: Arrays) -> tuple[int, int]:
    batch, length = call.get("input_ids", call.get("inputs_embeds")).shape[:2]
    return batch, length


# -- the two implementations -----------------------------------------------------------------------

CLASSES = {
    GitForCausalLM: "GitForCausalLM",
    GitModel: "GitModel",
    GitVisionModel: "GitVisionModel",
}


def oracle_config(config: Any) -> Any:
    kind = getattr(transformers, type(config).__name__)
    return kind(**config.to_dict(), attn_implementation="eager")


def build(kind: Any, config: Any, seed: int, dtype: str = "float32") -> tuple[Any, Any]:
    """refgit's model and the oracle's, with the same weights."""
    weights = make_weights(kind.shapes(config), seed)
    ours = kind(config, dtype=dtype, _parameters=weights)
    with at_work(), transformers.modeling_utils.no_init_weights():
        theirs = getattr(transformers, CLASSES[kind])(oracle_config(config)).eval()
    state = {name: torch.from_numpy(x) for name, x in weights.items()}
    theirs.load_state_dict(state, assign=True)  # strict: the names are the same
    return ours, theirs.to(getattr(torch, dtype))


def ask(theirs: Any, dtype: str = "float32", **arguments: Any) -> Any:
    """The oracle's forward pass on copies: it adds the positions to inputs_embeds in place."""
    with at_work(dtype):
        return theirs(**tensors(arguments))


def assert_close(found: Any, expected: Any, what: str) -> None:
    """Equal shape and dtype, and a difference within the tolerance of that dtype."""
    found, expected = to_numpy(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    assert found.dtype == expected.dtype, what
    dtype = str(found.dtype)
    both_nan = np.isnan(found) & np.isnan(expected)
    difference = np.where(both_nan, 0, np.abs(found - expected)).max(initial=0)
    scale = np.where(both_nan, 0, np.abs(expected)).max(initial=0)
    error = float(difference / scale) if difference else 0.0
    group = what.rstrip("0123456789[]")
    LARGEST[dtype, group] = max(error, LARGEST.get((dtype, group), 0.0))
    assert error <= TOLERANCES[dtype], f"{what}: relative error {error:.2e}"


def assert_equal_outputs(found: Any, expected: Any, names: tuple[str, ...]) -> None:
    """The outputs called so, and the hidden states and attentions of every layer."""
    for name in names:
        assert_close(found[name], expected[name], name)
    for name in ("hidden_states", "attentions"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        for i, (x, y) in enumerate(zip(ours or (), theirs or (), strict=True)):
            assert_close(x, y, f"{name}[{i}]")


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the labels that are not -100; (n, V) and (n,), by the textbook."""
    logits, labels = logits[labels != -100].astype(np.float64), labels[labels != -100]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


quickly = HealthCheck.too_slow, HealthCheck.data_too_large
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}
# -- forward ---------------------------------------------------------------------------------------


def check_forward(data: st.DataObject, dtype: str) -> None:
    config = data.draw(configs())
    ours, theirs = build(GitForCausalLM, config, data.draw(seeds), dtype)
    call = data.draw(calls(config, dtype))
    use_cache = data.draw(st.sampled_from([None, True, False]))
    options = data.draw(st.sampled_from([EVERYTHING, EVERYTHING, {}]))
    found = ours(**call, **options, use_cache=use_cache)
    expected = ask(theirs, dtype, **call, **options, use_cache=use_cache)
    assert_equal_outputs(found, expected, ("logits",))
    assert found.keys() == list(expected.keys())
    if use_cache or (use_cache is None and config.use_cache):
        text = text_shape(call)[1]
        assert found.past_key_values.get_seq_length() == text
        assert expected.past_key_values.get_seq_length() == text


@settings(max_examples=400, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_forward_equals_the_oracle_in_float32(data: st.DataObject) -> None:
    check_forward(data, "float32")


@settings(max_examples=200, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_forward_equals_the_oracle_in_float64(data: st.DataObject) -> None:
    check_forward(data, "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=100, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_loss_equals_the_oracles_with_labels_shifted_once(data: st.DataObject, dtype: str) -> None:
    config = data.draw(configs())
    ours, theirs = build(GitForCausalLM, config, data.draw(seeds), dtype)
    call = data.draw(calls(config, dtype))
    labels = random_labels(data.draw, config, call)
    if (labels[:, 1:] == -100).all():  # see the next test
        call = {"input_ids": np.zeros((1, 2), np.int64)}
        labels = np.array([[-100, 3]])
    found = ours(**call, **EVERYTHING, labels=labels)
    text = call if "pixel_values" not in call else {**call, "labels": labels}
    shifted = torch.from_numpy(labels[:, 1:].copy())
    # Without an image the oracle cuts the image's length off all the same, and fails.
    more = {"shift_labels": shifted} if "labels" in text else {"use_cache": False}
    expected = ask(theirs, dtype, **text, **EVERYTHING, **more)
    assert_equal_outputs(found, expected, ("logits",))
    assert found.past_key_values is None
    loss = expected.loss
    if loss is None or dtype == "float64":  # the oracle's own loss is always taken in float32
        words = expected.logits[:, -labels.shape[1] : -1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(words, shifted.flatten())
    assert_close(found.loss, loss, "loss")


def test_loss_without_any_label_that_counts_is_nan_as_in_the_oracle() -> None:
    config = GitConfig(**SMALL)
    ours, theirs = build(GitForCausalLM, config, 1)
    pixels = np.ones((1, 3, 8, 8), np.float32)
    for labels in (np.array([[4, -100, -100]]), np.array([[4]])):
        call = {"pixel_values": pixels, "input_ids": np.abs(labels) % 7, "labels": labels}
        assert ask(theirs, **call, shift_labels=torch.from_numpy(labels[:, 1:])).loss.isnan()
        assert np.isnan(ours(**call).loss)


@pytest.mark.parametrize("image", [True, False])
def test_float16_with_padding_stays_near_the_oracles_float32(image: bool) -> None:
    """Large scores must not carry the mask of padding beyond float16's range."""
    config = GitConfig(**SMALL)
    weights = make_weights(GitForCausalLM.shapes(config), 2)
    for name in weights:
        if "query.weight" in name or "key.weight" in name:
            weights[name] *= 4
    weights = {name: x.astype(np.float16).astype(np.float32) for name, x in weights.items()}
    ours = GitForCausalLM(config, dtype="float16", _parameters=weights)
    _, theirs = build(GitForCausalLM, config, 2)
    theirs.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
    call = any_inputs(GitForCausalLM, config)
    call["attention_mask"] = np.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    if not image:
        del call["pixel_values"]
    found, expected = to_numpy(ours(**call).logits), ask(theirs, **call).logits.numpy()
    assert found.dtype == np.float16
    assert np.isfinite(found).all()
    text = slice(-6, None)
    for row, mask in enumerate(call["attention_mask"] == 1):
        x, y = found[row, text][mask], expected[row, text][mask]
        assert np.abs(x - y).max() <= 0.02 * np.abs(y).max()


def test_torch_tensors_give_what_arrays_give() -> None:
    config = GitConfig(**SMALL)
    ours, _ = build(GitForCausalLM, config, 2)
    call = any_inputs(GitForCausalLM, config)
    call |= {"labels": call["input_ids"], "attention_mask": np.ones((2, 6), np.int64)}
    taken_call = tensors(call)
    plain, taken = ours(**call), ours(**taken_call)
    np.testing.assert_array_equal(plain.logits, taken.logits)
    np.testing.assert_array_equal(plain.loss, taken.loss)
    del call["labels"], taken_call["labels"]
    np.testing.assert_array_equal(ours.generate(**call), ours.generate(**taken_call))


@settings(max_examples=20, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_oracles_own_loss_shifts_labels_twice_over_the_flattened_batch(
    data: st.DataObject,
) -> None:
    """It scores the word after the next one, and across the ends of rows; refgit's does not."""
    config = data.draw(configs())
    ours, theirs = build(GitForCausalLM, config, data.draw(seeds))
    rng = np.random.default_rng(data.draw(seeds))
    side = config.vision_config.image_size
    ids = rng.integers(0, config.vocab_size, (2, data.draw(st.integers(3, 7))))
    call = {
        "pixel_values": rng.standard_normal((2, config.vision_config.num_channels, side, side)),
        "input_ids": ids,
        "labels": ids.copy(),
    }
    call["pixel_values"] = call["pixel_values"].astype(np.float32)
    found = ours(**call)
    words = found.logits[:, config.vision_config.num_positions : -1]  # at n, about n + 1
    flat, labels = words.reshape(-1, words.shape[-1]), ids[:, 1:].reshape(-1)
    once, twice = cross_entropy(flat, labels), cross_entropy(flat[:-1], labels[1:])
    assert float(ask(theirs, **call).loss) == pytest.approx(twice, rel=FLOAT32)
    shifted = torch.from_numpy(ids[:, 1:].copy())
    assert float(ask(theirs, **call, shift_labels=shifted).loss) == pytest.approx(once, rel=FLOAT32)
    assert float(found.loss) == pytest.approx(once, rel=FLOAT32)


@settings(max_examples=30, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_tuples_hold_the_oracles_fields_in_the_oracles_order(data: st.DataObject) -> None:
    config = data.draw(configs())
    call = data.draw(calls(config, "float32", image=True))
    options = {
        "use_cache": data.draw(st.booleans()),
        "output_hidden_states": data.draw(st.booleans()),
        "output_attentions": data.draw(st.booleans()),
        "return_dict": False,
    }
    for kind in (GitForCausalLM, GitModel):
        ours, theirs = build(kind, config, data.draw(seeds))
        more: Arrays = {}
        shift = {}
        if kind is GitForCausalLM and data.draw(st.booleans()):
            more["labels"] = random_labels(data.draw, config, call)
            more["labels"][:, 1:2] = 0  # one that counts
            if more["labels"].shape[1] == 1:
                more = {}
            else:
                shift["shift_labels"] = torch.from_numpy(more["labels"][:, 1:].copy())
        found = ours(**call, **more, **options)
        expected = ask(theirs, **call, **more, **shift, **options)
        assert isinstance(found, tuple)
        assert_equal_tuples(found, expected)
    vision, their_vision = build(GitVisionModel, config.vision_config, data.draw(seeds))
    pixels = {"pixel_values": call["pixel_values"]}
    del options["use_cache"]
    assert_equal_tuples(vision(**pixels, **options), ask(their_vision, **pixels, **options))


def assert_equal_tuples(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for i, (x, y) in enumerate(zip(found, expected, strict=True)):
        if isinstance(y, torch.Tensor):
            assert_close(x, y, f"field {i}")
        elif isinstance(y, tuple):  # hidden states, attentions
            assert_equal_tuples(x, y)
        else:
            assert x.get_seq_length() == y.get_seq_length()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=100, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_git_model_equals_the_oracle(data: st.DataObject, dtype: str) -> None:
    config = data.draw(configs())
    ours, theirs = build(GitModel, config, data.draw(seeds), dtype)
    call = data.draw(calls(config, dtype))
    found, expected = ours(**call, **EVERYTHING), ask(theirs, dtype, **call, **EVERYTHING)
    assert_equal_outputs(found, expected, ("last_hidden_state",))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=100, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_git_vision_model_equals_the_oracle(data: st.DataObject, dtype: str) -> None:
    vision = data.draw(configs()).vision_config
    ours, theirs = build(GitVisionModel, vision, data.draw(seeds), dtype)
    rng = np.random.default_rng(data.draw(seeds))
    shape = (data.draw(st.integers(1, 4)), vision.num_channels, *[vision.image_size] * 2)
    pixels = rng.standard_normal(shape).astype(dtype)
    found = ours(pixels, **EVERYTHING)
    expected = ask(theirs, dtype, pixel_values=pixels, **EVERYTHING)
    assert_equal_outputs(found, expected, ("last_hidden_state",))


@settings(max_examples=30, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_the_parts_of_a_model_equal_the_oracles_parts(data: st.DataObject) -> None:
    config = data.draw(configs())
    ours, theirs = build(GitForCausalLM, config, data.draw(seeds))
    call = data.draw(calls(config, "float32"))
    pixels = call.get("pixel_values")
    found, expected = ours.git(**call, **EVERYTHING), ask(theirs.git, **call, **EVERYTHING)
    assert_equal_outputs(found, expected, ("last_hidden_state",))
    if pixels is not None and pixels.ndim == 4:
        found = ours.git.image_encoder(pixels, **EVERYTHING)
        expected = ask(theirs.git.image_encoder, pixel_values=pixels, **EVERYTHING)
        assert_equal_outputs(found, expected, ("last_hidden_state",))


# -- cached decoding -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=150, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_cached_chunks_equal_the_oracles_uncached_pass(data: st.DataObject, dtype: str) -> None:
    config = data.draw(configs())
    ours, theirs = build(GitForCausalLM, config, data.draw(seeds), dtype)
    call = data.draw(calls(config, dtype))
    length = text_shape(call)[1]
    expected = ask(theirs, dtype, **call, **EVERYTHING, use_cache=False)
    pixels = call.pop("pixel_values", None)
    n_image = expected.logits.shape[1] - length
    cache, start = None, 0
    if pixels is not None and data.draw(st.booleans()):
        cache, pixels = ours.encode_image(pixels), None
    while start < length:
        stop = data.draw(st.integers(start + 1, length))
        chunk = {name: x[:, start:stop] for name, x in call.items()}
        if "attention_mask" in call and data.draw(st.booleans()):
            chunk["attention_mask"] = call["attention_mask"][:, :stop]
        first = {} if pixels is None else {"pixel_values": pixels}
        found = ours(**chunk, **first, **EVERYTHING, past_key_values=cache, use_cache=True)
        rows = slice(0 if first else n_image + start, n_image + stop)
        assert_close(found.logits, expected.logits[:, rows], "cached logits")
        for x, y in zip(found.hidden_states, expected.hidden_states, strict=True):
            assert_close(x, y[:, rows], "cached hidden_states")
        for x, y in zip(found.attentions, expected.attentions, strict=True):
            assert_close(x, y[:, :, rows, : n_image + stop], "cached attentions")
        cache, pixels, start = found.past_key_values, None, stop
        assert cache.get_seq_length() == stop


# -- greedy generation -----------------------------------------------------------------------------


@dataclass
class Tally:
    """What the drawn generations were like."""

    draws: int = 0
    ties: int = 0
    uneven: int = 0
    ended: int = 0


def written(theirs: Any, **arguments: Any) -> np.ndarray:
    """Ids of the oracle's greedy search."""
    with at_work():
        ids = theirs.generate(**tensors(arguments), num_beams=1, do_sample=False)
    return np.asarray(ids)


def is_tie(ours: Any, theirs: Any, call: Arrays, found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether the words differ first where the two best scores are as good as equal."""
    width = min(found.shape[1], expected.shape[1])
    different = (found[:, :width] != expected[:, :width]).any(0)
    if not different.any():
        return False
    column = int(different.argmax())
    mask = call.get("attention_mask")
    if mask is not None:
        more = np.ones((len(mask), column - mask.shape[1]), np.int64)
        mask = np.concatenate([mask, more], 1)
    pixels = call.get("pixel_values")
    out = ours(expected[:, :column], attention_mask=mask, pixel_values=pixels)
    for row in np.flatnonzero(found[:, column] != expected[:, column]):
        scores = to_numpy(out.logits)[row, -1]
        words = scores[[found[row, column], expected[row, column]]]
        if abs(words[0] - words[1]) > 1e-5 * np.abs(scores).max():
            return False
    return True


def draw_generation(data: st.DataObject, *, padded: bool) -> tuple[Any, Any, Arrays]:
    """Two models with a raised bias of the end token, and what `generate` is called with."""
    config = data.draw(configs(positions=data.draw(st.sampled_from([20, 24]))))
    ours, theirs = build(GitForCausalLM, config, data.draw(seeds))
    # Random models hardly ever choose the end token.
    bias = theirs.output.bias.data
    bias[config.eos_token_id] += data.draw(st.sampled_from([0.0, 1.0, 1.5, 2.0, 2.5]))
    weights = {**ours.state_dict(), "output.bias": bias.numpy().copy()}
    ours = GitForCausalLM(config, _parameters=weights)
    rng = np.random.default_rng(data.draw(seeds))
    vision, images = config.vision_config, data.draw(st.sampled_from([3, 1, 2, 4]))
    shape = (images, vision.num_channels, vision.image_size, vision.image_size)
    call: Arrays = {}
    kind = data.draw(st.sampled_from(["prompt", "prompt", "text", *([] if padded else ["image"])]))
    if kind != "text":
        call["pixel_values"] = 2 * rng.standard_normal(shape).astype(np.float32)
    prompt = 1
    if kind != "image":
        prompt = data.draw(st.integers(1, 5))
        batch = images * data.draw(st.integers(1, 2))
        ordinary = np.setdiff1d(np.arange(config.vocab_size), [config.pad_token_id])
        call["input_ids"] = rng.choice(ordinary, (batch, prompt))
        if padded:
            call["attention_mask"] = random_mask(data.draw, batch, prompt)
    limit = data.draw(st.sampled_from(["max_length", "max_new_tokens"]))
    new = data.draw(st.one_of(st.integers(9, 16), st.integers(1, 16)))
    call[limit] = new + (prompt if limit == "max_length" else 0)
    if data.draw(st.booleans()):
        # more than the positions leave room for is refused here, and cut off by the oracle
        room = config.text_room(vision.num_positions if "pixel_values" in call else 0)
        call["min_length"] = data.draw(st.integers(0, min(prompt + new, room)))
    return ours, theirs, call


def look(ours: Any, expected: np.ndarray, prompt: int, tally: Tally) -> None:
    """Count where the texts end."""
    tally.draws += 1
    ends = expected == ours.config.eos_token_id
    ends[:, :prompt] = False
    tally.ended += bool(ends.any())
    tally.uneven += len({int(row.argmax()) if row.any() else -1 for row in ends}) > 1


def check_greedy(data: st.DataObject, tally: Tally) -> None:
    ours, theirs, call = draw_generation(data, padded=False)
    found = to_numpy(ours.generate(**call))
    expected = written(theirs, **call, use_cache=True)
    look(ours, expected, call.get("input_ids", found[:, :1]).shape[1], tally)
    assert found.dtype == np.int64
    if not np.array_equal(found, expected):
        assert is_tie(ours, theirs, call, found, expected), f"{found} != {expected}"
        tally.ties += 1


def row_alone(call: Arrays, b: int) -> Arrays:
    """What `generate` is called with for one text of a batch, without its padding."""
    here = call["attention_mask"][b] != 0
    row = {k: x for k, x in call.items() if k != "attention_mask"}
    row["input_ids"] = call["input_ids"][b][here][None]
    if "pixel_values" in call:
        row["pixel_values"] = call["pixel_values"][b % len(call["pixel_values"])][None]
    return row


def check_padded(data: st.DataObject, tally: Tally) -> None:
    """Each text becomes what it becomes alone; in a batch the oracle counts padding in."""
    ours, theirs, call = draw_generation(data, padded=True)
    found, width = to_numpy(ours.generate(**call)), call["input_ids"].shape[1]
    np.testing.assert_array_equal(found[:, :width], call["input_ids"])
    look(ours, found, width, tally)
    tie = False
    for b, words in enumerate(found[:, width:]):
        row = row_alone(call, b)
        expected = written(theirs, **row, use_cache=True)
        whole = np.concatenate([row["input_ids"], words[None]], axis=1)
        mine, rest = whole[:, : expected.shape[1]], whole[:, expected.shape[1] :]
        if not np.array_equal(mine, expected):
            assert is_tie(ours, theirs, row, mine, expected), f"{mine} != {expected}"
            tie = True
        else:
            assert (rest == ours.config.pad_token_id).all()
    tally.ties += tie


def assert_worth_something(tally: Tally, draws: int) -> None:
    print(f"\n{tally}", end="")
    assert tally.draws >= draws
    assert tally.ties <= 0.02 * tally.draws
    assert tally.uneven >= draws // 10
    assert tally.ended >= draws // 4


def test_greedy_ids_equal_the_oracles() -> None:
    tally = Tally()

    @settings(max_examples=400, deadline=None, suppress_health_check=quickly)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        check_greedy(data, tally)

    check()
    assert_worth_something(tally, 400)


def test_greedy_ids_below_padded_prompts_equal_the_oracles_of_each_text_alone() -> None:
    tally = Tally()

    @settings(max_examples=150, deadline=None, suppress_health_check=quickly)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        check_padded(data, tally)

    check()
    assert_worth_something(tally, 150)


@pytest.mark.parametrize("prompt", [1, 4, 21, 30])
def test_without_a_length_twenty_words_are_added_as_in_the_oracle(prompt: int) -> None:
    """And no more than there are positions, 32 here."""
    ours, theirs = build(GitForCausalLM, GitConfig(**{**SMALL, "eos_token_id": 36}), 12)
    pixels = any_inputs(GitVisionModel, ours.config.vision_config)["pixel_values"]
    ids = np.random.default_rng(3).integers(3, 36, (2, prompt))
    call = {"pixel_values": pixels, "input_ids": ids}
    np.testing.assert_array_equal(to_numpy(ours.generate(**call)), written(theirs, **call))


def test_without_a_mask_pad_ids_in_the_prompt_are_padding_as_in_the_oracle() -> None:
    """And each text becomes what it becomes alone."""
    differ = 0
    for seed in range(8):
        ours, theirs = build(GitForCausalLM, GitConfig(**SMALL), seed)
        pixels = any_inputs(GitVisionModel, ours.config.vision_config)["pixel_values"]
        ids = np.array([[0, 0, 1, 5, 9], [1, 8, 0, 7, 3]])
        call = {"pixel_values": pixels, "input_ids": ids, "max_new_tokens": 10}
        found = to_numpy(ours.generate(**call))
        masked = {**call, "attention_mask": ids != 0}
        for b in range(2):
            expected = written(theirs, **row_alone(masked, b))[0, 3 + b :]
            np.testing.assert_array_equal(found[b, 5 : 5 + len(expected)], expected)
        unmasked = to_numpy(ours.generate(**call, attention_mask=np.ones_like(ids)))
        differ += not np.array_equal(unmasked, found)
    assert differ


# -- checkpoints -----------------------------------------------------------------------------------

KINDS = [GitForCausalLM, GitModel, GitVisionModel]


def any_inputs(kind: Any, config: Any, seed: int = 5) -> Arrays:
    """A batch that a model of this kind takes."""
    rng = np.random.default_rng(seed)
    vision = config if kind is GitVisionModel else config.vision_config
    shape = (2, vision.num_channels, vision.image_size, vision.image_size)
    call: Arrays = {"pixel_values": rng.standard_normal(shape).astype(np.float32)}
    if kind is not GitVisionModel:
        call["input_ids"] = rng.integers(0, config.vocab_size, (2, 6))
    return call


def first(kind: Any) -> tuple[str, ...]:
    return ("logits",) if kind is GitForCausalLM else ("last_hidden_state",)


def own_config(kind: Any, config: GitConfig) -> Any:
    return config.vision_config if kind is GitVisionModel else config


def save_theirs(theirs: Any, folder: Path | str, **options: Any) -> None:
    with at_work():
        theirs.save_pretrained(folder, **options)


def load_theirs(kind: Any, folder: Path | str, **options: Any) -> Any:
    with at_work():
        cls = getattr(transformers, CLASSES[kind])
        return cls.from_pretrained(folder, attn_implementation="eager", **options)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_refgit_loads_what_the_oracle_writes(data: st.DataObject, kind: Any) -> None:
    config = own_config(kind, data.draw(configs()))
    _, theirs = build(kind, config, data.draw(seeds))
    dtype = data.draw(st.sampled_from(["float32", "float16", "bfloat16", "float64"]))
    theirs = theirs.to(getattr(torch, dtype))
    sharded = data.draw(st.sampled_from([{}, {"max_shard_size": "20KB"}]))
    with tempfile.TemporaryDirectory() as folder:
        save_theirs(theirs, folder, **sharded)
        ours = kind.from_pretrained(folder)
        call = any_inputs(kind, config)
        found, expected = ours(**call, **EVERYTHING), ask(theirs.float(), **call, **EVERYTHING)
        assert_equal_outputs(found, expected, first(kind))
    for name, x in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], x.numpy(), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None, suppress_health_check=quickly)
@given(data=st.data())
def test_oracle_loads_what_refgit_writes(data: st.DataObject, kind: Any) -> None:
    config = own_config(kind, data.draw(configs()))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    ours, _ = build(kind, config, data.draw(seeds), dtype)
    with tempfile.TemporaryDirectory() as folder:
        ours.save_pretrained(folder)
        options = {"dtype": getattr(torch, dtype), "output_loading_info": True}
        theirs, loading = load_theirs(kind, folder, **options)
    assert not any(loading.values()), loading
    assert theirs.config.model_type == config.model_type
    call = any_inputs(kind, config)
    found, expected = ours(**call, **EVERYTHING), ask(theirs, dtype, **call, **EVERYTHING)
    assert_equal_outputs(found, expected, first(kind))


def test_tied_checkpoints_of_the_oracle_load(tmp_path: Path) -> None:
    """The oracle leaves the head's matrix out of the file."""
    config = GitConfig(**SMALL, tie_word_embeddings=True)
    with at_work():
        theirs = transformers.GitForCausalLM(oracle_config(config)).eval()
    save_theirs(theirs, tmp_path)
    ours, call = GitForCausalLM.from_pretrained(tmp_path), any_inputs(GitForCausalLM, config)
    assert_equal_outputs(ours(**call), ask(theirs, **call), ("logits",))


@pytest.mark.parametrize("kind", [GitModel, GitVisionModel])
def test_part_of_the_oracles_whole_checkpoint_loads_by_itself(kind: Any, tmp_path: Path) -> None:
    config = GitConfig(**SMALL)
    _, theirs = build(GitForCausalLM, config, 3)
    save_theirs(theirs, tmp_path)
    part = theirs.git if kind is GitModel else theirs.git.image_encoder
    call = any_inputs(kind, own_config(kind, config))
    found = kind.from_pretrained(tmp_path)(**call, **EVERYTHING)
    assert_equal_outputs(found, ask(part, **call, **EVERYTHING), first(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_shards_of_the_oracle_are_several_files(kind: Any, tmp_path: Path) -> None:
    config = own_config(kind, GitConfig(**SMALL))
    ours, theirs = build(kind, config, 4)
    save_theirs(theirs, tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    again = kind.from_pretrained(tmp_path)
    for name, x in ours.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], x, err_msg=name)


def test_generation_config_written_by_the_oracle_is_obeyed_as_the_oracle_does(
    tmp_path: Path,
) -> None:
    config = GitConfig(**SMALL)
    _, theirs = build(GitForCausalLM, config, 6)
    theirs.generation_config.update(max_length=13, min_length=4, eos_token_id=[2, 9, 11])
    save_theirs(theirs, tmp_path)
    pixels = any_inputs(GitVisionModel, config.vision_config)["pixel_values"]
    expected = written(load_theirs(GitForCausalLM, tmp_path), pixel_values=pixels)
    found = GitForCausalLM.from_pretrained(tmp_path).generate(pixels)
    np.testing.assert_array_equal(to_numpy(found), expected)


def test_generation_config_written_by_refgit_is_obeyed_by_the_oracle(tmp_path: Path) -> None:
    ours, _ = build(GitForCausalLM, GitConfig(**SMALL), 6)
    ours.generation_config = replace(
        ours.generation_config, max_length=13, min_length=4, eos_token_id=[2, 9, 11]
    )
    ours.save_pretrained(tmp_path)
    pixels = any_inputs(GitVisionModel, ours.config.vision_config)["pixel_values"]
    expected = written(load_theirs(GitForCausalLM, tmp_path), pixel_values=pixels)
    np.testing.assert_array_equal(to_numpy(ours.generate(pixels)), expected)


# -- random initialisation -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_are_distributed_as_the_oracles(kind: Any) -> None:
    vision = {**SMALL["vision_config"], "initializer_range": 0.3}
    config = GitConfig(**{**SMALL, "vision_config": vision}, initializer_range=0.05, pad_token_id=7)
    config = own_config(kind, config)
    torch.manual_seed(8)
    with at_work():
        theirs = getattr(transformers, CLASSES[kind])(oracle_config(config)).state_dict()
    ours = kind(config, seed=8).state_dict()
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        found, expected = ours[name], tensor.numpy()
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
        if expected.std() == 0:  # biases, layer norms
            np.testing.assert_array_equal(found, expected, err_msg=name)
            continue
        if name.endswith("word_embeddings.weight"):
            assert not expected[7].any()
            assert not found[7].any()
            found, expected = np.delete(found, 7, 0), np.delete(expected, 7, 0)
        assert_same_distribution(found.ravel(), expected.ravel(), name)


def assert_same_distribution(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Mean and deviation within five standard errors; Kolmogorov and Smirnov's test at 1e-5."""
    n, deviation = expected.size, expected.std()
    assert abs(found.mean() - expected.mean()) < 5 * deviation * math.sqrt(2 / n), name
    assert abs(found.std() / deviation - 1) < 5 * math.sqrt(1 / n), name
    values = np.sort(np.concatenate([found, expected]))
    below = [np.searchsorted(np.sort(x), values, side="right") / n for x in (found, expected)]
    assert np.abs(below[0] - below[1]).max() < 2.47 * math.sqrt(2 / n), name


# -- git-base size ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_git_base_size_equals_the_oracle_in_float32(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = build(GitForCausalLM, GitConfig(), 20221127)
    rng = np.random.default_rng(20221127)
    pixels = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    ids = rng.integers(1000, 30522, (1, 6))
    call = {"pixel_values": pixels, "input_ids": ids}
    found, expected = to_numpy(ours(**call).logits), ask(theirs, **call).logits.numpy()
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    with capsys.disabled():
        print(f"git-base logits: {error:.1e}")
    assert error <= FLOAT32
