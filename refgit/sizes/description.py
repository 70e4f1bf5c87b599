"""A model in numbers: architecture, parameters, files, memory and operations of a caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refgit.checkpoint.adapter.config import read_adapter_config
from refgit.checkpoint.headers import read_adapter_headers
from refgit.model.config import GitConfig
from refgit.sizes.flops import caption_flops
from refgit.sizes.memory import caption_memory
from refgit.sizes.parts import parameters_by_part
from refgit.sizes.stored import read_stored

DTYPES = ("float32", "float16", "bfloat16", "float64")


def describe(
    config: GitConfig, directory: Path, tokens: int, dtype: str, adapter: Path | None = None
) -> dict[str, Any]:
    """Describe a model in plain values, as `refgit info --json` prints them.

    Parameters
    ----------
    config : GitConfig
    directory : Path
        Where its files lie.
    tokens : int
        Tokens of the caption whose cost is counted.
    dtype : str
        What it is computed in.
    adapter : Path, optional
        Directory of an adapter that is merged into the model.

    Raises
    ------
    ValueError
        The model has no positions for so many tokens.
    CheckpointError
        A file of weights is broken.
    """
    parts = parameters_by_part(config)
    stored = read_stored(directory, config)
    return {
        "architecture": architecture(config),
        "parameters": {
            "total": sum(part.parameters for part in parts),
            "tied": config.tie_word_embeddings,
            "parts": [
                {"part": p.name, "tensors": p.tensors, "parameters": p.parameters, "note": p.shared}
                for p in parts
            ],
        },
        "weights": None if stored is None else _weights(stored),
        "adapter": None if adapter is None else describe_adapter(adapter, directory),
        "memory": memory(config, dtype, tokens),
        "flops": flops(config, tokens),
    }


def architecture(config: GitConfig) -> dict[str, Any]:
    """Say what the two halves of a model look like; the keys are config.json's where it has any."""
    vision = config.vision_config
    return {
        "image_encoder": {
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "heads": vision.num_attention_heads,
            "feed_forward": vision.intermediate_size,
            "activation": vision.hidden_act,
            "layer_norm_eps": vision.layer_norm_eps,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "patches": vision.num_patches,
            "positions": vision.num_positions,
            "frames": config.num_image_with_embedding,
            "image_tokens": config.num_image_tokens(),
        },
        "text_decoder": {
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "heads": config.num_attention_heads,
            "pruned_heads": {str(k): sorted(v) for k, v in sorted(config.pruned_heads.items())},
            "feed_forward": config.intermediate_size,
            "activation": config.hidden_act,
            "layer_norm_eps": config.layer_norm_eps,
            "embedding_layer_norm_eps": config.embedding_layer_norm_eps,
            "vocabulary": config.vocab_size,
            "positions": config.max_position_embeddings,
            "position_type": config.position_embedding_type,
        },
    }


def _weights(stored: Any) -> dict[str, Any]:
    return {
        "files": list(stored.files),
        "file_bytes": stored.file_bytes,
        "by_dtype": {
            dtype: {"numbers": numbers, "bytes": size}
            for dtype, (numbers, size) in stored.by_dtype.items()
        },
        "difference": stored.difference or None,
    }


def describe_adapter(adapter: Path, base: Path) -> dict[str, Any]:
    """Say what an adapter is and how large; `base` is the directory of the model it changes."""
    config = read_adapter_config(adapter)
    file, headers = read_adapter_headers(adapter)
    return {
        "file": file.name,
        "type": "DoRA" if config.dora else "LoRA",
        "rank": config.r,
        "alpha": config.alpha,
        "tensors": len(headers),
        "numbers": sum(header.size for header in headers.values()),
        "bytes": sum(header.nbytes for header in headers.values()),
        "base": config.base or str(base),
    }


def memory(config: GitConfig, dtype: str, tokens: int) -> dict[str, Any]:
    """Say how many bytes the weights take in each dtype, and a caption in one."""
    found = caption_memory(config, dtype)
    return {
        "weights": {name: caption_memory(config, name).weights for name in DTYPES},
        "caption": {
            "dtype": dtype,
            "tokens": tokens,
            "weights": found.weights,
            "cache_per_image": found.cache_image,
            "cache_per_text_token": found.cache_text_token,
            "activations": found.activations,
            "total": found.total(tokens),
        },
    }


def flops(config: GitConfig, tokens: int) -> dict[str, Any]:
    """Say how many operations a caption takes, part by part."""
    room = config.text_room(config.num_image_tokens())
    if tokens > room:
        raise ValueError(
            f"--tokens is {tokens}; this model has positions for {max(room, 0)} text tokens. Ask "
            "for fewer."
        )
    found = caption_flops(config, tokens)
    return {
        "tokens": tokens,
        "vision_encoder": found.vision_encoder,
        "visual_projection": found.visual_projection,
        "decoder_image_part": found.decoder_image,
        "first_text_step": found.text_steps[0],
        "last_text_step": found.text_steps[-1],
        "text_steps": found.text,
        "total": found.total,
    }
