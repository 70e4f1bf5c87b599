"""Names that are ours but for spelling: prefixes, separators, exporters' endings, other families.

A name is reduced to a simple form, then translated where it belongs to a family that is known:
transformers' modules, Microsoft's GIT with CLIP's names, llama.cpp's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from refgit.traces.names import TensorName

_VISION = "image_encoder.vision_model"
# Others' names and our module paths, in simple form (see `simple`); the first that fits. The
# first group are modules whose output is that of their last part.
_SYNONYMS = {
    r"logits|lm_head|text_output|textual\.output|head": "output",
    r"embeddings?": "embeddings.layernorm",
    r"(encoder\.layer\.\d+)(\.output)?": r"\1.output.layernorm",
    r"(encoder\.layer\.\d+\.attention)(\.output)?": r"\1.output.layernorm",
    r"(encoder\.layer\.\d+\.attention\.self)": r"\1.context",
    r"(encoder\.layer\.\d+\.intermediate)": r"\1.intermediate_act_fn",
    r"image_encoder(\.vision_model)?": f"{_VISION}.post_layernorm",
    rf"({_VISION}\.encoder\.layer\.\d+\.self_attn)": r"\1.out_proj",
    rf"({_VISION}\.encoder\.layer\.\d+\.mlp)": r"\1.fc.2",
    r"visual_projection(\.visual_projection)?": "visual_projection.visual_projection.1",
    # Microsoft's GIT, CLIP's own
    r"image_encoder\.conv\.1": f"{_VISION}.embeddings.patch_embedding",
    r"image_encoder\.ln_pre": f"{_VISION}.pre_layrnorm",
    r"image_encoder\.ln_post": f"{_VISION}.post_layernorm",
    r"textual\.visual_projection\.([01])": r"visual_projection.visual_projection.\1",
    r"textual\.embedding\.words": "embeddings.word_embeddings",
    r"textual\.embedding\.positions": "embeddings.position_embeddings",
    r"textual\.embedding(\.layer_norm)?": "embeddings.layernorm",
    # llama.cpp's
    r"v\.patch_embd": f"{_VISION}.embeddings.patch_embedding",
    r"v\.pre_ln": f"{_VISION}.pre_layrnorm",
    r"v\.post_ln": f"{_VISION}.post_layernorm",
}
# How the paths of layers begin, and what follows a layer's number, in any of the families.
_LAYERS = {
    r"(image_encoder\.transformer|visual\.transformer|transformer)\.resblocks\.": "vision",
    r"v\.blk\.": "vision",
    rf"{_VISION}\.encoder\.layer\.": "vision",
    r"textual\.transformer\.encoder\.layer\.": "text",
    r"blk\.": "text",
    r"encoder\.layer\.": "text",
}
_IN_LAYER = {
    "vision": {
        "ln.1": "layer_norm.1",
        "attn": "self_attn.out_proj",
        "attn.out_proj": "self_attn.out_proj",
        "attn_out": "self_attn.out_proj",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "ln.2": "layer_norm.2",
        "mlp.c_fc": "mlp.fc.1",
        "mlp.gelu": "mlp.activation_fn",
        "mlp.c_proj": "mlp.fc.2",
        "ffn_up": "mlp.fc.1",
        "ffn_act": "mlp.activation_fn",
        "ffn_down": "mlp.fc.2",
    },
    "text": {
        "attn_q": "attention.self.query",
        "attn_k": "attention.self.key",
        "attn_v": "attention.self.value",
        "attn_out": "attention.output.dense",
        "attn_output": "attention.output.dense",
        "attn_norm": "attention.output.layernorm",
        "ffn_up": "intermediate.dense",
        "ffn_act": "intermediate.intermediate_act_fn",
        "ffn_down": "output.dense",
        "ffn_norm": "output.layernorm",
    },
}
_WRAPPERS = ("model", "module", "_orig_mod", "git", "graph", "main_graph", "base_model")
_CALL = re.compile(rf"^/?(?:(?:{'|'.join(_WRAPPERS)})[./])*(step|call)[._/]?(\d+)[./]")
# What exporters append to a module's path: the operation, and the number of its output.
_OPERATION = re.compile(
    r"\.(matmul|gemm|add|mul|div|sub|softmax|layernormalization|erf|conv|gather|reshape|transpose|"
    r"sigmoid|tanh|relu|where|concat|linear|gelu|fastgelu|biasgelu|identity|cast)([._]\d+)*$"
)
_OUTPUT_NUMBER = re.compile(r"([._:]output)?[._:]\d+$")
_ONNX_OUTPUT = re.compile(r"_output_\d+$")


def simple(name: str) -> str:
    """Reduce a name to what implementations agree on: lower case, dots, no wrappers.

    ``/model/git/encoder/layers_0/LayerNorm`` becomes ``encoder.layer.0.layernorm``.
    """
    text = re.sub(r"[/:\s]+|::|__", ".", name.lower()).strip(".")
    text = re.sub(r"\[(\d+)\]", r".\1", text)
    text = re.sub(r"([a-z])_?(\d+)(?=\.|$)", r"\1.\2", text)  # layer_0, layer0, fc1
    text = re.sub(r"\blayers\.", "layer.", re.sub(r"\.{2,}", ".", text))
    parts = text.split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        del parts[0]
    return ".".join(parts)


def plain_keys(name: str, *, ours: bool) -> list[str]:
    """Names under which a tensor may be known, the surest first; of ours, the one we use."""
    prefix, rest = _split_call(name)
    text = simple(rest)
    if text.startswith(("input.", "inputs.")):
        text = "input." + text.split(".", 1)[1]
    elif ours:
        return [prefix + _in_family(text)]
    keys = [text, _in_family(text)]
    if not ours:
        bare = _OPERATION.sub("", _OUTPUT_NUMBER.sub("", _ONNX_OUTPUT.sub("", rest)))
        keys += [f"input.{text}", _in_family(_OPERATION.sub("", simple(bare)))]
    return [prefix + key for key in dict.fromkeys(keys)]


def _split_call(name: str) -> tuple[str, str]:
    """Split off the call, however its number is joined: step.1., step_1/ ..."""
    parsed = TensorName.parse(_CALL.sub(lambda hit: f"{hit[1]}.{int(hit[2])}.", name))
    return parsed.prefix, parsed.path


def _in_family(text: str) -> str:
    """Translate a simple name into ours, if it belongs to a family that is known."""
    for pattern, kind in _LAYERS.items():
        hit = re.match(pattern, text)
        if hit:
            number, _, rest = text[hit.end() :].partition(".")
            base = f"{_VISION}.encoder" if kind == "vision" else "encoder"
            text = f"{base}.layer.{number}." + _IN_LAYER[kind].get(rest, rest)
            text = text.rstrip(".")
            break
    for pattern, ours in _SYNONYMS.items():
        hit = re.fullmatch(pattern, text)
        if hit:
            return hit.expand(ours)
    return text


def loose_keys(name: str, *, ours: bool) -> list[str]:
    """Ends of names from a layer's number on, longest first: what comes before differs."""
    prefix, _ = _split_call(name)
    found = []
    for key in plain_keys(name, ours=ours):
        parts = key.removeprefix(prefix).split(".")
        starts = range(1, len(parts) - 1)
        found += [f"{prefix}~{'.'.join(parts[i:])}" for i in starts if _tells(parts[i:])]
    return found


def _tells(parts: Sequence[str]) -> bool:
    """Whether the end of a name says which layer, and which part of it."""
    return len(parts) >= 3 and any(part.isdigit() for part in parts[:2])
