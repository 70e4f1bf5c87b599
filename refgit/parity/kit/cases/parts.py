"""The kit's cases of embeddings, blocks and towers, each with the weights below its own prefix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from refgit.layers._array_api import Array
from refgit.layers.embedding import embed, text_embedding
from refgit.layers.mask import attention_bias, image_text_mask
from refgit.layers.sequence import add_temporal_embedding
from refgit.model.decoder import decode, decoder_block
from refgit.model.vision import image_embedding, image_encoder, vision_block, visual_projection
from refgit.parity.kit.case import Case, Checkpoint, Part
from refgit.parity.kit.cases.checkpoints import CONFIG, FRAMES, N_IMAGE, VISION, pixels, text
from refgit.traces.container import Tensor

# ---- what is put in front of the towers


def embed_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """Text, image, stretched image, frames."""
    eps = CONFIG.layer_norm_eps
    yield Case(
        "embed-text",
        "embed",
        "text_embedding",
        "Words and their positions, added and layer-normalised (eps 1e-12). The second text has "
        "positions of its own.",
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
        {"eps": eps},
        models["image"],
        "git.embeddings.",
    )
    for name, shape, what in (
        ("image", (2, 3, 16, 16), "of the learned size"),
        ("wide-image", (1, 3, 12, 24), "12 high and 24 wide: positions are stretched (bicubic)"),
    ):
        yield Case(
            f"embed-{name}",
            "embed",
            "image_embedding",
            f"Pixels to tokens, {what}: patches, the class token in front, positions added.",
            {"pixel_values": pixels(32, *shape)},
            lambda part: {
                "y": image_embedding(
                    part.given["pixel_values"], part.p, interpolate=True, ops=part.ops
                )
            },
            {"patch_size": VISION.patch_size},
            models["image"],
            "git.image_encoder.vision_model.embeddings.",
        )
    yield Case(
        "embed-frames",
        "embed",
        "string_frames",
        "Tokens (batch, frames, N, D) of a video's frames: add the time vector of each frame to "
        "all its tokens and string the frames together: (batch, frames * N, D).",
        {"frames": pixels(33, 1, FRAMES, N_IMAGE, 24)},
        lambda part: {
            "y": add_temporal_embedding(
                part.given["frames"], [part.p[str(i)] for i in range(FRAMES)]
            )
        },
        {"frames": FRAMES},
        models["video"],
        "git.img_temperal_embedding.",
    )


# ---- blocks


def block_cases(models: Mapping[str, Checkpoint]) -> Iterator[Case]:
    """One block of each tower, with everything on the way."""

    def computed(part: Part) -> dict[str, Array]:
        y, _ = vision_block(part.given["x"], part.p, VISION, ops=part.ops)
        return {**{name: x for name, x in part.hooked.items() if name}, "y": y}

    yield Case(
        "vision-block",
        "vision block",
        "vision_block",
        "The second block of the image encoder, pre-norm, with what lies between.",
        {"x": pixels(34, 2, N_IMAGE, VISION.hidden_size)},
        computed,
        {"num_heads": VISION.num_attention_heads, "eps": VISION.layer_norm_eps},
        models["image"],
        "git.image_encoder.vision_model.encoder.layers.1.",
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

    return Case(
        name,
        "decoder block",
        "decoder_block",
        f"The second block of the text decoder, post-norm: {what}.",
        inputs if mask is None else {**inputs, "text_mask": mask},
        computed,
        {
            "num_heads": config.num_attention_heads,
            "eps": config.layer_norm_eps,
            "n_image": N_IMAGE,
            "n_text": n_text,
            "position_embedding_type": config.position_embedding_type,
        },
        checkpoint,
        "git.encoder.layer.1.",
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

    yield Case(
        "decoder",
        "decoder",
        "decoder",
        "All blocks of the text decoder over image and text tokens.",
        {"x": pixels(37, 2, N_IMAGE + n_text, CONFIG.hidden_size)},
        decoded,
        {"n_image": N_IMAGE, "n_text": n_text},
        image,
        "git.encoder.",
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

    return Case(
        name,
        "vision",
        "vision",
        f"Pixels to the decoder's image tokens, {what}: the image encoder (tokens) and the visual "
        "projection (y).",
        {"pixel_values": given},
        computed,
        {},
        checkpoint,
        "git.",
        ("tokens", "y"),
    )
