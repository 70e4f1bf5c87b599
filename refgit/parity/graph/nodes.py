"""The list of GIT's tensors: what each is made from, in the order of execution.

It reads like the figure: image encoder, projection, text embedding, joint sequence, decoder,
head. The names are the hooks', which are the checkpoint's module paths. Nothing is computed
here; `recipes.py` says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from refgit.model.config import GitConfig
from refgit.traces.names import TensorName

VISION = "git.image_encoder.vision_model"
PROJECTION = "git.visual_projection.visual_projection"
FRAMES = "git.image_encoder.frames"  # no hook
JOINT = "git.encoder.joint"  # no hook


@dataclass(frozen=True)
class Node:
    """One tensor of the forward pass.

    Attributes
    ----------
    name : str
        As in a trace, "step.N." in front for the steps of decoding.
    kind : str
        Which recipe makes it: a key of `recipes.RECIPES`.
    inputs : tuple of str
        Names of the tensors it is made from.
    parameters : str
        The branch of the checkpoint that belongs to it, "" for none.
    options : mapping
        Numbers the recipe needs: eps, activation, width of a head, lengths.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    parameters: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def where(self) -> TensorName:
        """The name taken apart: call, step, layer."""
        return TensorName.parse(self.name)

    @cached_property
    def block(self) -> str:
        """The layer it belongs to, as a prefix of names; "" outside the layers."""
        return self.where.block


def all_nodes(config: GitConfig, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Node]:
    """The nodes of the first call, of the steps on top of it, and of other calls."""
    names = [TensorName.parse(name) for name in shapes]
    for call in (None, *sorted({name.call for name in names if name.call is not None})):
        steps = {name.step for name in names if name.call == call and name.step is not None}
        chain: list[str] = []
        lengths: list[int] = []
        for step in (None, *sorted(steps)):
            prefix = TensorName(call, step).prefix
            length = _text_length(prefix, shapes)
            if length is not None:
                chain, lengths = [*chain, prefix], [*lengths, length]
                yield from _call_nodes(config, shapes, tuple(chain), tuple(lengths))


def _text_length(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    for name in ("input_ids", "inputs_embeds"):
        if f"{prefix}input.{name}" in shapes:
            return shapes[f"{prefix}input.{name}"][1]
    return None


def _call_nodes(
    config: GitConfig,
    shapes: Mapping[str, tuple[int, ...]],
    calls: tuple[str, ...],
    lengths: tuple[int, ...],
) -> Iterator[Node]:
    """All nodes of one call; `calls` are the calls of its chain so far, itself the last."""
    prefix = calls[-1]
    has_image = f"{prefix}input.pixel_values" in shapes
    if has_image:
        yield from _image_nodes(config, prefix, len(shapes[f"{prefix}input.pixel_values"]) == 5)
    yield from _text_nodes(config, shapes, prefix, lengths)
    x = f"{prefix}git.embeddings.LayerNorm"
    if has_image:
        x = f"{prefix}{JOINT}"
        yield Node(x, "join", (f"{prefix}{PROJECTION}.1", f"{prefix}git.embeddings.LayerNorm"))
    for i in range(config.num_hidden_layers):
        yield from _decoder_block(config, i, x, calls, lengths)
        x = f"{prefix}git.encoder.layer.{i}.output.LayerNorm"
    yield Node(f"{prefix}output", "head", (x,), "output")


def _image_nodes(config: GitConfig, prefix: str, video: bool) -> Iterator[Node]:
    vision, root = config.vision_config, prefix + VISION
    eps = {"eps": vision.layer_norm_eps}
    pixels = f"{prefix}input.pixel_values"
    patches, embedded = f"{root}.embeddings.patch_embedding", f"{root}.embeddings"
    yield Node(patches, "patch", (pixels,), f"{VISION}.embeddings.patch_embedding")
    size = {"patch_size": vision.patch_size}
    yield Node(embedded, "class_position", (patches, pixels), f"{VISION}.embeddings", size)
    x = f"{root}.pre_layrnorm"
    yield Node(x, "layer_norm", (embedded,), f"{VISION}.pre_layrnorm", eps)
    for i in range(vision.num_hidden_layers):
        yield from _vision_block(config, i, x, prefix)
        x = f"{root}.encoder.layers.{i}"
    post = f"{root}.post_layernorm"
    yield Node(post, "layer_norm", (x,), f"{VISION}.post_layernorm", eps)
    tokens = post
    if video:
        tokens = prefix + FRAMES
        times = {"times": config.num_image_with_embedding or 0}
        yield Node(tokens, "frames", (post, pixels), "git.img_temperal_embedding", times)
    projected = f"{prefix}{PROJECTION}.0"
    yield Node(projected, "linear", (tokens,), f"{PROJECTION}.0")
    yield Node(f"{prefix}{PROJECTION}.1", "layer_norm", (projected,), f"{PROJECTION}.1", eps)


def _vision_block(config: GitConfig, i: int, x: str, prefix: str) -> Iterator[Node]:
    """The nodes of a pre-norm block that reads `x`."""
    vision, branch = config.vision_config, f"{VISION}.encoder.layers.{i}"
    root = prefix + branch
    eps = {"eps": vision.layer_norm_eps}
    width = vision.hidden_size // vision.num_attention_heads
    attend = {
        "head_width": width, "relative": None, "masked": False, "prefix": prefix, "layer": i,
    }  # fmt: skip
    q, k, v = (f"{root}.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj"))
    scores, probabilities, context, out, residual = (
        f"{root}.self_attn.{name}"
        for name in ("scores", "probabilities", "context", "out_proj", "residual")
    )
    normed = f"{root}.layer_norm1"
    yield Node(normed, "layer_norm", (x,), f"{branch}.layer_norm1", eps)
    for name in (q, k, v):
        yield Node(name, "linear", (normed,), name.removeprefix(prefix))
    yield Node(scores, "scores", (q, k), f"{branch}.self_attn", attend)
    yield Node(probabilities, "probabilities", (scores,), "", attend)
    yield Node(context, "context", (probabilities, v), "", attend)
    yield Node(out, "linear", (context,), f"{branch}.self_attn.out_proj")
    yield Node(residual, "residual", (x, out))
    normed = f"{root}.layer_norm2"
    yield Node(normed, "layer_norm", (residual,), f"{branch}.layer_norm2", eps)
    fc1, act, fc2 = (f"{root}.mlp.{name}" for name in ("fc1", "activation_fn", "fc2"))
    yield Node(fc1, "linear", (normed,), f"{branch}.mlp.fc1")
    yield Node(act, "activation", (fc1,), "", {"act": vision.hidden_act})
    yield Node(fc2, "linear", (act,), f"{branch}.mlp.fc2")
    yield Node(root, "residual", (residual, fc2))


def _text_nodes(
    config: GitConfig,
    shapes: Mapping[str, tuple[int, ...]],
    prefix: str,
    lengths: tuple[int, ...],
) -> Iterator[Node]:
    root, ids = f"{prefix}git.embeddings", f"{prefix}input.input_ids"
    words = f"{prefix}input.inputs_embeds"
    if ids in shapes:
        words = f"{root}.word_embeddings"
        yield Node(words, "embedding", (ids,), "git.embeddings.word_embeddings")
    x = words
    if config.position_embedding_type == "absolute":
        positions = f"{root}.position_embeddings"
        yield Node(
            positions,
            "position",
            (f"{prefix}input.position_ids",),
            "git.embeddings.position_embeddings",
            {"lengths": lengths, "ids": ids},
        )
        x = f"{root}.sum"
        yield Node(x, "sum", (words, positions))
    eps = {"eps": config.embedding_layer_norm_eps}
    yield Node(f"{root}.LayerNorm", "layer_norm", (x,), "git.embeddings.LayerNorm", eps)


def _decoder_block(
    config: GitConfig, i: int, x: str, calls: tuple[str, ...], lengths: tuple[int, ...]
) -> Iterator[Node]:
    """The nodes of a post-norm block that reads `x`; keys and values of earlier calls join in."""
    prefix, branch = calls[-1], f"git.encoder.layer.{i}"
    root, eps = prefix + branch, {"eps": config.layer_norm_eps}
    relative = config.position_embedding_type
    attend = {
        "head_width": config.hidden_size // config.num_attention_heads,
        "relative": None if relative == "absolute" else relative,
        "masked": True, "prefix": prefix, "layer": i, "calls": calls, "lengths": lengths,
    }  # fmt: skip
    inside = f"{branch}.attention.self"
    for name in ("query", "key", "value"):
        yield Node(f"{prefix}{inside}.{name}", "linear", (x,), f"{inside}.{name}")
    keys, values = ([f"{call}{inside}.{name}" for call in calls] for name in ("key", "value"))
    scores, probabilities, context = (
        f"{prefix}{inside}.{name}" for name in ("scores", "probabilities", "context")
    )
    yield Node(scores, "scores", (f"{prefix}{inside}.query", *keys), inside, attend)
    yield Node(probabilities, "probabilities", (scores,), "", attend)
    yield Node(context, "context", (probabilities, *values), "", attend)
    dense, residual, normed = (
        f"{root}.attention.output.{name}" for name in ("dense", "residual", "LayerNorm")
    )
    yield Node(dense, "linear", (context,), f"{branch}.attention.output.dense")
    yield Node(residual, "residual", (x, dense))
    yield Node(normed, "layer_norm", (residual,), f"{branch}.attention.output.LayerNorm", eps)
    wide, act = f"{root}.intermediate.dense", f"{root}.intermediate.intermediate_act_fn"
    dense, residual = f"{root}.output.dense", f"{root}.output.residual"
    yield Node(wide, "linear", (normed,), f"{branch}.intermediate.dense")
    yield Node(act, "activation", (wide,), "", {"act": config.hidden_act})
    yield Node(dense, "linear", (act,), f"{branch}.output.dense")
    yield Node(residual, "residual", (normed, dense))
    last = f"{root}.output.LayerNorm"
    yield Node(last, "layer_norm", (residual,), f"{branch}.output.LayerNorm", eps)
