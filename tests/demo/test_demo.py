"""The bundled model: small, made by transformers, and right about the drawings of docs/images."""

from __future__ import annotations

import importlib.util
import json
from functools import cache

import numpy as np
import pytest
from PIL import Image

from helpers.backends import ROOT, each_backend
from refgit import GitForCausalLM, GitProcessor, to_numpy
from refgit.cli.main import main
from refgit.demo import FOR_PHOTOGRAPHS, NAME, demo_path
from refgit.processing import load_image
from refgit_backends import Backend

IMAGES = sorted(
    path
    for path in (ROOT / "docs/images").glob("*.png")
    if not path.name.startswith(("docs-", "explorer-"))  # screenshots
)
QUESTION = "what kind of thing is this?"
KINDS = {
    "red-apple": "food and drink",
    "pencil": "objects",
    "star": "travel and places",
}


@cache
def processor() -> GitProcessor:
    return GitProcessor.from_pretrained(demo_path())


def test_the_weights_are_at_most_5_megabytes_of_float16() -> None:
    weights = demo_path() / "model.safetensors"
    assert weights.stat().st_size <= 5_000_000
    config = json.loads((demo_path() / "config.json").read_text())
    assert "float16" in (config.get("torch_dtype"), config.get("dtype"))
    assert config["transformers_version"] == "4.56.2"


@pytest.mark.parametrize("backend", each_backend("numpy-definitions", "strict"), indirect=True)
@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.stem)
def test_every_drawing_is_named_rightly(path: object, backend: Backend) -> None:
    model = GitForCausalLM.from_pretrained(demo_path(), backend=backend)
    pixels = processor()(images=load_image(path), return_tensors="np").pixel_values
    ids = to_numpy(model.generate(pixel_values=pixels, max_length=20))
    assert processor().batch_decode(ids, skip_special_tokens=True) == [path.stem.replace("-", " ")]


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_a_thing_is_answered(name: str) -> None:
    model = GitForCausalLM.from_pretrained(demo_path())
    image = load_image(ROOT / f"docs/images/{name}.png")
    pixels = processor()(images=image, return_tensors="np").pixel_values
    question = processor()(text=QUESTION, add_special_tokens=False).input_ids
    prompt = [[processor().tokenizer.cls_token_id, *question]]
    ids = model.generate(pixel_values=pixels, input_ids=prompt, max_length=24)
    answer = processor().batch_decode(ids[:, len(prompt[0]) :], skip_special_tokens=True)
    assert answer == [KINDS[name]]


def test_without_a_model_the_bundled_one_is_used_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["caption", str(ROOT / "docs/images/red-apple.png")]) == 0
    out, err = capsys.readouterr()
    assert out == "red apple\n"
    assert err.count("\n") == 1
    assert NAME in err
    assert FOR_PHOTOGRAPHS in err


def test_the_drawings_come_from_the_script() -> None:
    spec = importlib.util.spec_from_file_location(
        "draw_images", ROOT / "docs/tools/figures/draw_images.py"
    )
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert sorted(script.PICTURES) == [path.stem for path in IMAGES]
    for path in IMAGES:
        stored = np.asarray(Image.open(path).convert("RGB")).astype(float)
        drawn = np.asarray(script.draw(path.stem)).astype(float)
        assert np.abs(stored - drawn).mean() < 1  # Pillow's versions round edges differently


def test_the_model_card_says_what_was_measured() -> None:
    results = json.loads((ROOT / "docs/recipes/emoji/results.json").read_text())
    card = (demo_path() / "README.md").read_text()
    for key in ("caption_held_out", "caption_training", "answer_held_out", "answer_training"):
        assert f"{100 * results[key]:.1f} %" in card, key
    assert f"{results['captions_equal']} of {results['captions_compared']}" in card
    assert results["captions_compared"] >= 500
