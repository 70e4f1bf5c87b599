"""Where in the model a tensor stands, in words that a porter knows; and numbers as sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

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
    "embeddings.sum": "sum of words and positions",
    "embeddings.LayerNorm": "text embedding's layer norm",
    "encoder.joint": "joint sequence of image and text",
}


def layer_number(name: str) -> int | None:
    """The number in a name such as ``....layer.3.output``; None outside the layers."""
    parts = name.split(".")
    for key in ("layer", "layers"):
        if key in parts[:-1] and parts[parts.index(key) + 1].isdigit():
            return int(parts[parts.index(key) + 1])
    return None


def part(name: str) -> str:
    """What a tensor is, without layer or step: "MLP activation"."""
    if name == "output" or (name.endswith(".output") and "git." not in name):
        return "head (logits)"
    if re.search(r"\.layers\.\d+$", name):
        return "residual around the MLP"
    ends = (end for end in _PARTS if name.endswith(f".{end}") or name == end)
    return _PARTS.get(max(ends, key=len, default=""), name)


def tower(name: str) -> str:
    """Which of the two towers a tensor belongs to, or neither."""
    if "image_encoder.vision_model.encoder" in name:
        return "image encoder"
    if "git.encoder.layer." in name:
        return "decoder"
    return "image encoder" if "image_encoder" in name else ""


def side(name: str) -> str:
    """Which of the two configs a tensor goes by: the projection has the image encoder's eps."""
    image = "image_encoder" in name or "visual_projection" in name
    return "the image's side" if image else "the text's side"


def call(name: str) -> str:
    """Which call a tensor belongs to: "" for the first, "decoding step 2"."""
    found = re.match(r"(?:call\.(\d+)\.)?(?:step\.(\d+)\.)?", name)
    number, step = found.groups() if found else (None, None)
    said = [] if number is None else [f"call {number}"]
    return ", ".join(said + ([] if step is None else [f"decoding step {step}"]))


def place(name: str) -> str:
    """Where a tensor stands: "decoder layer 2, MLP activation"."""
    return placed(name, [] if layer_number(name) is None else [layer_number(name)])


def placed(name: str, layers: Iterable[int | None]) -> str:
    """Where tensors of one kind stand that occur in several layers."""
    numbers = [i for i in layers if i is not None]
    of = f"{tower(name)} layer{'s' if len(numbers) > 1 else ''} {runs(numbers)}"
    where = of if numbers else tower(name)
    return ", ".join(piece for piece in (call(name), where, part(name)) if piece)


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


def gap_words(gap: Iterable[str]) -> str:
    """What lies between a tensor and the nearest given ones."""
    names = list(gap)
    if not names:
        return ""
    return f" (somewhere in the {len(names) + 1} operations that end here)"
