"""Golden cases of the models: the forward pass, its loss, and greedy runs.

Used by generate.py, whose head says what the tensors are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers import GitConfig, GitForCausalLM
from weights import make_weights

ROOT = Path(__file__).parents[2]
FLOAT32, FLOAT64 = 2e-5, 1e-10
Tensors: TypeAlias = dict[str, np.ndarray]
Case: TypeAlias = Callable[[], tuple[Tensors, dict[str, Any]]]

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


def build(config: dict[str, Any], seed: int, dtype: torch.dtype) -> GitForCausalLM:
    """An oracle model with the weights of golden/weights.py."""
    model = GitForCausalLM(GitConfig(**config, attn_implementation="eager")).eval()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    drawn = {k: torch.from_numpy(v) for k, v in make_weights(shapes, seed).items()}
    model.load_state_dict(drawn)
    return model.to(dtype)


# Modules that compute something of their own; the others hand on what an inner one computed.
OWN_RESULT = ("GitVisionEmbeddings", "GitVisionEncoderLayer", "GitSelfAttention")


def record(model: GitForCausalLM) -> Callable[[], Tensors]:
    """Hook the modules; returns the function that ends this and gives what they returned.

    The image encoder runs once for each frame of a video: its outputs are put together as
    (B * frames, ...).
    """
    calls: dict[str, list[np.ndarray]] = {}
    handles = []

    def keep(name: str, x: torch.Tensor) -> None:
        # a copy: transformers adds the positions in place
        calls.setdefault(name, []).append(x.detach().clone().numpy())

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
        # these return rows of their tables, which are among the weights
        is_table = name.endswith(("position_embedding", "distance_embedding"))
        if kind != "Dropout" and not is_table:
            is_leaf = not any(module.children())
            handles.append(module.register_forward_hook(hook(name, kind, is_leaf)))
    # the vision attention returns its probabilities only where they are asked for
    model.config.vision_config.output_attentions = True

    def stop() -> Tensors:
        for handle in handles:
            handle.remove()
        return {
            name: np.stack(outputs, axis=1).reshape(-1, *outputs[0].shape[1:])
            for name, outputs in calls.items()
        }

    return stop


def forward(model: GitForCausalLM, inputs: Tensors, **options: Any) -> Tensors:
    """Run the oracle once; returns taps and outputs under their names in the file."""
    stop = record(model)
    arguments = {name: torch.from_numpy(x) for name, x in inputs.items()}
    labels = arguments.pop("labels")
    options |= {"output_attentions": True, "output_hidden_states": True, "use_cache": False}
    with torch.no_grad():
        out = model(**arguments, **options)
    tensors = {f"input.{name}": x for name, x in inputs.items()}
    tensors |= {f"tap.{name}": x for name, x in stop().items()}
    tensors["output.logits"] = out.logits.numpy()
    # transformers 4.56.2 shifts the labels twice, cuts at the wrong place for images of another
    # size, and computes the loss in float32: so the loss is torch's own, of the oracle's logits
    words = out.logits[:, -labels.shape[1] : -1].flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(words, labels[:, 1:].flatten())
    tensors["output.loss"] = loss.numpy()
    for i, x in enumerate(out.hidden_states):
        tensors[f"output.hidden_states.{i}"] = x.numpy()
    for i, x in enumerate(out.attentions):
        tensors[f"output.attentions.{i}"] = x.numpy()
    return {name: np.array(x, order="C") for name, x in tensors.items()}


def written(model: GitForCausalLM, **arguments: Any) -> np.ndarray:
    """Ids of the oracle's greedy search.

    Without its cache, which takes every query for the last one in models with relative positions
    and forgets the padding after the first step.
    """
    arguments = {
        k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()
    }
    with torch.no_grad():
        ids = model.generate(**arguments, num_beams=1, do_sample=False, use_cache=False)
    return ids.numpy()


def tiny(
    description: str,
    config: dict[str, Any] = TINY,
    *,
    seed: int = 7,
    dtype: torch.dtype = torch.float32,
    pixel_shape: tuple[int, ...] | None = None,
    texts: int = 2,
    extra: Tensors | None = None,
    every: tuple[int, int] = (2, 2),
    **options: Any,
) -> tuple[Tensors, dict[str, Any]]:
    """A small case that stores its weights: forward, loss, and greedy runs.

    `extra` holds further arrays and `options` further settings for the forward pass; `every`
    says which tokens and channels of the outputs are stored.
    """
    model = build(config, seed, dtype)
    rng = np.random.RandomState(seed + 1)
    side = config["vision_config"]["image_size"]
    pixels = rng.standard_normal(pixel_shape or (2, 3, side, side)).astype(np.float32)
    ids = rng.randint(3, config["vocab_size"], (texts, 6))
    labels = ids.copy()
    labels[0, :3] = labels[1, 5] = -100
    pixels = pixels.astype(np.float32 if dtype == torch.float32 else np.float64)
    extra = extra or {}
    runs = {}
    if not options and "head_mask" not in extra:  # the oracle's generate takes neither
        mask = {k: v[:, :4] for k, v in extra.items()}
        runs = greedy_runs(model, pixels, ids[:, :4], mask, config["eos_token_id"])
    inputs = {"pixel_values": pixels, "input_ids": ids, "labels": labels, **extra}
    tensors = forward(model, inputs, **options)
    if every != (1, 1):
        tensors = outputs_in_part(tensors, every)
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    tensors |= {f"weight.{name}": x.astype(np.float32) for name, x in weights.items()}
    return tensors | runs, {
        "config": config,
        "weights": "stored",
        "seed": seed,
        "tolerance": FLOAT32 if dtype == torch.float32 else FLOAT64,
        "dtype": str(dtype).removeprefix("torch."),
        "options": options,
        "part": every,
        "description": description,
    }


def greedy_runs(
    model: GitForCausalLM, pixels: np.ndarray, ids: np.ndarray, mask: Tensors, eos: int
) -> Tensors:
    """Three greedy runs, in which some rows end early and some do not.

    Random weights hardly ever choose the end token, so its bias is raised until they do.
    """
    image = {"pixel_values": pixels}
    for _ in range(100):
        runs = {
            "ids.caption": written(model, **image, max_length=16),
            "ids.caption_long": written(model, **image, max_new_tokens=14, min_length=12),
            "ids.answer": answers(model, pixels, ids, mask),
        }
        ended = [eos in row[:-1] for run in runs.values() for row in run]
        if any(ended) and not all(ended):
            return runs
        # float32, as the weights are stored, in float64 models too
        model.output.bias.data[eos] = float(np.float32(model.output.bias.data[eos] + 0.125))
    raise RuntimeError("no bias of the end token makes some rows end early and some not")


def answers(
    model: GitForCausalLM, pixels: np.ndarray, ids: np.ndarray, mask: Tensors
) -> np.ndarray:
    """Ids below prompts; where some are padded, of each prompt alone and without its padding.

    The oracle would count padding as text. What refgit makes of a batch is what each becomes alone.
    """
    if not mask:
        return written(model, pixel_values=pixels, input_ids=ids, max_length=14)
    rows = []
    for b, (row, here) in enumerate(zip(ids, mask["attention_mask"], strict=True)):
        prompt, image = row[here != 0][None], pixels[b % len(pixels)][None]
        alone = written(model, pixel_values=image, input_ids=prompt, max_length=14)
        rows.append(alone[0, prompt.shape[1] :])
    filled = np.full((len(rows), max(map(len, rows))), model.config.pad_token_id)
    for b, words in enumerate(rows):
        filled[b, : len(words)] = words
    return np.concatenate([ids, filled], axis=1)


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
    tensors = outputs_in_part(tensors, every := (20, 19))
    tensors["ids.caption"] = written(model, pixel_values=pixels, max_length=8)
    return tensors, {
        "config": {},
        "weights": "golden/weights.py",
        "seed": seed,
        "tolerance": FLOAT32,
        "dtype": "float32",
        "part": every,
        "description": "git-base size (12 + 6 layers, width 768, 224 pixels), random weights; of "
        "each tensor every 20th token and 19th channel",
    }


def part(x: np.ndarray, every: tuple[int, int]) -> np.ndarray:
    """Every n-th row and every m-th channel of the last two axes, first and last included."""
    if x.ndim < 3:
        return x
    rows = sorted({*range(0, x.shape[-2], every[0]), x.shape[-2] - 1})
    channels = sorted({*range(0, x.shape[-1], every[1]), x.shape[-1] - 1})
    return np.ascontiguousarray(x[..., rows, :][..., channels])


def outputs_in_part(tensors: Tensors, every: tuple[int, int]) -> Tensors:
    """The part of each output; attentions are among the taps already."""
    return {
        name: part(x, every) if name.startswith(("tap.", "output.")) else x
        for name, x in tensors.items()
        if not name.startswith("output.attentions")
    }


def demo() -> tuple[Tensors, dict[str, Any]]:
    """The bundled model with its real weights on two images of docs/images."""
    from PIL import Image
    from transformers import AutoProcessor

    folder = ROOT / "refgit" / "demo"
    model = GitForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    processor = AutoProcessor.from_pretrained(folder, use_fast=False)
    files = ["red-apple.png", "pencil.png"]
    images = [Image.open(ROOT / "docs/images" / file).convert("RGB") for file in files]
    pixels = processor(images=images, return_tensors="pt").pixel_values
    question = processor(text="what kind of thing is this?", add_special_tokens=False).input_ids
    prompt = torch.tensor([[processor.tokenizer.cls_token_id, *question]] * 2)
    inputs = {"pixel_values": pixels.numpy(), "input_ids": prompt.numpy(), "labels": prompt.numpy()}
    tensors = outputs_in_part(forward(model, inputs), every := (7, 11))
    images = {"pixel_values": pixels.numpy()}
    tensors["ids.caption"] = written(model, **images, max_length=20)
    tensors["ids.answer"] = written(model, **images, input_ids=prompt.numpy(), max_length=20)
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
        "part": every,
        "description": "the bundled emoji model on two drawings, by the oracle's own processor",
    }


def cases() -> Iterator[tuple[str, Case]]:
    """Names of the cases and what makes them."""
    yield "tiny_float32", lambda: tiny("text wider than image, three decoder layers", every=(1, 1))
    yield "tiny_float64", lambda: tiny("the same in float64", dtype=torch.float64)
    yield (
        "tiny_wide_image",
        lambda: tiny(
            "image wider than text, one layer, one head", TINY_WIDE_IMAGE, seed=11, every=(1, 1)
        ),
    )
    yield (
        "tiny_activations",
        lambda: tiny(
            "gelu_new in the image encoder, silu in the decoder",
            {
                **TINY,
                "hidden_act": "silu",
                "vision_config": {**TINY["vision_config"], "hidden_act": "gelu_new"},
            },
        ),
    )
    for kind in ("relative_key", "relative_key_query"):
        config = {**TINY, "position_embedding_type": kind, "max_position_embeddings": 40}
        yield f"tiny_{kind}", lambda c=config, k=kind: tiny(f"position_embedding_type {k}", c)
    yield (
        "tiny_video",
        lambda: tiny(
            "two videos of three frames",
            {**TINY, "num_image_with_embedding": 3},
            pixel_shape=(2, 3, 3, 16, 16),
        ),
    )
    yield (
        "tiny_interpolated",
        lambda: tiny(
            "images of 26 x 12 pixels, positions interpolated",
            pixel_shape=(2, 3, 26, 12),
            interpolate_pos_encoding=True,
        ),
    )
    yield (
        "tiny_padding",
        lambda: tiny(
            "texts padded left, and right and in the middle",
            extra={"attention_mask": np.array([[0, 0, 1, 1, 1, 1], [1, 0, 1, 1, 1, 0]])},
        ),
    )
    yield (
        "tiny_head_mask",
        lambda: tiny(
            "some heads silenced, some halved",
            extra={
                "head_mask": np.array(
                    [[1, 0, 1, 0.5], [0, 1, 1, 1], [1, 1, 0.25, 0]], dtype=np.float32
                )
            },
        ),
    )
    yield "tiny_questions", lambda: tiny("four texts for two images", texts=4)
    yield "git_base", git_base
    yield "demo", demo
