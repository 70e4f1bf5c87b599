"""The image encoder: CLIP's vision transformer, pixels in, image tokens out.

Reads top to bottom like the figure: patches, class token, positions, layer norm, a stack of
pre-norm blocks, layer norm. `visual_projection` then fits the tokens to the text decoder.
(GIT paper, section 3.1; CLIP, arXiv 2103.00020, section 2.4.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refgit.config import GitVisionConfig
from refgit.layers.array_api import Array, array_namespace
from refgit.layers.attention import multi_head_attention
from refgit.layers.feed_forward import feed_forward
from refgit.layers.operations import DEFINITIONS, Operations
from refgit.layers.patch_embedding import patch_embedding, prepend_class_token
from refgit.layers.position import add_absolute_positions, interpolate_positions

Parameters = Mapping[str, Any]


@dataclass
class Encoded:
    """Image tokens (B, N, D), with the hidden states and attentions on the way if asked for."""

    tokens: Array
    hidden_states: tuple[Array, ...] | None
    attentions: tuple[Array, ...] | None


def image_encoder(
    pixels: Array,
    p: Parameters,
    config: GitVisionConfig,
    *,
    interpolate: bool = False,
    ops: Operations = DEFINITIONS,
    keep_hidden_states: bool = False,
    keep_attentions: bool = False,
) -> Encoded:
    """Encode images: (B, C, S, S) pixels -> (B, N, D) tokens, S = config.image_size.

    `p` holds what the checkpoint has under ``git.image_encoder.vision_model``. With `interpolate`
    the pixels may have any height and width: the positions are stretched over their patches.
    """
    x = image_embedding(
        pixels, p["embeddings"], interpolate=interpolate, ops=ops.at("embeddings")
    )  # (B, N, D)
    x = ops.layer_norm(x, **p["pre_layrnorm"], eps=config.layer_norm_eps)  # the checkpoint's typo
    x = ops.tap("pre_layrnorm", x)
    states, attentions = [x], []
    for i in range(config.num_hidden_layers):
        layer = ops.at(f"encoder.layers.{i}")
        x, probabilities = vision_block(x, p["encoder"]["layers"][str(i)], config, ops=layer)
        if keep_hidden_states:
            states.append(x)
        if keep_attentions:
            attentions.append(probabilities)
    tokens = ops.layer_norm(x, **p["post_layernorm"], eps=config.layer_norm_eps)
    return Encoded(
        ops.tap("post_layernorm", tokens),
        tuple(states) if keep_hidden_states else None,
        tuple(attentions) if keep_attentions else None,
    )


def image_embedding(
    pixels: Array, p: Parameters, *, interpolate: bool = False, ops: Operations = DEFINITIONS
) -> Array:
    """Patches, class token, positions: (B, C, height, width) -> (B, N, D)."""
    x = ops.tap("patch_embedding", patch_embedding(pixels, p["patch_embedding"]["weight"]))
    x = prepend_class_token(x, p["class_embedding"])  # (B, N - 1, D) -> (B, N, D)
    positions = p["position_embedding"]["weight"]  # (1 + side * side, D)
    rows, columns = (size // p["patch_embedding"]["weight"].shape[-1] for size in pixels.shape[2:])
    if interpolate and (rows != columns or rows * columns + 1 != positions.shape[0]):
        positions = interpolate_positions(positions, rows, columns)
    return ops.tap("", add_absolute_positions(x, positions))


def vision_block(
    x: Array, p: Parameters, config: GitVisionConfig, *, ops: Operations = DEFINITIONS
) -> tuple[Array, Array]:
    """One pre-norm block: (B, N, D) -> (B, N, D), and its probabilities (B, H, N, N).

    x = x + Attention(LayerNorm(x)), then x = x + FeedForward(LayerNorm(x)).
    """
    eps = config.layer_norm_eps
    h = ops.tap("layer_norm1", ops.layer_norm(x, **p["layer_norm1"], eps=eps))
    context, probabilities = multi_head_attention(
        h,
        p["self_attn"],
        ("q_proj", "k_proj", "v_proj"),
        num_heads=config.num_attention_heads,
        ops=ops.at("self_attn"),
    )
    x = x + ops.tap("self_attn.out_proj", ops.linear(context, **p["self_attn"]["out_proj"]))
    h = ops.tap("layer_norm2", ops.layer_norm(x, **p["layer_norm2"], eps=eps))
    activation = ops.activation(config.hidden_act)
    h = feed_forward(h, p["mlp"]["fc1"], p["mlp"]["fc2"], activation=activation, ops=ops.at("mlp"))
    return ops.tap("", x + h), probabilities


def video_tokens(frames: Array, p: Parameters) -> Array:
    """Tell frames apart and string them together: (B, frames, N, D) -> (B, frames * N, D).

    Each frame's tokens get the learned vector of its time, ``git.img_temperal_embedding.t`` (the
    checkpoint's spelling). (GIT paper, section 3.4.)
    """
    xp = array_namespace(frames)
    b, t, n, d = frames.shape
    times = xp.concat([p[str(i)] for i in range(t)], axis=1)  # t x (1, 1, D) -> (1, t, D)
    return xp.reshape(frames + xp.expand_dims(times, axis=2), (b, t * n, d))


def visual_projection(
    tokens: Array, p: Parameters, *, eps: float, ops: Operations = DEFINITIONS
) -> Array:
    """Fit image tokens to the decoder's width: (B, N, D vision) -> (B, N, D text).

    A linear map and a layer norm with the image encoder's eps. `p` holds what the checkpoint has
    under ``git.visual_projection.visual_projection``.
    """
    x = ops.tap("0", ops.linear(tokens, **p["0"]))
    return ops.tap("1", ops.layer_norm(x, **p["1"], eps=eps))
