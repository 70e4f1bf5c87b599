"""What Microsoft's GIT checkpoints call each tensor, and what the hub's checkpoints call it.

Almost every tensor has one new name. The exception is CLIP's input projection of an attention,
which holds the matrices of queries, keys and values one below the other: it is cut in three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

_PARTS = ("weight", "bias")
_VISION = "git.image_encoder.vision_model."

# Tensors alone.
_SINGLE = {
    "image_encoder.class_embedding": f"{_VISION}embeddings.class_embedding",
    "image_encoder.positional_embedding": f"{_VISION}embeddings.position_embedding.weight",
    "image_encoder.conv1.weight": f"{_VISION}embeddings.patch_embedding.weight",
    "textual.embedding.words.weight": "git.embeddings.word_embeddings.weight",
    "textual.embedding.positions.weight": "git.embeddings.position_embeddings.weight",
}
# A weight and a bias each; the hub's names keep their typing error.
_PAIRS = {
    "image_encoder.ln_pre": f"{_VISION}pre_layrnorm",
    "image_encoder.ln_post": f"{_VISION}post_layernorm",
    "textual.visual_projection.0": "git.visual_projection.visual_projection.0",
    "textual.visual_projection.1": "git.visual_projection.visual_projection.1",
    "textual.embedding.layer_norm": "git.embeddings.LayerNorm",
    "textual.output": "output",
}
_VISION_LAYER = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
# BERT's names, which both sides have.
_TEXT_LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)

VISION_LAYERS = "image_encoder.transformer.resblocks."
TEXT_LAYERS = "textual.transformer.encoder.layer."
FRAMES = "img_temperal_embedding."

# In Microsoft's files, and not in the model that they describe.
UNUSED = {
    "image_encoder.proj": "CLIP's projection of the class token, which GIT does without",
}


def correspondence(vision_layers: int, text_layers: int, frames: int) -> dict[str, tuple[str, ...]]:
    """List every tensor of a checkpoint: Microsoft's name, and the hub's one or three.

    Parameters
    ----------
    vision_layers, text_layers : int
        Depth of the image encoder and of the text decoder.
    frames : int
        Frames with a time embedding; 0 where the model takes images.

    Returns
    -------
    dict of str to tuple of str
        Three names are those of the parts of equal height, from the top: query, key, value.
    """
    return dict(_entries(vision_layers, text_layers, frames))


def _entries(
    vision_layers: int, text_layers: int, frames: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for theirs, ours in _SINGLE.items():
        yield theirs, (ours,)
    yield from _with_parts(_PAIRS)
    for i in range(vision_layers):
        theirs, ours = f"{VISION_LAYERS}{i}.", f"{_VISION}encoder.layers.{i}."
        yield from _with_parts({theirs + a: ours + b for a, b in _VISION_LAYER.items()})
        for part in _PARTS:
            names = tuple(f"{ours}self_attn.{x}_proj.{part}" for x in "qkv")
            yield f"{theirs}attn.in_proj_{part}", names
    for i in range(text_layers):
        theirs, ours = f"{TEXT_LAYERS}{i}.", f"git.encoder.layer.{i}."
        yield from _with_parts({theirs + x: ours + x for x in _TEXT_LAYER})
    for i in range(frames):
        yield f"{FRAMES}{i}", (f"git.{FRAMES}{i}",)


def _with_parts(names: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for theirs, ours in names.items():
        for part in _PARTS:
            yield f"{theirs}.{part}", (f"{ours}.{part}",)


def count(names: Iterable[str], prefix: str) -> int:
    """How many things are numbered from 0 behind `prefix`: one more than the greatest number."""
    pattern = re.compile(re.escape(prefix) + r"(0|[1-9][0-9]{0,3})(?:\.|$)")
    matches = (pattern.match(name) for name in names)
    return max((int(match[1]) + 1 for match in matches if match), default=0)
