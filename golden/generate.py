"""Make the golden tensors: what transformers 4.56.2 on torch computes, case by case.

    python3 -m venv /tmp/oracle
    /tmp/oracle/bin/pip install -r golden/requirements.txt
    /tmp/oracle/bin/python golden/generate.py            # all cases
    /tmp/oracle/bin/python golden/generate.py tiny       # cases whose name starts so

Each case is one safetensors file in golden/data/, with tensors named
    weight.NAME   a parameter (where they are not made by golden/weights.py or shipped)
    input.NAME    an argument of the forward pass
    tap.NAME      the output of the module NAME, or NAME.probabilities of an attention module
    output.NAME   logits, loss, last_hidden_state ...
    ids.NAME      ids that `generate` wrote
and golden/manifest.json says of each: its config, how weights came about, tolerance, sha256, and
the versions of the oracle.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import GitConfig, GitForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import processing  # noqa: E402
from weights import make_weights  # noqa: E402

ORACLE = {"torch": "2.13.0", "transformers": "4.56.2"}
FLOAT32, FLOAT64 = 2e-5, 1e-10
Tensors = dict[str, np.ndarray]

TINY = {
    "vision_config": {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 16,
        "patch_size": 4,
    },
    "vocab_size": 37,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Text wider than the image encoder and the other way round, one layer, one head, odd sizes.
TINY_WIDE_IMAGE = {
    **TINY,
    "vision_config": {
        "hidden_size": 40,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 21,
        "patch_size": 7,
        "layer_norm_eps": 1e-3,
    },
    "hidden_size": 18,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 7,
    "vocab_size": 53,
    "layer_norm_eps": 1e-6,
}


def softmax_at_full_width() -> None:
    """Let float64 stay float64.

    transformers' eager attention of the image encoder casts its softmax to float32 even in a
    float64 model, which costs eight digits; its other implementations do not.
    """
    plain = torch.nn.functional.softmax

    def softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return plain(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype)

    torch.nn.functional.softmax = softmax


def build(config: dict[str, Any], seed: int, dtype: torch.dtype) -> GitForCausalLM:
    """An oracle model with the weights of golden/weights.py."""
    model = GitForCausalLM(GitConfig(**config, attn_implementation="eager")).eval()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    drawn = {k: torch.from_numpy(v) for k, v in make_weights(shapes, seed).items()}
    model.load_state_dict(drawn)
    return model.to(dtype)


# Modules that compute something of their own; the others hand on what an inner one computed.
OWN_RESULT = ("GitVisionEmbeddings", "GitVisionEncoderLayer", "GitSelfAttention")


def record(model: GitForCausalLM) -> tuple[Tensors, Callable[[], None]]:
    """Hook the modules; returns the growing record and the function that ends it."""
    taps: Tensors = {}
    handles = []

    def keep(name: str, x: torch.Tensor) -> None:
        # a copy: transformers adds the positions in place
        taps[name] = x.detach().clone().numpy()

    def hook(name: str, kind: str, is_leaf: bool) -> Callable[..., None]:
        def listen(_module: Any, _args: Any, output: Any) -> None:
            if kind in ("GitSelfAttention", "GitVisionAttention"):
                keep(f"{name}.probabilities", output[1])
            if kind == "Conv2d":  # (B, D, rows, columns) -> (B, n, D)
                keep(name, output.flatten(2).transpose(1, 2))
            elif is_leaf or kind in OWN_RESULT:
                keep(name, output[0] if isinstance(output, tuple) else output)

        return listen

    for name, module in model.named_modules():
        kind = type(module).__name__
        # the image's position embedding returns its table, which is among the weights
        if kind != "Dropout" and not name.endswith("position_embedding"):
            is_leaf = not any(module.children())
            handles.append(module.register_forward_hook(hook(name, kind, is_leaf)))
    # the vision attention returns its probabilities only where they are asked for
    model.config.vision_config.output_attentions = True
    return taps, lambda: [handle.remove() for handle in handles] and None


def forward(model: GitForCausalLM, inputs: Tensors) -> Tensors:
    """Run the oracle once; returns taps and outputs under their names in the file."""
    taps, stop = record(model)
    arguments = {name: torch.from_numpy(x) for name, x in inputs.items()}
    # transformers 4.56.2 shifts the labels twice unless it is handed shifted ones
    shifted = arguments["labels"][:, 1:].contiguous()
    arguments["shift_labels"] = shifted
    with torch.no_grad():
        out = model(**arguments, output_attentions=True, output_hidden_states=True)
    stop()
    tensors = {f"input.{name}": x for name, x in inputs.items()}
    tensors |= {f"tap.{name}": x for name, x in taps.items()}
    tensors["output.logits"] = out.logits.numpy()
    loss = out.loss
    if out.logits.dtype == torch.float64:  # transformers takes its loss in float32 all the same
        words = out.logits[:, -arguments["labels"].shape[1] : -1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(words, shifted.flatten())
    tensors["output.loss"] = loss.numpy()
    for i, x in enumerate(out.hidden_states):
        tensors[f"output.hidden_states.{i}"] = x.numpy()
    for i, x in enumerate(out.attentions):
        tensors[f"output.attentions.{i}"] = x.numpy()
    return {name: np.array(x, order="C") for name, x in tensors.items()}


def written(model: GitForCausalLM, **arguments: Any) -> np.ndarray:
    """Ids of the oracle's greedy search."""
    with torch.no_grad():
        return model.generate(**arguments, num_beams=1, do_sample=False).numpy()


def tiny(
    config: dict[str, Any], seed: int, dtype: torch.dtype, tolerance: float, description: str
) -> tuple[Tensors, dict[str, Any]]:
    """A small case that stores its weights: forward, loss, and three greedy runs."""
    model = build(config, seed, dtype)
    rng = np.random.RandomState(seed + 1)
    side = config["vision_config"]["image_size"]
    pixels = rng.standard_normal((2, 3, side, side)).astype(np.float32)
    ids = rng.randint(3, config["vocab_size"], (2, 6))
    labels = ids.copy()
    labels[0, :3] = labels[1, 5] = -100
    pixels = pixels.astype(np.float32 if dtype == torch.float32 else np.float64)
    texts = greedy_runs(model, pixels, ids, config["eos_token_id"])
    tensors = forward(model, {"pixel_values": pixels, "input_ids": ids, "labels": labels})
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    tensors |= {f"weight.{name}": x.astype(np.float32) for name, x in weights.items()}
    tensors |= texts
    entry = {"config": config, "weights": "stored", "seed": seed, "tolerance": tolerance}
    return tensors, {
        **entry,
        "dtype": str(dtype).removeprefix("torch."),
        "description": description,
    }


def greedy_runs(model: GitForCausalLM, pixels: np.ndarray, ids: np.ndarray, eos: int) -> Tensors:
    """Three greedy runs, in which some rows end early and some do not.

    Random weights hardly ever choose the end token, so its bias is raised until they do.
    """
    images, texts = torch.from_numpy(pixels), torch.from_numpy(ids)
    for _ in range(100):
        runs = {
            "ids.caption": written(model, pixel_values=images, max_length=16),
            "ids.caption_long": written(
                model, pixel_values=images, max_new_tokens=14, min_length=12
            ),
            "ids.answer": written(
                model, pixel_values=images, input_ids=texts[:, :4], max_length=14
            ),
        }
        ended = [eos in row[:-1] for run in runs.values() for row in run]
        if any(ended) and not all(ended):
            return runs
        # float32, as the weights are stored, in float64 models too
        model.output.bias.data[eos] = float(np.float32(model.output.bias.data[eos] + 0.125))
    raise RuntimeError("no bias of the end token makes some rows end early and some not")


def git_base() -> tuple[Tensors, dict[str, Any]]:
    """The size of microsoft/git-base: 177 million weights from a seed, outputs only."""
    seed = 20220527
    model = build({}, seed, torch.float32)
    rng = np.random.RandomState(seed + 1)
    pixels = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    ids = rng.randint(1000, 30522, (1, 5))
    tensors = forward(model, {"pixel_values": pixels, "input_ids": ids, "labels": ids.copy()})
    # The pixels are drawn again by the test; of wide tensors a fixed part is kept.
    del tensors["input.pixel_values"]
    tensors = {name: part(x) for name, x in tensors.items() if not name.startswith("output.att")}
    tensors["ids.caption"] = written(model, pixel_values=torch.from_numpy(pixels), max_length=8)
    return tensors, {
        "config": {},
        "weights": "golden/weights.py",
        "seed": seed,
        "tolerance": FLOAT32,
        "dtype": "float32",
        "part": [PART_TOKENS, PART_CHANNELS],
        "description": "git-base size (12 + 6 layers, width 768, 224 pixels), random weights; of "
        "each tensor the largest magnitude and every n-th token and channel",
    }


PART_TOKENS, PART_CHANNELS = 20, 19


def part(x: np.ndarray) -> np.ndarray:
    """Every 20th row and every 19th channel of the last two axes, first and last included."""
    if x.ndim < 3:
        return x
    rows = sorted({*range(0, x.shape[-2], PART_TOKENS), x.shape[-2] - 1})
    channels = sorted({*range(0, x.shape[-1], PART_CHANNELS), x.shape[-1] - 1})
    return np.ascontiguousarray(x[..., rows, :][..., channels])


def demo() -> tuple[Tensors, dict[str, Any]]:
    """The bundled model with its real weights on two images of docs/images."""
    from PIL import Image
    from transformers import AutoProcessor

    folder = HERE.parent / "refgit" / "demo"
    model = GitForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    processor = AutoProcessor.from_pretrained(folder, use_fast=False)
    files = ["red-apple.png", "sun.png"]
    images = [Image.open(HERE.parent / "docs/images" / file).convert("RGB") for file in files]
    pixels = processor(images=images, return_tensors="pt").pixel_values
    question = processor(text="what kind of thing is this?", add_special_tokens=False).input_ids
    prompt = torch.tensor([[processor.tokenizer.cls_token_id, *question]] * 2)
    inputs = {"pixel_values": pixels.numpy(), "input_ids": prompt.numpy(), "labels": prompt.numpy()}
    tensors = forward(model, inputs)
    tensors["ids.caption"] = written(model, pixel_values=pixels, max_length=20)
    tensors["ids.answer"] = written(model, pixel_values=pixels, input_ids=prompt, max_length=20)
    texts = {
        name: processor.batch_decode(tensors[f"ids.{name}"], skip_special_tokens=True)
        for name in ("caption", "answer")
    }
    return tensors, {
        "config": model.config.to_diff_dict(),
        "weights": "refgit/demo",
        "images": files,
        "texts": texts,
        "tolerance": FLOAT32,
        "dtype": "float32",
        "description": "the bundled emoji model on two drawings, by the oracle's own processor",
    }


def cases() -> Iterator[tuple[str, Callable[[], tuple[Tensors, dict[str, Any]]]]]:
    yield (
        "tiny_float32",
        lambda: tiny(
            TINY, 7, torch.float32, FLOAT32, "text wider than image, three decoder layers"
        ),
    )
    yield "tiny_float64", lambda: tiny(TINY, 7, torch.float64, FLOAT64, "the same in float64")
    yield (
        "tiny_wide_image",
        lambda: tiny(
            TINY_WIDE_IMAGE,
            11,
            torch.float32,
            FLOAT32,
            "image wider than text, one layer, one head",
        ),
    )
    yield "git_base", git_base
    yield "demo", demo


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(wanted: list[str]) -> None:
    found = {"torch": torch.__version__.partition("+")[0], "transformers": transformers.__version__}
    if found != ORACLE:
        sys.exit(f"the oracle is {found}; golden tensors are made with {ORACLE}")
    torch.set_num_threads(1)  # one order of summation
    softmax_at_full_width()
    data, manifest_path = HERE / "data", HERE / "manifest.json"
    data.mkdir(exist_ok=True)
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    for name, make in cases():
        if wanted and not name.startswith(tuple(wanted)):
            continue
        tensors, entry = make()
        path = data / f"{name}.safetensors"
        save_file(tensors, path)
        entry |= {"oracle": ORACLE, "files": {path.name: digest(path)}}
        manifest[name] = entry
        print(f"{name}: {len(tensors)} tensors, {path.stat().st_size:,} bytes")
    if not wanted or "processing".startswith(tuple(wanted)):
        for entry in processing.generate(data):
            name, files = entry.pop("case"), entry.pop("files")
            digests = {Path(f).name: digest(data / Path(f).name) for f in files}
            manifest[name] = {**entry, "oracle": ORACLE, "files": digests}
            print(f"{name}: {', '.join(digests)}")
    manifest_path.write_text(json.dumps(dict(sorted(manifest.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
