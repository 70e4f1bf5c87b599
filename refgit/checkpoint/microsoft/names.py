"""What Microsoft's GIT checkpoints call each tensor, what the hub's call it, and its shape.

Almost every tensor has one new name. The exception is CLIP's input projection of an attention,
which holds the matrices of queries, keys and values one below the other: it is cut in three.

Shapes are written in letters, one for each size of the model: C channels, P side of a patch, N
image tokens, D width of the image tokens and F inside their feed-forward networks; V tokens of the
vocabulary, T longest text, E width of the text decoder and G inside its feed-forward networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_VISION = "git.image_encoder.vision_model."
VISION_LAYERS = "image_encoder.transformer.resblocks."
TEXT_LAYERS = "textual.transformer.encoder.layer."
FRAMES = "img_temperal_embedding."


class Tensor(NamedTuple):
    """One of Microsoft's tensors: its names on the hub, and the shape of each part in letters.

    Three names are those of the parts of equal height, from the top: query, key, value.
    """

    names: tuple[str, ...]
    shape: str


# Tensors without a bias.
_SINGLE = {
    "image_encoder.class_embedding": (f"{_VISION}embeddings.class_embedding", "D"),
    "image_encoder.positional_embedding": (f"{_VISION}embeddings.position_embedding.weight", "N D"),
    "image_encoder.conv1.weight": (f"{_VISION}embeddings.patch_embedding.weight", "D C P P"),
    "textual.embedding.words.weight": ("git.embeddings.word_embeddings.weight", "V E"),
    "textual.embedding.positions.weight": ("git.embeddings.position_embeddings.weight", "T E"),
}
# A weight of this shape and a bias each; the hub's names keep their typing error.
_PAIRS = {
    "image_encoder.ln_pre": (f"{_VISION}pre_layrnorm", "D"),
    "image_encoder.ln_post": (f"{_VISION}post_layernorm", "D"),
    "textual.visual_projection.0": ("git.visual_projection.visual_projection.0", "E D"),
    "textual.visual_projection.1": ("git.visual_projection.visual_projection.1", "E"),
    "textual.embedding.layer_norm": ("git.embeddings.LayerNorm", "E"),
    "textual.output": ("output", "V E"),
}
_VISION_LAYER = {
    "ln_1": ("layer_norm1", "D"),
    "attn.out_proj": ("self_attn.out_proj", "D D"),
    "ln_2": ("layer_norm2", "D"),
    "mlp.c_fc": ("mlp.fc1", "F D"),
    "mlp.c_proj": ("mlp.fc2", "D F"),
}
# BERT's names, which both sides have.
_TEXT_LAYER = {
    "attention.self.query": "E E",
    "attention.self.key": "E E",
    "attention.self.value": "E E",
    "attention.output.dense": "E E",
    "attention.output.LayerNorm": "E",
    "intermediate.dense": "G E",
    "output.dense": "E G",
    "output.LayerNorm": "E",
}
# In Microsoft's files, and not in the model that they describe.
UNUSED = {
    "image_encoder.proj": "CLIP's projection of the class token, which GIT does without",
}


def tensors(vision_layers: int, text_layers: int, frames: int) -> dict[str, Tensor]:
    """List every tensor of a checkpoint by Microsoft's name.

    Parameters
    ----------
    vision_layers, text_layers : int
        Depth of the image encoder and of the text decoder.
    frames : int
        Frames with a time embedding; 0 where the model takes images.
    """
    return dict(_entries(vision_layers, text_layers, frames))


def _entries(vision_layers: int, text_layers: int, frames: int) -> Iterator[tuple[str, Tensor]]:
    for theirs, (ours, shape) in _SINGLE.items():
        yield theirs, Tensor((ours,), shape)
    for theirs, (ours, shape) in _PAIRS.items():
        yield from _weight_and_bias(f"{theirs}.", [f"{ours}."], shape)
    for i in range(vision_layers):
        theirs, ours = f"{VISION_LAYERS}{i}.", f"{_VISION}encoder.layers.{i}."
        for name, (renamed, shape) in _VISION_LAYER.items():
            yield from _weight_and_bias(f"{theirs}{name}.", [f"{ours}{renamed}."], shape)
        parts = [f"{ours}self_attn.{x}_proj." for x in "qkv"]
        yield from _weight_and_bias(f"{theirs}attn.in_proj_", parts, "D D")
    for i in range(text_layers):
        for name, shape in _TEXT_LAYER.items():
            ours = f"git.encoder.layer.{i}.{name}."
            yield from _weight_and_bias(f"{TEXT_LAYERS}{i}.{name}.", [ours], shape)
    for i in range(frames):
        yield f"{FRAMES}{i}", Tensor((f"git.{FRAMES}{i}",), "1 1 D")


def _weight_and_bias(theirs: str, ours: list[str], shape: str) -> Iterator[tuple[str, Tensor]]:
    for part, letters in (("weight", shape), ("bias", shape[0])):
        yield f"{theirs}{part}", Tensor(tuple(f"{name}{part}" for name in ours), letters)


def count(names: Iterable[str], prefix: str) -> int:
    """Count what is numbered from 0 behind `prefix`: one more than the greatest number."""
    pattern = re.compile(re.escape(prefix) + r"(0|[1-9][0-9]{0,3})(?:\.|$)")
    matches = (pattern.match(name) for name in names)
    return max((int(match[1]) + 1 for match in matches if match), default=0)
