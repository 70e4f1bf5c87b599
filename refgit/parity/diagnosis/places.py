"""Where in the model a tensor is, in words that a porter knows; and numbers as sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from refgit.traces.names import TensorName

_PARTS = {
    "embeddings.patch_embedding": "patch embedding",
    "vision_model.embeddings": "class token and positions",
    "pre_layrnorm": "layer norm before the layers",
    "post_layernorm": "layer norm after the layers",
    "layer_norm1": "layer norm before attention",
    "layer_norm2": "layer norm before the MLP",
    "q_proj": "attention query",
    "k_proj": "attention key",
    "v_proj": "attention value",
    "self.query": "attention query",
    "self.key": "attention key",
    "self.value": "attention value",
    "scores": "attention scores",
    "probabilities": "attention probabilities",
    "context": "attention context",
    "out_proj": "attention output projection",
    "attention.output.dense": "attention output projection",
    "self_attn.residual": "residual around attention",
    "attention.output.residual": "residual around attention",
    "attention.output.LayerNorm": "layer norm after attention",
    "mlp.fc1": "MLP's first linear map",
    "mlp.activation_fn": "MLP activation",
    "mlp.fc2": "MLP's second linear map",
    "intermediate.dense": "MLP's first linear map",
    "intermediate.intermediate_act_fn": "MLP activation",
    "output.dense": "MLP's second linear map",
    "output.residual": "residual around the MLP",
    "output.LayerNorm": "layer norm after the MLP",
    "image_encoder.frames": "times of the frames",
    "visual_projection.0": "visual projection's linear map",
    "visual_projection.1": "visual projection's layer norm",
    "word_embeddings": "word embedding",
    "position_embeddings": "position embedding",
    "embeddings.sum": "sum of word and position embeddings",
    "embeddings.LayerNorm": "text embedding's layer norm",
    "encoder.joint": "joint sequence of image and text",
}


def part(name: TensorName) -> str:
    """What a tensor is, without layer or step: "MLP activation"."""
    if name.path == "output":
        return "head (logits)"
    if name.layer is not None and not name.leaf:
        return "residual around the MLP"
    ends = (end for end in _PARTS if f".{name.path}".endswith(f".{end}"))
    return _PARTS.get(max(ends, key=len, default=""), str(name))


def tower(name: TensorName) -> str:
    """Which of the two towers a tensor belongs to, or neither."""
    if name.is_decoder:
        return "decoder"
    return "image encoder" if "image_encoder" in name.path else ""


def side(name: TensorName) -> str:
    """Which of the two configs a tensor goes by: the projection has the image encoder's eps."""
    return "the image's side" if name.is_image else "the text's side"


def call(name: TensorName) -> str:
    """Which call a tensor belongs to: "" for the first, "decoding step 2"."""
    said = [] if name.call is None else [f"call {name.call}"]
    return ", ".join(said + ([] if name.step is None else [f"decoding step {name.step}"]))


def place(*names: TensorName) -> str:
    """Where a tensor, or one kind in several layers, is: "decoder layer 2, MLP activation"."""
    where = tower(names[0])
    layers = [name.layer for name in names if name.layer is not None]
    if layers:
        where = f"{where} layer{'s' if len(layers) > 1 else ''} {runs(layers)}"
    return ", ".join(filter(None, (call(names[0]), where, part(names[0]))))


def runs(numbers: list[int]) -> str:
    """Numbers as runs: "0-3, 5"."""
    pieces: list[list[int]] = []
    for i in sorted(set(numbers)):
        if pieces and i == pieces[-1][-1] + 1:
            pieces[-1].append(i)
        else:
            pieces.append([i])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in pieces)


def in_floors(multiples: float) -> str:
    """An error in noise floors, as one says it: "12.3 noise floors"."""
    if not math.isfinite(multiples):
        return "no finite number of noise floors"
    return f"{digits(multiples)} noise floors"


def digits(multiples: float) -> str:
    """A multiple with as many digits as one reads."""
    return f"{multiples:.1f}" if multiples < 100 else f"{multiples:.3g}"


def gap_words(gap: Sequence[str]) -> str:
    """What is between a tensor and the nearest given ones."""
    return f" (somewhere in the {len(gap) + 1} operations that end here)" if gap else ""
