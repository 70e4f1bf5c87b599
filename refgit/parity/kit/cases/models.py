"""The kit's cases of blocks, towers and whole models, on small weights drawn from seeds.

With a checkpoint of the user's own, `checkpoint_cases` asks for the same of that one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgit.layers._array_api import Array
from refgit.layers._operations import Operations
from refgit.layers.embedding import embed, text_embedding
from refgit.layers.mask import attention_bias, image_text_mask
from refgit.layers.sequence import add_temporal_embedding
from refgit.model.causal_lm import GitForCausalLM
from refgit.model.config import GitConfig, GitVisionConfig
from refgit.model.decoder import decode, decoder_block
from refgit.model.vision import image_embedding, image_encoder, vision_block, visual_projection
from refgit.parity.kit.case import Case, Checkpoint, Evaluation, Tensors
from refgit.parity.kit.vocabulary import CLS, PAD, SEP, VOCABULARY
from refgit.traces.container import Tensor

VISION = GitVisionConfig(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=16,
    patch_size=4,
)
CONFIG = GitConfig(
    vision_config=VISION,
    vocab_size=len(VOCABULARY),
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=64,
    pad_token_id=PAD,
    bos_token_id=CLS,
    eos_token_id=SEP,
)
N_IMAGE = VISION.num_positions
FRAMES = 2
ENDING = 5.0


def draw_weights(config: GitConfig, seed: int) -> Tensors:
    """Draw weights under which every parameter matters: no bias is zero, no norm plain.

    Matrices have variance 2 / inputs, so that attention is not an average and activations bend. The
    head is kept from special tokens, but likes to end, so that captions are words and end. What a
    seed gives never changes (`numpy.random.RandomState`).
    """
    random = np.random.RandomState(seed)
    weights = {}
    for name, shape in sorted(GitForCausalLM.shapes(config).items()):
        value = random.standard_normal(shape)
        if len(shape) == 1:
            value = 0.2 * value + name.endswith("weight")
        elif "embed" in name and len(shape) != 4:
            value = 0.7 * value
        else:
            value = value * np.sqrt(2 / np.prod(shape[1:]))
        weights[name] = value.astype(np.float32)
    weights["git.embeddings.position_embeddings.weight"] *= np.float32(3)  # words depend on it
    weights["output.bias"][:5] -= np.float32(4)
    weights["output.bias"][SEP] += np.float32(ENDING)
    return weights


def kit_checkpoints() -> dict[str, Checkpoint]:
    """The four small models: images, videos, and two with relative positions."""
    configs = {
        "image": (CONFIG, 117),
        "relative_key": (CONFIG.replace(position_embedding_type="relative_key"), 122),
        "relative_key_query": (CONFIG.replace(position_embedding_type="relative_key_query"), 122),
        "video": (CONFIG.replace(num_image_with_embedding=FRAMES), 101),
    }
    return {
        name: Checkpoint(name, config, draw_weights(config, seed))
        for name, (config, seed) in configs.items()
    }


def pixels(seed: int, *shape: int) -> Tensor:
    """Pixels (..., 3, H, W) as a processor might make them."""
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def text(seed: int, rows: int, length: int, vocabulary: int, opening: int = CLS) -> Tensor:
    """Texts (rows, length) that open with [CLS], without special tokens in them."""
    ids = np.random.RandomState(seed).randint(5, vocabulary, (rows, length))
    ids[:, 0] = opening
    return ids.astype(np.int64)


# ---- parts of a model


@dataclass(frozen=True)
class Part:
    """A part of a model in an evaluation: its parameters and inputs, and what its hooks see."""

    p: Any
    given: dict[str, Array]
    ops: Operations
    hooked: dict[str, Array]


def part_case(
    name: str,
    level: str,
    operation: str,
    description: str,
    checkpoint: Checkpoint,
    prefix: str,
    inputs: Tensors,
    compute: Callable[[Part], Mapping[str, Array]],
    required: tuple[str, ...] = ("y",),
    **arguments: Any,
) -> Case:
    """A case of a part of a model, whose parameters have names that begin with `prefix`."""

    def computed(evaluation: Evaluation) -> Mapping[str, Array]:
        hooked: dict[str, Array] = {}
        p, given = checkpoint.branch(evaluation, prefix), evaluation.arrays(inputs)
        return compute(Part(p, given, evaluation.operations(hooked), hooked))

    return Case(
        name,
        level,
        operation,
        description,
        inputs,
        computed,
        arguments,
        checkpoint,
        prefix,
        required,
    )


# ---- what is put in front of the towers


def embed_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """Text, image, stretched image, frames."""
    eps = CONFIG.layer_norm_eps
    yield part_case(
        "embed-text",
        "embed",
        "text_embedding",
        "Words and their positions, added and layer-normalised (eps 1e-12). The second text has "
        "positions of its own.",
        models["image"],
        "git.embeddings.",
        {
            "input_ids": text(31, 2, 5, CONFIG.vocab_size),
            "position_ids": np.array([[0, 1, 2, 3, 4], [0, 0, 1, 2, 3]], np.int64),
        },
        lambda part: {
            "y": text_embedding(
                embed(part.given["input_ids"], part.p["word_embeddings"]["weight"]),
                part.given["position_ids"],
                part.p,
                eps=eps,
                ops=part.ops,
            )
        },
        eps=eps,
    )
    for name, shape, what in (
        ("image", (2, 3, 16, 16), "of the learned size"),
        ("wide-image", (1, 3, 12, 24), "12 high and 24 wide: positions are stretched (bicubic)"),
    ):
        yield part_case(
            f"embed-{name}",
            "embed",
            "image_embedding",
            f"Pixels to tokens, {what}: patches, the class token in front, positions added.",
            models["image"],
            "git.image_encoder.vision_model.embeddings.",
            {"pixel_values": pixels(32, *shape)},
            lambda part: {
                "y": image_embedding(
                    part.given["pixel_values"], part.p, interpolate=True, ops=part.ops
                )
            },
            patch_size=VISION.patch_size,
        )
    yield part_case(
        "embed-frames",
        "embed",
        "string_frames",
        "Tokens (batch, frames, N, D) of a video's frames: add the time vector of each frame to "
        "all its tokens and string the frames together: (batch, frames * N, D).",
        models["video"],
        "git.img_temperal_embedding.",
        {"frames": pixels(33, 1, FRAMES, N_IMAGE, 24)},
        lambda part: {
            "y": add_temporal_embedding(
                part.given["frames"], [part.p[str(i)] for i in range(FRAMES)]
            )
        },
        frames=FRAMES,
    )


# ---- blocks


def block_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """One block of each tower, with everything on the way."""

    def computed(part: Part) -> dict[str, Array]:
        y, _ = vision_block(part.given["x"], part.p, VISION, ops=part.ops)
        return {**{name: x for name, x in part.hooked.items() if name}, "y": y}

    yield part_case(
        "vision-block",
        "vision block",
        "vision_block",
        "The second block of the image encoder, pre-norm, with what lies between.",
        models["image"],
        "git.image_encoder.vision_model.encoder.layers.1.",
        {"x": pixels(34, 2, N_IMAGE, VISION.hidden_size)},
        computed,
        num_heads=VISION.num_attention_heads,
        eps=VISION.layer_norm_eps,
    )
    padding = np.array([[1] * 6, [1, 1, 1, 1, 0, 0]], np.int64)
    for name, model, mask, what in (
        ("plain", "image", None, "image and text tokens together, under the mask"),
        ("padding", "image", padding, "the same with padding behind the second text"),
        ("relative-key", "relative_key", None, "with relative positions, relative_key"),
        ("relative-key-query", "relative_key_query", None, "the same, relative_key_query"),
    ):
        yield _decoder_block(f"decoder-block-{name}", models[model], 6, mask, what)


def _decoder_block(
    name: str, checkpoint: Checkpoint, n_text: int, mask: Tensor | None, what: str
) -> Case:
    config = checkpoint.config
    inputs = {"x": pixels(35, 2, N_IMAGE + n_text, config.hidden_size)}

    def computed(part: Part) -> dict[str, Array]:
        x = part.given["x"]
        allowed = image_text_mask(N_IMAGE, N_IMAGE + n_text, like=x)
        bias = attention_bias(allowed, part.given.get("text_mask"), like=x)
        y, _ = decoder_block(x, part.p, config, bias, ops=part.ops)
        part.hooked.pop("output.LayerNorm")  # the same as y
        return {**part.hooked, "y": y}

    return part_case(
        name,
        "decoder block",
        "decoder_block",
        f"The second block of the text decoder, post-norm: {what}.",
        checkpoint,
        "git.encoder.layer.1.",
        inputs if mask is None else {**inputs, "text_mask": mask},
        computed,
        num_heads=config.num_attention_heads,
        eps=config.layer_norm_eps,
        n_image=N_IMAGE,
        n_text=n_text,
        position_embedding_type=config.position_embedding_type,
    )


# ---- towers


def tower_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """Image encoder with projection, and decoder."""
    image, n_text = models["image"], 6
    yield vision_case("vision", image, pixels(36, 2, 3, 16, 16), "of the learned size")
    what = "12 pixels high and 24 wide"
    yield vision_case("vision-wide-image", image, pixels(38, 1, 3, 12, 24), what)

    def decoded(part: Part) -> dict[str, Array]:
        x, ops = part.given["x"], part.ops
        out = decode(x, part.p, CONFIG, n_image=N_IMAGE, ops=ops, keep_hidden_states=True)
        assert out.hidden_states is not None
        states = {f"layer.{i}": h for i, h in enumerate(out.hidden_states[1:-1])}
        return {**states, "y": out.last_hidden_state}

    yield part_case(
        "decoder",
        "decoder",
        "decoder",
        "All blocks of the text decoder over image and text tokens.",
        image,
        "git.encoder.",
        {"x": pixels(37, 2, N_IMAGE + n_text, CONFIG.hidden_size)},
        decoded,
        n_image=N_IMAGE,
        n_text=n_text,
    )


def vision_case(name: str, checkpoint: Checkpoint, given: Tensor, what: str) -> Case:
    """The image encoder and the projection."""
    config = checkpoint.config.vision_config
    kept = ["embeddings", "pre_layrnorm"]
    kept += [f"encoder.layers.{i}" for i in range(config.num_hidden_layers)]

    def computed(part: Part) -> dict[str, Array]:
        ops, encoder = part.ops, part.p["image_encoder"]["vision_model"]
        x = part.given["pixel_values"]
        tokens = image_encoder(x, encoder, config, interpolate=True, ops=ops).last_hidden_state
        projection = part.p["visual_projection"]["visual_projection"]
        y = visual_projection(tokens, projection, eps=config.layer_norm_eps, ops=ops)
        found = {k: part.hooked[k] for k in kept if checkpoint.path is None or "." not in k}
        return {**found, "tokens": tokens, "y": y}

    return part_case(
        name,
        "vision",
        "vision",
        f"Pixels to the decoder's image tokens, {what}: the image encoder (tokens) and the visual "
        "projection (y).",
        checkpoint,
        "git.",
        {"pixel_values": given},
        computed,
        ("tokens", "y"),
    )


# ---- whole models


def model_case(
    name: str,
    checkpoint: Checkpoint,
    what: str,
    inputs: dict[str, Tensor],
    **options: Any,
) -> Case:
    """Image and text in one call: logits of the text tokens, and the loss where there are labels.

    Rows of the logits at padding are not compared.
    """
    mask = inputs.get("attention_mask")
    length = inputs["input_ids"].shape[1]

    def computed(evaluation: Evaluation) -> dict[str, Array]:
        model = checkpoint.model(evaluation)
        out = model(**evaluation.arrays(inputs), use_cache=False, **options)
        assert not isinstance(out, tuple)
        found = {"logits": out.logits[:, -length:, :]}
        return found if out.loss is None else {**found, "loss": out.loss}

    return Case(
        name,
        "model",
        "model",
        f"{what} Logits of the text tokens alone, (texts, T, V).",
        inputs,
        computed,
        {},
        checkpoint,
        "",
        ("logits", "loss") if "labels" in inputs else ("logits",),
        {} if mask is None else {"logits": mask.astype(np.uint8)},
    )


def model_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """Every kind of model and of input, one at a time."""
    image = models["image"]
    images, ids = pixels(41, 2, 3, 16, 16), text(42, 2, 6, CONFIG.vocab_size)
    labels = ids.copy()
    labels[0, :3] = labels[1, 5] = -100
    both = {"pixel_values": images, "input_ids": ids}
    yield model_case("model", image, "Two images, two texts, labels.", {**both, "labels": labels})
    for kind in ("relative_key", "relative_key_query"):
        name, what = f"model-{kind.replace('_', '-')}", f"The same with {kind} positions."
        yield model_case(name, models[kind], what, both)
    behind = np.array([[1] * 6, [1, 1, 1, 1, 0, 0]], np.int64)
    what = "Padding behind the second text."
    yield model_case("model-padding-behind", image, what, {**both, "attention_mask": behind})
    front = behind[:, ::-1].copy()
    places = np.maximum(np.cumsum(front, axis=1) - 1, 0)
    what = "Padding in front of the second text, whose positions count from its first word."
    padded = {**both, "attention_mask": front, "position_ids": places}
    yield model_case("model-padding-in-front", image, what, padded)
    what = "Two images, four texts: text b belongs to image b modulo 2."
    four = {"pixel_values": images, "input_ids": text(43, 4, 5, CONFIG.vocab_size)}
    yield model_case("model-texts-per-image", image, what, four)
    what = "An image 12 pixels high and 24 wide: 3 x 6 patches, positions stretched (bicubic)."
    wide = {"pixel_values": pixels(44, 1, 3, 12, 24), "input_ids": ids[:1]}
    yield model_case("model-wide-image", image, what, wide, interpolate_pos_encoding=True)
    what = "Two videos of two frames, (videos, frames, 3, 16, 16)."
    videos = {"pixel_values": pixels(45, 2, FRAMES, 3, 16, 16), "input_ids": ids}
    yield model_case("model-video", models["video"], what, videos)
