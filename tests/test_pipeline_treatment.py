"""What a Captioner makes of its texts: treated in all outputs, and drawn anew where they fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refgit import BertTokenizer, CLIPImageProcessor, GitProcessor, testing
from refgit.captions import Treatment, close_up
from refgit.errors import PhraseError
from refgit.pipeline import Captioner

WORDS = ["it", "'", "s", "up", "-", "down", ",", "t", "dog", "##s", "(", ")", ".", '"', "10", "0"]
FILLED = [f"w{i}" for i in range(testing.CONFIG.vocab_size - 4 - len(WORDS))]
VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS, *FILLED]
IMAGES = [np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8) for i in range(24)]


def captioner(seed: int = 3, **options: Any) -> Captioner:
    images = CLIPImageProcessor(size=8, crop_size=8)
    processor = GitProcessor(images, BertTokenizer.from_vocab(VOCABULARY))
    return Captioner(testing.tiny_model(seed), processor, max_length=14, **options)


def texts_of(found: Captioner) -> list[str]:
    """The captions as the tokenizer gives them, marks apart."""
    ids = [found.token_ids(found.read(image))[0] for image in IMAGES]
    decode = found.processor.tokenizer.decode
    return [decode(x, skip_special_tokens=True, clean_up_tokenization_spaces=False) for x in ids]


def test_captions_are_treated_singly_in_batches_and_as_streams() -> None:
    chosen = Treatment(replace=(("down", "under"),), prefix="<", suffix=">")
    plain, treated = captioner(), captioner(treatment=chosen)
    texts = texts_of(plain)
    assert any(close_up(text) != text for text in texts)
    assert plain.captions(IMAGES) == [close_up(text).strip() for text in texts]
    expected = [chosen(text) for text in texts]
    assert treated.captions(IMAGES) == expected
    assert [treated.caption(image) for image in IMAGES[:6]] == expected[:6]
    streams = [list(treated.stream(image)) for image in IMAGES[:6]]
    assert [stream[-1] for stream in streams] == expected[:6]
    assert all(text.startswith("<") for stream in streams for text in stream)
    assert not any(text.endswith(">") for stream in streams for text in stream[:-1])


def test_raw_is_the_text_of_the_tokenizer() -> None:
    raw = captioner(treatment=Treatment(raw=True))
    ids = [raw.token_ids(raw.read(image))[0] for image in IMAGES]
    expected = raw.processor.batch_decode(ids, skip_special_tokens=True)
    assert raw.captions(IMAGES) == [text.strip() for text in expected]


def test_answers_are_closed_up_and_nothing_more() -> None:
    plain, raw = captioner(), captioner(treatment=Treatment(raw=True))
    treated = captioner(treatment=Treatment(prefix="<", suffix=">", remove=(".*",)))
    for image in IMAGES[:4]:
        answer = raw.ask(image, "dog dog")
        assert treated.ask(image, "dog dog") == plain.ask(image, "dog dog")
        assert "".join(plain.ask(image, "dog dog").split()) == "".join(answer.split())
        (text,) = treated.answers(image, "dog dog")
        assert text.text == plain.ask(image, "dog dog")


def test_the_prompt_is_treated_with_the_caption_it_begins() -> None:
    chosen = Treatment(replace=(("up-down", "over"),))
    found = captioner(prompt="up - down", treatment=chosen)
    *_, streamed = found.stream(IMAGES[0])
    assert found.caption(IMAGES[0]) == streamed
    assert streamed.startswith("over")


# ---- phrases that fail


def word_of(texts: list[str]) -> str:
    """The word that is in some captions but not in all."""
    holders = {word: sum(word in text.split() for text in texts) for word in ("dog", *FILLED, "up")}
    return next(word for word, count in holders.items() if 2 < count < len(texts))


@pytest.fixture(scope="module")
def outcome() -> tuple[str, list[str | Exception], list[str | Exception]]:
    """A phrase, captions without a treatment, and those where that phrase fails."""
    plain = captioner()
    phrase = word_of(texts_of(plain))
    strict = captioner(treatment=Treatment(fail_phrases=("never", phrase), prefix=f"{phrase}: "))
    return phrase, plain.captions(IMAGES), strict.captions(IMAGES)


def test_a_caption_with_a_phrase_is_drawn_once_more_or_fails(
    outcome: tuple[str, list[str | Exception], list[str | Exception]],
) -> None:
    phrase, plain, strict = outcome
    kinds = set()
    for before, after in zip(plain, strict, strict=True):
        assert isinstance(before, str)
        if phrase not in before.split():
            assert after == f"{phrase}: {before}"
        elif isinstance(after, Exception):
            kinds.add("failed")
            assert isinstance(after, PhraseError)
            assert f"holds the phrase {phrase!r}, and a second one, drawn at random" in str(after)
        else:
            kinds.add("drawn")
            assert after != f"{phrase}: {before}"
    assert kinds


def test_a_second_attempt_depends_on_its_image_alone(
    outcome: tuple[str, list[str | Exception], list[str | Exception]],
) -> None:
    phrase, _, strict = outcome
    found = captioner(treatment=Treatment(fail_phrases=(phrase,), prefix=f"{phrase}: "))
    again = found.captions(IMAGES[::-1])[::-1]
    assert list(map(str, again)) == list(map(str, strict))
    for image, text in zip(IMAGES[:8], strict, strict=False):
        if isinstance(text, Exception):
            with pytest.raises(PhraseError):
                found.stream(image)
        else:
            assert list(found.stream(image)) == [text]


def test_of_several_captions_those_without_a_phrase_are_kept() -> None:
    several = captioner(decoding={"num_return_sequences": 3})
    found = [x for x in several.write_texts(list(map(several.read, IMAGES))) if isinstance(x, list)]
    phrase = word_of([" ".join(text.text for text in texts) for texts in found])
    strict = captioner(
        decoding={"num_return_sequences": 3}, treatment=Treatment(fail_phrases=(phrase,))
    )
    kept = strict.write_texts(list(map(strict.read, IMAGES)))
    assert strict.treatment.failing("it up") in (None, phrase)
    for before, after in zip(found, kept, strict=True):
        free = [text for text in before if strict.treatment.failing(text.text) is None]
        if free:
            assert after == free


@pytest.mark.parametrize(
    "decoding",
    [
        {"num_beams": 3, "length_penalty": 0.6, "early_stopping": True},
        {"preset": "paper"},
        {"do_sample": True, "top_k": 5, "seed": 1},
        {"max_new_tokens": 4},
    ],
)
def test_a_second_attempt_goes_with_every_way_of_decoding(decoding: dict[str, Any]) -> None:
    options: dict[str, Any] = {"decoding": decoding}
    images = CLIPImageProcessor(size=8, crop_size=8)
    processor = GitProcessor(images, BertTokenizer.from_vocab(VOCABULARY))
    words = tuple(dict.fromkeys((*FILLED, "dog", "up", "it")))
    found = Captioner(
        testing.tiny_model(3), processor, treatment=Treatment(fail_phrases=words), **options
    )
    for text in found.captions(IMAGES[:6]):
        assert isinstance(text, str | PhraseError)
        assert not isinstance(text, str) or not set(words) & set(text.split())
