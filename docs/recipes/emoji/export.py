"""Write the trained model as the checkpoint that refgit ships, and measure it.

    python docs/recipes/emoji/export.py --work /tmp/refgit-demo --out refgit/demo

Everything is written by transformers' own save_pretrained, so the bundled model is a checkpoint
made by another implementation. Weights are stored as float16. The accuracies of the model card
are measured here, on the stored weights, by transformers' generate.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from train import CLS, HELD_OUT, IMAGE, MEAN, QUESTION, SEED, STD, Data, make_config
from transformers import (
    BertTokenizerFast,
    CLIPImageProcessor,
    GitForCausalLM,
    GitProcessor,
)


def make_processor(vocab: list[str]) -> GitProcessor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(vocab) + "\n", encoding="utf-8")
        tokenizer = BertTokenizerFast(vocab_file=str(path), do_lower_case=True, model_max_length=64)
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": IMAGE},
        crop_size={"height": IMAGE, "width": IMAGE},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    return GitProcessor(image_processor, tokenizer)


def on_white(rgba: np.ndarray) -> Image.Image:
    """A drawing as a user would have it: on a white page."""
    drawing = Image.fromarray(rgba)
    page = Image.new("RGBA", drawing.size, "white")
    return Image.alpha_composite(page, drawing).convert("RGB")


def captions(
    model: GitForCausalLM, processor: GitProcessor, images: list[Image.Image], prompt: list[int]
) -> list[str]:
    """Greedy texts after `prompt`, by the oracle."""
    texts = []
    for start in range(0, len(images), 128):
        pixels = processor(images=images[start : start + 128], return_tensors="pt").pixel_values
        ids = torch.tensor([prompt] * len(pixels))
        with torch.no_grad():
            out = model.generate(pixel_values=pixels, input_ids=ids, max_length=24)
        texts += processor.batch_decode(out[:, len(prompt) :], skip_special_tokens=True)
    return texts


def accuracy(found: list[str], wanted: list[str], processor: GitProcessor) -> float:
    """Share equal word for word, after the tokenizer's own spacing."""

    def plain(text: str) -> list[str]:
        return processor.tokenizer.tokenize(text)

    return sum(plain(a) == plain(b) for a, b in zip(found, wanted, strict=True)) / len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = Data(args.work / "emoji.npz")
    state = torch.load(args.work / "checkpoint.pt", weights_only=True)
    model = GitForCausalLM(make_config(len(data.vocab)))
    model.load_state_dict(state["average"])
    model.half().save_pretrained(args.out)
    make_processor(data.vocab).save_pretrained(args.out)

    model = GitForCausalLM.from_pretrained(args.out).float().eval()
    processor = GitProcessor.from_pretrained(args.out)
    prompt = [CLS, *processor.tokenizer(QUESTION, add_special_tokens=False).input_ids]
    results = {
        "seed": SEED,
        "steps": state["step"],
        "held_out_set": HELD_OUT,
        "names": len(data.captions),
        "vocab_size": len(data.vocab),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    for split, index in (("held_out", data.test_index), ("training", data.train_index)):
        images = [on_white(x) for x in data.images[index].numpy()]
        label = data.label[index].tolist()
        named = captions(model, processor, images, [CLS])
        answered = captions(model, processor, images, prompt)
        results[f"drawings_{split}"] = len(images)
        results[f"caption_{split}"] = accuracy(named, [data.captions[c] for c in label], processor)
        results[f"answer_{split}"] = accuracy(answered, [data.answers[c] for c in label], processor)
        print(split, results[f"caption_{split}"], results[f"answer_{split}"], flush=True)
    path = Path(__file__).parent / "results.json"
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
