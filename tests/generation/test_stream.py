"""Words as they come: from Python, and on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command_line import ROOT, environment
from helpers.strategies import few, seeds
from helpers.texts import PAD, with_eos
from refgit import GitForCausalLM, GitProcessor, testing, to_numpy
from refgit.cli.output import print_as_it_comes
from refgit.demo import demo_path
from refgit.processing import load_image

MODEL = testing.tiny_model()
APPLE = ROOT / "docs" / "images" / "red-apple.png"


def rows_of(words: Iterator[Any]) -> dict[int, list[Any]]:
    rows: dict[int, list[Any]] = {}
    for word in words:
        rows.setdefault(word.row, []).append(word)
    return rows


@few
@given(seed=seeds, images=st.integers(1, 3), sampled=st.booleans())
def test_the_words_are_those_that_generate_returns(seed: int, images: int, sampled: bool) -> None:
    model = with_eos(MODEL, [2, 10, 11])
    options: dict[str, Any] = {"max_length": 9}
    if sampled:
        options |= {"do_sample": True, "seed": seed, "num_return_sequences": 2}
    pixels = testing.pixels(images, seed)
    ids = to_numpy(model.generate(pixels, **options))
    rows = rows_of(model.stream(pixels, **options))
    assert sorted(rows) == list(range(len(ids)))
    for row, words in rows.items():
        found = [word.token_id for word in words]
        expected = ids[row, 1 : 1 + len(words)].tolist()
        assert found == expected
        assert (ids[row, 1 + len(words) :] == PAD).all()
        assert [word.ended for word in words] == [False] * (len(words) - 1) + [True]
        for n, word in enumerate(words):
            assert word.ids.tolist() == found[: n + 1]


def test_log_probabilities_are_the_models() -> None:
    pixels = testing.pixels(2, 4)
    # a processor changes what is chosen, not what the model thinks of it
    rows = rows_of(MODEL.stream(pixels, max_length=8, repetition_penalty=3.0))
    for row, words in rows.items():
        ids = np.array([[testing.CONFIG.bos_token_id, *(word.token_id for word in words)]])
        logits = to_numpy(MODEL(ids, pixel_values=pixels[row : row + 1]).logits)[0]
        logits = logits[testing.IMAGE_TOKENS :].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for n, word in enumerate(words):
            assert word.log_probability == pytest.approx(log_p[n, word.token_id], abs=1e-5)


def test_attention_over_the_image_is_that_of_a_whole_forward_pass() -> None:
    pixels = testing.pixels(2)
    rows = rows_of(MODEL.stream(pixels, max_length=6, output_attentions=True))
    layers, heads = testing.CONFIG.num_hidden_layers, testing.CONFIG.num_attention_heads
    for row, words in rows.items():
        ids = np.array([[testing.CONFIG.bos_token_id, *(word.token_id for word in words)]])
        out = MODEL(ids, pixel_values=pixels[row : row + 1], output_attentions=True)
        whole = np.stack([to_numpy(x)[0] for x in out.attentions])  # (layers, H, L, L)
        for n, word in enumerate(words):
            assert word.attention.shape == (layers, heads, testing.IMAGE_TOKENS)
            expected = whole[:, :, testing.IMAGE_TOKENS + n, : testing.IMAGE_TOKENS]
            np.testing.assert_allclose(word.attention, expected, atol=1e-5)
    assert next(iter(MODEL.stream(pixels, max_length=6))).attention is None


def test_where_a_pruned_model_looked_comes_layer_by_layer() -> None:
    model = testing.tiny_model(3)
    model.prune_heads({0: [1, 2]})
    word = next(iter(model.stream(testing.pixels(), max_length=3, output_attentions=True)))
    heads = [model.config.heads_of(i) for i in range(model.config.num_hidden_layers)]
    assert len(set(heads)) > 1
    assert isinstance(word.attention, tuple)
    n_image = model.config.vision_config.num_positions
    assert [a.shape for a in word.attention] == [(h, n_image) for h in heads]


def test_text_and_tokens_need_a_tokenizer() -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    processor = GitProcessor.from_pretrained(demo_path())
    pixels = processor(load_image(APPLE), return_tensors="np").pixel_values
    words = list(model.stream(pixels, tokenizer=processor.tokenizer))
    assert [word.text for word in words] == ["red", "red apple", "red apple"]
    assert [word.token for word in words] == ["red", "apple", "[SEP]"]
    assert {(word.text, word.token) for word in model.stream(pixels)} == {(None, None)}


def test_words_come_while_the_text_is_still_being_written() -> None:
    class Steps(list[int]):
        def __call__(self, ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
            self.append(ids.shape[1])
            return scores

    steps = Steps()
    for n, _ in enumerate(MODEL.stream(testing.pixels(), max_length=8, logits_processor=[steps])):
        assert len(steps) == n + 1


@pytest.mark.parametrize("name", ["return_dict_in_generate", "output_scores", "output_logits"])
def test_what_stream_cannot_heed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is True, which stream does not return"):
        MODEL.stream(testing.pixels(), **{name: True})


def test_what_is_wrong_is_said_before_the_first_word_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"stream was asked for and num_beams is 2"):
        MODEL.stream(testing.pixels(), num_beams=2)
    with pytest.raises(TypeError, match="did you mean max_length"):
        MODEL.stream(testing.pixels(), max_lenght=2)


def test_a_streamer_is_shown_prompts_words_and_the_end() -> None:
    class Streamer:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def put(self, ids: np.ndarray) -> None:
            self.seen.append(np.asarray(ids).tolist())

        def end(self) -> None:
            self.seen.append("end")

    streamer, pixels = Streamer(), testing.pixels(2)
    ids = to_numpy(MODEL.generate(pixels, max_length=5, streamer=streamer))
    assert streamer.seen == [ids[:, :1].tolist(), *ids[:, 1:].T.tolist(), "end"]


# ---- scores of the words


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.7}]
)
def test_transition_scores_add_up_to_the_log_probability_of_the_text(
    options: dict[str, Any],
) -> None:
    model, pixels = with_eos(MODEL, [2, 10, 11]), testing.pixels(2, 5)
    asked = {"max_length": 9, "return_dict_in_generate": True, "output_scores": True}
    out = model.generate(pixels, **asked, **options)
    beams = getattr(out, "beam_indices", None)
    found = to_numpy(
        model.compute_transition_scores(
            out.sequences, out.scores, beams, normalize_logits=not options
        )
    )
    ids = to_numpy(out.sequences)
    for row, text in enumerate(ids):
        ends = np.flatnonzero(np.isin(text, [2, 10, 11]))
        stop = ends[0] + 1 if len(ends) else len(text)
        image = row // options.get("num_return_sequences", 1)
        logits = to_numpy(model(text[None, :stop], pixel_values=pixels[image : image + 1]).logits)
        logits = logits[0, testing.IMAGE_TOKENS :].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = [log_p[n, text[n + 1]] for n in range(stop - 1)]
        np.testing.assert_allclose(found[row, : stop - 1], expected, atol=1e-4)
        np.testing.assert_array_equal(found[row, stop - 1 :], 0)
        if options:
            total = sum(expected) / len(expected) ** 0.7
            assert to_numpy(out.sequences_scores)[row] == pytest.approx(total, abs=1e-4)


def test_scores_of_another_call_are_refused() -> None:
    scores = [np.zeros((2, 23), np.float32)] * 3
    for sequences, beams in ((np.zeros((3, 4), int), None), (np.zeros((2, 4), int), [[5, 5, 5]])):
        with pytest.raises(ValueError, match="expected those of one call of generate"):
            MODEL.compute_transition_scores(sequences, scores, beams)
    with pytest.raises(ValueError, match="scores has 0 steps"):
        MODEL.compute_transition_scores(np.zeros((2, 4), int), [])


@pytest.mark.parametrize(
    ("sequences", "scores", "beams", "words"),
    [
        (np.full((2, 4), 23), None, None, r"sequences holds 23; expected ids from 0 to 22"),
        (np.full((2, 4), -1), None, None, r"sequences holds -1; expected ids from 0 to 22"),
        (np.zeros((2, 4)), None, None, "sequences is of dtype float64; expected integers"),
        (None, None, np.zeros((2, 3)), "beam_indices is of dtype float64; expected integers"),
        (None, None, np.zeros(3, int), r"beam_indices shape \(3,\)"),
        (None, None, np.zeros((2, 0), int), None),
        (None, [np.zeros(23)] * 3, None, "arrays \\(rows, V\\) of one shape"),
    ],
)
def test_arrays_that_no_call_returns_are_refused(
    sequences: Any, scores: Any, beams: Any, words: str | None
) -> None:
    sequences = np.zeros((2, 4), int) if sequences is None else sequences
    scores = [np.zeros((2, 23), np.float32)] * 3 if scores is None else scores
    if words is None:
        assert to_numpy(MODEL.compute_transition_scores(sequences, scores, beams)).shape == (2, 0)
        return
    with pytest.raises(ValueError, match=words):
        MODEL.compute_transition_scores(sequences, scores, beams)


def test_what_stands_behind_the_end_of_a_beam_need_be_no_word() -> None:
    scores = [np.ones((2, 23), np.float32)] * 2
    found = MODEL.compute_transition_scores([[1, 5, 99]], scores, [[0, -1]])
    assert to_numpy(found).tolist() == [[1, 0]]


def test_scores_that_were_not_asked_for_say_how_to_have_them() -> None:
    with pytest.raises(ValueError, match=r"scores is None.*output_scores=True"):
        MODEL.compute_transition_scores(np.zeros((2, 4), int), None)  # type: ignore[arg-type]


# ---- on a terminal


def on_a_terminal(*arguments: str) -> str:
    """What `python -m refgit` shows on a terminal."""
    ours, its = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "refgit", *arguments],
        stdout=its,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(),
    )
    os.close(its)
    seen = b""
    while True:
        try:
            part = os.read(ours, 1000)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert child.wait(timeout=60) == 0
    return seen.decode()


@pytest.mark.slow
def test_a_terminal_shows_the_same_as_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    apple, star = str(APPLE), str(APPLE.with_name("star.png"))
    assert on_a_terminal("caption", apple) == "red apple\r\n"
    assert on_a_terminal("caption", apple, star) == f"{apple}\tred apple\r\n{star}\tstar\r\n"


class Terminal:
    """A standard output that says it is a terminal, and remembers each write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts: list[str] = []
        monkeypatch.setattr(sys, "stdout", self)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.parts.append(text)

    def flush(self) -> None: ...


def test_on_a_terminal_words_are_shown_when_they_are_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    so_far = iter(["a", "a red", "a red app", "a red apple", "a red apple."])
    print_as_it_comes(so_far, "f\t")
    assert [part for part in terminal.parts if part] == ["f\ta", " red", " apple.", "\n"]


def test_an_apostrophe_does_not_stop_the_show(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    print_as_it_comes(iter(["a man", "a man '", "a man's", "a man's hat", "a man's hat is"]), "")
    assert [part for part in terminal.parts if part] == ["a", " man", "'s", " hat", " is", "\n"]


def test_a_word_that_changes_what_was_shown_is_shown_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    print_as_it_comes(iter(["a b c", "ab c"]), "")
    assert "".join(terminal.parts) == "a b\rab c\n"
    terminal = Terminal(monkeypatch)
    print_as_it_comes(iter(["a sign that says", "a sign"]), "")
    assert "".join(terminal.parts) == "a sign that\ra sign     \n"
    monkeypatch.setenv("COLUMNS", "3")  # it stands on two lines, of which \r reaches one
    terminal = Terminal(monkeypatch)
    print_as_it_comes(iter(["a b c", "ab c"]), "")
    assert "".join(terminal.parts) == "a b\nab c\n"


def test_a_pipe_gets_one_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    print_as_it_comes(iter(["a", "a red", "a red apple"]), str(Path("f")) + "\t")
    assert capsys.readouterr().out == "f\ta red apple\n"
