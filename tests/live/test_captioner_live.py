"""Live parity of what `Captioner` writes, and of its scores, with transformers 4.56.2."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.oracle import at_work, only, torch, transformers
from refgit.demo import demo_path
from refgit.pipeline import Captioner

only("4")

pytestmark = [pytest.mark.oracle]
IMAGES = ("star", "balloon", "red-apple", "slightly-smiling-face")
CASES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3, "num_return_sequences": 3},
    "penalties": {"repetition_penalty": 1.7, "no_repeat_ngram_size": 1, "min_length": 6},
    "beams and penalties": {"num_beams": 4, "repetition_penalty": 1.3, "min_length": 5},
    "length penalty": {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.6},
}


@pytest.fixture(scope="module")
def oracle() -> Any:
    with at_work():
        yield transformers.GitForCausalLM.from_pretrained(
            demo_path(), attn_implementation="eager"
        ).eval()


@pytest.mark.parametrize("prompt", [None, "red"])
@pytest.mark.parametrize("case", CASES)
def test_texts_and_scores_are_those_of_compute_transition_scores(
    case: str, prompt: str | None, oracle: Any
) -> None:
    options = CASES[case]
    captioner = Captioner.from_pretrained(decoding=options, prompt=prompt, scores=True)
    pixels = [captioner.read(f"docs/images/{name}.png") for name in IMAGES]
    ids = captioner.prompt(prompt)
    for image, texts in zip(pixels, captioner.write_texts(pixels), strict=True):
        assert not isinstance(texts, Exception)
        found = oracle.generate(
            pixel_values=torch.from_numpy(image),
            input_ids=torch.tensor([ids]),
            max_length=captioner.max_length,
            output_scores=True,
            return_dict_in_generate=True,
            **options,
        )
        beams = getattr(found, "beam_indices", None)
        scores = oracle.compute_transition_scores(
            found.sequences, found.scores, beams, normalize_logits=True
        )
        assert len(texts) == len(found.sequences)
        for text, sequence, row in zip(texts, found.sequences, scores, strict=True):
            length = len(text.token_ids)
            assert sequence[len(ids) : len(ids) + length].tolist() == list(text.token_ids)
            assert text.log_probability == pytest.approx(float(row[:length].sum()), abs=2e-4)
            assert text.score == pytest.approx(float(row[:length].mean()), abs=2e-4)
