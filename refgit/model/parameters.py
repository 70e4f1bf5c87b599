"""The model's parameters: their names and shapes, as a tree, and random ones.

Names are as in the checkpoints of transformers, dots included. Every checkpoint is checked against
these names and shapes; `nest` turns ``a.b.weight`` into ``tree["a"]["b"]["weight"]``,
so that each layer can be given its branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refgit.model.config import GitConfig, GitVisionConfig

Shapes = dict[str, tuple[int, ...]]


def vision_shapes(config: GitVisionConfig) -> Shapes:
    """Names and shapes in a GitVisionModel."""
    d, f, p = config.hidden_size, config.intermediate_size, config.patch_size
    root = "vision_model."
    shapes: Shapes = {
        f"{root}embeddings.class_embedding": (d,),
        f"{root}embeddings.patch_embedding.weight": (d, config.num_channels, p, p),
        f"{root}embeddings.position_embedding.weight": (config.num_positions, d),
        **_norm(f"{root}pre_layrnorm", d),
    }
    for i in range(config.num_hidden_layers):
        layer = f"{root}encoder.layers.{i}."
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= _linear(f"{layer}self_attn.{name}", d, d)
        shapes |= _norm(f"{layer}layer_norm1", d)
        shapes |= _linear(f"{layer}mlp.fc1", d, f) | _linear(f"{layer}mlp.fc2", f, d)
        shapes |= _norm(f"{layer}layer_norm2", d)
    return shapes | _norm(f"{root}post_layernorm", d)


def model_shapes(config: GitConfig) -> Shapes:
    """Names and shapes in a GitModel."""
    d, f, vision = config.hidden_size, config.intermediate_size, config.vision_config
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, d),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, d),
        **_norm("embeddings.LayerNorm", d),
    }
    shapes |= {f"image_encoder.{name}": shape for name, shape in vision_shapes(vision).items()}
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}."
        inside = d // config.num_attention_heads * config.heads_of(i)  # less where heads are pruned
        for name in ("query", "key", "value"):
            shapes |= _linear(f"{layer}attention.self.{name}", d, inside)
        if config.position_embedding_type != "absolute":
            distances = 2 * config.max_position_embeddings - 1
            width = d // config.num_attention_heads
            shapes[f"{layer}attention.self.distance_embedding.weight"] = (distances, width)
        shapes |= _linear(f"{layer}attention.output.dense", inside, d)
        shapes |= _norm(f"{layer}attention.output.LayerNorm", d)
        shapes |= _linear(f"{layer}intermediate.dense", d, f)
        shapes |= _linear(f"{layer}output.dense", f, d)
        shapes |= _norm(f"{layer}output.LayerNorm", d)
    for frame in range(config.num_image_with_embedding or 0):
        shapes[f"img_temperal_embedding.{frame}"] = (1, 1, vision.hidden_size)
    shapes |= _linear("visual_projection.visual_projection.0", vision.hidden_size, d)
    return shapes | _norm("visual_projection.visual_projection.1", d)


def causal_lm_shapes(config: GitConfig) -> Shapes:
    """Names and shapes in a GitForCausalLM."""
    shapes = {f"git.{name}": shape for name, shape in model_shapes(config).items()}
    return shapes | _linear("output", config.hidden_size, config.vocab_size)


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into a tree of dicts."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *branches, leaf = name.split(".")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, array) of every leaf, in the tree's order."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def random_parameters(
    shapes: Shapes, config: GitConfig | GitVisionConfig, seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Draw float32 weights as transformers does: normal, with zero biases and unit layer norms.

    The time embeddings of a video and the embedding of the padding token are zero.
    """
    vision = getattr(config, "vision_config", config)
    pad_token_id = getattr(config, "pad_token_id", None)
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, shape in shapes.items():
        is_norm = name.endswith("weight") and len(shape) == 1
        if is_norm:
            value = np.ones(shape, np.float32)
        elif name.endswith("bias") or "img_temperal_embedding" in name:
            value = np.zeros(shape, np.float32)
        else:
            std = (vision if "vision_model." in name else config).initializer_range
            value = rng.standard_normal(shape, np.float32) * np.float32(std)
        if name.endswith("word_embeddings.weight") and pad_token_id is not None:
            value[pad_token_id] = 0
        drawn[name] = value
    return drawn
