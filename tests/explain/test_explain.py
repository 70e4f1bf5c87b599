"""What is explained, checked against the model's own outputs; its text, page and command."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from helpers.command_line import ROOT, environment, picture
from helpers.explanations import CASES, FACES, FRAMES, image, processor, video
from helpers.pages import Reader, data_of
from refgit import (
    GitForCausalLM,
    GitProcessor,
    testing,
)
from refgit.cli import main as cli
from refgit.demo import demo_path
from refgit.explain import ExplainError, Explanation, explain, explain_pixels, rollout
from refgit.explain.html import GENERATOR, data_block, packed, percent
from refgit.explain.text import ASCII, BLOCKS, as_text, lacks_blocks
from refgit.processing import load_image

ESCAPE = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[GitForCausalLM, Any, Explanation, bool]:
    """A model, pixel values, what is explained of them, and whether any size goes."""
    model, reader, picture = CASES[request.param]()
    found = explain(model, reader, picture, max_length=7)
    pixels = reader(images=picture, return_tensors="np").pixel_values
    ratio = reader.image_processor.respect_ratio_max is not None
    return model, pixels[None] if request.param == "video" else pixels, found, ratio


@pytest.fixture(scope="module")
def plain() -> Explanation:
    return explain(*CASES["plain"](), max_length=7)


@pytest.fixture(scope="module")
def apple() -> Explanation:
    model = GitForCausalLM.from_pretrained(demo_path())
    reader = GitProcessor.from_pretrained(demo_path())
    return explain(model, reader, load_image(FACES / "red-apple.png"))


# ---- what is recorded


def near(model: GitForCausalLM) -> float:
    """How near two ways through the model come to one another, relative to the largest number."""
    return 2e-2 if model.dtype == "float16" else 3e-5


def test_probabilities_are_those_of_the_generation(
    case: tuple[GitForCausalLM, Any, Explanation, bool],
) -> None:
    model, pixels, found, ratio = case
    words = list(model.stream(pixels, max_length=7, interpolate_pos_encoding=ratio))
    assert [word.token_id for word in words] == found.token_ids.tolist()
    given = np.exp([word.log_probability for word in words])
    np.testing.assert_allclose(found.probabilities, given, atol=near(model))


def test_attention_is_that_of_decoding_on_the_cache(
    case: tuple[GitForCausalLM, Any, Explanation, bool],
) -> None:
    model, pixels, found, ratio = case
    home = model.backend.to_numpy
    cache = model.encode_image(pixels, interpolate_pos_encoding=ratio)
    for k, read in enumerate([model.config.bos_token_id, *found.token_ids[:-1].tolist()]):
        out = model.next_token_logits([[read]], cache, output_attentions=True)
        assert out.attentions is not None
        for ours, theirs in zip(found.attentions, out.attentions, strict=True):
            seen = home(theirs)[0, :, 0]  # (H, N + k + 1)
            np.testing.assert_allclose(ours[:, k, : seen.shape[-1]], seen, atol=near(model))


def test_all_that_is_recorded_is_what_the_model_returns(
    case: tuple[GitForCausalLM, Any, Explanation, bool],
) -> None:
    model, pixels, found, ratio = case
    home = model.backend.to_numpy
    bos = model.config.bos_token_id
    out: Any = model(
        [[bos, *found.token_ids[:-1].tolist()]],
        pixel_values=pixels,
        output_attentions=True,
        output_hidden_states=True,
        interpolate_pos_encoding=ratio,
        use_cache=False,
    )
    n = found.image_length
    attentions = [home(a)[0].astype(np.float64) for a in out.attentions]
    for ours, theirs in zip(found.attentions, attentions, strict=True):
        np.testing.assert_allclose(ours, theirs[:, n:], atol=near(model))
    np.testing.assert_allclose(found.rollouts, rollout(attentions)[:, n:], atol=near(model))
    states = np.stack([home(s)[0, n:].astype(np.float64) for s in out.hidden_states])
    np.testing.assert_allclose(found.text_norms, np.linalg.norm(states, axis=-1), rtol=near(model))
    logits = home(out.logits)[0, n:].astype(np.float64)  # (T, V)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    rows, close = np.arange(len(p)), {"atol": near(model)}
    np.testing.assert_allclose(found.probabilities, p[rows, found.token_ids], **close)
    np.testing.assert_allclose(found.top_probabilities, -np.sort(-p)[:, :10], **close)
    listed = np.take_along_axis(p, found.top_ids, -1)
    np.testing.assert_allclose(listed, found.top_probabilities, **close)
    ranks = [1 + int((q > q[w]).sum()) for q, w in zip(p, found.token_ids, strict=True)]
    assert found.ranks.tolist() == ranks


def test_image_norms_are_those_of_the_image_encoder(
    case: tuple[GitForCausalLM, Any, Explanation, bool],
) -> None:
    model, pixels, found, ratio = case
    seen: dict[str, np.ndarray] = {}
    model.encode_image(
        pixels,
        interpolate_pos_encoding=ratio,
        hook=lambda name, x: seen.update({name: model.backend.to_numpy(x)}),
    )
    root = "git.image_encoder.vision_model."
    names = ["pre_layrnorm", *(f"encoder.layers.{i}" for i in range(2))]
    wanted = [np.linalg.norm(seen[root + n][:, 1:].astype(float), axis=-1) for n in names]
    np.testing.assert_allclose(found.image_norms, [w.reshape(-1) for w in wanted], rtol=near(model))


def test_shapes_are_as_documented(case: tuple[GitForCausalLM, Any, Explanation, bool]) -> None:
    model, _, x, _ = case
    t, layers = len(x.tokens), model.config.num_hidden_layers
    frames, rows, columns = x.grid
    n = frames * (1 + rows * columns)
    assert n == x.image_length
    assert [a.shape for a in x.attentions] == [(len(h), t, n + t) for h in x.heads]
    assert len(x.heads) == layers
    assert x.rollouts.shape == (layers, t, n + t)
    for array in (x.text_norms, x.lens_ids, x.lens_probabilities, x.lens_of_token):
        assert array.shape == (layers + 1, t)
    assert x.image_norms.shape == (3, frames * rows * columns)
    for array in (x.top_ids, x.top_probabilities):
        assert array.shape == (t, 10)
    assert x.image.shape == (frames, rows * 4, columns * 4, 3)
    assert x.image.dtype == np.uint8
    assert len(x.context) == len(x.ranks) == len(x.probabilities) == t


def test_what_is_seen_is_the_image_after_resizing_and_cropping(apple: Explanation) -> None:
    reader = GitProcessor.from_pretrained(demo_path())
    raw = reader(
        images=load_image(FACES / "red-apple.png"),
        do_rescale=False,
        do_normalize=False,
        return_tensors="np",
    ).pixel_values
    np.testing.assert_array_equal(apple.image, raw.transpose(0, 2, 3, 1))


def test_what_fills_no_patch_is_not_shown() -> None:
    found = explain(
        testing.tiny_model(7), processor(respect_ratio_max=40), image(size=(47, 10)), max_length=3
    )
    assert found.grid == (1, 2, 9)  # 8 x 37 pixels, in patches of 4
    assert found.image.shape == (1, 8, 36, 3)


def test_the_logit_lens_ends_at_the_models_own_words(plain: Explanation) -> None:
    np.testing.assert_array_equal(plain.lens_ids[-1], plain.top_ids[:, 0])
    np.testing.assert_array_equal(plain.lens_of_token[-1], plain.probabilities)
    assert plain.lens_tokens[-1] == tuple(top[0] for top in plain.top_tokens)


def test_pruned_heads_keep_their_numbers() -> None:
    found = explain(*CASES["pruned"](), max_length=4)
    assert found.heads == ((0, 3), (0, 1, 2, 3), (1, 2, 3))
    np.testing.assert_array_equal(found.attention(1, 2, 3), found.attentions[2][2, 1])
    with pytest.raises(ExplainError, match="head of layer 2 is 0; there are 1, 2, 3"):
        found.attention(1, 2, 0)


def test_frames_of_a_list_and_of_a_video_processor_are_one_video() -> None:
    found = video()
    assert found.grid == (FRAMES, 2, 2)
    assert found.on_patches(found.attention(0)).shape == (FRAMES, 2, 2)


def test_a_checkpoint_that_decodes_with_beams_has_the_text_of_its_beams_explained() -> None:
    model, reader, picture = CASES["plain"]()
    model.generation_config = model.generation_config.replace(num_beams=4)
    found = explain(model, reader, picture, max_length=7)
    pixels = reader(images=picture, return_tensors="np").pixel_values
    greedy = explain(*CASES["plain"](), max_length=7)
    assert found.token_ids.tolist() == model.generate(pixels, max_length=7)[0, 1:].tolist()
    assert found.token_ids.tolist() != greedy.token_ids.tolist()


def test_a_given_text_stands_between_the_opening_and_the_end_token() -> None:
    model, reader, picture = CASES["plain"]()
    found = explain(model, reader, picture, "a b c")
    assert found.tokens == ("a", "b", "c", "[SEP]")
    assert found.context == ("[CLS]", "a", "b", "c")
    assert (found.text, found.generated) == ("a b c", False)


def test_what_the_model_writes_explains_as_the_same_text_given(apple: Explanation) -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    reader = GitProcessor.from_pretrained(demo_path())
    given = explain(model, reader, load_image(FACES / "red-apple.png"), "red apple")
    assert (apple.text, apple.generated, given.generated) == ("red apple", True, False)
    for field in dataclasses.fields(Explanation):
        if field.name != "generated":
            np.testing.assert_equal(getattr(given, field.name), getattr(apple, field.name))


def test_the_text_is_as_long_as_the_positions_allow() -> None:
    model, reader, picture = CASES["plain"]()
    room = testing.CONFIG.max_position_embeddings
    longest = explain(model, reader, picture, " ".join(["a"] * (room - 1)))
    assert len(longest.context) == room
    with pytest.raises(ExplainError, match=f"{room + 1} tokens.*positions for {room}"):
        explain(model, reader, picture, " ".join(["a"] * room))
    assert len(explain(model, reader, picture, max_length=999).tokens) < room


def test_attention_of_a_word_is_a_row_that_sums_to_one(
    case: tuple[GitForCausalLM, Any, Explanation, bool],
) -> None:
    model, _, x, _ = case
    for k in range(len(x.tokens)):
        rows = [x.attention(k), x.attention(k, rolled=True)]
        for layer, heads in enumerate(x.heads):
            rows += [x.attention(k, layer), x.attention(k, layer, rolled=True)]
            rows += [x.attention(k, layer, head) for head in heads]
        for row in rows:
            assert row.sum() == pytest.approx(1, abs=near(model))
            np.testing.assert_array_equal(row[x.image_length + k + 1 :], 0)  # what comes after


def test_patches_lie_as_in_the_image(plain: Explanation) -> None:
    row = np.arange(plain.image_length + len(plain.context))
    assert plain.on_patches(row).tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": 99}, "token is 99; there are 0, 1"),
        ({"token": 0, "layer": 3}, "layer is 3; there are 0, 1, 2"),
        ({"token": 0, "layer": 0, "head": 4}, "head of layer 0 is 4; there are 0, 1, 2, 3"),
        ({"token": 0, "head": 1}, "head is 1 without a layer"),
        ({"token": 0, "layer": 0, "head": 1, "rolled": True}, "head is 1 with rolled"),
    ],
)
def test_what_is_not_there_is_refused(
    plain: Explanation, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExplainError, match=re.escape(message)):
        plain.attention(**arguments)


def test_several_images_and_empty_texts_are_refused() -> None:
    model, reader, picture = CASES["plain"]()
    with pytest.raises(ExplainError, match="2 images or videos; expected one"):
        explain(model, reader, [picture, picture])
    both = reader(images=[picture, picture], return_tensors="np")["pixel_values"]
    with pytest.raises(ExplainError, match="there are 2 images; expected one"):
        explain_pixels(model, reader, both)
    with pytest.raises(ExplainError, match="the text has no words"):
        explain(model, reader, picture, "  ")
    with pytest.raises(ValueError, match="pixel_values"):
        explain_pixels(model, reader, np.zeros((1, 3, 9, 8), np.float32))


# ---- rollout

LENGTHS = st.integers(1, 6)


@st.composite
def causal_attention(draw: st.DrawFn) -> tuple[int, list[np.ndarray]]:
    """N image tokens that see one another, text that sees these and what comes before."""
    n_image, n_text = draw(st.integers(0, 4)), draw(LENGTHS)
    length = n_image + n_text
    sees = np.tri(length, dtype=bool)
    sees[:n_image, :n_image] = True
    found = []
    for _ in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(1, 3)), length, length)
        weights = np.where(sees, draw(arrays(np.float64, shape, elements=st.floats(0.01, 1))), 0)
        found.append(weights / weights.sum(-1, keepdims=True))
    return n_image, found


@given(causal_attention())
@settings(max_examples=60, deadline=None)
def test_rollout_rows_sum_to_one_and_see_nothing_later(
    drawn: tuple[int, list[np.ndarray]],
) -> None:
    n_image, attentions = drawn
    found = rollout(attentions)
    length = attentions[0].shape[-1]
    assert found.shape == (len(attentions), length, length)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-12)
    assert (found >= 0).all()
    hidden = np.triu(np.ones((length, length), bool), 1)
    hidden[:n_image, :n_image] = False
    assert (found[:, hidden] == 0).all()


@given(causal_attention())
@settings(max_examples=30, deadline=None)
def test_each_layer_of_rollout_is_the_mixture_times_the_layer_before(
    drawn: tuple[int, list[np.ndarray]],
) -> None:
    _, attentions = drawn
    found = rollout(iter(attentions))
    identity = np.eye(attentions[0].shape[-1])
    before = identity
    for layer, a in enumerate(attentions):
        np.testing.assert_allclose(
            found[layer], (0.5 * a.mean(0) + 0.5 * identity) @ before, atol=1e-12
        )
        before = found[layer]


def test_rollout_of_tokens_that_look_at_themselves_stays_put() -> None:
    np.testing.assert_array_equal(rollout([np.eye(4)[None]] * 3), np.stack([np.eye(4)] * 3))


def test_rollout_counts_a_silenced_head_as_keeping_what_was_there() -> None:
    np.testing.assert_array_equal(rollout([np.zeros((2, 3, 3))]), np.eye(3)[None])


@pytest.mark.parametrize(
    ("attentions", "message"),
    [
        ([], "attentions is empty"),
        ([np.zeros((3, 3))], r"attentions\[0\] has shape \(3, 3\)"),
        ([np.zeros((1, 3, 4))], r"attentions\[0\] has shape \(1, 3, 4\)"),
        ([np.zeros((1, 3, 3)), np.zeros((1, 4, 4))], r"attentions\[1\] is about 4 tokens"),
    ],
)
def test_rollout_refuses_what_is_no_attention(attentions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rollout(attentions)


# ---- in letters


def test_the_text_says_words_probabilities_rivals_and_norms(apple: Explanation) -> None:
    text = apple.to_text(width=80)
    assert text.startswith("red apple\n")
    for k, token in enumerate(apple.tokens):
        assert f"{k + 1} {token} {percent(float(apple.probabilities[k]))}" in text
        for rival in apple.top_tokens[k][:5]:
            assert f" {rival}\n" in text
    assert "looks most at row 1, column 6" in text
    assert text.count("norm by layer: ") == 3
    assert "image encoder, mean norm of a patch by layer: " in text


def test_the_map_is_dark_where_the_model_does_not_look_and_full_where_most(
    apple: Explanation,
) -> None:
    lines = apple.to_text(width=80).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("2 apple"))
    shades = [line[2:16].ljust(14)[::2] for line in lines[start + 1 : start + 8]]
    share = apple.on_patches(apple.attention(1))[0]
    level = np.rint(share / share.max() * 4).astype(int)
    assert shades == ["".join(BLOCKS[i] for i in row) for row in level]


@pytest.mark.parametrize("width", [20, 34, 40, 50, 80, 200])
@pytest.mark.parametrize("name", ["plain", "video", "interpolated"])
def test_maps_keep_within_the_width(name: str, width: int) -> None:
    found = video() if name == "video" else explain(*CASES[name](), max_length=4)
    maps = [line for line in as_text(found, width=width).splitlines() if set(line) & set("░▒▓█")]
    assert maps
    assert max(map(len, maps)) <= width
    plain = as_text(found, width=width, ascii_only=True)
    assert plain.isascii()


def test_many_columns_are_summed_in_blocks() -> None:
    base = explain(*CASES["plain"](), max_length=3)
    rows, columns = 3, 90
    n = 1 + rows * columns
    share = np.zeros((1, 2, n + 2))
    share[0, :, 1 + 89] = 1.0  # the last column of the first row
    wide = dataclasses.replace(
        base,
        grid=(1, rows, columns),
        attentions=(share,),
        heads=((0,),),
        tokens=base.tokens[:2],
        context=base.context[:2],
    )
    maps = [line for line in as_text(wide, width=60).splitlines() if "█" in line]
    assert [line.rstrip()[-1] for line in maps] == ["█", "█"]
    assert max(map(len, maps)) <= 60


def test_colours_are_escapes_around_the_same_text(apple: Explanation) -> None:
    plain, coloured = apple.to_text(), apple.to_text(colour=True)
    assert "\x1b" not in plain
    assert "\x1b[1mapple\x1b[0m" in coloured
    assert ESCAPE.sub("", coloured) == plain


def test_ascii_is_for_encodings_without_blocks() -> None:
    assert [lacks_blocks(e) for e in ("utf-8", "cp437", "ascii", "latin-1", None, "nonsense")] == [
        False, False, True, True, True, True,
    ]  # fmt: skip
    assert len(set(ASCII)) == len(ASCII)


def test_a_word_that_is_not_the_likeliest_says_which_it_is() -> None:
    model, reader, picture = CASES["plain"]()
    found = explain(model, reader, picture, "a b c d e f g")
    text = found.to_text()
    unlikely = [int(rank) for rank in found.ranks if rank > 1]
    assert unlikely
    assert len(re.findall(r"only the \d+(?:st|nd|rd|th) likeliest", text)) == len(unlikely)


# ---- the page


@pytest.fixture(scope="module")
def page(apple: Explanation) -> str:
    return apple.to_html(model_name="a & b", image_name="<i>.png")


@given(
    st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.0, 1e-6, 1e-3, 1.0]), st.integers(0, 9)
)
@settings(max_examples=40, deadline=None)
def test_a_byte_holds_a_share_to_a_255th_of_the_largest(
    rows: int, length: int, largest: float, seed: int
) -> None:
    x = np.random.default_rng(seed).random((rows, length)) * largest
    block = packed(x)
    codes = np.frombuffer(base64.b64decode(block["codes"]), np.uint8).reshape(rows, length)
    most = np.frombuffer(base64.b64decode(block["largest"]), "<f4")[:, None].astype(float)
    back = (codes / 255.0) ** 2 * most
    assert (np.abs(back - x) <= x.max(-1, keepdims=True) * (1 / 255 + 1e-6)).all()
    order = np.argsort(x, -1, kind="stable")
    assert (np.diff(np.take_along_axis(back, order, -1)) >= 0).all()


def test_the_data_block_is_the_explanation(case: Any) -> None:
    _, _, x, _ = case
    data = json.loads(json.dumps(data_block(x), allow_nan=False))
    t, length = len(x.tokens), x.image_length + len(x.context)
    heads = sum(len(h) for h in x.heads)
    codes = base64.b64decode(data["attention"]["codes"])
    assert len(codes) == t * heads * length
    assert len(base64.b64decode(data["rollout"]["codes"])) == t * len(x.heads) * length
    most = np.frombuffer(base64.b64decode(data["attention"]["largest"]), "<f4")
    shares = (np.frombuffer(codes, np.uint8) / 255.0) ** 2
    shares = shares.reshape(t, heads, length) * most.reshape(t, heads, 1)
    stacked = np.concatenate(x.attentions)  # (all heads, T, L)
    np.testing.assert_allclose(shares, stacked.swapaxes(0, 1), atol=1 / 255)
    assert [word["token"] for word in data["words"]] == list(x.tokens)
    np.testing.assert_allclose([w["p"] for w in data["words"]], x.probabilities, rtol=1e-3)


def test_the_page_is_well_formed_and_needs_nothing_from_anywhere(page: str) -> None:
    reader = Reader(page)
    assert (reader.faults, reader.open) == ([], [])
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    addresses = [
        value or ""
        for _, attributes in reader.elements
        for key, value in attributes.items()
        if key in ("src", "href", "action", "data", "srcset")
    ]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    inside = "".join(reader.scripts)
    assert re.findall(r"https?://[^\s\"']*", inside) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in inside
    assert "@import" not in inside
    policy = [a for _, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert (policy[0]["content"] or "").startswith("default-src 'none'")


def test_the_page_is_the_same_each_time_and_states_its_size(apple: Explanation, page: str) -> None:
    assert apple.to_html(model_name="a & b", image_name="<i>.png") == page
    stated = re.search(r"This file: ([\d,]+) kB", page)
    assert stated is not None
    assert abs(int(stated[1].replace(",", "")) * 1000 - len(page.encode())) <= 1000
    assert len(page.encode()) < 100_000


def test_names_and_words_that_hold_html_do_nothing(plain: Explanation) -> None:
    evil = "</script><script>hacked=1</script><img src=x onerror=hacked=1>"
    top = tuple((evil, *row[1:]) for row in plain.top_tokens)
    lens = tuple((evil,) * len(row) for row in plain.lens_tokens)
    tokens = (evil, *plain.tokens[1:])
    found = dataclasses.replace(
        plain, tokens=tokens, context=(evil,) * len(plain.context), top_tokens=top,
        lens_tokens=lens, text=evil,
    )  # fmt: skip
    page = found.to_html(model_name=evil, image_name=evil)
    reader = Reader(page)
    assert reader.faults == []
    names = [tag for tag, _ in reader.elements]
    assert names.count("script") == 2
    assert names.count("img") == 1
    assert evil in reader.text
    assert data_of(page)["words"][0]["token"] == evil


def test_the_picture_of_the_page_is_what_the_model_saw(apple: Explanation, page: str) -> None:
    source = re.search(r'<img alt="[^"]+" src="data:image/png;base64,([^"]+)">', page)
    assert source is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))
    np.testing.assert_array_equal(shown, apple.image[0])


def test_without_scripts_the_words_and_a_table_remain(apple: Explanation, page: str) -> None:
    table = Reader(page[page.index('id="all"') :].partition("<noscript>")[0]).text
    for k, token in enumerate(apple.tokens):
        assert f"{k + 1} {token} {percent(float(apple.probabilities[k]))}" in table
    assert "row 1, column 6" in table
    assert "a & b" in Reader(page).text
    assert "<i>.png" in Reader(page).text


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0, "0.0 %"), (1e-9, "< 0.01 %"), (2e-4, "0.02 %"), (0.031, "3.1 %"),
        (0.99999, "> 99.9 %"), (1.0, "100.0 %"), (float("nan"), "not a number"),
    ],
)  # fmt: skip
def test_a_probability_in_words(p: float, words: str) -> None:
    assert percent(p) == words


def test_numbers_that_are_none_still_make_a_page_and_a_text(plain: Explanation) -> None:
    nothing = [np.full_like(a, np.nan) for a in plain.attentions]
    found = dataclasses.replace(
        plain,
        attentions=tuple(nothing),
        text_norms=np.full_like(plain.text_norms, np.inf),
        probabilities=np.full_like(plain.probabilities, np.nan),
    )
    assert Reader(found.to_html()).faults == []
    assert "not a number" in found.to_text()


# ---- files


def test_a_page_is_written_whole_and_over_an_earlier_one_alone(
    plain: Explanation, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    plain.save(path)
    assert path.read_text(encoding="utf-8") == plain.to_html()
    plain.save(path, model_name="another")
    assert "another" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("content", [b"my thesis", b"<!DOCTYPE html><html>mine</html>", b"\x89PNG"])
def test_any_other_file_is_left_as_it_is(
    plain: Explanation, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "thesis.html"
    path.write_bytes(content)
    with pytest.raises(
        ExplainError, match="is not a report of refgit explain; it is left as it is"
    ):
        plain.save(path)
    assert path.read_bytes() == content


def test_a_link_stays_and_an_empty_file_is_filled(plain: Explanation, tmp_path: Path) -> None:
    (tmp_path / "there.html").touch()
    link = tmp_path / "link.html"
    link.symlink_to("there.html")
    plain.save(link)
    assert link.is_symlink()
    assert GENERATOR in (tmp_path / "there.html").read_text(encoding="utf-8")


def test_a_place_where_nothing_can_be_written_is_refused(
    plain: Explanation, tmp_path: Path
) -> None:
    with pytest.raises(ExplainError, match="in a directory that does not exist"):
        plain.save(tmp_path / "none" / "x.html")
    with pytest.raises(ExplainError, match="is not a file"):
        plain.save(tmp_path)
    with pytest.raises(ExplainError, match=r"cannot be written: .*[Nn]ame too long"):
        plain.save(tmp_path / ("x" * 300))


# ---- the command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny-git"
    testing.tiny_model(seed=7).save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run `refgit explain` in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: object, model: object = checkpoint) -> tuple[int, str, str]:
        try:
            code = cli.main(["explain", *map(str, arguments), "--model", str(model)])
        except SystemExit as end:
            code = int(str(end.code))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_it


def test_the_command_writes_the_page_and_prints_the_text(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    file = picture(tmp_path / "p.png")
    code, out, err = run(file)
    pixels = load_image(file)
    expected = explain(testing.tiny_model(7), processor(), pixels)
    assert (code, out) == (0, expected.text + "\n")
    assert re.fullmatch(r"refgit: wrote report\.html, \d+ kB; open it in a browser\.\n", err)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page == expected.to_html(model_name="tiny-git", image_name="p.png")


def test_the_command_explains_a_given_text_into_a_named_file(run: Run, tmp_path: Path) -> None:
    code, out, err = run(picture(tmp_path / "p.png"), "--text", "a b", "--out", "x.html")
    assert (code, out) == (0, "a b\n")
    assert "wrote x.html" in err
    assert "given, and read word by word" in (tmp_path / "x.html").read_text(encoding="utf-8")


def test_text_only_prints_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    file = picture(tmp_path / "p.png")
    code, out, err = run(file, "--text-only", "--text", "a b")
    expected = explain(testing.tiny_model(7), processor(), load_image(file), "a b")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert out == expected.to_text(width=80)
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "none.png"),
        (["p.png", "--text", ""], "the text has no words"),
        (["p.png", "--text", "a " * 30], "this model has positions for 24"),
        (["p.png", "--out", "none/x.html"], "does not exist"),
        (["p.png", "--out", "p.png"], "p.png is there, and is not a report"),
        (["p.png", "--out", ""], "is not a file"),
        (["p.png", "--out", "x.html", "--text-only"], "not allowed with argument"),
        (["p.png", "--max-length", "1"], "must be an integer >= 2 (got '1')"),
        (["clip.mp4"], "this model takes images only"),
        ([], "required: IMAGE"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    before = picture(tmp_path / "p.png").read_bytes()
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]
    assert (tmp_path / "p.png").read_bytes() == before


def test_the_place_is_looked_at_before_the_model_is_loaded(run: Run, tmp_path: Path) -> None:
    code, _, err = run(picture(tmp_path / "p.png"), "--out", "none/x.html", model="nowhere")
    assert code == 2
    assert "none/x.html" in err


def test_debug_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ExplainError):
        run(picture(tmp_path / "p.png"), "--text", "", "--debug")


@pytest.mark.parametrize(
    ("variables", "shade"),
    [({"PYTHONIOENCODING": "ascii"}, set("@#%")), ({"PYTHONUTF8": "1"}, set("█▓"))],
)
def test_in_a_process_the_shades_suit_the_encoding(
    variables: dict[str, str], shade: set[str]
) -> None:
    arguments = ["explain", str(FACES / "star.png"), "--text-only"]
    done = subprocess.run(
        [sys.executable, "-m", "refgit", *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=environment(**variables, COLUMNS="70"),
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert set(text) & shade
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines() if set(line) & shade) <= 70


def test_the_front_page_of_the_part_names_its_public_things() -> None:
    import refgit.explain

    for name in ("explain", "explain_pixels", "Explanation", "rollout", "ExplainError"):
        assert getattr(refgit.explain, name).__doc__
